//! Child processes (`epicycle::process`).
//!
//! The children are those that every system has: sh, cat, sleep, head, yes, tr. Which have ended and were reaped is told by
//! /proc, so some of it is for Linux only. Tests that count what belongs to the whole process, or change it, start their own
//! binary again for themselves alone. Threads: children are used from all loops.

mod common;

use std::future::Future;
use std::io::ErrorKind;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use common::{eventually, eventually_async};
use epicycle::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use epicycle::process::{Child, ChildHandle, ChildStderr, ChildStdin, ChildStdout, Command, Stdio, returncode, shell};
use epicycle::signal::SignalKind;
use epicycle::time::{sleep, timeout};
use epicycle::{EventLoop, Runtime, run_in_executor, spawn};
use futures_lite::StreamExt;
use futures_lite::future::{poll_once, yield_now};

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(20);

/// More than a pipe holds, several times.
const MUCH: usize = 600_000;

fn piped(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped())
}

/// A child that does nothing for longer than a test may take. It holds on to nothing of ours, and is soon gone, should the test
/// fail, or be killed, and leave it behind.
fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("100").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether there is a process of that number, alive or dead and not reaped. The number may belong to another one by now, but
/// that one is no child of ours.
fn exists(id: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{id}/stat")) else {
        return false;
    };
    // After the name, which may contain anything: state, parent.
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
    parent == Some(&*std::process::id().to_string())
}

/// Runs the test once more in a process of its own, started by a shell after `prelude`; true in that process.
fn alone(prelude: &str) -> bool {
    const ALONE: &str = "EPICYCLE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let test = thread::current().name().expect("tests have names").to_owned();
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("{prelude}\nexec \"$0\" \"$1\" --exact --nocapture --test-threads=1")])
        .arg(std::env::current_exe().unwrap())
        .arg(&test)
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{test} alone: {}\n{text}\n{errors}", output.status);
    false
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The children of this process, dead ones included.
fn children() -> Vec<u32> {
    let numbers =
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    numbers.filter(|id| exists(*id)).collect()
}

// ------------------------------------------------------------------------------------------------ communicate

common::flavours! {
    fn n80_communicate_returns_both_outputs_without_deadlock(rt: Runtime) {
        rt.block_on(async {
            // Each fills its pipe before the other one is begun.
            let script = format!("yes e | head -c {MUCH} >&2; yes o | head -c {MUCH}; yes f | head -c {MUCH} >&2");
            let mut child = piped(&mut shell(script)).spawn().unwrap();
            let (stdout, stderr) = child.communicate([]).await.unwrap();
            assert_eq!((stdout.len(), stderr.len()), (MUCH, 2 * MUCH));
            assert!(stdout.iter().all(|byte| b"o\n".contains(byte)));
            assert!(stderr[..MUCH].contains(&b'e') && !stderr[..MUCH].contains(&b'f'));
            assert_eq!(child.returncode(), Some(0));
        });
    }

    fn n80_communicate_writes_and_reads_at_the_same_time(rt: Runtime) {
        rt.block_on(async {
            // It writes as it reads, so that whoever writes all of it first comes to a stop.
            let input: Vec<u8> = (0..MUCH).map(|i| (i % 251) as u8).collect();
            let mut cat = piped(&mut Command::new("cat")).spawn().unwrap();
            let (stdout, stderr) = cat.communicate(&input).await.unwrap();
            assert!(stdout == input && stderr.is_empty(), "bytes, not text: what is no UTF-8 comes back as it was");
        });
    }

    fn n80_communicate_ignores_a_broken_pipe(rt: Runtime) {
        rt.block_on(async {
            for script in ["exec <&-; echo done", "read line; echo done", "echo done; exit 3"] {
                let mut child = piped(&mut shell(script)).spawn().unwrap();
                let (stdout, stderr) = child.communicate("word\n".repeat(MUCH / 5)).await.unwrap();
                assert_eq!((&*stdout, &*stderr), (&b"done\n"[..], &b""[..]), "{script}");
            }
        });
    }

    fn n80_communicate_with_what_is_no_pipe(rt: Runtime) {
        rt.block_on(async {
            let mut child = shell("echo out; echo err >&2").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            let error = child.communicate("input").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert_eq!(child.communicate("").await.unwrap(), (b"out\n".to_vec(), vec![]));
            // Once more has nothing to add.
            assert_eq!(child.communicate("").await.unwrap(), (vec![], vec![]));
        });
    }

    fn n80_communicate_given_up_goes_on_where_it_was(rt: Runtime) {
        rt.block_on(async {
            let input: Vec<u8> = (0..MUCH).map(|i| (i % 251) as u8).collect();
            let mut cat = piped(&mut Command::new("cat")).spawn().unwrap();
            let mut given_up = 0;
            let (stdout, _) = loop {
                // One poll each.
                match poll_once(pin!(cat.communicate(&input))).await {
                    Some(result) => break result.unwrap(),
                    None => given_up += 1,
                }
                yield_now().await;
            };
            assert!(stdout == input, "nothing is lost, nothing is sent twice");
            assert!(given_up > 0);
        });
    }

    fn n80_what_a_child_said_before_it_was_killed(rt: Runtime) {
        rt.block_on(async {
            let mut child = piped(&mut shell("echo begun; exec sleep 100")).spawn().unwrap();
            let mut waited = MS;
            loop {
                let in_time = timeout(waited, child.communicate("")).await;
                assert!(in_time.is_err());
                if waited > 100 * MS {
                    break;
                }
                waited *= 2;
            }
            child.kill().unwrap();
            let (stdout, _) = child.communicate("").await.unwrap();
            assert_eq!(child.returncode(), Some(-9));
            // A machine too busy to have let it begin by now is possible.
            assert!(stdout == b"begun\n" || stdout.is_empty(), "{stdout:?}");
        });
    }
}

