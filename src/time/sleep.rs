//! [`Sleep`]: a future that completes at a deadline.
//!
//! *Invariant*: an armed timer exists only while a task waits, and goes with the `Sleep`: dropped or completed, it
//! leaves nothing behind. *Threads*: created, polled, moved, reset and dropped on any. *Ordering*: owner-only (`&mut`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::{Alarm, saturating_add};
use crate::event_loop::poll_proceed;

/// Completes once `duration` has passed.
///
/// It counts from this call, not from the first poll. A zero duration completes at once; to let other tasks run, use
/// [`yield_now`](crate::yield_now), asyncio's `sleep(0)`. [`Duration::MAX`] never completes.
///
/// The counterpart of `asyncio.sleep` and of `tokio::time::sleep`.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// epicycle::run(async {
///     let start = Instant::now();
///     epicycle::time::sleep(Duration::from_millis(5)).await;
///     assert!(start.elapsed() >= Duration::from_millis(5));
/// });
/// ```
///
/// # Panics
///
/// Not here, but where it is polled, if it has to wait and neither this call nor that poll is made within a runtime.
///
/// # Cancel safety
///
/// Dropping it disarms the timer and has no other effect.
pub fn sleep(duration: Duration) -> Sleep {
    sleep_until(saturating_add(Instant::now(), duration))
}

/// Completes at `deadline`; at once if that has passed.
///
/// The counterpart of `tokio::time::sleep_until`; asyncio has `call_at` only.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// epicycle::run(async {
///     let deadline = Instant::now() + Duration::from_millis(5);
///     epicycle::time::sleep_until(deadline).await;
///     assert!(Instant::now() >= deadline);
/// });
/// ```
///
/// # Panics
///
/// As [`sleep`].
///
/// # Cancel safety
///
/// As [`sleep`].
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { alarm: Alarm::new(deadline).with_birth() }
}

/// The future of [`sleep`] and [`sleep_until`]. Tokio's `Sleep`.
///
/// It is `Send`, `Sync` and `Unpin`: it may be created outside of a runtime, moved between loops, polled on a thread
/// that runs no loop, and reset or dropped anywhere. It is armed when it is first polled and has to wait, on the loop of
/// the thread that polls it; if that thread has none, on one of the runtime where it was created.
///
/// # Examples
///
/// A deadline that moves:
///
/// ```
/// use std::time::{Duration, Instant};
/// use epicycle::time::sleep;
///
/// epicycle::run(async {
///     let mut patience = sleep(Duration::from_secs(60));
///     patience.reset(Instant::now() + Duration::from_millis(2));
///     (&mut patience).await;
///     assert!(patience.is_elapsed());
/// });
/// ```
#[must_use = "a Sleep does nothing unless it is awaited"]
pub struct Sleep {
    alarm: Alarm,
}

impl Sleep {
    /// When it completes.
    ///
    /// For a sleep of more than ten years, some instant at least that far away.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let start = Instant::now();
    /// assert!(epicycle::time::sleep(Duration::from_secs(1)).deadline() >= start + Duration::from_secs(1));
    /// ```
    pub fn deadline(&self) -> Instant {
        self.alarm.deadline
    }

    /// Whether the deadline has passed. Looks at the clock, not at whether anybody was woken.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// assert!(epicycle::time::sleep(Duration::ZERO).is_elapsed());
    /// assert!(!epicycle::time::sleep(Duration::MAX).is_elapsed());
    /// ```
    pub fn is_elapsed(&self) -> bool {
        self.alarm.is_due()
    }

    /// Moves the deadline, forward or back; before, while or after it fires.
    ///
    /// A task that waits for this sleep is woken at the new deadline, polled in between or not. A sleep that has
    /// completed can be awaited again. Pushing a deadline back is cheap enough to do for every message.
    ///
    /// The counterpart of `tokio::time::Sleep::reset`, and of `asyncio.Timeout.reschedule`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use epicycle::time::sleep;
    ///
    /// epicycle::run(async {
    ///     let mut sleep = sleep(Duration::from_millis(1));
    ///     (&mut sleep).await;
    ///     sleep.reset(Instant::now() + Duration::from_millis(1));
    ///     assert!(!sleep.is_elapsed());
    ///     (&mut sleep).await;
    /// });
    /// ```
    pub fn reset(&mut self, deadline: Instant) {
        self.alarm.reset(deadline);
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.alarm.poll_due(cx));
        // Only completions are charged: a task that waits for two hundred sleeps at once is not busy.
        poll_proceed(cx)
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sleep").field("deadline", &self.alarm.deadline).finish_non_exhaustive()
    }
}
