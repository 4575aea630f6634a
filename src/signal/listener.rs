//! [`Signal`]: a kind of signal as something to await.
//!
//! *Invariant*: each listener has a bell of its own, unhooked before its socket is closed.
//! *Threads*: any. *Ordering*: the kernel's, of socket and signal.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::Stream;

use super::SignalKind;
use super::bell::{self, Hook};
use crate::net::Async;

/// Waits for the next Ctrl-C (`SIGINT`).
///
/// It listens from when it is first polled. To catch every one in a loop, keep a [`Signal`].
///
/// The counterpart of `tokio::signal::ctrl_c`. asyncio's `run` turns it into a `KeyboardInterrupt`, which Rust has not.
///
/// # Errors
///
/// Those of setting up a pair of sockets.
///
/// # Panics
///
/// Outside of a runtime, when polled.
///
/// # Examples
///
/// ```no_run
/// # epicycle::run(async {
/// println!("Ctrl-C to leave");
/// epicycle::signal::ctrl_c().await?;
/// println!("bye");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping the future stops listening. `SIGINT` does not end the process thereafter.
pub async fn ctrl_c() -> io::Result<()> {
    signal(SignalKind::interrupt())?.recv().await
}

/// Listens for a signal, from now on.
///
/// Any number may listen for the same signal, on any thread; each sees all of them. The counterpart of
/// `tokio::signal::unix::signal`; asyncio's `loop.add_signal_handler` is
/// [`EventLoop::add_signal_handler`](crate::EventLoop::add_signal_handler).
///
/// # Errors
///
/// `InvalidInput` for signals that cannot or must not be handled (`SIGKILL`, `SIGSTOP`, `SIGILL`, `SIGFPE`, `SIGSEGV`);
/// those of setting up a pair of sockets.
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use epicycle::signal::{SignalKind, signal};
///
/// # epicycle::run(async {
/// let mut hangup = signal(SignalKind::hangup())?;
/// signal_hook::low_level::raise(SignalKind::hangup().as_raw())?; // or `kill -HUP`
/// hangup.recv().await?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn signal(kind: SignalKind) -> io::Result<Signal> {
    let (ours, handlers) = bell::sockets(kind)?;
    let bytes = Async::new(ours)?;
    Ok(Signal { kind, _hook: Hook::new(kind, handlers)?, bytes })
}

/// A listener for one kind of signal. From [`signal`].
///
/// Signals that come before the last one was taken are merged into one, as the operating system itself does.
///
/// The counterpart of `tokio::signal::unix::Signal`.
///
/// # Examples
///
/// Each listener is told of each signal:
///
/// ```
/// use epicycle::signal::{Signal, SignalKind, signal};
///
/// # epicycle::run(async {
/// let mut listeners: [Signal; 2] = [signal(SignalKind::hangup())?, signal(SignalKind::hangup())?];
/// signal_hook::low_level::raise(SignalKind::hangup().as_raw())?; // or `kill -HUP`
/// for listener in &mut listeners {
///     listener.recv().await?;
/// }
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "a Signal that is dropped listens no more"]
pub struct Signal {
    kind: SignalKind,
    // Dropped in this order.
    _hook: Hook,
    bytes: Async<UnixStream>,
}

impl Signal {
    /// Waits for the next signal since the last call, or since the listener was created.
    ///
    /// The counterpart of Tokio's `Signal::recv`.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::signal::{SignalKind, signal};
    ///
    /// # epicycle::run(async {
    /// let mut user = signal(SignalKind::user_defined2())?;
    /// for _ in 0..2 {
    ///     signal_hook::low_level::raise(SignalKind::user_defined2().as_raw())?; // or `kill -USR2`
    /// }
    /// user.recv().await?; // both
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no signal.
    pub async fn recv(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// [`recv`](Self::recv) for use inside of a `poll` function.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::signal::{SignalKind, signal};
    ///
    /// # epicycle::run(async {
    /// let mut changed = signal(SignalKind::window_change())?;
    /// signal_hook::low_level::raise(SignalKind::window_change().as_raw())?;
    /// std::future::poll_fn(|cx| changed.poll_recv(cx)).await?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.poll_read_with(cx, bell::drain)
    }

    /// What it listens for.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::signal::{SignalKind, signal};
    ///
    /// # epicycle::run(async {
    /// assert_eq!(signal(SignalKind::quit())?.kind(), SignalKind::quit());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn kind(&self) -> SignalKind {
        self.kind
    }
}

/// The signals, one after another; never ends.
impl Stream for Signal {
    type Item = io::Result<()>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<()>>> {
        self.poll_recv(cx).map(Some)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Signal").field(&self.kind).finish()
    }
}
