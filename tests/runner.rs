//! `run` and `Runner`: the order of the end, reuse, Ctrl-C (N50-N54, S3-02, S3-03).
//!
//! Signals go to child processes: this test binary itself, told by an environment variable what to be.

mod common;

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{DropProbe, Flag, Flavour, Gate, OnDrop, Reports, eventually_async, panics_with, with_timeout};
use epicycle::runtime::{Builder, RunError};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runner, RuntimeHandle, Task, run_in_executor, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);

epicycle::task_local! { static NUMBER: u32 = 0; }

fn runner(builder: Builder) -> Runner {
    Runner::with(builder)
}

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, what: &'static str) {
        self.0.lock().unwrap().push(what);
    }

    fn all(&self) -> Vec<&'static str> {
        self.0.lock().unwrap().clone()
    }

    fn on_drop(&self, what: &'static str) -> OnDrop<impl FnMut() + Send + use<>> {
        let log = self.clone();
        OnDrop(move || log.note(what))
    }
}

common::flavours! {
    fn n54_one_runner_for_several_runs(flavour: Flavour) {
        let _ = flavour;
        let mut runner = runner(common::builder!());
        let flag = Flag::new();
        let wait = flag.wait();
        let background: Task<&str> = runner.runtime().unwrap().spawn(async { wait.await; "kept over" });
        let handle = runner.runtime().unwrap().handle();
        runner.run(async { yield_now().await; NUMBER.set(4); }).unwrap();
        assert!(!background.done());
        flag.set();
        assert_eq!(runner.run(background).unwrap().unwrap(), "kept over");
        assert_eq!(runner.run(async { NUMBER.get() }).unwrap(), 4, "one context for all runs, as in asyncio");
        assert_eq!(NUMBER.get(), 0, "and not the caller's");
        panics_with("on purpose", || runner.run(async { panic!("on purpose") }));
        assert_eq!(runner.run(async { 6 }).unwrap(), 6, "usable after a panic");
        runner.close();
        runner.close();
        assert!(matches!(runner.run(async { unreachable!("never polled") }), Err::<(), _>(RunError::Closed)));
        assert!(matches!(runner.runtime(), Err(RunError::Closed)));
        assert_eq!(runner.run(async {}).unwrap_err().to_string(), "Runner is closed");
        assert!(handle.spawn(async {}).blocking_join().unwrap_err().is_cancelled());
    }

    fn n50_s3_02_leftovers_are_cancelled_and_awaited_before_the_executor_ends(flavour: Flavour) {
        for end in ["close", "drop", "panic"] {
            let _ = flavour;
            let (log, flag) = (Log::default(), Flag::new());
            let mut runner = runner(common::builder!());
            let body = async {
                for task in ["task", "task", "task"] {
                    let (guard, log, wait) = (log.on_drop(task), log.clone(), flag.wait());
                    spawn(async move {
                        // The loops and the executor still work while the tasks are cancelled.
                        let _submit = OnDrop(move || {
                            let log = log.clone();
                            drop(run_in_executor(move || { thread::sleep(5 * MS); log.note("job of a destructor") }));
                        });
                        let _guard = guard;
                        wait.await;
                    });
                }
                let local = log.on_drop("local");
                spawn_local(async move { let _local = local; std::future::pending::<()>().await });
                eventually_async("all wait", || flag.waiters() == 3).await;
                if end == "panic" { panic!("in main") }
            };
            match end {
                "panic" => panics_with("in main", move || { let mut runner = runner; runner.run(body) }),
                _ => {
                    runner.run(body).unwrap();
                    assert_eq!(log.all(), ["local"], "{end}: pinned to loop 0, it ends with the run; the others go on");
                    if end == "close" { runner.close() } else { drop(runner) }
                }
            }
            let mut seen = log.all();
            assert_eq!(seen.remove(0), "local");
            let last_task = seen.iter().rposition(|what| *what == "task").unwrap();
            assert_eq!(seen.iter().filter(|what| **what == "task").count(), 3);
            assert_eq!(seen.iter().filter(|what| **what == "job of a destructor").count(), 3, "{end}: awaited: {seen:?}");
            assert!(last_task < 5, "{seen:?}");
        }
    }

    fn n50_errors_of_leftovers_go_to_the_exception_handler(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let mut runner = runner(common::builder!().exception_handler(reports.handler()));
        runner.run(async {
            let flag = Flag::new();
            let wait = flag.wait();
            spawn(async move { let _guard = OnDrop(|| panic!("in a leftover's clean-up")); wait.await });
            eventually_async("it waits", || flag.waiters() == 1).await;
        }).unwrap();
        assert_eq!(reports.all().len(), 0);
        runner.close();
        assert_eq!(reports.of_panic("in a leftover's clean-up"), 1);
    }

    fn n50_leftovers_on_every_loop_are_dropped_at_home(flavour: Flavour) {
        let probes: Vec<_> = (0..flavour.loops()).map(|_| DropProbe::new()).collect();
        let mut runner = runner(common::builder!());
        runner.run(async {
            let flag = Flag::new();
            for (event_loop, probe) in RuntimeHandle::current().loops().iter().zip(&probes) {
                let (guard, wait) = (probe.guard(), flag.wait());
                event_loop.spawn_local(move || async move { let _guard = guard; wait.await });
            }
            eventually_async("all wait", || flag.waiters() == probes.len()).await;
        }).unwrap();
        runner.close();
        for (index, probe) in probes.iter().enumerate() { assert_eq!(probe.only().loop_index, Some(index)) }
    }

    fn n50_what_a_cleanup_spawns_is_dropped_at_last(flavour: Flavour) {
        let _ = flavour;
        let (probe, ran) = (DropProbe::new(), Arc::new(AtomicUsize::new(0)));
        let mut runner = runner(common::builder!());
        runner.run(async {
            let (guard, count, flag) = (probe.guard(), ran.clone(), Flag::new());
            let wait = flag.wait();
            spawn(async move {
                let mut guard = Some(guard);
                let _spawn = OnDrop(move || {
                    let (guard, count) = (guard.take(), count.clone());
                    spawn(async move { let _guard = guard; count.fetch_add(1, SeqCst); std::future::pending::<()>().await });
                });
                wait.await
            });
            eventually_async("it waits", || flag.waiters() == 1).await;
        }).unwrap();
        runner.close();
        assert_eq!(probe.count(), 1);
        assert!(ran.load(SeqCst) <= 1);
    }

    fn n53_jobs_may_end_and_a_stuck_one_is_left_behind_with_a_warning(flavour: Flavour) {
        let _ = flavour;
        let (reports, gate, inside, done) = (Reports::new(), Gate::new(), Gate::new(), Arc::new(AtomicUsize::new(0)));
        let _open = gate.open_on_drop();
        let builder = || common::builder!().max_blocking_threads(1).exception_handler(reports.handler());
        // Running and queued ones have their time.
        let mut patient = runner(builder());
        patient.run(async { for _ in 0..3 { let done = done.clone(); drop(run_in_executor(move || { thread::sleep(5 * MS); done.fetch_add(1, SeqCst) })) } }).unwrap();
        patient.close();
        assert_eq!((done.load(SeqCst), reports.all().len()), (3, 0));
        // But not for ever.
        let mut impatient = runner(builder()).executor_timeout(20 * MS);
        let job = impatient.run(async {
            let (enter, release) = (inside.clone(), gate.clone());
            let job = run_in_executor(move || { enter.open(); release.wait() });
            eventually_async("it runs", || inside.is_open()).await;
            Some(job)
        }).unwrap().unwrap();
        impatient.close();
        assert!(!job.done(), "the gate is closed");
        assert!(reports.all().iter().any(|report| report.message().contains("still run")), "{:?}", reports.all());
        gate.open();
        job.blocking_join().unwrap();
    }

    fn s0_13_n53_jobs_that_block_on_the_runtime_can_end(flavour: Flavour) {
        // The loops run on while the executor is waited for.
        let _ = flavour;
        let done = Arc::new(AtomicUsize::new(0));
        let mut runner = runner(common::builder!());
        runner.run(async {
            let (handle, count) = (RuntimeHandle::current(), done.clone());
            drop(run_in_executor(move || {
                thread::sleep(5 * MS);
                handle.block_on(sleep(2 * MS));
                handle.spawn(async { yield_now().await }).blocking_join().unwrap();
                count.fetch_add(1, SeqCst);
            }));
        }).unwrap();
        runner.close();
        assert_eq!(done.load(SeqCst), 1);
    }

    fn n51_nested_is_an_error_at_once(flavour: Flavour) {
        let _ = flavour;
        let mut outer = runner(common::builder!());
        outer.run(async {
            let (inner, text) = (Mutex::new(Runner::new()), "was called on a thread that already drives an event loop");
            panics_with(&format!("Runner::run {text}"), || inner.lock().unwrap().run(async {}));
            panics_with(&format!("run {text}"), || epicycle::run(async {}));
            panics_with(&format!("block_on {text}"), || RuntimeHandle::current().block_on(async {}));
            // In a job it is another matter.
            let job = run_in_executor(|| epicycle::run(async { spawn(async { 3 }).await.unwrap() }));
            assert_eq!(job.await.unwrap(), 3);
        }).unwrap();
    }

    fn n50_a_runner_closed_on_a_loop_does_not_wait_for_itself(flavour: Flavour) {
        let _ = flavour;
        let probe = DropProbe::new();
        let mut inner = runner(common::builder!());
        inner.run(async { spawn(common::pending_with(probe.guard())); yield_now().await }).unwrap();
        let mut outer = runner(common::builder!());
        outer.run(async { drop(inner) }).unwrap();
        assert_eq!(probe.count(), 1);
        // Inside one of its own tasks and jobs, too.
        for job in [false, true] {
            let shared = Arc::new(Mutex::new(Some(runner(common::builder!()))));
            let handle = shared.lock().unwrap().as_mut().unwrap().runtime().unwrap().handle();
            let slot = shared.clone();
            let drops = move || drop(slot.lock().unwrap().take());
            let ended = if job { handle.run_in_executor(drops) } else { handle.spawn(async move { drops() }) };
            let _ = handle.block_on(ended);
        }
    }

    fn n50_closing_leaves_another_threads_block_on_alone(flavour: Flavour) {
        let _ = flavour;
        let mut runner = runner(common::builder!());
        let handle = runner.runtime().unwrap().handle();
        let (inside, flag) = (Gate::new(), Flag::new());
        let (enter, wait) = (inside.clone(), flag.wait());
        let other = thread::spawn(move || handle.block_on(async move { enter.open(); wait.await; 5 }));
        inside.wait();
        let closer = thread::spawn(move || runner.close());
        thread::sleep(5 * MS);
        flag.set();
        assert_eq!(other.join().unwrap(), 5);
        closer.join().unwrap();
    }
}

