//! What all models need: the bounds, a kernel's wake-up, a waker, and a place for tasks to be queued in.
//!
//! *Invariant.* Counting is done with std's atomics, outside of the model, so that it orders and explores nothing. A lost
//! wake-up shows as a deadlock, which loom reports; a cell freed late or never as a leaked `loom::sync::Arc`; freed too
//! early or shared wrongly as a race on one of loom's cells.
//!
//! *Threads.* Any. *Ordering.* [`Edge`] orders the waker before the woken, as a write and a read of an eventfd do.

use std::collections::VecDeque;
use std::panic::Location;
use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdUsize, Ordering::Relaxed};
use std::task::{Wake, Waker};

use loom::sync::atomic::AtomicU32;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle, ThreadId};

use crate::event_loop::park::Unblock;
use crate::task::{Callbacks, ErrorContext, Kind, LiveList, NewTask, Observer, ReadyHandle, Schedule};

/// Explores `model`: every interleaving with at most two preemptions, unless `LOOM_MAX_PREEMPTIONS` says otherwise.
pub(super) fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(2);
    if std::env::var_os("LOOM_MAX_BRANCHES").is_none() {
        builder.max_branches = 10_000;
    }
    builder.check(model);
}

/// A count that is no part of the model.
#[derive(Clone, Default)]
pub(super) struct Tally(StdArc<StdUsize>);

impl Tally {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }
    pub(super) fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// Counts its own drop.
pub(super) struct OnDrop(pub(super) Tally);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

/// An eventfd in edge-triggered epoll: a write sets it, whoever polls takes it.
pub(super) struct Edge {
    set: Mutex<bool>,
    changed: Condvar,
    pub(super) writes: Tally,
}

impl Edge {
    pub(super) fn new() -> Self {
        Self { set: Mutex::new(false), changed: Condvar::new(), writes: Tally::default() }
    }

    /// A wait without end.
    pub(super) fn wait(&self) {
        let mut set = self.set.lock().unwrap();
        while !*set {
            set = self.changed.wait(set).unwrap();
        }
        *set = false;
    }

    /// A look that does not wait; true if there was an event, which is now taken.
    pub(super) fn look(&self) -> bool {
        std::mem::take(&mut *self.set.lock().unwrap())
    }
}

impl Unblock for Edge {
    fn unblock(&self) {
        self.writes.add();
        *self.set.lock().unwrap() = true;
        self.changed.notify_one();
    }
}

/// A thread that waits for a waker.
pub(super) struct Signal {
    edge: Edge,
    pub(super) woken: Tally,
}

impl Signal {
    pub(super) fn new() -> StdArc<Self> {
        StdArc::new(Self { edge: Edge::new(), woken: Tally::default() })
    }

    pub(super) fn waker(self: &StdArc<Self>) -> Waker {
        self.clone().into()
    }

    pub(super) fn wait(&self) {
        self.edge.wait();
    }
}

impl Wake for Signal {
    fn wake(self: StdArc<Self>) {
        self.woken.add();
        self.edge.unblock();
    }
}

/// One queue for all tasks of a model, and the thread that is their home.
pub(super) struct Hub {
    queue: Mutex<VecDeque<ReadyHandle>>,
    pushed: Edge,
    home: ThreadId,
    live: LiveList,
    /// Refuses handles: they are dropped by who pushes.
    closed: Mutex<bool>,
    callbacks: Mutex<Vec<Callbacks>>,
    pub(super) freed: Tally,
}

impl Hub {
    /// The calling thread is home.
    pub(super) fn new() -> Arc<Self> {
        let live = LiveList::new();
        live.take_over();
        Arc::new(Self {
            queue: Mutex::new(VecDeque::new()),
            pushed: Edge::new(),
            home: thread::current().id(),
            live,
            closed: Mutex::new(false),
            callbacks: Mutex::new(Vec::new()),
            freed: Tally::default(),
        })
    }

    pub(super) fn list(&self) -> &LiveList {
        &self.live
    }

    pub(super) fn push(&self, handle: ReadyHandle) {
        self.queue.lock().unwrap().push_back(handle);
    }

    pub(super) fn pop(&self) -> Option<ReadyHandle> {
        self.queue.lock().unwrap().pop_front()
    }

