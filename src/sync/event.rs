//! [`Event`]: a flag to wait for.
//!
//! *Invariant.* While the flag is set nobody waits: `set` chooses all who do. *Threads.* Any. *Ordering.* The lock's: who has
//! waited sees what was done before `set`.

use std::fmt;

use super::blocking;
use super::lot::{Lot, Wakers};
use super::wait::{Need, Wait};
use crate::primitive::Mutex;

/// A flag that tasks and threads wait for, and that can be cleared again. asyncio's `Event`.
///
/// [`set`](Self::set) lets all go who wait at that moment, even if it is [cleared](Self::clear) before they run.
///
/// The counterpart of `asyncio.Event`, and of the use that `tokio::sync::Notify` is most often put to.
///
/// # Examples
///
/// ```
/// use epicycle::sync::Event;
/// use std::sync::Arc;
///
/// epicycle::run(async {
///     let ready = Arc::new(Event::new());
///     let theirs = ready.clone();
///     let task = epicycle::spawn(async move { theirs.wait().await });
///     ready.set();
///     task.await.unwrap();
///     assert!(ready.is_set());
/// });
/// ```
pub struct Event {
    state: Mutex<State>,
}

struct State {
    set: bool,
    lot: Lot<(), ()>,
}

impl Event {
    /// An event that is not set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!epicycle::sync::Event::new().is_set());
    /// ```
    pub fn new() -> Self {
        Self { state: Mutex::new(State { set: false, lot: Lot::new() }) }
    }

    /// Sets the flag, and wakes all who wait, in the order of their arrival.
    ///
    /// # Examples
    ///
    /// ```
    /// let event = epicycle::sync::Event::new();
    /// event.set();
    /// assert!(event.is_set());
    /// ```
    pub fn set(&self) {
        let mut wakers = Wakers::default();
        {
            let mut state = self.state.lock();
            state.set = true;
            while let Some(waker) = state.lot.choose(()) {
                wakers.push(waker);
            }
        }
        wakers.wake();
    }

    /// Clears the flag: who waits from now on waits for the next [`set`](Self::set).
    ///
    /// # Examples
    ///
    /// ```
    /// let event = epicycle::sync::Event::new();
    /// event.set();
    /// event.clear();
    /// assert!(!event.is_set());
    /// ```
    pub fn clear(&self) {
        self.state.lock().set = false;
    }

    /// Whether the flag is set.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!epicycle::sync::Event::default().is_set());
    /// ```
    pub fn is_set(&self) -> bool {
        self.state.lock().set
    }

    /// Waits until the flag is set; not at all if it is.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping the future.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let event = epicycle::sync::Event::new();
    /// let setting = async {
    ///     epicycle::yield_now().await;
    ///     event.set();
    /// };
    /// futures_lite::future::zip(event.wait(), setting).await;
    /// assert!(event.is_set());
    /// # });
    /// ```
    pub async fn wait(&self) {
        Wait::new(&self.state, Set).await;
    }

    /// Blocks the thread until the flag is set.
    ///
    /// # Panics
    ///
    /// On a thread that drives an event loop: there, use [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{sync::Arc, thread};
    ///
    /// let event = Arc::new(epicycle::sync::Event::new());
    /// let theirs = event.clone();
    /// let thread = thread::spawn(move || theirs.blocking_wait());
    /// event.set();
    /// assert!(thread.join().is_ok());
    /// ```
    #[track_caller]
    pub fn blocking_wait(&self) {
        blocking::block_on("Event::blocking_wait", "wait().await", self.wait());
    }
}

impl Default for Event {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("set", &self.is_set()).finish_non_exhaustive()
    }
}

/// The need for the flag to be set, now or at any moment since.
struct Set;

impl Need for Set {
    type State = State;
    type Request = ();
    type Grant = ();
    type Output = ();

    const NAME: &'static str = "event";

    fn lot(state: &mut State) -> &mut Lot<(), ()> {
        &mut state.lot
    }

    fn request(&self) {}

    fn arrive(&mut self, state: &mut State, _: &mut Wakers) -> Option<()> {
        state.set.then_some(())
    }

    fn collect(&mut self, _: &mut State, (): (), _: &mut Wakers) {}

    fn abandon(&mut self, _: &mut State, _: Option<()>, _: &mut Wakers) {}
}
