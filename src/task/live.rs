//! The tasks of one loop that have not completed: the list that holds the runtime's references.
//!
//! *Invariant.* A task that can be polled again is in exactly one live list; a callback waiting for its time is too. So a
//! task cannot be lost (asyncio's weak set can), and shutdown reaches every one. Once closed, nothing enters.
//!
//! *Threads.* Any: a thief completes tasks of this list. The lock is taken twice a task and by its own loop nearly
//! always. *Ordering.* The lock's.

use std::panic::Location;

use slab::Slab;

use super::cell::Header;
use super::{Id, RawTask};
use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicUsize, Ordering};

/// A task that has not ended, as [`RuntimeHandle::all_tasks`](crate::RuntimeHandle::all_tasks) shows it.
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
}

impl TaskInfo {
    fn of(header: &Header) -> Self {
        Self { id: header.id(), name: header.name(), location: header.location(), pinned: header.is_pinned() }
    }
}

/// The key of a task that is in no list.
pub(super) const NO_KEY: u32 = u32::MAX;

pub(crate) struct LiveList {
    inner: Mutex<Inner>,
    /// How many are alive; written under the lock, read by metrics without it.
    len: AtomicUsize,
}

struct Inner {
    tasks: Slab<RawTask>,
    closed: bool,
}

impl LiveList {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::new(Inner { tasks: Slab::new(), closed: false }), len: AtomicUsize::new(0) }
    }

    /// Enters a task; false if the list is closed.
    #[must_use]
    pub(super) fn bind(&self, task: RawTask) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed {
            return false;
        }
        let key = inner.tasks.insert(task);
        task.header().set_live_key(u32::try_from(key).expect("more than 2^32 live tasks"));
        // Ordering: Relaxed: a figure; the lock orders what matters.
        self.len.store(inner.tasks.len(), Ordering::Relaxed);
        true
    }

    /// Takes a completed task out.
    pub(super) fn release(&self, task: RawTask) {
        let key = task.header().take_live_key();
        if key == NO_KEY {
            return;
        }
        let mut inner = self.inner.lock();
        inner.tasks.remove(key as usize);
        // Ordering: Relaxed, as above.
        self.len.store(inner.tasks.len(), Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> usize {
        // Ordering: Relaxed: a figure. Shutdown, which decides by it, uses `is_empty`.
        self.len.load(Ordering::Relaxed)
    }

    /// Exact, under the lock.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().tasks.is_empty()
    }

    /// What is alive, at one moment.
    pub(crate) fn infos(&self) -> Vec<TaskInfo> {
        let inner = self.inner.lock();
        let tasks = inner.tasks.iter().map(|(_, task)| task.header());
        tasks.filter(|header| header.is_task()).map(TaskInfo::of).collect()
    }

    /// Lets nothing in from now on.
    pub(crate) fn close(&self) {
        self.inner.lock().closed = true;
    }

    /// Cancels every task in the list. The idle ones' futures are dropped here and now, on the calling thread; the queued
    /// and running ones when their ready handle next runs. True if there was any.
    pub(crate) fn cancel_all(&self) -> bool {
        let tasks: Vec<_> = {
            let inner = self.inner.lock();
            inner.tasks.iter().map(|(_, task)| task.new_ref()).collect()
        };
        let any = !tasks.is_empty();
        for task in &tasks {
            task.shut_down();
        }
        any
    }
}
