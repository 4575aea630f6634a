//! [`Async`]: any descriptor, made awaitable. All sockets of [`crate::net`] are built on it.
//!
//! *Invariant*: the descriptor that was registered is the one that is deregistered, before the value that owns it is
//! dropped, and the value cannot be exchanged in between: no `&mut T` is ever given out. *Threads*: any.
//! *Ordering*: none of its own; see [`crate::event_loop`] for that of readiness.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::{Interest, Ready};
use crate::event_loop::{Direction, Registration, poll_proceed};
use crate::scheduler;

/// A descriptor registered with an event loop, so that tasks can wait until it is readable or writable.
///
/// For what the standard library or another crate opens and [`crate::net`] has no type for: pipes, eventfds, inotify,
/// character devices, raw sockets, the sockets of C libraries. It works with all that the operating system's selector
/// takes; on Linux that excludes regular files and directories.
///
/// It is registered once, for reading and writing, with the loop on which it is created, and stays there. Any number of
/// tasks on any loops may wait for it. Dropping it deregisters the descriptor first and then drops the value.
///
/// The counterpart of `tokio::io::unix::AsyncFd` and of async-io's `Async`. asyncio has `loop.add_reader`, which is here,
/// too: [`EventLoop::add_reader`](crate::EventLoop::add_reader).
///
/// # Examples
///
/// ```
/// use epicycle::io::AsyncReadExt;
/// use epicycle::net::Async;
/// use std::io::Write;
///
/// # epicycle::run(async {
/// let (reader, mut writer) = std::io::pipe()?;
/// let mut reader = Async::new(reader)?;
/// writer.write_all(b"hi")?;
/// let mut buf = [0; 2];
/// reader.read_exact(&mut buf).await?;
/// assert_eq!(&buf, b"hi");
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub struct Async<T: AsFd> {
    // Dropped in this order: the registration must go before the descriptor is closed.
    registration: Registration,
    io: T,
}

