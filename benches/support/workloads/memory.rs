//! What a task costs that does nothing but wait.
//!
//! Needs a process of its own: another workload's freed memory would hide the growth. Owner-only.

use std::future::pending;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Figures, Metric, Scale, Workload, at_most};
use crate::support::Rt;
use crate::support::measure::resident_bytes;

const IDLE: &[Metric] = &[at_most("memory of an idle no-op task, resident", "bytes", 100.0)];

const BATCH: usize = 1_000;
static POLLED: AtomicUsize = AtomicUsize::new(0);

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    vec![Workload::probe("memory", IDLE, idle_tasks)]
}

fn idle_tasks<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let count = scale.of(400_000);
    runtime.block_on(async {
        // A task that nobody could ever wake or await is freed by some runtimes: hold the handles, in memory that is
        // resident before the count begins. The first tasks make queues and tables grow to a working size.
        let mut tasks: Vec<Option<R::Join<()>>> = Vec::new();
        tasks.resize_with(count + BATCH, || None);
        let (few, many) = tasks.split_at_mut(BATCH);
        spawn_idle::<R>(few).await;
        let before = resident_bytes();
        spawn_idle::<R>(many).await;
        let after = resident_bytes();
        std::mem::forget(tasks);
        vec![before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64 / count as f64)]
    })
}

/// In batches that are polled before the next is spawned: a long ready queue is not the tasks' memory.
async fn spawn_idle<R: Rt>(tasks: &mut [Option<R::Join<()>>]) {
    for batch in tasks.chunks_mut(BATCH) {
        let polled = POLLED.load(Ordering::Relaxed) + batch.len();
        for task in batch {
            *task = Some(R::spawn(idle()));
        }
        while POLLED.load(Ordering::Relaxed) < polled {
            R::yield_now().await;
        }
    }
}

/// Captures nothing: the counter is a static for this reason only.
async fn idle() {
    POLLED.fetch_add(1, Ordering::Relaxed);
    pending::<()>().await;
}
