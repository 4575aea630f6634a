//! Giving up in time: [`timeout`] for futures, [`wait_for`] for tasks.
//!
//! *Invariant*: a value that is ready when the limit is looked at wins; the limit is looked at after every Pending, also
//! when that Pending means no more than that the task has used up its budget. *Threads*: any.
//! *Ordering*: owner-only, none.

use std::error::Error;
use std::fmt;
use std::future::{Future, IntoFuture, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::{Alarm, saturating_add};
use crate::task::{JoinError, Task};

/// Gives `future` at most `limit`, and drops it if it is not done by then.
///
/// A value that is ready at the deadline wins. The future is polled at least once, also with a limit of zero.
/// [`Duration::MAX`] means no limit.
///
/// The counterpart of `tokio::time::timeout`, and of `asyncio.timeout`. In asyncio the body is told by a
/// `CancelledError` and may clean up asynchronously; here it is dropped where it stands. Nested limits are plain values:
/// an inner one that expired is an `Err` to the code around it, whether or not the outer one expired too.
///
/// A [`Task`] that is dropped goes on running: use [`wait_for`] to stop it, too.
///
/// # Errors
///
/// [`TimeoutError`] if the limit was reached first.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::time::{sleep, timeout};
///
/// epicycle::run(async {
///     let limit = Duration::from_millis(5);
///     assert_eq!(timeout(limit, async { 42 }).await, Ok(42));
///     assert!(timeout(limit, sleep(Duration::from_secs(60))).await.is_err());
/// });
/// ```
///
/// # Panics
///
/// Not here, but where it is polled, if it has to wait and that is not within a runtime.
///
/// # Cancel safety
///
/// That of `future`: it is dropped along with the timeout, and when the limit is reached.
pub fn timeout<F: IntoFuture>(limit: Duration, future: F) -> Timeout<F::IntoFuture> {
    let now = Instant::now();
    let alarm = Alarm::new(saturating_add(now, limit)).made_at(now);
    Timeout { future: future.into_future(), alarm }
}

/// Gives `future` until `deadline`, and drops it if it is not done by then.
///
/// As [`timeout`] in all else. The counterpart of `tokio::time::timeout_at` and of `asyncio.timeout_at`.
///
/// # Errors
///
/// [`TimeoutError`] if the deadline was reached first.
///
/// # Examples
///
/// ```
/// use std::future::pending;
/// use std::time::{Duration, Instant};
/// use epicycle::time::timeout_at;
///
/// epicycle::run(async {
///     let deadline = Instant::now() + Duration::from_millis(5);
///     assert!(timeout_at(deadline, pending::<()>()).await.is_err());
///     assert!(Instant::now() >= deadline);
/// });
/// ```
///
/// # Panics
///
/// As [`timeout`].
///
/// # Cancel safety
///
/// As [`timeout`].
pub fn timeout_at<F: IntoFuture>(deadline: Instant, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: future.into_future(), alarm: Alarm::new(deadline) }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`]. Tokio's `Timeout`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::time::timeout;
    ///
    /// let limited = timeout(Duration::from_secs(1), async { 1 });
    /// assert!(limited.deadline() > std::time::Instant::now());
    /// assert_eq!(epicycle::run(limited), Ok(1));
    /// ```
    #[must_use = "a Timeout does nothing unless it is awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        alarm: Alarm,
    }
}

impl<F> Timeout<F> {
    /// When the future will be given up. asyncio's `Timeout.when()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let deadline = Instant::now() + Duration::from_secs(1);
    /// assert_eq!(epicycle::time::timeout_at(deadline, async {}).deadline(), deadline);
    /// ```
    pub fn deadline(&self) -> Instant {
        self.alarm.deadline
    }

