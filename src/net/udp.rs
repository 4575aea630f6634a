//! [`UdpSocket`].
//!
//! *Invariant*: a datagram is sent and received whole or not at all, so no operation leaves anything half done.
//! *Threads*: any. *Ordering*: none of its own.

use std::fmt;
use std::future::ready;
use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::task::{Context, Poll};

use super::addr::{first_to_succeed, resolve};
use super::{Async, Interest, Ready, ToSocketAddrs, socket_methods, writable_method};

/// A UDP socket.
///
/// All methods take `&self`: any number of tasks may send and receive at once, so there is nothing to split.
///
/// The counterpart of `tokio::net::UdpSocket`, and of what asyncio's `create_datagram_endpoint` is built on.
///
/// # Examples
///
/// ```
/// use epicycle::net::UdpSocket;
///
/// # epicycle::run(async {
/// let server = UdpSocket::bind("127.0.0.1:0").await?;
/// let client = UdpSocket::bind("127.0.0.1:0").await?;
/// client.send_to(b"ping", server.local_addr()?).await?;
///
/// let mut buf = [0; 1500];
/// let (len, peer) = server.recv_from(&mut buf).await?;
/// assert_eq!((&buf[..len], peer), (&b"ping"[..], client.local_addr()?));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct UdpSocket {
    io: Async<net::UdpSocket>,
}

impl UdpSocket {
    /// Binds to `addr`, or to the first of its addresses that can be bound. Port 0 lets the system choose: see
    /// [`local_addr`](Self::local_addr).
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
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert_ne!(socket.local_addr()?.port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing is bound.
    pub async fn bind(addr: impl ToSocketAddrs) -> io::Result<Self> {
        let bind = |addr| Ok(Self { io: Async::new(net::UdpSocket::bind::<SocketAddr>(addr)?)? });
        first_to_succeed(addr, |addr| ready(bind(addr))).await
    }

    /// Sets the peer for [`send`](Self::send), and the only one that is received from.
    ///
    /// # Errors
    ///
    /// The one of the last address that was tried, or of looking up the name.
    ///
    /// # Panics
    ///
    /// Outside of a runtime, if a name has to be looked up.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// a.connect(b.local_addr()?).await?;
    /// assert_eq!(a.peer_addr()?, b.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the socket as it is.
    pub async fn connect(&self, addr: impl ToSocketAddrs) -> io::Result<()> {
        first_to_succeed(addr, |addr| ready(self.io.get_ref().connect(addr))).await
    }

    /// The address it is bound to.
    ///
    /// # Errors
    ///
    /// Those of `getsockname`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// assert_ne!(UdpSocket::bind("127.0.0.1:0").await?.local_addr()?.port(), 0);
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
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert_eq!(socket.peer_addr().unwrap_err().kind(), std::io::ErrorKind::NotConnected);
    /// socket.connect(socket.local_addr()?).await?;
    /// assert_eq!(socket.peer_addr()?, socket.local_addr()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().peer_addr()
    }

    /// Sends a datagram to the connected peer; returns its length.
    ///
    /// # Errors
    ///
    /// Those of sending, among them ones that earlier datagrams have caused (`ConnectionRefused`); and when the runtime has
    /// been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// a.connect(b.local_addr()?).await?;
    /// a.send(b"ping").await?;
    /// let mut buf = [0; 8];
    /// assert_eq!(b.recv(&mut buf).await?, 4);
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
    /// Those of receiving, among them ones that earlier datagrams have caused (`ConnectionRefused`); and when the runtime
    /// has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// a.send_to(b"too long", b.local_addr()?).await?;
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

    /// Sends a datagram to `target`, or to the first of its addresses; returns its length.
    ///
    /// asyncio's `loop.sock_sendto`, and `DatagramTransport.sendto`, which does not wait for room but buffers.
    ///
    /// # Errors
    ///
    /// Those of sending, or of looking up the name; and when the runtime has been shut down.
    ///
    /// # Panics
    ///
    /// Outside of a runtime, if a name has to be looked up.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// assert_eq!(a.send_to(b"ping", ("127.0.0.1", b.local_addr()?.port())).await?, 4);
    /// assert_eq!(b.recv(&mut [0; 8]).await?, 4);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, nothing was sent.
    pub async fn send_to(&self, buf: &[u8], target: impl ToSocketAddrs) -> io::Result<usize> {
        let target = resolve(target).await?.next().expect("resolve returns at least one address");
        self.io.write_with(|io| io.send_to(buf, target)).await
    }

