//! [`timeout_scope`]: a limit that the body can see and move.
//!
//! *Invariant*: the deadline is looked at after each poll of the body that was not ready, so a value that is ready at the
//! deadline wins; it can be moved until the scope has ended, one way or the other. *Threads*: any. *Ordering*: the lock's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::{Alarm, NEVER, TimeoutError, saturating_add};
use crate::primitive::Mutex;

/// Runs `body` for at most `limit`; it is given the [`TimeoutScope`], with which it, or whoever it gives a clone to, can move the
/// deadline or take it away.
///
/// At the deadline the body is dropped where it stands. asyncio throws a `CancelledError` into it, which it may catch, delay or turn down;
/// so there a nested limit that expires at the same time as the outer one goes under in it, while here each is
/// an `Err` to the code just around it, and [`expired`](TimeoutScope::expired) says which ones were reached. Only the limit's own end is
/// a [`TimeoutError`]: whatever else cancels a task inside or around it stays what it is.
///
/// The counterpart of `asyncio.timeout` with its `Timeout`. For a plain limit there is [`timeout`](super::timeout()).
///
/// # Errors
///
/// [`TimeoutError`] if the deadline was reached first.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
/// use epicycle::time::{sleep, timeout_scope};
///
/// epicycle::run(async {
///     let result = timeout_scope(Duration::from_secs(60), |scope| async move {
///         // On second thoughts:
///         scope.reschedule(Some(Instant::now() + Duration::from_millis(1)));
///         sleep(Duration::MAX).await
///     });
///     assert!(result.await.is_err());
/// });
/// ```
///
/// # Panics
///
/// Not here, but where it is polled: if it has to wait and that is not within a runtime; and if it is polled again after
/// the limit was reached.
///
/// # Cancel safety
///
/// That of the body: it is dropped along with the scope, and when the deadline is reached.
pub fn timeout_scope<F: Future>(limit: Duration, body: impl FnOnce(TimeoutScope) -> F) -> ScopedTimeout<F> {
    let now = Instant::now();
    let deadline = saturating_add(now, limit);
    let state = State { deadline: Some(deadline), phase: Phase::Active, polling: false, waker: None };
    let scope = TimeoutScope { state: Arc::new(Mutex::new(state)) };
    ScopedTimeout { body: body(scope.clone()), scope, alarm: Alarm::new(deadline) }
}

/// The limit of a [`timeout_scope`]: asyncio's `Timeout`. Clones are the same limit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::time::{TimeoutScope, sleep, timeout_scope};
///
/// /// Does without a limit while the long part goes on.
/// async fn work(scope: TimeoutScope) {
///     let when = scope.when();
///     scope.reschedule(None);
///     sleep(Duration::from_millis(5)).await;
///     scope.reschedule(when);
/// }
///
/// # epicycle::run(async {
/// let limited = timeout_scope(Duration::from_millis(1), work);
/// assert!(limited.await.is_ok());
/// # });
/// ```
#[derive(Clone)]
pub struct TimeoutScope {
    state: Arc<Mutex<State>>,
}

struct State {
    /// None: there is no limit at present.
    deadline: Option<Instant>,
    phase: Phase,
    /// The deadline will be looked at after the poll that is going on.
    polling: bool,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Active,
    /// The body was ready first.
    Done,
    /// The deadline had been reached, whether or not the body was ready all the same.
    Expired,
}

impl TimeoutScope {
    /// The deadline; none if there is no limit at present. asyncio's `Timeout.when()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use epicycle::time::timeout_scope;
    ///
    /// # epicycle::run(async {
    /// let limited = timeout_scope(Duration::from_secs(1), |_scope| async {});
    /// let scope = limited.scope().clone();
    /// assert!(scope.when().unwrap() > Instant::now());
    /// scope.reschedule(None);
    /// assert_eq!(scope.when(), None);
    /// # limited.await.unwrap();
    /// # });
    /// ```
    pub fn when(&self) -> Option<Instant> {
        self.state.lock().deadline
    }

