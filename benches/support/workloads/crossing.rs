//! More of what others were caught by: what threads do to one another's queues, timers and selectors.
//!
//! Foreign threads that spawn at once meet at one locked queue, and what they push to a stuck worker waits for it if
//! nobody can take it away. Timers that another worker resets or drops meet at a lock, whole or sharded. Connections
//! that come and go change the selector's set, whose lock whoever reads `/proc`'s description of it holds for long.
//! Owner-only: each runs inside `block_on` on the bench's main thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future;
use tokio::sync::oneshot;

use super::traps::spin;
use super::{Figures, Metric, Scale, Workload, metric};
use crate::support::Rt;
use crate::support::jobs::{Protocol, breathe, poll_once};
use crate::support::measure::{median, percentile, raise_descriptor_limit};

const SPAWNERS: usize = 4;
const SPAWNS_EACH: usize = 3_200;
/// Many, so that the handing over does not count.
const BATCH: usize = 2_000;
const IDLE_CONNS: usize = 1_000;
const CONNECTORS: usize = 2;

const INJECT: &[Metric] = &[
    metric("trap: 4 foreign threads spawn at once, a spawn until all are pushed", "ns"),
    metric("trap: 4 foreign threads spawn at once, a task until all are joined", "ns"),
];
const INBOUND: &[Metric] = &[
    metric("trap: foreign spawn beside a task that computes 10 ms at a time, p95 until run", "us"),
    metric("trap: foreign spawn beside a task that computes 10 ms at a time, worst", "us"),
];
const FAR_DROP: &[Metric] = &[metric("trap: timers armed by one worker, dropped by the other, each", "ns")];
const FAR_RESET: &[Metric] = &[metric("trap: timers armed by one worker, reset and dropped by the other, each", "ns")];
const CHURN: &[Metric] = &[
    metric("trap: connect, ask once and close among 1000 idle connections, each", "ns"),
    metric("trap: connect, ask once and close among 1000 idle connections, p99", "us"),
];
const CHURN_WATCHED: &[Metric] = &[
    metric("trap: the same while a thread reads the selectors' fdinfo, each", "ns"),
    metric("trap: the same while a thread reads the selectors' fdinfo, p99", "us"),
];

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    vec![
        Workload::probe("inject-4", INJECT, inject),
        Workload::probe("inbound", INBOUND, inbound),
        Workload::probe("timer-far-drop", FAR_DROP, |runtime, scale| far_timers(runtime, false, scale)),
        Workload::probe("timer-far-reset", FAR_RESET, |runtime, scale| far_timers(runtime, true, scale)),
        Workload::probe("churn", CHURN, |runtime, scale| churn(runtime, false, scale)),
        Workload::probe("churn-fdinfo", CHURN_WATCHED, |runtime, scale| churn(runtime, true, scale)),
    ]
}

/// Runs `work` on a foreign thread while `block_on` waits for it.
fn beside<R: Rt, T: Send + 'static>(runtime: &R, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tx, rx) = oneshot::channel();
    thread::spawn(move || tx.send(work()));
    runtime.block_on(async { rx.await.expect("the foreign thread panicked") })
}

/// Medians of the rounds' slowest threads.
fn inject<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let rounds = scale.of(40);
    let remote = runtime.remote();
    let threads = beside(runtime, move || {
        let start = Arc::new(Barrier::new(SPAWNERS));
        let spawner = || {
            let (remote, start) = (remote.clone(), start.clone());
            thread::spawn(move || (0..rounds).map(|_| push_and_join::<R>(&remote, &start)).collect::<Vec<_>>())
        };
        let threads: Vec<_> = (0..SPAWNERS).map(|_| spawner()).collect();
        threads.into_iter().map(|thread| thread.join().expect("a spawner panicked")).collect::<Vec<_>>()
    });
    let slowest = |of: fn(&(Duration, Duration)) -> Duration| {
        let round = |round: usize| threads.iter().map(|times| of(&times[round])).max().unwrap_or_default();
        let tasks = (SPAWNERS * SPAWNS_EACH) as f64;
        median(&(0..rounds).map(|each| round(each).as_nanos() as f64 / tasks).collect::<Vec<_>>())
    };
    vec![slowest(|times| times.0), slowest(|times| times.1)]
}

fn push_and_join<R: Rt>(remote: &R::Remote, start: &Barrier) -> (Duration, Duration) {
    start.wait();
    let start = Instant::now();
    let tasks: Vec<_> = (0..SPAWNS_EACH).map(|_| R::spawn_remote(remote, async {})).collect();
    let pushed = start.elapsed();
    future::block_on(async {
        for task in tasks {
            task.await;
        }
    });
    (pushed, start.elapsed())
}