// ------------------------------------------------------------------------------------------------ the end

common::flavours! {
    fn n81_wait_from_many_tasks(rt: Runtime) {
        rt.block_on(async {
            let mut child = shell("read line; exit 5").stdin(Stdio::piped()).spawn().unwrap();
            let begun = Arc::new(AtomicUsize::new(0));
            let waiting: Vec<_> = (0..20)
                .map(|_| {
                    let (handle, begun) = (child.handle(), begun.clone());
                    spawn(async move {
                        begun.fetch_add(1, SeqCst);
                        handle.wait().await
                    })
                })
                .collect();
            eventually_async("all wait", || begun.load(SeqCst) == 20).await;
            sleep(2 * MS).await;
            assert!(waiting.iter().all(|task| !task.done()));
            assert_eq!((child.returncode(), child.try_wait().unwrap()), (None, None));
            drop(child.stdin.take());
            assert_eq!(child.wait().await.unwrap().code(), Some(5));
            for task in waiting {
                assert_eq!(returncode(task.await.unwrap().unwrap()), 5);
            }
            // And afterwards.
            assert_eq!(child.handle().wait().await.unwrap().code(), Some(5));
            assert!(child.try_wait().unwrap().is_some());
            assert!(!exists(child.id()));
        });
    }

    fn n81_the_return_code_is_minus_the_signal(rt: Runtime) {
        rt.block_on(async {
            // None that a parent may have had ignored, as nohup does with the hang-up: that is inherited.
            let kinds = [SignalKind::terminate(), SignalKind::user_defined2(), SignalKind::user_defined1(), SignalKind::from_raw(9)];
            for kind in kinds {
                let child = sleeper().spawn().unwrap();
                child.send_signal(kind).unwrap();
                let status = child.wait().await.unwrap();
                assert_eq!(returncode(status), -kind.as_raw());
                assert_eq!(child.returncode(), Some(-kind.as_raw()));
                assert_eq!((status.code(), status.success()), (None, false));
            }
            assert_eq!(returncode(shell("exit 255").status().await.unwrap()), 255);
        });
    }

    fn n81_signals_after_the_end_do_nothing(rt: Runtime) {
        rt.block_on(async {
            // Dead and not reaped; reaped.
            for reaped in [false, true] {
                let mut child = shell("echo; exit 1").stdout(Stdio::piped()).spawn().unwrap();
                if reaped {
                    child.wait().await.unwrap();
                } else {
                    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).await.unwrap();
                    sleep(MS).await;
                }
                if reaped {
                    for signal in [child.kill(), child.terminate(), child.send_signal(SignalKind::hangup())] {
                        signal.unwrap();
                    }
                    assert_eq!(child.returncode(), Some(1));
                } else {
                    child.kill().unwrap();
                    assert!([1, -9].contains(&returncode(child.wait().await.unwrap())));
                }
            }
            let child = sleeper().spawn().unwrap();
            let error = child.send_signal(SignalKind::from_raw(1000)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            child.kill().unwrap();
            child.kill().unwrap();
            child.wait().await.unwrap();
        });
    }

    fn n81_killing_races_with_the_end(rt: Runtime) {
        rt.block_on(async {
            let mut tasks = Vec::new();
            for i in 0..40 {
                let child = Command::new("true").spawn().unwrap();
                tasks.push(spawn(async move {
                    let handle = child.handle();
                    let killer = spawn(async move {
                        for _ in 0..i {
                            yield_now().await;
                        }
                        handle.kill()
                    });
                    let status = child.wait().await.unwrap();
                    killer.await.unwrap().unwrap();
                    assert!([0, -9].contains(&returncode(status)));
                    assert_eq!(child.wait().await.unwrap(), status);
                    child.id()
                }));
            }
            for task in tasks {
                assert!(!exists(task.await.unwrap()));
            }
        });
    }

    fn n81_a_wait_given_up_loses_nothing(rt: Runtime) {
        rt.block_on(async {
            let child = sleeper().spawn().unwrap();
            for _ in 0..10 {
                assert!(poll_once(pin!(child.wait())).await.is_none());
                assert!(timeout(MS, child.wait()).await.is_err());
            }
            child.terminate().unwrap();
            assert_eq!(returncode(timeout(LONG, child.wait()).await.unwrap().unwrap()), -15);
        });
    }

    fn n81_a_handle_outlives_the_child(rt: Runtime) {
        rt.block_on(async {
            let child = sleeper().spawn().unwrap();
            let handle = child.handle();
            drop(child);
            assert_eq!(handle.returncode(), None);
            handle.terminate().unwrap();
            assert_eq!(returncode(handle.wait().await.unwrap()), -15);
            handle.kill().unwrap();
        });
    }

    fn n81_a_child_may_be_waited_for_on_any_loop(rt: Runtime) {
        let child = rt.block_on(async { Arc::new(sleeper().spawn().unwrap()) });
        let tasks: Vec<_> = rt
            .loops()
            .iter()
            .map(|home| {
                let child = child.clone();
                home.spawn_local(move || async move { child.wait().await })
            })
            .collect();
        let handle = child.handle();
        let killing = thread::spawn(move || {
            thread::sleep(5 * MS);
            handle.kill() // with no runtime in sight
        });
        rt.block_on(async {
            for task in tasks {
                assert_eq!(returncode(task.await.unwrap().unwrap()), -9);
            }
        });
        killing.join().unwrap().unwrap();
    }

    fn n81_a_hundred_children_at_once(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..100)
                .map(|i| {
                    let output = shell(format!("read line; echo $line {i}; exit {i}"));
                    spawn(async move {
                        let mut command = output;
                        let mut child = piped(&mut command).spawn().unwrap();
                        let (stdout, _) = child.communicate("number\n").await.unwrap();
                        assert_eq!(String::from_utf8(stdout).unwrap(), format!("number {i}\n"));
                        assert_eq!(child.returncode(), Some(i));
                        child.id()
                    })
                })
                .collect();
            for task in tasks {
                assert!(!exists(task.await.unwrap()));
            }
        });
    }
}

