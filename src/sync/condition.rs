//! [`Condition`]: to wait, with a mutex unlocked meanwhile, until somebody says that its value has changed.
//!
//! *Invariant.* A visitor is in the lot before its mutex is unlocked, so no notification made under the mutex is missed; one that
//! reached somebody who then gave up goes on to the next. *Threads.* Any. *Ordering.* The mutex's.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;

use super::blocking;
use super::lot::{Lot, Wakers};
use super::mutex::Guard;
use super::wait::{Need, Wait};
use crate::primitive::Mutex;

/// Lets tasks wait until the value of a [`Mutex`](super::Mutex) is as they need it. asyncio's `Condition`.
///
/// It belongs to no particular mutex, so several conditions can share one (asyncio's `Condition(lock)`); but all who wait for
/// a condition at the same time must come with guards of the same mutex.
///
/// Where it differs from asyncio's: a [`wait`](Self::wait) that is dropped does not lock again before it ends, as nothing can be
/// awaited in a destructor. Its guard is gone with it, so the code around it cannot take the mutex for locked. As in
/// asyncio, a notification that it had received and not used goes to the next who waits.
///
/// Notifying takes the guard as a proof that the mutex is locked, so asyncio's error for doing it without cannot occur.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{Condition, Mutex};
/// use std::sync::Arc;
///
/// epicycle::run(async {
///     let shared = Arc::new((Mutex::new(0), Condition::new()));
///     let theirs = shared.clone();
///     let task = epicycle::spawn(async move {
///         let (count, changed) = &*theirs;
///         let count = changed.wait_for(count.lock().await, |count| *count >= 3).await;
///         *count
///     });
///     let (count, changed) = &*shared;
///     for _ in 0..3 {
///         let mut count = count.lock().await;
///         *count += 1;
///         changed.notify_all(&count);
///     }
///     assert_eq!(task.await.unwrap(), 3);
/// });
/// ```
#[doc(alias = "Condvar")]
pub struct Condition {
    state: Mutex<State>,
}

struct State {
    lot: Lot<(), ()>,
    /// How many visits there are, and which mutex they came with.
    visits: usize,
    mutex: usize,
}

const ANOTHER: &str =
    "this Condition is in use with another Mutex: everybody who waits for it must come with guards of one";

impl Condition {
    /// A condition that nobody waits for.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    ///
    /// # epicycle::run(async {
    /// // Several conditions may share a mutex.
    /// let (items, not_empty, not_full) = (Mutex::new(vec![1]), Condition::new(), Condition::new());
    /// let mut items = not_empty.wait_for(items.lock().await, |items| !items.is_empty()).await;
    /// assert_eq!(items.pop(), Some(1));
    /// not_full.notify(&items, 1);
    /// # });
    /// ```
    pub fn new() -> Self {
        Self { state: Mutex::new(State { lot: Lot::new(), visits: 0, mutex: 0 }) }
    }

