//! [`StreamReader`]: reading by lines, separators and counts.
//!
//! *Invariant*: bytes are in the buffer from the moment they are read to the moment they are returned, so that dropping any
//! of the futures loses none. The source is read only when somebody asks for more than there is: that is all of the
//! back-pressure there is. *Threads*: any, one at a time. *Ordering*: owner-only (`&mut`), none.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncBufRead, AsyncRead};

use super::buffer::{Buffer, Separators, find};
use super::{Incoming, IncompleteReadError, LimitOverrunError, Lines, ReadError};
use crate::event_loop::poll_proceed;

/// asyncio's default for the longest line, in bytes.
pub(super) const LIMIT: usize = 64 * 1024;

/// Bytes per read: at first, and at most. It doubles whenever a read fills all of it.
const CHUNK: (usize, usize) = (8 * 1024, 64 * 1024);

/// A reader by lines, separators and counts, of a connection or of any other [`AsyncRead`](crate::io::AsyncRead).
///
/// asyncio's `StreamReader`. One comes, with a [`StreamWriter`](super::StreamWriter), from
/// [`open_connection`](super::open_connection), [`start_server`](super::start_server) or [`split`](super::split); and
/// [`new`](Self::new) makes one of whatever can be read from, as `feed_data` and `feed_eof` do there.
///
/// *The limit* bounds how long a line may be, or anything else that ends in a separator: 64 KiB, unless set otherwise.
/// It does not bound what is asked for by number.
///
/// *Back-pressure.* The source is read only while somebody waits for more than there is, and then at most as much as the
/// limit (or what was asked for) and 64 KiB allow at a time. So a reader never holds more than twice the limit, unless
/// `readexactly` or `read_to_end` asked for more; a peer that sends faster is held back by the kernel. Nothing has
/// to be paused or resumed, as it has in asyncio, and waiting for more than the limit cannot deadlock.
///
/// *Cancel safety.* Dropping any of its futures loses nothing: what had come is there for the next call.
///
/// Two reads at once do not compile; in asyncio they are an error when run:
///
/// ```compile_fail,E0499
/// # use epicycle::streams::StreamReader;
/// # async fn two(mut reader: StreamReader) {
/// let (one, two) = (reader.readline(), reader.readline());
/// let _ = (one.await, two.await);
/// # }
/// ```
///
/// # Examples
///
/// ```
/// use epicycle::streams::StreamReader;
///
/// # epicycle::run(async {
/// let mut reader = StreamReader::new(&b"GET / HTTP/1.0\r\nHost: here\r\n\r\nbody"[..]);
/// assert_eq!(reader.readline().await.unwrap(), b"GET / HTTP/1.0\r\n");
/// assert_eq!(reader.readuntil("\r\n\r\n").await.unwrap(), b"Host: here\r\n\r\n");
/// assert_eq!(reader.readexactly(4).await.unwrap(), b"body");
/// assert!(reader.read(1).await.unwrap().is_empty() && reader.at_eof());
/// # });
/// ```
pub struct StreamReader<R = Incoming> {
    source: R,
    buffer: Buffer,
    limit: usize,
    chunk: usize,
    /// The source has come to its end.
    ended: bool,
}

impl<R> StreamReader<R> {
    /// Reads from `source`, with a limit of 64 KiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::{net::UnixStream, streams::StreamReader};
    ///
    /// # epicycle::run(async {
    /// let (socket, peer) = UnixStream::pair()?;
    /// let mut reader = StreamReader::new(socket);
    /// peer.try_write(b"one\ntwo\n")?;
    /// assert_eq!(reader.readline().await?, b"one\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn new(source: R) -> Self {
        Self::with_limit(LIMIT, source)
    }

    /// Reads from `source`, with a limit in bytes.
    ///
    /// # Panics
    ///
    /// If the limit is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::with_limit(4, &b"longer\n"[..]);
    /// assert!(reader.readline().await.is_err());
    /// # });
    /// ```
    #[track_caller]
    pub fn with_limit(limit: usize, source: R) -> Self {
        assert!(limit > 0, "a StreamReader's limit must be at least one byte");
        Self { source, buffer: Buffer::default(), limit, chunk: CHUNK.0, ended: false }
    }

    /// The limit in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::streams::StreamReader::new(epicycle::io::empty()).limit(), 65536);
    /// ```
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Whether the end has been seen and all before it has been read.
    ///
    /// False does not mean that there is more: whether there is, only reading tells.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"all"[..]);
    /// assert_eq!(reader.readexactly(3).await?, b"all");
    /// assert!(!reader.at_eof()); // the end has not been seen yet
    /// assert_eq!(reader.read(1).await?, b"");
    /// assert!(reader.at_eof());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn at_eof(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    /// What has come and has not been read.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"one\ntwo"[..]);
    /// reader.readline().await.unwrap();
    /// assert_eq!(reader.buffered(), b"two");
    /// # });
    /// ```
    pub fn buffered(&self) -> &[u8] {
        self.buffer.data()
    }

    /// What it reads from.
    ///
    /// # Examples
    ///
    /// ```
    /// let reader = epicycle::streams::StreamReader::new(&b"text"[..]);
    /// assert_eq!(reader.get_ref(), b"text"); // nothing has been asked for
    /// ```
    pub fn get_ref(&self) -> &R {
        &self.source
    }

    /// What it reads from, and what has come and has not been read.
    ///
    /// To get a whole socket back, there is [`StreamWriter::reunite`](super::StreamWriter::reunite).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"one\ntwo"[..]);
    /// reader.readline().await.unwrap();
    /// assert_eq!(reader.into_inner().1, b"two");
    /// # });
    /// ```
    pub fn into_inner(mut self) -> (R, Vec<u8>) {
        let unread = self.buffer.take_all();
        (self.source, unread)
    }
}

