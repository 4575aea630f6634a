//! Futures made from closures, so that a callback or an executor job is a cell like any other.
//!
//! *Invariant.* Polled once, ready at once. *Threads.* The loop's or the executor thread that runs it. *Ordering.* None.

use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::join::{DoneCallback, Outcome};
use super::{ErrorContext, Event, Id, Observer, catch, context, drop_payload};

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

/// A closure that runs once something has come, and what was arranged for that: it goes with the closure, before it is called or
/// as it is dropped.
pub(crate) struct Waiting<T, F> {
    armed: Option<T>,
    f: Option<F>,
}

impl<T, F> Waiting<T, F> {
    pub(super) fn new(f: F) -> Self {
        Self { armed: None, f: Some(f) }
    }

    pub(super) fn set(&mut self, armed: T) {
        let none = self.armed.replace(armed);
        debug_assert!(none.is_none(), "set once");
        // It has no destructor to run, which the compiler does not know.
        mem::forget(none);
    }
}

// As above.
impl<T, F> Unpin for Waiting<T, F> {}

impl<T, F: FnOnce()> Future for Waiting<T, F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let f = self.f.take().expect("a one-shot is polled once");
        drop(self.armed.take());
        f();
        Poll::Ready(())
    }
}

/// The done-callbacks of a task that has not ended, in the order of registration.
#[derive(Default)]
pub(super) struct Registered {
    last: u32,
    list: Vec<Entry>,
}

struct Entry {
    number: u32,
    /// Not a user's: it only counts, and wakes whoever waits for the count.
    counts: bool,
    callback: DoneCallback,
}

impl Registered {
    /// The number of the next one.
    pub(super) fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1);
        self.last
    }

    pub(super) fn add(&mut self, number: u32, callback: DoneCallback, counts: bool) {
        self.list.push(Entry { number, counts, callback });
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<DoneCallback> {
        let at = self.list.iter().position(|entry| entry.number == number)?;
        Some(self.list.remove(at).callback)
    }

    /// Takes out those that only count, if there are any.
    fn take_counting(&mut self) -> Option<Self> {
        if !self.list.iter().any(|entry| entry.counts) {
            return None;
        }
        let (counting, users) = std::mem::take(&mut self.list).into_iter().partition(|entry| entry.counts);
        self.list = users;
        Some(Self { last: self.last, list: counting })
    }

    /// All that are there. Numbers go on from where they are.
    pub(super) fn take(&mut self) -> Self {
        Self { last: self.last, list: std::mem::take(&mut self.list) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// The done-callbacks of a task that has ended.
pub(crate) struct Callbacks {
    callbacks: Registered,
    task: Id,
    outcome: Outcome,
    pub(crate) location: &'static Location<'static>,
}

impl Callbacks {
    pub(super) fn new(callbacks: Registered, task: Id, outcome: Outcome, location: &'static Location<'static>) -> Self {
        Self { callbacks, task, outcome, location }
    }

    /// Takes out those that only count, if there are any.
    pub(super) fn take_counting(&mut self) -> Option<Self> {
        let callbacks = self.callbacks.take_counting()?;
        Some(Self { callbacks, ..*self })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.callbacks.is_empty()
    }

    /// Calls them in the order of their registration; each one's panic is reported and keeps none of the others from running.
    pub(crate) fn call(self, observer: &Observer, report: impl Fn(&ErrorContext)) {
        for Entry { number, callback, .. } in self.callbacks.list {
            observer.tell(|| Event::CallbackRun { task: self.task, number });
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
