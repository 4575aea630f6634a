//! A turn of a loop: asyncio's `_run_once`, in parts that a loop with peers puts together in its own order.
//!
//! *Invariant.* This is the only place where handles are run; everything else only makes ready. A turn selects, wakes what
//! events and timers concern, then runs as many handles as were ready at that point.
//!
//! *Threads.* The loop's own. *Ordering.* Owner-only; the wait is `park.rs`'s protocol.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use mio::Events;

use super::Remote;
use super::clock::{self, NEVER};
use super::core::LoopCore;
use super::selector::Batch;
use crate::task::{ErrorContext, Event, ReadyHandle, budget};

/// The longest wait, as in asyncio: a day.
const MAXIMUM_SELECT_TIMEOUT: u64 = 86_400 * 1_000_000_000;

/// How many events a wait takes, and how many a look in passing: few, so that what they wake cannot bury what is queued.
pub(super) const EVENTS_PARKING: usize = 1024;
pub(super) const EVENTS_LOOKING: usize = 64;

/// The least time between two waits that end for a timer, in nanoseconds.
const TIMER_SPACING: u64 = 500_000;

/// The span between two looks at the clock that a turn aims at, in nanoseconds.
const STRIDE_AIM: u64 = 10_000;
const STRIDE_MAX: u32 = 16;
/// The same for a loop that has timers or descriptors to come back to: what a stride learned from quick handles costs when slow
/// ones follow.
const STRIDE_MAX_WAITED_FOR: u32 = 2;

/// What a turn may cost before the loop looks at the world again.
#[derive(Clone, Copy)]
pub(crate) struct TurnLimit {
    pub(crate) handles: usize,
    pub(crate) nanos: u64,
}

impl TurnLimit {
    /// asyncio's: all that was ready when the turn began.
    pub(crate) const NONE: TurnLimit = TurnLimit { handles: usize::MAX, nanos: u64::MAX };
}

impl LoopCore {
    // ---- the turn --------------------------------------------------------------------------------------------------

    /// Fetches what others have posted.
    #[inline]
    pub(crate) fn take_posts(&self) {
        if !self.remote.inbox().is_empty() {
            self.take_posts_now();
        }
    }

    #[cold]
    fn take_posts_now(&self) {
        let n = self.ready.take_posts(self.remote.inbox());
        self.remote.stats().inbox_pulls.add(n as u64);
    }

    /// Looks at the selector without waiting.
    pub(crate) fn look(&self) -> Batch {
        let Some(mut events) = self.looking.borrow_mut().take() else {
            return Batch::default();
        };
        let looked = self.remote.selector().lock().look(&mut events);
        let batch = self.dispatch(looked, &events);
        *self.looking.borrow_mut() = Some(events);
        batch
    }

    /// Looks at the selector without waiting, for everything that is ready: a loop without peers does so every turn.
    fn look_at_all(&self) {
        let (looked, events) = self.with_events(|events| self.remote.selector().lock().look(events));
        self.dispatch_wait(looked, events);
    }

    /// Looks at a peer's selector, if nobody else does; what is ready is woken from here.
    pub(crate) fn look_at(&self, peer: &Remote) -> Option<Batch> {
        let mut events = self.looking.borrow_mut().take()?;
        let looked = peer.selector().try_lock().map(|mut poll| poll.look(&mut events));
        let batch = looked.map(|looked| match looked {
            Ok(()) => peer.selector().dispatch(&events, |waker| self.remote.wake(waker)),
            Err(_) => Batch::default(),
        });
        *self.looking.borrow_mut() = Some(events);
        batch
    }

    /// Lends the buffer for a wait.
    pub(crate) fn with_events<R>(&self, wait: impl FnOnce(&mut Events) -> R) -> (R, Events) {
        let room = EVENTS_PARKING.max(self.remote.selector().sources() + 8);
        let kept = self.parking.borrow_mut().take().filter(|events| events.capacity() >= room);
        let mut events = kept.unwrap_or_else(|| Events::with_capacity(room.next_power_of_two()));
        events.clear();
        (wait(&mut events), events)
    }

    /// Takes the buffer back, and hands its events on.
    pub(crate) fn dispatch_wait(&self, waited: std::io::Result<()>, events: Events) -> Batch {
        let batch = self.dispatch(waited, &events);
        *self.parking.borrow_mut() = Some(events);
        batch
    }

    fn dispatch(&self, polled: std::io::Result<()>, events: &Events) -> Batch {
        let stats = self.remote.stats();
        stats.selects.add(1);
        if let Err(error) = polled {
            // The kernel refuses to wait (out of memory): say so, and do not spin.
            self.remote.report(&ErrorContext::new(format!("cannot wait for events: {error}")));
            std::thread::sleep(Duration::from_millis(10));
            return Batch::default();
        }
        let batch = self.remote.selector().dispatch(events, |waker| self.remote.wake(waker));
        stats.events.add(batch.events as u64);
        batch
    }

