//! Counts the system calls of a workload's measured part, by name, with strace: `compare -- --syscalls`.
//!
//! A sample marks the beginning and the end of what it measures with a call that nobody else makes ([`mark`]), so that
//! starting up, connecting and warming up do not count. The load generator is let go at its `execve`: it runs at full
//! speed, and the server, slowed by strace, sees full batches of events. So these are counts of a server that is behind.
//! Owner-only: the parent process's one thread; `mark` may be called anywhere.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Access, access};
use serde_json::{Value, json};

use super::machine::Machine;
use super::measure::median;

/// Begins the path of every mark; no such file exists.
const MARK: &str = "/epicycle-bench-mark/";
const KINDS: [&str; 7] = ["read", "write", "epoll_wait", "futex", "eventfd", "malloc", "other"];
/// What 10k spawns may cost in futex and eventfd calls, the allocator's included: smol's figure when the goal was set.
const WAKE_CALLS: f64 = 22.0;
/// Calls a request that do not come from requests: the ticks of clocks while a server is busy.
const NOISE: f64 = 0.01;

/// A workload whose calls are counted.
pub struct Traced {
    pub key: &'static str,
    what: &'static str,
    /// The marks count operations; so many of them are one `what`.
    per: f64,
    goal: Goal,
}

#[derive(Clone, Copy)]
enum Goal {
    /// All calls together: no more than the bare loop's.
    Bare,
    /// Futex and eventfd calls.
    Wakes,
}

const SPAWNS: f64 = 10_000.0;
pub const TRACED: [Traced; 4] = [
    Traced { key: "server-64", what: "an echo request, one worker, 64 connections", per: 1.0, goal: Goal::Bare },
    Traced { key: "spawn-root", what: "10k spawns from block_on", per: SPAWNS, goal: Goal::Wakes },
    Traced { key: "spawn-task", what: "10k spawns from a task", per: SPAWNS, goal: Goal::Wakes },
    Traced { key: "spawn-foreign", what: "10k spawns from a foreign thread", per: SPAWNS, goal: Goal::Wakes },
];

/// Says to whoever traces this process that the measured part begins.
pub fn mark_begin() {
    let _ = access(format!("{MARK}begin"), Access::EXISTS);
}

/// Says that it has ended, and how many operations it was.
pub fn mark_end(operations: u64) {
    let _ = access(format!("{MARK}end/{operations}"), Access::EXISTS);
}

pub fn strace_works() -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

/// The command that runs `program` under strace and writes every call to `log`.
pub fn strace(program: &Path, log: &Path) -> Command {
    let mut command = Command::new("strace");
    command.args(["-f", "-b", "execve", "-qq", "-s", "0", "-o"]).arg(log).arg(program);
    command
}

/// Calls of one measured part, per `what`: by kind, and by name those of the kind "other".
#[derive(Default)]
struct Calls {
    kinds: [f64; KINDS.len()],
    others: BTreeMap<String, f64>,
}

/// Goes through a log line by line.
#[derive(Default)]
struct Reader {
    /// As strace prints them.
    eventfds: HashSet<String>,
    /// Addresses of glibc's own locks, in practice the allocator's.
    mallocs: HashSet<String>,
    measuring: bool,
    calls: Calls,
    /// What has been measured so far, each with its number of operations.
    parts: Vec<(Calls, f64)>,
}

impl Reader {
    fn read(log: &str) -> Reader {
        let mut reader = Reader::default();
        // Nobody else waits in this manner: Rust's locks ask for a bitset, and parking_lot for another value.
        let waits = log.lines().filter(|line| line.contains("FUTEX_WAIT_PRIVATE, 2"));
        let addresses = waits.filter_map(|line| line.split_once("futex(")?.1.split_once(','));
        reader.mallocs = addresses.map(|(address, _)| address.to_string()).collect();
        log.lines().for_each(|line| reader.line(line));
        reader
    }

    fn line(&mut self, line: &str) {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
        if line.contains("eventfd2")
            && let Some((_, descriptor)) = line.rsplit_once("= ")
        {
            self.eventfds.insert(descriptor.trim().to_string());
        }
        if let Some((_, mark)) = line.split_once(MARK) {
            self.measuring = mark.starts_with("begin");
            let calls = std::mem::take(&mut self.calls);
            if let Some((count, _)) = mark.strip_prefix("end/").and_then(|rest| rest.split_once('"')) {
                self.parts.push((calls, count.parse().unwrap_or(f64::NAN)));
            }
        } else if let Some((name, arguments)) = line.split_once('(').filter(|_| self.measuring)
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            // A call that another thread's interrupts is printed in two parts, and the second has no such name.
            self.call(name, arguments);
        }
    }

    fn call(&mut self, name: &str, arguments: &str) {
        let first = arguments.split([',', ')']).next().unwrap_or_default();
        let kind = match name {
            "read" | "write" if self.eventfds.contains(first) => 4,
            "read" | "readv" | "recvfrom" | "recvmsg" => 0,
            "write" | "writev" | "sendto" | "sendmsg" => 1,
            "epoll_wait" | "epoll_pwait" | "epoll_pwait2" => 2,
            "futex" if self.mallocs.contains(first) => 5,
            "futex" => 3,
            name => {
                *self.calls.others.entry(name.to_string()).or_default() += 1.0;
                6
            }
        };
        self.calls.kinds[kind] += 1.0;
    }
}

