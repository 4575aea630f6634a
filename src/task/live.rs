//! The tasks of one loop that have not completed: the list that holds the runtime's references.
//!
//! *Invariant.* A task that can be polled again is in exactly one live list; a callback waiting for its time is too. So a
//! task cannot be lost (asyncio's weak set can), and shutdown reaches every one. Once closed, nothing enters.
//!
//! A task that ends on its birth loop is taken out there and then. One that a thief completed leaves by the side door: its key
//! is *returned*, and the slab keeps an entry that nobody may follow until the next who holds the main lock has reaped it. So
//! the main lock is its loop's own nearly always, thieves do not fetch its line for every task, and it is biased: while its
//! loop is driven, binding and releasing there take no atomic read-modify-write.
//!
//! *Threads.* Any. *Ordering.* The locks'; the main one is taken before the side door's. An entry is followed only under both
//! and after reaping: a completer returns the key before it gives up the reference, and waits for us to do so.

use std::panic::Location;
use std::sync::Arc;

use slab::Slab;

use super::cell::Header;
use super::{Id, RawTask};
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::primitive::{BiasedMutex, CachePadded, MODELLED, Mutex};

/// A task that has not ended, as [`RuntimeHandle::all_tasks`](crate::RuntimeHandle::all_tasks) and
/// [`current_task`](crate::current_task) show it.
///
/// Counterpart: a task in asyncio's `all_tasks`, which is the task itself there.
///
/// ```
/// let rt = epicycle::Runtime::new();
/// let (task, line) = (rt.spawn(std::future::pending::<()>()), line!());
/// let all = rt.handle().all_tasks();
/// let info = all.iter().find(|info| info.id == task.id()).unwrap();
/// assert_eq!((info.name.as_str(), info.location.line()), (task.name().as_str(), line));
/// assert!(!info.pinned);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TaskInfo {
    /// Its id.
    pub id: Id,
    /// The name it was given, or `Task-N`.
    pub name: String,
    /// Where it was spawned.
    pub location: &'static Location<'static>,
    /// Whether it stays on one loop.
    pub pinned: bool,
    /// What it was doing.
    pub state: TaskState,
}

/// What a task that has not ended is doing.
///
/// ```
/// use epicycle::task::TaskState;
///
/// let rt = epicycle::Runtime::builder().worker_threads(1).build().unwrap();
/// let task = rt.spawn(std::future::pending::<()>());
/// let state = || rt.handle().all_tasks().iter().find(|info| info.id == task.id()).unwrap().state;
/// assert_eq!(state(), TaskState::Ready); // queued; nobody is inside block_on
/// rt.block_on(epicycle::yield_now());
/// assert_eq!(state(), TaskState::Waiting);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskState {
    /// It waits to be woken.
    Waiting,
    /// It is queued, or being polled.
    Ready,
}

impl TaskInfo {
    pub(super) fn of(header: &Header) -> Self {
        let state = if header.is_ready() { TaskState::Ready } else { TaskState::Waiting };
        Self { id: header.id(), name: header.name(), location: header.location(), pinned: header.is_pinned(), state }
    }
}

/// The key of a task that is in no list.
pub(super) const NO_KEY: u32 = u32::MAX;

/// How many binds may pass between two looks at the side door: each look fetches the thieves' line.
const BINDS_PER_REAP: u32 = if MODELLED { 1 } else { 256 };

pub(crate) struct LiveList {
    inner: BiasedMutex<Inner>,
    /// How many are in the slab; written under the lock, read by metrics without it.
    len: AtomicUsize,
    returned: CachePadded<Returned>,
}

struct Inner {
    tasks: Slab<RawTask>,
    closed: bool,
    binds: u32,
}

/// The side door: what ended elsewhere and is still in the slab.
struct Returned {
    keys: Mutex<Vec<u32>>,
    /// As `LiveList::len`.
    len: AtomicUsize,
}

impl LiveList {
    pub(crate) fn new() -> Self {
        Self {
            inner: BiasedMutex::new(Inner { tasks: Slab::new(), closed: false, binds: 0 }),
            len: AtomicUsize::new(0),
            returned: CachePadded::new(Returned { keys: Mutex::new(Vec::new()), len: AtomicUsize::new(0) }),
        }
    }

    /// The calling thread drives the list's loop from now on.
    pub(crate) fn take_over(&self) {
        self.inner.take_over();
    }

