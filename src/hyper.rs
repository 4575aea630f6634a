//! hyper on epicycle: adapters for the traits of `hyper::rt`. Needs the feature `hyper`.
//!
//! | hyper asks for | hand it |
//! |---|---|
//! | [`hyper::rt::Read`] + [`hyper::rt::Write`], a connection | [`HyperIo::new(stream)`](HyperIo::new) |
//! | [`hyper::rt::Executor`], for HTTP/2's streams | [`HyperExecutor`] |
//! | [`hyper::rt::Timer`], for time limits and keep-alive pings | [`HyperTimer`] |
//!
//! [`hyper::rt::Sleep`] is implemented by [`epicycle::time::Sleep`](crate::time::Sleep) itself.
//!
//! # Example
//!
//! A server for HTTP/1. `examples/http_server.rs` is a whole one, with HTTP/2, time limits and an orderly end.
//!
//! ```no_run
//! use std::convert::Infallible;
//!
//! use epicycle::hyper::{HyperIo, HyperTimer};
//! use epicycle::net::TcpListener;
//! use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
//!
//! async fn answer(_: Request<Incoming>) -> Result<Response<String>, Infallible> {
//!     Ok(Response::new("hello\n".into()))
//! }
//!
//! async fn serve() -> std::io::Result<()> {
//!     let listener = TcpListener::bind("127.0.0.1:8080").await?;
//!     loop {
//!         let (stream, _) = listener.accept().await?;
//!         let io = HyperIo::new(stream);
//!         epicycle::spawn(http1::Builder::new().timer(HyperTimer).serve_connection(io, service_fn(answer)));
//!     }
//! }
//!
//! # fn start() -> std::io::Result<()> {
//! epicycle::run(serve())
//! # }
//! ```
//!
//! *Invariant*: an adapter holds the thing it adapts and nothing else of consequence; all behaviour is that of the thing.
//! *Threads*: as hyper moves a connection from loop to loop, so go its adapters; they belong to no thread.
//! *Ordering*: owner-only, none.

#![forbid(unsafe_code)]

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_io::{AsyncRead, AsyncWrite};
use hyper::rt::{Executor, Read, ReadBufCursor, Sleep, Timer, Write};
use pin_project_lite::pin_project;

/// Bytes per read from a connection that talks in requests.
const SMALL_READ: usize = 1024;
/// Bytes per read from a connection that has just filled a smaller buffer: an upload, most likely.
const LARGE_READ: usize = 16 * 1024;

pin_project! {
    /// A byte stream (futures-io's traits) in the clothes that hyper wants ([`hyper::rt::Read`] and [`hyper::rt::Write`]).
    ///
    /// Works for every stream of [`epicycle::net`](crate::net), for `Async<T>`, and for what others build on them, such
    /// as TLS.
    ///
    /// Tokio's counterpart is `hyper_util::rt::TokioIo`; asyncio has none.
    ///
    /// # Cost
    ///
    /// A read goes through a buffer on the stack and is copied from there into hyper's. hyper's own buffer may hold
    /// uninitialised memory, and the calls that advance a cursor over what was read in place are `unsafe`, which this
    /// crate does not use outside its task cell. The buffer is 1 KiB while the peer sends less than that at a time, and
    /// 16 KiB from the first read that fills it. So a request pays some 30 ns. Zeroing hyper's buffer instead would cost
    /// its whole length (8 KiB and more) at every read, found empty or not.
    ///
    /// # Example
    ///
    /// A client, over the same adapters:
    ///
    /// ```no_run
    /// # use epicycle::{hyper::HyperIo, net::TcpStream};
    /// # async fn client() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let stream = TcpStream::connect("127.0.0.1:8080").await?;
    /// let (mut sender, connection) = hyper::client::conn::http1::handshake(HyperIo::new(stream)).await?;
    /// epicycle::spawn(connection);
    /// let request = hyper::Request::get("/").header("host", "localhost").body(String::new())?;
    /// println!("{}", sender.send_request(request).await?.status());
    /// # Ok(()) }
    /// ```
    #[derive(Debug)]
    pub struct HyperIo<T> {
        #[pin]
        inner: T,
        vectored: bool,
        large: bool,
    }
}

impl<T> HyperIo<T> {
    /// Wraps `stream`.
    ///
    /// # Example
    ///
    /// Both ends of a connection, without a network:
    ///
    /// ```
    /// use epicycle::{hyper::HyperIo, net::UnixStream};
    /// use hyper::{Request, Response, service::service_fn};
    ///
    /// epicycle::run(async {
    ///     let (client, server) = UnixStream::pair()?;
    ///     let answer = service_fn(async |_: Request<_>| Ok::<_, std::io::Error>(Response::new("hello".to_owned())));
    ///     let http1 = hyper::server::conn::http1::Builder::new();
    ///     let serving = epicycle::spawn_local(http1.serve_connection(HyperIo::new(server), answer));
    ///
    ///     let (mut sender, connection) = hyper::client::conn::http1::handshake(HyperIo::new(client)).await?;
    ///     epicycle::spawn(connection);
    ///     let response = sender.send_request(Request::get("/").body(String::new())?).await?;
    ///     assert_eq!(response.status(), 200);
    ///     # serving.cancel();
    ///     # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
    /// }).unwrap();
    /// ```
    pub fn new(stream: T) -> HyperIo<T> {
        HyperIo { inner: stream, vectored: true, large: false }
    }