    /// Moves the deadline. asyncio's `Timeout.reschedule()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::pin;
    /// use std::time::{Duration, Instant};
    /// use epicycle::time::{sleep, timeout};
    ///
    /// epicycle::run(async {
    ///     let mut limited = pin!(timeout(Duration::from_secs(60), sleep(Duration::MAX)));
    ///     limited.as_mut().reset(Instant::now() + Duration::from_millis(1));
    ///     assert!(limited.await.is_err());
    /// });
    /// ```
    pub fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.project().alarm.reset(deadline);
    }

    /// The future.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::time::{sleep, timeout};
    ///
    /// let limited = timeout(Duration::from_secs(1), sleep(Duration::from_secs(2)));
    /// assert!(limited.get_ref().deadline() > limited.deadline());
    /// ```
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// The future, without its limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let limited = epicycle::time::timeout(Duration::ZERO, async { 1 });
    /// assert_eq!(epicycle::run(limited.into_inner()), 1);
    /// ```
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimeoutError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(value) = this.future.poll(cx) {
            return Poll::Ready(Ok(value));
        }
        // The alarm is not subject to the budget that the future may just have used up.
        this.alarm.poll_due(cx).map(|()| Err(TimeoutError(())))
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("deadline", &self.alarm.deadline).finish_non_exhaustive()
    }
}

/// Waits for `task` for at most `limit`, then cancels it and waits until it has really ended.
///
/// With a limit of zero it returns the value of a task that is done, and cancels any other; one that had not begun
/// never runs. A task that completes in spite of being cancelled (a running executor job does) has its value returned,
/// however late. If somebody else cancelled the task, or it panicked, the inner `Err` says so.
///
/// The counterpart of `asyncio.wait_for`. It takes a [`Task`], for only a task can be stopped and have its end awaited;
/// for any other future, [`timeout`] does all there is to do: once dropped, it has ended. (One function for both would have to
/// tell a task from other futures, which stable Rust cannot without specialization.)
///
/// # Errors
///
/// [`TimeoutError`] if the limit was reached and the task was cancelled for it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::time::{sleep, wait_for};
///
/// epicycle::run(async {
///     let quick = epicycle::spawn(async { 42 });
///     assert_eq!(wait_for(quick, Duration::from_secs(60)).await.unwrap().unwrap(), 42);
///
///     let slow = epicycle::spawn(sleep(Duration::from_secs(60)));
///     assert!(wait_for(slow, Duration::from_millis(1)).await.is_err()); // and `slow` is gone
/// });
/// ```
///
/// # Panics
///
/// As [`timeout`].
///
/// # Cancel safety
///
/// Dropping the future cancels the task, without waiting for its end.
pub async fn wait_for<T>(task: Task<T>, limit: Duration) -> Result<Result<T, JoinError>, TimeoutError> {
    let mut task = task.cancel_on_drop();
    let mut alarm = Alarm::new(saturating_add(Instant::now(), limit));
    let in_time = poll_fn(|cx| match Pin::new(&mut task).poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => alarm.poll_due(cx).map(|()| None),
    });
    if let Some(result) = in_time.await {
        return Ok(result);
    }
    task.cancel();
    match task.await {
        Err(error) if error.is_cancelled() => Err(TimeoutError(())),
        result => Ok(result),
    }
}

/// The limit of a [`timeout`], [`timeout_at`], [`timeout_scope`](super::timeout_scope) or [`wait_for`] was reached.
///
/// asyncio's `TimeoutError`, Tokio's `Elapsed`. Converts into an [`io::Error`] of the kind `TimedOut`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::time::{sleep, timeout};
///
/// epicycle::run(async {
///     let error = timeout(Duration::ZERO, sleep(Duration::MAX)).await.unwrap_err();
///     assert_eq!(error.to_string(), "the time limit was reached");
///     assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
/// });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeoutError(());

impl TimeoutError {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the time limit was reached")
    }
}

impl Error for TimeoutError {}

impl From<TimeoutError> for io::Error {
    fn from(error: TimeoutError) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, error)
    }
}
