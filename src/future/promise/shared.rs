//! What the clones of a promise share: its state, who waits for it, and its value.
//!
//! *Invariant.* The state leaves `Pending` once, and whoever does that takes the whole waiting list and serves it, in the order of
//! registration, after the lock is released: callbacks are queued, tasks are woken. A value exists only in state `Result`.
//!
//! *Threads.* Any. *Ordering.* The locks'. The value has one of its own, the last to be taken, since `T::clone` runs
//! under it; it may be taken again by the thread that holds it, so a `clone` that looks at its own promise does not hang.

use std::cell::RefCell;
use std::panic::Location;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::ReentrantMutex;

use super::super::error::{Exception, Invalid, PromiseError};
use super::Promise;
use super::home::{Home, report};
use crate::primitive::{Mutex, MutexGuard};
use crate::scheduler::tell;
use crate::task::{ErrorContext, Event, FutureId, catch, drop_payload};

pub(super) type Callback<T> = Box<dyn FnOnce(&Promise<T>) + Send>;

pub(super) struct Shared<T> {
    inner: Mutex<Inner<T>>,
    value: ReentrantMutex<RefCell<Option<T>>>,
    /// Where it was made; none if that was outside all runtimes.
    birth: Option<Home>,
    location: &'static Location<'static>,
}

pub(super) struct Inner<T> {
    pub(super) state: State,
    /// How many [`Promise`]s there are, those inside of shared ones included.
    pub(super) clones: usize,
    /// How many of them may set it: all but those.
    pub(super) setters: usize,
    last_id: u64,
    /// In the order of registration, which is that of the ids.
    waiting: Vec<(u64, Waiting<T>)>,
    /// Set with the first callback.
    delivery: Option<Delivery<T>>,
    /// Somebody has seen the exception, or does not care.
    pub(super) retrieved: bool,
}

#[derive(Clone)]
pub(super) enum State {
    Pending,
    Result,
    Exception(Exception),
    Cancelled,
}

pub(super) enum Waiting<T> {
    Task(Waker),
    Callback(Callback<T>),
}

type Queue<T> = fn(&Home, Arc<Shared<T>>, Vec<Callback<T>>);

/// How callbacks get to the queue. The function is chosen where a callback is registered, for there `T` is known to be
/// `Send`, so that it may go along.
pub(super) struct Delivery<T> {
    home: Home,
    queue: Queue<T>,
}

impl<T> Clone for Delivery<T> {
    fn clone(&self) -> Self {
        Self { home: self.home.clone(), queue: self.queue }
    }
}

impl State {
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }
}

impl<T> Inner<T> {
    fn position(&self, id: u64) -> Option<usize> {
        self.waiting.binary_search_by_key(&id, |(id, _)| *id).ok()
    }

    pub(super) fn waiting_mut(&mut self, id: u64) -> Option<&mut Waiting<T>> {
        let at = self.position(id)?;
        Some(&mut self.waiting[at].1)
    }

    pub(super) fn add(&mut self, waiting: Waiting<T>) -> u64 {
        let id = self.next_id();
        self.waiting.push((id, waiting));
        id
    }

    pub(super) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Takes out what was registered under `id` if it is of the kind that `wanted` says.
    pub(super) fn remove(&mut self, id: u64, wanted: impl Fn(&Waiting<T>) -> bool) -> Option<Waiting<T>> {
        let at = self.position(id).filter(|at| wanted(&self.waiting[*at].1))?;
        Some(self.waiting.remove(at).1)
    }

    pub(super) fn enter(&mut self, may_set: bool) {
        self.clones += 1;
        self.setters += usize::from(may_set);
    }

    pub(super) fn leave(&mut self, may_set: bool) {
        self.clones -= 1;
        self.setters -= usize::from(may_set);
    }

    /// Whether nobody is left who could complete it: no clone that may, or a single one, which waits.
    fn is_abandoned(&self) -> bool {
        let waits = |(_, waiting): &(u64, Waiting<T>)| matches!(waiting, Waiting::Task(_));
        self.state.is_pending() && (self.setters == 0 || self.clones == 1 && self.waiting.iter().any(waits))
    }
}

impl<T> Shared<T> {
    pub(super) fn new(birth: Option<Home>, location: &'static Location<'static>) -> Arc<Self> {
        let inner = Inner {
            state: State::Pending,
            clones: 0,
            setters: 0,
            last_id: 0,
            waiting: Vec::new(),
            delivery: None,
            retrieved: false,
        };
        let shared = Arc::new(Self { inner: Mutex::new(inner), value: ReentrantMutex::default(), birth, location });
        tell(|| Event::FutureCreated { future: shared.id() });
        shared
    }

    pub(super) fn id(&self) -> FutureId {
        FutureId::at("promise", self)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock()
    }

    pub(super) fn state(&self) -> State {
        self.lock().state.clone()
    }

    // ---- completing ------------------------------------------------------------------------------------------------

    pub(super) fn set_result(self: &Arc<Self>, value: T) -> Result<(), T> {
        let inner = self.lock();
        if !inner.state.is_pending() {
            drop(inner);
            return Err(value);
        }
        // Nobody holds the value's lock before there is a value.
        let before = self.value.lock().replace(Some(value));
        debug_assert!(before.is_none());
        self.finish(inner, State::Result);
        Ok(())
    }

    pub(super) fn set_exception<E: Into<Exception>>(self: &Arc<Self>, exception: E) -> Result<(), E> {
        let inner = self.lock();
        if !inner.state.is_pending() {
            drop(inner);
            return Err(exception);
        }
        self.finish(inner, State::Exception(exception.into()));
        Ok(())
    }

