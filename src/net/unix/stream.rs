//! [`UnixStream`].
//!
//! *Invariant*: a stream that a user gets is connected, or has been. *Threads*: any. *Ordering*: none of its own.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::net::{
    Async, Interest, OwnedReadHalf, OwnedWriteHalf, ReadHalf, Ready, WriteHalf, socket_methods, split, stream_methods,
    transfer, writable_method,
};
use crate::time::sleep;

/// How often to try a listener whose backlog is full: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// A connection between two processes of a machine.
///
/// It is read and written as a [`TcpStream`](super::super::TcpStream) is. Dropping it closes the connection.
///
/// The counterpart of `tokio::net::UnixStream`. asyncio's `open_unix_connection` is
/// [`streams::open_unix_connection`](crate::streams::open_unix_connection).
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::UnixStream;
///
/// # epicycle::run(async {
/// let (mut a, mut b) = UnixStream::pair()?;
/// a.write_all(b"hello").await?;
/// let mut buf = [0; 5];
/// b.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hello");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct UnixStream {
    io: Async<net::UnixStream>,
}

impl UnixStream {
    /// Connects to the listener at `path`. Waits while its backlog is full.
    ///
    /// # Errors
    ///
    /// Those of connecting: `NotFound`, `ConnectionRefused` and others.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{UnixListener, UnixStream};
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-connect-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path).await?;
    /// let (server, _) = listener.accept().await?;
    /// client.try_write(b"hi")?;
    /// assert_eq!(server.try_read(&mut [0; 8])?, 2);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up connecting and leaves nothing behind.
    pub async fn connect(path: impl AsRef<Path>) -> io::Result<Self> {
        let addr = SockAddr::unix(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        let (mut pause, longest) = RETRY;
        while let Err(error) = socket.connect(&addr) {
            if error.kind() != io::ErrorKind::WouldBlock {
                return Err(error);
            }
            // The backlog is full, and nothing is to be had from a selector about when it is not.
            sleep(pause).await;
            pause = longest.min(pause * 2);
        }
        let stream = net::UnixStream::from(OwnedFd::from(socket));
        Ok(Self { io: Async::new_nonblocking(stream)? })
    }

    /// Two streams, connected to each other.
    ///
    /// # Errors
    ///
    /// Those of `socketpair`.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let (a, b) = epicycle::net::UnixStream::pair()?;
    /// a.try_write(b"hi")?;
    /// assert_eq!(b.try_read(&mut [0; 8])?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixStream::pair()?;
        Ok((Self { io: Async::new(a)? }, Self { io: Async::new(b)? }))
    }

    /// The address of this end; unnamed, as a rule.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let (a, _b) = epicycle::net::UnixStream::pair()?;
    /// assert!(a.local_addr()?.is_unnamed() && a.peer_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The address of the other end; for a client, the path of the server.
    ///
    /// # Errors
    ///
    /// Those of `getpeername`. That the peer has closed its end is none.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{UnixListener, UnixStream};
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-server-addr-{}", std::process::id()));
    /// let listener = UnixListener::bind(&path)?;
    /// let client = UnixStream::connect(&path).await?;
    /// assert_eq!(client.peer_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// One that `accept` returned.
    pub(super) fn accepted(stream: net::UnixStream) -> io::Result<Self> {
        Ok(Self { io: Async::new_nonblocking(stream)? })
    }
}

socket_methods!(
    UnixStream,
    net::UnixStream,
    "let (std_socket, _peer) = std::os::unix::net::UnixStream::pair()?;",
    "let (socket, _peer) = UnixStream::pair()?;"
);
writable_method!(UnixStream, "let (socket, _peer) = UnixStream::pair()?;");
// Reading stops short where descriptors were passed along, so a short read says nothing about what there is.
stream_methods!(UnixStream, net::UnixStream, poll_read_any, "let (socket, peer) = UnixStream::pair()?;");
