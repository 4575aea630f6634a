//! Opening connections: [`open_connection`], [`open_unix_connection`] and their options.
//!
//! *Invariant*: dropping any of the futures gives up and leaves nothing behind. *Threads*: any. *Ordering*: none of its own.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{Domain, Protocol, Type};

use super::connection::{Connection, Marks};
use super::race::{interleave, race};
use super::reader::LIMIT;
use super::{Incoming, Socket, StreamReader, StreamWriter};
use crate::net::{TcpStream, ToSocketAddrs, UnixStream, lookup_host};

/// The delay that RFC 8305 recommends.
const DELAY: Duration = Duration::from_millis(250);

/// Connects to `addr` over TCP. asyncio's `open_connection`.
///
/// A name may have several addresses: they are tried as [`OpenOptions::happy_eyeballs_delay`] describes.
///
/// # Errors
///
/// Those of looking up the name and of connecting, of all addresses if they differ.
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use epicycle::streams::{self, StreamReader, StreamWriter};
///
/// async fn greet(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     let name = reader.readline().await?;
///     writer.writelines([b"hello, ", &name[..]])?;
///     writer.drain().await
/// }
///
/// # epicycle::run(async {
/// let server = streams::start_server(greet, "127.0.0.1:0").await?;
///
/// let (mut reader, writer) = streams::open_connection(server.local_addrs()[0]).await?;
/// assert_eq!(writer.peer_addr()?, server.local_addrs()[0]);
/// assert!(writer.local_addr()?.ip().is_loopback());
/// writer.write(b"world\n")?;
/// assert_eq!(reader.readline().await?, b"hello, world\n");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping the future gives up connecting.
pub async fn open_connection(addr: impl ToSocketAddrs) -> io::Result<(StreamReader, StreamWriter)> {
    OpenOptions::new().open(addr).await
}

/// Connects to the Unix socket at `path`. asyncio's `open_unix_connection`.
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
/// use epicycle::streams::{open_unix_connection, start_unix_server};
///
/// # epicycle::run(async {
/// # let path = std::env::temp_dir().join(format!("epicycle-doc-open-connection-{}", std::process::id()));
/// let server = start_unix_server(async |_, writer| writer.write(b"welcome\n"), &path).await?;
/// let (mut reader, _writer) = open_unix_connection(&path).await?;
/// assert_eq!(reader.readline().await?, b"welcome\n");
/// drop(server);
/// assert!(open_unix_connection(&path).await.is_err());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping the future gives up connecting.
pub async fn open_unix_connection(path: impl AsRef<Path>) -> io::Result<(StreamReader, StreamWriter)> {
    OpenOptions::new().open_unix(path).await
}

/// Makes a reader and a writer of a connected socket. asyncio's `open_connection(sock=..)`.
///
/// Options of the socket are left as they are.
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use epicycle::net::{TcpListener, TcpStream};
/// use epicycle::streams;
///
/// # epicycle::run(async {
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// let (_reader, writer) = streams::split(TcpStream::connect(listener.local_addr()?).await?);
/// let (mut reader, _writer) = streams::split(listener.accept().await?.0);
/// writer.write(b"hello\n")?;
/// assert_eq!(reader.readline().await?, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[track_caller]
pub fn split(socket: impl Into<Socket>) -> (StreamReader, StreamWriter) {
    OpenOptions::new().split(socket)
}

