//! The half of a loop that its own thread owns: what is ready, and the turn.
//!
//! *Invariant.* This is the only place where handles are run; everything else only makes ready. A turn is asyncio's
//! `_run_once`: select, events, timers, then as many handles as were ready at that point. No borrow is held across user
//! code. One `LoopCore` is one tenancy: loop 0 gets a new one with each driver, and an old one is closed for good.
//!
//! *Threads.* One. *Ordering.* Owner-only; what crosses threads is in `Remote`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Events;

use super::clock::{self, NEVER};
use super::ready::Ready;
use super::remote::PinnedHome;
use super::selector::Batch;
use super::timers::Timer;
use super::watch::Watches;
use super::Remote;
use crate::primitive::deque::Worker;
use crate::task::{
    budget,
    ErrorContext, Handle, Kind, NewTask, Once, ReadyHandle, Task, TimerHandle, spawn_cell,
};

/// The longest wait, as in asyncio: a day.
const MAXIMUM_SELECT_TIMEOUT: u64 = 86_400 * 1_000_000_000;

/// How many events a wait takes, and how many a look in passing: few, so that what they wake cannot bury what is queued.
const EVENTS_PARKING: usize = 1024;
const EVENTS_LOOKING: usize = 64;

pub(crate) struct LoopCore {
    remote: Arc<Remote>,
    /// Where its timers and watched descriptors live: its own remote, or for a guest that of a loop with a selector.
    devices: Arc<Remote>,
    ready: Ready,
    /// Which runtime this loop belongs to, as an address; 0 for a loop on its own.
    fleet: usize,
    closed: Cell<bool>,
    stopping: Cell<bool>,
    /// The root future of `block_on` or `run_until_complete` was woken.
    root_due: Cell<bool>,
    /// Events of a wait and of a look; taken out while in use.
    parking: RefCell<Option<Events>>,
    looking: RefCell<Option<Events>>,
    watches: RefCell<Watches>,
    /// When the clock was last read, in nanoseconds.
    now: Cell<u64>,
    /// How many handles to run before the next look at the clock, and how many were since the last.
    stride: Cell<u32>,
    since: Cell<u32>,
    /// What a handle takes on average, in nanoseconds; 0: not known.
    handle_nanos: Cell<u64>,
}

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
    pub(crate) fn new(
        remote: Arc<Remote>,
        stealable: Option<Worker<ReadyHandle>>,
        fleet: usize,
    ) -> Rc<Self> {
        Self::with_devices(remote.clone(), remote, stealable, fleet)
    }

    /// A guest: its handles run on this thread, its timers and descriptors are looked after by `devices`' loop.
    pub(crate) fn new_guest(remote: Arc<Remote>, devices: Arc<Remote>, fleet: usize) -> Rc<Self> {
        Self::with_devices(remote, devices, None, fleet)
    }

    fn with_devices(
        remote: Arc<Remote>,
        devices: Arc<Remote>,
        stealable: Option<Worker<ReadyHandle>>,
        fleet: usize,
    ) -> Rc<Self> {
        Rc::new(Self {
            remote,
            devices,
            ready: Ready::new(stealable),
            fleet,
            closed: Cell::new(false),
            stopping: Cell::new(false),
            root_due: Cell::new(false),
            parking: RefCell::new(Some(Events::with_capacity(EVENTS_PARKING))),
            looking: RefCell::new(Some(Events::with_capacity(EVENTS_LOOKING))),
            watches: RefCell::default(),
            now: Cell::new(clock::now()),
            stride: Cell::new(1),
            since: Cell::new(0),
            handle_nanos: Cell::new(0),
        })
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        &self.remote
    }
    pub(super) fn devices(&self) -> &Arc<Remote> {
        &self.devices
    }
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }
    pub(crate) fn fleet(&self) -> usize {
        self.fleet
    }
    pub(super) fn watches(&self) -> &RefCell<Watches> {
        &self.watches
    }
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }
    /// Whether `stop` was called; forgets it.
    pub(crate) fn take_stop(&self) -> bool {
        self.stopping.take()
    }
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }
    pub(crate) fn read_clock(&self) -> u64 {
        self.now.set(clock::now());
        self.now.get()
    }
    /// What the queued handles are likely to take, in nanoseconds.
    pub(crate) fn backlog_nanos(&self, handles: usize) -> u64 {
        self.handle_nanos.get().saturating_mul(handles as u64)
    }

    // ---- scheduling ------------------------------------------------------------------------------------------------

    #[track_caller]
    fn new_callback(&self, queued: bool, location: &'static Location<'static>) -> NewTask {
        assert!(!self.is_closed(), "event loop is closed");
        NewTask {
            kind: Kind::Callback,
            pinned: true,
            queued,
            unbuilt: false,
            name: None,
            location,
        }
    }

    pub(crate) fn home(&self) -> PinnedHome {
        PinnedHome::new(self.remote.clone())
    }

    #[track_caller]
    pub(crate) fn call_soon(&self, f: impl FnOnce() + 'static) -> Handle {
        let new = self.new_callback(true, Location::caller());
        let task = spawn_cell(Once::new(f), self.home(), new);
        self.ready.push_pinned(task.into_ready());
        task.into_handle()
    }

    #[track_caller]
    pub(crate) fn call_at(&self, when: Instant, f: impl FnOnce() + 'static) -> TimerHandle {
        let new = self.new_callback(false, Location::caller());
        // The timer belongs to the closure, so that it goes with it, run or cancelled.
        let timer = Rc::new(Cell::new(None));
        let own = timer.clone();
        let fire = move || {
            drop(own.take());
            f();
        };
        let task = spawn_cell(Once::new(fire), self.home(), new);
        let handle = task.into_handle();
        if task.bind(&self.home()) {
            timer.set(Some(Timer::arm(&self.devices, when, task.waker())));
        } else {
            handle.cancel();
        }
        TimerHandle::new(handle, when)
    }

    /// Spawns a future that stays on this loop.
    #[track_caller]
    pub(crate) fn spawn_local<F>(
        &self,
        future: F,
        name: Option<String>,
        location: &'static Location<'static>,
    ) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        assert!(!self.is_closed(), "event loop is closed");
        let task = self.new_pinned(future, true, name, location);
        if let Some(task) = task.1 {
            self.ready.push_pinned(task);
        }
        task.0
    }

    /// A pinned task, and its ready handle if it is `queued` and the loop still takes tasks.
    fn new_pinned<F>(
        &self,
        future: F,
        queued: bool,
        name: Option<String>,
        location: &'static Location<'static>,
    ) -> (Task<F::Output>, Option<ReadyHandle>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let new =
            NewTask { kind: Kind::Task, pinned: true, queued, unbuilt: false, name, location };
        let raw = spawn_cell(future, self.home(), new);
        let bound = raw.bind(&self.home());
        let handle = queued.then(|| raw.into_ready());
        let task = Task::new(raw);
        if bound {
            return (task, handle);
        }
        // Closing: the future is dropped and the task is cancelled.
        match handle {
            Some(handle) => drop(handle),
            None => _ = task.cancel(),
        }
        (task, None)
    }

    /// A pinned task that does not start by itself; `start` gets a waker for it.
    pub(super) fn spawn_idle<F>(&self, future: F, location: &'static Location<'static>) -> Idle
    where
        F: Future<Output = ()> + 'static,
    {
        let (task, _) = self.new_pinned(future, false, None, location);
        let waker = task.waker();
        Idle { task, waker }
    }

    /// A handle that, whenever it runs, has the driver poll its root future; and the waker that queues it.
    pub(crate) fn spawn_root(self: &Rc<Self>, location: &'static Location<'static>) -> Idle {
        let core = Rc::downgrade(self);
        self.spawn_idle(
            std::future::poll_fn(move |_| {
                if let Some(core) = core.upgrade() {
                    core.root_due.set(true);
                }
                std::task::Poll::Pending
            }),
            location,
        )
    }

    // ---- the turn --------------------------------------------------------------------------------------------------

    /// Fetches what others have posted.
    pub(crate) fn take_posts(&self) {
        let inbox = self.remote.inbox();
        if !inbox.is_empty() {
            let n = self.ready.take_posts(inbox);
            self.remote.stats().inbox_pulls.add(n as u64);
        }
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
        if self.remote.timers().next_hint() != NEVER {
            let now = self.read_clock();
            self.remote.timers().expire(now, |waker| self.remote.wake(waker));
        }
    }

    /// Runs what is ready now, but not what that makes ready, within `limit`. `root` is called when the root future was
    /// woken, and breaks when it is done.
    pub(crate) fn run_ready(
        &self,
        limit: TurnLimit,
        mut root: impl FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let n = self.ready.len().min(limit.handles);
        let stats = self.remote.stats();
        stats.turns.add(1);
        stats.ready_depth.set(n as u64);
        let slow = self.remote.slow_nanos();
        let mut meter = Meter::new(self);
        for _ in 0..n {
            // A thief may have been here since the count.
            let Some(handle) = self.ready.pop() else { break };
            budget::refill();
            if slow == 0 {
                handle.run();
            } else {
                self.run_timed(handle, slow);
            }
            stats.handles_run.add(1);
            if self.root_due.take() {
                root()?;
            }
            if meter.passed(limit.nanos) {
                break;
            }
        }
        ControlFlow::Continue(())
    }

    /// Debug mode: reports a handle that keeps the loop from everything else.
    #[cold]
    fn run_timed(&self, handle: ReadyHandle, slow: u64) {
        let mut context = handle.context();
        let began = Instant::now();
        handle.run();
        let took = began.elapsed();
        if took.as_nanos() >= u128::from(slow) {
            let what = context.task_name().unwrap_or("callback");
            context.message = format!("Executing <{what}> took {:.3} seconds", took.as_secs_f64());
            context.loop_index = Some(self.remote.index());
            self.remote.report(&context);
        }
    }

    /// One turn of a loop without peers. `gift`: whether something else than a post asks it not to wait; whoever makes that
    /// true unparks the loop afterwards.
    pub(crate) fn turn(
        &self,
        longest_wait: Option<Duration>,
        gift: impl Fn() -> bool,
        root: impl FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.take_posts();
        let longest_wait = longest_wait.map_or(u64::MAX, |wait| wait.as_nanos() as u64);
        if self.ready.is_empty() && !self.stopping.get() && longest_wait > 0 {
            self.wait(longest_wait, gift);
        } else if self.remote.selector().sources() > 0 {
            self.look_at_all();
        }
        self.expire_timers();
        self.run_ready(TurnLimit::NONE, root)
    }

    /// Sleeps until an event, a timer or a post.
    fn wait(&self, longest: u64, gift: impl Fn() -> bool) {
        let remote = &self.remote;
        let (waited, events) = self.with_events(|events| {
            let mut poll = remote.selector().lock();
            remote.parker().publish();
            // After SleepFence: all that others can give this loop.
            if !remote.inbox().is_empty() || gift() {
                remote.parker().retract();
                return poll.look(events);
            }
            let now = self.read_clock();
            let deadline = select_deadline(remote.timers().next(), now, longest);
            remote.stats().parks.add(1);
            let waited = poll.wait(events, deadline);
            remote.parker().retract();
            waited
        });
        self.read_clock();
        // What was posted during the wait came before what the wait found.
        self.take_posts();
        self.dispatch_wait(waited, events);
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Refuses new work through this handle from now on, as "event loop is closed".
    pub(crate) fn close(&self) {
        self.closed.set(true);
    }

    /// Cancels and drops everything pinned here, until nothing new appears. Returns what may travel. The loop is still
    /// current, so that destructors find it.
    pub(crate) fn drop_pinned(&self) -> VecDeque<ReadyHandle> {
        let mut travellers = VecDeque::new();
        let old = std::mem::take(&mut *self.watches.borrow_mut());
        old.close(&self.devices);
        loop {
            let mut any = self.remote.pinned().cancel_all();
            self.take_posts();
            while let Some(handle) = self.ready.pop() {
                if handle.may_travel() {
                    travellers.push_back(handle);
                } else {
                    any = true;
                    drop(handle);
                }
            }
            let old = std::mem::take(&mut *self.watches.borrow_mut());
            old.close(&self.devices);
            if self.remote.pinned().is_empty() && !any {
                return travellers;
            }
            if !any {
                // A waker on another thread has taken the right to queue a pinned task and is about to post it.
                std::thread::yield_now();
            }
        }
    }
}

