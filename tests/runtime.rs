//! Runtime, Builder and RuntimeHandle: options, threads, contexts, metrics (C1; behaviours 4-5, 9-11, 41).
//!
//! What a loop does is tested elsewhere; this is about what is around the loops.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Flag, Flavour, Gate, eventually, eventually_async, flavour, loop_index, panics, panics_with, with_timeout,
};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const NO_RUNTIME: &str = "no epicycle runtime";

common::flavours! {
    fn c01_n_loops_use_n_threads_counting_the_callers(flavour: Flavour) {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("cnt{}x", NEXT.fetch_add(1, SeqCst));
        let rt = common::builder!().thread_name(name.clone()).build().unwrap();
        assert_eq!(rt.loops().len(), flavour.loops());
        assert_eq!(rt.handle().loops().len(), flavour.loops());
        assert_eq!(rt.metrics().loops.len(), flavour.loops());
        eventually("the background threads are there", || common::threads_named(&name).len() == flavour.loops() - 1);
        rt.block_on(async {
            for _ in 0..200 { spawn(async { for _ in 0..10 { yield_now().await } }); }
            sleep(5 * MS).await;
        });
        assert_eq!(common::threads_named(&name).len(), flavour.loops() - 1, "and never more");
    }

    fn b02_a_name_that_no_thread_can_have_is_refused(flavour: Flavour) {
        let error = common::builder!().thread_name("a\0b").build().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains("null byte"), "{error}");
        assert!(common::builder!().thread_name("a\0b").thread_name("ab").build().is_ok(), "the last one counts");
        // Seen only when the threads start: those of the loops, or later those of the executor.
        match common::builder!().thread_name_fn(|| "a\0b".into()).build() {
            Err(error) => assert_eq!((error.kind(), flavour.loops() > 1), (std::io::ErrorKind::InvalidInput, true)),
            Ok(rt) => {
                assert_eq!(flavour.loops(), 1);
                let name = || thread::current().name().map(str::to_owned);
                assert_eq!(rt.block_on(rt.run_in_executor(name)).unwrap().as_deref(), Some("epicycle"));
            }
        }
    }

    fn c01_threads_are_named(flavour: Flavour) {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let rt = common::builder!().thread_name_fn(move || format!("thread-{}", count.fetch_add(1, SeqCst))).build().unwrap();
        let mut names = std::collections::HashSet::new();
        for event_loop in rt.loops().iter().skip(1) {
            let name = event_loop.spawn_local(|| async { thread::current().name().map(str::to_owned) });
            let name = futures_lite::future::block_on(name).unwrap().unwrap();
            assert!(name.starts_with("thread-") && names.insert(name), "each has its own");
        }
        assert_eq!(made.load(SeqCst), flavour.loops() - 1, "asked once per thread");
        let rt = common::builder!().thread_name("same name").build().unwrap();
        if flavour.loops() > 1 {
            let name = rt.loops()[1].spawn_local(|| async { thread::current().name().map(str::to_owned) });
            assert!(futures_lite::future::block_on(name).unwrap().unwrap().contains("same name"));
        }
    }

    fn c01_the_stack_size_is_honoured(flavour: Flavour) {
        let rt = common::builder!().thread_stack_size(24 << 20).build().unwrap();
        // At least 4 MiB of stack, more than the default of 2, and three times that in a debug build.
        #[inline(never)]
        fn deep(frames: usize) -> usize {
            let frame = std::hint::black_box([frames as u8; 16 << 10]);
            if frames == 0 { usize::from(frame[0]) } else { deep(frames - 1) + usize::from(std::hint::black_box(frame)[1] > 0) }
        }
        if flavour.loops() > 1 {
            let task = rt.loops()[1].spawn_local(|| async { deep(250) });
            assert!(futures_lite::future::block_on(task).unwrap() > 0);
        }
    }

    fn b41_hooks_run_on_their_thread_with_the_loops_index(flavour: Flavour) {
        let (log, stops) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
        let (start, stop) = (log.clone(), stops.clone());
        let rt = common::builder!()
            .on_thread_start(move |index| start.lock().unwrap().push((index, thread::current().id())))
            .on_thread_stop(move |_| { stop.fetch_add(1, SeqCst); })
            .build().unwrap();
        rt.block_on(async {
            for event_loop in &rt.loops()[1..] {
                let (index, id) = (event_loop.index(), event_loop.spawn_local(|| async { thread::current().id() }).await.unwrap());
                let started = log.lock().unwrap().iter().filter(|entry| **entry == (index, id)).count();
                assert_eq!(started, 1, "before anything ran there, once, with its index");
            }
        });
        if flavour == Flavour::OneLoop { assert!(log.lock().unwrap().iter().all(|(index, _)| *index == 0)) }
        assert_eq!(log.lock().unwrap().iter().filter(|(index, _)| *index != 0).count(), flavour.loops() - 1);
    }

    fn b01_every_option_together_still_makes_a_runtime(flavour: Flavour) {
        let _ = flavour;
        let rt = common::builder!()
            .thread_name("all").max_blocking_threads(2).blocking_keep_alive(MS).spin(Duration::from_micros(50))
            .event_interval(7)
            .exception_handler(|_| ()).on_thread_start(|_| ()).on_thread_stop(|_| ())
            .build().unwrap();
        rt.block_on(async {
            let tasks: Vec<_> = (0..100).map(|i| spawn(async move { yield_now().await; i })).collect();
            for (i, task) in tasks.into_iter().enumerate() { assert_eq!(task.await.unwrap(), i) }
            sleep(MS).await;
        });
    }

    fn b01_spinning_runtimes_lose_no_wakes(flavour: Flavour) {
        let _ = flavour;
        for spin in [Duration::ZERO, Duration::from_micros(200)] {
            let rt = common::builder!().spin(spin).build().unwrap();
            rt.block_on(async {
                for i in 0..200 {
                    let flag = Flag::new();
                    let set = flag.clone();
                    thread::spawn(move || set.set());
                    flag.wait().await;
                    if i % 10 == 0 { sleep(Duration::from_micros(100)).await }
                }
            });
        }
    }

    fn b09_entering_sets_the_context_and_guards_nest(rt: Runtime) {
        let other = Runtime::builder().worker_threads(2).build().unwrap();
        let (one, two) = (rt.handle(), other.handle());
        let loops = || RuntimeHandle::try_current().ok().map(|handle| handle.loops().len());
        assert_eq!(loops(), None);
        {
            let _outer = one.enter();
            assert_eq!(loops(), Some(rt.loops().len()));
            let task = spawn(async { 1 });
            {
                let _inner = two.enter();
                assert_eq!(loops(), Some(2));
                let task = spawn(async { loop_index() });
                assert!(futures_lite::future::block_on(task).unwrap().is_some(), "on the other runtime's background loop");
            }
            assert_eq!(loops(), Some(rt.loops().len()), "restored");
            assert_eq!(rt.block_on(task).unwrap(), 1, "block_on works inside a guard");
            assert_eq!(loops(), Some(rt.loops().len()));
        }
        assert_eq!(loops(), None);
        rt.block_on(async { assert_eq!(loops(), Some(rt.loops().len())) });
        assert_eq!(loops(), None);
    }

    fn b09_a_guard_dropped_out_of_order_panics(rt: Runtime) {
        let other = Runtime::builder().worker_threads(1).build().unwrap();
        let (one, two) = (rt.handle(), other.handle());
        let (first, second) = (one.enter(), two.enter());
        let text = panics(move || { drop(first); drop(second) });
        assert!(!text.is_empty());
        // The thread is usable again.
        assert_eq!(rt.block_on(async { 3 }), 3);
    }

    fn b09_a_socket_and_a_sleep_made_inside_a_guard_live_on_a_loop(rt: Runtime) {
        let handle = rt.handle();
        let (mut stream, mut peer, timer) = { let _entered = handle.enter(); let (a, b) = common::socket_pair(); (a, b, sleep(2 * MS)) };
        std::io::Write::write_all(&mut peer, b"x").unwrap();
        rt.block_on(async move {
            epicycle::io::AsyncReadExt::read_exact(&mut stream, &mut [0; 1]).await.unwrap();
            timer.await;
        });
    }

    fn b10_the_current_handle_is_the_runtimes(rt: Runtime) {
        rt.block_on(async {
            let n = rt.loops().len();
            assert_eq!(RuntimeHandle::current().loops().len(), n);
            assert_eq!(spawn(async { RuntimeHandle::current().loops().len() }).await.unwrap(), n);
            for event_loop in rt.loops() {
                assert_eq!(event_loop.spawn_local(|| async { RuntimeHandle::current().loops().len() }).await.unwrap(), n);
            }
            let seen = Arc::new(AtomicUsize::new(0));
            let count = seen.clone();
            EventLoop::current().call_soon(move || count.store(RuntimeHandle::current().loops().len(), SeqCst));
            eventually_async("the callback", || seen.load(SeqCst) == n).await;
        });
    }

    fn b05_call_soon_threadsafe_runs_each_once_wherever_called(rt: Runtime) {
        let rt = Arc::new(rt);
        let ran = Arc::new(AtomicUsize::new(0));
        let post = |rt: &Runtime, ran: &Arc<AtomicUsize>| { let ran = ran.clone(); rt.call_soon_threadsafe(move || { ran.fetch_add(1, SeqCst); }); };
        let foreign = { let (rt, ran) = (rt.clone(), ran.clone()); thread::spawn(move || for _ in 0..500 { post(&rt, &ran) }) };
        rt.block_on(async {
            for _ in 0..500 { post(&rt, &ran) }
            let (inner, count) = (rt.clone(), ran.clone());
            spawn(async move { for _ in 0..500 { post(&inner, &count); yield_now().await } }).await.unwrap();
            eventually_async("1500 calls", || ran.load(SeqCst) == 1500).await;
        });
        foreign.join().unwrap();
    }

    fn b20_call_soon_threadsafe_of_the_runtime_is_stealable(rt: Runtime) {
        if flavour() != Flavour::FourLoops { return }
        rt.block_on(async {
            let gate = Gate::new();
            let open = gate.clone();
            rt.call_soon_threadsafe(move || open.open());
            gate.wait(); // this loop is stuck: another one must take it
        });
    }

    fn c12_metrics_count_what_happened(rt: Runtime) {
        let before = rt.metrics();
        rt.block_on(async {
            for _ in 0..50 { spawn(async {}).await.unwrap() }
            for _ in 0..5 { sleep(MS).await }
            let handle = EventLoop::current().call_later(Duration::from_secs(60), || ());
            assert!(handle.cancel());
            let (mut ours, mut theirs) = common::socket_pair();
            std::io::Write::write_all(&mut theirs, b"x").unwrap();
            epicycle::io::AsyncReadExt::read_exact(&mut ours, &mut [0; 1]).await.unwrap();
            let now = rt.metrics();
            assert!(now.loops.iter().map(|l| l.sources).sum::<usize>() > before.loops.iter().map(|l| l.sources).sum::<usize>());
            thread::sleep(3 * MS); // a long handle
            yield_now().await;
        });
        let after = rt.metrics();
        let grown = |what: fn(&epicycle::runtime::LoopMetrics) -> u64| {
            after.loops.iter().map(what).sum::<u64>() - before.loops.iter().map(what).sum::<u64>()
        };
        assert!(grown(|l| l.handles_run) >= 50 && grown(|l| l.turns) > 0 && grown(|l| l.selects) > 0);
        assert!(grown(|l| l.timers_armed) >= 6 && grown(|l| l.timers_fired) >= 5 && grown(|l| l.timers_cancelled) >= 1);
        assert!(grown(|l| l.parks) > 0, "it slept");
        assert!(after.loops[0].longest_handle >= 3 * MS, "{:?}", after.loops[0].longest_handle);
        assert_eq!(after.alive_tasks, 0);
        assert_eq!(after.loops.iter().map(|l| l.timers_pending).sum::<usize>(), 0);
    }

    fn c12_metrics_show_depths(rt: Runtime) {
        // Nobody drives loop 0, so its inbox keeps what is posted.
        for _ in 0..7 { rt.loops()[0].call_soon_threadsafe(|| ()); }
        assert_eq!(rt.metrics().loops[0].inbox_depth, 7);
        if flavour() == Flavour::OneLoop {
            for _ in 0..5 { rt.spawn(async {}); }
            // With one loop its inbox may serve as the injector: one FIFO.
            assert_eq!(rt.metrics().injector_depth + rt.metrics().loops[0].inbox_depth, 7 + 5);
            assert_eq!(rt.metrics().alive_tasks, 5);
        }
        rt.block_on(async { eventually_async("all taken", || rt.metrics().loops[0].inbox_depth == 0 && rt.metrics().injector_depth == 0).await });
        let pulled = rt.metrics();
        assert!(pulled.loops[0].inbox_pulls >= 7);
        if flavour() == Flavour::OneLoop { assert!(pulled.loops[0].injector_pulls + pulled.loops[0].inbox_pulls >= 12) }
    }

    fn c03_no_steal_means_no_steals(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..200).map(|_| spawn(async { for _ in 0..20 { yield_now().await; std::hint::black_box((0..500).sum::<u64>()); } })).collect();
            for task in tasks { task.await.unwrap() }
        });
        let won: u64 = rt.metrics().loops.iter().map(|l| l.steals_won).sum();
        match flavour() {
            Flavour::FourLoops => (), // how many is up to the machine; `stuck_loop.rs` forces them
            Flavour::OneLoop | Flavour::FourLoopsNoSteal => assert_eq!(won, 0),
        }
    }

    fn s3_21_debug_mode_reports_slow_handles_with_name_and_time(flavour: Flavour) {
        let reports = common::Reports::new();
        let rt = common::builder!().debug(true).slow_callback_duration(20 * MS).exception_handler(reports.handler()).build().unwrap();
        let _ = flavour;
        rt.block_on(async {
            // Slow: a named task, a callback. Quick: all the rest, and many quick ones do not add up.
            let slow = epicycle::task::Builder::new().name("sluggard").spawn(async { thread::sleep(25 * MS) });
            slow.await.unwrap();
            EventLoop::current().call_soon(|| thread::sleep(25 * MS));
            spawn(async { for _ in 0..200 { yield_now().await } }).await.unwrap();
            sleep(30 * MS).await;
        });
        let all: Vec<String> = reports.all().iter().map(|report| report.message().to_owned()).collect();
        let took: Vec<_> = all.iter().filter(|text| text.contains("Executing") && text.contains("took 0.0")).collect();
        assert!(took.iter().any(|text| text.contains("sluggard")), "{all:?}");
        assert!(took.len() >= 2, "the callback too: {all:?}");
    }

    fn s3_21_without_debug_mode_nothing_is_reported(flavour: Flavour) {
        let _ = flavour;
        let reports = common::Reports::new();
        let rt = common::builder!().slow_callback_duration(MS).exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async { spawn(async { thread::sleep(5 * MS) }).await.unwrap() });
        assert!(reports.all().is_empty());
    }

    fn c13_every_descriptor_is_close_on_exec(rt: Runtime) {
        // What a child would inherit: compare what is open without the flag before and after everything was made.
        let inheritable = || {
            let mut open = Vec::new();
            for entry in std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten() {
                let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).map(str::trim).and_then(|octal| u32::from_str_radix(octal, 8).ok());
                let target = std::fs::read_link(format!("/proc/self/fd/{}", entry.file_name().to_string_lossy())).unwrap_or_default();
                // 0o2000000 is O_CLOEXEC. Only what a runtime makes: event queues, eventfds, timers, sockets.
                let ours = ["anon_inode", "socket", "pipe"].iter().any(|kind| target.to_string_lossy().starts_with(kind));
                let number: u32 = entry.file_name().to_string_lossy().parse().unwrap_or(0);
                if ours && number > 2 && flags.is_some_and(|flags| flags & 0o2_000_000 == 0) { open.push(format!("{} {target:?}", entry.file_name().to_string_lossy())) }
            }
            open
        };
        rt.block_on(async {
            let listener = epicycle::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = epicycle::net::TcpStream::connect(address).await.unwrap();
            let server = listener.accept().await.unwrap();
            sleep(MS).await;
            // Pipes may be the harness's own; the runtime makes none that last.
            let open: Vec<String> = inheritable().into_iter().filter(|fd| !fd.contains("pipe")).collect();
            assert!(open.is_empty(), "{open:?}");
            drop((client, server));
        });
    }

    fn b11_handles_keep_nothing_alive_and_are_cheap_to_clone(rt: Runtime) {
        let handle = rt.handle();
        let clones: Vec<RuntimeHandle> = (0..100).map(|_| handle.clone()).collect();
        let threads: Vec<_> = clones.into_iter().take(8).map(|handle| thread::spawn(move || { handle.spawn(async {}); handle.metrics() })).collect();
        for thread in threads { assert_eq!(thread.join().unwrap().loops.len(), rt.loops().len()) }
        drop(rt);
        assert!(futures_lite::future::block_on(handle.spawn(async {})).is_err());
    }
}