    /// Wakes what is due.
    pub(crate) fn expire_timers(&self) {
        let timers = self.remote.timers();
        if timers.any_own() {
            timers.expire_own(self.read_clock(), |waker| self.remote.wake(waker));
        }
    }

    /// Runs what is ready now, but not what that makes ready, within `limit`. `root` is called when the root future was
    /// woken, and breaks when it is done.
    #[inline]
    pub(crate) fn run_ready(&self, limit: TurnLimit, root: &mut dyn FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
        self.in_turn.set(true);
        let flow = self.run_handles(limit, root);
        self.in_turn.set(false);
        drop(self.remote.timers().end_turn());
        flow
    }

    #[inline]
    fn run_handles(&self, limit: TurnLimit, root: &mut dyn FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
        let mut quota = self.ready.quota();
        let n = quota.total().min(limit.handles);
        let stats = self.remote.stats();
        stats.turns.add(1);
        stats.ready_depth.set(n as u64);
        let watched = self.remote.slow_nanos() > 0 || self.remote.observer().is_on();
        let mut deadline = None;
        for _ in 0..n {
            // A thief may have been here since the count.
            let Some(handle) = self.ready.pop(&mut quota) else { break };
            budget::refill();
            let flow = match watched {
                false => self.run_handle(handle, root),
                true => self.run_watched(handle, root),
            };
            stats.handles_run.add(1);
            flow?;
            if self.clock_is_due() {
                let now = self.now.get();
                let deadline = *deadline.get_or_insert(now.saturating_add(limit.nanos));
                if self.read_clock() >= deadline {
                    break;
                }
            }
        }
        ControlFlow::Continue(())
    }

    #[inline]
    fn run_handle(&self, handle: ReadyHandle, root: &mut dyn FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
        handle.run();
        if self.root_due.take() { root() } else { ControlFlow::Continue(()) }
    }

    /// Runs a handle with an instrument, or in debug mode, which reports one that keeps the loop from everything else.
    #[cold]
    fn run_watched(&self, handle: ReadyHandle, root: &mut dyn FnMut() -> ControlFlow<()>) -> ControlFlow<()> {
        let witness = handle.witness();
        let (on, work) = (self.remote.index(), witness.work());
        let debug = self.remote.slow_nanos() > 0;
        self.remote.observer().tell(|| Event::HandleStarted { on, work });
        if debug {
            self.remote.set_inside(Some(handle.witness()));
        }
        let began = Instant::now();
        let flow = self.run_handle(handle, root);
        let took = began.elapsed();
        if debug {
            self.remote.set_inside(None);
        }
        self.remote.observer().tell(|| Event::HandleEnded { on, work, took });
        let slow = self.remote.slow_nanos();
        if slow > 0 && took.as_nanos() >= u128::from(slow) {
            let mut context = witness.context("");
            let what = context.task_name().unwrap_or("callback");
            context.message = format!("Executing <{what}> took {:.3} seconds", took.as_secs_f64());
            context.loop_index = Some(self.remote.index());
            self.remote.report(&context);
        }
        flow
    }

