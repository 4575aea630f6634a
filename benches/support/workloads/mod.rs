//! The list of workloads: one entry is one row (or a few) of the table.
//!
//! To add a row, write a function generic over [`Rt`] and add an entry to [`all`]; nothing else knows the list.
//! Owner-only: called by the bench's main thread.

pub mod crossing;
pub mod memory;
pub mod net;
pub mod scheduling;
pub mod spawning;
pub mod timing;
pub mod traps;
pub mod waking;

use std::time::Duration;

use super::measure::median;
use super::syscalls::{mark_begin, mark_end};
use super::{Config, Rt};

/// One figure that a workload reports; less is better in all of them.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub title: &'static str,
    pub unit: &'static str,
    pub goal: Option<Goal>,
}

/// What epicycle aims at.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// A ratio to the best of Tokio, smol and nio as they come.
    OfPeers(f64),
    /// A ratio to the best of Tokio and smol, whose tasks, timers and sockets may move between threads; nio's may not.
    OfMovable(f64),
    /// A ratio to the loop without a runtime.
    OfBare(f64),
    /// A figure.
    AtMost(f64),
}

const fn metric(title: &'static str, unit: &'static str) -> Metric {
    Metric { title, unit, goal: None }
}

const fn goal(title: &'static str, unit: &'static str, ratio: f64) -> Metric {
    Metric { title, unit, goal: Some(Goal::OfPeers(ratio)) }
}

const fn movable(title: &'static str, unit: &'static str, ratio: f64) -> Metric {
    Metric { title, unit, goal: Some(Goal::OfMovable(ratio)) }
}

const fn at_most(title: &'static str, unit: &'static str, figure: f64) -> Metric {
    Metric { title, unit, goal: Some(Goal::AtMost(figure)) }
}

const fn near_bare(title: &'static str, unit: &'static str, ratio: f64) -> Metric {
    Metric { title, unit, goal: Some(Goal::OfBare(ratio)) }
}

/// A figure per metric, `None` where the platform or the runtime cannot tell.
pub type Figures = Vec<Option<f64>>;

/// How much of a workload to run.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub quick: bool,
}

impl Scale {
    /// `full`, or a fourth of it.
    pub fn of(self, full: usize) -> usize {
        if self.quick { full / 4 } else { full }
    }

    pub fn millis(self, full: usize) -> Duration {
        Duration::from_millis(self.of(full) as u64)
    }
}

/// What a workload does with a started runtime.
pub enum Body<R> {
    /// One timed pass over `ops` operations, repeated; the figure is the median in nanoseconds per operation.
    Pass { ops: usize, repeats: usize, pass: fn(&R) -> Duration },
    /// Runs once and reports all metrics.
    Probe(fn(&R, Scale) -> Figures),
}

pub struct Workload<R> {
    pub key: &'static str,
    pub config: Config,
    pub metrics: &'static [Metric],
    pub body: Body<R>,
    /// The same without any runtime, as a floor.
    pub bare: Option<fn(Scale) -> Figures>,
    /// The same on monoio, which is a server's loop and no [`Rt`].
    pub monoio: Option<fn(Scale) -> Figures>,
}

impl<R: Rt> Workload<R> {
    const fn pass(
        key: &'static str,
        metrics: &'static [Metric],
        ops: usize,
        repeats: usize,
        pass: fn(&R) -> Duration,
    ) -> Self {
        Workload {
            key,
            config: Config::TWO,
            metrics,
            body: Body::Pass { ops, repeats, pass },
            bare: None,
            monoio: None,
        }
    }

    const fn probe(key: &'static str, metrics: &'static [Metric], probe: fn(&R, Scale) -> Figures) -> Self {
        Workload { key, config: Config::TWO, metrics, body: Body::Probe(probe), bare: None, monoio: None }
    }

    const fn with(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Starts a runtime and measures; `None` if it has no such configuration.
    pub fn measure(&self, scale: Scale) -> Option<Figures> {
        let runtime = R::start(self.config)?;
        let figures = match self.body {
            Body::Probe(probe) => probe(&runtime, scale),
            Body::Pass { ops, repeats, pass } => vec![repeat(&runtime, ops, scale.of(repeats).max(3), pass)],
        };
        // The process is about to end. Tearing runtimes down is not what is measured, and some cannot be.
        std::mem::forget(runtime);
        Some(figures)
    }
}

fn repeat<R>(runtime: &R, ops: usize, repeats: usize, pass: fn(&R) -> Duration) -> Option<f64> {
    pass(runtime);
    let timed = |_| {
        mark_begin();
        let time = pass(runtime);
        mark_end(ops as u64);
        time.as_nanos() as f64 / ops as f64
    };
    let times: Vec<f64> = (0..repeats).map(timed).collect();
    median(&times)
}

/// Every workload, in the order of the table.
pub fn all<R: Rt>() -> Vec<Workload<R>> {
    let mut list = Vec::new();
    list.extend(spawning::workloads());
    list.extend(scheduling::workloads());
    list.extend(waking::workloads());
    list.extend(timing::workloads());
    list.extend(net::workloads());
    list.extend(memory::workloads());
    list.extend(traps::workloads());
    list.extend(crossing::workloads());
    list
}
