//! Sleeping, ticking, and giving up in time.
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `sleep(d)` | `time::sleep` | [`sleep`], [`sleep_until`], [`Sleep`] |
//! | - | `time::interval` | [`interval`], [`interval_at`], [`Interval`] |
//! | `timeout(d)`, `timeout_at(t)` | `time::timeout`, `timeout_at` | [`timeout`], [`timeout_at`], [`Timeout`] |
//! | `timeout(d)` as a `Timeout` object | - | [`timeout_scope`], [`TimeoutScope`] |
//! | `wait_for(task, d)` | - | [`wait_for`] |
//!
//! Nothing here fires early. Time is [`std::time::Instant`]; there is no clock of our own to convert from, and no
//! granularity: a deadline is kept to the nanosecond and met as exactly as the operating system wakes a thread; but a
//! loop that sleeps is woken for timers at most every 500 us, so that those close together share a wake-up. A deadline
//! more than ten years away is taken to mean "never", so that [`Duration::MAX`] is a fine way to say so.
//!
//! *Invariant*: whoever waits looks at the clock itself whenever it is polled; the loop's timer only causes that poll.
//! So a lost, late or early timer could cost time, never correctness, and a wait completes even where nothing but the
//! waiting task itself runs. *Threads*: any. *Ordering*: owner-only (`&mut`); what crosses threads is in
//! `event_loop/timers.rs`.

#![forbid(unsafe_code)]

mod interval;
mod scope;
mod sleep;
mod timeout;

pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use scope::{ScopedTimeout, TimeoutScope, timeout_scope};
pub use sleep::{Sleep, sleep, sleep_until};
pub use timeout::{Timeout, TimeoutError, timeout, timeout_at, wait_for};

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::event_loop::{Remote, Timer, clock};
use crate::primitive::BiasedArc;
use crate::scheduler::{self, Anchor};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Deadlines farther away than this are never armed.
const NEVER: Duration = YEAR.saturating_mul(10);

/// What longer durations are cut down to. Well beyond [`NEVER`], and well within every platform's `Instant`.
const LONGEST: Duration = YEAR.saturating_mul(30);

/// `start + duration`, but "never" where that is beyond what an `Instant` can say.
fn saturating_add(start: Instant, duration: Duration) -> Instant {
    start.checked_add(duration.min(LONGEST)).unwrap_or_else(|| start + NEVER)
}

/// A deadline, and while somebody waits for it, the armed timer.
///
/// The common part of [`Sleep`], [`Interval`] and [`Timeout`]. It knows nothing of the cooperative budget: that is
/// for its owners, since an exhausted budget must not hide a timeout.
struct Alarm {
    deadline: Instant,
    /// The runtime it was created in, or first polled in; it serves it when the polling thread belongs to none.
    birth: Option<BiasedArc<Anchor>>,
    /// Whether to remember that: not for a timeout, which is polled where its future is.
    travels: bool,
    /// When it was made, if its first poll may take that for the time: a timeout is polled where it is made, and one that arms a
    /// deadline that has just passed is woken at once.
    made_at: Option<Instant>,
    /// Armed for the deadline or, after a `reset` to a later one, for an earlier instant: it is left in place then. A deadline that
    /// is pushed back by every message costs one spurious poll per period, not two visits to the heap per message.
    armed: Option<Timer>,
}

impl Alarm {
    fn new(deadline: Instant) -> Self {
        Self { deadline, birth: None, travels: false, made_at: None, armed: None }
    }

    /// Saves the first poll a look at the clock.
    fn made_at(mut self, now: Instant) -> Self {
        self.made_at = Some(now);
        self
    }

    /// Remembers the current runtime, if there is one, for a waiter that will be polled outside of any.
    fn with_birth(mut self) -> Self {
        self.travels = true;
        self.birth = scheduler::try_current().ok();
        self
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Ready at the deadline. Arms a timer, or keeps the one there is, on the way to Pending.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.made_at.take().unwrap_or_else(Instant::now);
        if now >= self.deadline {
            if let Some(timer) = self.armed.take() {
                timer.tell_polled(true);
            }
            return Poll::Ready(());
        }
        let deadline = clock::nanos(self.deadline);
        if let Some(timer) = &mut self.armed {
            if timer.deadline() <= deadline && timer.update(cx.waker()) {
                timer.tell_polled(false);
                return Poll::Pending;
            }
            // It fired for an earlier deadline, or its loop is gone: arm it afresh.
            self.armed = None;
        }
        if !self.is_never(deadline, now) {
            if self.travels && self.birth.is_none() {
                self.birth = scheduler::try_current().ok();
            }
            // Not by the function's name: a panic for want of a runtime would then show a place in core.
            let home = || match self.home() {
                Some(home) => home,
                None => scheduler::home(),
            };
            self.armed = Some(Timer::arm_awaited(home, self.deadline, deadline, cx.waker()));
        }
        Poll::Pending
    }

    /// Whether the deadline is too far away to be armed. `nanos` is the same as the engine counts it, from a moment of the past:
    /// nearly always that answers the question.
    fn is_never(&self, nanos: u64, now: Instant) -> bool {
        u128::from(nanos) >= NEVER.as_nanos() && self.deadline - now >= NEVER
    }

    /// Moves the deadline. A waiting task is woken at the new one; there is no need to poll in between.
    fn reset(&mut self, deadline: Instant) {
        self.deadline = deadline;
        let earlier = |timer: &mut Timer| clock::nanos(deadline) < timer.deadline();
        let Some(timer) = self.armed.take_if(earlier) else { return };
        // One that has fired has woken its task, which will look for itself.
        let Some(waker) = timer.take() else { return };
        match self.home() {
            Some(home) => self.armed = Some(Timer::arm(home, deadline, waker)),
            // Nowhere to arm.
            None => waker.wake(),
        }
    }

    /// Where to arm: on the loop that this thread drives, for there the waiting task is; else on one that is present.
    fn home(&self) -> Option<BiasedArc<Remote>> {
        scheduler::try_timer_home().or_else(|| Some(self.birth.as_ref()?.shared.present_home().clone()))
    }
}
