//! Waiting on a plain thread: the `blocking_` twins.
//!
//! *Invariant.* A thread that drives a loop does not get in here. *Threads.* Any other: a plain thread, an executor's.
//! *Ordering.* The waker that unparks the thread.

use std::future::Future;

use futures_lite::future;

use crate::event_loop::current;

/// Blocks this thread until `future` is done.
///
/// # Panics
/// On a thread that drives a loop.
#[track_caller]
pub(super) fn block_on<F: Future>(called: &str, instead: &str, future: F) -> F::Output {
    assert!(
        current::with(|core| core.is_none()),
        "`{called}` would block this thread's event loop: use `{instead}` here, or call it in `run_in_executor`"
    );
    future::block_on(future)
}
