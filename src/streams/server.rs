//! [`Server`], and how one is started: [`start_server`], [`start_unix_server`], [`ServerOptions`].
//!
//! *Invariant*: see [`Service`]. *Threads*: any. *Ordering*: the service's lock.

use std::fmt;
use std::fs;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Type};

use super::connection::Marks;
use super::handler::{HandlerOutput, serve};
use super::home::Home;
use super::reader::LIMIT;
use super::service::{Parts, Serve, Service, SocketFile};
use super::{StreamReader, StreamWriter};
use crate::net::{ToSocketAddrs, lookup_host};

/// How many connections may wait to be accepted; the system has an upper limit of its own.
const BACKLOG: i32 = 1024;

/// Listens on all of `addr`'s addresses, and calls `handler` for each client, in a task of its own. asyncio's `start_server`.
///
/// The tasks may run on any loop. A handler that panics or returns an `Err` has that reported to the runtime's exception
/// handler; its connection ends, as always, when it drops its reader and writer. The server stops accepting when the
/// returned [`Server`] is closed or dropped, or the runtime ends, which closes it.
///
/// # Errors
///
/// Those of looking up the name, binding and listening. An address of a name that this machine does not have is passed
/// over if there are others.
///
/// # Panics
///
/// Outside of a runtime.
///
/// # Examples
///
/// ```
/// use epicycle::streams::{StreamReader, StreamWriter, open_connection, start_server};
///
/// async fn echo(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
///     loop {
///         let line = reader.readline().await?;
///         if line.is_empty() {
///             return Ok(());
///         }
///         writer.write(&line)?;
///         writer.drain().await?;
///     }
/// }
///
/// # epicycle::run(async {
/// let server = start_server(echo, "127.0.0.1:0").await?;
/// let (mut reader, writer) = open_connection(server.local_addrs()[0]).await?;
/// writer.write(b"hello\n")?;
/// assert_eq!(reader.readline().await?, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropped before it completes, no server was started.
#[track_caller]
pub fn start_server<H, F>(handler: H, addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<Server>>
where
    H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
    F: Future<Output: HandlerOutput> + Send + 'static,
{
    let location = Location::caller();
    async move { ServerOptions::new().start_at(handler, addr, location).await }
}

/// Listens on a Unix socket at `path`. asyncio's `start_unix_server`.
///
/// A socket that is there already, as a server leaves it that was killed, is replaced. When the server is closed, it removes
/// its socket, unless somebody else has replaced that.
///
/// # Errors
///
/// Those of binding and listening: `AddrInUse` if there is a file that is no socket.
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
/// # let path = std::env::temp_dir().join(format!("epicycle-doc-server-{}", std::process::id()));
/// let server = start_unix_server(async |_, writer| writer.write(b"welcome\n"), &path).await?;
/// let (mut reader, _) = open_unix_connection(&path).await?;
/// assert_eq!(reader.readline().await?, b"welcome\n");
/// server.close();
/// assert!(!path.exists());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropped before it completes, no server was started.
#[track_caller]
pub fn start_unix_server<H, F>(handler: H, path: impl AsRef<Path>) -> impl Future<Output = io::Result<Server>>
where
    H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
    F: Future<Output: HandlerOutput> + Send + 'static,
{
    let location = Location::caller();
    async move { ServerOptions::new().start_unix_at(handler, path, location).await }
}

/// A server: what [`start_server`] returns. Dropping it closes it; its clients go on.
///
/// asyncio's `Server`. To end a service in good order: [`close`](Self::close), tell or [close](Self::close_clients) the
/// clients, [`wait_closed`](Self::wait_closed) under a [`timeout`](crate::timeout), and if that is reached
/// [`abort_clients`](Self::abort_clients).
///
/// # Examples
///
/// ```
/// use epicycle::streams::{open_connection, start_server};
///
/// # epicycle::run(async {
/// let server = start_server(async |mut reader, _writer| drop(reader.read(1).await), "127.0.0.1:0").await?;
/// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
/// # while server.client_count() == 0 { epicycle::yield_now().await }
/// server.close(); // nobody is accepted any more; who is there may stay
/// assert!(!server.is_serving() && server.client_count() == 1);
/// server.close_clients();
/// server.wait_closed().await;
/// assert_eq!(reader.read(1).await?, b"");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a server closes it"]
pub struct Server {
    service: Arc<Service>,
    addrs: Vec<SocketAddr>,
    path: Option<PathBuf>,
}

impl Server {
    /// Begins to accept, if [`ServerOptions::start_serving`] had it wait. Else it has no effect.
    ///
    /// # Errors
    ///
    /// Those of listening; `NotConnected` if the server is closed.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::ServerOptions;
    ///
    /// # epicycle::run(async {
    /// let server = ServerOptions::new().start_serving(false).start(async |_, _| (), "127.0.0.1:0").await?;
    /// assert!(!server.is_serving());
    /// server.start_serving()?;
    /// assert!(server.is_serving());
    /// server.close();
    /// assert!(server.start_serving().is_err()); // a closed one stays closed
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn start_serving(&self) -> io::Result<()> {
        self.service.start()
    }

    /// Accepts until the server is [closed](Self::close). Dropping the future, as a timeout or the end of its task does,
    /// closes it, too.
    ///
    /// # Errors
    ///
    /// As [`start_serving`](Self::start_serving).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use epicycle::streams::start_server;
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |_, writer| writer.write(b"welcome"), "127.0.0.1:0").await?;
    /// let long_enough = Duration::from_millis(5);
    /// assert!(epicycle::timeout(long_enough, server.serve_forever()).await.is_err());
    /// assert!(!server.is_serving());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the server.
    pub fn serve_forever(&self) -> impl Future<Output = io::Result<()>> {
        // Outside of the block: also if it is dropped before its first poll.
        let close = CloseOnDrop(&self.service);
        async move {
            let CloseOnDrop(service) = &close;
            service.start()?;
            service.until_closed().await;
            Ok(())
        }
    }

    /// Stops accepting and closes the listening sockets. Clients that were accepted are not concerned.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{open_connection, start_server};
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |_, _| (), "127.0.0.1:0").await?;
    /// server.close();
    /// server.wait_closed().await;
    /// assert!(open_connection(server.local_addrs()[0]).await.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn close(&self) {
        self.service.close();
    }

    /// [Closes](StreamWriter::close) the connections of all clients: what their handlers have written is sent first.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{StreamReader, StreamWriter, open_connection, start_server};
    ///
    /// async fn session(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    ///     writer.write(b"welcome\n")?;
    ///     reader.read(1).await.map(drop)
    /// }
    ///
    /// # epicycle::run(async {
    /// let server = start_server(session, "127.0.0.1:0").await?;
    /// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// assert_eq!(reader.readline().await?, b"welcome\n");
    /// server.close_clients();
    /// assert!(reader.read(1).await?.is_empty()); // the end
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn close_clients(&self) {
        self.service.clients().iter().for_each(|client| client.close());
    }

    /// [Aborts](StreamWriter::abort) the connections of all clients.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::streams::{open_connection, start_server};
    /// # epicycle::run(async {
    /// # let server = start_server(async |mut reader, _writer| drop(reader.read(1).await), "127.0.0.1:0").await?;
    /// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// # while server.client_count() == 0 { epicycle::yield_now().await }
    /// server.abort_clients();
    /// assert!(reader.read(1).await.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn abort_clients(&self) {
        self.service.clients().iter().for_each(|client| client.abort());
    }

    /// Waits until the server is closed and has no clients left. It closes neither.
    ///
    /// A client is one until its connection is over: until its reader and writers are dropped, or it was closed and all
    /// was sent, or it was aborted or lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{open_connection, start_server};
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |mut reader, _writer| drop(reader.read(1).await), "127.0.0.1:0").await?;
    /// let (_reader, writer) = open_connection(server.local_addrs()[0]).await?;
    /// # while server.client_count() == 0 { epicycle::yield_now().await }
    /// server.close();
    /// writer.close(); // the client leaves by itself
    /// server.wait_closed().await;
    /// assert_eq!(server.client_count(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn wait_closed(&self) {
        self.service.until_over().await;
    }

    /// Whether it accepts.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let server = epicycle::streams::start_server(async |_, _| (), "127.0.0.1:0").await?;
    /// assert!(server.is_serving());
    /// server.close();
    /// assert!(!server.is_serving());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_serving(&self) -> bool {
        self.service.is_serving()
    }

    /// How many clients there are.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{open_connection, start_server};
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |mut reader, _writer| drop(reader.read(1).await), "127.0.0.1:0").await?;
    /// assert_eq!(server.client_count(), 0);
    /// let (_reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// # while server.client_count() == 0 { epicycle::yield_now().await }
    /// assert_eq!(server.client_count(), 1); // once it has been accepted
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn client_count(&self) -> usize {
        self.service.client_count()
    }

    /// The addresses it listens on, also after it was closed; none, for a Unix socket. asyncio's `sockets`.
    ///
    /// A name such as `localhost` may stand for several.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let server = epicycle::streams::start_server(async |_, _| (), "localhost:0").await?;
    /// assert!(server.local_addrs().iter().all(|addr| addr.ip().is_loopback() && addr.port() != 0));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The path of its Unix socket.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let server = epicycle::streams::start_server(async |_, _| (), "127.0.0.1:0").await?;
    /// assert!(server.path().is_none());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.service.close();
    }
}

