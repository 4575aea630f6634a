//! The caller's end of a task: awaiting, cancelling, detaching.
//!
//! *Invariant.* There is one [`Task<T>`] of a cell at most; it owns the output from completion on. *Threads.* Any; a
//! `Task<T>` is `Send` if its output is. *Ordering.* `state.rs`.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::cell::Join;
use super::context::{self, Context as Inherited};
use super::{Handle, Id, RawTask, budget, id, payload_text, unseen};

/// What is called when a task is done. Boxed: few tasks have one.
pub(super) type DoneCallback = Box<dyn FnOnce(Outcome) + Send>;

/// How a task ended.
///
/// ```
/// use epicycle::task::Outcome;
/// epicycle::run(async {
///     let (sender, receiver) = std::sync::mpsc::channel();
///     let task = epicycle::spawn(async {});
///     task.add_done_callback(move |outcome| sender.send(outcome).unwrap());
///     task.await.unwrap();
///     epicycle::yield_now().await;
///     epicycle::yield_now().await;
///     assert_eq!(receiver.recv().unwrap(), Outcome::Completed);
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Outcome {
    /// With a value.
    Completed = 0,
    /// It was cancelled.
    Cancelled = 1,
    /// It panicked.
    Panicked = 2,
}

impl Outcome {
    #[inline]
    pub(super) fn of<T>(output: &Result<T, JoinError>) -> Self {
        match output {
            Ok(_) => Self::Completed,
            Err(error) if error.is_panic() => Self::Panicked,
            Err(_) => Self::Cancelled,
        }
    }
}

/// Tokio's name for [`Task`].
///
/// ```
/// let rt = epicycle::Runtime::new();
/// let handle: epicycle::task::JoinHandle<u8> = rt.spawn(async { 1 });
/// assert_eq!(rt.block_on(handle).unwrap(), 1);
/// ```
pub type JoinHandle<T> = Task<T>;

/// A spawned task, and the right to its output. Await it for the output; drop it and the task goes on alone.
///
/// Counterparts: asyncio's `Task` (which the loop may lose if you drop it: this one is owned by its runtime), Tokio's
/// `JoinHandle`.
///
/// *Cancel safety.* Dropping a pending `.await` of `&mut task` loses nothing.
///
/// # Panics
/// When awaited again after it gave its output, and when it awaits itself.
///
/// ```
/// epicycle::run(async {
///     let task = epicycle::spawn(async { 1 + 1 });
///     assert_eq!(task.await.unwrap(), 2);
/// });
/// ```
#[doc(alias = "JoinHandle")]
pub struct Task<T> {
    join: Join<T>,
}

impl<T> Unpin for Task<T> {}

impl<T> Task<T> {
    /// Takes over the reference that `spawn_cell` returned. `T` is the cell's output.
    pub(crate) fn new(raw: RawTask) -> Self {
        Self { join: Join::new(raw) }
    }

    /// A waker of the task, for who wakes it from outside its future.
    pub(crate) fn waker(&self) -> std::task::Waker {
        self.join.raw().waker()
    }

    /// A right of its own to cancel the task, for who has given the `Task` away.
    pub(crate) fn canceller(&self) -> Handle {
        let raw = self.join.raw();
        raw.add_ref();
        raw.into_handle()
    }

    /// Says that this thread is inside the task until the guard goes. For who polls the task's future in its stead.
    pub(crate) fn enter(&self) -> id::Entered {
        id::enter(Some(self.join.raw()))
    }

