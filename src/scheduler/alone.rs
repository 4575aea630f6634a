//! The executor of a loop on its own, and [`EventLoop::run_in_executor`].
//!
//! *Invariant.* Made with the loop's first job, ends with the loop: from then on it refuses jobs, and those that are queued are
//! cancelled; nobody waits for those that run. A result comes back as any wake from another thread does. *Threads.* Jobs run on the
//! pool's; the rest is the loop's own. *Ordering.* `executor.rs`, and the inbox's.

use std::panic::Location;
use std::sync::Arc;

use super::context::{self, Working};
use super::executor::{Owner, Pool, Threads};
use super::jobs::{Executor, run_in_executor_of};
use crate::event_loop::{Companion, EventLoop, LoopCore, PinnedHome, current};
use crate::task::{Callbacks, ErrorContext, Observer, Schedule, Task};

/// What the jobs of a lone loop need. It does not keep the loop.
pub(super) struct Alone {
    pool: Pool,
    home: PinnedHome,
}

impl Owner for Arc<Alone> {
    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn default_executor(&self) -> Option<Arc<dyn Executor>> {
        None
    }

    fn for_thread(&self) -> Self {
        self.clone()
    }

    /// As in asyncio, there is no loop on an executor's thread.
    fn enter(&self) -> Option<Working> {
        None
    }

    fn observer(&self) -> &Observer {
        self.home.observer().expect("every loop has one")
    }

    fn deliver(&self, callbacks: Callbacks) {
        self.home.deliver(callbacks);
    }

    fn report(&self, context: &ErrorContext) {
        self.home.report(context);
    }
}

impl Companion for Arc<Alone> {
    fn close(&self) {
        self.pool.refuse();
        self.pool.abandon();
    }
}

/// The executor of the lone loop that this thread drives.
#[track_caller]
pub(super) fn current_alone() -> Option<Arc<Alone>> {
    current::current().filter(|core| core.fleet() == 0).map(|core| of(&core))
}

#[track_caller]
fn of(core: &LoopCore) -> Arc<Alone> {
    assert!(!core.is_closed(), "event loop is closed");
    core.companion(|| Arc::new(Alone { pool: Pool::new(Threads::default()), home: core.home() })).clone()
}

impl EventLoop {
    /// Runs `job` on a thread that may block: on a loop of a runtime on the runtime's executor, on a loop of its own on threads
    /// that belong to that loop (up to 512, made as they are needed, ended after 10 s without work). In all else as
    /// [`run_in_executor`](crate::run_in_executor()). What becomes of the jobs of a loop that is closed: see
    /// [`close`](Self::close).
    ///
    /// Counterpart: asyncio's `loop.run_in_executor(None, job)`.
    ///
    /// # Panics
    /// If the loop is closed.
    ///
    /// ```
    /// use epicycle::EventLoop;
    ///
    /// let event_loop = EventLoop::new().unwrap();
    /// let job = event_loop.run_in_executor(|| 6 * 7);
    /// assert_eq!(event_loop.run_until_complete(job).unwrap().unwrap(), 42);
    /// ```
    #[track_caller]
    pub fn run_in_executor<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        let (core, location) = (self.core(), Location::caller());
        match core.fleet() {
            0 => run_in_executor_of(of(core), job, location),
            fleet => {
                let runtime = context::of_fleet(fleet).filter(|_| !core.is_closed());
                run_in_executor_of(runtime.expect("event loop is closed"), job, location)
            }
        }
    }
}
