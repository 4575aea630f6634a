//! A loop's timers: a 4-ary heap of (deadline, sequence), each with the waker of what it makes ready.
//!
//! *Invariant.* Holds wakers and nothing else, so whoever expires it only wakes. Equal deadlines fire in arming order.
//! Cancelling takes the entry out at once, by whoever cancels: there is no garbage to sweep (asyncio's rule of "over 100
//! and more than half cancelled" bounds what does not exist here).
//!
//! *Threads.* Any; the lock is nearly always the owner's. No waker is cloned, woken or dropped under it. *Ordering.* The
//! lock's. `next` is a hint for peers; a loop that parks reads the heap after SleepFence, and who arms from another thread
//! fences after, so one sees the other (`park.rs`).

use std::task::Waker;
use std::time::Instant;

use slab::Slab;

use super::clock::{self, NEVER};
use super::{Remote, current};
use crate::primitive::atomic::{AtomicU64, Ordering};
use crate::primitive::{BiasedArc, Mutex};
use crate::task::{Event, FutureId, Observer, try_id};

/// Children per node: four share a cache line or two, and the heap is half as deep as a binary one.
const ARITY: usize = 4;

/// How many wakers are taken out of the heap before they are woken.
const BATCH: usize = 64;

pub(crate) struct Timers {
    /// The loop.
    index: usize,
    observer: Observer,
    heap: Mutex<Heap>,
    /// The earliest deadline, for peers to see without the lock.
    next: AtomicU64,
}

#[derive(Default)]
struct Heap {
    nodes: Vec<Node>,
    entries: Slab<Entry>,
    /// What the timers' numbers begin at: they are unique in the process.
    first: u64,
    armed: u64,
    fired: u64,
    cancelled: u64,
    closed: bool,
}

#[derive(Clone, Copy)]
struct Node {
    deadline: u64,
    sequence: u64,
    slot: u32,
}

struct Entry {
    waker: Waker,
    sequence: u64,
    at: u32,
}

/// Counts for the metrics.
pub(crate) struct TimerCounts {
    pub(crate) armed: u64,
    pub(crate) fired: u64,
    pub(crate) cancelled: u64,
    pub(crate) pending: usize,
}

impl Node {
    fn key(&self) -> (u64, u64) {
        (self.deadline, self.sequence)
    }
}

impl Heap {
    /// The next timer's number.
    fn number(&mut self) -> u64 {
        self.armed += 1;
        self.first + self.armed
    }

    fn insert(&mut self, deadline: u64, sequence: u64, waker: Waker) -> u32 {
        let at = self.nodes.len() as u32;
        let slot = self.entries.insert(Entry { waker, sequence, at }) as u32;
        self.nodes.push(Node { deadline, sequence, slot });
        self.sift_up(at as usize);
        slot
    }

    fn remove(&mut self, at: usize) -> Waker {
        let node = self.nodes.swap_remove(at);
        if at < self.nodes.len() {
            self.sift_down(at);
            self.sift_up(at);
        }
        self.entries.remove(node.slot as usize).waker
    }

    fn place(&mut self, node: Node, at: usize) {
        self.nodes[at] = node;
        self.entries[node.slot as usize].at = at as u32;
    }

    fn sift_up(&mut self, mut at: usize) {
        let node = self.nodes[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if self.nodes[parent].key() <= node.key() {
                break;
            }
            self.place(self.nodes[parent], at);
            at = parent;
        }
        self.place(node, at);
    }

    fn sift_down(&mut self, mut at: usize) {
        let node = self.nodes[at];
        loop {
            let first = at * ARITY + 1;
            let last = (first + ARITY).min(self.nodes.len());
            let Some(child) = (first..last).min_by_key(|&child| self.nodes[child].key()) else {
                break;
            };
            if node.key() <= self.nodes[child].key() {
                break;
            }
            self.place(self.nodes[child], at);
            at = child;
        }
        self.place(node, at);
    }

    fn next(&self) -> u64 {
        self.nodes.first().map_or(NEVER, |node| node.deadline)
    }

    fn entry(&mut self, slot: u32, sequence: u64) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize).filter(|entry| entry.sequence == sequence)
    }
}

impl Timers {
    pub(crate) fn new(index: usize, observer: Observer) -> Self {
        let heap = Heap { first: FutureId::next_timers(), ..Heap::default() };
        Self { index, observer, heap: Mutex::new(heap), next: AtomicU64::new(NEVER) }
    }

    fn publish(&self, heap: &Heap) {
        // Ordering: Relaxed: a hint, written under the lock.
        self.next.store(heap.next(), Ordering::Relaxed);
    }

    fn tell_armed(&self, number: u64, when: Instant) {
        self.observer.tell(|| Event::TimerArmed { on: self.index, timer: FutureId::of_timer(number), when });
    }