    /// Runs one handle, waiting for it if there is none.
    pub(super) fn run_one(&self) {
        loop {
            if let Some(handle) = self.pop() {
                return handle.run();
            }
            self.pushed.wait();
        }
    }

    /// Runs all there is; returns how many.
    pub(super) fn run_all(&self) -> usize {
        std::iter::from_fn(|| self.pop()).map(ReadyHandle::run).count()
    }

    /// The same on a thread of its own, which is not home.
    pub(super) fn run_elsewhere(hub: &Arc<Self>) -> JoinHandle<usize> {
        let hub = hub.clone();
        thread::spawn(move || hub.run_all())
    }

    /// Calls the callbacks that were queued; returns how many deliveries there were.
    pub(super) fn call_back(&self) -> usize {
        let callbacks = std::mem::take(&mut *self.callbacks.lock().unwrap());
        callbacks
            .into_iter()
            .map(|callbacks| callbacks.call(&Observer::default(), |context| panic!("{context}")))
            .count()
    }

    /// Refuses and drops handles from now on.
    pub(super) fn close(&self) {
        *self.closed.lock().unwrap() = true;
        while let Some(handle) = self.pop() {
            drop(handle);
        }
    }
}

/// The scheduler in a model's cells.
pub(super) struct Home {
    hub: Arc<Hub>,
    /// Read by each use, written without synchronisation by the drop: a use that the drop does not come after is a race.
    alive: AtomicU32,
}

impl Home {
    pub(super) fn of(hub: &Arc<Hub>) -> Self {
        Self { hub: hub.clone(), alive: AtomicU32::new(1) }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.alive.with_mut(|alive| *alive = 0);
        self.hub.freed.add();
    }
}

impl Schedule for Home {
    type Target = Arc<Hub>;

    fn target(&self) -> Arc<Hub> {
        self.alive.load(Relaxed);
        self.hub.clone()
    }

    fn push(hub: Arc<Hub>, handle: ReadyHandle) {
        let closed = hub.closed.lock().unwrap();
        if *closed {
            drop(closed);
            return drop(handle);
        }
        hub.queue.lock().unwrap().push_back(handle);
        drop(closed);
        hub.pushed.unblock();
    }

    fn is_home(&self) -> bool {
        self.alive.load(Relaxed);
        self.hub.home == thread::current().id()
    }

    fn is_driven_here(&self) -> bool {
        self.is_home()
    }

    /// As if the hub were the loop of index 0.
    fn only_loop(&self) -> Option<usize> {
        self.alive.load(Relaxed);
        Some(0)
    }

    fn live(&self) -> Option<&LiveList> {
        self.alive.load(Relaxed);
        Some(&self.hub.live)
    }

    fn is_birthplace(&self) -> bool {
        self.hub.home == thread::current().id()
    }

    fn deliver(&self, callbacks: Callbacks) {
        self.alive.load(Relaxed);
        self.hub.callbacks.lock().unwrap().push(callbacks);
    }

    fn report(&self, context: &ErrorContext) {
        // A failed assertion or a race inside a task: not to be swallowed with the task's panic.
        panic!("{context}");
    }
}

/// A home that is nothing but a place to push to: its tasks are in no list and have no callbacks.
pub(crate) trait PushOnly: Send + Sync + 'static {
    type Target;

    fn target(&self) -> Self::Target;
    fn push(target: Self::Target, handle: ReadyHandle);
}

impl<P: PushOnly> Schedule for P {
    type Target = P::Target;

    fn target(&self) -> P::Target {
        PushOnly::target(self)
    }

    fn push(target: P::Target, handle: ReadyHandle) {
        <P as PushOnly>::push(target, handle);
    }

    fn is_home(&self) -> bool {
        true
    }

    fn live(&self) -> Option<&LiveList> {
        None
    }

    fn deliver(&self, _: Callbacks) {
        unreachable!("no callbacks here");
    }

    fn report(&self, context: &ErrorContext) {
        panic!("{context}");
    }
}

/// A cell's options.
pub(super) fn new_task(kind: Kind, pinned: bool, queued: bool) -> NewTask {
    NewTask { kind, pinned, queued, unbuilt: false, name: None, location: Location::caller() }
}
