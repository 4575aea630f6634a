//! Tasks that are busy with each other: yields, ping-pong, channels, CPU-bound work.
//!
//! Owner-only: each pass runs inside `block_on` on the bench's main thread.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use epicycle::sync::Queue;
use tokio::sync::{mpsc, oneshot};

use super::{Metric, Workload, goal, metric};
use crate::support::{Config, Rt};

const YIELDERS: usize = 200;
const YIELDS: usize = 1_000;
pub const ALL_YIELDS: usize = YIELDERS * YIELDS;
pub const PAIRS: usize = 1_000;
const ENDS: usize = 4;
const CAPACITY: usize = 100;
pub const MESSAGES: usize = 40_000;
const CPU_TASKS: usize = 64;

const YIELD: &[Metric] = &[goal("yield, 200 tasks x 1000, each", "ns", 0.7)];
const PING_PONG: &[Metric] = &[goal("ping-pong over two oneshots, 1000 pairs, a pair", "ns", 0.8)];
const CHANNEL: &[Metric] = &[goal("bounded channels, 4 producers to 4 consumers, a message", "ns", 0.8)];
const QUEUE: &[Metric] = &[metric("the same with epicycle's queues, a message", "ns")];
const FREE_LOCK: &[Metric] = &[metric("lock and unlock a free mutex, each", "ns")];
const OWN_FREE_LOCK: &[Metric] = &[metric("the same with epicycle's mutex, each", "ns")];
const CPU_ONE: &[Metric] = &[metric("CPU-bound tasks of 1 ms, one worker, a task", "ns")];
const CPU_TWO: &[Metric] = &[metric("CPU-bound tasks of 1 ms, two workers, a task", "ns")];

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    vec![
        Workload::pass("yield", YIELD, ALL_YIELDS, 20, yielding),
        Workload::pass("ping-pong", PING_PONG, PAIRS, 200, ping_pong),
        Workload::pass("channel", CHANNEL, MESSAGES, 20, channel),
        Workload::pass("queue", QUEUE, MESSAGES, 20, queue),
        Workload::pass("free-lock", FREE_LOCK, MESSAGES, 20, free_lock),
        Workload::pass("own-free-lock", OWN_FREE_LOCK, MESSAGES, 20, own_free_lock),
        Workload::pass("cpu-one-worker", CPU_ONE, CPU_TASKS, 4, cpu_bound).with(Config::ONE),
        Workload::pass("cpu-two-workers", CPU_TWO, CPU_TASKS, 4, cpu_bound),
    ]
}

pub fn yielding<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let tasks: Vec<_> = (0..YIELDERS).map(|_| R::spawn(yielder::<R>())).collect();
        for task in tasks {
            task.await;
        }
        start.elapsed()
    })
}

async fn yielder<R: Rt>() {
    for _ in 0..YIELDS {
        R::yield_now().await;
    }
}

pub fn ping_pong<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let tasks: Vec<_> = (0..PAIRS).map(|_| R::spawn(pair::<R>())).collect();
        for task in tasks {
            task.await;
        }
        start.elapsed()
    })
}

async fn pair<R: Rt>() {
    let (ping, pinged) = oneshot::channel();
    let (pong, ponged) = oneshot::channel();
    R::detach(R::spawn(async move {
        let _ = pinged.await;
        let _ = pong.send(());
    }));
    let _ = ping.send(());
    ponged.await.expect("the partner vanished");
}

/// Every producer sends to every consumer in turn, so that all sixteen pairs are in use.
pub fn channel<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let (senders, consumers): (Vec<_>, Vec<_>) = (0..ENDS).map(|_| consumer::<R>()).unzip();
        for first in 0..ENDS {
            R::detach(R::spawn(produce(senders.clone(), first)));
        }
        drop(senders);
        let mut received = 0;
        for consumer in consumers {
            received += consumer.await;
        }
        assert_eq!(received, MESSAGES);
        start.elapsed()
    })
}

fn consumer<R: Rt>() -> (mpsc::Sender<usize>, R::Join<usize>) {
    let (tx, mut rx) = mpsc::channel(CAPACITY);
    let task = R::spawn(async move {
        let mut received = 0;
        while rx.recv().await.is_some() {
            received += 1;
        }
        received
    });
    (tx, task)
}

async fn produce(consumers: Vec<mpsc::Sender<usize>>, first: usize) {
    for message in 0..MESSAGES / ENDS {
        let consumer = &consumers[(first + message) % ENDS];
        consumer.send(message).await.expect("a consumer vanished");
    }
}

/// As [`channel`], on queues; they have no ends to drop, so each side counts.
fn queue<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let queues: Vec<_> = (0..ENDS).map(|_| Arc::new(Queue::new(CAPACITY))).collect();
        let consumers: Vec<_> = queues.iter().map(|queue| R::spawn(drain(queue.clone()))).collect();
        for first in 0..ENDS {
            R::detach(R::spawn(fill(queues.clone(), first)));
        }
        for consumer in consumers {
            consumer.await;
        }
        start.elapsed()
    })
}

async fn drain(queue: Arc<Queue<usize>>) {
    for _ in 0..MESSAGES / ENDS {
        queue.get().await.expect("the queue was shut down");
    }
}

async fn fill(queues: Vec<Arc<Queue<usize>>>, first: usize) {
    for message in 0..MESSAGES / ENDS {
        let queue = &queues[(first + message) % ENDS];
        queue.put(message).await.expect("the queue was shut down");
    }
}

fn free_lock<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let mutex = tokio::sync::Mutex::new(0);
        let start = Instant::now();
        for _ in 0..MESSAGES {
            *mutex.lock().await += 1;
        }
        start.elapsed()
    })
}

fn own_free_lock<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let mutex = epicycle::sync::Mutex::new(0);
        let start = Instant::now();
        for _ in 0..MESSAGES {
            *mutex.lock().await += 1;
        }
        start.elapsed()
    })
}

/// Spawned from one task: the second worker has to come and take its half.
fn cpu_bound<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let spawner = R::spawn(async {
            let start = Instant::now();
            let tasks: Vec<_> = (0..CPU_TASKS).map(|_| R::spawn(async { black_box(crunch()) })).collect();
            for task in tasks {
                task.await;
            }
            start.elapsed()
        });
        spawner.await
    })
}

/// A fixed amount of arithmetic, about a millisecond.
fn crunch() -> u64 {
    (0..black_box(1_000_000_u64)).fold(1, |hash, each| (hash ^ each).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
