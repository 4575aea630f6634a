//! [`UnixListener`].
//!
//! *Invariant*: see [`Acceptor`]. *Threads*: any. *Ordering*: none of its own.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::task::{Context, Poll, ready};

use super::UnixStream;
use crate::net::accept::Acceptor;
use crate::net::{Async, Interest, Ready, socket_methods};

/// A socket of the Unix domain that accepts connections.
///
/// Dropping it does not remove the file it is bound to.
///
/// The counterpart of `tokio::net::UnixListener`. asyncio's `start_unix_server` is
/// [`streams::start_unix_server`](crate::streams::start_unix_server).
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::{UnixListener, UnixStream};
///
/// # epicycle::run(async {
/// # let path = std::env::temp_dir().join(format!("epicycle-doc-listener-{}", std::process::id()));
/// let listener = UnixListener::bind(&path)?;
/// epicycle::spawn(async move {
///     let (mut stream, _) = listener.accept().await?;
///     stream.write_all(b"welcome").await
/// });
///
/// let mut text = String::new();
/// UnixStream::connect(&path).await?.read_to_string(&mut text).await?;
/// assert_eq!(text, "welcome");
/// std::fs::remove_file(path)?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct UnixListener {
    acceptor: Acceptor<net::UnixListener>,
}

impl UnixListener {
    /// Creates a socket at `path` and listens on it.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if there is a file at the path already; others of the operating system.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixListener;
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-bind-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// drop(listener); // which leaves the file
    /// assert_eq!(UnixListener::bind(&path).unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    /// std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::from_io(Async::new(net::UnixListener::bind(path)?)?))
    }

    /// Waits for a connection and returns it with the peer's address.
    ///
    /// When out of resources it pauses and goes on, as [`TcpListener::accept`](super::super::TcpListener::accept).
    ///
    /// # Errors
    ///
    /// Those of accepting; and when the runtime has been shut down.
    ///
    /// # Panics
    ///
    /// Outside of a runtime: the connection is registered with the loop that accepts it.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{UnixListener, UnixStream};
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-accepted-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path).await?;
    /// let (server, peer) = listener.accept().await?;
    /// assert!(peer.is_unnamed());
    /// client.try_write(b"hi")?;
    /// assert_eq!(server.try_read(&mut [0; 8])?, 2);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        let (stream, peer) = self.acceptor.accept(accept_nonblocking).await?;
        Ok((UnixStream::accepted(stream)?, peer))
    }

    /// [`accept`](Self::accept) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`accept`](Self::accept).
    ///
    /// # Panics
    ///
    /// As [`accept`](Self::accept).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{UnixListener, UnixStream};
    /// use std::future::poll_fn;
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-accept-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path).await?;
    /// let (server, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// assert!(peer.is_unnamed());
    /// assert_eq!(server.local_addr()?.as_pathname(), client.peer_addr()?.as_pathname());
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(UnixStream, SocketAddr)>> {
        let (stream, peer) = ready!(self.acceptor.poll_accept(cx, accept_nonblocking))?;
        Poll::Ready(UnixStream::accepted(stream).map(|stream| (stream, peer)))
    }

    /// The address it listens on.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-addr-{}", std::process::id()));
    /// let listener = epicycle::net::UnixListener::bind(&path)?;
    /// assert_eq!(listener.local_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io().get_ref().local_addr()
    }

    fn from_io(io: Async<net::UnixListener>) -> Self {
        Self { acceptor: Acceptor::new(io) }
    }

    fn io(&self) -> &Async<net::UnixListener> {
        self.acceptor.io()
    }

    fn into_io(self) -> Async<net::UnixListener> {
        self.acceptor.into_io()
    }
}

socket_methods!(
    UnixListener,
    net::UnixListener,
    "# let path = std::env::temp_dir().join(format!(\"epicycle-doc-std-{}\", std::process::id()));
let std_socket = std::os::unix::net::UnixListener::bind(&path)?;
# std::fs::remove_file(path)?;",
    "# let unique = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
# let path = std::env::temp_dir().join(format!(\"epicycle-doc-{unique}\"));
let socket = UnixListener::bind(&path)?;
# std::fs::remove_file(path)?;"
);

/// std creates the connection CLOEXEC; a second call for non-blocking mode is the price of an address that only std can
/// make.
fn accept_nonblocking(listener: &net::UnixListener) -> io::Result<(net::UnixStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, peer))
}
