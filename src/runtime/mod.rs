//! The runtime as its user has it: life and death of the loops, and handles to them.
//!
//! ```
//! use epicycle::runtime::{Builder, Runtime, RuntimeHandle};
//!
//! let rt: Runtime = Builder::new().worker_threads(2).build().unwrap();
//! let loops = rt.block_on(async { RuntimeHandle::current().loops().len() });
//! assert_eq!(loops, 2);
//! ```
//!
//! *Invariant.* A [`Runtime`] ends with everything of it dropped: tasks, callbacks, jobs not yet started, threads.
//! *Threads.* Any. *Ordering.* `scheduler/README.md`.

mod builder;
mod handle;
mod interrupt;
mod metrics;
mod runner;
mod shutdown_executor;
mod tree;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use builder::Builder;
pub use handle::{EnterGuard, RuntimeHandle, TryCurrentError};
pub use metrics::{LoopMetrics, Metrics};
pub use runner::{RunError, Runner, run};
pub use shutdown_executor::ShutdownExecutor;

pub use crate::scheduler::{Executor, Job};

use crate::event_loop::LoopHandle;
use crate::primitive::Mutex;
use crate::scheduler::{self, Anchor, OUTSIDE, Shared};
use crate::task::{Handle, Task};

/// All loops, the injector and the executor. Dropping it ends them: pending futures are dropped, running executor jobs are
/// awaited, the threads are joined.
///
/// Counterparts: asyncio's event loop and its policy, Tokio's multi-thread `Runtime`. For asyncio's `Runner` see [`Runner`].
///
/// With `n` loops it has `n - 1` threads of its own: loop 0 is driven by the thread inside [`block_on`](Self::block_on).
///
/// ```
/// use epicycle::Runtime;
/// let rt = Runtime::new();
/// let total: u64 = rt.block_on(async {
///     let tasks: Vec<_> = (0..10u64).map(|i| epicycle::spawn(async move { i * i })).collect();
///     let mut total = 0;
///     for task in tasks {
///         total += task.await.unwrap();
///     }
///     total
/// });
/// assert_eq!(total, 285);
/// ```
pub struct Runtime {
    handle: RuntimeHandle,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Runtime {
    /// A runtime with the default options.
    ///
    /// Counterparts: Tokio's `Runtime::new`, asyncio's `new_event_loop`.
    ///
    /// # Panics
    /// If the system refuses threads or descriptors, or `EPICYCLE_WORKER_THREADS` is not a positive number;
    /// [`try_new`](Self::try_new) gives the error instead.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// assert_eq!(rt.block_on(async { 6 * 7 }), 42);
    /// ```
    #[track_caller]
    pub fn new() -> Self {
        match Self::try_new() {
            Ok(runtime) => runtime,
            Err(error) => panic!("cannot start the epicycle runtime: {error}"),
        }
    }

    /// A runtime with the default options.
    ///
    /// # Errors
    /// As [`Builder::build`].
    ///
    /// ```
    /// let rt = epicycle::Runtime::try_new()?;
    /// assert_eq!(rt.block_on(async { 6 * 7 }), 42);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// Options for a runtime. [`build`](Builder::build) starts it.
    ///
    /// Counterpart: Tokio's `Builder::new_multi_thread`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(3).build().unwrap();
    /// assert_eq!(rt.loops().len(), 3);
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }

    fn start(options: scheduler::Options) -> io::Result<Self> {
        let (shared, queues) = Shared::new(options)?;
        let handle = RuntimeHandle::new(Anchor::new(&shared, OUTSIDE));
        let runtime = Self { handle, threads: Mutex::new(Vec::with_capacity(queues.len())) };
        for (index, queue) in queues.into_iter().enumerate().skip(1) {
            let builder = shared.options.threads.builder((shared.options.threads.name)())?;
            let anchor = Anchor::new(&shared, index);
            // On failure the drop of `runtime` ends the threads that have started.
            let thread = builder.spawn(move || scheduler::run_background(anchor, queue))?;
            runtime.threads.lock().push(thread);
        }
        Ok(runtime)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.anchor().shared
    }

