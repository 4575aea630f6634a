//! The half of a loop that its own thread owns: what is ready, and the turn.
//!
//! *Invariant.* No borrow is held across user code. One `LoopCore` is one tenancy: loop 0 gets a new one with each driver,
//! and an old one is closed for good. `turn.rs` has what it does in a turn.
//!
//! *Threads.* One. *Ordering.* Owner-only; what crosses threads is in `Remote`.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::panic::Location;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Instant;

use mio::Events;

use super::Remote;
use super::clock;
use super::ready::Ready;
use super::remote::PinnedHome;
use super::timers::Timer;
use super::turn::{EVENTS_LOOKING, EVENTS_PARKING};
use super::watch::Watches;
use crate::primitive::deque::Worker;
use crate::primitive::{Bias, BiasedArc};
use crate::task::{
    Builder, Event, Handle, Id, Kind, NewTask, Once, Outcome, ReadyHandle, Task, TimerHandle, launch_waiting,
    spawn_cell, try_run_eagerly,
};

/// What a room above gives to a loop on its own, and what ends with that loop.
pub(crate) trait Companion: Any {
    /// The loop closes. It is still the thread's current one.
    fn close(&self);
}

pub(crate) struct LoopCore {
    pub(super) remote: BiasedArc<Remote>,
    /// The same as a scheduler.
    home: PinnedHome,
    /// Where its timers and watched descriptors live: its own remote, or for a guest that of a loop with a selector.
    pub(super) devices: BiasedArc<Remote>,
    pub(super) ready: Ready,
    /// Which runtime this loop belongs to, as an address; 0 for a loop on its own.
    fleet: usize,
    pub(super) closed: Cell<bool>,
    /// While the loop is not closed, its thread counts the references to `remote` without atomic operations.
    bias: Cell<Option<Bias<Remote>>>,
    /// It is running handles.
    pub(super) in_turn: Cell<bool>,
    pub(super) stopping: Cell<bool>,
    /// The root future of `block_on` or `run_until_complete` was woken.
    pub(super) root_due: Cell<bool>,
    /// Events of a wait and of a look; taken out while in use.
    pub(super) parking: RefCell<Option<Events>>,
    pub(super) looking: RefCell<Option<Events>>,
    watches: RefCell<Watches>,
    /// When the clock was last read, in nanoseconds.
    pub(super) now: Cell<u64>,
    /// When a wait last ended for a timer.
    pub(super) woke_for_timer: Cell<u64>,
    /// How many handles to run before the next look at the clock, and how many were since the last.
    pub(super) stride: Cell<u32>,
    pub(super) since: Cell<u32>,
    /// What it looks after for others waits for it to come back.
    pub(super) waited_for: Cell<bool>,
    /// The root future's id as a task.
    root: Cell<Option<Id>>,
    companion: OnceCell<Box<dyn Companion>>,
}

impl LoopCore {
    pub(crate) fn new(remote: BiasedArc<Remote>, stealable: Option<Worker<ReadyHandle>>, fleet: usize) -> Rc<Self> {
        Self::with_devices(remote.clone(), remote, stealable, fleet)
    }

    /// A guest: its handles run on this thread, its timers and descriptors are looked after by `devices`' loop.
    pub(crate) fn new_guest(remote: BiasedArc<Remote>, devices: BiasedArc<Remote>, fleet: usize) -> Rc<Self> {
        Self::with_devices(remote, devices, None, fleet)
    }

    fn with_devices(
        remote: BiasedArc<Remote>,
        devices: BiasedArc<Remote>,
        stealable: Option<Worker<ReadyHandle>>,
        fleet: usize,
    ) -> Rc<Self> {
        remote.take_over();
        Rc::new(Self {
            bias: Cell::new(Some(BiasedArc::bias(&remote))),
            home: PinnedHome::new(remote.clone()),
            remote,
            devices,
            ready: Ready::new(stealable),
            fleet,
            closed: Cell::new(false),
            in_turn: Cell::new(false),
            stopping: Cell::new(false),
            root_due: Cell::new(false),
            parking: RefCell::new(Some(Events::with_capacity(EVENTS_PARKING))),
            looking: RefCell::new(Some(Events::with_capacity(EVENTS_LOOKING))),
            watches: RefCell::default(),
            now: Cell::new(clock::now()),
            woke_for_timer: Cell::new(0),
            stride: Cell::new(1),
            since: Cell::new(0),
            waited_for: Cell::new(false),
            root: Cell::new(None),
            companion: OnceCell::new(),
        })
    }