impl<T: AsFd> Async<T> {
    /// Puts the descriptor into non-blocking mode and registers it with the current event loop.
    ///
    /// The mode belongs to the open file, not to the descriptor: with a terminal or a pipe inherited from another
    /// process, that process sees it, too. Use [`new_nonblocking`](Self::new_nonblocking) to leave it alone.
    ///
    /// # Errors
    ///
    /// Those of `fcntl`, and of the selector if it does not take such descriptors.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::io::AsyncReadExt;
    /// use epicycle::net::Async;
    ///
    /// # epicycle::run(async {
    /// let (reader, writer) = std::io::pipe()?;
    /// let mut reader = Async::new(reader)?;
    /// drop(writer);
    /// assert_eq!(reader.read(&mut [0; 8]).await?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn new(io: T) -> io::Result<Self> {
        let flags = fcntl_getfl(&io)?;
        if !flags.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&io, flags | OFlags::NONBLOCK)?;
        }
        Self::new_nonblocking(io)
    }

    /// Registers the descriptor with the current event loop, in whatever mode it is.
    ///
    /// If it is in blocking mode, reading from it may block the loop; waiting for it never does.
    ///
    /// # Errors
    ///
    /// Those of the selector if it does not take such descriptors.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::os::unix::net::UnixStream;
    ///
    /// # epicycle::run(async {
    /// let (stream, peer) = UnixStream::pair()?;
    /// let stream = Async::new_nonblocking(stream)?;
    /// drop(peer);
    /// stream.readable().await?; // the end has come
    /// assert_eq!(std::io::Read::read(&mut stream.get_ref(), &mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn new_nonblocking(io: T) -> io::Result<Self> {
        let registration = Registration::new(scheduler::home(), io.as_fd())?;
        Ok(Self { registration, io })
    }

    /// Registers what is in non-blocking mode, and refuses what is not: it may be shared with code that relies on it.
    #[track_caller]
    pub(crate) fn from_std(io: T) -> io::Result<Self> {
        if !fcntl_getfl(&io)?.contains(OFlags::NONBLOCK) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket must be in non-blocking mode: call set_nonblocking(true) on it first",
            ));
        }
        Self::new_nonblocking(io)
    }

    /// The value. What it does to the descriptor itself, such as setting an option, is fine; closing it is not.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::{io::Read, os::unix::net::UnixStream};
    ///
    /// # epicycle::run(async {
    /// let (stream, mut peer) = UnixStream::pair()?;
    /// let stream = Async::new(stream)?;
    /// stream.get_ref().shutdown(std::net::Shutdown::Write)?;
    /// assert_eq!(peer.read(&mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.io
    }

    /// Deregisters the descriptor and returns the value, still in non-blocking mode.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::io::{ErrorKind, PipeReader, Read};
    ///
    /// # epicycle::run(async {
    /// let (reader, _writer) = std::io::pipe()?;
    /// let mut reader: PipeReader = Async::new(reader)?.into_inner();
    /// assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn into_inner(self) -> T {
        let Self { registration, io } = self;
        drop(registration);
        io
    }

    /// Waits until reading can go on: there is data, or an end, or an error.
    ///
    /// What it says is true at that moment, as with `poll(2)`: it does not depend on what was or was not read before.
    /// If several tasks wait, all of them are woken, and the first one to read may leave nothing to the others.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::io::{Read, Write};
    ///
    /// # epicycle::run(async {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let reader = Async::new(reader)?;
    /// writer.write_all(b"hi")?;
    /// reader.readable().await?;
    /// assert_eq!(reader.get_ref().read(&mut [0; 8])?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing: the next wait completes.
    pub async fn readable(&self) -> io::Result<()> {
        self.wait(Direction::Read).await
    }

    /// Waits until writing can go on, or an error is to be had from trying.
    ///
    /// See [`readable`](Self::readable) for the rest.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::io::Write;
    ///
    /// # epicycle::run(async {
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = Async::new(writer)?;
    /// writer.writable().await?;
    /// assert_eq!(writer.get_ref().write(b"hi")?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`readable`](Self::readable).
    pub async fn writable(&self) -> io::Result<()> {
        self.wait(Direction::Write).await
    }

    /// Waits until any of what is asked for can go on.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{Async, Interest};
    ///
    /// # epicycle::run(async {
    /// let (_reader, writer) = std::io::pipe()?;
    /// assert!(Async::new(writer)?.ready(Interest::WRITABLE).await?.is_writable());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`readable`](Self::readable).
    pub async fn ready(&self, interest: Interest) -> io::Result<Ready> {
        match (interest.is_readable(), interest.is_writable()) {
            (true, false) => self.wait(Direction::Read).await.map(|()| Ready { read: true, write: false }),
            (false, _) => self.wait(Direction::Write).await.map(|()| Ready { read: false, write: true }),
            (true, true) => self.wait_for_any().await,
        }
    }

    async fn wait(&self, direction: Direction) -> io::Result<()> {
        loop {
            let event = self.registration.ready(direction).await?;
            if self.is_ready(direction)? {
                poll_fn(poll_proceed).await;
                return Ok(());
            }
            self.registration.clear(event);
        }
    }

    async fn wait_for_any(&self) -> io::Result<Ready> {
        let mut read = pin!(self.wait(Direction::Read));
        let mut write = pin!(self.wait(Direction::Write));
        poll_fn(|cx| {
            let read = read.as_mut().poll(cx)?.is_ready();
            let write = write.as_mut().poll(cx)?.is_ready();
            if read || write { Poll::Ready(Ok(Ready { read, write })) } else { Poll::Pending }
        })
        .await
    }

    /// The truth, from the kernel. What the registration knows is that nothing has been found to block since the last
    /// event; for a descriptor that nobody has tried, or that is used behind our back, that says little.
    fn is_ready(&self, direction: Direction) -> io::Result<bool> {
        let wanted = match direction {
            Direction::Read => PollFlags::IN,
            Direction::Write => PollFlags::OUT,
        };
        let mut polled = [PollFd::new(&self.io, wanted)];
        loop {
            match poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                // Errors and hang-ups are reported without being asked for.
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Tries `operation` once, now. If it fails with `WouldBlock`, the next wait for `interest` waits for something new.
    ///
    /// # Errors
    ///
    /// Those of the operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{Async, Interest};
    /// use std::io::{ErrorKind, Read};
    ///
    /// # epicycle::run(async {
    /// let (reader, _writer) = std::io::pipe()?;
    /// let reader = Async::new(reader)?;
    /// let error = reader.try_io(Interest::READABLE, |mut reader| reader.read(&mut [0; 8])).unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::WouldBlock);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn try_io<R>(&self, interest: Interest, operation: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        let operation = || operation(&self.io);
        match (interest.is_readable(), interest.is_writable()) {
            (true, false) => self.registration.try_io(Direction::Read, operation),
            (false, _) => self.registration.try_io(Direction::Write, operation),
            (true, true) => {
                self.registration.try_io(Direction::Read, || self.registration.try_io(Direction::Write, operation))
            }
        }
    }

    /// Does `operation` as soon as it does not fail with `WouldBlock`: tries at once, then whenever there is something to
    /// read. Any number of tasks may do so.
    ///
    /// # Errors
    ///
    /// Those of the operation, other than `WouldBlock`; and when the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::net::UdpSocket;
    ///
    /// # epicycle::run(async {
    /// let socket = Async::new(UdpSocket::bind("127.0.0.1:0")?)?;
    /// socket.get_ref().send_to(b"hi", socket.get_ref().local_addr()?)?;
    /// let mut buf = [0; 8];
    /// assert_eq!(socket.read_with(|socket| socket.recv(&mut buf)).await?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropped before it completes, the operation has not been done.
    pub async fn read_with<R>(&self, mut operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.registration.io(Direction::Read, || operation(&self.io)).await
    }

    /// Does `operation` as soon as it does not fail with `WouldBlock`: tries at once, then whenever there is room to
    /// write. Any number of tasks may do so.
    ///
    /// # Errors
    ///
    /// As [`read_with`](Self::read_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::io::Write;
    ///
    /// # epicycle::run(async {
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = Async::new(writer)?;
    /// assert_eq!(writer.write_with(|mut writer| writer.write(b"hi")).await?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`read_with`](Self::read_with).
    pub async fn write_with<R>(&self, mut operation: impl FnMut(&T) -> io::Result<R>) -> io::Result<R> {
        self.registration.io(Direction::Write, || operation(&self.io)).await
    }

    /// [`readable`](Self::readable) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::{future::poll_fn, io::Read};
    ///
    /// # epicycle::run(async {
    /// let (reader, writer) = std::io::pipe()?;
    /// let reader = Async::new(reader)?;
    /// drop(writer);
    /// poll_fn(|cx| reader.poll_readable(cx)).await?;
    /// assert_eq!(reader.get_ref().read(&mut [0; 8])?, 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_wait(cx, Direction::Read)
    }

    /// [`writable`](Self::writable) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// When the runtime has been shut down.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::{future::poll_fn, io::Write};
    ///
    /// # epicycle::run(async {
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = Async::new(writer)?;
    /// poll_fn(|cx| writer.poll_writable(cx)).await?;
    /// assert_eq!(writer.get_ref().write(b"hi")?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_wait(cx, Direction::Write)
    }

    fn poll_wait(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<()>> {
        loop {
            let event = ready!(self.registration.poll_ready(cx, direction))?;
            if self.is_ready(direction)? {
                return poll_proceed(cx).map(Ok);
            }
            self.registration.clear(event);
        }
    }

    /// [`read_with`](Self::read_with) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`read_with`](Self::read_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::{future::poll_fn, io::{Read, Write}};
    ///
    /// # epicycle::run(async {
    /// let (reader, mut writer) = std::io::pipe()?;
    /// let reader = Async::new(reader)?;
    /// writer.write_all(b"hi")?;
    /// let mut buf = [0; 8];
    /// assert_eq!(poll_fn(|cx| reader.poll_read_with(cx, |mut reader| reader.read(&mut buf))).await?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_read_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.registration.poll_io(cx, Direction::Read, || operation(&self.io))
    }

    /// [`write_with`](Self::write_with) for use inside of a `poll` function. Of several tasks only the last one is woken.
    ///
    /// # Errors
    ///
    /// As [`read_with`](Self::read_with).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Async;
    /// use std::{future::poll_fn, io::Write};
    ///
    /// # epicycle::run(async {
    /// let (_reader, writer) = std::io::pipe()?;
    /// let writer = Async::new(writer)?;
    /// assert_eq!(poll_fn(|cx| writer.poll_write_with(cx, |mut writer| writer.write(b"hi"))).await?, 2);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn poll_write_with<R>(
        &self,
        cx: &mut Context<'_>,
        mut operation: impl FnMut(&T) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        self.registration.poll_io(cx, Direction::Write, || operation(&self.io))
    }

    /// `poll_read_with` of up to `wanted` bytes from a stream, where less means that there is no more for now.
    #[inline]
    pub(super) fn poll_read_some(
        &self,
        cx: &mut Context<'_>,
        wanted: usize,
        mut operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.registration.poll_transfer(cx, Direction::Read, wanted, || operation(&self.io))
    }

    /// The same from a stream where less means nothing.
    pub(super) fn poll_read_any(
        &self,
        cx: &mut Context<'_>,
        _wanted: usize,
        operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, operation)
    }

    /// `poll_write_with` of up to `wanted` bytes to a stream, where less means that there is no more room for now.
    #[inline]
    pub(super) fn poll_write_some(
        &self,
        cx: &mut Context<'_>,
        wanted: usize,
        mut operation: impl FnMut(&T) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        self.registration.poll_transfer(cx, Direction::Write, wanted, || operation(&self.io))
    }
}

impl<T: AsFd> AsFd for Async<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }
}

impl<T: AsFd + AsRawFd> AsRawFd for Async<T> {
    fn as_raw_fd(&self) -> RawFd {
        self.io.as_raw_fd()
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Async<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Async").field(&self.io).finish()
    }
}

// A value whose shared reference can be read from is read from through that; there is no other way to reach it.

impl<T: AsFd> AsyncRead for Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read(cx, buf)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_read_vectored(cx, bufs)
    }
}

impl<T: AsFd> AsyncRead for &Async<T>
where
    for<'a> &'a T: Read,
{
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |mut io| io.read(buf))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_read_with(cx, |mut io| io.read_vectored(bufs))
    }
}

impl<T: AsFd> AsyncWrite for Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut &*self).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut &*self).poll_close(cx)
    }
}

impl<T: AsFd> AsyncWrite for &Async<T>
where
    for<'a> &'a T: Write,
{
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut io| io.write(buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, |mut io| io.write_vectored(bufs))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_with(cx, |mut io| io.flush())
    }

    /// Flushes. What closing means beyond that, only the value knows; the sockets of this crate shut down writing.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