    /// Whether hyper may hand this stream several buffers in one write; it may unless told otherwise here.
    ///
    /// Every stream of [`epicycle::net`](crate::net) writes them with one system call. Say `false` for a stream whose
    /// `poll_write_vectored` is the default of futures-io, which writes the first buffer only: hyper then copies head
    /// and body into one buffer, and one write takes both.
    ///
    /// # Example
    ///
    /// ```
    /// use epicycle::{hyper::HyperIo, net::UnixStream};
    /// use hyper::rt::Write;
    ///
    /// epicycle::run(async {
    ///     let (one, two) = UnixStream::pair().unwrap();
    ///     assert!(HyperIo::new(one).is_write_vectored());
    ///     assert!(!HyperIo::new(two).vectored_writes(false).is_write_vectored());
    /// });
    /// ```
    pub fn vectored_writes(mut self, vectored: bool) -> HyperIo<T> {
        self.vectored = vectored;
        self
    }

    /// The stream.
    ///
    /// # Example
    ///
    /// ```
    /// use epicycle::{hyper::HyperIo, net::UnixStream};
    ///
    /// epicycle::run(async {
    ///     let (stream, _other) = UnixStream::pair().unwrap();
    ///     assert!(HyperIo::new(stream).get_ref().peer_addr().unwrap().is_unnamed());
    /// });
    /// ```
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The stream, to change its options. What is read or written here is missing from hyper's conversation.
    ///
    /// # Example
    ///
    /// ```
    /// let mut io = epicycle::hyper::HyperIo::new(vec![1]);
    /// io.get_mut().push(2);
    /// assert_eq!(io.into_inner(), [1, 2]);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Takes the stream out again, as after an upgrade. Nothing is buffered here, so nothing is lost.
    ///
    /// # Example
    ///
    /// ```
    /// use epicycle::{hyper::HyperIo, net::UnixStream};
    ///
    /// epicycle::run(async {
    ///     let (stream, other) = UnixStream::pair().unwrap();
    ///     let stream: UnixStream = HyperIo::new(stream).into_inner();
    ///     # drop((stream, other));
    /// });
    /// ```
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T: AsyncRead> Read for HyperIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, cursor: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let room = cursor.remaining();
        let read = if *this.large {
            ready!(read_through::<T, LARGE_READ>(this.inner, cx, cursor))?
        } else {
            ready!(read_through::<T, SMALL_READ>(this.inner, cx, cursor))?
        };
        // A full buffer asks for a larger one, a read that a small one could have held for the small one.
        *this.large = read >= SMALL_READ.min(room);
        Poll::Ready(Ok(()))
    }
}

/// Reads at most `N` bytes into a buffer on the stack, then into `cursor`. Says how many.
fn read_through<T: AsyncRead, const N: usize>(
    stream: Pin<&mut T>,
    cx: &mut Context<'_>,
    mut cursor: ReadBufCursor<'_>,
) -> Poll<io::Result<usize>> {
    let mut buffer = [0; N];
    let room = N.min(cursor.remaining());
    let read = ready!(stream.poll_read(cx, &mut buffer[..room]))?;
    cursor.put_slice(&buffer[..read]);
    Poll::Ready(Ok(read))
}

impl<T: AsyncWrite> Write for HyperIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_close(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().inner.poll_write_vectored(cx, bufs)
    }
}

/// Spawns what hyper wants run beside a connection: HTTP/2's streams and its client's dispatcher.
///
/// Each becomes a detached, stealable task of the runtime of the thread that asks; a panic in one is reported as in any
/// task that nobody joins.
///
/// Tokio's counterpart is `hyper_util::rt::TokioExecutor`; asyncio has none.
///
/// # Panics
///
/// `execute` panics outside a runtime, as [`epicycle::spawn`](crate::spawn) does.
///
/// # Example
///
/// ```
/// use epicycle::hyper::{HyperExecutor, HyperTimer};
///
/// let mut http2 = hyper::server::conn::http2::Builder::new(HyperExecutor);
/// http2.timer(HyperTimer).keep_alive_interval(std::time::Duration::from_secs(20));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperExecutor;

impl<F> Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    #[track_caller]
    fn execute(&self, future: F) {
        // Dropping the task detaches it.
        drop(crate::spawn(future));
    }
}

/// Gives hyper the timers of the loops, for `header_read_timeout` (slow clients), HTTP/2's pings and the like.
///
/// A sleep may be made anywhere. It must be polled within a runtime, as any [`epicycle::time::Sleep`](crate::time::Sleep).
///
/// Tokio's counterpart is `hyper_util::rt::TokioTimer`; asyncio has none.
///
/// # Example
///
/// ```
/// use std::time::Duration;
///
/// use epicycle::hyper::HyperTimer;
///
/// let mut http1 = hyper::server::conn::http1::Builder::new();
/// http1.timer(HyperTimer).header_read_timeout(Duration::from_secs(10));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct HyperTimer;

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(crate::time::sleep(duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(crate::time::sleep_until(deadline))
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<crate::time::Sleep>() {
            // Keeps the allocation; hyper resets one for every request head that it waits for.
            Some(ours) => ours.get_mut().reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

impl Sleep for crate::time::Sleep {}
