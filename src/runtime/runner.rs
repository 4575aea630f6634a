//! [`Runner`] and [`run`]: a runtime with asyncio's end, in which what is left over is cancelled and awaited while loops and
//! executor still work.
//!
//! *Invariant.* The order of the end: tasks, executor, loops; also after a panic. *Threads.* The caller's. *Ordering.* None of
//! its own.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::interrupt::{Interrupt, Interrupted};
use super::{Builder, Runtime};
use crate::event_loop::EventLoop;
use crate::primitive::Mutex;
use crate::scheduler::{self, Shared};
use crate::task::context::Context;

/// How long executor jobs are waited for; asyncio's.
const EXECUTOR_TIMEOUT: Duration = Duration::from_secs(300);

/// Runs `future` on a new runtime with the [default options](Builder::worker_threads): a loop per CPU, at least two. Then ends
/// that in asyncio's order, also if the future panicked:
///
/// 1. The tasks that are left are cancelled and awaited. Panics of their destructors go to the exception handler.
/// 2. The executor refuses new jobs; those it has may end. After 300 s, there is a warning and they are left behind.
/// 3. The loops are closed: what the first two steps have spawned is dropped.
///
/// Signals are left alone: Ctrl-C ends the process as it does any Rust program, without running destructors. That is what
/// [`Runner::ctrl_c`] is for: a `run` that is interrupted would have nothing to return.
///
/// Counterpart: `asyncio.run`.
///
/// # Panics
/// With the future's own panic; if this thread already drives an event loop; and where [`Builder::build`] fails, as when the
/// system refuses the threads or descriptors that the loops need.
///
/// ```
/// let answer = epicycle::run(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn run<F: Future>(future: F) -> F::Output {
    assert_not_nested("run");
    let location = Location::caller();
    let mut runner = Runner::new();
    let result = catch_unwind(AssertUnwindSafe(|| runner.run_at(future, location)));
    runner.close();
    match result {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => panic!("{error}"),
        Err(payload) => resume_unwind(payload),
    }
}

#[track_caller]
fn assert_not_nested(what: &str) {
    assert!(
        EventLoop::try_current().is_none(),
        "{what} was called on a thread that already drives an event loop: await the future instead, or move the call to \
         run_in_executor"
    );
}

/// A runtime for several [`run`]s: they share its tasks, its executor and their
/// [context variables](crate::context). It starts with the first one.
///
/// [`close`](Self::close), or dropping it, ends it as [`run`] does.
///
/// Counterpart: `asyncio.Runner`.
///
/// ```
/// use epicycle::runtime::Runner;
///
/// let mut runner = Runner::new();
/// let background = runner.runtime()?.spawn(async { 1 });
/// runner.run(async { epicycle::yield_now().await })?;
/// assert_eq!(runner.run(background)?.unwrap(), 1);
/// runner.close();
/// assert!(runner.run(async {}).is_err());
/// # Ok::<(), epicycle::runtime::RunError>(())
/// ```
pub struct Runner {
    state: State,
    ctrl_c: bool,
    executor_timeout: Duration,
    /// The futures' own, begun as a copy of the first caller's.
    context: Option<Context>,
}

enum State {
    New(Box<Builder>),
    Open(Runtime),
    Closed,
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// With a runtime of the default options.
    ///
    /// ```
    /// use epicycle::runtime::Runner;
    ///
    /// let mut runner = Runner::new();
    /// assert_eq!(runner.run(async { 1 }).unwrap(), 1);
    /// assert_eq!(runner.run(async { 2 }).unwrap(), 2);
    /// ```
    pub fn new() -> Self {
        Self::with(Builder::new())
    }

    /// With a runtime of these options. asyncio's `loop_factory`.
    ///
    /// ```
    /// use epicycle::{Runtime, runtime::Runner};
    ///
    /// let mut runner = Runner::with(Runtime::builder().worker_threads(1));
    /// assert_eq!(runner.run(async { 5 }).unwrap(), 5);
    /// ```
    pub fn with(builder: Builder) -> Self {
        Self { state: State::New(Box::new(builder)), ctrl_c: false, executor_timeout: EXECUTOR_TIMEOUT, context: None }
    }