fn inbound<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let rounds = scale.of(400);
    let remote = runtime.remote();
    let mut waits = beside(runtime, move || {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        R::detach(R::spawn_remote(&remote, async move {
            // For whoever does not run anything else meanwhile, it ends after so long.
            let end = Instant::now() + Duration::from_secs(2);
            while !stopped.load(Ordering::Relaxed) && Instant::now() < end {
                spin(Duration::from_millis(10));
                R::yield_now().await;
            }
        }));
        let wait = |_| {
            thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            future::block_on(R::spawn_remote(&remote, async move { start.elapsed() }))
        };
        let waits: Vec<Duration> = (0..rounds).map(wait).collect();
        stop.store(true, Ordering::Relaxed);
        waits
    });
    waits.sort_unstable();
    let micros = |rank| percentile(&waits, rank).map(|wait| wait.as_nanos() as f64 / 1e3);
    vec![micros(0.95), micros(1.0)]
}

/// Two tasks that block their workers while they wait for each other, so that each has one to itself.
fn far_timers<R: Rt>(runtime: &R, reset: bool, scale: Scale) -> Figures {
    let batches = scale.of(200_000) / BATCH;
    let (tx, rx) = sync_channel(1);
    let elapsed = runtime.block_on(async {
        let start = Instant::now();
        let ending = R::spawn(async move { end_timers::<R>(&rx, reset) });
        let arming = R::spawn(arm_timers::<R>(tx, batches));
        let armed = arming.await;
        ending.await;
        armed.then(|| start.elapsed())
    });
    vec![elapsed.map(|elapsed| elapsed.as_nanos() as f64 / (batches * BATCH) as f64)]
}

/// False if the runtime has no timers that may leave their thread.
async fn arm_timers<R: Rt>(ends: SyncSender<Vec<R::Timer>>, batches: usize) -> bool {
    for _ in 0..batches {
        let mut batch = Vec::with_capacity(BATCH);
        for each in 0..BATCH {
            let Some(mut timer) = R::timer(Duration::from_secs(30)) else { return false };
            poll_once(std::pin::Pin::new(&mut timer)).await;
            batch.push(timer);
            breathe::<R>(each).await;
        }
        ends.send(batch).expect("the other worker vanished");
    }
    true
}

fn end_timers<R: Rt>(batches: &Receiver<Vec<R::Timer>>, reset: bool) {
    for mut batch in batches {
        if reset {
            batch.iter_mut().for_each(|timer| R::reset(timer, Duration::from_secs(40)));
        }
    }
}

fn churn<R: Rt>(runtime: &R, watched: bool, scale: Scale) -> Figures {
    raise_descriptor_limit(2 * IDLE_CONNS as u64 + 400);
    let times = scale.of(2_000) / CONNECTORS;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let outcome = runtime.block_on(async {
        let (tx, rx) = oneshot::channel();
        R::spawn_server(Protocol::Echo, tx);
        let address = rx.await.expect("the server did not start");
        let (tx, rx) = oneshot::channel();
        thread::spawn(move || tx.send(connect_over_and_over(address, times, watched, &stopped)));
        rx.await.expect("the connecting thread panicked")
    });
    stop.store(true, Ordering::Relaxed);
    let Some((elapsed, mut visits)) = outcome else { return vec![None, None] };
    visits.sort_unstable();
    let p99 = percentile(&visits, 0.99).map(|visit| visit.as_nanos() as f64 / 1e3);
    vec![Some(elapsed.as_nanos() as f64 / visits.len() as f64), p99]
}

/// `None` if the selectors are to be watched and the system does not describe them.
fn connect_over_and_over(
    address: SocketAddr,
    times: usize,
    watched: bool,
    stop: &Arc<AtomicBool>,
) -> Option<(Duration, Vec<Duration>)> {
    let connect = |_| {
        let mut conn = TcpStream::connect(address).expect("cannot connect");
        ask(&mut conn);
        conn
    };
    let _idle: Vec<_> = (0..IDLE_CONNS).map(connect).collect();
    if watched {
        let selectors = selectors()?;
        let stop = stop.clone();
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                selectors.iter().for_each(|path| drop(std::fs::read(path)));
            }
        });
    }
    let visit = |each| {
        let start = Instant::now();
        drop(connect(each));
        start.elapsed()
    };
    let start = Instant::now();
    let visits = thread::scope(|scope| {
        let connector = |_| scope.spawn(move || (0..times).map(visit).collect::<Vec<_>>());
        let connectors: Vec<_> = (0..CONNECTORS).map(connector).collect();
        connectors.into_iter().flat_map(|thread| thread.join().expect("a connector panicked")).collect()
    });
    Some((start.elapsed(), visits))
}

fn ask(conn: &mut TcpStream) {
    conn.write_all(b"?").expect("cannot send");
    conn.read_exact(&mut [0]).expect("cannot receive");
}

/// Where Linux describes this process's epoll sets.
fn selectors() -> Option<Vec<String>> {
    let is_selector = |path: &std::path::Path| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("eventpoll"))
    };
    let descriptors = std::fs::read_dir("/proc/self/fd").ok()?.flatten().filter(|entry| is_selector(&entry.path()));
    Some(descriptors.map(|entry| format!("/proc/self/fdinfo/{}", entry.file_name().display())).collect())
}