    /// The earliest deadline as of some moment ago.
    pub(crate) fn next_hint(&self) -> u64 {
        // Ordering: Relaxed: see `publish`.
        self.next.load(Ordering::Relaxed)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> u64 {
        self.heap.lock().next()
    }

    /// Wakes what is due; returns how many. Any thread: the wakers put their tasks where they belong.
    pub(crate) fn expire(&self, now: u64, wake: impl Fn(Waker)) -> usize {
        let mut total = 0;
        while self.next_hint() <= now {
            let mut due = Vec::new();
            let mut heap = self.heap.lock();
            while heap.next() <= now && due.len() < BATCH {
                due.push((heap.nodes[0].sequence, heap.remove(0)));
            }
            heap.fired += due.len() as u64;
            self.publish(&heap);
            drop(heap);
            total += due.len();
            for (number, waker) in due {
                self.observer.tell(|| Event::TimerFired { on: self.index, timer: FutureId::of_timer(number) });
                wake(waker);
            }
        }
        total
    }

    pub(crate) fn counts(&self) -> TimerCounts {
        let heap = self.heap.lock();
        TimerCounts { armed: heap.armed, fired: heap.fired, cancelled: heap.cancelled, pending: heap.nodes.len() }
    }

    /// Takes no more timers and wakes all that wait, to find their loop gone.
    pub(crate) fn close(&self, wake: impl Fn(Waker)) {
        let mut heap = self.heap.lock();
        heap.closed = true;
        heap.nodes.clear();
        let wakers: Vec<_> = heap.entries.drain().map(|entry| entry.waker).collect();
        self.publish(&heap);
        drop(heap);
        wakers.into_iter().for_each(wake);
    }
}

/// One armed deadline. Dropping it cancels.
pub(crate) struct Timer {
    home: BiasedArc<Remote>,
    slot: u32,
    sequence: u64,
}

impl Timer {
    /// Arms `waker` for `deadline` on `home`; on a closed loop it is woken at once.
    pub(crate) fn arm(home: BiasedArc<Remote>, deadline: Instant, waker: Waker) -> Self {
        Self::arm_told(home, deadline, waker, |timers, number| timers.tell_armed(number, deadline))
    }

    /// The same for a future that a task polls, which is going to wait for it.
    pub(crate) fn arm_awaited(home: BiasedArc<Remote>, deadline: Instant, waker: Waker) -> Self {
        Self::arm_told(home, deadline, waker, |timers, number| {
            let (task, future) = (try_id(), FutureId::of_timer(number));
            timers.observer.tell(|| Event::FutureCreated { future });
            timers.tell_armed(number, deadline);
            timers.observer.tell(|| Event::Blocking { task, future });
            timers.observer.tell(|| Event::WakerRegistered { task, future });
        })
    }

    /// `tell` is called before the timer can fire, if there is anybody to be told.
    fn arm_told(home: BiasedArc<Remote>, deadline: Instant, waker: Waker, tell: impl FnOnce(&Timers, u64)) -> Self {
        let deadline = clock::nanos(deadline);
        let timers = home.timers();
        let mut heap = timers.heap.lock();
        let sequence = heap.number();
        if timers.observer.is_on() {
            drop(heap);
            tell(timers, sequence);
            heap = timers.heap.lock();
        }
        if heap.closed {
            drop(heap);
            waker.wake();
            return Self { home, slot: u32::MAX, sequence: u64::MAX };
        }
        let earliest = deadline < heap.next();
        let slot = heap.insert(deadline, sequence, waker);
        timers.publish(&heap);
        drop(heap);
        if earliest && !current::is_on(&home) {
            // It may be asleep with a later deadline.
            home.unpark();
        }
        Self { home, slot, sequence }
    }

    /// Has `waker` woken instead, if it is another. False: the timer has fired, or its loop is gone.
    pub(crate) fn update(&self, waker: &Waker) -> bool {
        let timers = self.home.timers();
        match timers.heap.lock().entry(self.slot, self.sequence) {
            None => return false,
            Some(entry) if entry.waker.will_wake(waker) => return true,
            Some(_) => {}
        }
        // Cloned and dropped outside the lock: both are user code.
        let mut waker = waker.clone();
        match timers.heap.lock().entry(self.slot, self.sequence) {
            None => return false,
            Some(entry) => std::mem::swap(&mut entry.waker, &mut waker),
        }
        true
    }
}

impl Timer {
    /// A poll by a task that waits for this timer: it found that it has to wait on, or that it need not any more.
    pub(crate) fn tell_polled(&self, resumed: bool) {
        let future = FutureId::of_timer(self.sequence);
        self.home.timers().observer.tell(|| match resumed {
            true => Event::FutureResumed { task: try_id(), future },
            false => Event::Blocking { task: try_id(), future },
        });
    }

    /// Cancels; gives back the waker, unless the timer has fired.
    pub(crate) fn take(&self) -> Option<Waker> {
        let timers = self.home.timers();
        let mut heap = timers.heap.lock();
        let at = heap.entry(self.slot, self.sequence)?.at as usize;
        let waker = heap.remove(at);
        heap.cancelled += 1;
        timers.publish(&heap);
        drop(heap);
        let timer = FutureId::of_timer(self.sequence);
        timers.observer.tell(|| Event::TimerCancelled { on: timers.index, timer });
        Some(waker)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // The waker is dropped here, after the lock.
        drop(self.take());
    }
}
