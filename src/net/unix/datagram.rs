//! [`UnixDatagram`].
//!
//! *Invariant*: a datagram is sent and received whole or not at all. *Threads*: any. *Ordering*: none of its own.

use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use crate::net::{Async, Interest, Ready, socket_methods, writable_method};

/// A datagram socket of the Unix domain.
///
/// All methods take `&self`: any number of tasks may send and receive at once. Datagrams arrive in order and are not lost.
///
/// Dropping it does not remove the file it is bound to.
///
/// The counterpart of `tokio::net::UnixDatagram`.
///
/// # Examples
///
/// ```
/// use epicycle::net::UnixDatagram;
///
/// # epicycle::run(async {
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"ping").await?;
/// let mut buf = [0; 8];
/// assert_eq!(b.recv(&mut buf).await?, 4);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct UnixDatagram {
    io: Async<net::UnixDatagram>,
}

impl UnixDatagram {
    /// Creates a socket at `path`.
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
    /// use epicycle::net::UnixDatagram;
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-datagram-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.send_to(b"ping", &path).await?;
    /// let (len, sender) = server.recv_from(&mut [0; 8]).await?;
    /// assert!(len == 4 && sender.is_unnamed());
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn bind(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { io: Async::new(net::UnixDatagram::bind(path)?)? })
    }

    /// Creates a socket that has no address: it can send, and receive if connected by the peer.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixDatagram;
    ///
    /// # epicycle::run(async {
    /// let socket = UnixDatagram::unbound()?;
    /// assert!(socket.local_addr()?.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn unbound() -> io::Result<Self> {
        Ok(Self { io: Async::new(net::UnixDatagram::unbound()?)? })
    }

    /// Two sockets, connected to each other.
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
    /// use epicycle::net::UnixDatagram;
    ///
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"ping").await?;
    /// b.send(b"pong!").await?;
    /// assert_eq!((a.recv(&mut [0; 8]).await?, b.recv(&mut [0; 8]).await?), (5, 4));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn pair() -> io::Result<(Self, Self)> {
        let (a, b) = net::UnixDatagram::pair()?;
        Ok((Self { io: Async::new(a)? }, Self { io: Async::new(b)? }))
    }

    /// Sets the peer for [`send`](Self::send), and the only one that is received from.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixDatagram;
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-peer-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// let client = UnixDatagram::unbound()?;
    /// client.connect(&path)?;
    /// assert_eq!(client.peer_addr()?.as_pathname(), Some(&*path));
    /// assert_eq!(server.local_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn connect(&self, path: impl AsRef<Path>) -> io::Result<()> {
        self.io.get_ref().connect(path)
    }

    /// The address of this end.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixDatagram;
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-local-{}", std::process::id()));
    /// let socket = UnixDatagram::bind(&path)?;
    /// assert_eq!(socket.local_addr()?.as_pathname(), Some(&*path));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// The address it is connected to.
    ///
    /// # Errors
    ///
    /// `NotConnected` if it is not.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixDatagram;
    ///
    /// # epicycle::run(async {
    /// let (socket, _peer) = UnixDatagram::pair()?;
    /// assert!(socket.peer_addr()?.is_unnamed());
    /// let alone = UnixDatagram::unbound()?;
    /// assert_eq!(alone.peer_addr().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Sends a datagram to the connected peer; returns its length. Waits while the peer's queue is full.
    ///
    /// # Errors
    ///
    /// Those of sending; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// assert_eq!(a.send(b"ping").await?, 4);
    /// drop(b);
    /// assert!(a.send(b"ping").await.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing was sent.
    pub async fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.write_with(|io| io.send(buf)).await
    }

    /// Receives a datagram; returns its length. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    ///
    /// Those of receiving; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"too long").await?;
    /// let mut buf = [0; 3];
    /// assert_eq!(b.recv(&mut buf).await?, 3);
    /// assert_eq!(&buf, b"too"); // and the rest is gone
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing was received.
    pub async fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|io| io.recv(buf)).await
    }

    /// Sends a datagram to the socket at `path`; returns its length. Waits while the peer's queue is full.
    ///
    /// # Errors
    ///
    /// Those of sending; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-send-to-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// assert_eq!(UnixDatagram::unbound()?.send_to(b"ping", &path).await?, 4);
    /// assert_eq!(server.recv(&mut [0; 8]).await?, 4);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing was sent.
    pub async fn send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.io.write_with(|io| io.send_to(buf, path.as_ref())).await
    }

    /// Receives a datagram; returns its length and its sender. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    ///
    /// Those of receiving; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-recv-from-{}", std::process::id()));
    /// let named = UnixDatagram::bind(&path)?;
    /// named.send_to(b"to myself", &path).await?;
    /// let (len, sender) = named.recv_from(&mut [0; 16]).await?;
    /// assert_eq!((len, sender.as_pathname()), (9, Some(&*path)));
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing was received.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|io| io.recv_from(buf)).await
    }

    /// Sends to the connected peer, now; returns the length.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the peer's queue is full; those of sending.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// assert_eq!(a.try_send(b"ping")?, 4);
    /// assert_eq!(b.try_recv(&mut [0; 8])?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.io.try_io(Interest::WRITABLE, |io| io.send(buf))
    }

    /// Receives, now; returns the length. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; those of receiving.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// assert_eq!(b.try_recv(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// a.send(b"ping").await?;
    /// assert_eq!(b.try_recv(&mut [0; 8])?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_io(Interest::READABLE, |io| io.recv(buf))
    }

    /// Sends to the socket at `path`, now; returns the length.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the peer's queue is full; those of sending.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-try-{}", std::process::id()));
    /// let server = UnixDatagram::bind(&path)?;
    /// assert_eq!(UnixDatagram::unbound()?.try_send_to(b"ping", &path)?, 4);
    /// assert_eq!(server.try_recv_from(&mut [0; 8])?.0, 4);
    /// # std::fs::remove_file(path)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_send_to(&self, buf: &[u8], path: impl AsRef<Path>) -> io::Result<usize> {
        self.io.try_io(Interest::WRITABLE, |io| io.send_to(buf, path))
    }

    /// Receives, now; returns the length and the sender. What does not fit into the buffer is cut off.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; those of receiving.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.send(b"ping").await?;
    /// let (len, sender) = b.try_recv_from(&mut [0; 8])?;
    /// assert!(len == 4 && sender.is_unnamed());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_io(Interest::READABLE, |io| io.recv_from(buf))
    }

    /// Ends one direction, or both.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UnixDatagram;
    /// # epicycle::run(async {
    /// let (a, b) = UnixDatagram::pair()?;
    /// a.shutdown(std::net::Shutdown::Both)?;
    /// assert!(b.send(b"ping").await.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.io.get_ref().shutdown(how)
    }

    fn from_io(io: Async<net::UnixDatagram>) -> Self {
        Self { io }
    }

    fn io(&self) -> &Async<net::UnixDatagram> {
        &self.io
    }

    fn into_io(self) -> Async<net::UnixDatagram> {
        self.io
    }
}

socket_methods!(
    UnixDatagram,
    net::UnixDatagram,
    "let (std_socket, _peer) = std::os::unix::net::UnixDatagram::pair()?;",
    "let (socket, _peer) = UnixDatagram::pair()?;"
);
writable_method!(UnixDatagram, "let (socket, _peer) = UnixDatagram::pair()?;");
