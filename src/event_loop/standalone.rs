//! A loop on its own, without a runtime: asyncio's life cycle.
//!
//! *Invariant.* Running means being this thread's current loop; `close` happens once, not while running, and drops
//! everything. *Threads.* The loop's own. *Ordering.* Owner-only.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::panic::{Location, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::LoopCore;
use super::{EventLoop, Remote, current};
use crate::task::Outcome::{Cancelled, Completed, Panicked};
use crate::task::{Event, Instrument, Observer, catch, context};

/// `run_until_complete` ended because the loop was stopped before the future was done. asyncio's `RuntimeError`.
///
/// ```
/// let event_loop = epicycle::EventLoop::new().unwrap();
/// event_loop.stop();
/// let error: epicycle::LoopStopped = event_loop.run_until_complete(std::future::pending::<()>()).unwrap_err();
/// assert_eq!(error.to_string(), "Event loop stopped before Future completed.");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopStopped(());

impl LoopStopped {
    pub(crate) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for LoopStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Event loop stopped before Future completed.")
    }
}

impl std::error::Error for LoopStopped {}

/// A loop that belongs to a runtime is run by it alone.
const OWNED: &str = "this event loop belongs to a Runtime, which runs it";

impl EventLoop {
    /// A loop on its own.
    ///
    /// # Errors
    /// If the system is out of descriptors.
    ///
    /// Counterpart: asyncio's `new_event_loop`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new()?;
    /// assert_eq!(event_loop.run_until_complete(async { 6 * 7 }), Ok(42));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn new() -> io::Result<Self> {
        Self::observed_by(Observer::default())
    }

    /// A loop on its own that tells `instrument` of every event. For a runtime there is
    /// [`Builder::instrument`](crate::Builder::instrument).
    ///
    /// Counterpart: trio's `add_instrument`.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// ```
    /// use epicycle::{Event, EventLoop, Instrument};
    ///
    /// struct Print;
    /// impl Instrument for Print {
    ///     fn event(&self, event: &Event) {
    ///         println!("{event:?}");
    ///     }
    /// }
    ///
    /// let event_loop = EventLoop::with_instrument(Print).unwrap();
    /// event_loop.run_until_complete(async {}).unwrap();
    /// ```
    pub fn with_instrument(instrument: impl Instrument) -> io::Result<Self> {
        Self::observed_by(Observer::new(Some(Arc::new(instrument)), false))
    }

    fn observed_by(observer: Observer) -> io::Result<Self> {
        let remote = Remote::new(0, false, None, observer)?;
        Ok(Self { core: LoopCore::new(remote, None, 0) })
    }

    fn tell(&self, event: impl FnOnce() -> Event) {
        self.core.remote().observer().tell(event);
    }

    /// Runs the loop until `future` is done, and to the end of the turn after that one, as asyncio does. What else was
    /// scheduled stays for the next run. The future may borrow.
    ///
    /// # Errors
    /// If the loop was stopped first.
    ///
    /// # Panics
    /// If this thread runs a loop already, or this loop is closed; and with the future's own panic.
    ///
    /// Counterpart: asyncio's `loop.run_until_complete`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let background = event_loop.spawn_local(async {
    ///     for _ in 0..3 {
    ///         epicycle::yield_now().await;
    ///     }
    ///     "done"
    /// });
    /// assert_eq!(event_loop.run_until_complete(async { 1 }), Ok(1));
    /// assert!(!background.done()); // that took two turns; the rest waits for the next run
    /// assert_eq!(event_loop.run_until_complete(background).unwrap().unwrap(), "done");
    /// ```
    #[track_caller]
    pub fn run_until_complete<F: Future>(&self, future: F) -> Result<F::Output, LoopStopped> {
        let location = Location::caller();
        self.assert_can_run();
        // The future is the caller's, and has its context.
        let mut context = context::take();
        let running = Running::start(self);
        let root = self.core.spawn_root(location);
        let mut future = pin!(future);
        let (mut output, mut stop) = (None, None);
        while !self.core.take_stop() {
            let _ = self.core.turn(None, &|| false, &mut || {
                if output.is_none() {
                    let mut cx = Context::from_waker(&root.waker);
                    let _inside = root.task.enter();
                    let polled = context.run(|| catch(|| future.as_mut().poll(&mut cx)));
                    output = match polled {
                        Ok(Poll::Pending) => None,
                        Ok(Poll::Ready(value)) => Some(Ok(value)),
                        Err(payload) => Some(Err(payload)),
                    };
                    if let Some(output) = &output {
                        self.core.tell_root_ended(if output.is_ok() { Completed } else { Panicked });
                        let stopped = self.clone();
                        stop = Some(self.core.call_soon(move || {
                            stopped.core.tell_root_callback();
                            stopped.stop();
                        }));
                    }
                }
                ControlFlow::Continue(())
            });
        }
        // Somebody else may have stopped the loop in the same turn.
        stop.inspect(|stop| _ = stop.cancel());
        root.task.cancel_at_home();
        drop(root);
        drop(running);
        drop(context::replace(context));
        match output {
            None => {
                self.core.tell_root_ended(Cancelled);
                Err(LoopStopped(()))
            }
            Some(Ok(value)) => Ok(value),
            Some(Err(payload)) => resume_unwind(payload),
        }
    }

    /// Runs the loop until [`stop`](Self::stop); if that was called before, for one turn that does not wait.
    ///
    /// # Panics
    /// As [`run_until_complete`](Self::run_until_complete).
    ///
    /// Counterpart: asyncio's `loop.run_forever`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let stopper = event_loop.clone();
    /// let task = event_loop.spawn_local(async move { stopper.stop() });
    /// event_loop.run_forever();
    /// assert!(task.done());
    /// ```
    #[track_caller]
    pub fn run_forever(&self) {
        self.assert_can_run();
        let _running = Running::start(self);
        loop {
            let _ = self.core.turn(None, &|| false, &mut || ControlFlow::Continue(()));
            if self.core.take_stop() {
                return;
            }
        }
    }

    /// One turn: waits for at most `timeout` (`None`: as long as it takes) if nothing is ready, then runs what is.
    ///
    /// # Panics
    /// As [`run_until_complete`](Self::run_until_complete).
    ///
    /// For a loop inside somebody else's, as a game's or a window's. Counterpart: asyncio's `loop._run_once`, private there.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let task = event_loop.spawn_local(async { epicycle::yield_now().await });
    /// let mut frames = 0;
    /// while !task.done() {
    ///     event_loop.run_once(Some(Duration::ZERO));
    ///     frames += 1;
    /// }
    /// assert_eq!(frames, 2);
    /// ```
    #[track_caller]
    pub fn run_once(&self, timeout: Option<Duration>) {
        self.assert_can_run();
        let _running = Running::start(self);
        let _ = self.core.turn(timeout, &|| false, &mut || ControlFlow::Continue(()));
        self.core.take_stop();
    }

    /// Has the running loop end after the current turn: what is ready now still runs, what that schedules does not.
    ///
    /// In a runtime it ends the `block_on` that drives this loop: as in asyncio's `run`, that panics with "Event loop stopped before
    /// Future completed.", unless its future is done by then. The future, and what is pinned to the loop, is dropped, and the
    /// runtime may be used again.
    ///
    /// Counterpart: asyncio's `loop.stop`.
    ///
    /// # Panics
    /// On a background loop of a runtime, whose thread runs it for as long as there is the runtime.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let (stopper, (sender, receiver)) = (event_loop.clone(), std::sync::mpsc::channel());
    /// event_loop.call_soon(move || stopper.stop());
    /// event_loop.call_soon(move || sender.send("same turn").unwrap());
    /// event_loop.run_forever();
    /// assert_eq!(receiver.try_recv(), Ok("same turn"));
    /// ```
    ///
    /// ```
    /// use epicycle::{EventLoop, Runtime, time::sleep};
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    /// use std::time::Duration;
    ///
    /// let rt = Runtime::new();
    /// let stopped = catch_unwind(AssertUnwindSafe(|| {
    ///     rt.block_on(async {
    ///         let event_loop = EventLoop::current();
    ///         event_loop.clone().call_later(Duration::from_millis(5), move || event_loop.stop());
    ///         sleep(Duration::MAX).await;
    ///     })
    /// }));
    /// assert!(stopped.is_err());
    /// assert_eq!(rt.block_on(async { 1 }), 1);
    /// ```
    #[track_caller]
    pub fn stop(&self) {
        // A guest's loop has no place among them.
        let background = self.core.fleet() != 0 && (1..usize::MAX).contains(&self.index());
        assert!(!background, "{OWNED}: a background loop ends with the Runtime");
        self.core.stop();
    }

    /// Drops everything that was scheduled and ends the loop for good; a second call does nothing. Dropping the last handle
    /// does the same.
    ///
    /// Its executor ends with it: jobs that have not begun are cancelled. Those that run are not waited for, as in asyncio; they run
    /// to their ends, after which their threads end, too.
    ///
    /// # Panics
    /// While the loop runs, and on a loop of a runtime.
    ///
    /// Counterpart: asyncio's `loop.close`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let task = event_loop.spawn_local(std::future::pending::<()>());
    /// event_loop.close();
    /// assert!(task.cancelled() && event_loop.is_closed());
    /// ```
    #[track_caller]
    pub fn close(&self) {
        assert!(!self.is_running(), "Cannot close a running event loop");
        assert!(self.core.fleet() == 0, "{OWNED}: it ends with the Runtime");
        close(&self.core);
    }

    /// Whether this thread is inside one of the run methods of this loop.
    ///
    /// Counterpart: asyncio's `loop.is_running`, there of any thread.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// let inside = event_loop.clone();
    /// assert!(!event_loop.is_running());
    /// assert_eq!(event_loop.run_until_complete(async { inside.is_running() }), Ok(true));
    /// ```
    pub fn is_running(&self) -> bool {
        current::is_on(self.core.remote())
    }

    /// Whether the loop was closed.
    ///
    /// Counterpart: asyncio's `loop.is_closed`.
    ///
    /// ```
    /// let event_loop = epicycle::EventLoop::new().unwrap();
    /// assert!(!event_loop.is_closed());
    /// event_loop.close();
    /// assert!(event_loop.is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.core.is_closed()
    }

    #[track_caller]
    fn assert_can_run(&self) {
        assert!(!self.is_closed(), "event loop is closed");
        assert!(!self.is_running(), "This event loop is already running");
        assert!(self.core.fleet() == 0, "{OWNED}");
        assert!(current::current().is_none(), "Cannot run the event loop while another loop is running");
    }
}