struct CloseOnDrop<'a>(&'a Arc<Service>);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addrs", &self.addrs)
            .field("path", &self.path)
            .field("serving", &self.is_serving())
            .field("clients", &self.client_count())
            .finish()
    }
}

/// Options for servers: asyncio's keyword arguments of `start_server`.
///
/// # Examples
///
/// ```
/// use epicycle::streams::ServerOptions;
///
/// # epicycle::run(async {
/// let options = ServerOptions::new().limit(1 << 20).backlog(100).per_loop(true);
/// let server = options.start(async |_reader, _writer| (), "127.0.0.1:0").await?;
/// assert!(server.is_serving());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until one of the `start` methods is called"]
pub struct ServerOptions {
    limit: usize,
    marks: Marks,
    backlog: i32,
    reuse_port: bool,
    per_loop: bool,
    start_serving: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl ServerOptions {
    /// The defaults.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::ServerOptions;
    ///
    /// # epicycle::run(async {
    /// let options = ServerOptions::new();
    /// let one = options.start(async |_, _| (), "127.0.0.1:0").await?;
    /// let two = options.start(async |_, _| (), "127.0.0.1:0").await?; // as often as one likes
    /// assert_ne!(one.local_addrs(), two.local_addrs());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn new() -> Self {
        Self {
            limit: LIMIT,
            marks: Marks::default(),
            backlog: BACKLOG,
            reuse_port: false,
            per_loop: false,
            start_serving: true,
        }
    }

