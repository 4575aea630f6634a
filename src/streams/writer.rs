//! [`StreamWriter`]: writing that never waits, and waiting for what was written.
//!
//! *Invariant*: see [`Connection`]. When the last writer of a connection is dropped, its peer reads to the end.
//! *Threads*: any; clones may write at once. *Ordering*: the connection's lock.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_io::AsyncWrite;

use super::connection::{Connection, Marks};
use super::{Socket, StreamReader};
use crate::event_loop::poll_proceed;
use crate::scheduler::yield_now;

/// What an `AsyncWrite` takes at once, in bytes: so the buffer does not grow by all that somebody may have to write.
const PIECE: usize = 64 * 1024;

/// The writing end of a connection. asyncio's `StreamWriter`.
///
/// [`write`](Self::write) does not wait: what the kernel does not take at once is buffered and sent in the background.
/// [`drain`](Self::drain) is how the one who produces waits for the one who consumes; call it after each write, or before
/// the next one, or memory is all that limits the buffer.
///
/// Clones write to the same connection; each write arrives in one piece. When the last one is dropped, what is buffered is
/// sent and the peer reads to the end, as with [`write_eof`](Self::write_eof); the reader remains usable. To end both
/// directions there is [`close`](Self::close). (asyncio warns of writers that were not closed.) What is buffered when the
/// runtime ends is lost: [`wait_closed`](Self::wait_closed) before that.
///
/// It is also an [`AsyncWrite`](crate::io::AsyncWrite), whose writing waits as `drain` does, whose flushing waits until
/// nothing is buffered, and whose closing is that of a socket: [`write_eof`](Self::write_eof), flushed. (Where
/// [`AsyncWriteExt`](crate::io::AsyncWriteExt) is imported, a `&mut StreamWriter` has that trait's `write` and `close`, which are
/// futures; a `StreamWriter` or a `&StreamWriter` has these methods.)
///
/// # Examples
///
/// ```
/// use epicycle::net::UnixStream;
/// use epicycle::streams;
///
/// # epicycle::run(async {
/// let (ours, theirs) = UnixStream::pair()?;
/// let ((_, writer), (mut reader, _)) = (streams::split(ours), streams::split(theirs));
/// writer.write(b"hello, ")?;
/// writer.write(b"world\n")?;
/// writer.drain().await?;
/// assert_eq!(reader.readline().await?, b"hello, world\n");
///
/// writer.close();
/// writer.wait_closed().await?;
/// assert_eq!(reader.readline().await?, b"");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct StreamWriter {
    pen: Arc<Pen>,
    /// Where this one waits, as an `AsyncWrite`.
    ticket: u64,
}

/// One for all clones: dropped with the last of them.
struct Pen {
    connection: Option<Arc<Connection>>,
}

impl Drop for Pen {
    fn drop(&mut self) {
        if let Some(connection) = &self.connection {
            connection.write_eof();
        }
    }
}

