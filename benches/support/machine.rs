//! Where figures were taken: the CPU, the kernel, the compiler, the day, and the peers' versions.
//!
//! What a system does not tell is "unknown". Owner-only: the parent process's one thread, before the first round.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Each as in `Cargo.lock`, which decides what was linked.
const PEERS: [&str; 6] = ["tokio", "async-executor", "async-io", "nio", "monoio", "mio"];

pub struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    rustc: String,
    date: String,
    /// One-minute load average.
    load: String,
    peers: Vec<(&'static str, String)>,
}

impl Machine {
    pub fn look() -> Machine {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Machine {
            cpu: cpu_model(),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            date: said("date", &["-u", "+%F"]),
            load: load.split(' ').next().filter(|load| !load.is_empty()).unwrap_or("unknown").to_string(),
            peers: PEERS.map(|name| (name, version(&lock, name))).to_vec(),
        }
    }

    pub fn markdown(&self) -> String {
        let Machine { cpu, cpus, kernel, rustc, date, load, peers } = self;
        let peers: Vec<_> = peers.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!("{cpu}, {cpus} CPUs; {kernel}; {rustc}; {date}; load average {load}. {}.", peers.join(", "))
    }

    pub fn json(&self) -> Value {
        let Machine { cpu, cpus, kernel, rustc, date, load, peers } = self;
        let peers: serde_json::Map<_, _> = peers.iter().map(|(name, it)| (name.to_string(), json!(it))).collect();
        json!({
            "cpu": cpu, "cpus": cpus, "kernel": kernel, "rustc": rustc, "date": date, "load": load, "peers": peers,
        })
    }
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| said("sysctl", &["-n", "machdep.cpu.brand_string"]), |(_, model)| model.trim().to_string())
}

/// The one line that a program prints.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success());
    let text = output.and_then(|output| String::from_utf8(output.stdout).ok());
    text.map_or("unknown".into(), |text| text.trim().to_string())
}

/// The version of the newest package of that name: others depend on older ones.
fn version(lock: &str, name: &str) -> String {
    let name = format!("name = \"{name}\"");
    let versions = lock.lines().zip(lock.lines().skip(1)).filter(|(line, _)| *line == name);
    let version = versions.last().and_then(|(_, version)| version.strip_prefix("version = ")).unwrap_or("unknown");
    version.trim_matches('"').to_string()
}
