//! [`LoopHandle`]: a loop as other threads know it.
//!
//! *Invariant.* What is posted is `Send` until it first runs on its loop. *Threads.* Any. *Ordering.* `inbox.rs`, `park.rs`.

use std::fmt;
use std::panic::Location;

use super::remote::{PinnedHome, Remote};
use crate::primitive::BiasedArc;
use crate::task::{ErrorContext, Handle, Kind, NewTask, Once, Task, launch};

/// One loop, for any thread: posts callbacks and builds `!Send` tasks there.
///
/// Posts to a loop run in the order in which they were made. A runtime's loop 0 runs them while some thread is inside
/// `block_on`; until then they wait.
///
/// Counterpart: asyncio's loop, as other threads may use it. Tokio's workers have no names.
///
/// ```
/// use epicycle::Runtime;
/// use std::rc::Rc;
///
/// let rt = Runtime::new();
/// let last = rt.loops().last().unwrap().clone();
/// let index = rt.block_on(async move {
///     let task = last.spawn_local(|| async {
///         let shared = Rc::new(epicycle::EventLoop::current().index()); // never leaves its thread
///         epicycle::yield_now().await;
///         *shared
///     });
///     task.await.unwrap()
/// });
/// assert_eq!(index, rt.loops().len() - 1);
/// ```
#[derive(Clone)]
pub struct LoopHandle {
    remote: BiasedArc<Remote>,
}

impl LoopHandle {
    pub(crate) fn new(remote: BiasedArc<Remote>) -> Self {
        Self { remote }
    }

    /// The loop's number in its runtime.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(3).build().unwrap();
    /// let indexes: Vec<_> = rt.loops().iter().map(|one| one.index()).collect();
    /// assert_eq!(indexes, [0, 1, 2]);
    /// ```
    pub fn index(&self) -> usize {
        self.remote.index()
    }

    /// Has `callback` run on this loop, after what is scheduled there already. On a closed loop it is dropped, and the
    /// handle is cancelled.
    ///
    /// Counterpart: asyncio's `loop.call_soon_threadsafe`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let handle = event_loop.handle();
    /// let stopper = std::thread::spawn(move || {
    ///     // Runs there, so it finds that thread's loop.
    ///     handle.call_soon_threadsafe(|| epicycle::EventLoop::current().stop());
    /// });
    /// event_loop.run_forever();
    /// # stopper.join().unwrap();
    /// ```
    #[track_caller]
    pub fn call_soon_threadsafe(&self, callback: impl FnOnce() + Send + 'static) -> Handle {
        self.call_soon_from(callback, Location::caller())
    }

    /// The same on behalf of `location`.
    pub(crate) fn call_soon_from(
        &self,
        callback: impl FnOnce() + Send + 'static,
        location: &'static Location<'static>,
    ) -> Handle {
        let new = self.new_task(Kind::Callback, location);
        launch(Once::new(callback), self.home(), new).into_handle()
    }

    /// Tells the loop's exception handler.
    pub(crate) fn report(&self, context: &ErrorContext) {
        self.remote.report(context);
    }

    /// Has `make` called on this loop, and the future it returns run there for good: it need not be `Send`. On a closed
    /// loop the task is cancelled.
    ///
    /// Cancelled before the loop has come to it, the task ends at once and `make` is dropped by the canceller.
    ///
    /// Counterparts: asyncio's `run_coroutine_threadsafe`, tokio-util's `LocalPoolHandle::spawn_pinned`.
    ///
    /// ```
    /// let rt = epicycle::Runtime::new();
    /// let task = rt.loops()[0].spawn_local(|| async {}); // nobody is inside block_on
    /// assert!(task.cancel() && task.done());
    /// ```
    #[track_caller]
    pub fn spawn_local<M, F>(&self, make: M) -> Task<F::Output>
    where
        M: FnOnce() -> F + Send + 'static,
        F: Future + 'static,
        F::Output: Send + 'static,
    {
        let new = self.new_task(Kind::Task, Location::caller());
        let future = async move {
            let future = make();
            future.await
        };
        Task::new(launch(future, self.home(), new))
    }

    fn home(&self) -> PinnedHome {
        PinnedHome::new(self.remote.clone())
    }

    fn new_task(&self, kind: Kind, location: &'static Location<'static>) -> NewTask {
        NewTask { kind, pinned: true, queued: true, unbuilt: true, name: None, location }
    }
}

impl fmt::Debug for LoopHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").field("index", &self.index()).finish()
    }
}

impl PartialEq for LoopHandle {
    fn eq(&self, other: &Self) -> bool {
        BiasedArc::ptr_eq(&self.remote, &other.remote)
    }
}

impl Eq for LoopHandle {}