/// Options for connections: asyncio's keyword arguments. The functions of the same names are made of the defaults.
///
/// # Examples
///
/// ```
/// use epicycle::streams::{self, OpenOptions};
/// use std::time::Duration;
///
/// # epicycle::run(async {
/// # let server = streams::start_server(async |_, _| (), "127.0.0.1:0").await?;
/// # let addr = server.local_addrs()[0];
/// let options = OpenOptions::new().limit(1 << 20).happy_eyeballs_delay(Some(Duration::from_millis(100)));
/// let (reader, writer) = options.open(addr).await?;
/// assert_eq!(reader.limit(), 1 << 20);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until one of the `open` methods is called"]
pub struct OpenOptions {
    limit: usize,
    marks: Marks,
    local: Option<SocketAddr>,
    delay: Option<Duration>,
    interleave: usize,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// The defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::{net::UnixStream, streams::OpenOptions};
    ///
    /// # epicycle::run(async {
    /// let (socket, _peer) = UnixStream::pair()?;
    /// let (reader, writer) = OpenOptions::new().split(socket);
    /// assert_eq!(reader.limit(), 65536);
    /// assert_eq!(writer.write_buffer_limits(), (65536, 16384));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn new() -> Self {
        Self { limit: LIMIT, marks: Marks::default(), local: None, delay: Some(DELAY), interleave: 1 }
    }

    /// The reader's limit, in bytes: how long a line may be. The default is 64 KiB.
    ///
    /// # Panics
    ///
    /// If it is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::{net::UnixStream, streams::OpenOptions};
    ///
    /// # epicycle::run(async {
    /// let (socket, peer) = UnixStream::pair()?;
    /// let (mut reader, _writer) = OpenOptions::new().limit(4).split(socket);
    /// peer.try_write(b"too long\n")?;
    /// assert!(reader.readline().await.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn limit(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a StreamReader's limit must be at least one byte");
        self.limit = bytes;
        self
    }

    /// As [`StreamWriter::set_write_buffer_limits`].
    ///
    /// # Panics
    ///
    /// If `low` is above `high`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams::OpenOptions};
    /// # epicycle::run(async {
    /// # let (socket, _peer) = UnixStream::pair()?;
    /// let (_, writer) = OpenOptions::new().write_buffer_limits(4096, 1024).split(socket);
    /// assert_eq!(writer.write_buffer_limits(), (4096, 1024));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn write_buffer_limits(mut self, high: usize, low: usize) -> Self {
        self.marks = Marks::new(high, low);
        self
    }

    /// The address of this end. Only peers of its family are tried. The default is the system's choice. asyncio's
    /// `local_addr`, Tokio's `TcpSocket::bind`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::streams::{self, OpenOptions};
    /// # epicycle::run(async {
    /// # let server = streams::start_server(async |_, _| (), "127.0.0.1:0").await?;
    /// # let addr = server.local_addrs()[0];
    /// let (_, writer) = OpenOptions::new().local_addr(([127, 0, 0, 1], 0)).open(addr).await?;
    /// assert_eq!(writer.local_addr()?.ip().to_string(), "127.0.0.1");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(mut self, addr: impl Into<SocketAddr>) -> Self {
        self.local = Some(addr.into());
        self
    }

    /// How long to wait for an address to answer before the next one is tried beside it ("happy eyeballs", RFC 8305). The
    /// first to answer is taken. The default is 250 ms, as recommended there; asyncio's is `None`: one after the other.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::streams::{self, OpenOptions};
    /// # epicycle::run(async {
    /// # let server = streams::start_server(async |_, _| (), "127.0.0.1:0").await?;
    /// # let here = server.local_addrs()[0];
    /// # let closed = streams::ServerOptions::new().start_serving(false).start(async |_, _| (), "127.0.0.1:0").await?;
    /// # let nobody = closed.local_addrs()[0];
    /// // The first address refuses, so the second one is tried; at once, for a refusal is an answer.
    /// let (_reader, writer) = OpenOptions::new().happy_eyeballs_delay(None).open([nobody, here]).await?;
    /// assert_eq!(writer.peer_addr()?, here);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn happy_eyeballs_delay(mut self, delay: Option<Duration>) -> Self {
        self.delay = delay;
        self
    }

    /// Reorders the addresses so that IPv6 and IPv4 take turns, `first` of the first family before the first of the other.
    /// The default is 1; zero leaves the resolver's order.
    ///
    /// # Examples
    ///
    /// As asyncio does it, unless it is told otherwise:
    ///
    /// ```
    /// use epicycle::streams::{OpenOptions, start_server};
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |_, _| (), "localhost:0").await?;
    /// let options = OpenOptions::new().interleave(0).happy_eyeballs_delay(None);
    /// let (_reader, writer) = options.open(("localhost", server.local_addrs()[0].port())).await?;
    /// assert!(server.local_addrs().contains(&writer.peer_addr()?));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn interleave(mut self, first: usize) -> Self {
        self.interleave = first;
        self
    }

    /// As [`open_connection`].
    ///
    /// # Errors
    ///
    /// As there; `InvalidInput` if there is no address of the family of [`local_addr`](Self::local_addr).
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{OpenOptions, start_server};
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |_, writer| writer.write(b"welcome\n"), "127.0.0.1:0").await?;
    /// let options = OpenOptions::new().limit(1024);
    /// for _ in 0..2 {
    ///     let (mut reader, _writer) = options.open(server.local_addrs()[0]).await?;
    ///     assert_eq!(reader.readline().await?, b"welcome\n");
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up connecting.
    pub async fn open(&self, addr: impl ToSocketAddrs) -> io::Result<(StreamReader, StreamWriter)> {
        let local = self.local;
        let fits = |peer: &SocketAddr| local.is_none_or(|local| local.is_ipv6() == peer.is_ipv6());
        let addresses: Vec<_> = lookup_host(addr).await?.filter(fits).collect();
        let stream = race(interleave(addresses, self.interleave), self.delay, |peer| connect(local, peer)).await?;
        Ok(self.pair(Socket::from(stream).without_delay()))
    }

    /// As [`open_unix_connection`].
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
    /// use epicycle::streams::{OpenOptions, start_unix_server};
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-open-unix-{}", std::process::id()));
    /// let _server = start_unix_server(async |_, writer| writer.write(b"welcome\n"), &path).await?;
    /// let (mut reader, _writer) = OpenOptions::new().limit(1024).open_unix(&path).await?;
    /// assert_eq!(reader.readline().await?, b"welcome\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up connecting.
    pub async fn open_unix(&self, path: impl AsRef<Path>) -> io::Result<(StreamReader, StreamWriter)> {
        Ok(self.pair(UnixStream::connect(path).await?.into()))
    }

    /// As [`split`].
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::{net::UnixStream, streams::OpenOptions};
    ///
    /// # epicycle::run(async {
    /// let (socket, _peer) = UnixStream::pair()?;
    /// let (reader, _writer) = OpenOptions::new().limit(1 << 20).split(socket);
    /// assert_eq!(reader.limit(), 1 << 20);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn split(&self, socket: impl Into<Socket>) -> (StreamReader, StreamWriter) {
        self.pair(socket.into())
    }

    #[track_caller]
    fn pair(&self, socket: Socket) -> (StreamReader, StreamWriter) {
        let peer = match &socket {
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(_) => None,
        };
        let connection = Connection::new(socket, peer, self.marks);
        let reader = StreamReader::with_limit(self.limit, Incoming::new(connection.clone()));
        (reader, StreamWriter::new(connection))
    }
}

async fn connect(local: Option<SocketAddr>, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::for_address(peer), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(local) = local {
        socket.bind(&local.into())?;
    }
    TcpStream::connect_with(socket, peer).await
}