    /// Asks for the task to be cancelled: its future is dropped, on its own loop if it is pinned, at its next suspension
    /// point at the latest, never inside this call. Awaiting it then gives an error with
    /// [`is_cancelled`](JoinError::is_cancelled).
    ///
    /// One exception: what [`LoopHandle::spawn_local`](crate::LoopHandle::spawn_local) has posted and its loop has not begun is a
    /// closure, no future yet. It is dropped here and now, wherever this is called, and the task has ended when this returns: the
    /// loop may be one that nobody drives.
    ///
    /// True: it will not give a value (a request made before counts). False: too late, it has completed; or it is a job
    /// of [`run_in_executor`](crate::run_in_executor) that has started.
    ///
    /// Unlike asyncio's, this cancellation is not an exception that the task could catch or delay.
    ///
    /// Counterparts: asyncio's `Task.cancel`, Tokio's `JoinHandle::abort`. To *ask* a task to end, as asyncio does, give it
    /// a [`CancelScope`](crate::CancelScope).
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::spawn(std::future::pending::<()>());
    ///     assert!(task.cancel());
    ///     assert!(task.await.unwrap_err().is_cancelled());
    ///
    ///     let task = epicycle::run_in_executor(|| 1);
    ///     while !task.done() {
    ///         epicycle::yield_now().await;
    ///     }
    ///     assert!(!task.cancel()); // too late
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.join.raw().cancel()
    }

    /// As `cancel`, on the task's own loop: if it is idle, its future is dropped now and nothing is queued.
    pub(crate) fn cancel_at_home(&self) {
        self.join.raw().shut_down();
    }

    /// Whether the task has ended. Its future is gone by then.
    ///
    /// Counterparts: asyncio's `Task.done`, Tokio's `is_finished`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let task = event_loop.spawn_local(async {});
    /// assert!(!task.done());
    /// event_loop.run_once(None);
    /// assert!(task.done());
    /// ```
    pub fn done(&self) -> bool {
        self.join.raw().is_complete()
    }

    /// Whether the task has ended because it was cancelled.
    ///
    /// Counterpart: asyncio's `Task.cancelled`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let task = event_loop.spawn_local(std::future::pending::<()>());
    /// task.cancel();
    /// assert!(!task.cancelled()); // it ends in the next turn
    /// event_loop.run_once(None);
    /// assert!(task.cancelled());
    /// ```
    pub fn cancelled(&self) -> bool {
        self.done() && self.outcome() == Outcome::Cancelled
    }

    /// Its id.
    ///
    /// Counterpart: Tokio's `JoinHandle::id`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::spawn(async { epicycle::task::id() });
    ///     let id = task.id();
    ///     assert_eq!(task.await.unwrap(), id);
    /// });
    /// ```
    pub fn id(&self) -> Id {
        self.join.raw().header().id()
    }

    /// The name given to [`task::Builder`](crate::task::Builder), or `Task-N`.
    ///
    /// Counterpart: asyncio's `Task.get_name`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::spawn(async {});
    ///     assert_eq!(task.name(), format!("Task-{}", task.id()));
    ///     let named = epicycle::task::Builder::new().name("cook").spawn(async {});
    ///     assert_eq!(named.name(), "cook");
    /// });
    /// ```
    pub fn name(&self) -> String {
        self.join.raw().header().name()
    }

    /// Has `callback` called when the task ends, as a handle of its own in the next turn, in the order of registration; on
    /// a task that has ended already, too. It has the [context variables](crate::context) that are current here.
    ///
    /// Counterpart: asyncio's `Task.add_done_callback`.
    ///
    /// ```
    /// use epicycle::task::Outcome;
    ///
    /// epicycle::run(async {
    ///     let (sender, outcome) = std::sync::mpsc::channel();
    ///     let task = epicycle::spawn(std::future::pending::<()>());
    ///     task.add_done_callback(move |outcome| sender.send(outcome).unwrap());
    ///     task.cancel();
    ///     let outcome = epicycle::run_in_executor(move || outcome.recv().unwrap());
    ///     assert_eq!(outcome.await.unwrap(), Outcome::Cancelled);
    /// });
    /// ```
    pub fn add_done_callback(&self, callback: impl FnOnce(Outcome) + Send + 'static) {
        let callback: DoneCallback = if context::is_set() {
            let mut inherited = Inherited::capture();
            Box::new(move |outcome| inherited.run(|| callback(outcome)))
        } else {
            Box::new(callback)
        };
        self.join.raw().add_done_callback(callback, false);
    }

    /// How it ended; only when done.
    pub(crate) fn outcome(&self) -> Outcome {
        self.join.raw().header().outcome()
    }

    /// As [`add_done_callback`](Self::add_done_callback), for a callback that only counts and wakes: in a runtime of several loops
    /// it may be called as the task ends, under no lock. The number is for [`unwatch`](Self::unwatch).
    pub(crate) fn watch(&self, callback: impl FnOnce(Outcome) + Send + 'static) -> u32 {
        self.join.raw().add_done_callback(Box::new(callback), true)
    }

    /// Takes back what [`watch`](Self::watch) registered, unless it is queued already.
    pub(crate) fn unwatch(&self, number: u32) {
        drop(self.join.raw().remove_done_callback(number));
    }

    /// Looks at the value of a task that has ended with one, where it is.
    pub(crate) fn look<R>(&mut self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.join.look(look)
    }

    /// The output of a task that has ended, whatever is left of the budget. Once.
    pub(crate) fn take_output(&mut self) -> Option<Result<T, JoinError>> {
        if !self.done() {
            return None;
        }
        match self.join.poll(&Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => unreachable!("the task is done"),
        }
    }

    /// Lets go of the task; should it panic, or have panicked, nobody is told.
    pub(crate) fn detach_quietly(self) {
        self.join.raw().header().hush();
    }

    /// Ties the task's life to the returned value: dropping that cancels the task.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let guard = epicycle::spawn(std::future::pending::<()>()).cancel_on_drop();
    ///     drop(guard); // the task is cancelled
    /// });
    /// ```
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop(Some(self))
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!id::is_current(self.join.raw()), "Task cannot await on itself");
        if self.done() {
            ready!(budget::poll_proceed(cx));
        }
        self.join.poll(cx)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id()).field("done", &self.done()).finish()
    }
}