    /// Unlocks, waits to be notified, and locks again.
    ///
    /// It may return without a notification of its own, as every condition may: what it waited for is to be checked again, or
    /// [`wait_for`](Self::wait_for) used, which does that. It is entered in the line, and the mutex unlocked, when it is first
    /// polled.
    ///
    /// # Panics
    ///
    /// If others wait for it with a guard of another mutex.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the guard, or the place in the line; it does not lock again. A notification that was not used
    /// goes to the next who waits.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    ///
    /// # epicycle::run(async {
    /// let (mutex, condition) = (Mutex::new(false), Condition::new());
    /// let waiting = async {
    ///     let mut ready = mutex.lock().await;
    ///     while !*ready {
    ///         ready = condition.wait(ready).await;
    ///     }
    /// };
    /// let notifying = async {
    ///     let mut ready = mutex.lock().await;
    ///     *ready = true;
    ///     condition.notify(&ready, 1);
    /// };
    /// futures_lite::future::zip(waiting, notifying).await;
    /// assert!(*mutex.lock().await);
    /// # });
    /// ```
    #[track_caller]
    pub fn wait<'a, G: Guard + 'a>(&'a self, guard: G) -> impl Future<Output = G> + use<'a, G> {
        let visit = self.visit(guard.address());
        async move {
            // The whole of it: by itself, a closure takes along no more than the field it writes to.
            let mut visit = visit;
            let mut notified = Wait::unbudgeted(&self.state, Notified);
            let (mut guard, mut unlocked) = (Some(guard), None);
            poll_fn(|cx| {
                let polled = Pin::new(&mut notified).poll(cx);
                // Only now that it is in the line.
                if let Some(guard) = guard.take() {
                    unlocked = Some(guard.unlock());
                }
                polled
            })
            .await;
            visit.unused = true;
            let guard = G::relock(unlocked.expect("unlocked by the first poll")).await;
            visit.unused = false;
            guard
        }
    }

    /// Waits until `predicate` is true of the value: not at all if it is, and through any number of notifications if not.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait); and with what `predicate` panics with.
    ///
    /// # Cancel safety
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    ///
    /// # epicycle::run(async {
    /// let (mutex, condition) = (Mutex::new(1), Condition::new());
    /// let guard = condition.wait_for(mutex.lock().await, |value| *value == 1).await;
    /// assert_eq!(*guard, 1);
    /// # });
    /// ```
    #[doc(alias = "wait_while")]
    pub async fn wait_for<G: Guard>(&self, guard: G, mut predicate: impl FnMut(&mut G::Target) -> bool) -> G {
        let mut guard = guard;
        while !predicate(&mut guard) {
            guard = self.wait(guard).await;
        }
        guard
    }

    /// Blocks the thread through a [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// On a thread that drives an event loop: there, use [`wait`](Self::wait). And as that.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    /// use std::{sync::Arc, thread};
    ///
    /// let shared = Arc::new((Mutex::new(false), Condition::new()));
    /// let theirs = shared.clone();
    /// let thread = thread::spawn(move || {
    ///     let mut ready = theirs.0.blocking_lock();
    ///     while !*ready {
    ///         ready = theirs.1.blocking_wait(ready);
    ///     }
    /// });
    /// let mut ready = shared.0.blocking_lock();
    /// *ready = true;
    /// shared.1.notify_all(&ready);
    /// drop(ready);
    /// thread.join().unwrap();
    /// assert!(!shared.0.is_locked());
    /// ```
    #[track_caller]
    pub fn blocking_wait<G: Guard>(&self, guard: G) -> G {
        blocking::block_on("Condition::blocking_wait", "wait(guard).await", self.wait(guard))
    }

    /// Blocks the thread through a [`wait_for`](Self::wait_for).
    ///
    /// # Panics
    ///
    /// On a thread that drives an event loop: there, use [`wait_for`](Self::wait_for). And as that.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    ///
    /// let (mutex, condition) = (Mutex::new(1), Condition::new());
    /// let guard = condition.blocking_wait_for(mutex.blocking_lock(), |value| *value == 1);
    /// assert_eq!(*guard, 1);
    /// ```
    #[track_caller]
    pub fn blocking_wait_for<G: Guard>(&self, guard: G, predicate: impl FnMut(&mut G::Target) -> bool) -> G {
        blocking::block_on("Condition::blocking_wait_for", "wait_for(..).await", self.wait_for(guard, predicate))
    }

    /// Has the `count` who have waited longest go on, each once it can lock the mutex.
    ///
    /// # Panics
    ///
    /// If others wait with a guard of another mutex.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    ///
    /// # epicycle::run(async {
    /// let (permits, freed) = (Mutex::new(0), Condition::new());
    /// let taking = async {
    ///     *freed.wait_for(permits.lock().await, |permits| *permits > 0).await -= 1;
    /// };
    /// let giving = async {
    ///     let mut permits = permits.lock().await;
    ///     *permits += 1;
    ///     freed.notify(&permits, 1); // one permit is of use to one only
    /// };
    /// futures_lite::future::zip(taking, giving).await;
    /// assert_eq!(*permits.lock().await, 0);
    /// # });
    /// ```
    #[track_caller]
    pub fn notify<G: Guard>(&self, guard: &G, count: usize) {
        let mut wakers = Wakers::default();
        let fits = {
            let mut state = self.state.lock();
            let fits = state.fits(guard.address());
            let chosen = if fits { count.min(state.lot.waiting()) } else { 0 };
            for _ in 0..chosen {
                state.lot.choose(()).into_iter().for_each(|waker| wakers.push(waker));
            }
            fits
        };
        wakers.wake();
        assert!(fits, "{ANOTHER}");
    }

    /// Has all go on who wait, one after the other as they can lock the mutex.
    ///
    /// # Panics
    ///
    /// As [`notify`](Self::notify).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Condition, Mutex};
    ///
    /// # epicycle::run(async {
    /// let (version, changed) = (Mutex::new(1), Condition::new());
    /// let reader = async || *changed.wait_for(version.lock().await, |version| *version > 1).await;
    /// let writer = async {
    ///     let mut version = version.lock().await;
    ///     *version = 2;
    ///     changed.notify_all(&version);
    /// };
    /// let readers = futures_lite::future::zip(reader(), reader());
    /// let (versions, ()) = futures_lite::future::zip(readers, writer).await;
    /// assert_eq!(versions, (2, 2));
    /// # });
    /// ```
    #[track_caller]
    pub fn notify_all<G: Guard>(&self, guard: &G) {
        self.notify(guard, usize::MAX);
    }

    #[track_caller]
    fn visit(&self, mutex: usize) -> Visit<'_> {
        let fits = {
            let mut state = self.state.lock();
            let fits = state.fits(mutex);
            if fits {
                state.mutex = mutex;
                state.visits += 1;
            }
            fits
        };
        assert!(fits, "{ANOTHER}");
        Visit { condition: self, unused: false }
    }
}

impl State {
    fn fits(&self, mutex: usize) -> bool {
        self.visits == 0 || self.mutex == mutex
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condition").field("waiting", &self.state.lock().lot.waiting()).finish_non_exhaustive()
    }
}

/// A wait, from its making to its end.
struct Visit<'a> {
    condition: &'a Condition,
    /// It was notified, and is not yet back with the mutex locked.
    unused: bool,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.condition.state.lock();
            state.visits -= 1;
            if self.unused { state.lot.choose(()) } else { None }
        };
        let mut wakers = Wakers::default();
        next.into_iter().for_each(|waker| wakers.push(waker));
        wakers.wake();
    }
}

/// The need for a notification.
struct Notified;

impl Need for Notified {
    type State = State;
    type Request = ();
    type Grant = ();
    type Output = ();

    const NAME: &'static str = "condition";

    fn lot(state: &mut State) -> &mut Lot<(), ()> {
        &mut state.lot
    }

    fn request(&self) {}

    fn arrive(&mut self, _: &mut State, _: &mut Wakers) -> Option<()> {
        None
    }

    fn collect(&mut self, _: &mut State, (): (), _: &mut Wakers) {}

    fn abandon(&mut self, state: &mut State, grant: Option<()>, wakers: &mut Wakers) {
        if grant.is_some() {
            state.lot.choose(()).into_iter().for_each(|waker| wakers.push(waker));
        }
    }
}