// ------------------------------------------------------------------------------------------------ beginning, being dropped

common::flavours! {
    fn n82_creation_has_no_middle(rt: Runtime) {
        rt.block_on(async {
            let mut command = Command::new("/no/such/program");
            assert_eq!(command.spawn().unwrap_err().kind(), ErrorKind::NotFound);
            // Started by the call, not by the first poll; the command may go.
            let folder = tempfolder("n82");
            let (status, file) = (shell("echo x > begun").current_dir(&folder).status(), folder.join("begun"));
            eventually_async("it runs unawaited", || file.exists()).await;
            assert!(status.await.unwrap().success());
            std::fs::remove_dir_all(&folder).unwrap();
        });
    }

    fn n82_kill_on_drop_kills_and_reaps(rt: Runtime) {
        rt.block_on(async {
            let child = sleeper().kill_on_drop(true).spawn().unwrap();
            let (id, handle) = (child.id(), child.handle());
            assert!(exists(id));
            drop(child);
            // Not waited for by anybody, and yet it is reaped.
            eventually_async("it is gone", || !exists(id)).await;
            assert_eq!(handle.returncode(), Some(-9));
            // The same by cancelling a task.
            let child = sleeper().kill_on_drop(true).spawn().unwrap();
            let id = child.id();
            let task = spawn(async move { child.wait().await });
            yield_now().await;
            task.cancel();
            assert!(task.await.unwrap_err().is_cancelled());
            eventually_async("it is gone", || !exists(id)).await;
        });
    }

    fn n82_a_future_of_output_or_status_given_up(rt: Runtime) {
        rt.block_on(async {
            let folder = tempfolder("n82_output");
            let file = folder.join("id");
            let written = || std::fs::read_to_string(&file).ok().and_then(|id| id.trim().parse().ok());
            for output in [true, false] {
                let mut command = shell("echo $$ > id_; mv id_ id; exec sleep 100 >/dev/null 2>&1");
                command.current_dir(&folder).kill_on_drop(true);
                let mut future: Pin<Box<dyn Future<Output = ()>>> = if output {
                    let output = command.output();
                    Box::pin(async { _ = output.await })
                } else {
                    let status = command.status();
                    Box::pin(async { _ = status.await })
                };
                assert!(poll_once(&mut future).await.is_none());
                eventually_async("it has begun", || written().is_some()).await;
                let id: u32 = written().unwrap();
                assert!(exists(id));
                drop(future);
                eventually_async("it is killed and reaped", || !exists(id)).await;
                std::fs::remove_file(&file).unwrap();
            }
            std::fs::remove_dir_all(&folder).unwrap();
        });
    }

    fn n82_the_end_of_the_runtime_kills_and_reaps(rt: Runtime) {
        let id = rt.block_on(async {
            let child = sleeper().kill_on_drop(true).spawn().unwrap();
            let id = child.id();
            spawn(async move { child.wait().await });
            yield_now().await;
            id
        });
        assert!(exists(id));
        drop(rt);
        eventually("it is gone", || !exists(id));
    }

    fn n82_a_child_that_is_dropped_is_reaped_when_it_ends(rt: Runtime) {
        let (mut inputs, mut ids) = (Vec::new(), Vec::new());
        rt.block_on(async {
            for _ in 0..10 {
                let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                ids.push(child.id());
                inputs.push(child.stdin.take().unwrap());
            }
            sleep(MS).await;
            assert!(ids.iter().all(|id| exists(*id)), "they go on running");
            inputs.truncate(5);
            eventually_async("those whose input has ended are gone", || ids[5..].iter().all(|id| !exists(*id))).await;
            assert!(ids[..5].iter().all(|id| exists(*id)));
        });
        // The others outlive the runtime and do not stay behind, either.
        let kept: Vec<_> = inputs.into_iter().map(|input| input.into_owned_fd().unwrap()).collect();
        drop(rt);
        assert!(ids[..5].iter().all(|id| exists(*id)));
        drop(kept);
        eventually("they are reaped without a runtime", || ids.iter().all(|id| !exists(*id)));
    }

    fn n82_a_child_dropped_after_its_runtime_is_reaped(rt: Runtime) {
        let child = rt.block_on(async { sleeper().kill_on_drop(true).spawn().unwrap() });
        let (id, handle) = (child.id(), child.handle());
        drop(rt);
        // To be signalled and asked it needs no loop; to be awaited it does.
        assert_eq!(child.returncode(), None);
        assert!(futures_lite::future::block_on(child.wait()).is_err());
        drop(child);
        eventually("it is gone", || !exists(id));
        assert_eq!(handle.returncode(), Some(-9));
    }
}

