//! All workloads on all runtimes, interleaved, as one table: `cargo bench --bench compare [-- FILTER..] [OPTIONS]`.
//!
//! Every sample runs in a process of its own (this program, started with `--child`), so that no runtime inherits
//! another's threads, allocator state or descriptors, and one that hangs or panics costs a cell, not the table. Each
//! round visits every workload on every runtime in turn; a cell is the median over the rounds. Owner-only: the parent is
//! one thread, and a child's main thread drives the runtime under test.

mod support;

use std::error::Error;
use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use lexopt::prelude::*;
use support::epicycle_rt::Epicycle;
use support::jobs::Protocol;
use support::measure::raise_descriptor_limit;
use support::nio_rt::{Nio, NioLocal};
use support::report::{Cell, Report};
use support::smol_rt::Smol;
use support::tokio_rt::Tokio;
use support::workloads::{self, Figures, Scale, Workload};
use support::{Rt, bare, syscalls};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const HELP: &str = "\
cargo bench --bench compare -- [FILTER..] [OPTIONS]

A FILTER keeps the workloads whose key contains it; = before it asks for the very key.
  --list             print the keys and stop
  --rounds N         rounds over everything (default 5, with --quick 2)
  --quick            a fourth of the work per sample
  --runtimes A,B     of epicycle, tokio, smol, smol-run, nio, nio-local, bare, monoio
  --json PATH        where to write all samples (default target/compare.json)
  --syscalls         count system calls with strace instead (into target/syscalls.json; default 3 rounds)";

/// The name of the pseudo runtime that is a plain selector loop.
const BARE: &str = "bare";
const MONOIO: &str = "monoio";
const RUNTIMES: [&str; 8] =
    [Epicycle::NAME, Tokio::NAME, Smol::<false>::NAME, Smol::<true>::NAME, Nio::NAME, NioLocal::NAME, BARE, MONOIO];
/// No sample takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(40);

/// What the command line asks for.
struct Options {
    filters: Vec<String>,
    runtimes: Vec<String>,
    rounds: Option<usize>,
    quick: bool,
    json: Option<PathBuf>,
    syscalls: bool,
    list: bool,
    /// Cargo passes `--bench`; without it this is `cargo test`, which only wants to see that the bench still runs.
    bench: bool,
    child: Option<(String, String)>,
    load: Option<Load>,
}

impl Options {
    /// Where the samples go: where the command line says, else into the target folder.
    fn json_path(&self, name: &str) -> PathBuf {
        let default = || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name);
        self.json.clone().unwrap_or_else(default)
    }
}

/// A load generator's orders.
struct Load {
    address: SocketAddr,
    protocol: Protocol,
    conns: usize,
    millis: u64,
}

