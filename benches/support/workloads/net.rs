//! TCP echo: clients and server in one runtime, alone and beside tasks that misbehave; and one worker against the floor.
//!
//! Owner-only: each probe runs inside `block_on` on the bench's main thread.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use tokio::sync::{Barrier, oneshot};

use super::{Figures, Metric, Scale, Workload, metric, movable, near_bare};
use crate::support::bare::{self, Load};
use crate::support::jobs::{Client, Protocol};
use crate::support::measure::{percentile, raise_descriptor_limit};
use crate::support::{Config, Rt, monoio_rt};

const ECHO_1: &[Metric] = &[
    metric("TCP echo, 1 connection, a request", "ns"),
    metric("TCP echo, 1 connection, p50", "us"),
    metric("TCP echo, 1 connection, p99", "us"),
    metric("TCP echo, 1 connection, p99.9", "us"),
];
const ECHO_64: &[Metric] = &[
    movable("TCP echo, 64 connections, a request", "ns", 0.95),
    metric("TCP echo, 64 connections, p50", "us"),
    metric("TCP echo, 64 connections, p99", "us"),
    metric("TCP echo, 64 connections, p99.9", "us"),
];
const ECHO_1000: &[Metric] = &[
    metric("TCP echo, 1000 connections, a request", "ns"),
    metric("TCP echo, 1000 connections, p50", "us"),
    metric("TCP echo, 1000 connections, p99", "us"),
    metric("TCP echo, 1000 connections, p99.9", "us"),
];
const BESIDE_HOG: &[Metric] =
    &[movable("TCP echo beside a 2 ms CPU hog, p99", "us", 0.8), metric("TCP echo beside a 2 ms CPU hog, worst", "us")];
const BESIDE_BLOCKER: &[Metric] = &[
    metric("TCP echo beside a task that blocks 50 ms, p99", "us"),
    movable("TCP echo beside a task that blocks 50 ms, worst", "us", 2.0),
];
const SERVER_64: &[Metric] = &[
    near_bare("echo server, one worker, 64 connections, CPU a request", "ns", 1.03),
    metric("echo server, one worker, 64 connections, p99", "us"),
];
const SERVER_1000: &[Metric] = &[
    metric("echo server, one worker, 1000 connections, CPU a request", "ns"),
    near_bare("echo server, one worker, 1000 connections, p99", "us", 1.1),
];
const HTTP: &[Metric] = &[
    movable("HTTP/1.1 keep-alive through hyper, 64 connections, a request", "ns", 0.91),
    metric("HTTP/1.1 keep-alive through hyper, 64 connections, p99", "us"),
];
const LOADED_MILLIS: usize = 800;

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    let mut list = vec![
        Workload::probe("echo-1", ECHO_1, |runtime, scale| echo(runtime, 1, scale)),
        Workload::probe("echo-64", ECHO_64, |runtime, scale| echo(runtime, 64, scale)),
        Workload::probe("echo-1000", ECHO_1000, |runtime, scale| echo(runtime, 1000, scale)),
        Workload::probe("echo-hog", BESIDE_HOG, beside_hog),
        Workload::probe("echo-blocker", BESIDE_BLOCKER, beside_blocker),
    ];
    let mut small = Workload::probe("server-64", SERVER_64, |runtime, scale| served(runtime, 64, scale));
    small.bare = Some(|scale| served_alone(64, scale, serve_bare));
    small.monoio = Some(|scale| served_alone(64, scale, serve_monoio));
    let mut large = Workload::probe("server-1000", SERVER_1000, |runtime, scale| served(runtime, 1000, scale));
    large.bare = Some(|scale| served_alone(1000, scale, serve_bare));
    large.monoio = Some(|scale| served_alone(1000, scale, serve_monoio));
    list.extend([small, large].map(|workload| workload.with(Config::ONE)));
    list.push(Workload::probe("http", HTTP, http));
    list
}

fn echo<R: Rt>(runtime: &R, conns: usize, scale: Scale) -> Figures {
    let duration = scale.millis(600);
    let sorted = runtime.block_on(latencies::<R>(conns, duration));
    let per_request = duration.as_nanos() as f64 / sorted.len().max(1) as f64;
    vec![Some(per_request), micros(&sorted, 0.5), micros(&sorted, 0.99), micros(&sorted, 0.999)]
}