impl StreamWriter {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self { pen: Arc::new(Pen { connection: Some(connection) }), ticket: 0 }
    }

    fn connection(&self) -> &Arc<Connection> {
        self.pen.connection.as_ref().expect("only reunite() takes it")
    }

    /// Sends `data`, in the background if need be: one `write(2)`, if nothing is buffered already, and the rest into the
    /// buffer.
    ///
    /// # Errors
    ///
    /// `BrokenPipe` after [`write_eof`](Self::write_eof), [`close`](Self::close) or [`abort`](Self::abort); the connection's
    /// error if it was lost. (asyncio drops the data silently then, and tells in `drain`.)
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, theirs) = UnixStream::pair()?;
    /// # let ((_, writer), (mut reader, _)) = (streams::split(ours), streams::split(theirs));
    /// writer.write(b"one, ")?; // nothing to await
    /// writer.write(b"two\n")?;
    /// assert_eq!(reader.readline().await?, b"one, two\n");
    /// writer.close();
    /// assert_eq!(writer.write(b"three").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn write(&self, data: &[u8]) -> io::Result<()> {
        self.connection().write(data)
    }

    /// As [`write`](Self::write) of all the parts put together, by one `writev(2)`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, theirs) = UnixStream::pair()?;
    /// # let ((_, writer), (mut reader, _)) = (streams::split(ours), streams::split(theirs));
    /// writer.writelines(["one\n", "two\n"])?;
    /// assert_eq!(reader.readexactly(8).await?, b"one\ntwo\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn writelines<T: AsRef<[u8]>>(&self, lines: impl IntoIterator<Item = T>) -> io::Result<()> {
        let lines: Vec<T> = lines.into_iter().collect();
        let slices: Vec<IoSlice<'_>> = lines.iter().map(|line| IoSlice::new(line.as_ref())).collect();
        self.connection().write_all_of(&slices)
    }

    /// Waits, if more is buffered than the high-water mark, until it is no more than the low one.
    ///
    /// Any number of tasks may do so at once.
    ///
    /// # Errors
    ///
    /// That by which the connection was lost, be it found by writing or by the reader; `ConnectionReset` if it was closed.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, theirs) = UnixStream::pair()?;
    /// # let ((_, writer), (mut reader, _)) = (streams::split(ours), streams::split(theirs));
    /// let producer = epicycle::spawn(async move {
    ///     for _ in 0..64 {
    ///         writer.write(&[0; 16384])?;
    ///         writer.drain().await?; // so there are never more than 64 KiB and one piece in memory
    ///         assert!(writer.write_buffer_size() <= 65536);
    ///     }
    ///     Ok::<(), std::io::Error>(())
    /// });
    /// assert_eq!(reader.read_to_end().await?.len(), 64 * 16384);
    /// producer.await.unwrap()?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn drain(&self) -> io::Result<()> {
        self.connection().drain().await?;
        // Otherwise a peer that keeps up would leave a task that only writes without a pause.
        poll_fn(poll_proceed).await;
        Ok(())
    }

    /// Sends what is buffered, then tells the peer that nothing will follow (`shutdown(2)`). Reading goes on.
    ///
    /// Returns at once; [`AsyncWriteExt::flush`](crate::io::AsyncWriteExt::flush) waits. It has no effect if the writer is
    /// closed or has done so before. Dropping the last writer does the same.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, theirs) = UnixStream::pair()?;
    /// # let ((mut answers, writer), (mut reader, theirs)) = (streams::split(ours), streams::split(theirs));
    /// writer.write(b"that is all")?;
    /// writer.write_eof();
    /// assert!(writer.write(b"but").is_err());
    /// assert_eq!(reader.read_to_end().await?, b"that is all");
    /// theirs.write(b"thanks\n")?;
    /// assert_eq!(answers.readline().await?, b"thanks\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn write_eof(&self) {
        self.connection().write_eof();
    }

    /// Sends what is buffered, then ends both directions: the peer and the reader on this side read to the end.
    ///
    /// Returns at once; [`wait_closed`](Self::wait_closed) waits. The descriptor itself is closed when reader and writers are
    /// dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, theirs) = UnixStream::pair()?;
    /// # let ((mut answers, writer), (mut reader, _theirs)) = (streams::split(ours), streams::split(theirs));
    /// writer.write(b"bye")?;
    /// writer.close();
    /// assert_eq!(reader.read_to_end().await?, b"bye");
    /// assert!(answers.read(1).await?.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn close(&self) {
        self.connection().close();
    }

    /// Throws away what is buffered and ends the connection now. The peer of a TCP connection gets a reset, so that it does
    /// not take what it has for all there is.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, _theirs) = UnixStream::pair()?;
    /// # let (mut reader, writer) = streams::split(ours);
    /// writer.abort();
    /// writer.wait_closed().await?;
    /// assert!(writer.is_closing() && reader.read(1).await?.is_empty());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn abort(&self) {
        self.connection().abort();
    }

    /// Waits until the connection is over: closed with all data handed to the kernel, aborted, or lost.
    ///
    /// It does not begin to close. A loss is noticed by reading or writing only. A peer that does not read can make this
    /// last for ever: give it a [`timeout`](crate::timeout), and [`abort`](Self::abort) after that.
    ///
    /// # Errors
    ///
    /// The one by which the connection was lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # use std::time::Duration;
    /// # epicycle::run(async {
    /// # let (ours, _theirs) = UnixStream::pair()?;
    /// # let (_, writer) = streams::split(ours);
    /// writer.write(&vec![0; 4 << 20])?; // and nobody reads
    /// writer.close();
    /// assert!(epicycle::timeout(Duration::from_millis(5), writer.wait_closed()).await.is_err());
    /// writer.abort();
    /// writer.wait_closed().await?;
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn wait_closed(&self) -> io::Result<()> {
        self.connection().wait_closed().await
    }

    /// Whether [`close`](Self::close) or [`abort`](Self::abort) was called, or the connection is over by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, _theirs) = UnixStream::pair()?;
    /// # let (_, writer) = streams::split(ours);
    /// assert!(!writer.is_closing());
    /// writer.close();
    /// assert!(writer.is_closing());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_closing(&self) -> bool {
        self.connection().is_closing()
    }

    /// How many bytes wait to be sent. asyncio's `transport.get_write_buffer_size()`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, mut theirs) = UnixStream::pair()?;
    /// # let (_, writer) = streams::split(ours);
    /// writer.write(&vec![0; 4 << 20])?; // more than the kernel takes
    /// assert!(writer.write_buffer_size() > 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn write_buffer_size(&self) -> usize {
        self.connection().unsent()
    }

    /// The high- and the low-water mark, in bytes; 64 KiB and a quarter of that, unless set otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, _theirs) = UnixStream::pair()?;
    /// # let (_, writer) = streams::split(ours);
    /// assert_eq!(writer.write_buffer_limits(), (65536, 16384));
    /// writer.set_write_buffer_limits(4096, 0);
    /// assert_eq!(writer.write_buffer_limits(), (4096, 0));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn write_buffer_limits(&self) -> (usize, usize) {
        let Marks { high, low } = self.connection().marks();
        (high, low)
    }

    /// Sets the marks in bytes: [`drain`](Self::drain) waits if more than `high` is buffered, until it is at most `low`.
    ///
    /// # Panics
    ///
    /// If `low` is above `high`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::{net::UnixStream, streams};
    /// # epicycle::run(async {
    /// # let (ours, mut theirs) = UnixStream::pair()?;
    /// # let (_, writer) = streams::split(ours);
    /// assert_eq!(writer.write_buffer_limits(), (65536, 16384));
    /// writer.set_write_buffer_limits(0, 0); // drain() waits for all
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn set_write_buffer_limits(&self, high: usize, low: usize) {
        self.connection().set_marks(Marks::new(high, low));
    }

    /// The address of the other end, as of the beginning, of a TCP connection. asyncio's `get_extra_info("peername")`.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a Unix connection (see [`socket`](Self::socket)); `NotConnected` if it had ended before the streams
    /// were made.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{self, open_connection, start_server};
    ///
    /// # epicycle::run(async {
    /// let server = start_server(async |_, _| (), "127.0.0.1:0").await?;
    /// let (_reader, writer) = open_connection(server.local_addrs()[0]).await?;
    /// assert_eq!(writer.peer_addr()?, server.local_addrs()[0]);
    ///
    /// # use epicycle::net::UnixStream;
    /// let (_reader, writer) = streams::split(UnixStream::pair()?.0);
    /// assert_eq!(writer.peer_addr().unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self.socket() {
            Socket::Tcp(_) => self.connection().peer().ok_or_else(|| io::ErrorKind::NotConnected.into()),
            Socket::Unix(_) => Err(no_address()),
        }
    }

    /// The address of this end, of a TCP connection. asyncio's `get_extra_info("sockname")`.
    ///
    /// # Errors
    ///
    /// `Unsupported` for a Unix connection (see [`socket`](Self::socket)); those of `getsockname`.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{StreamReader, StreamWriter, open_connection, start_server};
    ///
    /// async fn tell(_: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    ///     writer.write(writer.peer_addr()?.to_string().as_bytes())
    /// }
    ///
    /// # epicycle::run(async {
    /// let server = start_server(tell, "127.0.0.1:0").await?;
    /// let (mut reader, writer) = open_connection(server.local_addrs()[0]).await?;
    /// let seen = reader.read_to_end().await?; // by the other end
    /// assert_eq!(seen, writer.local_addr()?.to_string().as_bytes());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self.socket() {
            Socket::Tcp(stream) => stream.local_addr(),
            Socket::Unix(_) => Err(no_address()),
        }
    }

    /// The socket, for its options. asyncio's `get_extra_info("socket")`.
    ///
    /// Leave reading and writing to the streams: what is written to it directly may overtake what is buffered, and a task
    /// that waits for it takes the place of the one that sends that.
    ///
    /// # Examples
    ///
    /// ```
    /// # use epicycle::net::{TcpListener, TcpStream};
    /// use epicycle::streams::{self, Socket};
    ///
    /// # epicycle::run(async {
    /// # let listener = TcpListener::bind("127.0.0.1:0").await?;
    /// let (_reader, writer) = streams::open_connection(listener.local_addr()?).await?;
    /// let Socket::Tcp(stream) = writer.socket() else { unreachable!() };
    /// assert!(stream.nodelay()?);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn socket(&self) -> &Socket {
        self.connection().socket()
    }

    /// Sends what is buffered, and puts the socket together again: to hand it to another protocol, such as TLS. With it
    /// comes what the reader had read and nobody had asked for.
    ///
    /// A server no longer counts the connection among its clients.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the writer has clones or the reader is another connection's; those of writing. Both ends are
    /// dropped then.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixStream;
    /// use epicycle::streams::{self, Socket};
    ///
    /// # epicycle::run(async {
    /// let (ours, theirs) = UnixStream::pair()?;
    /// let ((mut reader, writer), (_, peer)) = (streams::split(ours), streams::split(theirs));
    /// peer.write(b"STARTTLS\nhello")?;
    /// assert_eq!(reader.readline().await?, b"STARTTLS\n");
    /// let (socket, hello) = writer.reunite(reader).await?;
    /// assert!(matches!(socket, Socket::Unix(_)) && hello == b"hello");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: dropping the future drops both ends.
    pub async fn reunite(mut self, reader: StreamReader) -> io::Result<(Socket, Vec<u8>)> {
        if !Arc::ptr_eq(reader.get_ref().connection(), self.connection()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the reader is not of the same connection"));
        }
        poll_fn(|cx| self.poll_flushed(cx)).await?;
        let pen = self.pen.clone();
        drop(self);
        let (incoming, unread) = reader.into_inner();
        drop(incoming);
        let mut pen = Arc::into_inner(pen)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the writer has clones: drop them first"))?;
        let mut connection = pen.connection.take().expect("only reunite() takes it");
        loop {
            connection = match Arc::try_unwrap(connection) {
                Ok(connection) => return Ok((connection.into_socket(), unread)),
                Err(shared) => shared,
            };
            // A flusher that has just ended, or a server that is about to let go of it.
            yield_now().await;
        }
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { pen, ticket } = self;
        pen.connection.as_ref().expect("only reunite() takes it").poll_flushed(cx, ticket)
    }

    fn poll_drained(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { pen, ticket } = self;
        pen.connection.as_ref().expect("only reunite() takes it").poll_drained(cx, ticket)
    }
}

fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a Unix connection has no internet address: ask its socket()")
}

impl Clone for StreamWriter {
    fn clone(&self) -> Self {
        Self { pen: self.pen.clone(), ticket: 0 }
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        let Self { pen, ticket } = self;
        if let Some(connection) = &pen.connection {
            connection.leave(ticket);
        }
    }
}

impl AsyncWrite for StreamWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_drained(cx))?;
        ready!(poll_proceed(cx));
        let piece = &buf[..buf.len().min(PIECE)];
        Poll::Ready(self.write(piece).map(|()| piece.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if length > PIECE {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_write(cx, first.map_or(&[], |buf| &**buf));
        }
        ready!(self.poll_drained(cx))?;
        ready!(poll_proceed(cx));
        Poll::Ready(self.connection().write_all_of(bufs).map(|()| length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_eof();
        self.poll_flushed(cx)
    }
}

impl fmt::Debug for StreamWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamWriter")
            .field("socket", self.socket())
            .field("unsent", &self.write_buffer_size())
            .finish_non_exhaustive()
    }
}
