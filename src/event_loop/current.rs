//! Which loop this thread drives.
//!
//! *Invariant.* At most one. Set exactly while the loop runs on this thread, which is also while its pinned things may be
//! touched. *Threads.* The thread's own; in its exit destructors there is none, so a wake there is a remote wake.
//! *Ordering.* None.

use std::cell::RefCell;
use std::rc::Rc;

use super::Remote;
use super::core::LoopCore;
use crate::primitive::BiasedArc;
use crate::task::{budget, context};

thread_local! {
    static CURRENT: RefCell<Option<Rc<LoopCore>>> = const { RefCell::new(None) };
}

/// Calls `f` with this thread's loop.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(Option<&Rc<LoopCore>>) -> R) -> R {
    let mut f = Some(f);
    let seen = CURRENT.try_with(|current| {
        let f = f.take().expect("called once");
        f(current.borrow().as_ref())
    });
    match (seen, f) {
        (Ok(result), _) => result,
        (Err(_), Some(f)) => f(None),
        (Err(_), None) => unreachable!("an inaccessible thread local calls nothing"),
    }
}

pub(crate) fn current() -> Option<Rc<LoopCore>> {
    with(|current| current.cloned())
}

/// Whether this thread drives the loop that `remote` belongs to.
pub(crate) fn is_on(remote: &BiasedArc<Remote>) -> bool {
    with(|current| current.is_some_and(|core| BiasedArc::ptr_eq(core.remote(), remote)))
}

/// Makes `core` this thread's loop until the guard goes.
pub(crate) fn enter(core: Rc<LoopCore>) -> Entered {
    // On a thread that is ending there may be no place for it: then the loop works through its inbox, as if from afar.
    if let Ok(before) = CURRENT.try_with(|current| current.replace(Some(core))) {
        assert!(before.is_none(), "a thread drives one loop at a time");
    }
    Entered { before: None, outermost: true, _context: context::put_aside() }
}

/// The same on a thread that may drive another loop, which is the current one again afterwards: for closing a loop.
pub(crate) fn enter_over(core: Rc<LoopCore>) -> Entered {
    let before = CURRENT.try_with(|current| current.replace(Some(core))).ok().flatten();
    Entered { outermost: before.is_none(), before, _context: context::put_aside() }
}

/// Makes `core` the current loop instead of the one that is; for a thread that alternates between two.
pub(crate) fn switch(core: &Rc<LoopCore>) {
    let _ = CURRENT.try_with(|current| current.replace(Some(core.clone())));
}

/// Keeps the current loop set. Dropping it unsets it.
#[must_use]
pub(crate) struct Entered {
    before: Option<Rc<LoopCore>>,
    outermost: bool,
    /// What runs here has contexts of its own.
    _context: context::Aside,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        let core = CURRENT.try_with(|current| current.replace(before));
        if self.outermost {
            budget::lift();
        }
        drop(core);
    }
}
