//! [`RuntimeHandle`]: a runtime as tasks and other threads know it.
//!
//! *Invariant.* Keeps the runtime's memory, not its threads: after the runtime ended, what is given to it is cancelled.
//! *Threads.* Any. *Ordering.* None of its own.

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::time::Duration;

use super::metrics::{self, Metrics};
use super::shutdown_executor::ShutdownExecutor;
use super::tree;
use crate::event_loop::LoopHandle;
use crate::primitive::BiasedArc;
use crate::scheduler::{self, Anchor, Executor, Missing};
use crate::task::{Handle, Task, TaskInfo};

/// A handle to a runtime: cheap to clone, for any thread.
///
/// Counterpart: Tokio's `runtime::Handle`. (asyncio's `Handle` is [`Handle`].)
///
/// ```
/// use epicycle::Runtime;
/// let rt = Runtime::new();
/// let handle = rt.handle();
/// let thread = std::thread::spawn(move || handle.block_on(async { handle.spawn(async { 1 }).await.unwrap() }));
/// assert_eq!(thread.join().unwrap(), 1);
/// ```
#[derive(Clone)]
pub struct RuntimeHandle {
    anchor: BiasedArc<Anchor>,
}

impl RuntimeHandle {
    pub(super) fn new(anchor: BiasedArc<Anchor>) -> Self {
        Self { anchor }
    }

    pub(super) fn anchor(&self) -> &BiasedArc<Anchor> {
        &self.anchor
    }

