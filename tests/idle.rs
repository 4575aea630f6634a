//! C12: what a runtime costs at rest, measured by the kernel's own count of context switches per thread.
//!
//! A thread that makes a system call that waits, or a timer tick, is switched: a count that stands still is a thread that
//! slept through. These tests are serial, since a starved machine would make "busy" and "idle" overlap.

mod common;

use std::future::pending;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use common::{Flag, Flavour, Gate, ThreadInfo, eventually, eventually_async, flavour};
use epicycle::io::AsyncReadExt;
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// How long a runtime is watched. It must have come to rest 10 ms after its last handle; it is given 100.
const WATCH: Duration = Duration::from_millis(700);

static SERIAL: Mutex<()> = Mutex::new(());

fn serial() -> MutexGuard<'static, ()> {
    SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A runtime of the test's flavour whose threads can be told from all others, and their name.
fn named() -> (Runtime, String) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("idle{}x", NEXT.fetch_add(1, SeqCst));
    (common::builder!().thread_name(name.clone()).build().unwrap(), name)
}

/// How each thread of `before` changed over [`WATCH`]: context switches and CPU time.
fn watch(select: impl Fn() -> Vec<ThreadInfo>) -> Vec<(u64, u64, Duration)> {
    let before = select();
    thread::sleep(WATCH);
    let after = select();
    before
        .iter()
        .filter_map(|old| {
            let new = after.iter().find(|new| new.tid == old.tid)?;
            Some((new.tid, new.switches - old.switches, new.cpu - old.cpu))
        })
        .collect()
}

/// The sums that must not grow while a runtime is idle.
fn work_done(rt: &Runtime) -> (u64, u64, u64, u64) {
    let metrics = rt.metrics();
    let sum = |count: fn(&epicycle::runtime::LoopMetrics) -> u64| metrics.loops.iter().map(count).sum();
    (sum(|l| l.turns), sum(|l| l.selects), sum(|l| l.parks), sum(|l| l.handles_run))
}

#[track_caller]
fn assert_at_rest(what: &str, changes: &[(u64, u64, Duration)], threads: usize) {
    assert_eq!(changes.len(), threads, "{what}: the threads were found");
    for (tid, switches, cpu) in changes {
        assert!(*switches == 0 && cpu.is_zero(), "{what}: thread {tid} was switched {switches} times and used {cpu:?}");
    }
}

