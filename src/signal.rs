//! Signals of the operating system, as something to await.
//!
//! Every [`Signal`] is a listener of its own, with a pair of sockets: the signal handler writes a byte into one end, the
//! other one is a descriptor like any other to an event loop. So nothing is shared: any number of listeners, in any
//! number of runtimes, each see every signal, and the end of one has no effect on another. There is no helper thread.
//!
//! The price is what every runtime asks for: from the first listener for a signal on, its default action (the end of
//! the process, for most) is gone for good, also after the listener is dropped.
//!
//! *Invariant*: the handler only writes to a socket that is open: it is unregistered before the socket is closed.
//! *Threads*: any. *Ordering*: the kernel's, of socket and signal.

#![forbid(unsafe_code)]

use std::fmt;
use std::future::poll_fn;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::Stream;
use signal_hook::SigId;
use signal_hook::consts;
use signal_hook::low_level::{pipe, unregister};

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
/// The counterpart of `tokio::signal::unix::signal` and of asyncio's `loop.add_signal_handler`.
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
    if consts::FORBIDDEN.contains(&kind.0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{kind:?} cannot be listened for")));
    }
    let (ours, handlers) = UnixStream::pair()?;
    let ours = Async::new(ours)?;
    // The handler sends without blocking, whatever the mode of its end.
    let id = pipe::register(kind.0, handlers)?;
    Ok(Signal { kind, id, bytes: ours })
}

/// A listener for one kind of signal. From [`signal`].
///
/// Signals that come before the last one was taken are merged into one, as the operating system itself does.
///
/// # Examples
///
/// ```no_run
/// use epicycle::signal::{SignalKind, signal};
///
/// # epicycle::run(async {
/// let mut hangup = signal(SignalKind::hangup())?;
/// loop {
///     hangup.recv().await?;
///     println!("reading the configuration again");
/// }
/// # #[allow(unreachable_code)]
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "a Signal that is dropped listens no more"]
pub struct Signal {
    kind: SignalKind,
    id: SigId,
    bytes: Async<UnixStream>,
}

impl Signal {
    /// Waits for the next signal since the last call, or since the listener was created.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// See [`signal`].
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
        self.bytes.poll_read_with(cx, drain)
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

/// Takes all the bytes there are. `WouldBlock` if there are none.
fn drain(mut bytes: &UnixStream) -> io::Result<()> {
    let mut taken = [0; 64];
    let mut any = false;
    loop {
        match bytes.read(&mut taken) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && any => return Ok(()),
            Err(error) => return Err(error),
            // The other end is open for as long as the listener is.
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => any = true,
        }
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        unregister(self.id);
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

/// A kind of signal, such as `SIGTERM`.
///
/// # Examples
///
/// ```
/// use epicycle::signal::SignalKind;
///
/// assert_eq!(SignalKind::from_raw(15), SignalKind::terminate());
/// assert_eq!(SignalKind::terminate().as_raw(), 15);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SignalKind(i32);

macro_rules! kinds {
    ($($name:ident, $signal:ident, $what:literal;)*) => {
        impl SignalKind {
            $(
                #[doc = concat!("`", stringify!($signal), "`: ", $what, ".")]
                ///
                /// # Examples
                ///
                /// ```
                #[doc = concat!("let kind = epicycle::signal::SignalKind::", stringify!($name), "();")]
                /// ```
                pub const fn $name() -> Self {
                    Self(consts::$signal)
                }
            )*
        }
    };
}

kinds! {
    alarm, SIGALRM, "a timer of the operating system has expired";
    child, SIGCHLD, "a child process has ended, stopped or gone on";
    hangup, SIGHUP, "the terminal is gone; for a daemon, read the configuration again";
    interrupt, SIGINT, "Ctrl-C";
    io, SIGIO, "a descriptor that is set up for it is ready";
    pipe, SIGPIPE, "written to a pipe that nobody reads; Rust programs ignore it from the start";
    quit, SIGQUIT, "Ctrl-\\\\";
    terminate, SIGTERM, "a request to end";
    user_defined1, SIGUSR1, "whatever the program takes it for";
    user_defined2, SIGUSR2, "whatever the program takes it for";
    window_change, SIGWINCH, "the terminal has another size";
}

impl SignalKind {
    /// The signal of that number.
    ///
    /// # Examples
    ///
    /// See [`SignalKind`].
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// The number of the signal.
    ///
    /// # Examples
    ///
    /// See [`SignalKind`].
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}
