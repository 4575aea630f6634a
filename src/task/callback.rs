//! Futures made from closures, so that a callback or an executor job is a cell like any other.
//!
//! *Invariant.* Polled once, ready at once. *Threads.* The loop's or the executor thread that runs it. *Ordering.* None.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A closure that runs once.
pub(crate) struct Once<F>(Option<F>);

impl<F> Once<F> {
    pub(crate) fn new(f: F) -> Self {
        Self(Some(f))
    }
}

// The closure is moved out to be called, never pinned.
impl<F> Unpin for Once<F> {}

impl<T, F: FnOnce() -> T> Future for Once<F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<T> {
        let f = self.0.take().expect("a one-shot is polled once");
        Poll::Ready(f())
    }
}
