//! epicycle behind [`Rt`], at its defaults.
//!
//! Owner-only: one value per process, used by the bench's main thread.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use epicycle::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use epicycle::net::{TcpListener, TcpStream};
use epicycle::{Runtime, RuntimeHandle, Task};

use super::{Config, Joined, Out, Rt, spawn_jobs};

pub struct Epicycle(Runtime);

impl Epicycle {
    fn spawn_built<M, F>(make: M) -> Joined<Task<F::Output>>
    where
        M: FnOnce() -> F,
        F: Future + Send + 'static,
        F::Output: Out,
    {
        Joined(epicycle::spawn(make()))
    }
}

impl Rt for Epicycle {
    const NAME: &'static str = "epicycle";

    type Join<T: Out> = Joined<Task<T>>;
    type Remote = RuntimeHandle;
    type Listener = TcpListener;
    type Conn = TcpStream;
    type Stream = TcpStream;
    type Timer = epicycle::time::Sleep;

    fn start(config: Config) -> Option<Self> {
        let mut builder = Runtime::builder().worker_threads(config.workers).work_stealing(config.stealing);
        if let Some(spin) = config.spin {
            builder = builder.spin(spin);
        }
        Some(Epicycle(builder.build().expect("cannot start epicycle")))
    }

    fn remote(&self) -> RuntimeHandle {
        self.0.handle()
    }

    fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.0.block_on(future)
    }

    fn unparks(&self) -> Option<u64> {
        Some(self.0.metrics().loops.iter().map(|each| each.unparks_sent).sum())
    }

    fn spawn<F>(future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out,
    {
        Joined(epicycle::spawn(future))
    }

    fn spawn_remote<F>(remote: &RuntimeHandle, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out,
    {
        Joined(remote.spawn(future))
    }

    fn detach<T: Out>(join: Self::Join<T>) {
        drop(join);
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        epicycle::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        epicycle::time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        epicycle::time::timeout(duration, future).await.ok()
    }

    fn timer(duration: Duration) -> Option<Self::Timer> {
        Some(epicycle::time::sleep(duration))
    }

    fn reset(timer: &mut Self::Timer, duration: Duration) {
        timer.reset(Instant::now() + duration);
    }

    async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
        listener.local_addr()
    }

    async fn accept(listener: &mut TcpListener) -> io::Result<TcpStream> {
        Ok(listener.accept().await?.0)
    }

    async fn open(conn: TcpStream) -> io::Result<TcpStream> {
        conn.set_nodelay(true)?;
        Ok(conn)
    }

    async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
        Self::open(TcpStream::connect(address).await?).await
    }

    async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf).await
    }

    async fn write_all(stream: &mut TcpStream, buf: &[u8]) -> io::Result<()> {
        stream.write_all(buf).await
    }

    fn poll_read(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(stream), cx, buf)
    }

    fn poll_write(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(stream), cx, buf)
    }

    spawn_jobs!();
}
