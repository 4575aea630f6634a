//! [`Interval`]: a tick every so often.
//!
//! *Invariant*: the alarm is always set for the next tick, so that dropping a `tick()` future loses none.
//! *Threads*: any. *Ordering*: owner-only (`&mut`).

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::{Alarm, saturating_add};
use crate::event_loop::poll_proceed;

/// A tick that is late by less than this has not been missed. Without it, `Delay` would drift and `Skip` would skip
/// because of a scheduling hiccup. Tokio has the same constant for its millisecond clock.
const TOLERANCE: Duration = Duration::from_millis(5);

/// Ticks at once and then every `period`.
///
/// The counterpart of `tokio::time::interval`; asyncio has none.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// epicycle::run(async {
///     let start = Instant::now();
///     let mut interval = epicycle::time::interval(Duration::from_millis(3));
///     interval.tick().await; // at once
///     interval.tick().await;
///     interval.tick().await;
///     assert!(start.elapsed() >= Duration::from_millis(6));
/// });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Ticks at `start` and then every `period`.
///
/// The counterpart of `tokio::time::interval_at`.
///
/// # Examples
///
/// ```
/// use std::time::{Duration, Instant};
///
/// epicycle::run(async {
///     let start = Instant::now() + Duration::from_millis(4);
///     let mut interval = epicycle::time::interval_at(start, Duration::from_secs(60));
///     assert_eq!(interval.tick().await, start);
/// });
/// ```
///
/// # Panics
///
/// If `period` is zero.
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "the period of an interval must not be zero; use yield_now() to run as often as possible"
    );
    Interval { alarm: Alarm::new(start).with_birth(), period, missed: MissedTickBehavior::default() }
}

/// What an [`Interval`] does when it was not asked in time for one or more ticks. Tokio's `MissedTickBehavior`.
///
/// With a period of 10 ms and a pause that lets the tick of t = 20 be taken at t = 45 only, ticks come at:
///
/// | | | |
/// |---|---|---|
/// | `Burst` | 0, 10, **45, 45, 45,** 50, 60 | as many as there should have been, as fast as possible |
/// | `Delay` | 0, 10, **45,** 55, 65 | a period after the late one: at least `period` apart |
/// | `Skip`  | 0, 10, **45,** 50, 60 | on the original grid; what was missed is gone |
///
/// A tick that is late by less than 5 ms, or than the period if that is shorter, does not count as missed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use epicycle::time::{MissedTickBehavior, interval};
///
/// let mut interval = interval(Duration::from_secs(1));
/// assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::Burst);
/// interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTickBehavior {
    /// Ticks without waiting until it has caught up.
    #[default]
    Burst,
    /// The next tick is one period after the late one was taken.
    Delay,
    /// The next tick is the next multiple of the period since the start.
    Skip,
}

impl MissedTickBehavior {
    /// The tick after the one of `due`, which was missed and is taken at `now`.
    fn next(self, due: Instant, now: Instant, period: Duration) -> Instant {
        match self {
            Self::Burst => saturating_add(due, period),
            Self::Delay => saturating_add(now, period),
            Self::Skip => saturating_add(now - remainder(now - due, period), period),
        }
    }
}

/// `elapsed % period`
fn remainder(elapsed: Duration, period: Duration) -> Duration {
    let nanos = elapsed.as_nanos() % period.as_nanos();
    Duration::new((nanos / 1_000_000_000) as u64, (nanos % 1_000_000_000) as u32)
}

/// The ticks of [`interval`] and [`interval_at`]. Tokio's `Interval`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// epicycle::run(async {
///     let mut interval = epicycle::time::interval(Duration::from_millis(1));
///     let first = interval.tick().await;
///     for n in 1..=3 {
///         assert_eq!(interval.tick().await, first + n * interval.period());
///     }
/// });
/// ```
pub struct Interval {
    alarm: Alarm,
    period: Duration,
    missed: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick and returns the instant it was due, which may be earlier than now.
    ///
    /// # Panics
    ///
    /// If it has to wait, and neither the making of the interval nor this is within a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// epicycle::run(async {
    ///     let mut interval = epicycle::time::interval(Duration::from_millis(1));
    ///     let first = interval.tick().await;
    ///     assert_eq!(interval.tick().await, first + Duration::from_millis(1));
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before it completes loses no tick.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// [`tick`](Self::tick) for use inside of a `poll` function. Only the task of the latest call is woken.
    ///
    /// # Panics
    ///
    /// As [`tick`](Self::tick).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use std::time::Duration;
    ///
    /// epicycle::run(async {
    ///     let mut interval = epicycle::time::interval(Duration::from_millis(1));
    ///     let first = poll_fn(|cx| interval.poll_tick(cx)).await;
    ///     assert!(poll_fn(|cx| interval.poll_tick(cx)).await > first);
    /// });
    /// ```
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        ready!(self.alarm.poll_due(cx));
        ready!(poll_proceed(cx));
        let due = self.alarm.deadline;
        let now = Instant::now();
        let next = if now - due < TOLERANCE.min(self.period) {
            saturating_add(due, self.period)
        } else {
            self.missed.next(due, now, self.period)
        };
        self.alarm.reset(next);
        Poll::Ready(due)
    }

    /// The next tick comes one period from now.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// epicycle::run(async {
    ///     let mut interval = epicycle::time::interval(Duration::from_millis(2));
    ///     interval.reset();
    ///     let start = Instant::now();
    ///     assert!(interval.tick().await > start);
    /// });
    /// ```
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// The next tick comes now.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// epicycle::run(async {
    ///     let mut interval = epicycle::time::interval(Duration::from_secs(60));
    ///     let first = interval.tick().await;
    ///     interval.reset_immediately();
    ///     assert!(interval.tick().await < first + interval.period());
    /// });
    /// ```
    pub fn reset_immediately(&mut self) {
        self.reset_at(Instant::now());
    }

    /// The next tick comes `after` this call.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// epicycle::run(async {
    ///     let mut interval = epicycle::time::interval(Duration::from_secs(60));
    ///     let start = Instant::now();
    ///     interval.reset_after(Duration::from_millis(1));
    ///     assert!(interval.tick().await >= start + Duration::from_millis(1));
    /// });
    /// ```
    pub fn reset_after(&mut self, after: Duration) {
        self.reset_at(saturating_add(Instant::now(), after));
    }

    /// The next tick comes at `deadline`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// epicycle::run(async {
    ///     let mut interval = epicycle::time::interval(Duration::from_secs(60));
    ///     let deadline = Instant::now() + Duration::from_millis(1);
    ///     interval.reset_at(deadline);
    ///     assert_eq!(interval.tick().await, deadline);
    /// });
    /// ```
    pub fn reset_at(&mut self, deadline: Instant) {
        self.alarm.reset(deadline);
    }

    /// The time between two ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let second = Duration::from_secs(1);
    /// assert_eq!(epicycle::time::interval(second).period(), second);
    /// ```
    pub fn period(&self) -> Duration {
        self.period
    }

    /// What happens to missed ticks.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::time::{MissedTickBehavior, interval};
    ///
    /// let interval = interval(std::time::Duration::from_secs(1));
    /// assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::Burst);
    /// ```
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Says what is to happen to missed ticks. The default is [`MissedTickBehavior::Burst`].
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::time::{MissedTickBehavior, interval};
    ///
    /// let mut interval = interval(std::time::Duration::from_secs(1));
    /// interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    /// assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::Delay);
    /// ```
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("next", &self.alarm.deadline)
            .field("period", &self.period)
            .field("missed", &self.missed)
            .finish()
    }
}
