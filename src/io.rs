//! The traits of asynchronous reading and writing, and what is built on them.
//!
//! These are futures-io's traits and futures-lite's extensions, under one roof: with them imported from here,
//! `stream.read(&mut buf).await` needs no other crate. Every stream of [`crate::net`] implements them, by value and by
//! shared reference, so that one task may read from `&stream` while another writes to it.
//!
//! ```
//! use epicycle::io::{AsyncReadExt, AsyncWriteExt};
//! use epicycle::net::UnixStream;
//!
//! # epicycle::run(async {
//! let (mut ours, mut theirs) = UnixStream::pair()?;
//! ours.write_all(b"hello").await?;
//! ours.close().await?;
//!
//! let mut text = String::new();
//! theirs.read_to_string(&mut text).await?;
//! assert_eq!(text, "hello");
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap();
//! ```
//!
//! Two things differ from the methods of std and Tokio that bear the same names. [`read_line`](AsyncBufReadExt::read_line) and
//! [`read_to_string`](AsyncReadExt::read_to_string) want an *empty* `String`: so `clear` it before each line. And what waits for
//! more than one read, such as `read_line` and [`read_exact`](AsyncReadExt::read_exact), loses what had come if it is dropped half
//! way, in a [`select!`](crate::select!) or by a time limit. The reads of a [`StreamReader`](crate::streams::StreamReader), which can
//! be put around any [`AsyncRead`], lose nothing, and bound the length of a line.
//!
//! *Invariant*: nothing here knows the runtime; all of it works with streams of other crates, too. *Threads*: any.
//! *Ordering*: owner-only, none.

#![forbid(unsafe_code)]

#[doc(no_inline)]
pub use futures_io::{
    AsyncBufRead, AsyncRead, AsyncSeek, AsyncWrite, Error, ErrorKind, IoSlice, IoSliceMut, Result, SeekFrom,
};
#[doc(no_inline)]
pub use futures_lite::io::{
    AsyncBufReadExt, AsyncReadExt, AsyncSeekExt, AsyncWriteExt, BufReader, BufWriter, Cursor, Empty, Lines, ReadHalf,
    Repeat, Sink, Split, WriteHalf, copy, empty, repeat, sink, split,
};

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

/// Copies in both directions at once until both sides have ended: a proxy.
///
/// When one side has no more to say, the other one is closed for writing and the opposite direction goes on. Returns the
/// numbers of bytes copied from `a` to `b` and from `b` to `a`. The counterpart of `tokio::io::copy_bidirectional`; for
/// one direction there is [`copy`].
///
/// # Errors
///
/// Those of reading and writing; `WriteZero` if a writer takes nothing. The first one ends both directions.
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
/// use epicycle::net::UnixStream;
///
/// # epicycle::run(async {
/// let (mut client, mut left) = UnixStream::pair()?;
/// let (mut right, mut server) = UnixStream::pair()?;
/// let proxy = epicycle::spawn(async move { copy_bidirectional(&mut left, &mut right).await });
///
/// client.write_all(b"ping").await?;
/// client.close().await?;
/// let mut request = Vec::new();
/// server.read_to_end(&mut request).await?;
/// server.write_all(b"pong!").await?;
/// drop(server);
/// assert_eq!(proxy.await.unwrap()?, (4, 5));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Not cancel safe: bytes that were read and not yet written are lost when the future is dropped.
pub async fn copy_bidirectional<A, B>(a: &mut A, b: &mut B) -> Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin + ?Sized,
    B: AsyncRead + AsyncWrite + Unpin + ?Sized,
{
    let mut there = Transfer::new();
    let mut back = Transfer::new();
    poll_fn(|cx| {
        let there = there.poll(cx, &mut *a, &mut *b)?;
        let back = back.poll(cx, &mut *b, &mut *a)?;
        match (there, back) {
            (Poll::Ready(there), Poll::Ready(back)) => Poll::Ready(Ok((there, back))),
            _ => Poll::Pending,
        }
    })
    .await
}

/// Bytes per read of [`copy_bidirectional`].
const BUFFER: usize = 8 * 1024;

/// One direction of [`copy_bidirectional`].
struct Transfer {
    buffer: Box<[u8]>,
    /// The part of the buffer that is still to be written.
    pending: std::ops::Range<usize>,
    copied: u64,
    /// Written since the last flush.
    dirty: bool,
    state: TransferState,
}

enum TransferState {
    Copying,
    Closing,
    Ended,
}

impl Transfer {
    fn new() -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { buffer, pending: 0..0, copied: 0, dirty: false, state: TransferState::Copying }
    }

    fn poll<R, W>(&mut self, cx: &mut Context<'_>, mut from: &mut R, mut to: &mut W) -> Poll<Result<u64>>
    where
        R: AsyncRead + Unpin + ?Sized,
        W: AsyncWrite + Unpin + ?Sized,
    {
        loop {
            match self.state {
                TransferState::Copying if self.pending.is_empty() => {
                    let read = match Pin::new(&mut from).poll_read(cx, &mut self.buffer) {
                        Poll::Ready(read) => read?,
                        // Nothing to do for now: a good moment to pass on what a buffering writer holds back.
                        Poll::Pending => return self.poll_flush(cx, to),
                    };
                    self.pending = 0..read;
                    if read == 0 {
                        self.state = TransferState::Closing;
                    }
                }
                TransferState::Copying => {
                    let written = ready!(Pin::new(&mut to).poll_write(cx, &self.buffer[self.pending.clone()]))?;
                    if written == 0 {
                        return Poll::Ready(Err(ErrorKind::WriteZero.into()));
                    }
                    self.pending.start += written;
                    self.copied += written as u64;
                    self.dirty = true;
                }
                TransferState::Closing => {
                    ready!(Pin::new(&mut to).poll_close(cx))?;
                    self.state = TransferState::Ended;
                }
                TransferState::Ended => return Poll::Ready(Ok(self.copied)),
            }
        }
    }

    /// Pending, for the reader is; unless flushing fails.
    fn poll_flush<W>(&mut self, cx: &mut Context<'_>, mut to: &mut W) -> Poll<Result<u64>>
    where
        W: AsyncWrite + Unpin + ?Sized,
    {
        if self.dirty {
            ready!(Pin::new(&mut to).poll_flush(cx))?;
            self.dirty = false;
        }
        Poll::Pending
    }
}