#[test]
fn n82_a_child_that_cannot_be_watched_is_killed_and_reaped() {
    // Few descriptors, so that they run out at each point of it.
    if !alone("ulimit -n 60") {
        return;
    }
    let rt = Runtime::builder().worker_threads(1).build().unwrap();
    rt.block_on(async {
        let before = descriptors();
        // Without streams to be set up, the first thing to fail is what watches the child.
        let mut inheriting = Command::new("sleep");
        inheriting.arg("20");
        for (mut command, most) in [(inheriting, 1), (sleeper(), 9)] {
            if most == 9 {
                piped(&mut command);
            }
            let mut failures = 0;
            let mut hoard = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                hoard.push(file);
            }
            // From none to be had to all that are needed, one by one.
            loop {
                match command.spawn() {
                    Ok(child) => {
                        child.kill().unwrap();
                        child.wait().await.unwrap();
                        break;
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(24), "{error}");
                        failures += 1;
                    }
                }
                drop(hoard.pop().expect("enough of them"));
            }
            assert!((1..=most).contains(&failures), "{failures}");
        }
        eventually_async("no child is left behind", || children().is_empty()).await;
        eventually_async("no descriptor either", || descriptors() == before).await;
    });
}

/// Counts what is logged about the reaper.
struct Logged(AtomicUsize);

