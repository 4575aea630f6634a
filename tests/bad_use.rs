//! Misuse: each kind is a clear error or report that says what to do, at the caller's line; nothing is lost and nothing hangs.
//!
//! What counts as clear: the text named in the documentation of the function, and a location in the caller's file.

mod common;

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{
    DropProbe, OnDrop, Reports, eventually, eventually_async, panics, panics_with, pending_with, with_timeout,
};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, Task, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const NO_RUNTIME: &str = "no epicycle runtime";

/// Runs `f`, which must panic, and gives the file that the panic names. Serial: the hook is the process's.
fn panic_file(f: impl FnOnce()) -> String {
    static SERIAL: Mutex<()> = Mutex::new(());
    let _serial = SERIAL.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (me, place) = (thread::current().id(), Arc::new(Mutex::new(String::new())));
    let slot = place.clone();
    let old = Arc::new(std::panic::take_hook());
    let chained = old.clone();
    std::panic::set_hook(Box::new(move |info| {
        if thread::current().id() == me {
            *slot.lock().unwrap() = info.location().map(|location| location.file().to_owned()).unwrap_or_default();
        } else {
            chained(info);
        }
    }));
    let result = catch_unwind(AssertUnwindSafe(f));
    std::panic::set_hook(Box::new(move |info| old(info)));
    assert!(result.is_err(), "a panic was expected");
    let file = place.lock().unwrap();
    file.clone()
}

#[test]
fn b10_spawning_outside_a_runtime() {
    with_timeout(|| {
        let probe = DropProbe::new();
        let guard = probe.guard();
        panics_with(NO_RUNTIME, || spawn(pending_with(guard)));
        assert_eq!(probe.count(), 1, "the future is dropped");
        panics_with(NO_RUNTIME, || epicycle::run_in_executor(|| ()));
        panics_with(NO_RUNTIME, RuntimeHandle::current);
    });
}

#[test]
fn b10_sockets_and_sleeps_outside_a_runtime() {
    with_timeout(|| {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        panics_with(NO_RUNTIME, || epicycle::net::UnixStream::from_std(ours));
        // A sleep may be made anywhere; to wait for it needs a loop.
        panics_with(NO_RUNTIME, || futures_lite::future::block_on(sleep(Duration::from_secs(60))));
    });
}

#[test]
fn b10_misuse_names_the_callers_line() {
    with_timeout(|| {
        let blamed = std::cell::RefCell::new(Vec::new());
        let here = |what: &str, f: &dyn Fn()| {
            let file = panic_file(f);
            if !file.ends_with("bad_use.rs") {
                blamed.borrow_mut().push(format!("{what} blames {file}"))
            }
        };
        here("spawn", &|| drop(spawn(async {})));
        here("spawn_local", &|| drop(spawn_local(async {})));
        here("run_in_executor", &|| drop(epicycle::run_in_executor(|| ())));
        here("RuntimeHandle::current", &|| drop(RuntimeHandle::current()));
        here("EventLoop::current", &|| drop(EventLoop::current()));
        here("worker_threads(0)", &|| drop(Runtime::builder().worker_threads(0).build()));
        here("max_blocking_threads(0)", &|| drop(Runtime::builder().max_blocking_threads(0).build()));
        here("task::id", &|| {
            epicycle::task::id();
        });
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let kept = rt.block_on(async { EventLoop::current() });
        here("a closed loop's call_soon", &|| drop(kept.call_soon(|| ())));
        here("a closed loop's call_later", &|| drop(kept.call_later(MS, || ())));
        here("a closed loop's spawn_local", &|| drop(kept.spawn_local(async {})));
        here("interval of zero", &|| drop(epicycle::time::interval(Duration::ZERO)));
        rt.block_on(async { here("nested block_on", &|| rt.handle().block_on(async {})) });
        rt.block_on(async { here("nested run", &|| epicycle::run(async {})) });
        let other = EventLoop::new().unwrap();
        other.close();
        here("run_forever of a closed loop", &|| other.run_forever());
        here("run_until_complete of a closed loop", &|| {
            let _ = other.run_until_complete(async {});
        });
        assert!(blamed.borrow().is_empty(), "{:#?}", blamed.borrow());
    });
}

#[test]
fn b45_spawn_local_off_a_loop() {
    with_timeout(|| {
        let probe = DropProbe::new();
        let guard = probe.guard();
        panics_with("spawn_local needs an event loop", || spawn_local(pending_with(guard)));
        assert_eq!(probe.count(), 1);
        assert!(panics(EventLoop::current).contains("event loop"));
    });
}

#[test]
fn b48_no_workers_and_no_executor_threads() {
    with_timeout(|| {
        panics_with("worker_threads must be at least 1", || Runtime::builder().worker_threads(0).build());
        assert!(panics(|| Runtime::builder().max_blocking_threads(0).build()).contains("at least 1"));
        let text = panics(|| Runtime::builder().event_interval(0).build());
        assert!(text.contains("event_interval"), "{text}");
    });
}

