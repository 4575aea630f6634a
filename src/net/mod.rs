//! Sockets of TCP, UDP and the Unix domain, and [`Async`] for every other descriptor.
//!
//! A socket is registered once, for reading and writing, with the loop on which it is created or accepted, and stays
//! there for life. It is `Send` and `Sync` and may be used by tasks on any loop: its events wake whoever waits, and the
//! task that is woken tends to run where the event arrived. Every operation is tried first and waited for only if it
//! would block.
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `sock_connect` | `TcpStream::connect` | [`TcpStream::connect`], [`UnixStream::connect`] |
//! | `sock_accept` | `TcpListener` | [`TcpListener`], [`UnixListener`] |
//! | `open_connection`, `start_server` | - | [`crate::streams`], on top of these |
//! | `create_datagram_endpoint` | `UdpSocket` | [`UdpSocket`], [`UnixDatagram`]: bound, and connected if it has a remote address |
//! | `sock_sendfile` | - | [`TcpStream::sendfile`], [`UnixStream::sendfile`] |
//! | `getaddrinfo` | `lookup_host` | [`lookup_host`], [`ToSocketAddrs`] |
//! | `getnameinfo` | - | `getnameinfo`, with the feature of that name |
//! | `add_reader`, `add_writer` | `AsyncFd` | [`Async`]; also [`EventLoop::add_reader`](crate::EventLoop::add_reader) |
//!
//! How tasks share a socket: any number of them may use its `async` methods at once; of the `poll_` methods, and so of
//! [`AsyncRead`](crate::io::AsyncRead) and [`AsyncWrite`](crate::io::AsyncWrite), at most one task per direction should
//! make use at a time, since only the last one is woken. After the runtime has been shut down, waiting fails with an error.
//!
//! All descriptors are created with `CLOEXEC`. Options that have no method here can be set through socket2's `SockRef`,
//! which takes anything that is `AsFd`.
//!
//! *Invariant*: of this whole module only [`Async`] knows the engine. *Threads*: any. *Ordering*: none of its own.

#![forbid(unsafe_code)]

mod interest;

mod async_fd;

mod addr;
#[cfg(feature = "getnameinfo")]
mod name;

mod accept;
mod sendfile;
mod split;
mod transfer;

mod tcp;
mod udp;
mod unix;

/// Of sealed traits; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use super::addr::{Addresses, Resolution};
}

pub use addr::{ToSocketAddrs, lookup_host};
pub use async_fd::Async;
pub use interest::{Interest, Ready};
#[cfg(feature = "getnameinfo")]
pub use name::getnameinfo;
pub use split::{Duplex, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
pub use tcp::{ListenerPart, PerLoopListeners, TcpListener, TcpListenerBuilder, TcpStream};
pub use udp::UdpSocket;
pub use unix::{UnixDatagram, UnixListener, UnixStream};

/// What all sockets have: the way from and to std, readiness, and the descriptor.
///
/// `$example` is the code that makes a `socket` in the examples, and `$std_example` the one that makes a `std_socket`.
macro_rules! socket_methods {
    ($socket:ident, $std:ty, $std_example:literal, $example:literal) => {
        impl $socket {
            /// Takes over a socket of the standard library and registers it with the current event loop.
            ///
            /// # Errors
            ///
            /// `InvalidInput` if the socket is not in non-blocking mode, since using it would block the loop; and those
            /// of the selector.
            ///
            /// # Panics
            ///
            /// Outside of a runtime.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($socket), ";")]
            ///
            /// # epicycle::run(async {
            #[doc = $std_example]
            /// std_socket.set_nonblocking(true)?;
            #[doc = concat!("let socket = ", stringify!($socket), "::from_std(std_socket)?;")]
            /// assert!(socket.take_error()?.is_none());
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            #[track_caller]
            pub fn from_std(socket: $std) -> io::Result<Self> {
                Async::from_std(socket).map(Self::from_io)
            }

            /// Deregisters the socket and returns it as the standard library's, still in non-blocking mode.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($socket), ";")]
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// # let number = std::os::fd::AsRawFd::as_raw_fd(&socket);
            /// let std_socket = socket.into_std();
            /// std_socket.set_nonblocking(false)?; // for use without a runtime
            /// # assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&std_socket), number);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn into_std(self) -> $std {
                self.into_io().into_inner()
            }

            /// Waits until any of what is asked for can go on.
            ///
            /// What it says is true at that moment, as with `poll(2)`. Another task may be faster, though: be prepared
            /// for a `WouldBlock` from the `try_` methods.
            ///
            /// # Errors
            ///
            /// When the runtime has been shut down; and those of `poll(2)`.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::{Interest, ", stringify!($socket), "};")]
            /// use std::time::Duration;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// let ready = epicycle::time::timeout(Duration::from_millis(1), socket.ready(Interest::READABLE)).await;
            /// assert!(ready.is_err()); // nothing to be had
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            ///
            /// # Cancel safety
            ///
            /// Dropping the future loses nothing: the next wait completes.
            pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
                self.io().ready(interest).await
            }

            /// Waits until reading can go on. As [`ready`](Self::ready) with [`Interest::READABLE`].
            ///
            /// # Errors
            ///
            /// When the runtime has been shut down.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($socket), ";")]
            /// use std::time::Duration;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// assert!(epicycle::time::timeout(Duration::from_millis(1), socket.readable()).await.is_err());
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            ///
            /// # Cancel safety
            ///
            /// As [`ready`](Self::ready).
            pub async fn readable(&self) -> io::Result<()> {
                self.io().readable().await
            }

            /// Does `operation`, one that acts on the descriptor by other means, such as socket2's; once and now.
            ///
            /// If it fails with `WouldBlock`, the next wait for `interest` waits for something new.
            ///
            /// # Errors
            ///
            /// Those of the operation.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::{Interest, ", stringify!($socket), "};")]
            /// use std::io::ErrorKind;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// let blocked = || Err::<(), _>(ErrorKind::WouldBlock.into());
            /// assert!(socket.try_io(Interest::READABLE, blocked).is_err());
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn try_io<R>(&self, interest: Interest, operation: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
                self.io().try_io(interest, |_| operation())
            }

            /// Takes the error that the socket has in store (`SO_ERROR`).
            ///
            /// # Errors
            ///
            /// If there is no telling.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($socket), ";")]
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// assert!(socket.take_error()?.is_none());
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.io().get_ref().take_error()
            }
        }

        impl AsFd for $socket {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.io().get_ref().as_fd()
            }
        }

        impl AsRawFd for $socket {
            fn as_raw_fd(&self) -> RawFd {
                self.io().get_ref().as_raw_fd()
            }
        }

        impl TryFrom<$std> for $socket {
            type Error = io::Error;

            /// As `from_std`.
            fn try_from(socket: $std) -> io::Result<Self> {
                Self::from_std(socket)
            }
        }

        impl fmt::Debug for $socket {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($socket)).field(self.io().get_ref()).finish()
            }
        }
    };
}