    /// Runs `future` to its end on this thread, which drives loop 0 meanwhile: handles, timers, sockets, stealing. The
    /// future need not be `Send` and may borrow. It is dropped before this returns.
    ///
    /// On return everything *pinned* to loop 0 is dropped: `spawn_local` tasks, callbacks, timers' callbacks, readers and
    /// writers. All else goes on on the other loops; with one loop it waits for the next call.
    ///
    /// A second thread may call this meanwhile: its future is polled on its own thread, with its own place for pinned work.
    ///
    /// Counterparts: asyncio's `run_until_complete`, Tokio's `Runtime::block_on` (which does not make its caller a worker).
    ///
    /// # Panics
    /// With the future's own panic, and if somebody [stops](crate::EventLoop::stop) the loop first: after these the runtime is
    /// usable; on a thread that already drives an event loop; and for a second caller, if the system refuses what its place for
    /// pinned work needs.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let words = vec!["not", "'static"];
    /// let count = rt.block_on(async {
    ///     epicycle::yield_now().await;
    ///     words.len() // borrowed
    /// });
    /// assert_eq!(count, 2);
    /// ```
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.handle.block_on(future)
    }

    /// As the free function [`spawn`](crate::spawn), from anywhere.
    ///
    /// Counterpart: Tokio's `Runtime::spawn`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let task = rt.spawn(async { 6 * 7 });
    /// assert_eq!(rt.block_on(task).unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(future)
    }

    /// As [`RuntimeHandle::call_soon_threadsafe`].
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(2).build().unwrap();
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// rt.call_soon_threadsafe(move || sender.send("called").unwrap());
    /// assert_eq!(receiver.recv(), Ok("called"));
    /// ```
    #[track_caller]
    pub fn call_soon_threadsafe(&self, callback: impl FnOnce() + Send + 'static) -> Handle {
        self.handle.call_soon_threadsafe(callback)
    }

    /// As the free function [`run_in_executor`](crate::run_in_executor), from anywhere.
    ///
    /// Counterpart: Tokio's `Runtime::spawn_blocking`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let job = rt.run_in_executor(|| "may block");
    /// assert_eq!(rt.block_on(job).unwrap(), "may block");
    /// ```
    #[track_caller]
    pub fn run_in_executor<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        self.handle.run_in_executor(job)
    }

    /// A handle that other threads and tasks can keep.
    ///
    /// Counterpart: Tokio's `Runtime::handle`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let handle = rt.handle();
    /// let task = std::thread::spawn(move || handle.spawn(async { 1 })).join().unwrap();
    /// assert_eq!(rt.block_on(task).unwrap(), 1);
    /// ```
    pub fn handle(&self) -> RuntimeHandle {
        self.handle.clone()
    }

    /// The loops, by index.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(2).build().unwrap();
    /// let on_loop_1 = rt.loops()[1].spawn_local(|| async { epicycle::EventLoop::current().index() });
    /// assert_eq!(rt.block_on(on_loop_1).unwrap(), 1);
    /// ```
    pub fn loops(&self) -> &[LoopHandle] {
        &self.shared().handles
    }

    /// Figures of all loops, as of now.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// rt.block_on(rt.run_in_executor(|| {})).unwrap();
    /// let metrics = rt.metrics();
    /// assert_eq!((metrics.alive_tasks, metrics.executor_threads), (0, 1));
    /// ```
    pub fn metrics(&self) -> Metrics {
        self.handle.metrics()
    }

    /// Ends the runtime, waiting for at most `timeout` for loops that are inside a long handle and for executor jobs that
    /// run. What is still running then drops its part when it returns.
    ///
    /// Counterpart: Tokio's `shutdown_timeout`.
    ///
    /// ```
    /// use std::{sync::mpsc::channel, time::Duration};
    ///
    /// let rt = epicycle::Runtime::new();
    /// let (finish, wait) = channel::<()>();
    /// let stuck = rt.run_in_executor(move || wait.recv());
    /// while rt.metrics().executor_queue_depth > 0 {
    ///     std::thread::yield_now(); // a job that has not started would be cancelled
    /// }
    /// rt.shutdown_timeout(Duration::from_millis(1)); // dropping it would wait for ever
    /// assert!(!stuck.done());
    /// drop(finish); // lets it end
    /// ```
    pub fn shutdown_timeout(self, timeout: Duration) {
        self.shut_down(Instant::now().checked_add(timeout));
    }

    /// Ends the runtime without waiting for anything.
    ///
    /// Counterpart: Tokio's `shutdown_background`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let task = rt.spawn(std::future::pending::<()>());
    /// rt.shutdown_background();
    /// while !task.cancelled() {
    ///     std::thread::yield_now();
    /// }
    /// ```
    pub fn shutdown_background(self) {
        self.shutdown_timeout(Duration::ZERO);
    }

    /// `None`: waits as long as it takes.
    fn shut_down(&self, deadline: Option<Instant>) {
        let shared = self.shared();
        if !shared.start_closing() {
            return;
        }
        shared.tenancy.unpark_guests();
        let threads = std::mem::take(&mut *self.threads.lock());
        // On one of the runtime's own threads, waiting would be for oneself: the rest ends when the current handle does.
        let deadline = if scheduler::works_for(shared) { Some(Instant::now()) } else { deadline };
        // A driver that came in through a handle closes loop 0 itself, and then vacates it.
        wait_until(deadline, || scheduler::close_vacant_loop(shared));
        shared.executor.shut_down(deadline);
        for thread in threads {
            // std has no timed join. A loop's thread aborts rather than panics.
            if deadline.is_none() || wait_until(deadline, || thread.is_finished()) {
                let _ = thread.join();
            }
        }
    }
}

/// Looks, with growing pauses, until it is so or the deadline (`None`: never) has passed.
fn wait_until(deadline: Option<Instant>, mut is_so: impl FnMut() -> bool) -> bool {
    let mut pause = Duration::from_micros(20);
    while !is_so() {
        let left = deadline.map_or(Duration::MAX, |d| d.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return false;
        }
        thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    true
}

impl Default for Runtime {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.shut_down(None);
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("loops", &self.loops().len()).finish_non_exhaustive()
    }
}
