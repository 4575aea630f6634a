//! nio behind [`Rt`]: thread per core, no stealing, `!Send` sockets and timers.
//!
//! As with smol there are two set-ups and neither wins every row, so both run: [`Nio`] keeps `block_on`'s caller off
//! the workers, [`NioLocal`] makes it worker 0. Jobs that touch sockets or timers are built on their worker through
//! `spawn_pinned`. nio's threads have no end, so a process starts one of the two, once.
//! Owner-only: the value is used by the bench's main thread.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite, AsyncWriteExt};
use nio::net::{TcpConnection, TcpListener, TcpStream};
use nio::{JoinHandle, LocalRuntime, Runtime, RuntimeBuilder, RuntimeContext};

use super::{Config, Joined, Out, Rt, spawn_jobs};

pub struct Nio(Runtime);

pub struct NioLocal(RefCell<LocalRuntime>);

fn builder(config: Config) -> Option<RuntimeBuilder> {
    // nio never steals, but moves work on every wake: neither of our settings. It takes part in the default one.
    let workers = u8::try_from(config.workers).expect("too many workers for nio");
    config.stealing.then(|| RuntimeBuilder::new().worker_threads(workers))
}

impl Nio {
    fn start_with(config: Config) -> Option<Self> {
        Some(Nio(builder(config)?.rt().expect("cannot start nio")))
    }

    fn remote_of(&self) -> Arc<RuntimeContext> {
        self.0.context()
    }

    fn run<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.0.block_on(move || future)
    }
}

impl NioLocal {
    fn start_with(config: Config) -> Option<Self> {
        Some(NioLocal(builder(config)?.build().expect("cannot start nio").into()))
    }

    fn remote_of(&self) -> Arc<RuntimeContext> {
        self.0.borrow().runtime_context()
    }

    fn run<F: Future>(&self, future: F) -> F::Output {
        self.0.borrow_mut().block_on(future)
    }
}

fn spawn_built<M, F>(make: M) -> Joined<JoinHandle<F::Output>>
where
    M: FnOnce() -> F + Send + 'static,
    F: Future + 'static,
    F::Output: Out,
{
    // The outer closure builds nothing: nio calls it on the spawning thread, and only an async body runs on the worker.
    Joined(nio::spawn_pinned(move || async move { make().await }))
}

macro_rules! impl_rt {
    ($runtime:ty, $name:literal) => {
        impl $runtime {
            fn spawn_built<M, F>(make: M) -> Joined<JoinHandle<F::Output>>
            where
                M: FnOnce() -> F + Send + 'static,
                F: Future + 'static,
                F::Output: Out,
            {
                spawn_built(make)
            }
        }

        impl Rt for $runtime {
            const NAME: &'static str = $name;

            type Join<T: Out> = Joined<JoinHandle<T>>;
            type Remote = Arc<RuntimeContext>;
            type Listener = TcpListener;
            type Conn = TcpConnection;
            type Stream = TcpStream;
            type Timer = std::future::Pending<()>;

            fn start(config: Config) -> Option<Self> {
                Self::start_with(config)
            }

            fn remote(&self) -> Arc<RuntimeContext> {
                self.remote_of()
            }

            fn block_on<F>(&self, future: F) -> F::Output
            where
                F: Future + Send,
                F::Output: Send,
            {
                self.run(future)
            }

            fn spawn<F>(future: F) -> Self::Join<F::Output>
            where
                F: Future + Send + 'static,
                F::Output: Out,
            {
                Joined(nio::spawn(future))
            }

            fn spawn_remote<F>(remote: &Arc<RuntimeContext>, future: F) -> Self::Join<F::Output>
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
                futures_lite::future::yield_now()
            }

            fn sleep(duration: Duration) -> impl Future<Output = ()> {
                nio::sleep(duration)
            }

            async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
                nio::timeout(duration, future).await
            }

            fn timer(_: Duration) -> Option<Self::Timer> {
                None
            }

            fn reset(_: &mut Self::Timer, _: Duration) {}

            async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
                TcpListener::bind(address).await
            }

            fn local_addr(listener: &TcpListener) -> io::Result<SocketAddr> {
                listener.local_addr()
            }

            async fn accept(listener: &mut TcpListener) -> io::Result<TcpConnection> {
                listener.accept().await
            }

            async fn open(conn: TcpConnection) -> io::Result<TcpStream> {
                conn.set_nodelay(true)?;
                conn.connect().await
            }

            async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            }

            async fn read(stream: &mut TcpStream, buf: &mut [u8]) -> io::Result<usize> {
                stream.read(buf).await
            }

            async fn write_all(stream: &mut TcpStream, buf: &[u8]) -> io::Result<()> {
                AsyncWriteExt::write_all(stream, buf).await
            }

            fn poll_read(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                AsyncRead::poll_read(Pin::new(stream), cx, buf)
            }

            fn poll_write(stream: &mut TcpStream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                AsyncWrite::poll_write(Pin::new(stream), cx, buf)
            }

            spawn_jobs!();
        }
    };
}

impl_rt!(Nio, "nio");
impl_rt!(NioLocal, "nio-local");
