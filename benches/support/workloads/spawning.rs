//! Spawning no-ops from everywhere, chains of spawns and trees of them.
//!
//! Owner-only: each pass runs inside `block_on` on the bench's main thread.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_lite::future;
use tokio::sync::oneshot;

use super::{Metric, Workload, goal};
use crate::support::Rt;

pub const SPAWNS: usize = 10_000;
pub const LINKS: usize = 1_000;
const BRANCHES: usize = 10;
const DEPTH: u32 = 5;
/// Every node of the tree is a task: 1 + 10 + ... + 100 000.
pub const NODES: usize = 111_111;

const ROOT: &[Metric] = &[goal("spawn 10k no-ops from block_on and join, each", "ns", 0.7)];
const TASK: &[Metric] = &[goal("spawn 10k no-ops from a task and join, each", "ns", 0.7)];
const FOREIGN: &[Metric] = &[goal("spawn 10k no-ops from a foreign thread and join, each", "ns", 0.8)];
const CHAINED: &[Metric] = &[goal("chained spawn, depth 1000, a link", "ns", 0.7)];
const TREE: &[Metric] = &[goal("recursive fan-out with joins, 111k tasks, a task", "ns", 0.7)];

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    vec![
        Workload::pass("spawn-root", ROOT, SPAWNS, 40, from_root),
        Workload::pass("spawn-task", TASK, SPAWNS, 40, from_task),
        Workload::pass("spawn-foreign", FOREIGN, SPAWNS, 40, from_foreign),
        Workload::pass("spawn-chain", CHAINED, LINKS, 400, chained),
        Workload::pass("spawn-tree", TREE, NODES, 8, tree),
    ]
}

pub fn from_root<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(spawn_and_join::<R>(SPAWNS))
}

pub fn from_task<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async { R::spawn(spawn_and_join::<R>(SPAWNS)).await })
}

async fn spawn_and_join<R: Rt>(count: usize) -> Duration {
    let start = Instant::now();
    let tasks: Vec<_> = (0..count).map(|_| R::spawn(async {})).collect();
    for task in tasks {
        task.await;
    }
    start.elapsed()
}

/// The runtime is idle, its `block_on` waiting, when another thread floods it.
pub fn from_foreign<R: Rt>(runtime: &R) -> Duration {
    let remote = runtime.remote();
    let (tx, rx) = oneshot::channel();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        let tasks: Vec<_> = (0..SPAWNS).map(|_| R::spawn_remote(&remote, async {})).collect();
        future::block_on(async {
            for task in tasks {
                task.await;
            }
        });
        let _ = tx.send(start.elapsed());
    });
    let elapsed = runtime.block_on(async { rx.await.expect("the foreign thread panicked") });
    thread.join().expect("the foreign thread panicked");
    elapsed
}

pub fn chained<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let (tx, rx) = oneshot::channel();
        let start = Instant::now();
        link::<R>(LINKS, tx);
        rx.await.expect("the chain broke");
        start.elapsed()
    })
}

fn link<R: Rt>(left: usize, done: oneshot::Sender<()>) {
    R::detach(R::spawn(async move {
        if left == 1 {
            let _ = done.send(());
        } else {
            link::<R>(left - 1, done);
        }
    }));
}

pub fn tree<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let start = Instant::now();
        let nodes = R::spawn(grow::<R>(DEPTH)).await;
        assert_eq!(nodes, NODES);
        start.elapsed()
    })
}

fn grow<R: Rt>(depth: u32) -> Pin<Box<dyn Future<Output = usize> + Send>> {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let branches: Vec<_> = (0..BRANCHES).map(|_| R::spawn(grow::<R>(depth - 1))).collect();
        let mut nodes = 1;
        for branch in branches {
            nodes += branch.await;
        }
        nodes
    })
}