#[derive(Default)]
pub struct Report {
    /// By workload and runtime, in the order of the first round.
    cells: Vec<(&'static Traced, String, Vec<Calls>)>,
}

impl Report {
    /// Adds one sample's log; one without marks, from a runtime that has no such configuration, is left out.
    pub fn add(&mut self, traced: &'static Traced, runtime: &str, log: &str) {
        for (mut calls, operations) in Reader::read(log).parts {
            let share = traced.per / operations;
            calls.kinds.iter_mut().chain(calls.others.values_mut()).for_each(|count| *count *= share);
            let known = self.cells.iter_mut().find(|(of, by, _)| of.key == traced.key && by == runtime);
            match known {
                Some((_, _, samples)) => samples.push(calls),
                None => self.cells.push((traced, runtime.to_string(), vec![calls])),
            }
        }
    }

    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\nSystem calls under strace, medians. The column malloc: futex calls of glibc's locks.\n\n",
            Machine::look().markdown()
        );
        let _ = writeln!(text, "| per | runtime | {} | all | goal |", KINDS.join(" | "));
        let _ = writeln!(text, "|---|---|{}--:|---|", "--:|".repeat(KINDS.len()));
        for (traced, runtime, samples) in &self.cells {
            let kinds = medians(samples).map(figure).join(" | ");
            let all = figure(medians(samples).iter().sum());
            let verdict = if runtime == "epicycle" { self.verdict(traced) } else { String::new() };
            let _ = writeln!(text, "| {} | {runtime} | {kinds} | {all} | {verdict} |", traced.what);
        }
        text
    }

    fn of(&self, traced: &Traced, runtime: &str) -> Option<[f64; KINDS.len()]> {
        let found = self.cells.iter().find(|(of, by, _)| of.key == traced.key && by == runtime);
        found.map(|(_, _, samples)| medians(samples))
    }

    /// Our figure and the limit.
    fn standing(&self, traced: &Traced) -> Option<(f64, f64)> {
        let ours = self.of(traced, "epicycle")?;
        Some(match traced.goal {
            Goal::Bare => (ours.iter().sum(), self.of(traced, "bare")?.iter().sum::<f64>() + NOISE),
            Goal::Wakes => (ours[3] + ours[4] + ours[5], WAKE_CALLS),
        })
    }

    fn verdict(&self, traced: &Traced) -> String {
        let what = match traced.goal {
            Goal::Bare => "all, as many as bare",
            Goal::Wakes => "futex and eventfd",
        };
        match self.standing(traced) {
            None => String::new(),
            Some((ours, limit)) if ours < limit => format!("{what}, under {}: met, {}", figure(limit), figure(ours)),
            Some((ours, limit)) => format!("{what}, under {}: **missed, {}**", figure(limit), figure(ours)),
        }
    }

    pub fn write_json(&self, path: &Path) -> io::Result<()> {
        let rows: Vec<Value> = TRACED.iter().map(|traced| self.row(traced)).collect();
        let all = json!({ "machine": Machine::look().json(), "rows": rows });
        std::fs::write(path, format!("{all:#}\n"))
    }

    fn row(&self, traced: &Traced) -> Value {
        let mut runtimes = serde_json::Map::new();
        for (_, runtime, samples) in self.cells.iter().filter(|(of, ..)| of.key == traced.key) {
            let calls = medians(samples);
            let by_kind: serde_json::Map<_, _> =
                KINDS.iter().zip(calls).map(|(kind, count)| (kind.to_string(), count.into())).collect();
            let totals: Vec<f64> = samples.iter().map(|sample| sample.kinds.iter().sum()).collect();
            let all = calls.iter().sum::<f64>();
            let cell = json!({ "calls": by_kind, "all": all, "totals": totals, "others": others(samples) });
            runtimes.insert(runtime.clone(), cell);
        }
        let goal =
            self.standing(traced).map(|(ours, limit)| json!({ "ours": ours, "under": limit, "met": ours < limit }));
        json!({ "key": traced.key, "per": traced.what, "goal": goal, "runtimes": runtimes })
    }
}

/// Means of what the kind "other" is made of.
fn others(samples: &[Calls]) -> BTreeMap<&str, f64> {
    let mut all = BTreeMap::new();
    for (name, count) in samples.iter().flat_map(|sample| &sample.others) {
        *all.entry(name.as_str()).or_default() += count / samples.len() as f64;
    }
    all
}

fn medians(samples: &[Calls]) -> [f64; KINDS.len()] {
    std::array::from_fn(|kind| {
        let counts: Vec<f64> = samples.iter().map(|sample| sample.kinds[kind]).collect();
        median(&counts).unwrap_or(f64::NAN)
    })
}

fn figure(value: f64) -> String {
    if value >= 10.0 { format!("{value:.1}") } else { format!("{value:.3}") }
}