/// What all sockets that write have.
macro_rules! writable_method {
    ($socket:ident, $example:literal) => {
        impl $socket {
            /// Waits until writing can go on. As [`ready`](Self::ready) with [`Interest::WRITABLE`].
            ///
            /// # Errors
            ///
            /// When the runtime has been shut down.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($socket), ";")]
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// socket.writable().await?; // at once: nothing has been written
            /// assert!(socket.ready(epicycle::net::Interest::WRITABLE).await?.is_writable());
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            ///
            /// # Cancel safety
            ///
            /// As [`ready`](Self::ready).
            pub async fn writable(&self) -> io::Result<()> {
                self.io().writable().await
            }
        }
    };
}

/// Reading and writing of a stream, and its halves. The stream has an `io: Async<_>`; `$read_some` is the method of that
/// to read with.
macro_rules! stream_methods {
    ($stream:ident, $std:ty, $read_some:ident, $example:literal) => {
        impl $stream {
            /// Reads what there is, now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is nothing; those of reading.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use std::io::ErrorKind;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// let mut buf = [0; 8];
            /// assert_eq!(socket.try_read(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
            /// peer.try_write(b"hi")?;
            /// socket.readable().await?;
            /// assert_eq!(socket.try_read(&mut buf)?, 2);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.io.try_io(Interest::READABLE, |io| transfer::read(io, buf))
            }

            /// Reads what there is, now, into several buffers.
            ///
            /// # Errors
            ///
            /// As [`try_read`](Self::try_read).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use std::io::IoSliceMut;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// peer.try_write(b"hi")?;
            /// socket.readable().await?;
            /// let (mut a, mut b) = ([0; 1], [0; 8]);
            /// let bufs = &mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
            /// assert_eq!(socket.try_read_vectored(bufs)?, 2);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn try_read_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
                self.io.try_io(Interest::READABLE, |io| transfer::read_vectored(io, bufs))
            }

            /// Writes what there is room for, now.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if there is no room; those of writing.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// assert_eq!(socket.try_write(b"hi")?, 2);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
                self.io.try_io(Interest::WRITABLE, |io| transfer::write(io, buf))
            }

            /// Writes what there is room for, now, from several buffers.
            ///
            /// # Errors
            ///
            /// As [`try_write`](Self::try_write).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use std::io::IoSlice;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// let bufs = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
            /// assert_eq!(socket.try_write_vectored(&bufs)?, 12);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn try_write_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
                self.io.try_io(Interest::WRITABLE, |io| transfer::write_vectored(io, bufs))
            }

            /// Sends `count` bytes of `file` from `offset` on, or all to its end. Returns how many that were: fewer than `count`
            /// if the file ends before.
            ///
            /// The kernel moves them itself (`sendfile`) where it does so, on Linux for regular files; else they are read on the
            /// executor and written. The file's own position is neither used nor moved. What is not in the system's cache is
            /// read from the disk meanwhile, which keeps this loop waiting as long as a read would.
            ///
            /// Of a [`StreamWriter`](crate::streams::StreamWriter) flush what is buffered first, then use its
            /// [`socket`](crate::streams::StreamWriter::socket).
            ///
            /// Counterpart: asyncio's `loop.sock_sendfile` and `loop.sendfile`, with their fallback.
            ///
            /// # Errors
            ///
            /// Those of reading, and of writing to a socket.
            ///
            /// # Panics
            ///
            /// Outside of a runtime, where the kernel does not do it.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use std::fs::File;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// let file = File::open("Cargo.toml")?;
            /// assert_eq!(socket.sendfile(&file, 1, Some(7)).await?, 7);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            ///
            /// # Cancel safety
            ///
            /// Not cancel safe: if the future is dropped, how much was sent is not known.
            pub async fn sendfile(&self, file: &std::fs::File, offset: u64, count: Option<u64>) -> io::Result<u64> {
                crate::net::sendfile::sendfile(&self.io, file, offset, count).await
            }

            /// Ends one direction, or both. After writing has been ended, the peer reads to the end. asyncio's
            /// `write_eof` is `Shutdown::Write`.
            ///
            /// [`close`](crate::io::AsyncWriteExt::close) is the same as ending writing.
            ///
            /// # Errors
            ///
            /// `NotConnected` if the connection has ended already.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use std::net::Shutdown;
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// socket.shutdown(Shutdown::Write)?;
            /// peer.readable().await?;
            /// assert_eq!(peer.try_read(&mut [0; 8])?, 0);
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
                self.io.get_ref().shutdown(how)
            }

            /// A half for reading and one for writing, for as long as the stream is borrowed.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// # let mut socket = socket;
            /// let (mut reader, mut writer) = socket.split();
            /// writer.write_all(b"ping").await?;
            /// peer.try_write(b"pong")?;
            /// let mut buf = [0; 4];
            /// reader.read_exact(&mut buf).await?;
            /// assert_eq!(&buf, b"pong");
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn split(&mut self) -> (ReadHalf<'_, Self>, WriteHalf<'_, Self>) {
                split::split(self)
            }

            /// A half for reading and one for writing that can go to different tasks.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("use epicycle::net::", stringify!($stream), ";")]
            /// use epicycle::io::{AsyncReadExt, AsyncWriteExt};
            ///
            /// # epicycle::run(async {
            #[doc = $example]
            /// let (mut reader, mut writer) = socket.into_split();
            /// let task = epicycle::spawn(async move { writer.write_all(b"ping").await });
            /// peer.readable().await?;
            /// assert_eq!(peer.try_read(&mut [0; 8])?, 4);
            /// peer.try_write(b"pong")?;
            /// let mut buf = [0; 4];
            /// reader.read_exact(&mut buf).await?;
            /// assert_eq!(&buf, b"pong");
            /// task.await.unwrap()?;
            /// # Ok::<(), std::io::Error>(())
            /// # }).unwrap();
            /// ```
            pub fn into_split(self) -> (OwnedReadHalf<Self>, OwnedWriteHalf<Self>) {
                split::into_split(self)
            }

            fn from_io(io: Async<$std>) -> Self {
                Self { io }
            }

            fn io(&self) -> &Async<$std> {
                &self.io
            }

            fn into_io(self) -> Async<$std> {
                self.io
            }
        }

        impl split::sealed::Duplex for $stream {
            fn poll_read(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                let wanted = buf.len();
                self.io.$read_some(cx, wanted, |io| transfer::read(io, buf))
            }

            fn poll_read_vectored(&self, cx: &mut Context<'_>, bufs: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
                let wanted = transfer::at_once(bufs.iter().map(|buf| buf.len()));
                self.io.$read_some(cx, wanted, |io| transfer::read_vectored(io, bufs))
            }

            fn poll_write(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.io.poll_write_some(cx, buf.len(), |io| transfer::write(io, buf))
            }

            fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
                let wanted = transfer::at_once(bufs.iter().map(|buf| buf.len()));
                self.io.poll_write_some(cx, wanted, |io| transfer::write_vectored(io, bufs))
            }

            fn end_writing(&self) -> io::Result<()> {
                match self.shutdown(Shutdown::Write) {
                    Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                    result => result,
                }
            }
        }

        impl AsyncRead for $stream {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_read(&*self, cx, buf)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_read_vectored(&*self, cx, bufs)
            }
        }

        impl AsyncRead for &$stream {
            fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_read(*self, cx, buf)
            }

            fn poll_read_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &mut [IoSliceMut<'_>],
            ) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_read_vectored(*self, cx, bufs)
            }
        }

        impl AsyncWrite for $stream {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_write(&*self, cx, buf)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_write_vectored(&*self, cx, bufs)
            }

            /// Nothing is buffered on this side of the kernel.
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Shuts down writing: the peer reads to the end.
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(split::sealed::Duplex::end_writing(&*self))
            }
        }

        impl AsyncWrite for &$stream {
            fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_write(*self, cx, buf)
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                split::sealed::Duplex::poll_write_vectored(*self, cx, bufs)
            }

            /// Nothing is buffered on this side of the kernel.
            fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Ok(()))
            }

            /// Shuts down writing: the peer reads to the end.
            fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(split::sealed::Duplex::end_writing(*self))
            }
        }
    };
}

use {socket_methods, stream_methods, writable_method};