#[test]
fn n50_run_awaits_its_leftovers() {
    with_timeout(|| {
        let log = Log::default();
        let guard = log.on_drop("leftover");
        let (note, jobs) = (log.clone(), log.clone());
        epicycle::run(async {
            spawn(async move {
                let _job = OnDrop(move || {
                    let note = jobs.clone();
                    drop(run_in_executor(move || note.note("its job")));
                });
                let _guard = guard;
                std::future::pending::<()>().await
            });
            for _ in 0..3 {
                yield_now().await
            }
            note.note("main is done");
        });
        assert_eq!(log.all()[0], "main is done");
        assert_eq!(log.all().len(), 3, "{:?}", log.all());
        assert!(EventLoop::try_current().is_none() && RuntimeHandle::try_current().is_err());
    });
}

#[test]
fn s3_02_run_has_a_context_of_its_own() {
    with_timeout(|| {
        let seen = NUMBER.sync_scope(3, || {
            let seen = epicycle::run(async {
                let seen = NUMBER.get();
                NUMBER.set(8);
                seen
            });
            (seen, NUMBER.get())
        });
        assert_eq!(seen, (3, 3));
    });
}

#[test]
fn s3_03_a_runner_is_send_and_its_errors_are_errors() {
    fn check<T: Send>() {}
    check::<Runner>();
    fn error<E: std::error::Error + Send + Sync + 'static>(_: E) {}
    error(RunError::Interrupted);
    assert!(std::error::Error::source(&RunError::Os(std::io::ErrorKind::Other.into())).is_some());
}

