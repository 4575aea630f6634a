//! The cooperative budget: how much a task may take from always-ready sources before it must let others run.
//!
//! *Invariant.* Refilled before each handle; a leaf future that finds it empty wakes its task and is pending.
//! *Threads.* Each has its own; off a loop there is no limit. *Ordering.* None.

use std::cell::Cell;
use std::task::{Context, Poll};

/// Operations per handle. Tokio's number; large enough that a request's handful never meets it.
const BUDGET: u8 = 128;
const UNLIMITED: u8 = u8::MAX;

thread_local! {
    static LEFT: Cell<u8> = const { Cell::new(UNLIMITED) };
}

/// Before each handle.
#[inline]
pub(crate) fn refill() {
    LEFT.set(BUDGET);
}

/// For a poll within a poll: a budget of its own, until the guard goes.
pub(super) fn fresh() -> Fresh {
    Fresh(LEFT.replace(BUDGET))
}

pub(super) struct Fresh(u8);

impl Drop for Fresh {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// When the thread stops driving a loop.
pub(crate) fn lift() {
    LEFT.set(UNLIMITED);
}

/// Takes one from the budget. A leaf future asks when it is about to make progress, not when it would wait: a task that waits
/// for two hundred sockets at once is not busy.
pub(crate) fn poll_proceed(cx: &mut Context<'_>) -> Poll<()> {
    let left = LEFT.get();
    match left {
        UNLIMITED => Poll::Ready(()),
        0 => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
        _ => {
            LEFT.set(left - 1);
            Poll::Ready(())
        }
    }
}
