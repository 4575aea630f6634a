//! Futures made from closures, so that a callback or an executor job is a cell like any other.
//!
//! *Invariant.* Polled once, ready at once. *Threads.* The loop's or the executor thread that runs it. *Ordering.* None.

use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::join::{DoneCallback, Outcome};
use super::{ErrorContext, catch, context, drop_payload};

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

/// The done-callbacks of a task that has ended.
pub(crate) struct Callbacks {
    callbacks: Vec<DoneCallback>,
    outcome: Outcome,
    pub(crate) location: &'static Location<'static>,
}

impl Callbacks {
    pub(super) fn new(callbacks: Vec<DoneCallback>, outcome: Outcome, location: &'static Location<'static>) -> Self {
        Self { callbacks, outcome, location }
    }

    /// Calls them in the order of their registration; each one's panic is reported and keeps none of the others from running.
    pub(crate) fn call(self, report: impl Fn(&ErrorContext)) {
        for callback in self.callbacks {
            // Each in a context of its own: that of its registration, if there was one, is in the box.
            let call = || context::Context::new().run(|| callback(self.outcome));
            if let Err(payload) = catch(call) {
                let mut context = ErrorContext::new("Exception in callback").with_panic(&*payload);
                context.location = Some(self.location);
                report(&context);
                drop_payload(payload);
            }
        }
    }
}
