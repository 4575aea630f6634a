//! Executor jobs: what runs them, the pool of the runtime or of the lone loop, or an executor of the user's.
//!
//! *Invariant.* A job is a one-shot cell; whoever runs it holds its ready handle. One that a user's executor drops is cancelled.
//! Those of a default executor are in the pool's list until they end, so that shutdown can cancel and await them; those given to
//! another one are its own business. *Threads.* Any. *Ordering.* `executor.rs`.

use std::panic::Location;
use std::sync::Arc;

use super::context::{self, Working};
use super::executor::{Owner, Pool, SHUT_DOWN};
use super::shared::{Anchor, OUTSIDE, StealableHome};
use crate::primitive::BiasedArc;
use crate::task::{
    Callbacks, ErrorContext, Kind, LiveList, NewTask, Observer, Once, ReadyHandle, Schedule, Task, catch, drop_payload,
    launch, spawn_cell,
};

/// What an [`Executor`] is given. To be called once, on a thread that may block; dropped instead, its task is cancelled.
///
/// ```
/// use epicycle::{run_in_executor_on, runtime::Job};
///
/// epicycle::run(async {
///     let lazy = |job: Job| drop(job);
///     assert!(run_in_executor_on(&lazy, || {}).await.unwrap_err().is_cancelled());
/// });
/// ```
pub type Job = Box<dyn FnOnce() + Send>;

/// Something that runs jobs: a thread pool of the user's. Any `Fn(Job)` is one.
///
/// For all of a runtime's jobs there is [`Builder::default_executor`](crate::Builder::default_executor), for a single one
/// [`run_in_executor_on`](crate::run_in_executor_on).
///
/// Counterpart: `concurrent.futures.Executor`, as asyncio's `run_in_executor` takes it.
///
/// # Examples
///
/// ```
/// use epicycle::runtime::{Executor, Job};
///
/// /// A thread for each job.
/// struct Threads;
///
/// impl Executor for Threads {
///     fn execute(&self, job: Job) {
///         std::thread::spawn(job);
///     }
/// }
///
/// epicycle::run(async {
///     let task = epicycle::run_in_executor_on(&Threads, || 6 * 7);
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
pub trait Executor: Send + Sync + 'static {
    /// Has `job` run, now or later, on whatever thread. Should not block: a loop waits for it. A panic of this function is
    /// reported, and cancels the job.
    ///
    /// ```
    /// use epicycle::runtime::{Executor, Job};
    ///
    /// let threads = |job: Job| drop(std::thread::spawn(job));
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// threads.execute(Box::new(move || sender.send(1).unwrap()));
    /// assert_eq!(receiver.recv(), Ok(1));
    /// ```
    fn execute(&self, job: Job);
}

impl<F: Fn(Job) + Send + Sync + 'static> Executor for F {
    fn execute(&self, job: Job) {
        self(job);
    }
}

impl Owner for BiasedArc<Anchor> {
    fn pool(&self) -> &Pool {
        &self.shared.executor
    }

    fn default_executor(&self) -> Option<Arc<dyn Executor>> {
        self.shared.options.default_executor.clone()
    }

    fn for_thread(&self) -> Self {
        Anchor::new(&self.shared, OUTSIDE)
    }

    fn enter(&self) -> Option<Working> {
        Some(context::work_for(self.clone()))
    }

    fn observer(&self) -> &Observer {
        &self.shared.options.observer
    }

    fn deliver(&self, callbacks: Callbacks) {
        StealableHome(self.clone()).deliver(callbacks);
    }

    fn report(&self, context: &ErrorContext) {
        StealableHome(self.clone()).report(context);
    }
}

/// The scheduler of executor jobs.
struct JobHome<O> {
    owner: O,
    /// It is in the pool's list of foreign jobs.
    listed: bool,
}

impl<O: Owner> Schedule for JobHome<O> {
    type Target = O;

    fn target(&self) -> O {
        self.owner.clone()
    }

    fn push(owner: O, handle: ReadyHandle) {
        owner.pool().submit(&owner, handle);
    }

    fn is_home(&self) -> bool {
        true
    }

    fn live(&self) -> Option<&LiveList> {
        self.listed.then(|| self.owner.pool().foreign())
    }

    fn observer(&self) -> Option<&Observer> {
        Some(self.owner.observer())
    }

    fn deliver(&self, callbacks: Callbacks) {
        self.owner.deliver(callbacks);
    }

    fn report(&self, context: &ErrorContext) {
        self.owner.report(context);
    }
}

fn new_job(location: &'static Location<'static>) -> NewTask {
    NewTask { kind: Kind::Job, pinned: false, queued: true, unbuilt: false, name: None, location }
}

/// Runs `job` on `owner`'s default executor.
pub(crate) fn run_in_executor_of<T: Send + 'static>(
    owner: impl Owner,
    job: impl FnOnce() -> T + Send + 'static,
    location: &'static Location<'static>,
) -> Task<T> {
    if let Some(executor) = owner.default_executor() {
        return hand_over(owner, &*executor, true, job, location);
    }
    Task::new(launch(Once::new(job), JobHome { owner, listed: false }, new_job(location)))
}

/// Runs `job` on an executor of the user's.
pub(crate) fn run_in_executor_on_of<T: Send + 'static>(
    owner: impl Owner,
    executor: &(impl Executor + ?Sized),
    job: impl FnOnce() -> T + Send + 'static,
    location: &'static Location<'static>,
) -> Task<T> {
    hand_over(owner, executor, false, job, location)
}

fn hand_over<T: Send + 'static>(
    owner: impl Owner,
    executor: &(impl Executor + ?Sized),
    listed: bool,
    job: impl FnOnce() -> T + Send + 'static,
    location: &'static Location<'static>,
) -> Task<T> {
    let raw = spawn_cell(Once::new(job), JobHome { owner: owner.clone(), listed }, new_job(location));
    let task = Task::new(raw);
    let handle = raw.into_ready();
    if !raw.bind(&JobHome { owner: owner.clone(), listed }) {
        handle.refuse(SHUT_DOWN);
        return task;
    }
    let foreign = Foreign { handle: Some(handle), owner };
    let reporter = foreign.owner.clone();
    if let Err(payload) = catch(|| executor.execute(Box::new(move || foreign.run()))) {
        let mut context = ErrorContext::new("Exception in an executor").with_panic(&*payload);
        context.location = Some(location);
        reporter.report(&context);
        drop_payload(payload);
    }
    task
}

/// A job on its way through a user's executor.
struct Foreign<O: Owner> {
    handle: Option<ReadyHandle>,
    owner: O,
}

impl<O: Owner> Foreign<O> {
    fn run(mut self) {
        let _inside = self.owner.for_thread().enter();
        if let Some(handle) = self.handle.take() {
            handle.run();
        }
    }
}

impl<O: Owner> Drop for Foreign<O> {
    fn drop(&mut self) {
        // Not run: cancelled.
        drop(self.handle.take());
        self.owner.pool().note_end();
    }
}
