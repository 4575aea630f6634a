//! [`Promise`]: a value that somebody will set, for as many as want to wait for it. asyncio's Future.
//!
//! *Invariant.* It is completed once; nobody who waits for it is run by whoever completes it (`shared.rs`). While it is pending,
//! there is a clone that may complete it, and not only a single one that is being awaited: else it is cancelled. *Threads.* Any, if `T: Send`. *Ordering.* The lock's.

mod home;
mod shared;

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::mem;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::error::{Exception, Invalid, InvalidStateError, PromiseError};
use crate::event_loop::{EventLoop, poll_proceed};
use crate::scheduler::tell;
use crate::task::{Event, try_id};
use home::Home;
use shared::{Shared, State, Waiting};

/// A value to come: set once, by any clone; awaited by any others.
///
/// It belongs to the runtime (or the loop on its own) that it was made in: there its done-callbacks run, queued, never inside
/// `set_result`. Setting it wakes those who await it, in the order in which they began to, callbacks among them.
///
/// *Awaiting takes the value*, for `T` need not be `Clone`; so one await gives it, and others get an
/// [`InvalidStateError`]. If several want it, let them use [`result`](Self::result), or [`shared`](Self::shared) to await it, which
/// give copies. Errors and cancellation are given to everyone.
///
/// *Nobody waits for ever*: if all clones are gone but one, which is being awaited, or all clones are gone but
/// [shared](Self::shared) ones, which cannot set it, the promise is cancelled. A callback that owns a clone of its own promise
/// keeps it from that; it is given the promise as an argument.
///
/// *Cancel safety.* An await that is dropped takes nothing.
///
/// Counterparts: asyncio's `Future` (where an awaiting task that is cancelled cancels the future, too: here it lets go of its
/// clone, which does so if it was the last but one); Tokio's `oneshot` and `watch`.
///
/// ```
/// use epicycle::Promise;
///
/// epicycle::run(async {
///     let promise = Promise::new();
///     let setter = promise.clone();
///     epicycle::spawn(async move { setter.set_result(42).unwrap() });
///     assert_eq!(promise.await.unwrap(), 42);
///
///     // A promise that nobody can keep any more:
///     let promise = Promise::<u8>::new();
///     drop(promise.clone());
///     assert!(promise.await.unwrap_err().is_cancelled());
/// });
/// ```
///
/// A [`Task`](crate::Task) is no promise: its result cannot be set from outside.
///
/// ```compile_fail
/// epicycle::run(async { epicycle::spawn(async { 1 }).set_result(2) });
/// ```
#[doc(alias = "Future")]
#[doc(alias = "oneshot")]
pub struct Promise<T> {
    shared: Arc<Shared<T>>,
    /// What it is registered under while it is awaited.
    waits: Option<u64>,
    /// Not inside a [`SharedPromise`].
    may_set: bool,
}

/// Names a callback of one promise.
///
/// ```
/// let promise = epicycle::Runtime::new().block_on(async { epicycle::Promise::<u8>::new() });
/// let id = promise.add_done_callback(|_| unreachable!());
/// assert!(promise.remove_done_callback(id));
/// assert!(!promise.remove_done_callback(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallbackId(u64);

type BoxError = Box<dyn Error + Send + Sync>;