    /// Moves the deadline: true. It may lie in the past; `None` means no limit. False: the scope has ended. asyncio's
    /// `Timeout.reschedule()`, which raises a `RuntimeError` then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::time::{sleep, timeout_scope};
    ///
    /// epicycle::run(async {
    ///     let limited = timeout_scope(Duration::from_millis(1), |scope| async move {
    ///         scope.reschedule(None);
    ///         sleep(Duration::from_millis(5)).await;
    ///     });
    ///     let scope = limited.scope().clone();
    ///     assert!(limited.await.is_ok());
    ///     assert!(!scope.reschedule(None), "too late");
    /// });
    /// ```
    pub fn reschedule(&self, when: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Active {
            return false;
        }
        state.deadline = when;
        let waker = if state.polling { None } else { state.waker.take() };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether the deadline was reached before the scope ended. A body that was ready at the same time keeps its value, and this is true
    /// all the same. asyncio's `Timeout.expired()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::pending;
    /// use std::time::Duration;
    /// use epicycle::time::timeout_scope;
    ///
    /// # epicycle::run(async {
    /// let limited = timeout_scope(Duration::from_millis(1), |_scope| pending::<()>());
    /// let scope = limited.scope().clone();
    /// assert!(!scope.expired());
    /// assert!(limited.await.is_err());
    /// assert!(scope.expired());
    /// # });
    /// ```
    pub fn expired(&self) -> bool {
        self.state.lock().phase == Phase::Expired
    }

    fn end(&self, phase: Phase) {
        let mut state = self.state.lock();
        state.phase = phase;
        let waker = state.waker.take();
        drop(state);
        drop(waker);
    }

    /// Has `waker` woken when the deadline is moved. The deadline as of now.
    fn register(&self, waker: &Waker) -> Option<Instant> {
        // Made and dropped while the lock is not held.
        let mut new = None;
        loop {
            let mut state = self.state.lock();
            let known = state.waker.as_ref().is_some_and(|old| old.will_wake(waker));
            if known || new.is_some() {
                state.polling = false;
                let deadline = state.deadline;
                if !known {
                    std::mem::swap(&mut state.waker, &mut new);
                }
                drop(state);
                return deadline;
            }
            drop(state);
            new = Some(waker.clone());
        }
    }
}

impl fmt::Debug for TimeoutScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let State { deadline, phase, .. } = *self.state.lock();
        f.debug_struct("TimeoutScope").field("when", &deadline).field("phase", &phase).finish()
    }
}

pin_project! {
    /// The future of [`timeout_scope`]: asyncio's `async with timeout()`, with its body.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::time::{ScopedTimeout, TimeoutError, timeout_scope};
    ///
    /// /// Whoever it gets may not take longer than a millisecond, whatever was agreed on before.
    /// async fn hurry<F: Future>(limited: ScopedTimeout<F>) -> Result<F::Output, TimeoutError> {
    ///     let soon = std::time::Instant::now() + Duration::from_millis(1);
    ///     limited.scope().reschedule(Some(soon));
    ///     limited.await
    /// }
    ///
    /// # epicycle::run(async {
    /// let limited = timeout_scope(Duration::from_secs(60), |_scope| std::future::pending::<()>());
    /// assert!(hurry(limited).await.is_err());
    /// # });
    /// ```
    #[must_use = "futures do nothing unless awaited"]
    pub struct ScopedTimeout<F> {
        #[pin]
        body: F,
        scope: TimeoutScope,
        alarm: Alarm,
    }

    impl<F> PinnedDrop for ScopedTimeout<F> {
        fn drop(this: Pin<&mut Self>) {
            if this.scope.state.lock().phase == Phase::Active {
                this.scope.end(Phase::Done);
            }
        }
    }
}

impl<F> ScopedTimeout<F> {
    /// Its limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::time::timeout_scope;
    ///
    /// # epicycle::run(async {
    /// let limited = timeout_scope(Duration::from_secs(60), |_scope| std::future::pending::<()>());
    /// let scope = limited.scope().clone();
    /// let task = epicycle::spawn(limited);
    /// scope.reschedule(Some(std::time::Instant::now())); // from outside: that is enough
    /// assert!(task.await.unwrap().is_err());
    /// # });
    /// ```
    pub fn scope(&self) -> &TimeoutScope {
        &self.scope
    }
}

impl<F: Future> Future for ScopedTimeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let expired = this.scope.expired();
        assert!(!expired, "a timeout_scope was awaited again after its limit was reached");
        this.scope.state.lock().polling = true;
        if let Poll::Ready(value) = this.body.poll(cx) {
            let late = this.scope.when().is_some_and(|deadline| Instant::now() >= deadline);
            this.scope.end(if late { Phase::Expired } else { Phase::Done });
            return Poll::Ready(Ok(value));
        }
        let deadline = this.scope.register(cx.waker()).unwrap_or_else(|| saturating_add(Instant::now(), 2 * NEVER));
        this.alarm.reset(deadline);
        if this.alarm.poll_due(cx).is_pending() {
            return Poll::Pending;
        }
        this.scope.end(Phase::Expired);
        Poll::Ready(Err(TimeoutError::new()))
    }
}

impl<F> fmt::Debug for ScopedTimeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedTimeout").field("scope", &self.scope).finish_non_exhaustive()
    }
}