    /// The thread that drove the list's loop does not any more.
    pub(crate) fn give_up(&self) {
        self.inner.give_up();
    }

    /// Enters a task; false if the list is closed.
    #[must_use]
    pub(super) fn bind(&self, task: RawTask) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed {
            return false;
        }
        inner.binds += 1;
        if inner.binds >= BINDS_PER_REAP {
            inner.binds = 0;
            drop(self.reap(&mut inner));
        }
        let key = inner.tasks.insert(task);
        task.header().set_live_key(u32::try_from(key).expect("more than 2^32 live tasks"));
        // Ordering: Relaxed: a figure; the lock orders what matters.
        self.len.store(inner.tasks.len(), Ordering::Relaxed);
        true
    }

    /// Takes a completed task out. `at_home`: this is the thread of the list's loop.
    #[inline]
    pub(super) fn release(&self, task: RawTask, at_home: bool) {
        let key = task.header().take_live_key();
        // Callbacks that are queued are in none.
        if key != NO_KEY {
            self.remove(key, at_home);
        }
    }

    fn remove(&self, key: u32, at_home: bool) {
        if !at_home {
            let mut keys = self.returned.keys.lock();
            keys.push(key);
            // Ordering: Relaxed, as in `bind`.
            self.returned.len.store(keys.len(), Ordering::Relaxed);
            return;
        }
        let mut inner = self.inner.lock();
        inner.tasks.remove(key as usize);
        // Ordering: Relaxed, as above.
        self.len.store(inner.tasks.len(), Ordering::Relaxed);
    }

    /// Removes what was returned. While the guard lives nothing more is, so all that is in the slab is alive.
    fn reap<'a>(&'a self, inner: &mut Inner) -> impl Sized + use<'a> {
        let mut keys = self.returned.keys.lock();
        for key in keys.drain(..) {
            inner.tasks.remove(key as usize);
        }
        // Ordering: Relaxed, as in `bind`.
        self.returned.len.store(0, Ordering::Relaxed);
        self.len.store(inner.tasks.len(), Ordering::Relaxed);
        keys
    }

    pub(crate) fn count(&self) -> usize {
        // Ordering: Relaxed: a figure. Shutdown, which decides by it, uses `is_empty`.
        self.len.load(Ordering::Relaxed).saturating_sub(self.returned.len.load(Ordering::Relaxed))
    }

    /// How many slots are taken, by the ended as well.
    #[allow(dead_code, reason = "for the model")]
    pub(crate) fn slots(&self) -> usize {
        self.inner.lock().tasks.len()
    }

    /// Exact, under the locks.
    pub(crate) fn is_empty(&self) -> bool {
        let mut inner = self.inner.lock();
        let _reaped = self.reap(&mut inner);
        inner.tasks.is_empty()
    }

    /// What is alive, at one moment.
    pub(crate) fn infos(&self) -> Vec<TaskInfo> {
        let mut inner = self.inner.lock();
        let _reaped = self.reap(&mut inner);
        let tasks = inner.tasks.iter().map(|(_, task)| task.header());
        tasks.filter(|header| header.is_task()).map(TaskInfo::of).collect()
    }

    /// Lets nothing in from now on.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
    }

    /// Asks every task but the futures of `block_on` to be cancelled; `ended` is called when one has ended. Returns how many
    /// there are.
    pub(crate) fn cancel_tasks(&self, ended: &Arc<dyn Fn() + Send + Sync>) -> usize {
        let tasks: Vec<_> = {
            let mut inner = self.inner.lock();
            let _reaped = self.reap(&mut inner);
            let tasks = inner.tasks.iter().map(|(_, task)| *task);
            tasks.filter(|task| task.header().is_task() && !task.header().is_root()).map(RawTask::new_ref).collect()
        };
        for task in &tasks {
            let ended = ended.clone();
            task.add_done_callback(Box::new(move |_| ended()), false);
            task.cancel();
        }
        tasks.len()
    }

    /// Cancels every task in the list. The idle ones' futures are dropped here and now, on the calling thread; the queued
    /// and running ones when their ready handle next runs. True if there was any.
    pub(crate) fn cancel_all(&self) -> bool {
        let tasks: Vec<_> = {
            let mut inner = self.inner.lock();
            let _reaped = self.reap(&mut inner);
            inner.tasks.iter().map(|(_, task)| task.new_ref()).collect()
        };
        let any = !tasks.is_empty();
        for task in &tasks {
            task.shut_down();
        }
        any
    }
}