    pub(super) fn cancel(self: &Arc<Self>) -> bool {
        let mut inner = self.lock();
        let pending = inner.state.is_pending();
        if pending {
            self.finish(inner, State::Cancelled);
        } else {
            inner.retrieved = true;
        }
        pending
    }

    /// The one change of state; gives the lock back before anybody is told.
    pub(super) fn finish(self: &Arc<Self>, mut inner: MutexGuard<'_, Inner<T>>, state: State) {
        inner.state = state;
        let waiting = std::mem::take(&mut inner.waiting);
        let delivery = inner.delivery.clone();
        drop(inner);
        tell(|| Event::FutureSet { future: self.id() });
        let mut callbacks = Vec::new();
        for (_, waiting) in waiting {
            match waiting {
                Waiting::Callback(callback) => callbacks.push(callback),
                Waiting::Task(waker) => {
                    self.queue(delivery.as_ref(), std::mem::take(&mut callbacks));
                    self.wake(waker);
                }
            }
        }
        self.queue(delivery.as_ref(), callbacks);
    }

    pub(super) fn cancel_if_abandoned(self: &Arc<Self>, inner: MutexGuard<'_, Inner<T>>) {
        if inner.is_abandoned() {
            self.finish(inner, State::Cancelled);
        }
    }

    fn queue(self: &Arc<Self>, delivery: Option<&Delivery<T>>, callbacks: Vec<Callback<T>>) {
        if let (Some(delivery), false) = (delivery, callbacks.is_empty()) {
            (delivery.queue)(&delivery.home, self.clone(), callbacks);
        }
    }

    fn wake(&self, waker: Waker) {
        if let Err(payload) = catch(|| waker.wake()) {
            self.report(ErrorContext::new("Exception in a waker").with_panic(&*payload));
            drop_payload(payload);
        }
    }

    fn report(&self, mut context: ErrorContext) {
        context.location = Some(self.location);
        report(self.birth.as_ref(), &context);
    }

    // ---- callbacks -------------------------------------------------------------------------------------------------

    /// Registers, or queues at once if it is done. Without a runtime to queue it in, it comes back.
    pub(super) fn add_callback(self: &Arc<Self>, callback: Callback<T>) -> Result<u64, Callback<T>>
    where
        T: Send + 'static,
    {
        let known = self.lock().delivery.clone();
        let Some(found) = known.or_else(|| self.delivery()) else { return Err(callback) };
        let mut inner = self.lock();
        if inner.delivery.is_none() {
            inner.delivery = Some(found.clone());
        }
        if inner.state.is_pending() {
            return Ok(inner.add(Waiting::Callback(callback)));
        }
        let (id, delivery) = (inner.next_id(), inner.delivery.clone());
        drop(inner);
        self.queue(delivery.as_ref(), vec![callback]);
        Ok(id)
    }

    fn delivery(&self) -> Option<Delivery<T>>
    where
        T: Send + 'static,
    {
        let home = self.birth.clone().or_else(Home::current)?;
        let queue = |home: &Home, shared: Arc<Self>, callbacks: Vec<Callback<T>>| {
            let location = shared.location;
            home.call_soon(move || call(&shared, callbacks), location);
        };
        Some(Delivery { home, queue })
    }

    // ---- the outcome -----------------------------------------------------------------------------------------------

    /// The error that the state stands for; none if there is, or was, a value.
    pub(super) fn error(&self) -> Option<PromiseError> {
        let mut inner = self.lock();
        match &inner.state {
            State::Pending => Some(PromiseError::invalid(Invalid::NotReady)),
            State::Result => None,
            State::Cancelled => Some(PromiseError::cancelled()),
            State::Exception(exception) => {
                let exception = exception.clone();
                inner.retrieved = true;
                Some(PromiseError::Exception(exception))
            }
        }
    }

    pub(super) fn take(&self) -> Result<T, PromiseError> {
        if let Some(error) = self.error() {
            return Err(error);
        }
        let value = self.value.lock();
        // It is borrowed only if this thread is inside its `clone`.
        let taken = value.try_borrow_mut().ok().and_then(|mut value| value.take());
        taken.ok_or_else(|| PromiseError::invalid(Invalid::Taken))
    }

    pub(super) fn copy(&self) -> Result<T, PromiseError>
    where
        T: Clone,
    {
        if let Some(error) = self.error() {
            return Err(error);
        }
        let value = self.value.lock();
        let copy = value.borrow().clone();
        copy.ok_or_else(|| PromiseError::invalid(Invalid::Taken))
    }
}

/// Calls them in order; each one's panic is reported and keeps none of the others from running.
fn call<T>(shared: &Arc<Shared<T>>, callbacks: Vec<Callback<T>>) {
    let promise = Promise::of(shared.clone());
    for callback in callbacks {
        if let Err(payload) = catch(|| callback(&promise)) {
            shared.report(ErrorContext::new("Exception in callback").with_panic(&*payload));
            drop_payload(payload);
        }
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let inner = self.lock();
        let exception = match &inner.state {
            State::Exception(exception) if !inner.retrieved => exception.clone(),
            _ => return,
        };
        drop(inner);
        let mut context = ErrorContext::new("Future exception was never retrieved");
        // Where a panic's text would stand. Showing it is user code.
        context.panic = match catch(|| exception.to_string()) {
            Ok(text) => Some(text),
            Err(payload) => {
                drop_payload(payload);
                None
            }
        };
        self.report(context);
    }
}