    /// One turn of a loop without peers. `gift`: whether something else than a post asks it not to wait; whoever makes that
    /// true unparks the loop afterwards.
    pub(crate) fn turn(
        &self,
        longest_wait: Option<Duration>,
        gift: &dyn Fn() -> bool,
        root: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.take_posts();
        let longest_wait = longest_wait.map_or(u64::MAX, |wait| u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX));
        if self.ready.is_empty() && !self.stopping.get() && longest_wait > 0 {
            self.wait(longest_wait, gift);
        } else if self.remote.selector().sources() > 0 {
            self.look_at_all();
        }
        self.expire_timers();
        self.run_ready(TurnLimit::NONE, root)
    }

    /// Looks around for up to `span`, as long as there is nothing to do and no `gift`.
    pub(crate) fn spin(&self, span: Duration, gift: impl Fn() -> bool) {
        if span.is_zero() || !self.ready.is_empty() {
            return;
        }
        let until = self.read_clock().saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        while self.ready.is_empty() && !gift() && self.read_clock() < until {
            std::hint::spin_loop();
            self.take_posts();
            if self.remote.selector().sources() > 0 {
                self.look();
            }
            self.expire_timers();
        }
    }

    /// Sleeps until an event, a timer or a post.
    fn wait(&self, longest: u64, gift: &dyn Fn() -> bool) {
        let remote = &self.remote;
        let on = remote.index();
        remote.observer().tell(|| Event::Parked { on });
        let (waited, events) = self.with_events(|events| {
            let mut poll = remote.selector().lock();
            remote.parker().publish();
            // After SleepFence: all that others can give this loop; and what the instrument has made ready.
            if !remote.inbox().is_empty() || !self.ready.is_empty() || gift() {
                remote.parker().retract();
                return poll.look(events);
            }
            let now = self.read_clock();
            let deadline = select_deadline(self.spaced(remote.timers().next_own()), now, longest);
            remote.stats().parks.add(1);
            let waited = poll.wait(events, deadline);
            remote.parker().retract();
            waited
        });
        remote.observer().tell(|| Event::Woke { on });
        self.read_clock();
        self.note_wait();
        // What was posted during the wait came before what the wait found.
        self.take_posts();
        self.dispatch_wait(waited, events);
    }

    // ---- waking for timers -----------------------------------------------------------------------------------------

    /// The earliest timer's deadline, put off if the last wait ended for a timer just now: many timers close together are served
    /// together, every 500 us, instead of each at the price of a wake-up. 0 is at once.
    pub(crate) fn spaced(&self, deadline: u64) -> u64 {
        if deadline == 0 {
            return 0;
        }
        deadline.max(self.woke_for_timer.get().saturating_add(TIMER_SPACING))
    }

    /// A timer is due already when it is armed: the next wait is of no length, as in asyncio.
    pub(super) fn put_nothing_off(&self) {
        self.woke_for_timer.set(0);
    }

    /// After a wait: whether it was a timer that ended it.
    pub(crate) fn note_wait(&self) {
        if self.remote.timers().next_hint() <= self.now.get() {
            self.woke_for_timer.set(self.now.get());
        }
    }

    // ---- the clock -------------------------------------------------------------------------------------------------

    /// Whether it looks after something for others, so that it has to read the clock as often as for events of its own.
    pub(crate) fn set_waited_for(&self, waited_for: bool) {
        self.waited_for.set(waited_for);
    }

    /// When the clock was last read.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// Reads the clock, and measures the handles that ran since the last time.
    #[inline(never)]
    pub(crate) fn read_clock(&self) -> u64 {
        let now = clock::now();
        let handles = self.since.take();
        if handles > 0 {
            self.measure(now.saturating_sub(self.now.get()), handles);
        }
        self.now.set(now);
        self.remote.stats().seen_at.set(now);
        now
    }

    fn measure(&self, took: u64, handles: u32) {
        let stats = self.remote.stats();
        stats.longest_handle_nanos.raise(took);
        let each = took / u64::from(handles);
        let known = stats.handle_nanos.get();
        stats.handle_nanos.set(if known == 0 { each } else { (known * 7 + each) / 8 });
        let waited_for =
            self.waited_for.get() || self.remote.timers().next_hint() != NEVER || self.remote.selector().sources() > 0;
        let most = if waited_for { STRIDE_MAX_WAITED_FOR } else { STRIDE_MAX };
        let stride = (STRIDE_AIM / each.max(1)).clamp(1, u64::from(most)) as u32;
        self.stride.set(stride.min(self.stride.get() * 2));
    }

    /// After each handle: often enough to notice a long turn, seldom enough not to be felt.
    fn clock_is_due(&self) -> bool {
        self.since.set(self.since.get() + 1);
        self.since.get() >= self.stride.get()
    }
}

/// When a wait ends: at the earliest timer, at most a day or `longest` away.
fn select_deadline(next: u64, now: u64, longest: u64) -> u64 {
    if next == NEVER && longest == u64::MAX {
        return NEVER;
    }
    next.min(now.saturating_add(longest.min(MAXIMUM_SELECT_TIMEOUT)))
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use super::*;

    /// S3-17: the selector's timeout rule.
    #[test]
    fn s3_17_timeout_rule() {
        assert_eq!(select_deadline(NEVER, 5, u64::MAX), NEVER, "nothing scheduled: for ever");
        assert_eq!(select_deadline(7, 5, u64::MAX), 7, "the earliest timer");
        assert_eq!(select_deadline(3, 5, u64::MAX), 3, "overdue: in the past, so at once");
        let far = 5 + 2 * MAXIMUM_SELECT_TIMEOUT;
        assert_eq!(select_deadline(far, 5, u64::MAX), 5 + MAXIMUM_SELECT_TIMEOUT, "at most a day");
        assert_eq!(select_deadline(far, 5, 10), 15, "at most what the caller allows");
        assert_eq!(select_deadline(NEVER, 5, 10), 15);
    }
}
