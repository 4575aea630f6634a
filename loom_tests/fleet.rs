//! Loops without a kernel: the engine's parts, composed as `scheduler/worker.rs` and `scheduler/shared.rs` compose them.
//!
//! *Invariant.* Each function transcribes the one that its comment names, in the same order, less the clock, the counters
//! and the watcher (which would come to help where a model is to show that no help is needed). A changed original changes
//! this file.
//!
//! *Threads.* A [`Worker`] is one thread's; [`Fleet`] is shared. *Ordering.* The engine's own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use loom::sync::Arc;

use super::support::{Edge, PushOnly, Tally, new_task};
use crate::event_loop::inbox::Inbox;
use crate::event_loop::park::{Parker, Unblock};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, Ordering};
use crate::primitive::deque::{Steal, Stealer, Worker as Queue};
use crate::scheduler::idle::Idle;
use crate::scheduler::injector::Injector;
use crate::task::{Handle, Kind, Once, ReadyHandle, launch};

/// What is left of a selector: its lock, and the wake-up that whoever polls it takes.
pub(super) struct Selector {
    poll: Mutex<()>,
    pub(super) edge: Edge,
}

/// `Remote`, and the stealable queue.
pub(super) struct Loop {
    pub(super) parker: Parker,
    pub(super) selector: Selector,
    pub(super) inbox: Inbox,
    pub(super) stealable: Queue<ReadyHandle>,
    stealer: Stealer<ReadyHandle>,
    pub(super) parks: Tally,
}

/// `Shared`.
pub(super) struct Fleet {
    pub(super) idle: Idle,
    pub(super) injector: Injector,
    pub(super) loops: Vec<Loop>,
    closing: AtomicBool,
}

impl Loop {
    fn new(absent: bool) -> Self {
        let stealable = Queue::new_fifo();
        Self {
            parker: Parker::new(absent),
            selector: Selector { poll: Mutex::new(()), edge: Edge::new() },
            inbox: Inbox::new(),
            stealer: stealable.stealer(),
            stealable,
            parks: Tally::default(),
        }
    }

    /// `Remote::unpark`.
    pub(super) fn unpark(&self) -> bool {
        self.parker.unpark(self)
    }

    /// `LoopCore::look_at`, by a peer: polls if nobody else does. True if it took a wake-up.
    pub(super) fn look_at(&self) -> bool {
        let Some(_poll) = self.selector.poll.try_lock() else { return false };
        self.selector.edge.look()
    }
}

impl Unblock for Loop {
    fn unblock(&self) {
        self.selector.edge.unblock();
    }
}

impl Fleet {
    /// `loops` in all; loop 0 is absent if so asked for. Nobody has entered yet.
    pub(super) fn new(loops: usize, absent: bool) -> Arc<Self> {
        Arc::new(Self {
            idle: Idle::new(loops),
            injector: Injector::new(),
            loops: (0..loops).map(|index| Loop::new(absent && index == 0)).collect(),
            closing: AtomicBool::new(false),
        })
    }

    /// `Shared::inject`.
    pub(super) fn inject(&self, handle: ReadyHandle) {
        if self.injector.push(handle)
            && let Some(index) = self.idle.invite_fenced(|_| false)
        {
            self.loops[index].unpark();
        }
    }

    /// `Shared::invite`.
    pub(super) fn invite(&self) {
        if let Some(index) = self.idle.invite(|_| false) {
            self.loops[index].unpark();
        }
    }