    /// Receives a datagram; returns its length and its sender. What does not fit into the buffer is cut off.
    ///
    /// asyncio's `loop.sock_recvfrom`.
    ///
    /// # Errors
    ///
    /// Those of receiving; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let (a, b) = (UdpSocket::bind("127.0.0.1:0").await?, UdpSocket::bind("127.0.0.1:0").await?);
    /// a.send_to(b"ping", b.local_addr()?).await?;
    /// let mut buf = [0; 1500];
    /// let (len, sender) = b.recv_from(&mut buf).await?;
    /// b.send_to(&buf[..len], sender).await?;
    /// assert_eq!(a.recv_from(&mut buf).await?, (4, b.local_addr()?));
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

    /// Receives without consuming: the next one to receive gets the same datagram. Returns its length and its sender.
    ///
    /// # Errors
    ///
    /// Those of receiving; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.send_to(b"me", socket.local_addr()?).await?;
    /// let mut buf = [0; 8];
    /// assert_eq!(socket.peek_from(&mut buf).await?, (2, socket.local_addr()?));
    /// assert_eq!(socket.try_recv(&mut buf)?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.read_with(|io| io.peek_from(buf)).await
    }

    /// Receives without consuming; returns the length. From the peer only, if the socket is connected.
    ///
    /// # Errors
    ///
    /// Those of receiving; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.connect(socket.local_addr()?).await?;
    /// socket.send(b"me").await?;
    /// let mut buf = [0; 8];
    /// assert_eq!(socket.peek(&mut buf).await?, 2);
    /// assert_eq!(socket.recv(&mut buf).await?, 2); // it is still there
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

    /// Sends to the connected peer, now; returns the length.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; those of sending.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.connect(socket.local_addr()?).await?;
    /// assert_eq!(socket.try_send(b"me")?, 2);
    /// socket.readable().await?;
    /// assert_eq!(socket.try_recv(&mut [0; 8])?, 2);
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
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let mut buf = [0; 8];
    /// assert_eq!(socket.try_recv(&mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// socket.send_to(b"me", socket.local_addr()?).await?;
    /// socket.readable().await?;
    /// assert_eq!(socket.try_recv(&mut buf)?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.io.try_io(Interest::READABLE, |io| io.recv(buf))
    }

    /// Sends to `target`, now; returns the length.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room; those of sending.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.try_send_to(b"me", socket.local_addr()?)?;
    /// socket.readable().await?;
    /// assert_eq!(socket.try_recv_from(&mut [0; 8])?, (2, socket.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.io.try_io(Interest::WRITABLE, |io| io.send_to(buf, target))
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
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let mut buf = [0; 8];
    /// assert_eq!(socket.try_recv_from(&mut buf).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    /// socket.send_to(b"me", socket.local_addr()?).await?;
    /// socket.readable().await?;
    /// assert_eq!(socket.try_recv_from(&mut buf)?, (2, socket.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.io.try_io(Interest::READABLE, |io| io.recv_from(buf))
    }

    /// [`send`](Self::send) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # use std::future::poll_fn;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.connect(socket.local_addr()?).await?;
    /// poll_fn(|cx| socket.poll_send(cx, b"me")).await?;
    /// assert_eq!(poll_fn(|cx| socket.poll_recv(cx, &mut [0; 8])).await?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.poll_write_with(cx, |io| io.send(buf))
    }

    /// [`recv`](Self::recv) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # use std::future::poll_fn;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.send_to(b"me", socket.local_addr()?).await?;
    /// let mut buf = [0; 8];
    /// assert_eq!(poll_fn(|cx| socket.poll_recv(cx, &mut buf)).await?, 2);
    /// assert_eq!(&buf[..2], b"me");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.io.poll_read_with(cx, |io| io.recv(buf))
    }

    /// [`send_to`](Self::send_to) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # use std::future::poll_fn;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let addr = socket.local_addr()?;
    /// poll_fn(|cx| socket.poll_send_to(cx, b"me", addr)).await?;
    /// assert_eq!(poll_fn(|cx| socket.poll_recv_from(cx, &mut [0; 8])).await?, (2, addr));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        self.io.poll_write_with(cx, |io| io.send_to(buf, target))
    }

    /// [`recv_from`](Self::recv_from) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`recv_from`](Self::recv_from).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # use std::future::poll_fn;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.send_to(b"me", socket.local_addr()?).await?;
    /// let (len, sender) = poll_fn(|cx| socket.poll_recv_from(cx, &mut [0; 8])).await?;
    /// assert_eq!((len, sender), (2, socket.local_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        self.io.poll_read_with(cx, |io| io.recv_from(buf))
    }

    fn from_io(io: Async<net::UdpSocket>) -> Self {
        Self { io }
    }

    fn io(&self) -> &Async<net::UdpSocket> {
        &self.io
    }

    fn into_io(self) -> Async<net::UdpSocket> {
        self.io
    }
}

