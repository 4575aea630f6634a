//! Tokio's multi-threaded runtime behind [`Rt`], at its defaults.
//!
//! Owner-only: one value per process, used by the bench's main thread.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use super::{Config, Joined, Out, Rt, spawn_jobs};

pub struct Tokio(Runtime);

impl Tokio {
    fn spawn_built<M, F>(make: M) -> Joined<JoinHandle<F::Output>>
    where
        M: FnOnce() -> F,
        F: Future + Send + 'static,
        F::Output: Out,
    {
        Joined(tokio::spawn(make()))
    }
}

impl Rt for Tokio {
    const NAME: &'static str = "tokio";

    type Join<T: Out> = Joined<JoinHandle<T>>;
    type Remote = Handle;
    type Listener = TcpListener;
    type Conn = TcpStream;
    type Stream = TcpStream;
    type Timer = Pin<Box<tokio::time::Sleep>>;

    fn start(config: Config) -> Option<Self> {
        if !config.stealing {
            return None;
        }
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(config.workers).enable_all().build();
        Some(Tokio(runtime.expect("cannot start Tokio")))
    }

    fn remote(&self) -> Handle {
        self.0.handle().clone()
    }

    fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.0.block_on(future)
    }

    fn spawn<F>(future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out,
    {
        Joined(tokio::spawn(future))
    }

    fn spawn_remote<F>(remote: &Handle, future: F) -> Self::Join<F::Output>
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
        tokio::task::yield_now()
    }

    fn sleep(duration: Duration) -> impl Future<Output = ()> {
        tokio::time::sleep(duration)
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        tokio::time::timeout(duration, future).await.ok()
    }

    fn timer(duration: Duration) -> Option<Self::Timer> {
        Some(Box::pin(tokio::time::sleep(duration)))
    }

    fn reset(timer: &mut Self::Timer, duration: Duration) {
        timer.as_mut().reset(tokio::time::Instant::now() + duration);
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
        let mut buf = ReadBuf::new(buf);
        AsyncRead::poll_read(Pin::new(stream), cx, &mut buf).map_ok(|()| buf.filled().len())
    }

    fn poll_write(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(stream), cx, buf)
    }

    spawn_jobs!();
}
