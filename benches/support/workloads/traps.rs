//! Loads that other runtimes were caught by, so that we stay clear of them.
//!
//! A few tasks on one lock are slower with two workers than with one if every wake is answered by a theft; a woken task
//! in an unstealable slot waits for a waker that goes on computing; a large batch of events buries ready work; a wake
//! too many costs more than the work it announces. Owner-only: each runs inside `block_on` on the bench's main thread.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use epicycle::sync;
use tokio::sync::{Mutex, oneshot};

use super::{Figures, Metric, Scale, Workload, metric, scheduling, spawning};
use crate::support::jobs::Protocol;
use crate::support::measure::{median, raise_descriptor_limit, voluntary_switches};
use crate::support::{Config, Rt};

const LOCKERS: usize = 4;
const LOCKS: usize = 4_000;
const SOCKETS: usize = 1_000;

const MUTEX: &[Metric] = &[metric("trap: 4 tasks on 1 async mutex, two workers, a lock", "ns")];
const MUTEX_ONE: &[Metric] = &[metric("trap: 4 tasks on 1 async mutex, one worker, a lock", "ns")];
const MUTEX_ALONE: &[Metric] = &[metric("trap: 4 tasks on 1 async mutex, stealing off, a lock", "ns")];
const OWN_TWO: &[Metric] = &[metric("trap: the same with epicycle's mutex, two workers, a lock", "ns")];
const OWN_ONE: &[Metric] = &[metric("trap: the same with epicycle's mutex, one worker, a lock", "ns")];
const SLOT: &[Metric] = &[metric("trap: woken by a task that computes on for 10 ms, waited", "us")];
const BURST: &[Metric] = &[
    metric("trap: burst of 1000 socket events beside 8 yielders, an event", "ns"),
    metric("trap: burst of 1000 socket events, a yielder's longest wait", "us"),
];
const SPAWN_WAKES: &[Metric] = &[
    metric("trap: thread switches per 10k spawns from block_on", ""),
    metric("trap: unparks per 10k spawns from block_on", ""),
];
const PAIR_WAKES: &[Metric] = &[
    metric("trap: thread switches per 1000 ping-pong pairs", ""),
    metric("trap: unparks per 1000 ping-pong pairs", ""),
];
const CHANNEL_WAKES: &[Metric] = &[
    metric("trap: thread switches per 40k channel messages", ""),
    metric("trap: unparks per 40k channel messages", ""),
];

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    let locks = LOCKERS * LOCKS;
    vec![
        Workload::pass("mutex-two", MUTEX, locks, 10, mutex),
        Workload::pass("mutex-one", MUTEX_ONE, locks, 10, mutex).with(Config::ONE),
        Workload::pass("mutex-alone", MUTEX_ALONE, locks, 10, mutex).with(Config::NO_STEALING),
        Workload::pass("own-mutex-two", OWN_TWO, locks, 10, own_mutex),
        Workload::pass("own-mutex-one", OWN_ONE, locks, 10, own_mutex).with(Config::ONE),
        Workload::probe("slot", SLOT, slot),
        Workload::probe("burst", BURST, burst),
        Workload::probe("wakes-spawn", SPAWN_WAKES, |runtime, scale| wakes(runtime, scale, spawning::from_root)),
        Workload::probe("wakes-ping-pong", PAIR_WAKES, |runtime, scale| wakes(runtime, scale, scheduling::ping_pong)),
        Workload::probe("wakes-channel", CHANNEL_WAKES, |runtime, scale| wakes(runtime, scale, scheduling::channel)),
    ]
}

/// Held across a yield, so that every unlock wakes the next in line.
fn mutex<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let lock = Arc::new(Mutex::new(0_usize));
        let start = Instant::now();
        let tasks: Vec<_> = (0..LOCKERS).map(|_| R::spawn(locker::<R>(lock.clone()))).collect();
        for task in tasks {
            task.await;
        }
        start.elapsed()
    })
}