fn micros(sorted: &[u32], rank: f64) -> Option<f64> {
    percentile(sorted, rank).map(|nanos| f64::from(nanos) / 1e3)
}

async fn latencies<R: Rt>(conns: usize, duration: Duration) -> Vec<u32> {
    // Both ends of every connection, and some for the runtime itself.
    raise_descriptor_limit(2 * conns as u64 + 200);
    let address = start_server::<R>(Protocol::Echo).await;
    let start = Arc::new(Barrier::new(conns));
    let client = || R::spawn_client(Client { address, start: start.clone(), duration });
    let clients: Vec<_> = (0..conns).map(|_| client()).collect();
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await);
    }
    all.sort_unstable();
    all
}

async fn start_server<R: Rt>(protocol: Protocol) -> SocketAddr {
    let (tx, rx) = oneshot::channel();
    R::spawn_server(protocol, tx);
    rx.await.expect("the server did not start")
}

fn beside_hog<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    beside::<R>(runtime, scale, || {
        let end = Instant::now() + Duration::from_millis(2);
        while Instant::now() < end {
            std::hint::spin_loop();
        }
    })
}

fn beside_blocker<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    beside::<R>(runtime, scale, || std::thread::sleep(Duration::from_millis(50)))
}

/// Echo with 8 connections while one task calls `misbehave` over and over, yielding in between.
fn beside<R: Rt>(runtime: &R, scale: Scale, misbehave: fn()) -> Figures {
    let sorted = runtime.block_on(async {
        R::detach(R::spawn(async move {
            loop {
                misbehave();
                R::yield_now().await;
            }
        }));
        latencies::<R>(8, scale.millis(1_000)).await
    });
    vec![micros(&sorted, 0.99), micros(&sorted, 1.0)]
}

/// A server of one worker, loaded from another process.
fn served<R: Rt>(runtime: &R, conns: usize, scale: Scale) -> Figures {
    server_figures(loaded(runtime, Protocol::Echo, conns, scale))
}

/// hyper with two workers; its load generator has to share the CPUs with them.
fn http<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let duration = scale.millis(LOADED_MILLIS).as_nanos() as f64;
    let load = loaded(runtime, Protocol::Http, 64, scale);
    vec![Some(duration / load.requests.max(1) as f64), Some(load.p99_ns / 1e3)]
}

fn loaded<R: Rt>(runtime: &R, protocol: Protocol, conns: usize, scale: Scale) -> Load {
    raise_descriptor_limit(conns as u64 + 200);
    runtime.block_on(async {
        let address = start_server::<R>(protocol).await;
        let (tx, rx) = oneshot::channel();
        let duration = scale.millis(LOADED_MILLIS);
        std::thread::spawn(move || tx.send(bare::under_load(address, protocol, conns, duration)));
        rx.await.expect("the loading thread panicked").expect("no load")
    })
}

type Told = std_mpsc::Sender<SocketAddr>;

fn serve_bare(told: Told) -> io::Result<()> {
    bare::serve(|address| told.send(address).expect("nobody asks"))
}

fn serve_monoio(told: Told) -> io::Result<()> {
    monoio_rt::serve(|address| told.send(address).expect("nobody asks"))
}

/// As [`served`], by a thread that is the whole server.
fn served_alone(conns: usize, scale: Scale, serve: fn(Told) -> io::Result<()>) -> Figures {
    raise_descriptor_limit(conns as u64 + 200);
    let (tx, rx) = std_mpsc::channel();
    std::thread::spawn(move || serve(tx));
    let address = rx.recv().expect("the server did not start");
    let duration = scale.millis(LOADED_MILLIS);
    server_figures(bare::under_load(address, Protocol::Echo, conns, duration).expect("no load"))
}

fn server_figures(load: Load) -> Figures {
    let cpu = load.server_cpu.as_nanos() as f64 / load.requests.max(1) as f64;
    vec![Some(cpu), Some(load.p99_ns / 1e3)]
}
