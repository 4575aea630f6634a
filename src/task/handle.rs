//! The two ends of something scheduled to run once: what a queue holds, and what the caller holds.
//!
//! *Invariant.* There is at most one [`ReadyHandle`] of a cell; it is used up by running. Dropping one unrun cancels the
//! task, so a queue that is dropped loses nothing silently.
//!
//! *Threads.* A pinned cell's ready handle is run and dropped on its loop only; the public ends go anywhere.
//! *Ordering.* `state.rs`; a queue's own ordering carries a ready handle from thread to thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::task::Waker;
use std::time::Instant;

use super::cell::{RawTask, TaskRef};
use super::waker;
use super::{ErrorContext, Work};
use crate::primitive::MODELLED;

/// The right to run a cell once: what queues hold.
pub(crate) struct ReadyHandle(RawTask);

impl ReadyHandle {
    /// Only for who was told to schedule by the state word.
    pub(super) fn new(task: RawTask) -> Self {
        Self(task)
    }

    /// Polls the task, or runs the callback. Panics of user code do not come out.
    #[inline]
    pub(crate) fn run(self) {
        let task = self.0;
        mem::forget(self);
        task.run();
    }

    /// Ends a job unrun, because it cannot be taken.
    pub(crate) fn refuse(self, why: &'static str) {
        let task = self.0;
        mem::forget(self);
        task.refuse(why);
    }

    /// Keeps the cell for who wants to say later whose handle it was.
    pub(crate) fn witness(&self) -> Witness {
        Witness(self.0.new_ref())
    }

    /// Before it is pushed.
    #[inline]
    pub(crate) fn tell_queued(&self) {
        self.0.tell_queued();
    }

    /// Whether it may be moved to another thread, or dropped there.
    pub(crate) fn may_travel(&self) -> bool {
        self.0.may_travel()
    }
}

/// A counted reference to the cell of a handle that runs.
pub(crate) struct Witness(TaskRef);

impl Witness {
    pub(crate) fn work(&self) -> Work {
        self.0.header().work()
    }

    /// Whose it is, for a report.
    pub(crate) fn context(&self, message: &str) -> ErrorContext {
        self.0.header().context(message)
    }
}

impl Drop for ReadyHandle {
    fn drop(&mut self) {
        // Holding the handle, we are its runner: a cancelled task's run is the drop of its future.
        self.0.cancel();
        self.0.run();
    }
}

thread_local! {
    /// What is to be dropped on this thread after the handle that is being dropped; `None` if none is.
    static DISCARDED: RefCell<Option<VecDeque<ReadyHandle>>> = const { RefCell::new(None) };
}

/// Drops a handle that no queue takes, which cancels its task. A destructor that wakes the next such task, and that one's the
/// next, does not deepen the stack.
pub(crate) fn discard(handle: ReadyHandle) {
    if MODELLED {
        // A model's threads take turns on one real thread, and would drop each other's.
        return drop(handle);
    }
    let mut handle = Some(handle);
    let nested = DISCARDED.try_with(|discarded| match &mut *discarded.borrow_mut() {
        Some(queue) => queue.push_back(handle.take().expect("taken once")),
        none => *none = Some(VecDeque::new()),
    });
    let Some(first) = handle else { return };
    drop(first);
    if nested.is_err() {
        return; // The thread is ending and has no such list.
    }
    let next = || DISCARDED.with(|discarded| discarded.borrow_mut().as_mut().and_then(VecDeque::pop_front));
    while let Some(handle) = next() {
        drop(handle);
    }
    DISCARDED.with(|discarded| *discarded.borrow_mut() = None);
}

impl fmt::Debug for ReadyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadyHandle").field(&self.0.header().id()).finish()
    }
}

impl RawTask {
    /// The ready handle of a cell that was made `queued`; once.
    pub(crate) fn into_ready(self) -> ReadyHandle {
        ReadyHandle::new(self)
    }

    /// The caller's end of a callback; takes over the reference that `spawn_cell` returned.
    pub(crate) fn into_handle(self) -> Handle {
        Handle { task: self }
    }

    /// A waker for the cell, for what will make it ready: a timer.
    pub(crate) fn waker(self) -> Waker {
        waker::waker(self)
    }
}

/// A scheduled callback, as in asyncio: **not** a handle to the runtime (that is
/// [`RuntimeHandle`](crate::RuntimeHandle)). Dropping it does not cancel.
///
/// Counterpart: asyncio's `Handle`.
///
/// ```
/// epicycle::run(async {
///     let handle = epicycle::EventLoop::current().call_soon(|| unreachable!("cancelled in time"));
///     assert!(handle.cancel());
///     assert!(handle.cancelled());
/// });
/// ```
pub struct Handle {
    task: RawTask,
}

impl Handle {
    /// Cancels the callback. True: it has not run and never will, and it is dropped: at once if its loop is running on
    /// this thread or it may be dropped anywhere, else when its loop next comes to it. False: it has run, or is running.
    ///
    /// From any thread; idempotent.
    ///
    /// Counterpart: asyncio's `Handle.cancel`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let (late, early) = (event_loop.call_soon(|| {}), event_loop.call_soon(|| unreachable!()));
    /// assert!(early.cancel());
    /// event_loop.run_once(None);
    /// assert!(!late.cancel()); // it has run
    /// ```
    pub fn cancel(&self) -> bool {
        self.task.cancel()
    }

    /// Whether it was cancelled, by [`cancel`](Self::cancel) or with its loop.
    ///
    /// Counterpart: asyncio's `Handle.cancelled`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let handle = event_loop.call_soon(|| unreachable!());
    /// assert!(!handle.cancelled());
    /// event_loop.close();
    /// assert!(handle.cancelled());
    /// ```
    pub fn cancelled(&self) -> bool {
        self.task.is_cancelled()
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        self.task.drop_handle();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("cancelled", &self.cancelled()).finish_non_exhaustive()
    }
}

/// A callback scheduled for a time. Dropping it does not cancel.
///
/// Counterpart: asyncio's `TimerHandle`.
///
/// ```
/// use std::time::Duration;
/// epicycle::run(async {
///     let event_loop = epicycle::EventLoop::current();
///     let handle = event_loop.call_later(Duration::from_secs(3600), || {});
///     assert!(handle.when() > event_loop.time());
///     assert!(handle.cancel());
/// });
/// ```
#[derive(Debug)]
pub struct TimerHandle {
    handle: Handle,
    when: Instant,
}

impl TimerHandle {
    pub(crate) fn new(handle: Handle, when: Instant) -> Self {
        Self { handle, when }
    }

    /// As [`Handle::cancel`]; the timer goes with the callback.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let timer = event_loop.call_later(Duration::ZERO, || unreachable!());
    /// assert!(timer.cancel());
    /// event_loop.run_once(Some(Duration::ZERO));
    /// ```
    pub fn cancel(&self) -> bool {
        self.handle.cancel()
    }

    /// As [`Handle::cancelled`].
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let timer = event_loop.call_later(Duration::from_secs(60), || {});
    /// assert!(!timer.cancelled());
    /// timer.cancel();
    /// assert!(timer.cancelled());
    /// ```
    pub fn cancelled(&self) -> bool {
        self.handle.cancelled()
    }

    /// The time the callback is due. Delays too long for the clock are cut to about thirty years.
    ///
    /// Counterpart: asyncio's `TimerHandle.when`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let when = event_loop.time() + Duration::from_secs(60);
    /// assert_eq!(event_loop.call_at(when, || {}).when(), when);
    /// ```
    pub fn when(&self) -> Instant {
        self.when
    }
}