    pub(crate) fn remote(&self) -> &BiasedArc<Remote> {
        &self.remote
    }
    pub(super) fn devices(&self) -> &BiasedArc<Remote> {
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
    pub(super) fn is_in_turn(&self) -> bool {
        self.in_turn.get()
    }
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get()
    }
    /// Made at the first call, which says of which type it is.
    pub(crate) fn companion<C: Companion>(&self, make: impl FnOnce() -> C) -> &C {
        let companion: &dyn Any = &**self.companion.get_or_init(|| Box::new(make()));
        companion.downcast_ref().expect("a loop has one companion")
    }
    pub(super) fn close_companion(&self) {
        if let Some(companion) = self.companion.get() {
            companion.close();
        }
    }
    pub(crate) fn stop(&self) {
        self.stopping.set(true);
    }
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
    /// Whether `stop` was called; forgets it.
    pub(crate) fn take_stop(&self) -> bool {
        self.stopping.take()
    }

    // ---- scheduling ------------------------------------------------------------------------------------------------

    #[inline]
    #[track_caller]
    fn assert_open(&self) {
        assert!(!self.is_closed(), "event loop is closed");
    }

    #[inline]
    pub(crate) fn home(&self) -> PinnedHome {
        PinnedHome::new(self.remote.clone())
    }

    #[track_caller]
    pub(crate) fn call_soon(&self, f: impl FnOnce() + 'static) -> Handle {
        self.assert_open();
        let (kind, location) = (Kind::Callback, Location::caller());
        let new = NewTask { kind, pinned: true, queued: true, unbuilt: false, name: None, location };
        let task = spawn_cell(Once::new(f), self.home(), new);
        self.push(task.into_ready());
        task.into_handle()
    }

    /// `now`: the time, if the caller has just looked.
    #[track_caller]
    pub(crate) fn call_at(&self, when: Instant, now: Option<Instant>, f: impl FnOnce() + 'static) -> TimerHandle {
        self.assert_open();
        if when <= now.unwrap_or_else(Instant::now) {
            self.put_nothing_off();
        }
        let task = launch_waiting(f, self.home(), Location::caller(), |waker| self.arm(when, waker));
        TimerHandle::new(task.into_handle(), when)
    }

    /// Arms a timer where this loop's are; in the place of one that was just dropped, if they are its own.
    fn arm(&self, when: Instant, waker: Waker) -> Timer {
        if self.is_in_turn() && BiasedArc::ptr_eq(&self.remote, &self.devices) {
            Timer::arm_in_turn(&self.devices, when, waker)
        } else {
            Timer::arm(self.devices.clone(), when, waker)
        }
    }

