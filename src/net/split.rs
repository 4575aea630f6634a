//! The two directions of a stream as two values, so that two tasks can have one each.
//!
//! *Invariant*: a stream keeps its two directions apart by itself (each has its own readiness and waiters), so halves
//! need no lock: they are references with fewer methods. *Threads*: any. *Ordering*: the `Arc`'s.

use std::error::Error;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::TcpStream;

/// A stream that can be split: [`TcpStream`] or [`UnixStream`](super::UnixStream).
///
/// # Examples
///
/// ```
/// use epicycle::net::{Duplex, OwnedReadHalf, OwnedWriteHalf, UnixStream};
///
/// fn rejoin<S: Duplex>((reader, writer): (OwnedReadHalf<S>, OwnedWriteHalf<S>)) -> Option<S> {
///     reader.reunite(writer).ok()
/// }
///
/// # epicycle::run(async {
/// let (stream, _peer) = UnixStream::pair()?;
/// assert!(rejoin(stream.into_split()).is_some());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub trait Duplex: sealed::Duplex {}

impl<S: sealed::Duplex> Duplex for S {}

pub(super) mod sealed {
    use super::*;

    #[expect(unnameable_types, reason = "sealed")]
    pub trait Duplex: Sized {
        fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
        fn poll_read_vectored(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>;
        fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;
        fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;
        /// Shuts down writing; done already, or not connected any more, is fine.
        fn end_writing(&self) -> io::Result<()>;
    }
}

/// The reading half of a borrowed stream: [`TcpStream::split`], [`UnixStream::split`](super::UnixStream::split).
///
/// Tokio's `ReadHalf`.
///
/// # Examples
///
/// ```
/// use epicycle::io::AsyncReadExt;
/// use epicycle::net::{ReadHalf, UnixStream};
///
/// # epicycle::run(async {
/// let (mut stream, peer) = UnixStream::pair()?;
/// let (mut reader, _): (ReadHalf<'_, UnixStream>, _) = stream.split();
/// peer.try_write(b"ping")?;
/// let mut word = [0; 4];
/// reader.read_exact(&mut word).await?;
/// assert_eq!(&word, b"ping");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct ReadHalf<'a, S: Duplex = TcpStream>(&'a S);

/// The writing half of a borrowed stream: [`TcpStream::split`], [`UnixStream::split`](super::UnixStream::split).
///
/// Closing it shuts down writing; dropping it does not, for the stream is still there.
///
/// Tokio's `WriteHalf`.
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::{UnixStream, WriteHalf};
///
/// # epicycle::run(async {
/// let (mut stream, mut peer) = UnixStream::pair()?;
/// let (_, mut writer): (_, WriteHalf<'_, UnixStream>) = stream.split();
/// writer.write_all(b"bye").await?;
/// writer.close().await?;
/// let mut text = String::new();
/// peer.read_to_string(&mut text).await?;
/// assert_eq!(text, "bye");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct WriteHalf<'a, S: Duplex = TcpStream>(&'a S);

pub(super) fn split<S: Duplex>(stream: &mut S) -> (ReadHalf<'_, S>, WriteHalf<'_, S>) {
    (ReadHalf(stream), WriteHalf(stream))
}

/// The reading half of a stream: [`TcpStream::into_split`], [`UnixStream::into_split`](super::UnixStream::into_split).
///
/// Its [`AsRef`] gives the whole stream, for its addresses, options and `try_` methods.
///
/// Tokio's `OwnedReadHalf`.
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::UnixStream;
///
/// # epicycle::run(async {
/// let (a, b) = UnixStream::pair()?;
/// let (mut reader, mut writer) = a.into_split();
/// let echo = epicycle::spawn(async move {
///     let (mut reader, mut writer) = b.into_split();
///     epicycle::io::copy(&mut reader, &mut writer).await
/// });
///
/// writer.write_all(b"hello").await?;
/// drop(writer); // shuts down writing, so that the copying ends
/// let mut text = String::new();
/// reader.read_to_string(&mut text).await?;
/// assert_eq!(text, "hello");
/// assert_eq!(echo.await.unwrap()?, 5);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct OwnedReadHalf<S: Duplex = TcpStream> {
    stream: Arc<S>,
}

/// The writing half of a stream: [`TcpStream::into_split`], [`UnixStream::into_split`](super::UnixStream::into_split).
///
/// Dropping it shuts down writing, so that the peer reads to the end. [`forget`](Self::forget) drops it without.
///
/// Tokio's `OwnedWriteHalf`.
///
/// # Examples
///
/// ```
/// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::UnixStream;
///
/// # epicycle::run(async {
/// let (stream, mut peer) = UnixStream::pair()?;
/// let (_reader, mut writer) = stream.into_split();
/// let task = epicycle::spawn(async move { writer.write_all(b"bye").await }); // and drops it
/// let mut text = String::new();
/// peer.read_to_string(&mut text).await?;
/// assert_eq!(text, "bye");
/// task.await.unwrap()?;
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct OwnedWriteHalf<S: Duplex = TcpStream> {
    stream: Arc<S>,
    ends_writing: bool,
}

