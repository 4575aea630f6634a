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

pub(crate) use core::{Companion, Idle, LoopCore};
pub(crate) use readiness::Direction;
pub(crate) use registration::Registration;
pub(crate) use remote::{PinnedHome, Remote};
pub(crate) use selector::{Batch, PollSet, only_alarms};
pub(crate) use timers::Timer;

use crate::task::{self, ErrorContext, Handle, Handler, Task, TimerHandle};

pub(crate) use crate::task::budget::poll_proceed;

/// A handle to one thread's event loop: asyncio's loop. It stays on its thread; [`handle`](Self::handle) gives the half that
/// other threads may use.
///
/// Inside a runtime, [`current`](Self::current) is this thread's loop. On its own, [`new`](Self::new) makes a loop that is
/// asyncio whole: [`run_until_complete`](Self::run_until_complete), [`run_forever`](Self::run_forever),
/// [`stop`](Self::stop), [`close`](Self::close). Names are looked up, and jobs of
/// [`run_in_executor`](Self::run_in_executor) run, on threads that belong to that loop.
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
    ///
    /// Counterpart: asyncio's `get_running_loop`.
    ///
    /// ```
    /// use epicycle::EventLoop;
    ///
    /// epicycle::run(async {
    ///     let (sender, receiver) = std::sync::mpsc::channel();
    ///     EventLoop::current().call_soon(move || sender.send(EventLoop::current().index()).unwrap());
    ///     epicycle::yield_now().await;
    ///     assert_eq!(receiver.recv(), Ok(EventLoop::current().index()));
    /// });
    /// ```
    #[track_caller]
    pub fn current() -> Self {
        Self::try_current().expect(
            "no epicycle runtime drives an event loop on this thread: call this inside block_on, a task or a callback",
        )
    }

    /// The loop that this thread drives, if any. asyncio's `get_running_loop`.
    ///
    /// ```
    /// use epicycle::EventLoop;
    ///
    /// assert!(EventLoop::try_current().is_none());
    /// epicycle::run(async { assert!(EventLoop::try_current().is_some()) });
    /// ```
    pub fn try_current() -> Option<Self> {
        current::current().map(|core| Self { core })
    }

    pub(crate) fn core(&self) -> &Rc<LoopCore> {
        &self.core
    }

    /// The loop's number in its runtime; 0 for a loop on its own.
    ///
    /// ```
    /// let rt = epicycle::Runtime::builder().worker_threads(2).build().unwrap();
    /// let index = || async { epicycle::EventLoop::current().index() };
    /// assert_eq!(rt.block_on(index()), 0); // loop 0 is that of block_on
    /// assert_eq!(rt.block_on(rt.loops()[1].spawn_local(index)).unwrap(), 1);
    /// ```
    pub fn index(&self) -> usize {
        self.core.remote().index()
    }

    /// The half that other threads may use.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let handle = event_loop.handle();
    /// let task = std::thread::spawn(move || handle.spawn_local(|| async { 1 })).join().unwrap();
    /// assert_eq!(event_loop.run_until_complete(task).unwrap().unwrap(), 1);
    /// ```
    pub fn handle(&self) -> LoopHandle {
        LoopHandle::new(self.core.remote().clone())
    }

    /// The loop's clock: `Instant::now()`.
    ///
    /// Counterpart: asyncio's `loop.time`, there in seconds.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let timer = event_loop.call_at(event_loop.time() + Duration::from_secs(1), || {});
    /// assert!(timer.when() > event_loop.time());
    /// ```
    pub fn time(&self) -> Instant {
        Instant::now()
    }

    /// Schedules `callback` for the next turn, after what is scheduled already.
    ///
    /// Counterpart: asyncio's `loop.call_soon`. From other threads: [`LoopHandle::call_soon_threadsafe`].
    ///
    /// # Panics
    /// On a closed loop.
    ///
    /// ```
    /// use epicycle::EventLoop;
    ///
    /// let event_loop = EventLoop::new().unwrap();
    /// let (first, second) = (event_loop.clone(), event_loop.clone());
    /// event_loop.call_soon(move || {
    ///     // The loop ends with its next turn, so what is scheduled here still runs.
    ///     first.call_soon(move || second.stop());
    /// });
    /// event_loop.run_forever();
    /// ```
    #[track_caller]
    pub fn call_soon(&self, callback: impl FnOnce() + 'static) -> Handle {
        self.core.call_soon(callback)
    }

    /// Schedules `callback` for `delay` from now, never earlier. Any duration will do.
    ///
    /// Counterpart: asyncio's `loop.call_later`, there in seconds.
    ///
    /// # Panics
    /// On a closed loop.
    ///
    /// ```
    /// use epicycle::EventLoop;
    /// use std::time::{Duration, Instant};
    ///
    /// let (event_loop, start) = (EventLoop::new().unwrap(), Instant::now());
    /// let stopper = event_loop.clone();
    /// event_loop.call_later(Duration::from_millis(2), move || stopper.stop());
    /// event_loop.run_forever();
    /// assert!(start.elapsed() >= Duration::from_millis(2));
    /// ```
    #[track_caller]
    pub fn call_later(&self, delay: Duration, callback: impl FnOnce() + 'static) -> TimerHandle {
        let now = self.time();
        self.core.call_at(now.checked_add(delay.min(clock::FAR)).unwrap_or(now), Some(now), callback)
    }

    /// Schedules `callback` for `when`, never earlier; equal times in the order of the calls.
    ///
    /// Counterpart: asyncio's `loop.call_at`.
    ///
    /// # Panics
    /// On a closed loop.
    ///
    /// ```
    /// use epicycle::EventLoop;
    /// use std::{cell::RefCell, rc::Rc};
    ///
    /// let event_loop = EventLoop::new().unwrap();
    /// let (order, when) = (Rc::new(RefCell::new(Vec::new())), event_loop.time());
    /// for n in 0..3 {
    ///     let order = order.clone();
    ///     event_loop.call_at(when, move || order.borrow_mut().push(n));
    /// }
    /// event_loop.run_once(None);
    /// assert_eq!(*order.borrow(), [0, 1, 2]);
    /// ```
    #[track_caller]
    pub fn call_at(&self, when: Instant, callback: impl FnOnce() + 'static) -> TimerHandle {
        self.core.call_at(when, None, callback)
    }

    /// Spawns a future that stays on this thread, so it need not be `Send`.
    ///
    /// Counterpart: asyncio's `loop.create_task`; [`spawn_local`](crate::spawn_local) is this for the current loop.
    ///
    /// # Panics
    /// On a closed loop.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let shared = std::rc::Rc::new(41); // not Send
    /// let task = event_loop.spawn_local(async move { *shared + 1 });
    /// assert_eq!(event_loop.run_until_complete(task).unwrap().unwrap(), 42);
    /// ```
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
    ///
    /// A panic of the callback goes to the exception handler, and it stays.
    ///
    /// Counterpart: asyncio's `loop.add_reader`.
    ///
    /// ```
    /// use epicycle::EventLoop;
    /// use std::{io::{Read, Write}, os::unix::net::UnixStream};
    ///
    /// let event_loop = EventLoop::new()?;
    /// let (here, mut there) = UnixStream::pair()?;
    /// let (mut source, stopper) = (here.try_clone()?, event_loop.clone());
    /// event_loop.add_reader(&here, move || {
    ///     assert_eq!(source.read(&mut [0; 8]).unwrap(), 5);
    ///     stopper.stop();
    /// })?;
    /// there.write_all(b"hello")?;
    /// event_loop.run_forever();
    /// assert!(event_loop.remove_reader(&here));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn add_reader(&self, fd: impl AsFd, callback: impl FnMut() + 'static) -> io::Result<()> {
        let location = Location::caller();
        watch::add(&self.core, fd.as_fd(), Direction::Read, Box::new(callback), location)
    }

    /// Stops watching `fd` for reading; true if it was watched. The other direction stays.
    ///
    /// Counterpart: asyncio's `loop.remove_reader`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new()?;
    /// let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    /// event_loop.add_reader(&socket, || {})?;
    /// assert!(event_loop.remove_reader(&socket));
    /// assert!(!event_loop.remove_reader(&socket));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remove_reader(&self, fd: impl AsFd) -> bool {
        watch::remove(&self.core, fd.as_fd(), Direction::Read)
    }

    /// As [`add_reader`](Self::add_reader), for writing.
    ///
    /// # Errors
    /// As there.
    ///
    /// Counterpart: asyncio's `loop.add_writer`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new()?;
    /// let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    /// let stopper = event_loop.clone();
    /// event_loop.add_writer(&socket, move || stopper.stop())?;
    /// event_loop.run_forever(); // there is room in the buffer from the start
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[track_caller]
    pub fn add_writer(&self, fd: impl AsFd, callback: impl FnMut() + 'static) -> io::Result<()> {
        let location = Location::caller();
        watch::add(&self.core, fd.as_fd(), Direction::Write, Box::new(callback), location)
    }

    /// Stops watching `fd` for writing; true if it was watched.
    ///
    /// Counterpart: asyncio's `loop.remove_writer`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new()?;
    /// let (socket, _other) = std::os::unix::net::UnixStream::pair()?;
    /// event_loop.add_reader(&socket, || {})?;
    /// event_loop.add_writer(&socket, || {})?;
    /// assert!(event_loop.remove_writer(&socket));
    /// assert!(event_loop.remove_reader(&socket)); // the other direction stayed
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn remove_writer(&self, fd: impl AsFd) -> bool {
        watch::remove(&self.core, fd.as_fd(), Direction::Write)
    }

    /// Debug mode: reports each handle that takes `slow` or longer to the exception handler, with its name and the place it
    /// came from. `None` ends it. asyncio's `set_debug` and `slow_callback_duration` (0.1 s there).
    ///
    /// ```
    /// use epicycle::{ErrorContext, EventLoop};
    /// use std::{sync::mpsc::channel, thread::sleep, time::Duration};
    ///
    /// let (sender, reports) = channel();
    /// let event_loop = EventLoop::new().unwrap();
    /// event_loop.set_exception_handler(Some(Box::new(move |context: &ErrorContext| {
    ///     sender.send(context.to_string()).unwrap();
    /// })));
    /// event_loop.set_debug(Some(Duration::from_millis(1)));
    /// event_loop.call_soon(|| sleep(Duration::from_millis(2)));
    /// event_loop.run_once(None);
    /// assert!(reports.try_recv().unwrap().contains("took"));
    /// ```
    pub fn set_debug(&self, slow: Option<Duration>) {
        let nanos = slow.map_or(0, |slow| u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX).max(1));
        self.core.remote().set_slow_nanos(nanos);
    }

    /// Tells the exception handler.
    ///
    /// Counterpart: asyncio's `loop.call_exception_handler`.
    ///
    /// ```
    /// use epicycle::{ErrorContext, EventLoop};
    ///
    /// let (sender, errors) = std::sync::mpsc::channel();
    /// let event_loop = EventLoop::new().unwrap();
    /// event_loop.set_exception_handler(Some(Box::new(move |context: &ErrorContext| {
    ///     sender.send(context.message().to_owned()).unwrap();
    /// })));
    /// event_loop.call_exception_handler(&ErrorContext::new("the log is full"));
    /// assert_eq!(errors.recv().unwrap(), "the log is full");
    /// ```
    pub fn call_exception_handler(&self, context: &ErrorContext) {
        self.core.remote().report(context);
    }

    /// Has errors that nobody can be handed go to `handler` from now on; `None` is the default one, which logs. A runtime's
    /// handler is set for all loops with [`Builder::exception_handler`](crate::Builder::exception_handler).
    ///
    /// Counterpart: asyncio's `loop.set_exception_handler`.
    ///
    /// ```
    /// use epicycle::{ErrorContext, EventLoop};
    ///
    /// let (sender, errors) = std::sync::mpsc::channel();
    /// let event_loop = EventLoop::new().unwrap();
    /// event_loop.set_exception_handler(Some(Box::new(move |context: &ErrorContext| {
    ///     sender.send(context.panic_message().map(str::to_owned)).unwrap();
    /// })));
    /// event_loop.call_soon(|| panic!("oh no"));
    /// event_loop.run_once(None);
    /// assert_eq!(errors.recv().unwrap().as_deref(), Some("oh no"));
    /// ```
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
