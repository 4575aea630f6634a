//! [`TcpListener`] and its builder.
//!
//! *Invariant*: see [`Acceptor`]. *Threads*: any. *Ordering*: none of its own.

use std::fmt;
use std::future::ready;
use std::io;
use std::net::{self, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{self, Context, Poll};

use socket2::{Domain, Protocol, Socket, Type};

use super::{PerLoopListeners, TcpStream};
use crate::net::accept::Acceptor;
use crate::net::addr::first_to_succeed;
use crate::net::{Async, Interest, Ready, ToSocketAddrs, socket_methods};

/// How many connections may wait to be accepted; the system has an upper limit of its own.
const BACKLOG: i32 = 1024;

/// A socket that accepts TCP connections.
///
/// Any number of tasks, on any loops, may accept from one listener. To have the kernel spread connections over all loops
/// there is [`bind_per_loop`](Self::bind_per_loop).
///
/// The counterpart of `tokio::net::TcpListener`. asyncio's `start_server`, with a task for each connection, is
/// [`streams::start_server`](crate::streams::start_server).
///
/// # Examples
///
/// ```
/// use epicycle::io::{self, AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::{TcpListener, TcpStream};
///
/// async fn serve(listener: TcpListener) -> io::Result<()> {
///     loop {
///         let (stream, _peer) = listener.accept().await?;
///         epicycle::spawn(async move { io::copy(&stream, &stream).await });
///     }
/// }
///
/// # epicycle::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let mut client = TcpStream::connect(listener.local_addr()?).await?;
/// epicycle::spawn(serve(listener));
/// client.write_all(b"echo").await?;
/// let mut echo = [0; 4];
/// client.read_exact(&mut echo).await?;
/// assert_eq!(&echo, b"echo");
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
pub struct TcpListener {
    acceptor: Acceptor<net::TcpListener>,
}

impl TcpListener {
    /// Listens on `addr`, or on the first of its addresses that can be bound.
    ///
    /// With `SO_REUSEADDR`, so that a server can be restarted at once, and a backlog of 1024. Port 0 lets the system
    /// choose: see [`local_addr`](Self::local_addr). [`builder`](Self::builder) has more options.
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
    /// # epicycle::run(async {
    /// let listener = epicycle::net::TcpListener::bind("127.0.0.1:0").await?;
    /// assert_ne!(listener.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing is bound.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        Self::builder().bind(addr).await
    }

    /// Options for [`bind`](Self::bind).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::TcpListener;
    ///
    /// # epicycle::run(async {
    /// let options = TcpListener::builder().backlog(16);
    /// let one = options.clone().bind("127.0.0.1:0").await?;
    /// let two = options.bind("127.0.0.1:0").await?;
    /// assert_ne!(one.local_addr()?, two.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn builder() -> TcpListenerBuilder {
        TcpListenerBuilder { backlog: BACKLOG, reuse_port: false, only_v6: None }
    }

    /// Binds one socket per loop of the current runtime to the same address, among which the kernel spreads connections
    /// (`SO_REUSEPORT`). See [`PerLoopListeners`] for the use of them.
    ///
    /// A single listener is the better choice unless accepting itself is the bottleneck: the kernel spreads by hash, not
    /// by load.
    ///
    /// On Linux the address is the group's alone, as with [`bind`](Self::bind): a second server on it is refused. To have several
    /// processes share it, say so with [`reuse_port`](TcpListenerBuilder::reuse_port).
    ///
    /// # Errors
    ///
    /// The one of the last address that was tried, or of looking up the name. If the address is taken, that shows here, or when
    /// the first part listens.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::{RuntimeHandle, net::TcpListener};
    ///
    /// # epicycle::run(async {
    /// let parts = TcpListener::bind_per_loop("127.0.0.1:0").await?;
    /// assert_eq!(parts.into_iter().count(), RuntimeHandle::current().loops().len());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing is bound.
    pub async fn bind_per_loop(addr: impl ToSocketAddrs) -> io::Result<PerLoopListeners> {
        Self::builder().bind_per_loop(addr).await
    }

    /// Waits for a connection and returns it with the peer's address. asyncio's `loop.sock_accept`.
    ///
    /// A connection that was aborted while it waited is passed over. When the process or the system is out of
    /// descriptors or memory (`EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`), that is reported to the runtime's exception
    /// handler and accepting pauses for a second, as in asyncio; then it goes on. So an error from here is worth ending for.
    ///
    /// # Errors
    ///
    /// Those of accepting, other than these; and when the runtime has been shut down.
    ///
    /// # Panics
    ///
    /// Outside of a runtime: the connection is registered with the loop that accepts it.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{TcpListener, TcpStream};
    ///
    /// # epicycle::run(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (server, peer) = listener.accept().await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no connection.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, peer) = self.acceptor.accept(accept_nonblocking).await?;
        Ok((TcpStream::accepted(stream)?, peer))
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
    /// use epicycle::net::{TcpListener, TcpStream};
    /// use std::future::poll_fn;
    ///
    /// # epicycle::run(async {
    /// let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?;
    /// let (server, peer) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    /// assert_eq!((peer, server.local_addr()?), (client.local_addr()?, listener.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let (stream, peer) = task::ready!(self.acceptor.poll_accept(cx, accept_nonblocking))?;
        Poll::Ready(TcpStream::accepted(stream).map(|stream| (stream, peer)))
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
    /// let listener = epicycle::net::TcpListener::bind("127.0.0.1:0").await?;
    /// assert!(listener.local_addr()?.ip().is_loopback());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io().get_ref().local_addr()
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
    /// # epicycle::run(async {
    /// let listener = epicycle::net::TcpListener::bind("127.0.0.1:0").await?;
    /// assert!(listener.ttl()? > 0); // 64, as a rule
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn ttl(&self) -> io::Result<u32> {
        self.io().get_ref().ttl()
    }

    /// Sets the time to live of packets (`IP_TTL`), in hops. Accepted connections inherit it.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let listener = epicycle::net::TcpListener::bind("127.0.0.1:0").await?;
    /// listener.set_ttl(100)?;
    /// assert_eq!(listener.ttl()?, 100);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io().get_ref().set_ttl(hops)
    }

    fn from_io(io: Async<net::TcpListener>) -> Self {
        Self { acceptor: Acceptor::new(io) }
    }

    fn io(&self) -> &Async<net::TcpListener> {
        self.acceptor.io()
    }

    fn into_io(self) -> Async<net::TcpListener> {
        self.acceptor.into_io()
    }
}