impl log::Log for Logged {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().contains("reaper") {
            self.0.fetch_add(1, SeqCst);
        }
    }
    fn flush(&self) {}
}

#[test]
fn n82_a_reaper_that_cannot_wait_burns_no_cpu_and_says_so_once() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    static LOGGED: Logged = Logged(AtomicUsize::new(0));
    if !alone("") {
        return;
    }
    log::set_logger(&LOGGED).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let mut orphans: Vec<Child> = rt.block_on(async { (0..8).map(|_| sleeper().spawn().unwrap()).collect() });
        let handles: Vec<ChildHandle> = orphans.iter().map(Child::handle).collect();
        let last = orphans.pop();
        drop(orphans);
        let sleeps = || common::threads_named("epicycle-reaper").first().is_some_and(|reaper| reaper.state == 'S');
        eventually("the reaper waits", sleeps);
        // poll() refuses to look at more descriptors than the process may have.
        let limits = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: Some(3), ..limits }).unwrap();
        drop(last);
        thread::sleep(400 * MS);
        handles[0].kill().unwrap();
        thread::sleep(400 * MS);
        setrlimit(Resource::Nofile, limits).unwrap();
        assert_eq!(LOGGED.0.load(SeqCst), 1);
        eventually("who has ended is reaped all the same", || !exists(handles[0].id()));
        let reaper = common::threads_named("epicycle-reaper").pop().unwrap();
        assert!(reaper.cpu < 200 * MS && reaper.switches < 100, "{reaper:?}");
        handles.iter().for_each(|handle| handle.kill().unwrap());
        eventually("all are reaped", || handles.iter().all(|handle| !exists(handle.id())));
    });
}

#[test]
fn n82_outside_of_a_runtime_nothing_is_started() {
    if alone("") {
        common::panics_with("no epicycle runtime", || _ = sleeper().spawn());
        assert!(children().is_empty());
    }
}

#[test]
fn an_exit_status_that_somebody_else_has_taken_is_an_error() {
    let take = |child: &Child| {
        let id = rustix::process::Pid::from_raw(child.id() as i32);
        let taken = rustix::process::waitpid(id, rustix::process::WaitOptions::empty()).unwrap();
        assert_eq!(taken.unwrap().1.exit_status(), Some(3));
    };
    common::with_timeout(|| {
        epicycle::run(async {
            let mut child = piped(&mut shell("echo out; exit 3")).spawn().unwrap();
            let handle = child.handle();
            take(&child);
            for _ in 0..2 {
                assert!(child.wait().await.is_err() && handle.wait().await.is_err() && child.try_wait().is_err());
            }
            child.kill().unwrap();
            assert_eq!(child.returncode(), None);
            assert!(child.communicate("").await.is_err());
            // Dropped, it is nobody's care any more.
            let child = shell("exit 3").spawn().unwrap();
            take(&child);
            drop(child);
        });
    });
}