#[test]
fn c03_steals_happen_when_they_must() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(4).build().unwrap();
        let won = |rt: &Runtime| rt.metrics().loops.iter().map(|l| l.steals_won).sum::<u64>();
        let lost = |rt: &Runtime| rt.metrics().loops.iter().map(|l| l.handles_stolen_from).sum::<u64>();
        rt.block_on(async {
            let gate = Gate::new();
            let open = gate.clone();
            spawn(async move { open.open() });
            gate.wait();
        });
        eventually("counted on both sides", || won(&rt) >= 1 && lost(&rt) >= 1);
    });
}

#[test]
fn c01_the_default_is_at_least_two_loops() {
    with_timeout(|| {
        let rt = Runtime::new();
        let cpus = thread::available_parallelism().map_or(1, usize::from);
        match std::env::var("EPICYCLE_WORKER_THREADS") {
            Ok(text) => assert_eq!(rt.loops().len(), text.parse::<usize>().unwrap()),
            Err(_) => assert!(
                rt.loops().len() >= 2 && rt.loops().len() <= cpus.max(2),
                "{} loops, {cpus} CPUs",
                rt.loops().len()
            ),
        }
        assert_eq!(rt.block_on(async { 1 }), 1);
        assert_eq!(Runtime::try_new().unwrap().block_on(async { 2 }), 2);
        assert_eq!(Runtime::builder().build().unwrap().block_on(async { 3 }), 3);
    });
}