async fn locker<R: Rt>(lock: Arc<Mutex<usize>>) {
    for _ in 0..LOCKS {
        let mut count = lock.lock().await;
        R::yield_now().await;
        *count += 1;
    }
}

/// The same with epicycle's mutex, which does not care who polls it, either.
fn own_mutex<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let lock = Arc::new(sync::Mutex::new(0_usize));
        let start = Instant::now();
        let tasks: Vec<_> = (0..LOCKERS).map(|_| R::spawn(own_locker::<R>(lock.clone()))).collect();
        for task in tasks {
            task.await;
        }
        start.elapsed()
    })
}

async fn own_locker<R: Rt>(lock: Arc<sync::Mutex<usize>>) {
    for _ in 0..LOCKS {
        let mut count = lock.lock().await;
        R::yield_now().await;
        *count += 1;
    }
}

/// How long a task waits that was woken by one that does not return to its runtime for a while.
fn slot<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let rounds = scale.of(40);
    let mut waits = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        waits.push(runtime.block_on(async {
            let (tx, rx) = oneshot::channel::<Instant>();
            let woken = R::spawn(async { rx.await.expect("the waker vanished").elapsed() });
            let waker = R::spawn(async {
                for _ in 0..10 {
                    R::yield_now().await;
                }
                let _ = tx.send(Instant::now());
                spin(Duration::from_millis(10));
            });
            waker.await;
            woken.await.as_nanos() as f64 / 1e3
        }));
    }
    vec![median(&waits)]
}

pub fn spin(duration: Duration) {
    let end = Instant::now() + duration;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// A thread makes 1000 sockets readable at once while eight tasks do nothing but yield; ten times over.
fn burst<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    raise_descriptor_limit(2 * SOCKETS as u64 + 200);
    let rounds = scale.of(12);
    runtime.block_on(async {
        let (tx, rx) = oneshot::channel();
        R::spawn_server(Protocol::Echo, tx);
        let address = rx.await.expect("the server did not start");
        let stop = Arc::new(AtomicBool::new(false));
        let yielders: Vec<_> = (0..8).map(|_| R::spawn(restless::<R>(stop.clone()))).collect();
        let (done, finished) = oneshot::channel();
        std::thread::spawn(move || done.send(bursts(address, rounds)));
        let per_event = finished.await.expect("the bursting thread panicked");
        stop.store(true, Ordering::Relaxed);
        let mut longest = Duration::ZERO;
        for yielder in yielders {
            longest = longest.max(yielder.await);
        }
        vec![per_event, Some(longest.as_nanos() as f64 / 1e3)]
    })
}

/// Yields until told to stop; the longest time between two of its polls.
async fn restless<R: Rt>(stop: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        R::yield_now().await;
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

fn bursts(address: SocketAddr, rounds: usize) -> Option<f64> {
    let connect = || TcpStream::connect(address).expect("cannot connect");
    let mut sockets: Vec<TcpStream> = (0..SOCKETS).map(|_| connect()).collect();
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let start = Instant::now();
        for socket in &mut sockets {
            socket.write_all(b"!").expect("cannot send");
        }
        for socket in &mut sockets {
            socket.read_exact(&mut [0]).expect("cannot receive");
        }
        times.push(start.elapsed().as_nanos() as f64 / SOCKETS as f64);
    }
    median(&times)
}

/// Thread switches, and unparks where the runtime counts them, per pass of another workload.
fn wakes<R: Rt>(runtime: &R, scale: Scale, pass: fn(&R) -> Duration) -> Figures {
    let passes = scale.of(100);
    pass(runtime);
    let before = (voluntary_switches(), runtime.unparks());
    for _ in 0..passes {
        pass(runtime);
    }
    let after = (voluntary_switches(), runtime.unparks());
    let per_pass = |before: Option<u64>, after: Option<u64>| Some((after? - before?) as f64 / passes as f64);
    vec![per_pass(before.0, after.0), per_pass(before.1, after.1)]
}