/// When a wait ends: at the earliest timer, at most a day or `longest` away.
fn select_deadline(next: u64, now: u64, longest: u64) -> u64 {
    if next == NEVER && longest == u64::MAX {
        return NEVER;
    }
    next.min(now.saturating_add(longest.min(MAXIMUM_SELECT_TIMEOUT)))
}

/// A task that runs only when its waker is woken.
pub(crate) struct Idle {
    pub(crate) task: Task<()>,
    pub(crate) waker: std::task::Waker,
}

/// Reads the clock every so many handles: often enough to notice a long turn, seldom enough not to be felt.
struct Meter<'a> {
    core: &'a LoopCore,
    began: u64,
}

/// The span that a stride aims at, in nanoseconds.
const STRIDE_AIM: u64 = 10_000;
const STRIDE_MAX: u32 = 64;

impl<'a> Meter<'a> {
    fn new(core: &'a LoopCore) -> Self {
        Self { core, began: 0 }
    }

    /// After each handle; true once the turn has taken `limit` nanoseconds.
    fn passed(&mut self, limit: u64) -> bool {
        let since = self.core.since.get() + 1;
        self.core.since.set(since);
        if since < self.core.stride.get() {
            return false;
        }
        self.core.since.set(0);
        let before = self.core.now();
        let now = self.core.read_clock();
        if self.began == 0 {
            self.began = before;
        }
        let took = now.saturating_sub(before);
        let each = took / u64::from(since);
        self.core.remote.stats().longest_handle_nanos.raise(took);
        let known = self.core.handle_nanos.get();
        self.core.handle_nanos.set(if known == 0 { each } else { (known * 7 + each) / 8 });
        let stride = (STRIDE_AIM / each.max(1)).clamp(1, u64::from(STRIDE_MAX));
        self.core.stride.set((stride as u32).min(self.core.stride.get() * 2));
        now.saturating_sub(self.began) >= limit
    }
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