common::flavours! {
    fn c12_an_idle_runtime_sleeps_through(flavour: Flavour) {
        let _serial = serial();
        let ((rt, name), loops) = (named(), flavour.loops());
        let rt = Arc::new(rt);
        let (stop, inside) = (Flag::new(), Gate::new());
        let driver = {
            let (rt, stop, inside, name) = (rt.clone(), stop.clone(), inside.clone(), format!("{name}0"));
            thread::Builder::new().name(name).spawn(move || rt.block_on(async {
                // All that an idle server has: sockets, far timers, waiting tasks, pinned ones, a reader.
                let mut peers = Vec::new();
                for i in 0..20 {
                    let (mut ours, theirs) = common::socket_pair();
                    peers.push(theirs);
                    spawn(async move { let _ = ours.read(&mut [0; 1]).await; });
                    spawn(sleep(HOUR));
                    spawn(pending::<()>());
                    let event_loop = &rt.loops()[i % rt.loops().len()];
                    event_loop.spawn_local(|| async { EventLoop::current().call_later(HOUR, || ()); sleep(HOUR).await });
                }
                let (reader, _writer) = std::os::unix::net::UnixStream::pair().unwrap();
                EventLoop::current().add_reader(&reader, || ()).unwrap();
                epicycle::run_in_executor(|| ()).await.unwrap();
                sleep(5 * MS).await;
                inside.open();
                stop.wait().await;
            })).unwrap()
        };
        inside.wait();
        thread::sleep(100 * MS);
        let before = work_done(&rt);
        let changes = watch(|| common::threads_named(&name));
        assert_eq!(work_done(&rt), before, "turns, selects, parks, handles");
        assert!(changes.len() >= loops, "all loops and the executor's thread were watched: {changes:?}");
        let threads = changes.len();
        assert_at_rest("idle", &changes, threads);
        // And it is alive.
        stop.set();
        driver.join().unwrap();
    }

    fn c12_a_runtime_whose_loop_zero_was_left_sleeps_through(flavour: Flavour) {
        if flavour == Flavour::OneLoop { return }
        let _serial = serial();
        let (rt, name) = named();
        // A custodian has loop 0's sockets and deadlines; that must cost nothing either.
        let (mut peers, served) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
        rt.block_on(async {
            for _ in 0..10 {
                let (mut ours, theirs) = common::socket_pair();
                peers.push(theirs);
                let served = served.clone();
                spawn(async move { while ours.read(&mut [0; 1]).await.is_ok_and(|n| n > 0) { served.fetch_add(1, SeqCst); } });
                spawn(sleep(HOUR));
            }
            sleep(2 * MS).await;
        });
        thread::sleep(100 * MS);
        let before = work_done(&rt);
        let changes = watch(|| common::threads_named(&name));
        assert_eq!(work_done(&rt), before);
        assert_at_rest("with loop 0 absent", &changes, flavour.loops() - 1);
        for peer in &mut peers { peer.write_all(b"x").unwrap() }
        eventually("and it is alive", || served.load(SeqCst) == 10);
    }

    fn c12_a_fresh_runtime_and_one_never_entered_sleep_through(flavour: Flavour) {
        if flavour == Flavour::OneLoop { return }
        let _serial = serial();
        let (rt, name) = named();
        thread::sleep(100 * MS);
        let before = work_done(&rt);
        assert_at_rest("fresh", &watch(|| common::threads_named(&name)), flavour.loops() - 1);
        assert_eq!(work_done(&rt), before);
    }

    fn c12_a_runtime_comes_to_rest_after_work(flavour: Flavour) {
        let _serial = serial();
        let ((rt, name), rt_loops) = (named(), flavour.loops());
        let rt = Arc::new(rt);
        let (stop, inside) = (Flag::new(), Gate::new());
        let driver = {
            let (rt, stop, inside, name) = (rt.clone(), stop.clone(), inside.clone(), format!("{name}0"));
            thread::Builder::new().name(name).spawn(move || rt.block_on(async {
                for _ in 0..20 {
                    let tasks: Vec<_> = (0..200).map(|_| spawn(async { for _ in 0..20 { yield_now().await } })).collect();
                    for task in tasks { task.await.unwrap() }
                    sleep(MS).await;
                }
                inside.open();
                stop.wait().await;
            })).unwrap()
        };
        inside.wait();
        thread::sleep(100 * MS);
        assert_at_rest("after work", &watch(|| common::threads_named(&name)), rt_loops);
        stop.set();
        driver.join().unwrap();
    }

    fn c12_while_one_loop_runs_at_most_one_idle_one_ticks(flavour: Flavour) {
        if flavour == Flavour::OneLoop { return }
        let _serial = serial();
        for yielding in [false, true] {
            let (rt, name) = named();
            let (on, started) = (Arc::new(AtomicBool::new(true)), Gate::new());
            let (busy, start) = (on.clone(), started.clone());
            // Loop 1 spins in one long handle, or runs a task that yields for ever; pinned, so that nothing is there to steal.
            let tid = Arc::new(AtomicUsize::new(0));
            let own = tid.clone();
            let spinner = rt.loops()[1].spawn_local(move || async move {
                own.store(common::this_tid() as usize, SeqCst);
                start.open();
                while busy.load(SeqCst) { if yielding { yield_now().await } else { std::hint::spin_loop() } }
            });
            started.wait();
            thread::sleep(100 * MS);
            let changes = watch(|| common::threads_named(&name));
            on.store(false, SeqCst);
            let idle: Vec<_> = changes.iter().filter(|(id, ..)| *id != tid.load(SeqCst) as u64).collect();
            assert_eq!(idle.len(), 2, "loops 2 and 3: {changes:?}");
            let ticking: Vec<_> = idle.iter().filter(|(_, switches, _)| *switches > 10).collect();
            assert!(ticking.len() <= 1, "one watcher at most: {changes:?}");
            assert!(ticking.iter().all(|(.., cpu)| *cpu <= WATCH / 10), "about 1 % of a core: {changes:?}");
            futures_lite::future::block_on(spinner).unwrap();
        }
    }

    fn c12_nobody_is_woken_for_work_the_current_loop_runs_next(rt: Runtime) {
        let _serial = serial();
        // Request and reply between the root and one task of its loop: a wake per hop would be two system calls each.
        const ROUNDS: u64 = 5000;
        let sent = || rt.metrics().loops.iter().map(|l| l.unparks_sent).sum::<u64>();
        rt.block_on(async {
            sleep(5 * MS).await;
            let before = sent();
            for _ in 0..ROUNDS {
                let flag = Flag::new();
                let set = flag.clone();
                let task = spawn(async move { set.set() });
                flag.wait().await;
                task.await.unwrap();
            }
            let stealable = sent() - before;
            let before = sent();
            for _ in 0..ROUNDS {
                let flag = Flag::new();
                let set = flag.clone();
                spawn_local(async move { set.set() });
                flag.wait().await;
            }
            let pinned = sent() - before;
            // The watcher's invariant costs a few; one for each round trip is what the contract rules out.
            let few = if flavour() == Flavour::OneLoop { 0 } else { ROUNDS / 10 };
            assert!(stealable <= few && pinned <= few, "{stealable} and {pinned} unparks in {ROUNDS} round trips each");
        });
    }

    fn c12_metrics_stand_still_and_then_count_again(rt: Runtime) {
        let _serial = serial();
        rt.block_on(async {
            let gate = Gate::new();
            let (open, seen) = (gate.clone(), Arc::new(Mutex::new(None)));
            let slot = seen.clone();
            let handle = rt.handle();
            let observer = thread::spawn(move || {
                thread::sleep(50 * MS);
                let at = |what: fn(&epicycle::runtime::LoopMetrics) -> u64| handle.metrics().loops.iter().map(what).sum::<u64>();
                let before = (at(|l| l.turns), at(|l| l.selects), at(|l| l.parks), at(|l| l.steals_tried), at(|l| l.unparks_sent));
                thread::sleep(100 * MS);
                let after = (at(|l| l.turns), at(|l| l.selects), at(|l| l.parks), at(|l| l.steals_tried), at(|l| l.unparks_sent));
                *slot.lock().unwrap() = Some((before, after));
                open.open();
            });
            let woken = Flag::new();
            let set = woken.clone();
            let waiter = thread::spawn(move || { gate.wait(); set.set() });
            woken.wait().await;
            let (before, after) = seen.lock().unwrap().take().unwrap();
            assert_eq!(before, after, "turns, selects, parks, steals tried, unparks");
            observer.join().unwrap();
            waiter.join().unwrap();
            eventually_async("counted again", || rt.metrics().loops.iter().map(|l| l.turns).sum::<u64>() > after.0).await;
        });
    }
}

#[test]
fn c12_a_waiting_test_thread_is_seen_as_waiting() {
    // The instrument itself: a sleeping thread is not switched, a ticking one is.
    let _serial = serial();
    let on = Arc::new(AtomicBool::new(true));
    let run = on.clone();
    let gate = Gate::new();
    let hold = gate.clone();
    let quiet = thread::Builder::new().name("instr-quiet".into()).spawn(move || hold.wait()).unwrap();
    let ticking = thread::Builder::new()
        .name("instr-ticks".into())
        .spawn(move || {
            while run.load(SeqCst) {
                thread::sleep(MS)
            }
        })
        .unwrap();
    thread::sleep(20 * MS);
    let ids: Vec<u64> = ["instr-quiet", "instr-ticks"].iter().map(|name| common::threads_named(name)[0].tid).collect();
    let changes = watch(|| common::threads_named("instr-"));
    on.store(false, SeqCst);
    gate.open();
    quiet.join().unwrap();
    ticking.join().unwrap();
    let switches = |id: u64| changes.iter().find(|(thread, ..)| *thread == id).map(|(_, switches, _)| *switches);
    assert_eq!(switches(ids[0]), Some(0));
    assert!(switches(ids[1]).is_some_and(|switches| switches > 50));
}