/// A [`Task`] that is cancelled when this is dropped. Awaiting works as on the task.
///
/// Counterparts: asyncio's `TaskGroup` does this for a scope; tokio-util's `AbortOnDropHandle`.
///
/// *Cancel safety.* An await of `&mut` to it that is dropped loses nothing; dropping the thing itself cancels.
///
/// # Panics
/// As of a [`Task`].
///
/// ```
/// epicycle::run(async {
///     let (sender, receiver) = std::sync::mpsc::channel::<()>();
///     let guard = epicycle::spawn(async move {
///         let _owned = sender;
///         std::future::pending::<()>().await;
///     }).cancel_on_drop();
///     assert!(!guard.done()); // a task's methods are the guard's
///     drop(guard);
///     epicycle::run_in_executor(move || assert!(receiver.recv().is_err())).await.unwrap(); // its future was dropped
/// });
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels the task"]
pub struct CancelOnDrop<T>(Option<Task<T>>);

impl<T> CancelOnDrop<T> {
    /// Gives the task back; dropping that no longer cancels.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let guard = epicycle::spawn(async { 1 }).cancel_on_drop();
    ///     assert_eq!(guard.detach().await.unwrap(), 1);
    /// });
    /// ```
    pub fn detach(mut self) -> Task<T> {
        self.0.take().expect("only `detach` takes it")
    }
}

impl<T> Deref for CancelOnDrop<T> {
    type Target = Task<T>;
    fn deref(&self) -> &Task<T> {
        self.0.as_ref().expect("only `detach` takes it")
    }
}

impl<T> DerefMut for CancelOnDrop<T> {
    fn deref_mut(&mut self) -> &mut Task<T> {
        self.0.as_mut().expect("only `detach` takes it")
    }
}

impl<T> Future for CancelOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut **self).poll(cx)
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.cancel();
        }
    }
}

/// Why a task has no value: it was cancelled, or it panicked.
///
/// Counterparts: asyncio's `CancelledError` and the task's exception; Tokio's `JoinError`.
///
/// ```
/// epicycle::run(async {
///     let task = epicycle::spawn(async { panic!("no") });
///     let error = task.await.unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "task panicked: no");
/// });
/// ```
pub struct JoinError {
    // One pointer, so that it does not widen the cells of small tasks.
    why: Option<Box<Why>>,
}