socket_methods!(
    UdpSocket,
    net::UdpSocket,
    "let std_socket = std::net::UdpSocket::bind(\"127.0.0.1:0\")?;",
    "let socket = UdpSocket::bind(\"127.0.0.1:0\").await?;"
);
writable_method!(UdpSocket, "let socket = UdpSocket::bind(\"127.0.0.1:0\").await?;");

/// Options. Those of the standard library; more through socket2's `SockRef`.
impl UdpSocket {
    /// Whether sending to broadcast addresses is allowed (`SO_BROADCAST`). Off by default.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert!(!socket.broadcast()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn broadcast(&self) -> io::Result<bool> {
        self.io.get_ref().broadcast()
    }

    /// Allows sending to broadcast addresses (`SO_BROADCAST`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("0.0.0.0:0").await?;
    /// socket.set_broadcast(true)?;
    /// assert!(socket.broadcast()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_broadcast(&self, allowed: bool) -> io::Result<()> {
        self.io.get_ref().set_broadcast(allowed)
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
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert!(socket.ttl()? > 0); // 64, as a rule
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
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.set_ttl(60)?;
    /// assert_eq!(socket.ttl()?, 60);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_ttl(&self, hops: u32) -> io::Result<()> {
        self.io.get_ref().set_ttl(hops)
    }

    /// Whether own multicasts are received (`IP_MULTICAST_LOOP`). On by default.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// assert!(socket.multicast_loop_v4()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn multicast_loop_v4(&self) -> io::Result<bool> {
        self.io.get_ref().multicast_loop_v4()
    }

    /// Says whether own multicasts are received (`IP_MULTICAST_LOOP`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// socket.set_multicast_loop_v4(false)?;
    /// assert!(!socket.multicast_loop_v4()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn set_multicast_loop_v4(&self, own: bool) -> io::Result<()> {
        self.io.get_ref().set_multicast_loop_v4(own)
    }

    /// Joins a multicast group on an interface (`IP_ADD_MEMBERSHIP`); `UNSPECIFIED` lets the system choose one.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    ///
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("0.0.0.0:0").await?;
    /// let mdns = Ipv4Addr::new(224, 0, 0, 251);
    /// socket.join_multicast_v4(mdns, Ipv4Addr::LOCALHOST)?;
    /// assert!(socket.join_multicast_v4(mdns, Ipv4Addr::LOCALHOST).is_err()); // it has joined
    /// socket.leave_multicast_v4(mdns, Ipv4Addr::LOCALHOST)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().join_multicast_v4(&group, &interface)
    }

    /// Leaves a multicast group (`IP_DROP_MEMBERSHIP`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// use std::net::Ipv4Addr;
    ///
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("127.0.0.1:0").await?;
    /// let mdns = Ipv4Addr::new(224, 0, 0, 251);
    /// assert!(socket.leave_multicast_v4(mdns, Ipv4Addr::LOCALHOST).is_err()); // it had not joined
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v4(&group, &interface)
    }

    /// Joins a multicast group on the interface of that index (`IPV6_ADD_MEMBERSHIP`); 0 lets the system choose one.
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use epicycle::net::UdpSocket;
    /// use std::net::Ipv6Addr;
    ///
    /// # epicycle::run(async {
    /// let socket = UdpSocket::bind("[::]:5353").await?;
    /// let mdns = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    /// socket.join_multicast_v6(&mdns, 0)?;
    /// socket.leave_multicast_v6(&mdns, 0)?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn join_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().join_multicast_v6(group, interface)
    }

    /// Leaves a multicast group (`IPV6_DROP_MEMBERSHIP`).
    ///
    /// # Errors
    ///
    /// Those of the operating system.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::UdpSocket;
    /// use std::net::Ipv6Addr;
    ///
    /// # epicycle::run(async {
    /// // where there is IPv6 at all
    /// if let Ok(socket) = UdpSocket::bind("[::1]:0").await {
    ///     let mdns = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
    ///     assert!(socket.leave_multicast_v6(&mdns, 0).is_err()); // it had not joined
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn leave_multicast_v6(&self, group: &Ipv6Addr, interface: u32) -> io::Result<()> {
        self.io.get_ref().leave_multicast_v6(group, interface)
    }
}
