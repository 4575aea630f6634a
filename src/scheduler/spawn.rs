//! The functions at the crate's root: spawning and posting in whatever runtime this thread is in.
//!
//! *Invariant.* The innermost entered runtime counts; without one, a loop on its own that this thread drives. Spawning runs
//! no user code. *Threads.* Any. *Ordering.* None of its own.

use std::io;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::alone::current_alone;
use super::context;
use super::jobs::{Executor, run_in_executor_of, run_in_executor_on_of};
use super::shared::{Anchor, StealableHome};
use crate::event_loop::{LoopCore, Remote, current};
use crate::primitive::BiasedArc;
use crate::task::{
    Builder, ErrorContext, Event, Handle, Kind, NewTask, Once, Task, is_observed, launch, launch_eagerly,
};

pub(crate) const NO_RUNTIME: &str = "there is no epicycle runtime here: call this inside Runtime::block_on, \
     one of its tasks or callbacks, or enter a RuntimeHandle first";

const NO_LOOP: &str = "spawn_local needs an event loop on this thread: call it inside block_on, a task or a \
     callback, or send the work to a loop with LoopHandle::spawn_local";

fn current_anchor() -> Option<BiasedArc<Anchor>> {
    context::with(|anchor| anchor.cloned()).flatten()
}

fn new_task(kind: Kind, name: Option<String>, location: &'static Location<'static>) -> NewTask {
    NewTask { kind, pinned: false, queued: true, unbuilt: false, name, location }
}

/// On a thread of the same runtime its own anchor, so that each loop keeps its own list.
fn nearest(anchor: &BiasedArc<Anchor>) -> BiasedArc<Anchor> {
    let same = |here: &&BiasedArc<Anchor>| Arc::ptr_eq(&here.shared, &anchor.shared);
    let here = context::with(|here| here.filter(same).cloned()).flatten();
    here.unwrap_or_else(|| anchor.clone())
}

/// Spawns on `anchor`'s runtime.
pub(crate) fn spawn_from<F>(
    anchor: &BiasedArc<Anchor>,
    future: F,
    location: &'static Location<'static>,
) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_on(nearest(anchor), future, Builder::new(), location)
}

fn spawn_on<F>(
    anchor: BiasedArc<Anchor>,
    future: F,
    options: Builder,
    location: &'static Location<'static>,
) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let new = new_task(Kind::Task, options.name, location);
    if options.eager && is_on_loop_of(&anchor) {
        return Task::new(launch_eagerly(future, StealableHome(anchor), new));
    }
    Task::new(launch(future, StealableHome(anchor), new))
}

fn is_on_loop_of(anchor: &Anchor) -> bool {
    current::with(|core| core.is_some_and(|core| core.fleet() == anchor.shared.fleet() && !core.is_closed()))
}

/// On a loop without a runtime every task is the loop's own.
fn spawn_alone<T: 'static>(
    core: &LoopCore,
    future: Pin<Box<dyn Future<Output = T>>>,
    options: Builder,
    location: &'static Location<'static>,
) -> Task<T> {
    core.spawn_local(future, options, location)
}

#[track_caller]
fn spawn_with<F>(future: F, options: Builder) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_at(future, options, Location::caller())
}

/// As [`spawn`], for a task that is to bear the place of another call.
#[track_caller]
pub(crate) fn spawn_at<F>(future: F, options: Builder, location: &'static Location<'static>) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    if let Some(anchor) = current_anchor() {
        return spawn_on(anchor, future, options, location);
    }
    let core = current::current().expect(NO_RUNTIME);
    spawn_alone(&core, Box::pin(future), options, location)
}

#[track_caller]
fn spawn_local_with<F>(future: F, options: Builder) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    current::current().expect(NO_LOOP).spawn_local(future, options, Location::caller())
}