/// Runs the ignored test `name` of this binary in a process of its own with `EPICYCLE_WORKER_THREADS` set.
fn with_variable(value: &str, name: &str) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env("EPICYCLE_WORKER_THREADS", value)
        .output()
        .unwrap()
}

#[test]
fn c01_the_environment_sets_the_default_and_not_what_is_asked_for() {
    with_timeout(|| {
        let output = with_variable("3", "child_prints_its_loops");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("default=3 asked=2"), "{text}");
    });
}

#[test]
fn c01_a_senseless_environment_is_a_clear_error_or_ignored() {
    with_timeout(|| {
        for value in ["0", "many", "-1", ""] {
            let output = with_variable(value, "child_prints_its_loops");
            let text =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let clear = text.contains("EPICYCLE_WORKER_THREADS") || text.contains("default=");
            assert!(clear && !text.contains("default=0"), "{value:?}: {text}");
        }
    });
}

#[test]
#[ignore = "run by the tests above in a process of its own"]
fn child_prints_its_loops() {
    let asked = Runtime::builder().worker_threads(2).build().unwrap();
    println!("default={} asked={}", Runtime::new().loops().len(), asked.loops().len());
}

#[test]
fn b09_run_is_a_whole_life() {
    with_timeout(|| {
        assert_eq!(
            epicycle::run(async {
                yield_now().await;
                5
            }),
            5
        );
        let text = String::from("borrowed");
        assert_eq!(
            epicycle::run(async {
                spawn(async { sleep(MS).await }).await.unwrap();
                &text
            }),
            "borrowed"
        );
        assert_eq!(epicycle::run(async { spawn_local(async { std::rc::Rc::new(4) }).await.unwrap() }).as_ref(), &4);
        assert!(EventLoop::try_current().is_none() && RuntimeHandle::try_current().is_err());
    });
}

