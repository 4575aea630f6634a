//! What every bench shares: the adaptor trait [`Rt`] that each runtime implements, and the workloads written once
//! against it.
//!
//! Invariant: a workload never names a runtime. Each runtime uses its own spawn, yield, timers and sockets; channels
//! and locks are `tokio::sync`'s on all of them, or in the rows that say so epicycle's, because those do not care who polls them. Owner-only: everything here
//! runs on the bench's main thread, except what a workload spawns itself.

// Two bench targets include this module and neither uses all of it.
#![allow(dead_code)]

pub mod bare;
pub mod epicycle_rt;
pub mod http;
pub mod jobs;
pub mod machine;
pub mod measure;
pub mod monoio_rt;
pub mod nio_rt;
pub mod report;
pub mod smol_rt;
pub mod syscalls;
pub mod tokio_rt;
pub mod workloads;

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use jobs::{Client, Latencies, Protocol, TimerJob};
use tokio::sync::oneshot;

/// What a task may return: plain data.
pub trait Out: Send + Unpin + 'static {}
impl<T: Send + Unpin + 'static> Out for T {}

/// How a runtime is to be built for one workload.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub workers: usize,
    pub stealing: bool,
    /// How long an idle worker is to spin before it parks; who has no such setting is run without.
    pub spin: Option<Duration>,
}

impl Config {
    pub const TWO: Config = Config { workers: 2, stealing: true, spin: None };
    pub const ONE: Config = Config { workers: 1, ..Config::TWO };
    pub const NO_STEALING: Config = Config { stealing: false, ..Config::TWO };
    pub const SPINNING: Config = Config { spin: Some(Duration::from_micros(50)), ..Config::TWO };
}

/// A runtime as the workloads see it.
///
/// Functions without `self` are called from inside a task or from `block_on`'s future. The `spawn_*` jobs at the end
/// exist because nio's sockets and timers are `!Send`: there the future is built on the worker that will run it, which
/// no generic `spawn` could express for everyone.
pub trait Rt: Sized + 'static {
    const NAME: &'static str;

    type Join<T: Out>: Future<Output = T> + Send + Unpin + 'static;
    /// Spawns from a thread that is not the runtime's.
    type Remote: Clone + Send + Sync + 'static;
    type Listener;
    /// An accepted connection on its way to the task that will serve it.
    type Conn: Send + 'static;
    type Stream: Unpin;
    /// A sleep that may be polled, reset and dropped on any thread.
    type Timer: Future + Send + Unpin + 'static;

    /// `None` if this runtime has no such configuration.
    fn start(config: Config) -> Option<Self>;
    fn remote(&self) -> Self::Remote;
    fn block_on<F>(&self, future: F) -> F::Output
    where
        F: Future + Send,
        F::Output: Send;
    /// Wake system calls sent to parked threads since the start, if the runtime counts them.
    fn unparks(&self) -> Option<u64> {
        None
    }

    fn spawn<F>(future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out;
    fn spawn_remote<F>(remote: &Self::Remote, future: F) -> Self::Join<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Out;
    fn detach<T: Out>(join: Self::Join<T>);
    fn yield_now() -> impl Future<Output = ()> + Send;

    fn sleep(duration: Duration) -> impl Future<Output = ()>;
    fn timeout<F: Future>(duration: Duration, future: F) -> impl Future<Output = Option<F::Output>>;
    /// `None` if this runtime's sleeps stay on their thread.
    fn timer(duration: Duration) -> Option<Self::Timer>;
    fn reset(timer: &mut Self::Timer, duration: Duration);

    fn bind(address: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>>;
    fn local_addr(listener: &Self::Listener) -> io::Result<SocketAddr>;
    fn accept(listener: &mut Self::Listener) -> impl Future<Output = io::Result<Self::Conn>>;
    fn open(conn: Self::Conn) -> impl Future<Output = io::Result<Self::Stream>>;
    fn connect(address: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>>;
    fn read(stream: &mut Self::Stream, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>>;
    fn write_all(stream: &mut Self::Stream, buf: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// For protocol libraries, which poll.
    fn poll_read(stream: &mut Self::Stream, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;
    fn poll_write(stream: &mut Self::Stream, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>>;

    fn spawn_sleeper(duration: Duration, done: Arc<Countdown>);
    fn spawn_timers(job: TimerJob) -> Self::Join<Vec<u64>>;
    fn spawn_server(protocol: Protocol, address: oneshot::Sender<SocketAddr>);
    fn spawn_echo_conn(conn: Self::Conn);
    fn spawn_http_conn(conn: Self::Conn);
    fn spawn_client(client: Client) -> Self::Join<Latencies>;
}

/// Implements the `spawn_*` jobs of [`Rt`] through the runtime's own `spawn_built(|| future)`, whose bounds differ.
macro_rules! spawn_jobs {
    () => {
        fn spawn_sleeper(duration: std::time::Duration, done: std::sync::Arc<$crate::support::Countdown>) {
            Self::detach(Self::spawn_built(move || $crate::support::jobs::sleeper::<Self>(duration, done)));
        }
        fn spawn_timers(job: $crate::support::jobs::TimerJob) -> Self::Join<Vec<u64>> {
            Self::spawn_built(move || $crate::support::jobs::timers::<Self>(job))
        }
        fn spawn_server(
            protocol: $crate::support::jobs::Protocol,
            address: tokio::sync::oneshot::Sender<std::net::SocketAddr>,
        ) {
            Self::detach(Self::spawn_built(move || $crate::support::jobs::server::<Self>(protocol, address)));
        }
        fn spawn_echo_conn(conn: Self::Conn) {
            Self::detach(Self::spawn_built(move || $crate::support::jobs::echo::<Self>(conn)));
        }
        fn spawn_http_conn(conn: Self::Conn) {
            Self::detach(Self::spawn_built(move || $crate::support::http::serve::<Self>(conn)));
        }
        fn spawn_client(client: $crate::support::jobs::Client) -> Self::Join<$crate::support::jobs::Latencies> {
            Self::spawn_built(move || $crate::support::jobs::client::<Self>(client))
        }
    };
}
pub(crate) use spawn_jobs;

/// A join handle whose `Result` is unwrapped, for the runtimes that return one.
pub struct Joined<J>(pub J);

impl<J, T, E> Future for Joined<J>
where
    J: Future<Output = Result<T, E>> + Unpin,
    E: Debug,
{
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|result| result.expect("a bench task failed"))
    }
}

/// Counts tasks down and tells one waiter when the last is done.
///
/// `arrive` may be called on any thread. The `AcqRel` decrement orders every task's work before the signal.
pub struct Countdown {
    left: std::sync::atomic::AtomicUsize,
    done: std::sync::Mutex<Option<oneshot::Sender<()>>>,
}

impl Countdown {
    pub fn new(tasks: usize) -> (Arc<Countdown>, oneshot::Receiver<()>) {
        let (tx, rx) = oneshot::channel();
        let countdown = Countdown { left: tasks.into(), done: Some(tx).into() };
        (Arc::new(countdown), rx)
    }

    pub fn arrive(&self) {
        if self.left.fetch_sub(1, std::sync::atomic::Ordering::AcqRel) == 1 {
            let done = self.done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
            let _ = done.expect("more arrivals than tasks").send(());
        }
    }
}
