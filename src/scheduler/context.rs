//! Which runtime `spawn` and its like mean on this thread, and to which runtimes the thread belongs.
//!
//! *Invariant.* A stack of entries, each with a number of its own. The engine's guards cut the stack back to where it was and
//! never panic, whatever a user did with his; a user's guard that is not the innermost panics, and one whose entry is gone does
//! nothing. *Threads.* The thread's own. *Ordering.* None.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::shared::{Anchor, Shared};
use crate::primitive::BiasedArc;

struct Entry {
    number: u64,
    anchor: BiasedArc<Anchor>,
    /// The thread works for the runtime: it drives a loop, visits in `block_on`, or runs a job. Else a user entered a handle.
    works: bool,
}

thread_local! {
    static ENTRIES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
    static LAST_NUMBER: Cell<u64> = const { Cell::new(0) };
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
#[inline]
pub(crate) fn try_current() -> Result<BiasedArc<Anchor>, Missing> {
    with(|anchor| anchor.cloned()).ok_or(Missing::ThreadLocal)?.ok_or(Missing::Context)
}

/// Calls `f` with the innermost runtime; `None` if the thread is ending.
#[inline]
pub(crate) fn with<R>(f: impl FnOnce(Option<&BiasedArc<Anchor>>) -> R) -> Option<R> {
    ENTRIES.try_with(|entries| f(entries.borrow().last().map(|entry| &entry.anchor))).ok()
}

/// Whether this thread works for a runtime, however deep: if so, waiting for it to end would be waiting for oneself.
pub(crate) fn works_for(shared: &Arc<Shared>) -> bool {
    let works = |entry: &Entry| entry.works && Arc::ptr_eq(&entry.anchor.shared, shared);
    ENTRIES.try_with(|entries| entries.borrow().iter().any(works)).unwrap_or(false)
}

/// The runtime that this thread works for and that has this number as its loops' `fleet`.
pub(crate) fn of_fleet(fleet: usize) -> Option<BiasedArc<Anchor>> {
    let anchor = |entries: &RefCell<Vec<Entry>>| {
        let entries = entries.borrow();
        let entry = entries.iter().rev().find(|entry| entry.works && entry.anchor.shared.fleet() == fleet)?;
        Some(entry.anchor.clone())
    };
    ENTRIES.try_with(anchor).ok().flatten()
}

fn push(anchor: BiasedArc<Anchor>, works: bool) -> u64 {
    let number = LAST_NUMBER.get() + 1;
    LAST_NUMBER.set(number);
    // On a thread that is ending there is no place for it: then its guard finds nothing to leave.
    let _ = ENTRIES.try_with(|entries| entries.borrow_mut().push(Entry { number, anchor, works }));
    number
}

/// For the engine: this thread works for the runtime until the guard goes.
pub(crate) fn work_for(anchor: BiasedArc<Anchor>) -> Working {
    Working { number: push(anchor, true) }
}

/// What [`work_for`] returns.
pub(crate) struct Working {
    number: u64,
}

impl Drop for Working {
    fn drop(&mut self) {
        // Dropped after the borrow: the last reference to a runtime may be among them.
        let cut = ENTRIES.try_with(|entries| {
            let mut entries = entries.borrow_mut();
            let at = entries.iter().position(|entry| entry.number == self.number);
            at.map(|at| entries.split_off(at))
        });
        drop(cut);
    }
}

/// For the user: `spawn` and its like mean this runtime until the guard goes.
pub(crate) fn enter(anchor: BiasedArc<Anchor>) -> Entered {
    Entered { number: push(anchor, false) }
}

/// What [`enter`] returns.
///
/// # Panics
/// When dropped out of order.
#[derive(Debug)]
pub(crate) struct Entered {
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let removed = ENTRIES.try_with(|entries| {
            let mut entries = entries.borrow_mut();
            let at = entries.iter().position(|entry| entry.number == self.number)?;
            let innermost = at + 1 == entries.len();
            Some((entries.remove(at), innermost))
        });
        if matches!(removed, Ok(Some((_, false)))) && !std::thread::panicking() {
            panic!("EnterGuards must be dropped in the reverse order of entering");
        }
    }
}