#[test]
fn b10_outside_a_runtime_there_is_no_context() {
    with_timeout(|| {
        let error = RuntimeHandle::try_current().expect_err("none here");
        assert!(error.is_missing_context() && !error.is_thread_local_destroyed() && !error.to_string().is_empty());
        panics_with(NO_RUNTIME, RuntimeHandle::current);
        panics_with(NO_RUNTIME, || spawn(async {}));
        assert!(EventLoop::try_current().is_none());
    });
}

#[test]
fn b51_two_runtimes_work_side_by_side() {
    with_timeout(|| {
        let (one, two) = (
            Runtime::builder().worker_threads(2).build().unwrap(),
            Runtime::builder().worker_threads(2).build().unwrap(),
        );
        let (to_two, to_one) = (two.handle(), one.handle());
        // A request goes from one to the other and back, many times: wakes cross runtimes.
        let value = one.block_on(async {
            let mut value = 0;
            for _ in 0..200 {
                let back = to_one.clone();
                value = to_two.spawn(async move { back.spawn(async move { value + 1 }).await.unwrap() }).await.unwrap();
            }
            value
        });
        assert_eq!(value, 200);
    });
}

#[test]
fn c01_a_timer_is_not_held_up_by_more_loops_than_cpus() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(16).build().unwrap();
        let start = Instant::now();
        rt.block_on(async {
            for _ in 0..20 {
                sleep(MS).await
            }
        });
        assert!(start.elapsed() >= 20 * MS);
        assert_eq!(rt.loops().len(), 16);
    });
}