// ---------------------------------------------------------------------------------------------------- Ctrl-C

/// A child process that is this test binary, running `interrupted_child` alone.
struct Spawned {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Spawned {
    fn start(role: &str, loops: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "interrupted_child", "--ignored", "--nocapture"])
            .env("EPICYCLE_TEST_ROLE", role)
            .env("EPICYCLE_WORKER_THREADS", loops.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Reads on until the child says so; the lines up to there.
    fn until(&mut self, what: &str) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the child never said {what:?}, but {seen:?}");
            // The test harness writes the beginning of a line of its own.
            let said = line.trim().rsplit("child: ").next().unwrap_or_default().to_owned();
            seen.push(said.clone());
            if said == what {
                return seen;
            }
        }
    }

    fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn say(what: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    writeln!(out, "child: {what}").unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "run by the tests below in a process of its own"]
fn interrupted_child() {
    let Ok(role) = std::env::var("EPICYCLE_TEST_ROLE") else { return };
    let mut runner = Runner::new().ctrl_c(role != "runner without");
    let cleanup = || OnDrop(|| say("main is dropped"));
    match &*role {
        "cleanup" => {
            let ended = runner.run(async {
                let _cleanup = cleanup();
                spawn(common::pending_with(OnDrop(|| say("a task is dropped"))));
                yield_now().await;
                say("ready");
                std::future::pending::<()>().await
            });
            assert!(matches!(ended, Err(RunError::Interrupted)), "{ended:?}");
            say("interrupted");
            runner.close();
            say("closed");
        }
        "stuck" => {
            let _ = runner.run(async {
                let _cleanup = cleanup();
                say("ready");
                thread::sleep(Duration::from_secs(50));
            });
        }
        "slow cleanup" => {
            let _ = runner.run(async {
                let _cleanup = OnDrop(|| {
                    say("cleaning up");
                    thread::sleep(Duration::from_secs(50))
                });
                say("ready");
                std::future::pending::<()>().await
            });
        }
        "again" => {
            for _ in 0..3 {
                let ended = runner.run(async {
                    say("ready");
                    std::future::pending::<()>().await
                });
                assert!(matches!(ended, Err(RunError::Interrupted)), "{ended:?}");
                say("interrupted");
            }
            assert_eq!(runner.run(async { 5 }).unwrap(), 5);
            say("still usable");
        }
        "afterwards" => {
            runner.run(async { yield_now().await }).unwrap();
            say("ready");
            thread::sleep(Duration::from_secs(50));
        }
        "run" => epicycle::run(async {
            let _cleanup = cleanup();
            say("ready");
            std::future::pending::<()>().await
        }),
        "runner without" => runner
            .run(async {
                let _cleanup = cleanup();
                say("ready");
                std::future::pending::<()>().await
            })
            .unwrap(),
        other => panic!("no such role: {other}"),
    }
}