    /// The limit of the clients' readers, in bytes: how long a line may be. The default is 64 KiB.
    ///
    /// # Panics
    ///
    /// If it is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{ServerOptions, StreamReader, StreamWriter, open_connection};
    ///
    /// async fn tell(reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    ///     writer.write(reader.limit().to_string().as_bytes())
    /// }
    ///
    /// # epicycle::run(async {
    /// let server = ServerOptions::new().limit(1024).start(tell, "127.0.0.1:0").await?;
    /// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// assert_eq!(reader.read_to_end().await?, b"1024");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn limit(mut self, bytes: usize) -> Self {
        assert!(bytes > 0, "a StreamReader's limit must be at least one byte");
        self.limit = bytes;
        self
    }

    /// As [`StreamWriter::set_write_buffer_limits`], for the clients' writers.
    ///
    /// # Panics
    ///
    /// If `low` is above `high`.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{ServerOptions, StreamReader, StreamWriter, open_connection};
    ///
    /// async fn tell(_: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    ///     writer.write(format!("{:?}", writer.write_buffer_limits()).as_bytes())
    /// }
    ///
    /// # epicycle::run(async {
    /// let server = ServerOptions::new().write_buffer_limits(4096, 1024).start(tell, "127.0.0.1:0").await?;
    /// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// assert_eq!(reader.read_to_end().await?, b"(4096, 1024)");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn write_buffer_limits(mut self, high: usize, low: usize) -> Self {
        self.marks = Marks::new(high, low);
        self
    }

    /// How many connections may wait to be accepted. The default is 1024.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{ServerOptions, open_connection};
    ///
    /// # epicycle::run(async {
    /// let server = ServerOptions::new().backlog(8).start(async |_, _| (), "127.0.0.1:0").await?;
    /// assert!(open_connection(server.local_addrs()[0]).await.is_ok());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections.min(i32::MAX as u32) as i32;
        self
    }

    /// Lets several servers listen on one address, if all of them say so (`SO_REUSEPORT`). The default is no.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::ServerOptions;
    ///
    /// # epicycle::run(async {
    /// let options = ServerOptions::new().reuse_port(true);
    /// let one = options.start(async |_, _| (), "127.0.0.1:0").await?;
    /// let two = options.start(async |_, _| (), one.local_addrs()[0]).await?;
    /// assert_eq!(one.local_addrs(), two.local_addrs());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn reuse_port(mut self, reuse: bool) -> Self {
        self.reuse_port = reuse;
        self
    }

    /// Gives each loop a listening socket of its own (`SO_REUSEPORT`), among which the kernel spreads connections by hash. A
    /// connection's events then arrive at the loop that accepted it. The default is one socket, and loops without work
    /// come by their share by stealing handlers. Unix sockets are not concerned.
    ///
    /// On Linux the address is the server's alone all the same: a second server on it is refused, at the latest when it begins to
    /// serve, unless both were told to [share it](Self::reuse_port). On other systems `SO_REUSEPORT` cannot be told from anybody
    /// else's, so that there two servers with this option share an address without knowing.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{ServerOptions, open_connection};
    ///
    /// # epicycle::run(async {
    /// let options = ServerOptions::new().per_loop(true);
    /// let server = options.start(async |_, writer| writer.write(b"welcome"), "127.0.0.1:0").await?;
    /// assert_eq!(server.local_addrs().len(), 1); // one address, however many sockets
    /// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// assert_eq!(reader.readexactly(7).await?, b"welcome");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn per_loop(mut self, per_loop: bool) -> Self {
        self.per_loop = per_loop;
        self
    }

    /// Whether to accept at once, as is the default. If not, the address is taken, but connecting is refused until
    /// [`Server::start_serving`] or [`Server::serve_forever`].
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{ServerOptions, open_connection};
    ///
    /// # epicycle::run(async {
    /// let server = ServerOptions::new().start_serving(false).start(async |_, _| (), "127.0.0.1:0").await?;
    /// assert!(open_connection(server.local_addrs()[0]).await.is_err());
    /// server.start_serving()?;
    /// open_connection(server.local_addrs()[0]).await?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn start_serving(mut self, at_once: bool) -> Self {
        self.start_serving = at_once;
        self
    }

    /// As [`start_server`].
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
    /// use epicycle::streams::{ServerOptions, open_connection};
    ///
    /// # epicycle::run(async {
    /// let options = ServerOptions::new().write_buffer_limits(1 << 20, 1 << 18);
    /// let server = options.start(async |_, writer| writer.write(b"welcome"), "127.0.0.1:0").await?;
    /// let (mut reader, _writer) = open_connection(server.local_addrs()[0]).await?;
    /// assert_eq!(reader.readexactly(7).await?, b"welcome");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, no server was started.
    #[track_caller]
    pub fn start<H, F>(&self, handler: H, addr: impl ToSocketAddrs) -> impl Future<Output = io::Result<Server>>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.start_at(handler, addr, Location::caller())
    }

    async fn start_at<H, F>(
        &self,
        handler: H,
        addr: impl ToSocketAddrs,
        location: &'static Location<'static>,
    ) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutput> + Send + 'static,
    {
        let home = Home::current();
        let each = if self.per_loop { home.loops() } else { 1 };
        let (sockets, addrs) = self.bind(lookup_host(addr).await?, each)?;
        let service = self.service(home, sockets, None, serve(handler, location));
        self.serve(Server { service, addrs, path: None })
    }

    /// As [`start_unix_server`].
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
    /// use epicycle::streams::{ServerOptions, open_unix_connection};
    ///
    /// # epicycle::run(async {
    /// # let path = std::env::temp_dir().join(format!("epicycle-doc-start-unix-{}", std::process::id()));
    /// let options = ServerOptions::new().backlog(8);
    /// let server = options.start_unix(async |_, writer| writer.write(b"welcome"), &path).await?;
    /// assert_eq!(server.path(), Some(&*path));
    /// let (mut reader, _writer) = open_unix_connection(&path).await?;
    /// assert_eq!(reader.readexactly(7).await?, b"welcome");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, no server was started.
    #[track_caller]
    pub fn start_unix<H, F>(&self, handler: H, path: impl AsRef<Path>) -> impl Future<Output = io::Result<Server>>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutput> + Send + 'static,
    {
        self.start_unix_at(handler, path, Location::caller())
    }

    async fn start_unix_at<H, F>(
        &self,
        handler: H,
        path: impl AsRef<Path>,
        location: &'static Location<'static>,
    ) -> io::Result<Server>
    where
        H: Fn(StreamReader, StreamWriter) -> F + Send + Sync + 'static,
        F: Future<Output: HandlerOutput> + Send + 'static,
    {
        let path = path.as_ref();
        let home = Home::current();
        if fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket()) {
            fs::remove_file(path)?;
        }
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let file = SocketFile::of(path)?;
        let options = Self { per_loop: false, ..self.clone() };
        let service = options.service(home, vec![socket], Some(file), serve(handler, location));
        self.serve(Server { service, addrs: Vec::new(), path: Some(path.to_owned()) })
    }

    fn service(
        &self,
        home: Home,
        sockets: Vec<socket2::Socket>,
        file: Option<SocketFile>,
        serve: Arc<Serve>,
    ) -> Arc<Service> {
        let &Self { limit, marks, backlog, per_loop, .. } = self;
        Service::new(Parts { home, sockets, file, serve, limit, marks, backlog, per_loop })
    }

    fn serve(&self, server: Server) -> io::Result<Server> {
        if self.start_serving {
            server.start_serving()?;
        }
        Ok(server)
    }

    /// `each` sockets for each of the addresses.
    fn bind(
        &self,
        wanted: impl Iterator<Item = SocketAddr>,
        each: usize,
    ) -> io::Result<(Vec<socket2::Socket>, Vec<SocketAddr>)> {
        let (mut sockets, mut addrs, mut absent) = (Vec::new(), Vec::new(), None);
        let mut seen = Vec::new();
        for addr in wanted {
            if seen.contains(&addr) {
                continue;
            }
            seen.push(addr);
            let first = match self.bind_like(addr, addrs.first()) {
                Ok(socket) => socket,
                Err(error) if is_absent(&error) => {
                    absent = Some(error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // The system may have chosen the port.
            let bound = first.local_addr()?.as_socket().unwrap_or(addr);
            addrs.push(bound);
            sockets.push(first);
            for _ in 1..each {
                sockets.push(self.bind_one(bound)?);
            }
        }
        match absent {
            Some(error) if sockets.is_empty() => Err(error),
            _ => Ok((sockets, addrs)),
        }
    }

    /// Where the system is to choose the port, all addresses of a name had better get the same.
    fn bind_like(&self, addr: SocketAddr, first: Option<&SocketAddr>) -> io::Result<socket2::Socket> {
        if let (0, Some(first)) = (addr.port(), first) {
            let mut same = addr;
            same.set_port(first.port());
            match self.bind_one(same) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                bound => return bound,
            }
        }
        self.bind_one(addr)
    }

    fn bind_one(&self, addr: SocketAddr) -> io::Result<socket2::Socket> {
        let socket = socket2::Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_reuse_address(true)?;
        // On Linux the option can wait until one of the sockets has claimed the address: see `Service::listen`.
        let early = self.per_loop && !cfg!(any(target_os = "linux", target_os = "android"));
        if self.reuse_port || early {
            socket.set_reuse_port(true)?;
        }
        if addr.is_ipv6() {
            // The IPv4 address is another one of the same name's.
            socket.set_only_v6(true)?;
        }
        socket.bind(&addr.into())?;
        Ok(socket)
    }
}

/// The machine does not have the address, or its family.
fn is_absent(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}
