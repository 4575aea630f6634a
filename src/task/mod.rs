//! One spawned unit of work: a future, a callback or an executor job, and everyone's references to it.
//!
//! ```
//! use epicycle::task::{self, Outcome};
//!
//! epicycle::run(async {
//!     let (sender, outcome) = std::sync::mpsc::channel();
//!     let task = task::Builder::new().name("cook").spawn(async { task::try_id() });
//!     task.add_done_callback(move |outcome| sender.send(outcome).unwrap());
//!     let id = task.id();
//!     assert_eq!(task.await.unwrap(), Some(id));
//!     epicycle::run_in_executor(move || assert_eq!(outcome.recv(), Ok(Outcome::Completed))).await.unwrap();
//! });
//! ```
//!
//! *Invariant.* This room knows no queue and no loop: it reaches its scheduler only through `Schedule`. There are four
//! kinds of reference to one cell:
//!
//! | reference | type | counted | may |
//! |---|---|---|---|
//! | the runtime's | a live list's entry, or the ready handle | one until completion | run, drop the future |
//! | a ready handle | `ReadyHandle` | no: it lives on the runtime's | run once |
//! | a waker | `std::task::Waker` | yes | make ready |
//! | the caller's | `Task<T>`, `Handle`, `TimerHandle` | yes | cancel, look; `Task` takes the output |
//!
//! *Who may touch what, when* (all of it argued from the state word, `state.rs`):
//! 1. The future, and the cell's context: only the holder of the ready handle, from `start` to `suspend` or `complete`. A
//!    one-shot's closure: only who set `CLAIMED`. What a post is made from: whoever came first, the loop that begins to run it or
//!    the canceller who set `CLAIMED`.
//! 2. The output: written by the runner before `COMPLETE`; afterwards the `Task<T>`'s if `JOIN` was set then, else the
//!    completer's.
//! 3. The join slot: the `Task<T>`'s while `JOIN_WAKER` is unset; once set, the completer's from the moment of `COMPLETE`.
//!    `unset_join_waker` takes it back before that.
//! 4. A pinned future, closure or callback is dropped on its loop's thread only. Its output belongs to its `Task<T>`, whose
//!    type says which threads it may go to.
//! 5. User code (polls, destructors, wakers, callbacks) runs under no lock and inside `catch_unwind`.
//!
//! *Threads.* Any, as above. *Ordering.* `state.rs`.

pub(crate) mod budget;
mod callback;
mod cell;
pub(crate) mod context;
mod eager;
mod handle;
mod id;
mod instrument;
mod join;
mod live;
mod report;
mod state;
mod tracker;
mod unseen;
mod waker;

pub use handle::{Handle, TimerHandle};
pub use id::{Id, current_task, id, try_id};
pub use instrument::{Event, FutureId, Instrument, TaskKind, Work};
pub use join::{CancelOnDrop, JoinError, JoinHandle, Outcome, Task};
pub use report::{ErrorContext, Handler};

pub(crate) use callback::{Callbacks, Once};
pub(crate) use cell::{Kind, NewTask, RawTask, catch, launch, launch_eagerly, launch_waiting, spawn_cell};
pub(crate) use eager::try_run as try_run_eagerly;
pub(crate) use handle::{ReadyHandle, Witness, discard};
pub(crate) use instrument::{Observer, is_observed};
pub(crate) use live::LiveList;
pub use live::{TaskInfo, TaskState};
pub(crate) use report::{ExceptionHandler, drop_payload, payload_text, report_to};
pub(crate) use tracker::{Phase, Tracked};
pub(crate) use waker::{is_own_waker, only_loop};

/// How a cell reaches its queue. Implemented by the rooms above.
///
/// Choosing the queue and pushing are two steps, because the push gives the handle away: another thread may run and free
/// the cell, and `self` in it, before the push returns.
pub(crate) trait Schedule: Send + Sync + Sized + 'static {
    /// A queue, held by something of its own.
    type Target;
    /// The queue that fits the current thread.
    fn target(&self) -> Self::Target;
    /// Makes ready. Runs no user code, unless the queue is closed and the handle is dropped.
    fn push(target: Self::Target, handle: ReadyHandle);
    /// The two in one, where something else than the handle keeps `self` until the push is over.
    #[inline]
    fn queue(&self, handle: ReadyHandle) {
        Self::push(self.target(), handle);
    }
    /// Whether things pinned to this scheduler's loop may be dropped on the current thread.
    fn is_home(&self) -> bool;
    /// Whether the current thread alone runs what is scheduled by this, now and until its loop closes there.
    fn is_driven_here(&self) -> bool {
        false
    }
    /// The index of the loop that is the only one to run what is scheduled by this, if there is one.
    fn only_loop(&self) -> Option<usize> {
        None
    }
    /// The list that holds the runtime's reference while a task is alive.
    fn live(&self) -> Option<&LiveList>;
    /// Whether the current thread is that of the loop whose list it is: a hint, which spares others its lock.
    fn is_birthplace(&self) -> bool {
        true
    }
    /// Who is told of events.
    fn observer(&self) -> Option<&Observer> {
        None
    }
    /// Whether several loops serve it, so that turns cannot be counted.
    fn has_peers(&self) -> bool {
        false
    }
    /// Queues a callback: done-callbacks go through the queue, they are never called in place.
    fn deliver(&self, callbacks: Callbacks);
    /// Last resort for errors that nobody can be handed.
    fn report(&self, context: &ErrorContext);
}

/// Options for one task: `task::Builder::new().name("worker").spawn(future)`.
///
/// Counterparts: asyncio's `create_task(coro, name=..)`, Tokio's `task::Builder`.
///
/// ```
/// epicycle::run(async {
///     let task = epicycle::task::Builder::new().name("answer").spawn(async { 42 });
///     assert_eq!(task.name(), "answer");
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until one of its spawn methods is called"]
pub struct Builder {
    pub(crate) name: Option<String>,
    pub(crate) eager: bool,
}

impl Builder {
    /// No options set.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let plain = epicycle::task::Builder::new().spawn(async { 1 });
    ///     assert_eq!(plain.name(), format!("Task-{}", plain.id()));
    /// });
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the task. Without a name it is called `Task-N`, N being its id.
    ///
    /// Counterparts: the `name` of asyncio's `create_task`, Tokio's `task::Builder::name`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::task::Builder::new().name("cook").spawn(async {});
    ///     assert_eq!(task.name(), "cook");
    /// });
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Whether the task is polled where it is spawned, inside the spawning call, until it first has to wait. A task that need
    /// not wait is done when the call returns, and has cost the loop no turn. Default: false.
    ///
    /// Its panic is kept for whoever awaits it, as ever; its [context variables](crate::context) are its own. It runs in the
    /// spawning task's turn: one that computes for long holds that up. Eager tasks that spawn eager tasks are run in place
    /// sixteen deep, then queued; and so is one that is spawned off the loops of its runtime.
    ///
    /// Counterpart: asyncio's `eager_start` and `eager_task_factory`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::task::Builder::new().eager(true).spawn(async { 6 * 7 });
    ///     assert!(task.done());
    ///     assert_eq!(task.await.unwrap(), 42);
    /// });
    /// ```
    pub fn eager(mut self, eager: bool) -> Self {
        self.eager = eager;
        self
    }
}
