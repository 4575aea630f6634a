//! Task ids, and which task this thread is inside.
//!
//! *Invariant.* Ids are unique in the process and grow within a thread. A task that is woken while the innermost thing that
//! this thread is inside is a poll of that very task has *woken itself*: that is noted here, for the runner, and not in its state
//! word (`State::go_on` says why that will do).
//!
//! *Threads.* Any; what the thread is inside is its own. *Ordering.* Relaxed: a counter that publishes nothing.

use std::cell::Cell;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{RawTask, TaskInfo};
/// How many ids a thread takes from the shared counter at a time, so that spawning touches no shared line.
const BLOCK: u64 = 1024;

static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(0) };
}

// Each of a model's threads has its own, though they take turns on one real thread.
crate::primitive::thread_local! {
    static CURRENT: Current = const { Current { task: Cell::new(None), step: Cell::new(Step::Other) } };
}

/// What this thread is inside. Without a destructor, so it is there to the thread's end.
struct Current {
    /// Alive as long as it stands here: whoever enters a task runs it.
    task: Cell<Option<RawTask>>,
    step: Cell<Step>,
}

/// What is being done with the task.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Nothing is, or its future or output is dropped; or somebody else's poll counts as the task's, as `block_on`'s does.
    Other,
    Polled,
    /// Polled, and it has been woken meanwhile, from here.
    WokeItself,
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
    #[inline]
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
/// Counterpart: Tokio's `task::id`.
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
/// Counterpart: Tokio's `task::try_id`.
///
/// ```
/// assert!(epicycle::task::try_id().is_none());
/// ```
pub fn try_id() -> Option<Id> {
    current().map(|task| task.header().id())
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
    current().map(|task| TaskInfo::of(task.header()))
}

#[inline]
fn current() -> Option<RawTask> {
    CURRENT.with(|current| current.task.get())
}

#[inline]
pub(super) fn is_current(task: RawTask) -> bool {
    current() == Some(task)
}

/// Says that this thread is inside `task`, or outside all, until the guard goes.
#[inline]
pub(super) fn enter(task: Option<RawTask>) -> Entered {
    CURRENT.with(|current| Entered { task: current.task.replace(task), step: current.step.replace(Step::Other) })
}

/// If this thread is inside `task`, which is about to be freed, it is outside all from now on.
#[inline]
pub(super) fn leave(task: RawTask) {
    if is_current(task) {
        CURRENT.with(|current| current.task.set(None));
    }
}

/// The current task is about to be polled, by its runner.
#[inline]
pub(super) fn begin_poll() {
    CURRENT.with(|current| current.step.set(Step::Polled));
}

/// It was polled. True: it has woken itself meanwhile.
#[inline]
pub(super) fn end_poll() -> bool {
    CURRENT.with(|current| current.step.replace(Step::Other)) == Step::WokeItself
}

/// Wakes `task` if this thread is polling it; if not, false.
#[inline]
pub(super) fn wake_polled(task: RawTask) -> bool {
    CURRENT.with(|current| {
        let polled = current.task.get() == Some(task) && current.step.get() != Step::Other;
        if polled {
            current.step.set(Step::WokeItself);
        }
        polled
    })
}

#[must_use]
pub(crate) struct Entered {
    task: Option<RawTask>,
    step: Step,
}

impl Drop for Entered {
    #[inline]
    fn drop(&mut self) {
        CURRENT.with(|current| {
            current.task.set(self.task);
            current.step.set(self.step);
        });
    }
}