#[test]
fn no_descriptor_and_no_thread_is_left_behind() {
    if !alone("") {
        return;
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let rt = Runtime::builder().worker_threads(2).build().unwrap();
    rt.block_on(async {
        let before = (descriptors(), threads());
        for _ in 0..10 {
            let mut child = piped(&mut Command::new("cat")).spawn().unwrap();
            child.communicate("word").await.unwrap();
            piped(&mut sleeper()).kill_on_drop(true).spawn().unwrap();
            drop(piped(&mut Command::new("true")).spawn().unwrap());
            shell("echo").output().await.unwrap();
        }
        eventually_async("all is as before", || (descriptors(), threads()) == before && children().is_empty()).await;
    });
}

// ------------------------------------------------------------------------------------------------ streams and options

fn tempfolder(name: &str) -> std::path::PathBuf {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    let number = LAST.fetch_add(1, SeqCst);
    let folder = std::env::temp_dir().join(format!("epicycle_{name}_{}_{number}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    folder
}

common::flavours! {
    fn a_dialogue(rt: Runtime) {
        rt.block_on(async {
            let mut child = piped(&mut shell("while read line; do echo \"<$line>\"; done; echo end >&2")).spawn().unwrap();
            let mut to = child.stdin.take().unwrap();
            let mut from = BufReader::new(child.stdout.take().unwrap()).lines();
            for i in 0..20 {
                to.write_all(format!("{i}\n").as_bytes()).await.unwrap();
                to.flush().await.unwrap();
                assert_eq!(from.next().await.unwrap().unwrap(), format!("<{i}>"));
            }
            to.close().await.unwrap();
            to.close().await.unwrap();
            assert_eq!(to.write(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(to.into_owned_fd().unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert!(from.next().await.is_none());
            let mut errors = String::new();
            child.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
            assert_eq!(errors, "end\n");
            assert!(child.wait().await.unwrap().success());
        });
    }

    fn writing_waits_until_the_child_reads(rt: Runtime) {
        rt.block_on(async {
            let mut child = shell("read line; exec cat >/dev/null").stdin(Stdio::piped()).spawn().unwrap();
            let mut to = child.stdin.take().unwrap();
            child.send_signal(SignalKind::from_raw(19)).unwrap(); // stop
            let data = vec![b'x'; MUCH];
            assert!(timeout(20 * MS, to.write_all(&data)).await.is_err(), "the pipe is full");
            child.send_signal(SignalKind::from_raw(18)).unwrap(); // go on
            to.write_all(b"\n").await.unwrap();
            to.write_all(&data).await.unwrap();
            drop(to);
            assert!(child.wait().await.unwrap().success());
            // The child is gone: nobody will read any more.
            let mut child = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
            child.wait().await.unwrap();
            let error = child.stdin.take().unwrap().write_all(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        });
    }

    fn a_pipeline(rt: Runtime) {
        rt.block_on(async {
            let mut first = shell(format!("yes | head -c {MUCH}")).stdout(Stdio::piped()).spawn().unwrap();
            let from = first.stdout.take().unwrap().into_stdio().unwrap();
            // The pipe is in blocking mode again, or tr would fail.
            let mut second = Command::new("tr").arg("y").arg("n").stdin(from).stdout(Stdio::piped()).spawn().unwrap();
            let mut third = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let into = third.stdin.take().unwrap().into_stdio().unwrap();
            let mut fourth = shell("cat").stdin(second.stdout.take().unwrap().into_stdio().unwrap()).stdout(into).spawn().unwrap();
            let (output, _) = third.communicate("").await.unwrap();
            assert!(output.len() == MUCH && output.iter().all(|byte| b"n\n".contains(byte)));
            for child in [&mut first, &mut second, &mut third, &mut fourth] {
                assert!(child.wait().await.unwrap().success());
            }
        });
    }

    fn what_a_command_says_is_done(rt: Runtime) {
        rt.block_on(async {
            let text = |output: epicycle::process::Output| String::from_utf8(output.stdout).unwrap();
            let mut command = shell("echo $A $B $1 $PWD ${HOME-none}");
            command.args(["sh", "one"]).env("A", "a").envs([("B", "b")]).env_remove("HOME").current_dir("/");
            assert_eq!(text(command.output().await.unwrap()), "a b one / none\n");
            // Again, and the same.
            assert_eq!(text(command.output().await.unwrap()), "a b one / none\n");
            let std: Command = std::process::Command::new("env").into();
            let mut std = std;
            std.as_std_mut().env_clear().env("ONLY", "this");
            assert_eq!(text(std.output().await.unwrap()), "ONLY=this\n");
            assert_eq!(std.as_std().get_program(), "env");
            // output() leaves the streams as it found them.
            let mut child = std.stdout(Stdio::null()).spawn().unwrap();
            assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
            assert!(child.wait().await.unwrap().success());
            assert_eq!(child.communicate("").await.unwrap(), (vec![], vec![]));
            // What was set stays set.
            assert_eq!(std.output().await.unwrap().stdout, b"");
            // The input is empty.
            assert_eq!(text(Command::new("cat").output().await.unwrap()), "");
            // status() closes what nobody would use.
            let status = piped(&mut shell("cat; exit 4")).status().await.unwrap();
            assert_eq!(status.code(), Some(4));
        });
    }

    fn a_group_of_its_own(rt: Runtime) {
        rt.block_on(async {
            let child = sleeper().process_group(0).kill_on_drop(true).spawn().unwrap();
            let id = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
            assert_eq!(rustix::process::getpgid(Some(id)).unwrap(), id);
            let other = sleeper().kill_on_drop(true).spawn().unwrap();
            let id = rustix::process::Pid::from_raw(other.id() as i32).unwrap();
            assert_eq!(rustix::process::getpgid(Some(id)).unwrap(), rustix::process::getpgrp());
        });
    }

    fn children_are_started_by_executor_jobs(rt: Runtime) {
        rt.block_on(async {
            let child = run_in_executor(|| shell("exit 6").spawn().unwrap()).await.unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(6));
        });
    }
}

#[test]
fn s1_06_the_unix_layer_works_on_a_loop_alone() {
    // asyncio's _UnixSelectorEventLoop is a layer above the loop; here, too, all of it stands on a loop without a runtime.
    common::with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let signalled = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = signalled.clone();
        event_loop.add_signal_handler(SignalKind::from_raw(23), move || count.set(count.get() + 1)).unwrap(); // SIGURG
        let running = event_loop.clone();
        running
            .run_until_complete(async {
                let output = shell("kill -23 $PPID; echo hi").output().await.unwrap();
                assert_eq!(output.stdout, b"hi\n");
                let (mut one, mut other) = epicycle::net::UnixStream::pair().unwrap();
                one.write_all(b"word").await.unwrap();
                other.read_exact(&mut [0; 4]).await.unwrap();
                while signalled.get() == 0 {
                    sleep(MS).await;
                }
                // Dropped with the loop below.
                let child = sleeper().kill_on_drop(true).spawn().unwrap();
                let id = child.id();
                event_loop.spawn_local(async move { child.wait().await });
                yield_now().await;
                id
            })
            .map(|id| {
                assert!(exists(id));
                running.close();
                eventually("it is killed and reaped", || !exists(id));
            })
            .unwrap();
    });
}

#[test]
fn what_is_send_and_sync() {
    fn is<T: Send + Sync + Unpin + std::fmt::Debug + 'static>() {}
    is::<Child>();
    is::<ChildHandle>();
    is::<Command>();
    is::<ChildStdin>();
    is::<ChildStdout>();
    is::<ChildStderr>();
    fn sends<T: Send>(_: T) {}
    fn never(child: &mut Child, handle: &ChildHandle) {
        sends(handle.wait());
        sends(child.wait());
        sends(child.communicate(String::new()));
        sends(shell("").output());
        sends(shell("").status());
    }
    let _ = never;
    assert!(Path::new("/bin/sh").exists());
}
