//! Timers that fire, timers that do not, and how late they are.
//!
//! Owner-only: each probe runs inside `block_on` on the bench's main thread.

use std::time::Duration;

use super::{Figures, Metric, Scale, Workload, metric, movable};
use crate::support::jobs::TimerJob;
use crate::support::measure::{cpu_time, percentile};
use crate::support::{Countdown, Rt};

const FIRE: &[Metric] = &[movable("100k tasks that sleep once, all for 200 ms, CPU each", "ns", 0.7)];
const FIRE_SPREAD: &[Metric] = &[movable("100k tasks that sleep once, ends spread over 500 ms, CPU each", "ns", 0.7)];
const DROP: &[Metric] = &[movable("timeouts armed and dropped, each", "ns", 0.4)];
const DROP_FIRST: &[Metric] = &[metric("timeouts armed as the earliest and dropped, each", "ns")];
const DROP_AMONG: &[Metric] = &[metric("timeouts armed and dropped among 10k others, each", "ns")];
const DROP_BUSY: &[Metric] = &[metric("timeouts armed and dropped by 4 tasks at once, each", "ns")];
const LATE: &[Metric] =
    &[movable("lateness of a 1.3 ms sleep, median", "us", 1.0), metric("lateness of a 1.3 ms sleep, p99", "us")];

pub fn workloads<R: Rt>() -> Vec<Workload<R>> {
    vec![
        Workload::probe("sleep-fire", FIRE, |runtime, scale| fire(runtime, 200, 0, scale)),
        Workload::probe("sleep-fire-spread", FIRE_SPREAD, |runtime, scale| fire(runtime, 50, 500, scale)),
        Workload::probe("timeout-drop", DROP, |runtime, scale| arm_and_drop(runtime, 1, 1, scale)),
        Workload::probe("timeout-drop-first", DROP_FIRST, |runtime, scale| arm_and_drop(runtime, 1, 0, scale)),
        Workload::probe("timeout-drop-10k", DROP_AMONG, |runtime, scale| arm_and_drop(runtime, 1, 10_000, scale)),
        Workload::probe("timeout-drop-4", DROP_BUSY, |runtime, scale| arm_and_drop(runtime, 4, 1, scale)),
        Workload::probe("sleep-late", LATE, late),
    ]
}

/// `least` and `spread` in milliseconds: spread deadlines have to be met one by one, or late.
fn fire<R: Rt>(runtime: &R, least: u64, spread: usize, scale: Scale) -> Figures {
    let count = scale.of(100_000);
    let spread = scale.millis(spread).as_nanos() as u64;
    runtime.block_on(async {
        let (countdown, done) = Countdown::new(count);
        let before = cpu_time();
        let spawner = R::spawn(async move {
            let mut random = 1_u64;
            for _ in 0..count {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let nanos = least * 1_000_000 + (random >> 20) % (spread + 1);
                R::spawn_sleeper(Duration::from_nanos(nanos), countdown.clone());
            }
        });
        spawner.await;
        done.await.expect("a sleeper vanished");
        vec![Some((cpu_time() - before).as_nanos() as f64 / count as f64)]
    })
}

fn arm_and_drop<R: Rt>(runtime: &R, tasks: usize, earlier: usize, scale: Scale) -> Figures {
    let times = scale.of(200_000) / tasks;
    runtime.block_on(async {
        R::spawn_timers(TimerJob::ArmAndDrop { times: 1_000, earlier: 0 }).await;
        let job = TimerJob::ArmAndDrop { times, earlier };
        let jobs: Vec<_> = (0..tasks).map(|_| R::spawn_timers(job)).collect();
        let mut slowest = 0;
        for job in jobs {
            slowest = slowest.max(job.await[0]);
        }
        vec![Some(slowest as f64 / times as f64)]
    })
}

fn late<R: Rt>(runtime: &R, scale: Scale) -> Figures {
    let job = TimerJob::Late { duration: Duration::from_micros(1_300), times: scale.of(300) };
    let mut lateness = runtime.block_on(async { R::spawn_timers(job).await });
    lateness.sort_unstable();
    let micros = |rank| percentile(&lateness, rank).map(|nanos| nanos as f64 / 1e3);
    vec![micros(0.5), micros(0.99)]
}