    /// Spawns a future that stays on this loop, which is the thread's current one if the task is to be eager.
    #[track_caller]
    pub(crate) fn spawn_local<F>(
        &self,
        future: F,
        options: Builder,
        location: &'static Location<'static>,
    ) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.assert_open();
        let (task, handle) = self.new_pinned(future, Kind::Task, true, options.name, location);
        match handle {
            Some(handle) if options.eager => {
                if let Err(handle) = try_run_eagerly(handle) {
                    self.push(handle);
                }
            }
            Some(handle) => self.push(handle),
            None => {}
        }
        task
    }

    #[inline]
    fn push(&self, handle: ReadyHandle) {
        handle.tell_queued();
        self.append(handle);
    }

    /// Queues a pinned handle on this thread, after all that was posted to the loop before. What another thread posted, and then
    /// told this one of, is seen by the look at the inbox, though that is Relaxed: its length was written before the telling.
    #[inline]
    pub(super) fn append(&self, handle: ReadyHandle) {
        self.take_posts();
        self.ready.push_pinned(handle);
    }

    /// The same for a handle that peers may steal, if there are any: a loop without peers has one FIFO.
    #[inline]
    pub(crate) fn push_stealable(&self, handle: ReadyHandle) {
        if let Err(handle) = self.ready.push_stealable(handle) {
            self.append(handle);
        }
    }

    /// A pinned task, and its ready handle if it is `queued` and the loop still takes tasks.
    fn new_pinned<F>(
        &self,
        future: F,
        kind: Kind,
        queued: bool,
        name: Option<String>,
        location: &'static Location<'static>,
    ) -> (Task<F::Output>, Option<ReadyHandle>)
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let new = NewTask { kind, pinned: true, queued, unbuilt: false, name, location };
        let raw = spawn_cell(future, self.home(), new);
        let bound = raw.bind(&self.home);
        raw.tell_spawned();
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

    /// What calls a reader's callback: does not start by itself.
    pub(super) fn spawn_reader<F>(&self, future: F, location: &'static Location<'static>) -> Idle
    where
        F: Future<Output = ()> + 'static,
    {
        let (task, _) = self.new_pinned(future, Kind::Watch, false, None, location);
        let waker = task.waker();
        Idle { task, waker }
    }

    /// A handle that, whenever it runs, has the driver poll its root future; and the waker that queues it. It is queued.
    pub(crate) fn spawn_root(self: &Rc<Self>, location: &'static Location<'static>) -> Idle {
        let core = Rc::downgrade(self);
        let due = std::future::poll_fn(move |_| {
            if let Some(core) = core.upgrade() {
                core.root_due.set(true);
            }
            Poll::Pending
        });
        let (task, handle) = self.new_pinned(due, Kind::Root, true, None, location);
        self.root.set(Some(task.id()));
        if let Some(handle) = handle {
            self.push(handle);
        }
        self.tell_of_root(|task| Event::CallbackAdded { task, number: 1 });
        let waker = task.waker();
        Idle { task, waker }
    }

    fn tell_of_root(&self, event: impl FnOnce(Id) -> Event) {
        if let Some(task) = self.root.get() {
            self.remote.observer().tell(|| event(task));
        }
    }

    /// The root has ended, or is given up.
    pub(crate) fn tell_root_ended(&self, outcome: Outcome) {
        self.tell_of_root(|task| Event::TaskEnded { task, outcome });
    }

    /// What ends the run when the root has ended takes place: a callback, or with several loops a step of the driver.
    pub(crate) fn tell_root_callback(&self) {
        self.tell_of_root(|task| Event::CallbackRun { task, number: 1 });
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    /// Refuses new work through this handle from now on, as "event loop is closed".
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.give_up();
    }

    /// This thread does not count as the one that drives the loop any more.
    fn give_up(&self) {
        self.remote.give_up();
        drop(self.bias.take());
    }

    /// Refuses posts from now on; returns what was there. This thread must have given the loop up before: what is refused is dropped
    /// by its poster, while this thread may have its handle (`State::drop_handle`).
    pub(crate) fn close_inbox(&self) -> VecDeque<ReadyHandle> {
        self.give_up();
        self.remote.inbox().close()
    }

    /// Cancels and drops everything pinned here, until nothing new appears. Returns what else was in the pinned FIFO. What can
    /// be stolen stays within the thieves' reach meanwhile: a destructor may take its time. The loop is still
    /// current, so that destructors find it.
    pub(crate) fn drop_pinned(&self) -> VecDeque<ReadyHandle> {
        let mut travellers = VecDeque::new();
        let old = std::mem::take(&mut *self.watches.borrow_mut());
        old.close(&self.devices);
        loop {
            let mut any = self.remote.pinned().cancel_all();
            self.take_posts();
            while let Some(handle) = self.ready.pop_pinned() {
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

/// A task that runs only when its waker is woken.
pub(crate) struct Idle {
    pub(crate) task: Task<()>,
    pub(crate) waker: Waker,
}