socket_methods!(
    TcpListener,
    net::TcpListener,
    "let std_socket = std::net::TcpListener::bind(\"127.0.0.1:0\")?;",
    "let socket = TcpListener::bind(\"127.0.0.1:0\").await?;"
);

/// Options for a [`TcpListener`], set before it is bound. From [`TcpListener::builder`].
///
/// What is not here can be done to a `socket2::Socket`, which becomes a `std::net::TcpListener` and then, by
/// [`TcpListener::from_std`], one of ours.
///
/// # Examples
///
/// ```
/// use epicycle::net::TcpListener;
///
/// # epicycle::run(async {
/// let listener = TcpListener::builder().backlog(16).reuse_port(true).bind("127.0.0.1:0").await?;
/// assert_ne!(listener.local_addr()?.port(), 0);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `bind` is called"]
pub struct TcpListenerBuilder {
    backlog: i32,
    reuse_port: bool,
    only_v6: Option<bool>,
}

impl TcpListenerBuilder {
    /// How many connections may wait to be accepted. The default is 1024.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{TcpListener, TcpStream};
    ///
    /// # epicycle::run(async {
    /// let listener = TcpListener::builder().backlog(1).bind("127.0.0.1:0").await?;
    /// let client = TcpStream::connect(listener.local_addr()?).await?; // has not been accepted, and waits there
    /// let (_, peer) = listener.accept().await?;
    /// assert_eq!(peer, client.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.min(i32::MAX as u32) as i32;
        self
    }

    /// Lets several sockets listen on one address, if all of them say so (`SO_REUSEPORT`). The default is no.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::TcpListener;
    ///
    /// # epicycle::run(async {
    /// let one = TcpListener::builder().reuse_port(true).bind("127.0.0.1:0").await?;
    /// let two = TcpListener::builder().reuse_port(true).bind(one.local_addr()?).await?;
    /// assert_eq!(one.local_addr()?, two.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Whether an IPv6 address leaves the IPv4 one of the same port alone (`IPV6_V6ONLY`). The default is the system's.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{TcpListener, TcpStream};
    ///
    /// # epicycle::run(async {
    /// // where there is IPv6 at all
    /// if let Ok(both) = TcpListener::builder().only_v6(false).bind("[::]:0").await {
    ///     TcpStream::connect(("127.0.0.1", both.local_addr()?.port())).await?;
    ///     assert!(both.accept().await?.1.is_ipv6()); // of the form [::ffff:127.0.0.1]:port
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn only_v6(mut self, only: bool) -> Self {
        self.only_v6 = Some(only);
        self
    }

    /// Listens on `addr`, or on the first of its addresses that can be bound.
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
    /// use epicycle::net::TcpListener;
    ///
    /// # epicycle::run(async {
    /// let listener = TcpListener::builder().bind("127.0.0.1:0").await?;
    /// let again = TcpListener::builder().bind(listener.local_addr()?).await;
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing is bound.
    pub async fn bind(self, addr: impl ToSocketAddrs) -> io::Result<TcpListener> {
        first_to_succeed(addr, |addr| ready(self.bound(addr).and_then(|socket| self.listen(socket)))).await
    }

    /// As [`TcpListener::bind_per_loop`].
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let parts = epicycle::net::TcpListener::builder().backlog(4096).bind_per_loop("127.0.0.1:0").await?;
    /// assert_eq!(parts.into_iter().len(), epicycle::RuntimeHandle::current().loops().len());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing is bound.
    pub async fn bind_per_loop(self, addr: impl ToSocketAddrs) -> io::Result<PerLoopListeners> {
        let loops = crate::runtime::RuntimeHandle::current().loops().len();
        first_to_succeed(addr, |addr| ready(PerLoopListeners::bind(&self, addr, loops))).await
    }

    /// A socket that is bound but does not listen yet.
    pub(super) fn bound(&self, addr: SocketAddr) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if let (Some(only), true) = (self.only_v6, addr.is_ipv6()) {
            socket.set_only_v6(only)?;
        }
        socket.bind(&addr.into())?;
        Ok(socket)
    }

    #[track_caller]
    pub(super) fn listen(&self, bound: Socket) -> io::Result<TcpListener> {
        bound.listen(self.backlog)?;
        Ok(TcpListener::from_io(Async::new_nonblocking(bound.into())?))
    }
}

/// Accepts a connection that is non-blocking and CLOEXEC from the start.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn accept_nonblocking(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    use rustix::net::{SocketFlags, acceptfrom_with};

    loop {
        match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok((stream, peer)) => {
                let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                let peer = peer.ok_or_else(|| io::Error::other("a TCP connection without a peer's address"))?;
                return Ok((stream.into(), peer));
            }
        }
    }
}

/// The same where the system cannot do it in one step.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn accept_nonblocking(listener: &net::TcpListener) -> io::Result<(net::TcpStream, SocketAddr)> {
    let (stream, peer) = listener.accept()?;
    stream.set_nonblocking(true)?;
    Ok((stream, peer))
}