/// Spawns a task that may run on any loop of the current runtime. From a loop it is queued there, at once within the reach
/// of idle loops; from elsewhere, any loop takes it. On a loop on its own it is a task of that loop. On a runtime that has ended it
/// is cancelled.
///
/// Counterparts: asyncio's `create_task`, Tokio's `spawn`.
///
/// # Panics
/// Outside a runtime.
///
/// ```
/// epicycle::run(async {
///     let task = epicycle::spawn(async { 6 * 7 });
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    spawn_with(future, Builder::new())
}

/// Spawns a task that stays on this thread's loop, so that it need not be `Send`.
///
/// Counterpart: every asyncio task is like this. For a loop of another thread there is
/// [`LoopHandle::spawn_local`](crate::LoopHandle::spawn_local).
///
/// # Panics
/// Off a loop, as on an executor's thread.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// epicycle::run(async {
///     let count = Rc::new(Cell::new(0));
///     let inner = count.clone();
///     epicycle::spawn_local(async move { inner.set(1) }).await.unwrap();
///     assert_eq!(count.get(), 1);
/// });
/// ```
#[track_caller]
pub fn spawn_local<F>(future: F) -> Task<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_local_with(future, Builder::new())
}

impl Builder {
    /// As [`spawn`], with these options.
    ///
    /// # Panics
    /// Outside a runtime.
    ///
    /// ```
    /// use epicycle::task;
    ///
    /// epicycle::run(async {
    ///     let task = task::Builder::new().name("reader").spawn(async { epicycle::current_task().unwrap().name });
    ///     assert_eq!(task.await.unwrap(), "reader");
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        spawn_with(future, self)
    }

    /// As [`spawn_local`], with these options.
    ///
    /// # Panics
    /// Off a loop.
    ///
    /// ```
    /// use epicycle::task;
    /// use std::rc::Rc;
    ///
    /// epicycle::run(async {
    ///     let shared = Rc::new(1); // not Send
    ///     let task = task::Builder::new().name("local").spawn_local(async move { *shared });
    ///     assert_eq!((task.name().as_str(), task.await.unwrap()), ("local", 1));
    /// });
    /// ```
    #[track_caller]
    pub fn spawn_local<F>(self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        spawn_local_with(future, self)
    }
}

/// Runs `job` on the current runtime's executor: a pool of threads that may block, or
/// [one's own](crate::Builder::default_executor). Cancelling the returned task takes a queued job out; one that has started runs
/// to its end. The job has the [context variables](crate::context) that are current here. After the executor was shut down the
/// task is cancelled.
///
/// A loop [on its own](crate::EventLoop::new) has a pool of its own, made with its first job. On the threads of that there is no
/// runtime, so a job must bring its results back by returning them.
///
/// Counterparts: asyncio's `run_in_executor` and `to_thread`, Tokio's `spawn_blocking`.
///
/// # Panics
/// Outside a runtime and off a loop.
///
/// ```
/// epicycle::run(async {
///     let task = epicycle::run_in_executor(|| std::fs::read_dir(".").unwrap().count());
///     assert!(task.await.unwrap() > 0);
/// });
/// ```
#[doc(alias = "spawn_blocking")]
#[doc(alias = "to_thread")]
#[track_caller]
pub fn run_in_executor<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    let location = Location::caller();
    match current_anchor() {
        Some(anchor) => run_in_executor_of(anchor, job, location),
        None => run_in_executor_of(current_alone().expect(NO_RUNTIME), job, location),
    }
}

/// Runs `job` on an executor of one's own: on a pool for computing, say, as `rayon`'s. In all else as [`run_in_executor`]; but
/// the runtime's end neither cancels nor awaits it.
///
/// Counterpart: asyncio's `run_in_executor` with an executor.
///
/// # Panics
/// Outside a runtime and off a loop.
///
/// ```
/// use epicycle::runtime::Job;
///
/// epicycle::run(async {
///     // With rayon: `|job: Job| rayon::spawn(job)`.
///     let threads = |job: Job| drop(std::thread::spawn(job));
///     assert_eq!(epicycle::run_in_executor_on(&threads, || 6 * 7).await.unwrap(), 42);
/// });
/// ```
#[track_caller]
pub fn run_in_executor_on<T: Send + 'static>(
    executor: &(impl Executor + ?Sized),
    job: impl FnOnce() -> T + Send + 'static,
) -> Task<T> {
    let location = Location::caller();
    match current_anchor() {
        Some(anchor) => run_in_executor_on_of(anchor, executor, job, location),
        None => run_in_executor_on_of(current_alone().expect(NO_RUNTIME), executor, job, location),
    }
}