    /// Whether Ctrl-C (`SIGINT`) ends the future instead of the process. The first one drops it at its next suspension, so that
    /// destructors run, and [`run`](Self::run) returns [`RunError::Interrupted`]; a second one ends the process at once, as
    /// does any while no future is run. Default: false.
    ///
    /// The handler is the process's and stays installed. If you use this, do not listen for `SIGINT` otherwise, as with
    /// [`signal::ctrl_c`](crate::signal::ctrl_c): both would be told.
    ///
    /// Counterpart: asyncio's runner does this in the main thread, if nobody else handles the signal.
    ///
    /// ```
    /// use epicycle::runtime::{RunError, Runner};
    /// use epicycle::signal::SignalKind;
    ///
    /// let serve = async {
    ///     signal_hook::low_level::raise(SignalKind::interrupt().as_raw()).unwrap(); // as Ctrl-C does
    ///     std::future::pending::<()>().await
    /// };
    /// let end = Runner::new().ctrl_c(true).run(serve);
    /// assert!(matches!(end, Err(RunError::Interrupted)));
    /// ```
    #[must_use = "it returns the runner"]
    pub fn ctrl_c(mut self, handle: bool) -> Self {
        self.ctrl_c = handle;
        self
    }

    /// How long [`close`](Self::close) waits for executor jobs. Default: 300 s.
    ///
    /// ```
    /// use epicycle::runtime::Runner;
    /// use std::{sync::mpsc::channel, time::Duration};
    ///
    /// let mut runner = Runner::new().executor_timeout(Duration::from_millis(1));
    /// let (finish, wait) = channel::<()>();
    /// let stuck = runner.runtime().unwrap().run_in_executor(move || wait.recv());
    /// runner.close(); // warns, and leaves the job behind
    /// drop(finish); // lets it end
    /// # drop(stuck);
    /// ```
    #[must_use = "it returns the runner"]
    pub fn executor_timeout(mut self, timeout: Duration) -> Self {
        self.executor_timeout = timeout;
        self
    }

    /// The runtime, which is started if need be. asyncio's `get_loop`.
    ///
    /// # Errors
    /// [`RunError::Closed`]; [`RunError::Os`], after which it is closed.
    ///
    /// ```
    /// use epicycle::runtime::{RunError, Runner};
    ///
    /// let mut runner = Runner::new();
    /// let task = runner.runtime()?.spawn(async { 1 });
    /// assert_eq!(runner.run(task)?.unwrap(), 1);
    /// # Ok::<(), RunError>(())
    /// ```
    pub fn runtime(&mut self) -> Result<&Runtime, RunError> {
        if let State::New(_) = self.state
            && let State::New(builder) = std::mem::replace(&mut self.state, State::Closed)
        {
            self.state = State::Open(builder.build().map_err(RunError::Os)?);
        }
        match &self.state {
            State::Open(runtime) => Ok(runtime),
            _ => Err(RunError::Closed),
        }
    }

    /// Runs `future` to its end, as [`Runtime::block_on`] does. Other tasks go on until [`close`](Self::close), but those that
    /// are pinned to loop 0 end with it.
    ///
    /// # Errors
    /// [`RunError::Closed`]; [`RunError::Interrupted`] with [`ctrl_c`](Self::ctrl_c); [`RunError::Os`] if the system refuses
    /// what the runtime or the signal handler needs.
    ///
    /// # Panics
    /// With the future's own panic, after which the runner is usable; and on a thread that already drives an event loop.
    ///
    /// Counterpart: asyncio's `Runner.run`.
    ///
    /// ```
    /// use epicycle::runtime::Runner;
    ///
    /// let mut runner = Runner::new();
    /// let task = runner.run(async { epicycle::spawn(async { 1 }) }).unwrap();
    /// assert_eq!(runner.run(task).unwrap().unwrap(), 1); // it lives on from run to run
    /// ```
    #[track_caller]
    pub fn run<F: Future>(&mut self, future: F) -> Result<F::Output, RunError> {
        assert_not_nested("Runner::run");
        self.run_at(future, Location::caller())
    }