    /// `Remote::post`.
    pub(super) fn post(&self, index: usize, handle: ReadyHandle) {
        match self.loops[index].inbox.push(handle) {
            Ok(()) => _ = self.loops[index].unpark(),
            Err(handle) => drop(handle),
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// `Shared::start_closing`.
    pub(super) fn start_closing(&self) {
        self.closing.swap(true, Ordering::AcqRel);
        for one in &self.loops {
            one.unpark();
        }
    }
}

/// Where a model's callback goes.
#[derive(Clone, Copy)]
pub(super) enum To {
    /// To all loops.
    All,
    /// To one.
    One(usize),
}

/// `StealableHome` and `PinnedHome`, off the loops.
struct Home {
    fleet: Arc<Fleet>,
    to: To,
}

impl PushOnly for Home {
    type Target = (Arc<Fleet>, To);

    fn target(&self) -> Self::Target {
        (self.fleet.clone(), self.to)
    }

    fn push((fleet, to): Self::Target, handle: ReadyHandle) {
        match to {
            To::All => fleet.inject(handle),
            To::One(index) => fleet.post(index, handle),
        }
    }
}

/// Gives a callback: a handle of the engine's own, pushed as such.
pub(super) fn give(fleet: &Arc<Fleet>, to: To, callback: impl FnOnce() + Send + 'static) {
    let home = Home { fleet: fleet.clone(), to };
    let new = new_task(Kind::Callback, false, true);
    drop::<Handle>(launch(Once::new(callback), home, new).into_handle());
}

/// What a loop's thread has: `Worker` and `LoopCore`.
pub(super) struct Worker {
    fleet: Arc<Fleet>,
    index: usize,
    pub(super) searching: Cell<bool>,
    pinned: RefCell<VecDeque<ReadyHandle>>,
}

impl Worker {
    /// `Idle::enter` is the caller's.
    pub(super) fn new(fleet: &Arc<Fleet>, index: usize) -> Self {
        Self { fleet: fleet.clone(), index, searching: Cell::new(false), pinned: RefCell::new(VecDeque::new()) }
    }

    fn own(&self) -> &Loop {
        &self.fleet.loops[self.index]
    }

    /// `run_background`'s loop.
    pub(super) fn run(&self) {
        while !self.fleet.is_closing() {
            self.run_once();
        }
        self.retire();
    }

    /// `Worker::run_once`, which looks around in each turn.
    pub(super) fn run_once(&self) {
        self.take_posts();
        self.find_work();
        if self.is_ready_empty() {
            self.park();
        }
        self.run_ready();
    }

    /// `LoopCore::take_posts`.
    pub(super) fn take_posts(&self) {
        if !self.own().inbox.is_empty() {
            let mut posts = self.own().inbox.take(VecDeque::new());
            self.pinned.borrow_mut().append(&mut posts);
        }
    }

    fn is_ready_empty(&self) -> bool {
        self.pinned.borrow().is_empty() && self.own().stealable.is_empty()
    }

    /// `LoopCore::run_ready`.
    pub(super) fn run_ready(&self) {
        loop {
            let pinned = self.pinned.borrow_mut().pop_front();
            let Some(handle) = pinned.or_else(|| self.own().stealable.pop()) else { return };
            handle.run();
        }
    }

    /// `Worker::find_work`.
    pub(super) fn find_work(&self) {
        self.pull_injected();
        if self.is_ready_empty() {
            self.search();
        }
        if self.searching.get() && !self.is_ready_empty() {
            self.end_search();
        }
    }

    /// `Worker::pull_injected`, with the share of one loop among many.
    fn pull_injected(&self) {
        if !self.fleet.injector.is_empty() {
            self.fleet.injector.pull(&self.own().stealable, 1);
        }
    }

    /// `Worker::search`.
    fn search(&self) {
        if !self.victim_exists() {
            return;
        }
        if !self.searching.get() {
            if !self.fleet.idle.try_search() {
                return;
            }
            self.searching.set(true);
        }
        for (index, victim) in self.fleet.loops.iter().enumerate() {
            if index != self.index
                && victim.stealer.len() >= 2
                && let Steal::Success(()) = victim.stealer.steal_batch_with_limit(&self.own().stealable, 32)
            {
                return;
            }
        }
    }

    /// `Worker::victim_exists`, where two handles are enough for a peer.
    fn victim_exists(&self) -> bool {
        let others = self.fleet.loops.iter().enumerate();
        others.into_iter().any(|(index, other)| index != self.index && other.stealer.len() >= 2)
    }

    /// `Worker::end_search`.
    fn end_search(&self) {
        self.searching.set(false);
        if self.fleet.idle.end_search() && !self.fleet.injector.is_empty() {
            self.fleet.invite();
        }
    }

    /// `Worker::park`.
    fn park(&self) {
        let last_searcher = self.fleet.idle.park(self.index, self.searching.take());
        self.own().parks.add();
        self.sleep(last_searcher);
        let woken = self.fleet.idle.wake(self.index);
        self.searching.set(woken.invited);
        self.take_posts();
        self.find_work();
    }

    /// `Worker::sleep`, of a loop that is not the watcher.
    fn sleep(&self, last_searcher: bool) {
        let own = self.own();
        let poll = own.selector.poll.lock();
        own.parker.publish(); // SleepFence
        if self.has_gift(last_searcher) {
            own.selector.edge.look();
        } else {
            own.selector.edge.wait();
        }
        own.parker.retract();
        drop(poll);
    }

    /// `Worker::has_gift`.
    fn has_gift(&self, last_searcher: bool) -> bool {
        !self.own().inbox.is_empty()
            || !self.fleet.injector.is_empty()
            || self.fleet.idle.is_invited(self.index)
            || self.fleet.is_closing()
            || (last_searcher && self.victim_exists())
    }

    /// `Worker::retire`.
    pub(super) fn retire(&self) -> bool {
        self.fleet.idle.leave(self.searching.take())
    }

    /// What is queued: `LoopCore::drop_pinned`'s travellers.
    pub(super) fn take_ready(&self) -> (VecDeque<ReadyHandle>, VecDeque<ReadyHandle>) {
        self.take_posts();
        let stealable = std::iter::from_fn(|| self.own().stealable.pop()).collect();
        (stealable, self.pinned.take())
    }
}

/// Callbacks that all have to run before the model may end.
#[derive(Clone)]
pub(super) struct Finish(std::sync::Arc<(usize, Tally, Edge)>);

impl Finish {
    pub(super) fn after(callbacks: usize) -> Self {
        Self(std::sync::Arc::new((callbacks, Tally::default(), Edge::new())))
    }

    /// One that counts.
    pub(super) fn callback(&self) -> impl FnOnce() + Send + 'static + use<> {
        let this = self.clone();
        move || {
            let (all, run, edge) = &*this.0;
            run.add();
            assert!(run.get() <= *all);
            if run.get() == *all {
                edge.unblock();
            }
        }
    }

    /// Waits for the last one: for ever if one is lost.
    pub(super) fn wait(&self) {
        self.0.2.wait();
    }

    pub(super) fn is_reached(&self) -> bool {
        self.0.1.get() == self.0.0
    }
}
