//! The thread pool behind `run_in_executor`: for work that blocks.
//!
//! *Invariant.* A queued job has a thread coming to it, or all `max` threads are busy, or there is no thread to be had and
//! the job is cancelled. Separate from the loops. One plain lock: two cleverer queues hung Tokio's users. Once it refuses jobs
//! it does so for good; its threads end when the queue is empty.
//!
//! *Threads.* Any may submit. Jobs run under no lock. *Ordering.* The lock's.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::context::Working;
use super::jobs::Executor;
use crate::task::{Callbacks, ErrorContext, Event, LiveList, Observer, ReadyHandle, catch};

/// What awaiting a job says that came too late; asyncio's words.
pub(super) const SHUT_DOWN: &str = "Executor shutdown has been called";

/// Whose pool it is: a runtime, or a loop on its own.
pub(crate) trait Owner: Clone + Send + Sync + 'static {
    fn pool(&self) -> &Pool;
    /// Runs the jobs instead of the pool.
    fn default_executor(&self) -> Option<Arc<dyn Executor>>;
    /// The same for one of the pool's threads to hold.
    fn for_thread(&self) -> Self;
    /// On such a thread: what `spawn` and its like mean there until the guard goes.
    fn enter(&self) -> Option<Working>;
    fn observer(&self) -> &Observer;
    fn deliver(&self, callbacks: Callbacks);
    fn report(&self, context: &ErrorContext);
}

/// How a pool makes its threads.
#[derive(Clone)]
pub(crate) struct Threads {
    pub(crate) max: usize,
    pub(crate) keep_alive: Duration,
    pub(crate) name: Arc<dyn Fn() -> String + Send + Sync>,
    pub(crate) stack_size: Option<usize>,
}

impl Default for Threads {
    fn default() -> Self {
        Self {
            max: 512,
            keep_alive: Duration::from_secs(10),
            // At most 15 bytes, or Linux cuts it.
            name: Arc::new(|| "epicycle".into()),
            stack_size: None,
        }
    }
}