    fn run_at<F: Future>(&mut self, future: F, location: &'static Location<'static>) -> Result<F::Output, RunError> {
        let anchor = self.runtime()?.handle.anchor().clone();
        let interrupt = match self.ctrl_c {
            true => Some(Interrupt::listen().map_err(RunError::Os)?),
            false => None,
        };
        let context = self.context.get_or_insert_with(Context::capture);
        context.run(|| match interrupt {
            None => Ok(scheduler::block_on(&anchor, future, location)),
            Some(interrupt) => scheduler::block_on(&anchor, interrupt.stop(future), location)
                .map_err(|Interrupted(error)| error.map_or(RunError::Interrupted, RunError::Os)),
        })
    }

    /// Ends the runtime, in the order that [`run`] has. Does nothing a second time. On a thread that drives an event loop, and in
    /// a job of this runtime, which must not wait, tasks and jobs are ended as dropping a [`Runtime`] ends them.
    ///
    /// Counterpart: asyncio's `Runner.close`.
    ///
    /// ```
    /// use epicycle::runtime::{RunError, Runner};
    ///
    /// let mut runner = Runner::new();
    /// let left = runner.run(async { epicycle::spawn(std::future::pending::<()>()) }).unwrap();
    /// runner.close();
    /// assert!(left.cancelled());
    /// assert!(matches!(runner.run(async {}), Err(RunError::Closed)));
    /// ```
    pub fn close(&mut self) {
        if let State::Open(runtime) = std::mem::replace(&mut self.state, State::Closed)
            && EventLoop::try_current().is_none()
            && !scheduler::works_for(runtime.shared())
        {
            runtime.block_on(async {
                cancel_leftovers(runtime.shared()).await;
                runtime.handle.shutdown_default_executor(Some(self.executor_timeout)).await;
            });
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New(_) => "new",
            State::Open(_) => "open",
            State::Closed => "closed",
        };
        f.debug_struct("Runner").field("state", &state).finish_non_exhaustive()
    }
}

/// Cancels all tasks, and waits for their ends. What they spawn in their destructors goes on: it may be their
/// clean-up.
async fn cancel_leftovers(shared: &Shared) {
    let ended = Arc::new(Mutex::new((0_usize, None::<Waker>)));
    let count = ended.clone();
    let tell: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
        let waker = {
            let (ended, waker) = &mut *count.lock();
            *ended += 1;
            waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    });
    let lists = shared.remotes.iter().flat_map(|remote| [remote.live(), remote.pinned()]);
    let total: usize = lists.chain([&*shared.outside]).map(|list| list.cancel_tasks(&tell)).sum();
    poll_fn(|cx| {
        let new = cx.waker().clone();
        let (ended, waker) = &mut *ended.lock();
        if *ended == total {
            return Poll::Ready(());
        }
        *waker = Some(new);
        Poll::Pending
    })
    .await;
}

/// Why [`Runner::run`] has no value.
///
/// ```
/// use epicycle::runtime::{RunError, Runner};
///
/// let mut runner = Runner::new();
/// runner.close();
/// assert!(matches!(runner.run(async {}), Err(RunError::Closed)));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RunError {
    /// The runner was closed. asyncio's `RuntimeError`.
    Closed,
    /// Ctrl-C ended the future. asyncio's `KeyboardInterrupt`.
    Interrupted,
    /// The system refuses threads, descriptors or the signal handler; or `EPICYCLE_WORKER_THREADS` is not a positive number.
    Os(io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("Runner is closed"),
            Self::Interrupted => f.write_str("interrupted by Ctrl-C"),
            Self::Os(error) => write!(f, "cannot start the epicycle runtime: {error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Os(error) => Some(error),
            Self::Closed | Self::Interrupted => None,
        }
    }
}