pub(super) fn into_split<S: Duplex>(stream: S) -> (OwnedReadHalf<S>, OwnedWriteHalf<S>) {
    let stream = Arc::new(stream);
    (OwnedReadHalf { stream: stream.clone() }, OwnedWriteHalf { stream, ends_writing: true })
}

impl<S: Duplex> OwnedReadHalf<S> {
    /// Puts the halves together again.
    ///
    /// # Errors
    ///
    /// If `other` is a half of another stream; both are in the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixStream;
    ///
    /// # epicycle::run(async {
    /// let (a, b) = UnixStream::pair()?;
    /// let ((read_a, write_a), (read_b, write_b)) = (a.into_split(), b.into_split());
    /// let mismatch = read_a.reunite(write_b).unwrap_err();
    /// let stream: UnixStream = mismatch.0.reunite(write_a).unwrap();
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn reunite(self, other: OwnedWriteHalf<S>) -> Result<S, ReuniteError<S>> {
        if !Arc::ptr_eq(&self.stream, &other.stream) {
            return Err(ReuniteError(self, other));
        }
        other.forget();
        Ok(Arc::into_inner(self.stream).expect("only two halves exist"))
    }
}

impl<S: Duplex> OwnedWriteHalf<S> {
    /// Puts the halves together again. As [`OwnedReadHalf::reunite`].
    ///
    /// # Errors
    ///
    /// If `other` is a half of another stream; both are in the error.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::UnixStream;
    ///
    /// # epicycle::run(async {
    /// let (stream, _peer) = UnixStream::pair()?;
    /// let (reader, writer) = stream.into_split();
    /// let stream: UnixStream = writer.reunite(reader).unwrap();
    /// assert_eq!(stream.try_write(b"whole")?, 5);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn reunite(self, other: OwnedReadHalf<S>) -> Result<S, ReuniteError<S>> {
        other.reunite(self)
    }

    /// Drops this half without shutting down writing.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::io::AsyncReadExt;
    /// use epicycle::net::UnixStream;
    /// use std::time::Duration;
    ///
    /// # epicycle::run(async {
    /// let (a, mut b) = UnixStream::pair()?;
    /// let (_reader, writer) = a.into_split();
    /// writer.forget();
    /// let end = epicycle::time::timeout(Duration::from_millis(5), b.read(&mut [0])).await;
    /// assert!(end.is_err());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn forget(mut self) {
        self.ends_writing = false;
    }
}

impl<S: Duplex> Drop for OwnedWriteHalf<S> {
    fn drop(&mut self) {
        if self.ends_writing {
            // The only failure is that the connection is gone, which is what was wanted.
            let _ = self.stream.end_writing();
        }
    }
}

/// [`reunite`](OwnedReadHalf::reunite) was given halves of two streams. Here they are back. Tokio's `ReuniteError`.
///
/// # Examples
///
/// ```
/// use epicycle::net::{ReuniteError, UnixStream};
///
/// # epicycle::run(async {
/// let (a, b) = UnixStream::pair()?;
/// let ((reader, writer), (_, stranger)) = (a.into_split(), b.into_split());
/// let error = reader.reunite(stranger).unwrap_err();
/// assert_eq!(error.to_string(), "tried to reunite halves of different streams");
/// let ReuniteError(reader, _stranger) = error;
/// assert!(reader.reunite(writer).is_ok());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct ReuniteError<S: Duplex = TcpStream>(pub OwnedReadHalf<S>, pub OwnedWriteHalf<S>);

impl<S: Duplex> fmt::Display for ReuniteError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tried to reunite halves of different streams")
    }
}

impl<S: Duplex + fmt::Debug> Error for ReuniteError<S> {}

impl<S: Duplex> AsRef<S> for ReadHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S: Duplex> AsRef<S> for WriteHalf<'_, S> {
    fn as_ref(&self) -> &S {
        self.0
    }
}

impl<S: Duplex> AsRef<S> for OwnedReadHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: Duplex> AsRef<S> for OwnedWriteHalf<S> {
    fn as_ref(&self) -> &S {
        &self.stream
    }
}

macro_rules! impl_read_half {
    ($half:ty) => {
        impl<S: Duplex> AsyncRead for $half {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                AsRef::<S>::as_ref(&*self).poll_read(cx, buf)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                AsRef::<S>::as_ref(&*self).poll_read_vectored(cx, bufs)
            }
        }
    };
}

macro_rules! impl_write_half {
    ($half:ty) => {
        impl<S: Duplex> AsyncWrite for $half {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                AsRef::<S>::as_ref(&*self).poll_write(cx, buf)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                AsRef::<S>::as_ref(&*self).poll_write_vectored(cx, bufs)
            }

            /// Nothing is buffered on this side of the kernel.
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Shuts down writing: the peer reads to the end.
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(AsRef::<S>::as_ref(&*self).end_writing())
            }
        }
    };
}

impl_read_half!(ReadHalf<'_, S>);
impl_read_half!(OwnedReadHalf<S>);
impl_write_half!(WriteHalf<'_, S>);
impl_write_half!(OwnedWriteHalf<S>);