fn main() -> ExitCode {
    let outcome = parse().and_then(|options| match (&options.child, &options.load) {
        (Some((key, runtime)), _) => child(key, runtime, Scale { quick: options.quick }),
        (_, Some(load)) => generate(load),
        _ if options.list => {
            workloads::all::<Epicycle>().iter().for_each(|workload| println!("{}", workload.key));
            Ok(())
        }
        _ if options.syscalls => count_calls(&options),
        _ => parent(&options),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Result<Options> {
    let mut options = Options {
        filters: Vec::new(),
        runtimes: RUNTIMES.map(String::from).to_vec(),
        rounds: None,
        quick: false,
        json: None,
        syscalls: false,
        list: false,
        bench: false,
        child: None,
        load: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("help") => {
                println!("{HELP}");
                std::process::exit(0);
            }
            Long("bench") => options.bench = true,
            Long("list") => options.list = true,
            Long("quick") => options.quick = true,
            Long("rounds") => options.rounds = Some(parser.value()?.parse()?),
            Long("json") => options.json = Some(parser.value()?.into()),
            Long("syscalls") => options.syscalls = true,
            Long("runtimes") => options.runtimes = parser.value()?.string()?.split(',').map(String::from).collect(),
            Long("child") => options.child = Some((parser.value()?.string()?, parser.value()?.string()?)),
            Long("load") => options.load = Some(parse_load(&mut parser)?),
            Value(filter) => options.filters.push(filter.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    match options.runtimes.iter().find(|name| !RUNTIMES.contains(&name.as_str())) {
        Some(unknown) => Err(format!("no runtime is called {unknown:?}, only {}", RUNTIMES.join(", ")).into()),
        None => Ok(options),
    }
}

/// The rest of the command line of `--load ADDRESS`, as this program writes it itself.
fn parse_load(parser: &mut lexopt::Parser) -> Result<Load> {
    let address = parser.value()?.parse()?;
    let mut load = Load { address, protocol: Protocol::Echo, conns: 1, millis: 0 };
    while let Some(argument) = parser.next()? {
        match argument {
            Long("conns") => load.conns = parser.value()?.parse()?,
            Long("millis") => load.millis = parser.value()?.parse()?,
            Long("http") => load.protocol = Protocol::Http,
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(load)
}

fn generate(load: &Load) -> Result<()> {
    raise_descriptor_limit(load.conns as u64 + 200);
    Ok(bare::generate(load.address, load.protocol, load.conns, Duration::from_millis(load.millis))?)
}

/// Runs one workload on one runtime and prints a figure per line, `-` for one that cannot be told.
fn child(key: &str, runtime: &str, scale: Scale) -> Result<()> {
    let figures = match runtime {
        Epicycle::NAME => sample::<Epicycle>(key, scale)?,
        Tokio::NAME => sample::<Tokio>(key, scale)?,
        Smol::<false>::NAME => sample::<Smol<false>>(key, scale)?,
        Smol::<true>::NAME => sample::<Smol<true>>(key, scale)?,
        Nio::NAME => sample::<Nio>(key, scale)?,
        NioLocal::NAME => sample::<NioLocal>(key, scale)?,
        BARE => find::<Epicycle>(key)?.bare.map(|bare| bare(scale)),
        _ => find::<Epicycle>(key)?.monoio.map(|monoio| monoio(scale)),
    };
    for figure in figures.into_iter().flatten() {
        match figure {
            Some(figure) => println!("{figure}"),
            None => println!("-"),
        }
    }
    // At once: some runtimes' threads have no end.
    std::process::exit(0)
}

fn sample<R: Rt>(key: &str, scale: Scale) -> Result<Option<Figures>> {
    Ok(find::<R>(key)?.measure(scale))
}

fn find<R: Rt>(key: &str) -> Result<Workload<R>> {
    let found = workloads::all().into_iter().find(|workload| workload.key == key);
    found.ok_or_else(|| format!("no workload is called {key:?}").into())
}

fn parent(options: &Options) -> Result<()> {
    let smoke = !options.bench;
    let quick = options.quick || smoke;
    let runtimes = if smoke { &options.runtimes[..1] } else { &options.runtimes[..] };
    let rounds = options.rounds.unwrap_or(if smoke {
        1
    } else if quick {
        2
    } else {
        5
    });
    let chosen: Vec<Workload<Epicycle>> =
        workloads::all().into_iter().filter(|workload| wanted(&options.filters, workload.key)).collect();
    let program = std::env::current_exe()?;
    let mut report = Report::new(&chosen, runtimes, rounds, quick);
    for round in 0..rounds {
        for workload in &chosen {
            for turn in 0..runtimes.len() {
                // Another order in every round, so that nobody always follows the same neighbour.
                let runtime = &runtimes[(turn + round) % runtimes.len()];
                if !takes_part(workload, runtime) {
                    continue;
                }
                progress(&format!("round {}/{rounds} {} on {runtime}", round + 1, workload.key));
                report.add(workload.key, runtime, run_child(Command::new(&program), workload.key, runtime, quick)?);
            }
        }
    }
    progress("");
    println!("{}", report.markdown());
    if !smoke {
        let path = options.json_path("compare.json");
        report.write_json(&path)?;
        println!("All samples are in {}.", path.display());
    }
    if smoke && report.failed() { Err("a workload failed".into()) } else { Ok(()) }
}

/// `parent` under strace, with a table of its own; few rounds, since counts hardly vary.
fn count_calls(options: &Options) -> Result<()> {
    if !syscalls::strace_works() {
        return Err("--syscalls needs strace, which is not installed or not allowed here".into());
    }
    let rounds = options.rounds.unwrap_or(3);
    let chosen = || syscalls::TRACED.iter().filter(|traced| wanted(&options.filters, traced.key));
    let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("strace-{}", std::process::id()));
    let mut report = syscalls::Report::default();
    for round in 0..rounds {
        for traced in chosen() {
            let workload = find::<Epicycle>(traced.key)?;
            for runtime in options.runtimes.iter().filter(|runtime| takes_part(&workload, runtime)) {
                progress(&format!("round {}/{rounds} {} on {runtime} under strace", round + 1, traced.key));
                let command = syscalls::strace(&std::env::current_exe()?, &log);
                match run_child(command, traced.key, runtime, true)? {
                    Cell::Figures(_) => report.add(traced, runtime, &std::fs::read_to_string(&log)?),
                    Cell::Failed | Cell::Hung => return Err(format!("{} on {runtime} failed", traced.key).into()),
                }
            }
        }
    }
    std::fs::remove_file(&log)?;
    progress("");
    println!("{}", report.markdown());
    let path = options.json_path("syscalls.json");
    report.write_json(&path)?;
    println!("All counts are in {}.", path.display());
    Ok(())
}

/// Whether it is worth starting a process for; a runtime may still have no such configuration.
fn takes_part(workload: &Workload<Epicycle>, runtime: &str) -> bool {
    match runtime {
        BARE => workload.bare.is_some(),
        MONOIO => workload.monoio.is_some(),
        _ => true,
    }
}

/// Replaces the last line of a terminal; nothing in a log.
fn progress(text: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\x1b[2K\r{text}");
    }
}

fn wanted(filters: &[String], key: &str) -> bool {
    let matches = |filter: &String| match filter.strip_prefix('=') {
        Some(exact) => key == exact,
        None => key.contains(filter.as_str()),
    };
    filters.is_empty() || filters.iter().any(matches)
}

/// Waits for one sample; `command` starts this program.
fn run_child(mut command: Command, key: &str, runtime: &str, quick: bool) -> Result<Cell> {
    command.args(["--child", key, runtime]).args(quick.then_some("--quick"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                child.kill()?;
                child.wait()?;
                return Ok(Cell::Hung);
            }
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    if !status.success() {
        return Ok(Cell::Failed);
    }
    let mut text = String::new();
    child.stdout.take().ok_or("the child has no output")?.read_to_string(&mut text)?;
    Ok(Cell::Figures(text.lines().map(|line| line.parse().ok()).collect()))
}