    /// The runtime this thread is in.
    ///
    /// # Panics
    /// Outside a runtime.
    ///
    /// Counterparts: Tokio's `Handle::current`, asyncio's `get_running_loop`. For this thread's loop there is
    /// [`EventLoop::current`](crate::EventLoop::current).
    ///
    /// ```
    /// use epicycle::RuntimeHandle;
    ///
    /// epicycle::run(async {
    ///     let here = RuntimeHandle::current();
    ///     let outside = std::thread::spawn(move || here.spawn(async { 1 })).join().unwrap();
    ///     assert_eq!(outside.await.unwrap(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn current() -> Self {
        match Self::try_current() {
            Ok(handle) => handle,
            Err(error) => panic!("{error}"),
        }
    }

    /// The runtime this thread is in.
    ///
    /// Counterpart: Tokio's `Handle::try_current`.
    ///
    /// # Errors
    /// Outside a runtime, or on a thread whose locals are being destroyed.
    ///
    /// ```
    /// use epicycle::RuntimeHandle;
    ///
    /// assert!(RuntimeHandle::try_current().is_err());
    /// epicycle::run(async { assert!(RuntimeHandle::try_current().is_ok()) });
    /// ```
    pub fn try_current() -> Result<Self, TryCurrentError> {
        match scheduler::try_current() {
            Ok(anchor) => Ok(Self { anchor }),
            Err(missing) => Err(TryCurrentError { missing }),
        }
    }

    /// Makes this the runtime that [`spawn`](crate::spawn) and its like mean on this thread, until the guard is dropped.
    /// Guards nest, and are to be dropped in reverse order.
    ///
    /// Counterpart: Tokio's `Handle::enter`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let handle = rt.handle();
    /// let guard = handle.enter();
    /// let task = epicycle::spawn(async { 1 });
    /// drop(guard);
    /// assert_eq!(rt.block_on(task).unwrap(), 1);
    /// ```
    pub fn enter(&self) -> EnterGuard {
        EnterGuard { _entered: scheduler::enter(self.anchor.clone()), not_send: PhantomData }
    }

    /// As [`Runtime::block_on`](crate::Runtime::block_on). When the runtime ends meanwhile, or has ended, the future goes on in a
    /// loop of its own, and what it gives to the runtime is cancelled.
    ///
    /// # Panics
    /// As there.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let handle = rt.handle();
    /// let thread = std::thread::spawn(move || handle.block_on(async { epicycle::spawn(async { 1 }).await.unwrap() }));
    /// assert_eq!(thread.join().unwrap(), 1);
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        scheduler::block_on(&self.anchor, future, Location::caller())
    }

    /// Spawns a task that may run on any loop. After the runtime ended, the task is cancelled.
    ///
    /// Counterparts: Tokio's `Handle::spawn`, asyncio's `run_coroutine_threadsafe`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let handle = rt.handle();
    /// assert_eq!(rt.block_on(handle.spawn(async { 1 })).unwrap(), 1);
    /// drop(rt);
    /// assert!(handle.spawn(async { 1 }).cancelled());
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        scheduler::spawn_from(&self.anchor, future, Location::caller())
    }

    /// Has `callback` run on whichever loop comes first. With one loop that is asyncio's `call_soon_threadsafe`: in the
    /// order of the calls. For one particular loop there is [`LoopHandle::call_soon_threadsafe`].
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(2).build().unwrap();
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// rt.handle().call_soon_threadsafe(move || sender.send("called").unwrap());
    /// assert_eq!(receiver.recv(), Ok("called"));
    /// ```
    #[track_caller]
    pub fn call_soon_threadsafe(&self, callback: impl FnOnce() + Send + 'static) -> Handle {
        scheduler::call_soon_on(&self.anchor, callback, Location::caller())
    }

    /// Runs `job` on the executor. After the runtime ended, the task is cancelled.
    ///
    /// Counterpart: Tokio's `Handle::spawn_blocking`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let handle = rt.handle();
    /// assert_eq!(rt.block_on(handle.run_in_executor(|| 6 * 7)).unwrap(), 42);
    /// drop(rt);
    /// assert!(handle.run_in_executor(|| unreachable!()).cancelled());
    /// ```
    #[track_caller]
    pub fn run_in_executor<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        scheduler::run_in_executor_of(self.anchor.clone(), job, Location::caller())
    }

    /// Runs `job` on `executor`, as the free function [`run_in_executor_on`](crate::run_in_executor_on).
    ///
    /// ```
    /// use epicycle::runtime::Job;
    ///
    /// let rt = epicycle::Runtime::new();
    /// let threads = |job: Job| drop(std::thread::spawn(job));
    /// assert_eq!(rt.block_on(rt.handle().run_in_executor_on(&threads, || 6 * 7)).unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn run_in_executor_on<T: Send + 'static>(
        &self,
        executor: &(impl Executor + ?Sized),
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Task<T> {
        scheduler::run_in_executor_on_of(self.anchor.clone(), executor, job, Location::caller())
    }

    /// Ends the executor: jobs that come from now on are refused, which cancels them; those that were queued before still run.
    /// Waits for them for up to `timeout` (`None`: as long as it takes). When that is over, it tells the exception handler,
    /// cancels the jobs that have not started and leaves the others behind.
    ///
    /// Gives whether all had ended. Jobs given to an [executor of one's own](crate::run_in_executor_on) are not concerned.
    ///
    /// Counterpart: asyncio's `loop.shutdown_default_executor`.
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, it has ended the executor without waiting; it may be called again.
    ///
    /// ```
    /// use epicycle::{RuntimeHandle, run_in_executor};
    ///
    /// epicycle::run(async {
    ///     let job = run_in_executor(|| 1);
    ///     assert!(RuntimeHandle::current().shutdown_default_executor(None).await);
    ///     assert_eq!(job.await.unwrap(), 1);
    ///     let late = run_in_executor(|| 2).await.unwrap_err();
    ///     assert!(late.is_cancelled());
    ///     assert_eq!(late.to_string(), "Executor shutdown has been called");
    /// });
    /// ```
    pub fn shutdown_default_executor(&self, timeout: Option<Duration>) -> ShutdownExecutor {
        ShutdownExecutor::new(self.anchor.clone(), timeout)
    }

    /// The loops, by index.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(2).build().unwrap();
    /// let indexes: Vec<_> = rt.handle().loops().iter().map(|l| l.index()).collect();
    /// assert_eq!(indexes, [0, 1]);
    /// ```
    pub fn loops(&self) -> &[LoopHandle] {
        &self.anchor.shared.handles
    }

    /// The tasks that have not ended, loop by loop, the futures of `block_on` among them. Each loop's part is of one moment. What
    /// was posted by [`LoopHandle::spawn_local`] is there once its loop has built it.
    ///
    /// Counterpart: asyncio's `all_tasks`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let task = rt.block_on(async { epicycle::task::Builder::new().name("waiting").spawn(std::future::pending::<()>()) });
    /// let all = rt.handle().all_tasks();
    /// assert!(all.iter().any(|info| info.id == task.id() && info.name == "waiting"));
    /// ```
    pub fn all_tasks(&self) -> Vec<TaskInfo> {
        let shared = &self.anchor.shared;
        let loops = shared.remotes.iter().flat_map(|remote| [remote.live().infos(), remote.pinned().infos()]).flatten();
        loops.chain(shared.outside.infos()).collect()
    }

    /// A table of the tasks that have not ended: name, state, where and by whom spawned, how often and how long polled, what they
    /// wait for, who awaits them. The last five are known if tasks are kept track of:
    /// [`Builder::track_tasks`](crate::Builder::track_tasks), or debug mode.
    ///
    /// From any thread, and while loops are stuck. Meant to be read by people: the form may change.
    ///
    /// Counterpart: `python -m asyncio ps`, from inside.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().track_tasks(true).build().unwrap();
    /// let handle = rt.handle();
    /// rt.block_on(async {
    ///     let cook = epicycle::task::Builder::new().name("cook").spawn(std::future::pending::<()>());
    ///     epicycle::yield_now().await;
    ///     println!("{}", handle.ps());
    ///     assert!(handle.ps().contains("cook"));
    ///     cook.cancel();
    /// });
    /// ```
    pub fn ps(&self) -> String {
        tree::ps(&self.anchor.shared, || self.all_tasks())
    }

    /// The tasks that have not ended as a tree: each below the one that awaits it, or else below the one that spawned it. Tasks that
    /// await each other in a circle are named first. As [`ps`](Self::ps), that needs tasks to be kept track of.
    ///
    /// Counterpart: `python -m asyncio pstree`, from inside.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().track_tasks(true).build().unwrap();
    /// let handle = rt.handle();
    /// rt.block_on(async {
    ///     let waiter = epicycle::task::Builder::new().name("waiter").spawn(async {
    ///         let cook = epicycle::task::Builder::new().name("cook").spawn(std::future::pending::<()>());
    ///         cook.await
    ///     });
    ///     // "waiter (Task-2): task, waiting [src/main.rs:6]"
    ///     // "└── awaits cook (Task-3): task, waiting [src/main.rs:7]"
    ///     while !handle.pstree().contains("awaits cook") {
    ///         epicycle::yield_now().await;
    ///     }
    ///     waiter.cancel();
    /// });
    /// ```
    pub fn pstree(&self) -> String {
        tree::pstree(&self.anchor.shared, || self.all_tasks())
    }

    /// Figures of all loops, as of now.
    ///
    /// Counterpart: Tokio's `Handle::metrics`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let task = rt.spawn(std::future::pending::<()>());
    /// assert_eq!(rt.handle().metrics().alive_tasks, 1);
    /// # drop(task);
    /// ```
    pub fn metrics(&self) -> Metrics {
        metrics::collect(&self.anchor.shared)
    }
}