/// Has `callback` run on whichever loop of `anchor`'s runtime comes first; with one loop, in the order of the calls.
pub(crate) fn call_soon_on(
    anchor: &BiasedArc<Anchor>,
    callback: impl FnOnce() + Send + 'static,
    location: &'static Location<'static>,
) -> Handle {
    let new = new_task(Kind::Callback, None, location);
    launch(Once::new(callback), StealableHome(anchor.clone()), new).into_handle()
}

/// Lets every other ready task go first: exactly one turn. asyncio's `sleep(0)`, Tokio's `yield_now`.
///
/// *Cancel safety.* Nothing to lose.
///
/// ```
/// epicycle::run(async {
///     epicycle::yield_now().await;
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
///
/// ```
/// let event_loop = epicycle::EventLoop::new().unwrap();
/// let (event_loop_2, (sender, receiver)) = (event_loop.clone(), std::sync::mpsc::channel());
/// event_loop.run_until_complete(async {
///     event_loop_2.call_soon(move || sender.send("first").unwrap());
///     let turn: epicycle::YieldNow = epicycle::yield_now();
///     turn.await;
///     assert_eq!(receiver.try_recv(), Ok("first"));
/// }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The loop on which a socket or timer made here should live: this thread's, if it belongs to the current runtime; else one
/// of that runtime's that has a thread.
pub(crate) fn try_home() -> Option<BiasedArc<Remote>> {
    home_where(|_| true)
}

/// The same for a timer: after the runtime's end, a loop of the thread's own will do.
pub(crate) fn try_timer_home() -> Option<BiasedArc<Remote>> {
    // Not a guest's loop: nobody looks after that one's timers.
    let alone = || current::with(|core| core.filter(|core| core.fleet() == 0).map(|core| core.remote().clone()));
    home_where(|anchor| !anchor.shared.is_closing()).or_else(alone).or_else(try_home)
}

/// One look at what this thread is part of: the path of every timer and socket.
fn home_where(accepts: impl Fn(&Anchor) -> bool) -> Option<BiasedArc<Remote>> {
    let choose = |anchor: Option<&BiasedArc<Anchor>>| {
        if anchor.is_some_and(|anchor| !accepts(anchor)) {
            return None;
        }
        current::with(|core| match (anchor, core) {
            (None, core) => core.map(|core| core.remote().clone()),
            (Some(anchor), Some(core)) if core.fleet() == anchor.shared.fleet() => Some(core.remote().clone()),
            (Some(anchor), _) => Some(anchor.shared.present_home().clone()),
        })
    };
    context::with(choose).flatten()
}

/// Tells the instrument that is in charge here, if there is one: the current loop's, else the entered runtime's. For futures that
/// belong to no loop.
#[inline]
pub(crate) fn tell(event: impl FnOnce() -> Event) {
    if is_observed() {
        let on_loop = current::with(|core| core.map(|core| core.remote().observer().clone()));
        let observer = on_loop.or_else(|| Some(context::try_current().ok()?.shared.options.observer.clone()));
        observer.unwrap_or_default().tell(event);
    }
}

/// As [`try_home`].
///
/// # Panics
/// Outside a runtime.
#[track_caller]
pub(crate) fn home() -> BiasedArc<Remote> {
    try_home().expect(NO_RUNTIME)
}

/// Tells the current runtime's exception handler of an error that is nobody's in particular.
pub(crate) fn report_error(message: &str, error: io::Error) {
    if let Some(home) = try_home() {
        home.report(&ErrorContext::new(format!("{message}: {error}")));
    }
}
