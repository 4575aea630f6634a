//! The short workloads side by side under criterion: `cargo bench --bench runtime [-- FILTER]`.
//!
//! For looking at one change closely; the whole picture is `compare`'s. All runtimes live in this one process, idle
//! while another is measured, so smol and nio take part in one set-up each. Owner-only: main thread.

mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use support::epicycle_rt::Epicycle;
use support::nio_rt::Nio;
use support::smol_rt::Smol;
use support::tokio_rt::Tokio;
use support::workloads::{scheduling, spawning, waking};
use support::{Config, Rt};

struct Runtimes {
    epicycle: Epicycle,
    tokio: Tokio,
    smol: Smol<false>,
    nio: Nio,
}

impl Runtimes {
    fn start() -> Runtimes {
        fn two_workers<R: Rt>() -> R {
            R::start(Config::TWO).expect("every runtime has two workers")
        }
        Runtimes { epicycle: two_workers(), tokio: two_workers(), smol: two_workers(), nio: two_workers() }
    }
}

/// One group: the same pass on every runtime.
macro_rules! group {
    ($criterion:expr, $runtimes:expr, $name:literal, $ops:expr, $pass:path) => {{
        let mut group = $criterion.benchmark_group($name);
        group.sample_size(20).throughput(Throughput::Elements($ops as u64));
        group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        group!(@on group, $runtimes.epicycle, Epicycle, $pass);
        group!(@on group, $runtimes.tokio, Tokio, $pass);
        group!(@on group, $runtimes.smol, Smol::<false>, $pass);
        group!(@on group, $runtimes.nio, Nio, $pass);
        group.finish();
    }};
    (@on $group:expr, $runtime:expr, $type:ty, $pass:path) => {
        $group.bench_function(BenchmarkId::from_parameter(<$type as Rt>::NAME), |bencher| {
            bencher.iter_custom(|passes| (0..passes).map(|_| $pass(&$runtime)).sum())
        });
    };
}

fn benches(criterion: &mut Criterion) {
    let runtimes = Runtimes::start();
    group!(criterion, runtimes, "spawn_from_root", spawning::SPAWNS, spawning::from_root);
    group!(criterion, runtimes, "spawn_from_task", spawning::SPAWNS, spawning::from_task);
    group!(criterion, runtimes, "spawn_from_foreign", spawning::SPAWNS, spawning::from_foreign);
    group!(criterion, runtimes, "spawn_chain", spawning::LINKS, spawning::chained);
    group!(criterion, runtimes, "spawn_tree", spawning::NODES, spawning::tree);
    group!(criterion, runtimes, "yield", scheduling::ALL_YIELDS, scheduling::yielding);
    group!(criterion, runtimes, "ping_pong", scheduling::PAIRS, scheduling::ping_pong);
    group!(criterion, runtimes, "channel", scheduling::MESSAGES, scheduling::channel);
    group!(criterion, runtimes, "request_reply", waking::REQUESTS, waking::request_reply);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    benches(&mut criterion);
    criterion.final_summary();
}
