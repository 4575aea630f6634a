//! One thread's engine: ready queue, timers, selector. Alone it *is* asyncio's event loop; it knows no peer.
//!
//! *Invariant.* Selector and timers hold nothing but wakers; handles run only in a turn (`core.rs`). What other threads may
//! touch is [`Remote`]; all else is the thread's own.
//!
//! *Threads.* [`EventLoop`] stays on its thread, [`LoopHandle`] goes anywhere. *Ordering.* `park.rs` for sleeping and waking,
//! each file for its part.

mod alarm;
pub(crate) mod clock;
pub(crate) mod core;
pub(crate) mod current;
mod heap;
pub(crate) mod inbox;
mod loop_handle;
mod nest;
pub(crate) mod park;
pub(crate) mod readiness;
mod ready;
mod registration;
mod remote;
mod selector;
mod standalone;
mod stats;
mod timers;
pub(crate) mod turn;
mod watch;

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

pub use loop_handle::LoopHandle;
pub use standalone::LoopStopped;

pub(crate) use core::{Idle, LoopCore};
pub(crate) use readiness::Direction;
pub(crate) use registration::Registration;
pub(crate) use remote::Remote;
pub(crate) use selector::only_alarms;
pub(crate) use timers::Timer;

use crate::task::{self, ErrorContext, Handle, Handler, Task, TimerHandle};

pub(crate) use crate::task::budget::poll_proceed;

/// A handle to one thread's event loop: asyncio's loop. It stays on its thread; [`handle`](Self::handle) gives the half that
/// other threads may use.
///
/// Inside a runtime, [`current`](Self::current) is this thread's loop. On its own, [`new`](Self::new) makes a loop that is
/// asyncio whole: [`run_until_complete`](Self::run_until_complete), [`run_forever`](Self::run_forever),
/// [`stop`](Self::stop), [`close`](Self::close).
///
/// # Panics
/// Scheduling methods panic with "event loop is closed" on a loop that was closed; for a runtime's loop 0 that is also a
/// handle kept beyond the `block_on` that it came from.
///
/// ```
/// use epicycle::EventLoop;
/// use std::{cell::RefCell, rc::Rc, time::Duration};
///
/// let event_loop = EventLoop::new().unwrap();
/// let seen = Rc::new(RefCell::new(Vec::new()));
/// let (first, second, stopper) = (seen.clone(), seen.clone(), event_loop.clone());
/// event_loop.call_later(Duration::from_millis(5), move || { second.borrow_mut().push("later"); stopper.stop() });
/// event_loop.call_soon(move || first.borrow_mut().push("soon"));
/// event_loop.run_forever();
/// assert_eq!(*seen.borrow(), ["soon", "later"]);
/// ```
pub struct EventLoop {
    core: Rc<LoopCore>,
}

impl EventLoop {
    /// The loop that this thread drives.
    ///
    /// # Panics
    /// Off a loop, as on an executor's thread.
    #[track_caller]
    pub fn current() -> Self {
        Self::try_current().expect(
            "no epicycle runtime drives an event loop on this thread: call this inside block_on, a task or a callback",
        )
    }

    /// The loop that this thread drives, if any. asyncio's `get_running_loop`.
    pub fn try_current() -> Option<Self> {
        current::current().map(|core| Self { core })
    }

    /// The loop's number in its runtime; 0 for a loop on its own.
    pub fn index(&self) -> usize {
        self.core.remote().index()
    }

    /// The half that other threads may use.
    pub fn handle(&self) -> LoopHandle {
        LoopHandle::new(self.core.remote().clone())
    }

    /// The loop's clock: `Instant::now()`.
    pub fn time(&self) -> Instant {
        Instant::now()
    }

    /// Schedules `callback` for the next turn, after what is scheduled already.
    #[track_caller]
    pub fn call_soon(&self, callback: impl FnOnce() + 'static) -> Handle {
        self.core.call_soon(callback)
    }

    /// Schedules `callback` for `delay` from now, never earlier. Any duration will do.
    #[track_caller]
    pub fn call_later(&self, delay: Duration, callback: impl FnOnce() + 'static) -> TimerHandle {
        let now = self.time();
        self.core.call_at(now.checked_add(delay.min(clock::FAR)).unwrap_or(now), Some(now), callback)
    }

    /// Schedules `callback` for `when`, never earlier; equal times in the order of the calls.
    #[track_caller]
    pub fn call_at(&self, when: Instant, callback: impl FnOnce() + 'static) -> TimerHandle {
        self.core.call_at(when, None, callback)
    }

    /// Spawns a future that stays on this thread, so it need not be `Send`.
    #[track_caller]
    pub fn spawn_local<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        self.core.spawn_local(future, task::Builder::new(), Location::caller())
    }

    /// Calls `callback` in every turn in which `fd` can be read (or has ended, or has an error), until it is removed:
    /// level-triggered, as in asyncio. A second call for the same descriptor replaces the callback. Keyed by the
    /// descriptor's number; remove it before you close the descriptor. (Closed first, its callback is never called again; but if
    /// a duplicate keeps the file open, the kernel goes on reporting it and the loop does not come to rest.)
    ///
    /// # Errors
    /// If the descriptor cannot be polled, belongs to a socket of this runtime, or the loop is closed.
    #[track_caller]
    pub fn add_reader(&self, fd: impl AsFd, callback: impl FnMut() + 'static) -> io::Result<()> {
        let location = Location::caller();
        watch::add(&self.core, fd.as_fd(), Direction::Read, Box::new(callback), location)
    }

    /// Stops watching `fd` for reading; true if it was watched. The other direction stays.
    pub fn remove_reader(&self, fd: impl AsFd) -> bool {
        watch::remove(&self.core, fd.as_fd(), Direction::Read)
    }

    /// As [`add_reader`](Self::add_reader), for writing.
    ///
    /// # Errors
    /// As there.
    #[track_caller]
    pub fn add_writer(&self, fd: impl AsFd, callback: impl FnMut() + 'static) -> io::Result<()> {
        let location = Location::caller();
        watch::add(&self.core, fd.as_fd(), Direction::Write, Box::new(callback), location)
    }

    /// Stops watching `fd` for writing; true if it was watched.
    pub fn remove_writer(&self, fd: impl AsFd) -> bool {
        watch::remove(&self.core, fd.as_fd(), Direction::Write)
    }

    /// Debug mode: reports each handle that takes `slow` or longer to the exception handler, with its name and the place it
    /// came from. `None` ends it. asyncio's `set_debug` and `slow_callback_duration` (0.1 s there).
    pub fn set_debug(&self, slow: Option<Duration>) {
        let nanos = slow.map_or(0, |slow| u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.core.remote().set_slow_nanos(nanos);
    }

    /// Tells the exception handler.
    pub fn call_exception_handler(&self, context: &ErrorContext) {
        self.core.remote().report(context);
    }

    /// Has errors that nobody can be handed go to `handler` from now on; `None` is the default one, which logs. A runtime's
    /// handler is set for all loops with [`Builder::exception_handler`](crate::Builder::exception_handler).
    pub fn set_exception_handler(&self, handler: Option<Box<Handler>>) {
        self.core.remote().set_handler(handler.map(Into::into));
    }
}

impl Clone for EventLoop {
    fn clone(&self) -> Self {
        Self { core: self.core.clone() }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("index", &self.index())
            .field("closed", &self.core.is_closed())
            .finish_non_exhaustive()
    }
}