/// Whether this process was begun with Ctrl-C ignored, as what a shell runs in the background is; children inherit that.
fn interrupts_are_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|bits| u64::from_str_radix(bits.trim(), 16).unwrap() & 0b10 != 0)
}

/// For each flavour of a child: one loop, and more.
fn children(test: fn(usize)) {
    with_timeout(|| [1, 4].into_iter().for_each(test));
}

#[test]
fn n52_the_first_ctrl_c_cancels_main_and_its_cleanup_runs() {
    children(|loops| {
        let mut child = Spawned::start("cleanup", loops);
        child.until("ready");
        child.interrupt();
        let seen = child.until("closed");
        assert_eq!(seen, ["main is dropped", "interrupted", "a task is dropped", "closed"], "with {loops} loops");
        assert!(child.wait().success());
    });
}

#[test]
fn n52_the_second_ctrl_c_ends_the_process_at_once() {
    children(|loops| {
        // In a main that does not come back, and in a clean-up that does not.
        let mut child = Spawned::start("stuck", loops);
        child.until("ready");
        child.interrupt();
        thread::sleep(50 * MS); // two pending signals of a kind are one
        child.interrupt();
        assert_eq!(child.wait().signal(), Some(2), "with {loops} loops");
        let mut child = Spawned::start("slow cleanup", loops);
        child.until("ready");
        child.interrupt();
        child.until("cleaning up");
        child.interrupt();
        assert_eq!(child.wait().signal(), Some(2), "with {loops} loops");
    });
}

#[test]
fn n52_n54_an_interrupted_runner_is_usable() {
    children(|loops| {
        let mut child = Spawned::start("again", loops);
        for _ in 0..3 {
            child.until("ready");
            child.interrupt();
            child.until("interrupted");
        }
        child.until("still usable");
        assert!(child.wait().success());
    });
}

#[test]
fn n52_outside_a_run_ctrl_c_is_what_it_was() {
    children(|loops| {
        let mut child = Spawned::start("afterwards", loops);
        child.until("ready");
        child.interrupt();
        assert_eq!(child.wait().signal(), Some(2), "with {loops} loops");
    });
}

#[test]
fn n52_without_being_asked_nobody_handles_signals() {
    children(|loops| {
        for role in ["run", "runner without"] {
            let mut child = Spawned::start(role, loops);
            child.until("ready");
            child.interrupt();
            if interrupts_are_ignored() {
                thread::sleep(100 * MS);
                assert!(child.child.try_wait().unwrap().is_none(), "{role}, {loops} loops");
                continue;
            }
            let mut rest = String::new();
            std::io::Read::read_to_string(&mut child.lines, &mut rest).unwrap();
            assert!(!rest.contains("dropped"), "{rest}");
            assert_eq!(child.wait().signal(), Some(2), "{role}, {loops} loops");
        }
    });
}
