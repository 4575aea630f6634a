//! Clocks and counters of the operating system, and small statistics.
//!
//! Callable from any thread; nothing here keeps state. What only Linux's `/proc` tells is `None` elsewhere.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process.
pub fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec as u64, spent.tv_nsec as u32)
}

/// How often this process's threads gave up their CPU to wait for something.
pub fn voluntary_switches() -> Option<u64> {
    let mut switches = 0;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let status = std::fs::read_to_string(thread.ok()?.path().join("status")).ok()?;
        switches += field(&status, "voluntary_ctxt_switches:")?;
    }
    Some(switches)
}

/// Memory of this process that is in RAM, in bytes.
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(field(&status, "VmRSS:")? * 1024)
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Allows `wanted` open descriptors, or as many as the hard limit does.
pub fn raise_descriptor_limit(wanted: u64) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_some_and(|current| current < wanted) {
        let current = Some(maximum.map_or(wanted, |maximum| wanted.min(maximum)));
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("cannot raise the descriptor limit");
    }
}

/// The value that the share `rank` (0 to 1) of the sorted values does not exceed.
pub fn percentile<T: Copy>(sorted: &[T], rank: f64) -> Option<T> {
    let index = (sorted.len() as f64 * rank).ceil() as usize;
    sorted.get(index.saturating_sub(1).min(sorted.len().checked_sub(1)?)).copied()
}

/// The middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}
