//! Task ids, and which task this thread is inside.
//!
//! *Invariant.* Ids are unique in the process and grow within a thread. *Threads.* Any; the current id is the thread's
//! own. *Ordering.* Relaxed: a counter that publishes nothing.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{RawTask, TaskInfo};
use crate::primitive::MODELLED;

/// How many ids a thread takes from the shared counter at a time, so that spawning touches no shared line.
const BLOCK: u64 = 1024;

static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
    /// Alive as long as it stands here: whoever enters a task runs it.
    static CURRENT: Cell<Option<RawTask>> = const { Cell::new(None) };
}

/// Identifies a task; unique in the process, never used again.
///
/// Counterparts: Tokio's `task::Id`; asyncio numbers its default task names in the same way.
///
/// ```
/// epicycle::run(async {
///     let task = epicycle::spawn(async { epicycle::task::id() });
///     let id = task.id();
///     assert_eq!(task.await.unwrap(), id);
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(NonZeroU64);

impl Id {
    pub(super) fn next() -> Self {
        let next = NEXT.get();
        let next = if next.is_multiple_of(BLOCK) {
            // Ordering: Relaxed, file header.
            NEXT_BLOCK.fetch_add(BLOCK, Ordering::Relaxed)
        } else {
            next
        };
        NEXT.set(next + 1);
        Self(NonZeroU64::MIN.saturating_add(next))
    }

    pub(super) fn number(self) -> u64 {
        self.0.get()
    }

    pub(super) fn from_number(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.0)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of the task that the current code runs in, its destructors included.
///
/// # Panics
/// Outside a task; [`try_id`] says `None` instead.
///
/// ```
/// epicycle::run(async {
///     epicycle::spawn(async { println!("this is task {}", epicycle::task::id()) }).await.unwrap();
/// });
/// ```
#[track_caller]
pub fn id() -> Id {
    try_id().expect("task::id() was called outside a task; use task::try_id() where that can happen")
}

/// The id of the task that the current code runs in, or `None` outside tasks, as in a `call_soon` callback.
///
/// ```
/// assert!(epicycle::task::try_id().is_none());
/// ```
pub fn try_id() -> Option<Id> {
    CURRENT.get().map(|task| task.header().id())
}

/// The task that the current code runs in, its destructors included, or `None` outside tasks, as in a `call_soon` callback.
/// The future of `block_on` counts as a task.
///
/// Counterpart: asyncio's `current_task`.
///
/// ```
/// assert!(epicycle::current_task().is_none());
/// epicycle::run(async {
///     let worker = epicycle::task::Builder::new().name("worker");
///     let task = worker.spawn(async { epicycle::current_task().unwrap().name });
///     assert_eq!(task.await.unwrap(), "worker");
/// });
/// ```
pub fn current_task() -> Option<TaskInfo> {
    CURRENT.get().map(|task| TaskInfo::of(task.header()))
}

pub(super) fn is_current(task: RawTask) -> bool {
    CURRENT.get() == Some(task)
}

/// Says that this thread is inside `task`, or outside all, until the guard goes.
#[inline]
pub(super) fn enter(task: Option<RawTask>) -> Entered {
    // A model's threads take turns on one real thread, whose own this is.
    Entered(CURRENT.replace(if MODELLED { None } else { task }))
}

/// If this thread is inside `task`, which is about to be freed, it is outside all from now on.
#[inline]
pub(super) fn leave(task: RawTask) {
    if is_current(task) {
        CURRENT.set(None);
    }
}

#[must_use]
pub(crate) struct Entered(Option<RawTask>);

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}
