//! Which runtime `spawn` and its like mean on this thread.
//!
//! *Invariant.* A stack: entering pushes, guards pop in reverse order. *Threads.* The thread's own. *Ordering.* None.

use std::cell::RefCell;
use std::sync::Arc;

use super::shared::Anchor;

thread_local! {
    static ENTERED: RefCell<Vec<Arc<Anchor>>> = const { RefCell::new(Vec::new()) };
}

/// Why there is no runtime here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// Nothing was entered.
    Context,
    /// The thread is ending.
    ThreadLocal,
}

/// The innermost runtime entered on this thread.
pub(crate) fn try_current() -> Result<Arc<Anchor>, Missing> {
    with(|anchor| anchor.cloned()).ok_or(Missing::ThreadLocal)?.ok_or(Missing::Context)
}

/// Calls `f` with the innermost runtime; `None` if the thread is ending.
pub(crate) fn with<R>(f: impl FnOnce(Option<&Arc<Anchor>>) -> R) -> Option<R> {
    ENTERED.try_with(|entered| f(entered.borrow().last())).ok()
}

pub(crate) fn enter(anchor: Arc<Anchor>) -> Entered {
    let depth = ENTERED.try_with(|entered| {
        let mut entered = entered.borrow_mut();
        entered.push(anchor);
        entered.len()
    });
    // On a thread that is ending there is no place for it, and nothing to leave.
    Entered { depth: depth.unwrap_or(0) }
}

/// Pops when dropped.
///
/// # Panics
/// When dropped out of order.
#[derive(Debug)]
pub(crate) struct Entered {
    depth: usize,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.depth == 0 {
            return;
        }
        let popped = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            (entered.len() == self.depth).then(|| entered.pop())
        });
        // On a thread that is ending, the stack is gone already.
        if matches!(popped, Ok(None)) && !std::thread::panicking() {
            panic!("EnterGuards must be dropped in the reverse order of entering");
        }
    }
}