impl<R: AsyncRead + Unpin> StreamReader<R> {
    /// Reads what there is, up to `n` bytes: at least one, or none at the end. `read(0)` is empty at once.
    ///
    /// (For reading into a slice of yours there is [`AsyncReadExt`](crate::io::AsyncReadExt), by its full name.)
    ///
    /// # Errors
    ///
    /// Those of the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"hello"[..]);
    /// assert_eq!(reader.read(4).await?, b"hell");
    /// assert_eq!(reader.read(4).await?, b"o");
    /// assert_eq!(reader.read(4).await?, b"");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn read(&mut self, n: usize) -> io::Result<Vec<u8>> {
        if n == 0 {
            return Ok(Vec::new());
        }
        poll_fn(|cx| self.poll_some(cx, n)).await?;
        Ok(self.buffer.take(n.min(self.buffer.len())))
    }

    /// Reads to the end. asyncio's `read(-1)`.
    ///
    /// # Errors
    ///
    /// Those of the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"one\ntwo\n"[..]);
    /// reader.readline().await.unwrap();
    /// assert_eq!(reader.read_to_end().await?, b"two\n");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        while !self.ended {
            poll_fn(|cx| self.poll_fill(cx, CHUNK.1)).await?;
        }
        Ok(self.buffer.take_all())
    }

    /// Reads exactly `n` bytes, whatever the limit.
    ///
    /// # Errors
    ///
    /// [`ReadError::Incomplete`], with what did come, if the end comes first; those of the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::{ReadError, StreamReader};
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"\x00\x03abc!"[..]);
    /// let header = reader.readexactly(2).await?;
    /// let length = u16::from_be_bytes([header[0], header[1]]);
    /// assert_eq!(reader.readexactly(length.into()).await?, b"abc");
    /// let Err(ReadError::Incomplete(error)) = reader.readexactly(2).await else { panic!() };
    /// assert_eq!(error.partial, b"!");
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn readexactly(&mut self, n: usize) -> Result<Vec<u8>, ReadError> {
        if n > 0 && self.buffer.len() >= n {
            poll_fn(poll_proceed).await;
        }
        while self.buffer.len() < n {
            if self.ended {
                return Err(IncompleteReadError { partial: self.buffer.take_all(), expected: Some(n) }.into());
            }
            poll_fn(|cx| self.poll_fill(cx, n - self.buffer.len())).await?;
        }
        Ok(self.buffer.take(n))
    }

    /// Reads up to the first separator, and returns it with what was before it.
    ///
    /// With several separators, the one that ends first counts. It may come in pieces.
    ///
    /// # Errors
    ///
    /// [`ReadError::Overrun`] if none comes within the limit: the data stays in the reader. [`ReadError::Incomplete`],
    /// with what did come, if the end comes first. `InvalidInput` if a separator is empty, or there is none. Those of the
    /// source.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"one, two; three"[..]);
    /// assert_eq!(reader.readuntil(", ").await?, b"one, ");
    /// assert_eq!(reader.readuntil([".", ";"]).await?, b"two;");
    /// assert!(reader.readuntil(b';').await.is_err()); // the end came first
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn readuntil(&mut self, separators: impl Separators) -> Result<Vec<u8>, ReadError> {
        let separators = separators.list();
        if separators.is_empty() || separators.iter().any(|separator| separator.is_empty()) {
            let text = "readuntil needs a separator of at least one byte";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
        }
        let mut scanned = 0;
        let end = poll_fn(|cx| self.poll_separator(cx, &separators, &mut scanned)).await?;
        Ok(self.buffer.take(end))
    }

    /// Reads a line, with its `\n`. At the end there may be one without; and then, empty ones.
    ///
    /// # Errors
    ///
    /// [`ReadError::Overrun`] if the line is longer than the limit. Unlike [`readuntil`](Self::readuntil) it then throws
    /// away what has come of it: through its `\n`, if that has come. Those of the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"one\n\ntwo"[..]);
    /// assert_eq!(reader.readline().await.unwrap(), b"one\n");
    /// assert_eq!(reader.readline().await.unwrap(), b"\n");
    /// assert_eq!(reader.readline().await.unwrap(), b"two");
    /// assert_eq!(reader.readline().await.unwrap(), b"");
    /// # });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn readline(&mut self) -> Result<Vec<u8>, ReadError> {
        let mut scanned = 0;
        poll_fn(|cx| self.poll_line(cx, &mut scanned)).await
    }

    /// The lines, one after the other, as [`readline`](Self::readline) gives them: a stream. asyncio's `async for`.
    ///
    /// (Not called `lines`, since [`AsyncBufReadExt`](crate::io::AsyncBufReadExt) has one of that name that takes the reader,
    /// knows no limit and would win.)
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"a: 1\nb: 2\n\nbody"[..]);
    /// let mut lines = reader.each_line();
    /// let mut headers = 0;
    /// while let Some(line) = lines.next().await
    ///     && line? != b"\n"
    /// {
    ///     headers += 1;
    /// }
    /// assert_eq!((headers, reader.read_to_end().await?), (2, b"body".to_vec()));
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn each_line(&mut self) -> Lines<'_, R> {
        Lines::new(self)
    }

    pub(super) fn poll_line(&mut self, cx: &mut Context<'_>, scanned: &mut usize) -> Poll<Result<Vec<u8>, ReadError>> {
        let found = ready!(self.poll_separator(cx, &[b"\n"], scanned));
        *scanned = 0;
        Poll::Ready(match found {
            Ok(end) => Ok(self.buffer.take(end)),
            Err(ReadError::Incomplete(error)) => Ok(error.partial),
            Err(ReadError::Overrun(error)) => {
                let newline = usize::from(self.buffer.data().get(error.consumed) == Some(&b'\n'));
                self.buffer.consume(error.consumed + newline);
                Err(error.into())
            }
            Err(error) => Err(error),
        })
    }

    /// Where the separator ends. The first `scanned` bytes are known to begin none.
    fn poll_separator(
        &mut self,
        cx: &mut Context<'_>,
        separators: &[&[u8]],
        scanned: &mut usize,
    ) -> Poll<Result<usize, ReadError>> {
        let longest = separators.iter().map(|separator| separator.len()).max().unwrap_or(1);
        let mut waited = false;
        loop {
            if let Some((start, end)) = find(&self.buffer.data()[*scanned..], separators) {
                let (start, end) = (*scanned + start, *scanned + end);
                if !waited {
                    ready!(poll_proceed(cx));
                }
                return Poll::Ready(match start > self.limit {
                    true => Err(LimitOverrunError { consumed: start }.into()),
                    false => Ok(end),
                });
            }
            // A separator may have begun in the last few bytes.
            *scanned = (*scanned).max((self.buffer.len() + 1).saturating_sub(longest));
            if *scanned > self.limit {
                return Poll::Ready(Err(LimitOverrunError { consumed: *scanned }.into()));
            }
            if self.ended {
                let partial = self.buffer.take_all();
                return Poll::Ready(Err(IncompleteReadError { partial, expected: None }.into()));
            }
            ready!(self.poll_fill(cx, 1))?;
            waited = true;
        }
    }

    /// Sees to it that there is something in the buffer, unless the end has come.
    fn poll_some(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<()>> {
        if self.buffer.is_empty() && !self.ended {
            return self.poll_fill(cx, wanted);
        }
        poll_proceed(cx).map(Ok)
    }

    /// Reads from the source, once; `wanted` may be more than the limit.
    fn poll_fill(&mut self, cx: &mut Context<'_>, wanted: usize) -> Poll<io::Result<()>> {
        let asked = self.chunk.min(self.limit.max(wanted));
        let room = self.buffer.room(asked);
        let read = ready!(Pin::new(&mut self.source).poll_read(cx, room))?;
        self.buffer.filled(read);
        self.ended = read == 0;
        if read == self.chunk {
            self.chunk = CHUNK.1.min(2 * self.chunk);
        }
        Poll::Ready(Ok(()))
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for StreamReader<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if self.buffer.is_empty() && !self.ended && buf.len() >= self.chunk {
            let read = ready!(Pin::new(&mut self.source).poll_read(cx, buf))?;
            self.ended = read == 0;
            return Poll::Ready(Ok(read));
        }
        ready!(self.poll_some(cx, 1))?;
        let count = buf.len().min(self.buffer.len());
        buf[..count].copy_from_slice(&self.buffer.data()[..count]);
        self.buffer.consume(count);
        Poll::Ready(Ok(count))
    }
}

impl<R: AsyncRead + Unpin> AsyncBufRead for StreamReader<R> {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        ready!(this.poll_some(cx, 1))?;
        Poll::Ready(Ok(this.buffer.data()))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        self.buffer.consume(count);
    }
}

impl<R: fmt::Debug> fmt::Debug for StreamReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamReader")
            .field("source", &self.source)
            .field("buffered", &self.buffer.len())
            .field("limit", &self.limit)
            .field("ended", &self.ended)
            .finish()
    }
}