#[test]
fn b60_a_blocking_socket_is_refused() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        rt.block_on(async {
            let check = |what: &str, error: Option<std::io::Error>| {
                let error = error.unwrap_or_else(|| panic!("{what}: a blocking socket was taken"));
                assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "{what}");
                assert!(error.to_string().contains("non-blocking"), "{what}: {error}");
            };
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            check("TcpStream", epicycle::net::TcpStream::from_std(stream).err());
            check("TcpListener", epicycle::net::TcpListener::from_std(listener).err());
            check(
                "UdpSocket",
                epicycle::net::UdpSocket::from_std(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).err(),
            );
            check(
                "UnixStream",
                epicycle::net::UnixStream::from_std(std::os::unix::net::UnixStream::pair().unwrap().0).err(),
            );
        });
    });
}

#[test]
fn s3_25_a_reader_on_a_closed_or_unpollable_descriptor() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(async {
            let event_loop = EventLoop::current();
            // AT_FDCWD: what the kernel sees of a closed descriptor, a number with nothing behind it.
            let error = event_loop.add_reader(rustix::fs::CWD, || ()).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
            assert!(event_loop.add_writer(rustix::fs::CWD, || ()).is_err());
            assert!(!event_loop.remove_reader(rustix::fs::CWD));
            let file = std::fs::File::open("/proc/self/exe").unwrap();
            assert!(event_loop.add_reader(&file, || ()).is_err());
            sleep(MS).await;
        });
    });
}

common::flavours! {
    fn c02_b08_nested_block_on(rt: Runtime) {
        const NESTED: &str = "block_on was called on a thread that already drives an event loop";
        let handle = rt.handle();
        rt.block_on(async {
            panics_with(NESTED, || handle.block_on(async {}));
            let task = spawn(async move { handle.block_on(async {}) });
            let error = task.await.unwrap_err();
            assert!(common::panic_text(&*error.into_panic()).contains(NESTED));
        });
    }

    fn c10_b37_a_runtime_dropped_inside_one_of_its_own_tasks(rt: Runtime) {
        let (handle, probe, dropped) = (rt.handle(), DropProbe::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..10 { rt.spawn(pending_with(probe.guard())); }
        let slot = Arc::new(Mutex::new(Some(rt)));
        let (inner, done) = (slot.clone(), dropped.clone());
        let work = async move { yield_now().await; drop(inner.lock().unwrap().take()); done.store(true, SeqCst) };
        if common::flavour() == common::Flavour::OneLoop {
            // The only loop is the one inside block_on, by a handle.
            let _ = catch_unwind(AssertUnwindSafe(|| handle.block_on(async { let _ = spawn(work).await; })));
        } else {
            drop(handle.spawn(work));
        }
        eventually("the drop returned", || dropped.load(SeqCst));
        eventually("the rest ended", || probe.count() == 10);
    }

    fn c09_a_panicking_callback_hook_waker_and_destructor_at_once(flavour: common::Flavour) {
        let reports = Reports::new();
        let rt = common::builder!()
            .exception_handler(reports.handler())
            .on_thread_start(|_| panic!("hook"))
            .build().unwrap();
        rt.block_on(async {
            EventLoop::current().call_soon(|| panic!("callback"));
            drop(spawn(async { let _bomb = OnDrop(|| panic!("destructor")); yield_now().await }));
            drop(spawn(async { panic!("task") }));
            let flag = common::Flag::new();
            let mut task = spawn(flag.wait());
            struct Bad;
            impl std::task::Wake for Bad { fn wake(self: Arc<Self>) { panic!("waker") } }
            let bad = std::task::Waker::from(Arc::new(Bad));
            let _ = std::future::Future::poll(std::pin::Pin::new(&mut task), &mut std::task::Context::from_waker(&bad));
            flag.set();
            for text in ["callback", "destructor", "task", "waker"] {
                eventually_async(text, || reports.of_panic(text) == 1).await;
            }
            eventually_async("the hooks' reports", || reports.of_panic("hook") >= flavour.loops() - 1).await;
            for _ in 0..20 { assert_eq!(spawn(async { yield_now().await; 1 }).await.unwrap(), 1) }
        });
        for report in reports.all() { assert!(!report.message().is_empty() && !report.to_string().is_empty()) }
    }

    fn c08_a_task_polled_after_its_end_does_not_hang_or_lie(rt: Runtime) {
        rt.block_on(async {
            let mut task: Task<u8> = spawn(async { 1 });
            assert_eq!((&mut task).await.unwrap(), 1);
            // Like any future after Ready: a panic that says so, or an error. Not a second value, not a wait for ever.
            let again = catch_unwind(AssertUnwindSafe(|| {
                let mut task = task;
                let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
                match std::future::Future::poll(std::pin::Pin::new(&mut task), &mut cx) {
                    std::task::Poll::Ready(Ok(_)) => "a second value",
                    std::task::Poll::Ready(Err(_)) => "an error",
                    std::task::Poll::Pending => "a wait for ever",
                }
            }));
            assert!(again.is_err() || again.as_ref().is_ok_and(|what| *what == "an error"), "{again:?}");
        });
    }

    fn c02_an_event_loop_handle_is_of_no_use_once_its_loop_is_gone(rt: Runtime) {
        let kept = rt.block_on(async { EventLoop::current() });
        drop(rt);
        panics_with("event loop is closed", || kept.call_soon(|| ()));
        panics_with("event loop is closed", || kept.spawn_local(pending::<()>()));
        drop(kept);
    }
}