impl Threads {
    /// A thread's name, and the rest; `InvalidInput` for a name that no thread can have.
    pub(crate) fn builder(&self, name: String) -> io::Result<thread::Builder> {
        if name.contains('\0') {
            let text = format!("a thread's name cannot contain a null byte: {name:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let builder = thread::Builder::new().name(name);
        Ok(match self.stack_size {
            Some(size) => builder.stack_size(size),
            None => builder,
        })
    }
}

pub(crate) struct Pool {
    options: Threads,
    inner: Mutex<Inner>,
    work: Condvar,
    ended: Condvar,
    /// The jobs that a user's default executor has been given: queued there, or running.
    foreign: LiveList,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<ReadyHandle>,
    threads: HashMap<u64, Option<JoinHandle<()>>>,
    last_thread: u64,
    /// Threads that ended during the shutdown, to be joined.
    ended: Vec<JoinHandle<()>>,
    idle: usize,
    /// Wake-ups given to idle threads that have not come yet.
    called: usize,
    refuses: bool,
    /// Nobody waits any more for what still runs.
    abandoned: bool,
    /// To be woken when the last thread and the last foreign job have ended.
    drained: Vec<Waker>,
}

/// Figures for the metrics.
pub(crate) struct ExecutorCounts {
    pub(crate) threads: usize,
    pub(crate) idle: usize,
    pub(crate) queued: usize,
}

impl Pool {
    pub(crate) fn new(options: Threads) -> Self {
        let foreign = LiveList::new();
        Self { options, inner: Mutex::default(), work: Condvar::new(), ended: Condvar::new(), foreign }
    }

    pub(crate) fn counts(&self) -> ExecutorCounts {
        let inner = self.inner.lock();
        ExecutorCounts { threads: inner.threads.len(), idle: inner.idle, queued: inner.queue.len() }
    }

    pub(super) fn foreign(&self) -> &LiveList {
        &self.foreign
    }

    /// Queues a job. After shutdown it is refused, which cancels it.
    pub(super) fn submit(&self, owner: &impl Owner, job: ReadyHandle) {
        let mut inner = self.inner.lock();
        if inner.refuses {
            drop(inner);
            return job.refuse(SHUT_DOWN);
        }
        inner.queue.push_back(job);
        if inner.idle > inner.called {
            inner.called += 1;
            drop(inner);
            self.work.notify_one();
        } else if inner.threads.len() < self.options.max {
            inner.last_thread += 1;
            let id = inner.last_thread;
            inner.threads.insert(id, None);
            drop(inner);
            self.start_thread(owner, id);
        }
    }

    fn start_thread(&self, owner: &impl Owner, id: u64) {
        // A name is not worth losing the job for.
        let named = catch(|| (self.options.name)()).ok().and_then(|name| self.options.builder(name).ok());
        let builder = match named {
            Some(builder) => Ok(builder),
            None => self.options.builder("epicycle".into()),
        };
        let own = owner.for_thread();
        match builder.and_then(|builder| builder.spawn(move || own.pool().run_thread(&own, id))) {
            Ok(handle) => {
                if let Some(slot) = self.inner.lock().threads.get_mut(&id) {
                    *slot = Some(handle);
                }
            }
            Err(error) => {
                let mut inner = self.inner.lock();
                inner.threads.remove(&id);
                // With another thread alive the job waits for that one; without any it would wait for ever.
                let stranded = match inner.threads.is_empty() {
                    true => std::mem::take(&mut inner.queue),
                    false => VecDeque::new(),
                };
                drop(inner);
                self.note_end();
                let text = format!("cannot start an executor thread: {error}");
                owner.report(&ErrorContext::new(text));
                drop(stranded);
            }
        }
    }

    fn run_thread(&self, owner: &impl Owner, id: u64) {
        let entered = owner.enter();
        while let Some(job) = self.next_job(id) {
            let observer = owner.observer();
            match observer.is_on() {
                false => job.run(),
                true => run_told(job, observer),
            }
        }
        drop(entered);
        self.note_end();
    }

    /// A thread, or a job of a user's executor, has ended.
    pub(super) fn note_end(&self) {
        let drained = {
            let mut inner = self.inner.lock();
            match self.is_drained(&inner) {
                true => std::mem::take(&mut inner.drained),
                false => Vec::new(),
            }
        };
        self.ended.notify_all();
        for waker in drained {
            // A waker is user code.
            let _ = catch(|| waker.wake());
        }
    }

    /// Nothing runs and nothing is queued.
    fn is_drained(&self, inner: &Inner) -> bool {
        inner.threads.is_empty() && self.foreign.is_empty()
    }

    /// Waits for a job. `None`: the thread is to end, and is no longer counted: whoever submits from now on starts another.
    fn next_job(&self, id: u64) -> Option<ReadyHandle> {
        let mut inner = self.inner.lock();
        let deadline = Instant::now().checked_add(self.options.keep_alive);
        loop {
            if let Some(job) = inner.queue.pop_front() {
                return Some(job);
            }
            if inner.refuses {
                // Whoever shuts down joins us.
                let own = inner.threads.remove(&id);
                inner.ended.extend(own.flatten());
                return None;
            }
            inner.idle += 1;
            let timed_out = match deadline {
                Some(deadline) => self.work.wait_until(&mut inner, deadline).timed_out(),
                None => {
                    self.work.wait(&mut inner);
                    false
                }
            };
            inner.idle -= 1;
            inner.called = inner.called.saturating_sub(1).min(inner.idle);
            if timed_out && inner.queue.is_empty() && !inner.refuses {
                // Dropping our own handle detaches us.
                let own = inner.threads.remove(&id);
                drop(inner);
                drop(own);
                return None;
            }
        }
    }

    /// Refuses new jobs. What is queued still runs.
    pub(crate) fn refuse(&self) {
        self.inner.lock().refuses = true;
        self.foreign.close();
        self.work.notify_all();
    }

    /// After `refuse`: ready when the last job has ended; else `waker` will be woken.
    pub(crate) fn poll_drained(&self, waker: &Waker) -> Poll<()> {
        let new = waker.clone();
        let mut inner = self.inner.lock();
        if self.is_drained(&inner) {
            drop(inner);
            return Poll::Ready(());
        }
        if !inner.drained.iter().any(|known| known.will_wake(waker)) {
            inner.drained.push(new);
        }
        Poll::Pending
    }

    /// After `refuse`: cancels what is queued. Nobody will wait for what runs.
    pub(crate) fn abandon(&self) {
        self.inner.lock().abandoned = true;
        self.cancel_queued();
    }

    fn cancel_queued(&self) {
        let queue = std::mem::take(&mut self.inner.lock().queue);
        drop(queue);
        self.foreign.cancel_all();
        self.note_end();
    }

    /// Refuses new jobs, cancels the queued ones, and waits for the running ones until `deadline` (`None`: as long as it
    /// takes); then joins their threads.
    pub(crate) fn shut_down(&self, deadline: Option<Instant>) {
        self.refuse();
        self.cancel_queued();
        let mut inner = self.inner.lock();
        while !self.is_drained(&inner) && !inner.abandoned {
            match deadline {
                None => self.ended.wait(&mut inner),
                Some(deadline) => {
                    if self.ended.wait_until(&mut inner, deadline).timed_out() {
                        return;
                    }
                }
            }
        }
        let ended = std::mem::take(&mut inner.ended);
        drop(inner);
        let own = thread::current().id();
        for thread in ended.into_iter().filter(|thread| thread.thread().id() != own) {
            // A job's panic is in its task.
            let _ = thread.join();
        }
    }
}

/// Runs a job, and tells of it.
#[cold]
fn run_told(job: ReadyHandle, observer: &Observer) {
    let work = job.witness().work();
    observer.tell(|| Event::HandleStarted { on: usize::MAX, work });
    let began = Instant::now();
    job.run();
    observer.tell(|| Event::HandleEnded { on: usize::MAX, work, took: began.elapsed() });
}
