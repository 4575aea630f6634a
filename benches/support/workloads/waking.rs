//! Messages across the runtime's border: to `block_on`'s own future and to threads that know no runtime.
//!
//! Owner-only: each pass runs inside `block_on` on the bench's main thread.

use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::{Figures, Metric, Scale, Workload, goal, movable};
use crate::support::measure::median;
use crate::support::{Config, Rt};

pub const REQUESTS: usize = 1_000;

// Tokio and smol keep `block_on`'s future off the workers. nio makes it a task, and puts both on one worker here.
const REQUEST: &[Metric] = &[movable("request/reply between block_on's future and a task", "ns", 0.05)];
const FOREIGN: &[Metric] = &[goal("foreign thread wakes a task and is answered, round trip", "us", 1.0)];
const SPINNING: &[Metric] = &[goal("the same with spin(50 us) where there is such a setting", "us", 0.3)];

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    vec![
        Workload::pass("request-reply", REQUEST, REQUESTS, 20, request_reply),
        Workload::probe("foreign-wake", FOREIGN, foreign_wake),
        Workload::probe("foreign-wake-spin", SPINNING, foreign_wake).with(Config::SPINNING),
    ]
}

pub fn request_reply<R: Rt>(runtime: &R) -> Duration {
    runtime.block_on(async {
        let (tx, mut rx) = mpsc::channel::<oneshot::Sender<()>>(100);
        R::detach(R::spawn(async move {
            while let Some(reply) = rx.recv().await {
                let _ = reply.send(());
            }
        }));
        let start = Instant::now();
        for _ in 0..REQUESTS {
            let (reply, replied) = oneshot::channel();
            tx.send(reply).await.expect("the task vanished");
            replied.await.expect("no reply");
        }
        start.elapsed()
    })
}

/// The thread waits on a standard channel for each answer, so both sides park every time.
fn foreign_wake<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let (tx, mut rx) = mpsc::unbounded_channel::<()>();
    let (answer, answered) = std_mpsc::channel();
    let (done, finished) = oneshot::channel();
    let rounds = scale.of(8_000);
    let thread = std::thread::spawn(move || {
        let mut trips = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let start = Instant::now();
            tx.send(()).expect("the task vanished");
            answered.recv().expect("the task vanished");
            trips.push(start.elapsed().as_nanos() as f64 / 1e3);
        }
        let _ = done.send(());
        trips
    });
    runtime.block_on(async move {
        R::detach(R::spawn(async move {
            while rx.recv().await.is_some() {
                let _ = answer.send(());
            }
        }));
        finished.await.expect("the foreign thread panicked");
    });
    vec![median(&thread.join().expect("the foreign thread panicked"))]
}
