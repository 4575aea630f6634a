//! [`TcpStream`].
//!
//! *Invariant*: a stream that a user gets is connected, or has been. *Threads*: any. *Ordering*: none of its own.

use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::net::addr::first_to_succeed;
use crate::net::{
    Async, Interest, OwnedReadHalf, OwnedWriteHalf, ReadHalf, Ready, ToSocketAddrs, WriteHalf, socket_methods, split,
    stream_methods, transfer, writable_method,
};

/// A TCP connection.
///
/// It is read and written through [`AsyncReadExt`](crate::io::AsyncReadExt) and
/// [`AsyncWriteExt`](crate::io::AsyncWriteExt), which are also there for `&TcpStream`, so that one task may read while
/// another one writes. Dropping it closes the connection.
///
/// The counterpart of `tokio::net::TcpStream`. asyncio's pair of reader and writer is [`streams::split`](crate::streams::split)
/// of it.
///
/// TCP's urgent data is not supported: what follows it is not read before more comes, since a read that ends at its mark looks
/// like one that has emptied the socket. (With Tokio it is the same.)
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::{TcpListener, TcpStream};
///
/// # epicycle::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let addr = listener.local_addr()?;
/// epicycle::spawn(async move {
///     let (mut stream, _) = listener.accept().await?;
///     stream.write_all(b"welcome").await
/// });
///
/// let mut stream = TcpStream::connect(addr).await?;
/// let mut text = String::new();
/// stream.read_to_string(&mut text).await?;
/// assert_eq!(text, "welcome");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct TcpStream {
    io: Async<net::TcpStream>,
}

impl TcpStream {
    /// Connects to `addr`, or to the first of its addresses that accepts; they are tried one after the other. asyncio's
    /// `loop.sock_connect`.
    ///
    /// To try them side by side there is [`streams::open_connection`](crate::streams::open_connection()).
    ///
    /// # Errors
    ///
    /// The one of the last address that was tried, or of looking up the name.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{TcpListener, TcpStream};
    ///
    /// # epicycle::run(async {
    /// let listener = TcpListener::bind("localhost:0").await?;
    /// let stream = TcpStream::connect(("localhost", listener.local_addr()?.port())).await?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up connecting and leaves nothing behind.
    pub async fn connect(addr: impl ToSocketAddrs) -> io::Result<Self> {
        first_to_succeed(addr, |addr| async move {
            let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
            Self::connect_with(socket, addr).await
        })
        .await
    }

    /// Connects `socket`, prepared by other means: bound to an address or a device, its options set.
    ///
    /// A `socket2::Socket` is what it is meant for. The socket is put into non-blocking mode.
    ///
    /// The counterpart of `tokio::net::TcpSocket::connect`.
    ///
    /// # Errors
    ///
    /// Those of connecting.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{TcpListener, TcpStream};
    /// use socket2::{Domain, Socket, Type};
    ///
    /// # epicycle::run(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    /// socket.set_recv_buffer_size(1 << 16)?;
    /// let stream = TcpStream::connect_with(socket, listener.local_addr()?).await?;
    /// assert!(stream.recv_buffer_size()? >= 1 << 16);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`connect`](Self::connect).
    pub async fn connect_with(socket: impl Into<OwnedFd>, addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::from(socket.into());
        socket.set_nonblocking(true)?;
        let under_way = match socket.connect(&addr.into()) {
            Ok(()) => false,
            // An interrupted attempt goes on in the background like any other.
            Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::INPROGRESS | Errno::INTR)) => true,
            Err(error) => return Err(error),
        };
        // Registered only now: a socket that is not connecting yet reports a hang-up.
        let stream = Self { io: Async::new_nonblocking(net::TcpStream::from(socket))? };
        if under_way {
            stream.io.write_with(connected).await?;
        }
        Ok(stream)
    }

    /// The address of the other end.
    ///
    /// # Errors
    ///
    /// If the connection has been reset.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert_eq!(stream.peer_addr()?, listener.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
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
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let (_, peer) = listener.accept().await?;
    /// assert_eq!(stream.local_addr()?, peer);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    /// Reads without consuming; waits until there is something. Zero means the end.
    ///
    /// # Errors
    ///
    /// Those of reading; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// let (peer, _) = listener.accept().await?;
    /// peer.try_write(b"hi")?;
    /// let mut buf = [0; 8];
    /// assert_eq!(stream.peek(&mut buf).await?, 2);
    /// assert_eq!(stream.try_read(&mut buf)?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.read_with(|io| io.peek(buf)).await
    }

    /// [`peek`](Self::peek) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`peek`](Self::peek).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// # let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// # drop(listener.accept().await?);
    /// let mut buf = [0; 8];
    /// assert_eq!(std::future::poll_fn(|cx| stream.poll_peek(cx, &mut buf)).await?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_read_with(cx, |io| io.peek(buf))
    }
}

