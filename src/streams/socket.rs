//! [`Socket`]: what a pair of reader and writer has below it.
//!
//! *Invariant*: all methods take `&self`; a socket keeps its two directions apart by itself. *Threads*: any.
//! *Ordering*: none of its own; see [`crate::net`].

use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};

use crate::net::{TcpStream, UnixStream};

/// A socket that can become a pair of reader and writer, and come back from it: see [`split`](super::split). asyncio's
/// `sock` argument, and its `get_extra_info("socket")`.
///
/// # Examples
///
/// ```
/// use epicycle::io::AsyncWriteExt;
/// use epicycle::net::UnixStream;
/// use epicycle::streams::{self, Socket};
///
/// # epicycle::run(async {
/// let (ours, theirs) = UnixStream::pair()?;
/// let mut socket = Socket::from(ours);
/// socket.write_all(b"hello\n").await?; // by itself, it is written to as any socket
/// let (mut reader, _writer) = streams::split(theirs);
/// assert_eq!(reader.readline().await?, b"hello\n");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Socket {
    /// A TCP connection.
    Tcp(TcpStream),
    /// A connection within the machine.
    Unix(UnixStream),
}

macro_rules! each {
    ($socket:expr, $stream:ident => $result:expr) => {
        match $socket {
            Socket::Tcp($stream) => $result,
            Socket::Unix($stream) => $result,
        }
    };
}

impl Socket {
    pub(super) fn try_write(&self, data: &[u8]) -> io::Result<usize> {
        each!(self, stream => stream.try_write(data))
    }

    pub(super) fn try_write_vectored(&self, data: &[IoSlice<'_>]) -> io::Result<usize> {
        each!(self, stream => stream.try_write_vectored(data))
    }

    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(&mut &*stream).poll_read(cx, buf))
    }

    pub(super) fn poll_write(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(&mut &*stream).poll_write(cx, data))
    }

    /// Fails only if the connection has ended by itself, which is what was wanted.
    pub(super) fn end(&self, how: Shutdown) {
        let _ = each!(self, stream => stream.shutdown(how));
    }

    /// Ends the connection in such a way that the peer does not take it for the end of the data, where that can be said.
    pub(super) fn abort(&self) {
        if let Self::Tcp(stream) = self {
            // For the moment in which the descriptor is closed, should it not be possible now.
            let _ = stream.set_linger(Some(Duration::ZERO));
            // "Dissolves the association": a reset is sent, and whoever waits is woken.
            #[cfg(target_os = "linux")]
            if rustix::net::connect_unspec(stream).is_ok() {
                return;
            }
        }
        self.end(Shutdown::Both);
    }

    /// As asyncio does, so that a small write does not wait for the answer to the one before it.
    pub(super) fn without_delay(self) -> Self {
        if let Self::Tcp(stream) = &self {
            // Fails if the connection has ended already; reading will tell.
            let _ = stream.set_nodelay(true);
        }
        self
    }
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        each!(self, stream => stream.as_fd())
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Socket::poll_read(&self, cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&*self, stream => Pin::new(&mut &*stream).poll_read_vectored(cx, bufs))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Socket::poll_write(&self, cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(&*self, stream => Pin::new(&mut &*stream).poll_write_vectored(cx, bufs))
    }

    /// Nothing is buffered on this side of the kernel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Shuts down writing: the peer reads to the end.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(&*self, stream => Pin::new(&mut &*stream).poll_close(cx))
    }
}
