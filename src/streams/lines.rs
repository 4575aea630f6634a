//! [`Lines`]: a reader's lines as a stream.
//!
//! *Invariant*: what has been scanned of a line is not scanned again. *Threads*: any, one at a time. *Ordering*: owner-only.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::AsyncRead;
use futures_lite::Stream;

use super::{Incoming, ReadError, StreamReader};

/// The lines of a [`StreamReader`], each with its `\n`; from [`StreamReader::each_line`]. asyncio's `async for`.
///
/// A line over the limit is an error, and the stream goes on behind it, or in the middle of it: see
/// [`readline`](StreamReader::readline).
///
/// # Examples
///
/// ```
/// use epicycle::streams::StreamReader;
///
/// # epicycle::run(async {
/// let mut reader = StreamReader::new(&b"one\ntwo\n"[..]);
/// let mut lines = reader.each_line();
/// let mut count = 0;
/// while let Some(line) = lines.next().await {
///     assert_eq!(line?.len(), 4);
///     count += 1;
/// }
/// assert_eq!(count, 2);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[must_use = "a stream does nothing unless it is polled"]
pub struct Lines<'a, R = Incoming> {
    reader: &'a mut StreamReader<R>,
    scanned: usize,
}

impl<'a, R: AsyncRead + Unpin> Lines<'a, R> {
    pub(super) fn new(reader: &'a mut StreamReader<R>) -> Self {
        Self { reader, scanned: 0 }
    }

    /// The next line, or none at the end.
    ///
    /// # Errors
    ///
    /// As [`StreamReader::readline`].
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::streams::StreamReader;
    ///
    /// # epicycle::run(async {
    /// let mut reader = StreamReader::new(&b"one\ntwo"[..]);
    /// let mut lines = reader.each_line();
    /// assert_eq!(lines.next().await.unwrap()?, b"one\n");
    /// assert_eq!(lines.next().await.unwrap()?, b"two");
    /// assert!(lines.next().await.is_none());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Vec<u8>, ReadError>> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, ReadError>>> {
        let line = ready!(self.reader.poll_line(cx, &mut self.scanned));
        Poll::Ready(match line {
            Ok(line) if line.is_empty() => None,
            line => Some(line),
        })
    }
}

impl<R: AsyncRead + Unpin> Stream for Lines<'_, R> {
    type Item = Result<Vec<u8>, ReadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx)
    }
}
