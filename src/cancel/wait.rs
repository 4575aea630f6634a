//! The futures of a scope: [`WaitCancelled`] waits for its cancellation, [`Guard`] runs something else until then.
//!
//! *Invariant.* A waiter is in the waiters' list of its own scope from its first Pending until it is dropped or done, and
//! asks after it has entered. The deadlines have no timer of their own: whoever waits arms one. *Threads.* Any.
//! *Ordering.* `node.rs`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use pin_project_lite::pin_project;

use super::{CancelScope, Cancelled};
use crate::event_loop::poll_proceed;
use crate::scheduler::tell;
use crate::task::{Event, FutureId, is_observed, try_id};
use crate::time::{Sleep, sleep_until};

/// The future of [`CancelScope::cancelled`].
///
/// # Examples
///
/// ```
/// use epicycle::CancelScope;
///
/// epicycle::run(async {
///     let scope = CancelScope::new();
///     let waiting = scope.cancelled();
///     scope.cancel();
///     assert!(waiting.await.is_of(&scope));
/// });
/// ```
#[must_use = "futures do nothing unless awaited"]
pub struct WaitCancelled {
    scope: CancelScope,
    key: Option<usize>,
    alarm: Option<(Instant, Sleep)>,
    /// An instrument was told that it waits.
    told: bool,
}

impl WaitCancelled {
    pub(super) fn new(scope: CancelScope) -> Self {
        Self { scope, key: None, alarm: None, told: false }
    }

    fn id(&self) -> FutureId {
        FutureId::at("scope", self.scope.node())
    }

    /// Before it can be woken. Not of who only keeps an eye on the scope while it waits for something else.
    #[cold]
    fn tell_blocking(&mut self) {
        if self.scope.is_cancelled() {
            return;
        }
        tell(|| Event::Blocking { task: try_id(), future: self.id() });
        if !self.told {
            tell(|| Event::WakerRegistered { task: try_id(), future: self.id() });
        }
        self.told = true;
    }

    fn enter(&mut self, cx: &Context<'_>) {
        let waker = cx.waker().clone();
        let old = self.scope.node().with_waiters(|waiters| waiters.put(&mut self.key, waker));
        drop(old);
    }

    fn leave(&mut self) {
        if self.key.is_some() {
            let old = self.scope.node().with_waiters(|waiters| waiters.remove(&mut self.key));
            drop(old);
        }
        self.alarm = None;
    }

    /// Ready when the next deadline has been reached; keeps an alarm for it on the way to Pending.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.scope.node().next_deadline() else {
            self.alarm = None;
            return Poll::Pending;
        };
        let (_, sleep) = match &mut self.alarm {
            Some(alarm) if alarm.0 == deadline => alarm,
            other => other.insert((deadline, sleep_until(deadline))),
        };
        Pin::new(sleep).poll(cx)
    }

    /// Without regard to the budget: for who has just used it up with something else.
    pub(crate) fn poll_now(&mut self, cx: &mut Context<'_>) -> Poll<Cancelled> {
        self.enter(cx);
        loop {
            if let Some(cancelled) = self.scope.node().status() {
                self.leave();
                return Poll::Ready(cancelled);
            }
            // What was reached is found by asking; and if the deadline has moved meanwhile, there may be a next one.
            ready!(self.poll_deadline(cx));
        }
    }
}

impl Future for WaitCancelled {
    type Output = Cancelled;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cancelled> {
        if is_observed() {
            self.tell_blocking();
        }
        let cancelled = ready!(self.poll_now(cx));
        ready!(poll_proceed(cx));
        if self.told {
            tell(|| Event::FutureResumed { task: try_id(), future: self.id() });
        }
        Poll::Ready(cancelled)
    }
}

impl Drop for WaitCancelled {
    fn drop(&mut self) {
        self.leave();
    }
}

impl fmt::Debug for WaitCancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitCancelled").field("scope", &self.scope).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`CancelScope::guard`].
    ///
    /// # Cancel safety
    /// That of the future inside, which is dropped with it.
    ///
    /// ```
    /// use epicycle::cancel::{CancelScope, Guard};
    /// use std::future::{Ready, ready};
    ///
    /// epicycle::run(async {
    ///     let scope = CancelScope::new();
    ///     let guard: Guard<Ready<u8>> = scope.guard(ready(1));
    ///     scope.cancel();
    ///     assert!(guard.await.is_err()); // it had not begun
    /// });
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct Guard<F> {
        #[pin]
        future: F,
        wait: WaitCancelled,
        started: bool,
    }
}

impl<F> Guard<F> {
    pub(super) fn new(scope: CancelScope, future: F) -> Self {
        Self { future, wait: WaitCancelled::new(scope), started: false }
    }
}

impl<F: Future> Future for Guard<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if !*this.started {
            if let Err(cancelled) = this.wait.scope.check() {
                // A loop that ignores the error must not keep others from running.
                ready!(poll_proceed(cx));
                return Poll::Ready(Err(cancelled));
            }
            *this.started = true;
        }
        match this.future.poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => this.wait.poll_now(cx).map(Err),
        }
    }
}

impl<F> fmt::Debug for Guard<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("scope", &self.wait.scope).finish_non_exhaustive()
    }
}