impl<T> Promise<T> {
    /// A promise of the current runtime, or of the loop on its own that this thread runs. It may be made outside of both, and then
    /// belongs to the first from which a callback is registered.
    ///
    /// Counterpart: asyncio's `loop.create_future`, which is here, too: [`EventLoop::create_future`].
    ///
    /// ```
    /// epicycle::run(async {
    ///     let promise = epicycle::Promise::new();
    ///     let setter = promise.clone();
    ///     epicycle::EventLoop::current().call_soon(move || setter.set_result("set").unwrap());
    ///     assert_eq!(promise.await.unwrap(), "set");
    /// });
    /// ```
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        Self::of(Shared::new(Home::current(), Location::caller()))
    }

    fn of(shared: Arc<Shared<T>>) -> Self {
        shared.lock().enter(true);
        Self { shared, waits: None, may_set: true }
    }

    /// Completes it with a value.
    ///
    /// # Errors
    /// If it is done, cancelled included: gives the value back.
    ///
    /// Counterpart: asyncio's `Future.set_result`.
    ///
    /// ```
    /// let promise = epicycle::Promise::new();
    /// assert!(promise.set_result(1).is_ok());
    /// assert!(promise.set_result(2).is_err());
    /// assert_eq!(promise.result().unwrap(), 1);
    /// ```
    pub fn set_result(&self, value: T) -> Result<(), InvalidStateError<T>> {
        self.shared.set_result(value).map_err(|value| InvalidStateError::new(value, Invalid::Done))
    }

    /// Completes it with an error. If nobody ever looks at it, the exception handler is told "Future exception was never
    /// retrieved" when the last clone goes.
    ///
    /// # Errors
    /// If it is done, cancelled included: gives the error back.
    ///
    /// Counterpart: asyncio's `Future.set_exception`.
    ///
    /// ```
    /// let promise = epicycle::Promise::<u8>::new();
    /// promise.set_exception(std::io::Error::other("no luck")).unwrap();
    /// assert_eq!(promise.result().unwrap_err().to_string(), "no luck");
    /// ```
    pub fn set_exception(&self, error: impl Into<BoxError>) -> Result<(), InvalidStateError<BoxError>> {
        self.shared.set_exception(error.into()).map_err(|error| InvalidStateError::new(error, Invalid::Done))
    }

    /// Completes it as cancelled: true. False: it was done already; an error in it will not be reported then.
    ///
    /// Counterpart: asyncio's `Future.cancel`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let promise = epicycle::Promise::<u8>::new();
    ///     assert!(promise.cancel());
    ///     assert!(!promise.cancel()); // done already
    ///     assert!(promise.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn cancel(&self) -> bool {
        self.shared.cancel()
    }

    /// Whether it has a value or an error, or was cancelled.
    ///
    /// Counterpart: asyncio's `Future.done`.
    ///
    /// ```
    /// let promise = epicycle::Promise::new();
    /// assert!(!promise.done());
    /// promise.set_result(1).unwrap();
    /// assert!(promise.done());
    /// ```
    pub fn done(&self) -> bool {
        !self.shared.lock().state.is_pending()
    }

    /// Whether it was cancelled.
    ///
    /// Counterpart: asyncio's `Future.cancelled`.
    ///
    /// ```
    /// let promise = epicycle::Promise::<u8>::new();
    /// promise.cancel();
    /// assert!(promise.cancelled());
    /// ```
    pub fn cancelled(&self) -> bool {
        matches!(self.shared.lock().state, State::Cancelled)
    }

    /// A copy of the value. Never waits.
    ///
    /// # Errors
    /// The error that was set; that it was cancelled; an [`InvalidStateError`] if it is not done, or the value was taken.
    ///
    /// Counterpart: asyncio's `Future.result`.
    ///
    /// ```
    /// let promise = epicycle::Promise::new();
    /// assert!(promise.result().is_err());
    /// promise.set_result(1).unwrap();
    /// assert_eq!((promise.result().unwrap(), promise.result().unwrap()), (1, 1));
    /// ```
    pub fn result(&self) -> Result<T, PromiseError>
    where
        T: Clone,
    {
        self.shared.copy()
    }

    /// The value itself, if it is there. Never waits.
    ///
    /// # Errors
    /// As [`result`](Self::result).
    ///
    /// ```
    /// let promise = epicycle::Promise::new();
    /// promise.set_result(vec![1]).unwrap();
    /// assert_eq!(promise.take_result().unwrap(), [1]);
    /// assert!(promise.take_result().unwrap_err().is_invalid_state());
    /// ```
    pub fn take_result(&self) -> Result<T, PromiseError> {
        self.shared.take()
    }

    /// The error that was set; `None` if it has a value instead. asyncio's `Future.exception()`.
    ///
    /// # Errors
    /// That it was cancelled; an [`InvalidStateError`] if it is not done.
    ///
    /// ```
    /// let (good, bad) = (epicycle::Promise::new(), epicycle::Promise::<u8>::new());
    /// good.set_result(1).unwrap();
    /// bad.set_exception("no luck").unwrap();
    /// assert!(good.exception().unwrap().is_none());
    /// assert_eq!(bad.exception().unwrap().unwrap().to_string(), "no luck");
    /// ```
    pub fn exception(&self) -> Result<Option<Exception>, PromiseError> {
        match self.shared.error() {
            None => Ok(None),
            Some(PromiseError::Exception(exception)) => Ok(Some(exception)),
            Some(error) => Err(error),
        }
    }

    /// Has `callback` called with this promise when it is done, as a handle of its runtime, in the order of registration; at
    /// once if it is done, but queued all the same.
    ///
    /// Counterpart: asyncio's `Future.add_done_callback`.
    ///
    /// # Panics
    /// If there is no runtime to run it: neither was the promise made in one, nor is this called in one.
    ///
    /// ```
    /// use epicycle::Promise;
    /// epicycle::run(async {
    ///     let (sender, receiver) = std::sync::mpsc::channel();
    ///     let promise = Promise::new();
    ///     promise.add_done_callback(move |promise| sender.send(promise.result().unwrap()).unwrap());
    ///     promise.set_result(42).unwrap();
    ///     assert!(receiver.try_recv().is_err(), "not inside set_result");
    ///     epicycle::run_in_executor(move || assert_eq!(receiver.recv(), Ok(42))).await.unwrap();
    /// });
    /// ```
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&Promise<T>) + Send + 'static) -> CallbackId
    where
        T: Send + 'static,
    {
        match self.shared.add_callback(Box::new(callback)) {
            Ok(id) => CallbackId(id),
            Err(_) => panic!(
                "no epicycle runtime would run this callback: make the promise, or register the callback, inside block_on \
                 or a task, or enter a RuntimeHandle first"
            ),
        }
    }

    /// Takes a callback back: true. False: it is queued already, or was never registered here.
    ///
    /// Counterpart: asyncio's `Future.remove_done_callback`.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let promise = epicycle::Promise::new();
    ///     let id = promise.add_done_callback(|_| unreachable!("removed in time"));
    ///     assert!(promise.remove_done_callback(id));
    ///     promise.set_result(1).unwrap();
    ///     assert!(!promise.remove_done_callback(id));
    /// });
    /// ```
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        let is_callback = |waiting: &Waiting<T>| matches!(waiting, Waiting::Callback(_));
        let removed = self.shared.lock().remove(id.0, is_callback);
        // Dropped after the lock is released.
        removed.is_some()
    }

    /// Awaits a copy of the value, which stays for others. It can no longer be set through this clone, so once all clones that could
    /// set it are gone, all who wait are told that it is cancelled.
    ///
    /// ```
    /// epicycle::run(async {
    ///     let promise = epicycle::Promise::new();
    ///     let tasks = [1, 2].map(|_| epicycle::spawn(promise.clone().shared()));
    ///     promise.set_result(7).unwrap();
    ///     for task in tasks {
    ///         assert_eq!(task.await.unwrap().unwrap(), 7);
    ///     }
    /// });
    /// ```
    pub fn shared(self) -> SharedPromise<T>
    where
        T: Clone,
    {
        SharedPromise { promise: self.without_setting() }
    }

    fn without_setting(mut self) -> Self {
        if mem::take(&mut self.may_set) {
            let mut inner = self.shared.lock();
            inner.setters -= 1;
            self.shared.cancel_if_abandoned(inner);
        }
        self
    }

    /// Ready when it is done.
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Made and dropped while the lock is not held.
        let mut waker = None;
        loop {
            let mut inner = self.shared.lock();
            if inner.state.is_pending() && inner.clones == 1 {
                self.shared.finish(inner, State::Cancelled);
                continue;
            }
            if !inner.state.is_pending() {
                drop(inner);
                if self.waits.take().is_some() {
                    tell(|| Event::FutureResumed { task: try_id(), future: self.shared.id() });
                }
                return poll_proceed(cx);
            }
            match (self.waits.and_then(|id| inner.waiting_mut(id)), waker.take()) {
                (Some(Waiting::Task(old)), new) if old.will_wake(cx.waker()) => {
                    drop(inner);
                    if new.is_none() {
                        tell(|| Event::Blocking { task: try_id(), future: self.shared.id() });
                    }
                    return Poll::Pending;
                }
                (Some(waiting), Some(new)) => {
                    let old = mem::replace(waiting, Waiting::Task(new));
                    drop(inner);
                    drop(old);
                    return Poll::Pending;
                }
                (None, Some(new)) => {
                    self.waits = Some(inner.add(Waiting::Task(new)));
                    return Poll::Pending;
                }
                (_, None) => {}
            }
            drop(inner);
            // Told before it can be woken.
            tell(|| Event::Blocking { task: try_id(), future: self.shared.id() });
            tell(|| Event::WakerRegistered { task: try_id(), future: self.shared.id() });
            waker = Some(cx.waker().clone());
        }
    }
}