/// Why a task has no value, if not simply because it was cancelled.
enum Why {
    /// The lock only makes the error Sync; it is never contended.
    Panicked(crate::primitive::Mutex<Box<dyn Any + Send>>),
    /// It was cancelled because it could not be taken.
    Refused(&'static str),
}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        Self { why: None }
    }

    pub(super) fn refused(why: &'static str) -> Self {
        Self { why: Some(Box::new(Why::Refused(why))) }
    }

    pub(crate) fn panic(payload: Box<dyn Any + Send>) -> Self {
        Self { why: Some(Box::new(Why::Panicked(crate::primitive::Mutex::new(payload)))) }
    }

    /// The task was cancelled.
    ///
    /// Counterpart: Tokio's `JoinError::is_cancelled`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::spawn(std::future::pending::<()>());
    ///     task.cancel();
    ///     let error = task.await.unwrap_err();
    ///     assert!(error.is_cancelled() && !error.is_panic());
    /// });
    /// ```
    pub fn is_cancelled(&self) -> bool {
        !self.is_panic()
    }

    /// The task panicked.
    ///
    /// Counterpart: Tokio's `JoinError::is_panic`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let error = epicycle::spawn(async { panic!("oh no") }).await.unwrap_err();
    ///     assert!(error.is_panic() && !error.is_cancelled());
    /// });
    /// ```
    #[inline]
    pub fn is_panic(&self) -> bool {
        self.why.as_ref().is_some_and(|why| matches!(**why, Why::Panicked(_)))
    }

    /// The panic's payload, for `std::panic::resume_unwind`.
    ///
    /// Counterpart: Tokio's `JoinError::into_panic`.
    ///
    /// # Panics
    /// If the task was cancelled; [`try_into_panic`](Self::try_into_panic) gives the error back instead.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let error = epicycle::spawn(async { panic!("oh no") }).await.unwrap_err();
    ///     assert_eq!(error.into_panic().downcast_ref(), Some(&"oh no"));
    /// });
    /// ```
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        self.try_into_panic().expect("the task was cancelled, it did not panic")
    }

    /// The panic's payload, or the error itself if the task was cancelled.
    ///
    /// Counterpart: Tokio's `JoinError::try_into_panic`.
    ///
    /// # Errors
    /// The error itself, if it is a cancellation.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let task = epicycle::spawn(std::future::pending::<()>());
    ///     task.cancel();
    ///     if let Err(error) = task.await {
    ///         match error.try_into_panic() {
    ///             Ok(payload) => std::panic::resume_unwind(payload),
    ///             Err(error) => assert!(error.is_cancelled()),
    ///         }
    ///     }
    /// });
    /// ```
    pub fn try_into_panic(mut self) -> Result<Box<dyn Any + Send>, JoinError> {
        match self.take_payload() {
            Some(payload) => Ok(payload),
            None => Err(self),
        }
    }

    /// In the output of a task that nobody asks, it is a panic that nobody has been given.
    #[cold]
    fn drop_panic(&mut self) {
        drop(self.take_payload().and_then(unseen::hand_over));
    }

    fn take_payload(&mut self) -> Option<Box<dyn Any + Send>> {
        match self.why.take().map(|why| *why) {
            Some(Why::Panicked(payload)) => Some(mem::replace(&mut *payload.lock(), Box::new(()))),
            refused => {
                self.why = refused.map(Box::new);
                None
            }
        }
    }
}

impl Drop for JoinError {
    #[inline]
    fn drop(&mut self) {
        if self.is_panic() {
            self.drop_panic();
        }
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why.as_deref() {
            None => f.write_str("task was cancelled"),
            Some(Why::Refused(why)) => f.write_str(why),
            Some(Why::Panicked(payload)) => match payload_text(&**payload.lock()) {
                Some(text) => write!(f, "task panicked: {text}"),
                None => f.write_str("task panicked"),
            },
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}
