//! smol's parts behind [`Rt`]: async-executor's `StaticExecutor` and async-io's reactor.
//!
//! smol can be set up in two ways with the same number of threads and neither wins every row, so both run:
//! [`Smol<false>`] is what the `smol` crate does (worker threads, `block_on`'s caller only polls its own future), and
//! [`Smol<true>`] lets the caller run the executor too. The executor is a static, so a process holds one of the two.
//! Owner-only: the value is used by the bench's main thread; worker threads run until the process ends.

use std::future::{Future, pending};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_executor::{StaticExecutor, Task};
use async_io::{Async, Timer};
use futures_lite::future::{or, yield_now};
use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Config, Out, Rt, spawn_jobs};

static EXECUTOR: StaticExecutor = StaticExecutor::new();

pub struct Smol<const CALLER_RUNS: bool>;

impl<const CALLER_RUNS: bool> Smol<CALLER_RUNS> {
    fn spawn_built<M, F>(make: M) -> Task<F::Output>
    where
        M: FnOnce() -> F,
        F: Future + Send + 'static,
        F::Output: Out,
    {
        EXECUTOR.spawn(make())
    }
}

impl<const CALLER_RUNS: bool> Rt for Smol<CALLER_RUNS> {
    const NAME: &'static str = if CALLER_RUNS { "smol-run" } else { "smol" };

    type Join<T: Out> = Task<T>;
    type Remote = ();
    type Listener = Async<TcpListener>;
    type Conn = Async<TcpStream>;
    type Stream = Async<TcpStream>;
    type Timer = Timer;

    fn start(config: Config) -> Option<Self> {
        if !config.stealing {
            return None;
        }
        for _ in usize::from(CALLER_RUNS)..config.workers {
            std::thread::spawn(|| async_io::block_on(EXECUTOR.run(pending::<()>())));
        }
        Some(Smol)
    }

    fn remote(&self) {}

    fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        if CALLER_RUNS { async_io::block_on(EXECUTOR.run(future)) } else { async_io::block_on(future) }
    }

    fn spawn<F>(future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out,
    {
        EXECUTOR.spawn(future)
    }

    fn spawn_remote<F>(_: &(), future: F) -> Task<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out,
    {
        EXECUTOR.spawn(future)
    }

    fn detach<T: Out>(join: Task<T>) {
        join.detach();
    }

    fn yield_now() -> impl Future<Output = ()> + Send {
        yield_now()
    }

    async fn sleep(duration: Duration) {
        Timer::after(duration).await;
    }

    async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
        let expired = async {
            Timer::after(duration).await;
            None
        };
        or(async { Some(future.await) }, expired).await
    }

    fn timer(duration: Duration) -> Option<Self::Timer> {
        Some(Timer::after(duration))
    }

    fn reset(timer: &mut Self::Timer, duration: Duration) {
        timer.set_after(duration);
    }

    async fn bind(address: SocketAddr) -> io::Result<Async<TcpListener>> {
        Async::<TcpListener>::bind(address)
    }

    fn local_addr(listener: &Async<TcpListener>) -> io::Result<SocketAddr> {
        listener.get_ref().local_addr()
    }

    async fn accept(listener: &mut Async<TcpListener>) -> io::Result<Async<TcpStream>> {
        Ok(listener.accept().await?.0)
    }

    async fn open(conn: Async<TcpStream>) -> io::Result<Async<TcpStream>> {
        conn.get_ref().set_nodelay(true)?;
        Ok(conn)
    }

    async fn connect(address: SocketAddr) -> io::Result<Async<TcpStream>> {
        Self::open(Async::<TcpStream>::connect(address).await?).await
    }

    async fn read(stream: &mut Async<TcpStream>, buf: &mut [u8]) -> io::Result<usize> {
        stream.read(buf).await
    }

    async fn write_all(stream: &mut Async<TcpStream>, buf: &[u8]) -> io::Result<()> {
        stream.write_all(buf).await
    }

    fn poll_read(stream: &mut Async<TcpStream>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        AsyncRead::poll_read(Pin::new(stream), cx, buf)
    }

    fn poll_write(stream: &mut Async<TcpStream>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(stream), cx, buf)
    }

    spawn_jobs!();
}
