//! Task bodies that touch sockets or timers, written once for every runtime.
//!
//! Each is started through a `spawn_*` function of [`Rt`], which builds the future on the thread that may run it.
//! Owner-only: a job is one task; what it shares with others it owns through `Arc`.

use std::future::{Future, pending, poll_fn};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::{Barrier, oneshot};

use super::{Countdown, Rt};

/// Bytes of one echo request.
pub const MESSAGE: usize = 64;

/// One echo client: connects, waits for the others, then asks and measures until its time is up.
pub struct Client {
    pub address: SocketAddr,
    /// Passed by everyone once connected and answered.
    pub start: Arc<Barrier>,
    pub duration: Duration,
}

/// Nanoseconds of every measured request of one client.
pub type Latencies = Vec<u32>;

/// What a server speaks.
#[derive(Clone, Copy)]
pub enum Protocol {
    Echo,
    Http,
}

/// What a timer job is to do. All return nanoseconds.
#[derive(Clone, Copy)]
pub enum TimerJob {
    /// How late each of `times` sleeps of `duration` was.
    Late { duration: Duration, times: usize },
    /// The time that arming and dropping `times` timeouts took, while `earlier` ones that end before them stay armed.
    ArmAndDrop { times: usize, earlier: usize },
}

pub async fn sleeper<R: Rt>(duration: Duration, done: Arc<Countdown>) {
    R::sleep(duration).await;
    done.arrive();
}

pub async fn timers<R: Rt>(job: TimerJob) -> Vec<u64> {
    match job {
        TimerJob::Late { duration, times } => late::<R>(duration, times).await,
        TimerJob::ArmAndDrop { times, earlier } => vec![arm_and_drop::<R>(times, earlier).await],
    }
}

async fn late<R: Rt>(duration: Duration, times: usize) -> Vec<u64> {
    let mut lateness = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        R::sleep(duration).await;
        lateness.push(start.elapsed().saturating_sub(duration).as_nanos() as u64);
    }
    lateness
}

async fn arm_and_drop<R: Rt>(times: usize, earlier: usize) -> u64 {
    let mut armed = Vec::new();
    for each in 0..earlier {
        let mut timeout = Box::pin(R::timeout(Duration::from_secs(20), pending::<()>()));
        poll_once(timeout.as_mut()).await;
        armed.push(timeout);
        breathe::<R>(each).await;
    }
    let start = Instant::now();
    for each in 0..times {
        let mut timeout = pin!(R::timeout(Duration::from_secs(30), pending::<()>()));
        poll_once(timeout.as_mut()).await;
        breathe::<R>(each).await;
    }
    start.elapsed().as_nanos() as u64
}

/// Polls once, so that the timer is really armed.
pub async fn poll_once<F: Future>(mut future: Pin<&mut F>) {
    let pending = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await;
    assert!(pending, "the timeout ended at once");
}

/// Yields now and then: a runtime with a cooperative budget would refuse to arm anything more in this poll.
pub async fn breathe<R: Rt>(count: usize) {
    if count % 32 == 31 {
        R::yield_now().await;
    }
}

pub async fn server<R: Rt>(protocol: Protocol, address: oneshot::Sender<SocketAddr>) {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut listener = R::bind(any).await.expect("cannot bind");
    let _ = address.send(R::local_addr(&listener).expect("no local address"));
    loop {
        let conn = R::accept(&mut listener).await.expect("cannot accept");
        match protocol {
            Protocol::Echo => R::spawn_echo_conn(conn),
            Protocol::Http => R::spawn_http_conn(conn),
        }
    }
}

pub async fn echo<R: Rt>(conn: R::Conn) {
    let mut stream = R::open(conn).await.expect("cannot open the connection");
    let mut buf = [0; 1024];
    while let Ok(len @ 1..) = R::read(&mut stream, &mut buf).await {
        if R::write_all(&mut stream, &buf[..len]).await.is_err() {
            break;
        }
    }
}

pub async fn client<R: Rt>(client: Client) -> Latencies {
    let mut stream = R::connect(client.address).await.expect("cannot connect");
    ask::<R>(&mut stream).await;
    client.start.wait().await;
    let warm = Instant::now() + client.duration / 10;
    let end = warm + client.duration;
    let mut latencies = Vec::new();
    loop {
        let asked = Instant::now();
        ask::<R>(&mut stream).await;
        let answered = Instant::now();
        if asked >= warm {
            latencies.push((answered - asked).as_nanos().try_into().unwrap_or(u32::MAX));
        }
        if answered >= end {
            return latencies;
        }
    }
}

async fn ask<R: Rt>(stream: &mut R::Stream) {
    R::write_all(stream, &[b'?'; MESSAGE]).await.expect("cannot send");
    let mut buf = [0; MESSAGE];
    let mut got = 0;
    while got < MESSAGE {
        let len = R::read(stream, &mut buf[got..]).await.expect("cannot receive");
        assert_ne!(len, 0, "the server hung up");
        got += len;
    }
}