socket_methods!(
    TcpStream,
    net::TcpStream,
    "# let listener = std::net::TcpListener::bind(\"127.0.0.1:0\")?;
let std_socket = std::net::TcpStream::connect(listener.local_addr()?)?;",
    "# let listener = epicycle::net::TcpListener::bind(\"127.0.0.1:0\").await?;
let socket = TcpStream::connect(listener.local_addr()?).await?;
# let (_peer, _) = listener.accept().await?;"
);
writable_method!(
    TcpStream,
    "# let listener = epicycle::net::TcpListener::bind(\"127.0.0.1:0\").await?;
let socket = TcpStream::connect(listener.local_addr()?).await?;"
);
stream_methods!(
    TcpStream,
    net::TcpStream,
    poll_read_some,
    "# let listener = epicycle::net::TcpListener::bind(\"127.0.0.1:0\").await?;
let socket = TcpStream::connect(listener.local_addr()?).await?;
let (peer, _) = listener.accept().await?;"
);

/// Options.
impl TcpStream {
    /// Whether small writes are sent at once (`TCP_NODELAY`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(!stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn nodelay(&self) -> io::Result<bool> {
        self.io.get_ref().nodelay()
    }

    /// Sends small writes at once instead of collecting them (`TCP_NODELAY`). Off by default, as in the system.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_nodelay(true)?;
    /// assert!(stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.io.get_ref().set_nodelay(nodelay)
    }

    /// The time to live of packets (`IP_TTL`), in hops.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(stream.ttl()? > 0); // 64, as a rule
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.io.get_ref().ttl()
    }

    /// Sets the time to live of packets (`IP_TTL`), in hops.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_ttl(123)?;
    /// assert_eq!(stream.ttl()?, 123);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }

    /// How long closing goes on sending (`SO_LINGER`). `None`: in the background, as long as it takes.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert_eq!(stream.linger()?, None);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn linger(&self) -> io::Result<Option<Duration>> {
        SockRef::from(self).linger()
    }

    /// Sets how long closing goes on sending (`SO_LINGER`), in whole seconds: the rest is cut off. Zero resets the
    /// connection when closed, and so does what is less than a second.
    ///
    /// With any other duration *dropping the stream blocks its thread* while data is unsent; prefer `None` or zero.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_linger(Some(std::time::Duration::ZERO))?;
    /// assert!(stream.linger()?.is_some());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
        SockRef::from(self).set_linger(linger)
    }

    /// Whether an idle connection is probed (`SO_KEEPALIVE`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(!stream.keepalive()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn keepalive(&self) -> io::Result<bool> {
        SockRef::from(self).keepalive()
    }

    /// Probes the connection after it has been idle for that long, in whole seconds (`SO_KEEPALIVE`, `TCP_KEEPIDLE`);
    /// `None` stops that.
    ///
    /// # Errors
    ///
    /// Those of the operating system. Linux refuses less than a second (`InvalidInput`).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_keepalive(Some(std::time::Duration::from_secs(60)))?;
    /// assert!(stream.keepalive()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_keepalive(&self, idle: Option<Duration>) -> io::Result<()> {
        match idle {
            Some(idle) => SockRef::from(self).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle)),
            None => SockRef::from(self).set_keepalive(false),
        }
    }

    /// The size of the kernel's buffer for receiving (`SO_RCVBUF`), in bytes.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(stream.recv_buffer_size()? >= 1024);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn recv_buffer_size(&self) -> io::Result<usize> {
        SockRef::from(self).recv_buffer_size()
    }

    /// Sets the size of the kernel's buffer for receiving (`SO_RCVBUF`), in bytes. Linux doubles it.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_recv_buffer_size(1 << 16)?;
    /// assert!(stream.recv_buffer_size()? >= 1 << 16);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_recv_buffer_size(&self, bytes: usize) -> io::Result<()> {
        SockRef::from(self).set_recv_buffer_size(bytes)
    }

    /// The size of the kernel's buffer for sending (`SO_SNDBUF`), in bytes.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// assert!(stream.send_buffer_size()? >= 1024);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn send_buffer_size(&self) -> io::Result<usize> {
        SockRef::from(self).send_buffer_size()
    }

    /// Sets the size of the kernel's buffer for sending (`SO_SNDBUF`), in bytes. Linux doubles it.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let stream = TcpStream::connect(listener.local_addr()?).await?;
    /// stream.set_send_buffer_size(1 << 16)?;
    /// stream.set_recv_buffer_size(1 << 16)?;
    /// assert!(stream.send_buffer_size()? >= 1 << 16);
    /// assert!(stream.recv_buffer_size()? >= 1 << 16);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        SockRef::from(self).set_send_buffer_size(bytes)
    }
}

impl TcpStream {
    /// One that `accept` returned, already in non-blocking mode.
    pub(super) fn accepted(stream: net::TcpStream) -> io::Result<Self> {
        Ok(Self { io: Async::new_nonblocking(stream)? })
    }
}

/// Whether an attempt to connect has succeeded; `WouldBlock` while it goes on.
fn connected(stream: &net::TcpStream) -> io::Result<()> {
    if let Some(error) = stream.take_error()? {
        return Err(error);
    }
    match stream.peer_addr() {
        // Writable events may come early, and waiting begins with an attempt. What counts is that there is a peer.
        Err(error) if matches!(Errno::from_io_error(&error), Some(Errno::NOTCONN | Errno::INVAL)) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        result => result.map(drop),
    }
}