/// As long as it is there, this thread is inside a run method.
struct Running<'a> {
    event_loop: &'a EventLoop,
    _entered: current::Entered,
}

impl<'a> Running<'a> {
    fn start(event_loop: &'a EventLoop) -> Self {
        let _entered = current::enter(event_loop.core.clone());
        event_loop.tell(|| Event::RunStart { on: 0 });
        Self { event_loop, _entered }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.event_loop.tell(|| Event::RunStop { on: 0 });
    }
}

fn close(core: &Rc<LoopCore>) {
    if core.is_closed() {
        return;
    }
    core.close();
    // Its destructors see it as their loop, whatever loop this thread drives.
    let _entered = current::enter_over(core.clone());
    let remote = core.remote();
    remote.pinned().close();
    remote.live().close();
    // First, so that what they wake is among what is drained.
    remote.timers().close(|waker| remote.wake(waker));
    remote.selector().close(|waker| remote.wake(waker));
    core.close_companion();
    loop {
        let unpinned = remote.live().cancel_all();
        let travellers = core.drop_pinned();
        let posts = core.close_inbox();
        if !unpinned && travellers.is_empty() && posts.is_empty() {
            break;
        }
        // Their destructors may queue something here again.
        drop((travellers, posts));
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        let last = Rc::strong_count(&self.core) == 1;
        if last && self.core.fleet() == 0 {
            close(&self.core);
        }
    }
}