impl<T: Clone + Send + 'static> Promise<T> {
    /// Ties two promises together: when this one is done, its outcome is copied to `destination`; when `destination` is cancelled,
    /// so is this one. Each way goes through the queue, as all done-callbacks do. What comes too late is dropped in silence.
    ///
    /// asyncio does this in `wrap_future` and `run_coroutine_threadsafe`.
    ///
    /// # Panics
    /// As [`add_done_callback`](Self::add_done_callback).
    ///
    /// ```
    /// use epicycle::Promise;
    /// epicycle::run(async {
    ///     let (source, destination) = (Promise::new(), Promise::new());
    ///     source.chain(&destination);
    ///     source.set_result(1).unwrap();
    ///     assert_eq!(destination.await.unwrap(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn chain(&self, destination: &Promise<T>) {
        // It must not keep this promise from being abandoned.
        let source = Arc::downgrade(&self.shared);
        destination.add_done_callback(move |destination| {
            if let (true, Some(source)) = (destination.cancelled(), source.upgrade()) {
                source.cancel();
            }
        });
        let destination = destination.clone();
        self.add_done_callback(move |source| {
            if destination.done() {
                source.shared.lock().retrieved = true;
                return;
            }
            // Somebody may be quicker still; then this outcome is of no interest.
            match source.result() {
                Ok(value) => drop(destination.set_result(value)),
                Err(PromiseError::Exception(exception)) => drop(destination.shared.set_exception(exception)),
                Err(_) => drop(destination.cancel()),
            }
        });
    }
}