impl fmt::Debug for RuntimeHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeHandle").field("loops", &self.loops().len()).finish_non_exhaustive()
    }
}

/// What [`RuntimeHandle::enter`] returns; leaves the runtime when dropped.
///
/// Counterpart: Tokio's `EnterGuard`.
///
/// # Panics
/// When guards are dropped in another order than the reverse of entering.
///
/// ```
/// use epicycle::{Runtime, RuntimeHandle, runtime::EnterGuard};
///
/// let rt = Runtime::new();
/// let guard: EnterGuard = rt.handle().enter();
/// assert!(RuntimeHandle::try_current().is_ok());
/// drop(guard);
/// assert!(RuntimeHandle::try_current().is_err());
/// ```
#[derive(Debug)]
#[must_use = "dropping the guard leaves the runtime"]
pub struct EnterGuard {
    _entered: scheduler::Entered,
    not_send: PhantomData<*const ()>,
}

/// Why there is no current runtime.
///
/// Counterpart: Tokio's `TryCurrentError`.
///
/// ```
/// use epicycle::RuntimeHandle;
///
/// let error = RuntimeHandle::try_current().unwrap_err();
/// assert!(error.to_string().starts_with("there is no epicycle runtime here"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TryCurrentError {
    missing: Missing,
}

impl TryCurrentError {
    /// The thread is in no runtime.
    ///
    /// Counterpart: Tokio's `TryCurrentError::is_missing_context`.
    ///
    /// ```
    /// let error = epicycle::RuntimeHandle::try_current().unwrap_err();
    /// assert!(error.is_missing_context());
    /// ```
    pub fn is_missing_context(&self) -> bool {
        self.missing == Missing::Context
    }

    /// The thread is ending, and what it had entered is gone.
    ///
    /// Counterpart: Tokio's `TryCurrentError::is_thread_local_destroyed`.
    ///
    /// ```
    /// let error = epicycle::RuntimeHandle::try_current().unwrap_err();
    /// assert!(!error.is_thread_local_destroyed()); // not entered, but alive
    /// ```
    pub fn is_thread_local_destroyed(&self) -> bool {
        self.missing == Missing::ThreadLocal
    }
}

impl fmt::Display for TryCurrentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.missing {
            Missing::Context => f.write_str(scheduler::NO_RUNTIME),
            Missing::ThreadLocal => f.write_str("there is no epicycle runtime on a thread that is ending"),
        }
    }
}

impl std::error::Error for TryCurrentError {}