impl<T> Future for Promise<T> {
    type Output = Result<T, PromiseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.poll_done(cx));
        Poll::Ready(self.shared.take())
    }
}

// The value is moved out, never pinned.
impl<T> Unpin for Promise<T> {}

impl<T> Clone for Promise<T> {
    fn clone(&self) -> Self {
        Self::of(self.shared.clone())
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut inner = self.shared.lock();
        let is_task = |waiting: &Waiting<T>| matches!(waiting, Waiting::Task(_));
        let waited = self.waits.and_then(|id| inner.remove(id, is_task));
        inner.leave(self.may_set);
        self.shared.cancel_if_abandoned(inner);
        drop(waited);
    }
}

impl<T> Default for Promise<T> {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Promise<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.shared.state() {
            State::Pending => "pending",
            State::Result => "result",
            State::Exception(_) => "exception",
            State::Cancelled => "cancelled",
        };
        f.debug_struct("Promise").field("state", &state).finish_non_exhaustive()
    }
}

/// A [`Promise`] whose await gives a copy of the value: [`Promise::shared`].
///
/// *Cancel safety.* An await that is dropped takes nothing.
///
/// ```
/// use epicycle::{Promise, future::SharedPromise};
///
/// epicycle::run(async {
///     let promise = Promise::new();
///     promise.set_result(7).unwrap();
///     let shared: SharedPromise<u8> = promise.shared();
///     assert_eq!((shared.clone().await.unwrap(), shared.await.unwrap()), (7, 7));
/// });
/// ```
#[must_use = "futures do nothing unless awaited"]
#[derive(Debug)]
pub struct SharedPromise<T> {
    promise: Promise<T>,
}

impl<T: Clone> Future for SharedPromise<T> {
    type Output = Result<T, PromiseError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.promise.poll_done(cx));
        Poll::Ready(self.promise.result())
    }
}

impl<T: Clone> Clone for SharedPromise<T> {
    fn clone(&self) -> Self {
        let shared = &self.promise.shared;
        shared.lock().enter(false);
        Self { promise: Promise { shared: shared.clone(), waits: None, may_set: false } }
    }
}

impl EventLoop {
    /// A [`Promise`] of this loop's runtime, or of this loop if it is on its own. asyncio's `loop.create_future()`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let promise = event_loop.create_future();
    /// let setter = promise.clone();
    /// event_loop.call_soon(move || setter.set_result(1).unwrap());
    /// assert_eq!(event_loop.run_until_complete(promise).unwrap().unwrap(), 1);
    /// ```
    #[track_caller]
    #[must_use]
    pub fn create_future<T>(&self) -> Promise<T> {
        Promise::of(Shared::new(Some(Home::of(self)), Location::caller()))
    }
}
