//! What reviews with fresh eyes broke, one test for each finding that a program can show: `rNN` is its number.
//!
//! Each counts events; what used to hang is ended by the watchdog, what used to abort ends the process.

mod common;

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use common::{CountPolls, DropProbe, Flag, Flavour, Gate, OnDrop, Reports, eventually, eventually_async, pending_with};
use common::{panics_with, with_timeout};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, run_in_executor, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

fn runtime(loops: usize) -> Runtime {
    Runtime::builder().worker_threads(loops).build().unwrap()
}

/// A thread drives loop 0 until the flag is set; returns once it does.
fn driver(rt: &Runtime, leave: &Flag) -> thread::JoinHandle<()> {
    let (handle, leave, drives) = (rt.handle(), leave.clone(), Gate::new());
    let entered = drives.clone();
    let thread = thread::spawn(move || {
        handle.block_on(async move {
            entered.open();
            leave.wait().await
        })
    });
    drives.wait();
    thread
}

/// A payload that panics when it is dropped.
struct Evil;

impl Drop for Evil {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("evil")
        }
    }
}

common::flavours! {
    fn c02_r01_block_on_in_a_destructor_while_unwinding(rt: Runtime) {
        let ran = Cell::new(0);
        panics_with("the user's", || {
            let _cleanup = OnDrop(|| {
                rt.block_on(async { yield_now().await });
                ran.set(ran.get() + 1);
            });
            panic!("the user's");
        });
        assert_eq!(ran.get(), 1);
    }

    fn c02_r07_a_root_may_return_its_enter_guard(rt: Runtime) {
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rt.block_on(async { RuntimeHandle::current().enter() }))));
        assert_eq!(rt.block_on(async { spawn(async { 1 }).await.unwrap() }), 1);
    }

    fn c02_r07_local_tasks_may_hold_guards_across_an_await(rt: Runtime) {
        let _ = catch_unwind(AssertUnwindSafe(|| rt.block_on(async {
            for i in 1..3 {
                let handle = RuntimeHandle::current();
                spawn_local(async move {
                    let _guard = handle.enter();
                    sleep(i * 5 * MS).await;
                });
            }
            sleep(30 * MS).await;
        })));
        assert_eq!(rt.block_on(async { spawn(async { 1 }).await.unwrap() }), 1);
    }

    fn c10_r07_a_job_may_keep_a_guard_in_a_thread_local(rt: Runtime) {
        thread_local! {
            static GUARD: RefCell<Option<epicycle::runtime::EnterGuard>> = const { RefCell::new(None) };
        }
        let handle = rt.handle();
        let job = rt.run_in_executor(move || GUARD.with(|guard| *guard.borrow_mut() = Some(handle.enter())));
        let _ = rt.block_on(job);
        drop(rt);
    }

    fn c09_r08_a_panicking_thread_name_does_not_hang_the_end(_flavour: Flavour) {
        let armed = Arc::new(AtomicBool::new(false));
        let seen = armed.clone();
        let name = move || if seen.load(SeqCst) { panic!("name") } else { "named".to_owned() };
        let rt = common::builder!().thread_name_fn(name).build().unwrap();
        armed.store(true, SeqCst);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(rt.run_in_executor(|| ()))));
        drop(rt);
    }

    fn c09_r13_every_panic_of_several_done_callbacks_is_reported(_flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let flag = Flag::new();
            let task = spawn(flag.wait());
            task.add_done_callback(|_| panic!("one"));
            task.add_done_callback(|_| panic!("two"));
            flag.set();
            let _ = task.await;
            eventually_async("both reported", || reports.all().len() >= 2).await;
        });
        drop(rt);
        assert_eq!((reports.of_panic("one"), reports.of_panic("two")), (1, 1));
    }

    fn c09_r23_a_reader_survives_a_payload_that_panics_when_dropped(rt: Runtime) {
        rt.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let count = calls.clone();
            EventLoop::current().add_reader(&ours, move || if count.fetch_add(1, SeqCst) == 0 { panic_any(Evil) }).unwrap();
            std::io::Write::write_all(&mut theirs, b"x").unwrap();
            eventually_async("called again", || calls.load(SeqCst) > 1).await;
            EventLoop::current().remove_reader(&ours);
        });
    }

    fn c10_r25_a_root_beyond_the_end_has_a_loop(rt: Runtime) {
        let handle = rt.handle();
        drop(rt);
        handle.block_on(async {
            assert!(EventLoop::try_current().is_some());
            let _ = spawn_local(async { yield_now().await }).await;
            assert!(spawn(async {}).await.unwrap_err().is_cancelled());
        });
    }

    fn c10_r29_a_root_beyond_the_end_may_stop_its_loop(rt: Runtime) {
        let handle = rt.handle();
        drop(rt);
        let value = handle.block_on(async {
            EventLoop::current().stop();
            sleep(MS).await;
            7
        });
        assert_eq!(value, 7);
    }

    fn c09_r27_a_join_waker_may_panic_when_dropped(rt: Runtime) {
        const TABLE: &RawWakerVTable =
            &RawWakerVTable::new(|_| RawWaker::new(std::ptr::null(), TABLE), |_| (), |_| (), |_| panic!("a waker's drop"));
        let (probe, flag) = (DropProbe::new(), Flag::new());
        let (guard, wait) = (probe.guard(), flag.wait());
        let mut task = rt.spawn(async move {
            wait.await;
            guard
        });
        // SAFETY: nothing is behind the pointer, and none of the functions looks at it.
        let waker = std::mem::ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), TABLE)) });
        assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
        drop(task);
        flag.set();
        rt.block_on(eventually_async("the output is dropped", || probe.count() == 1));
    }

    fn c06_r19_a_guests_timers_do_not_fire_early_when_the_runtime_ends(_flavour: Flavour) {
        let fired = Arc::new(AtomicUsize::new(0));
        for round in 0..10 {
            let rt = common::builder!().build().unwrap();
            let (leave, armed) = (Flag::new(), Gate::new());
            let driver = driver(&rt, &leave);
            let (handle, fired, go, left) = (rt.handle(), fired.clone(), armed.clone(), leave.clone());
            let guest = thread::spawn(move || handle.block_on(async move {
                EventLoop::current().call_later(HOUR, move || { fired.fetch_add(1, SeqCst); });
                go.open();
                while !left.is_set() { sleep(MS / 10).await }
            }));
            armed.wait();
            thread::sleep(round * MS / 7);
            drop(rt);
            leave.set();
            driver.join().unwrap();
            guest.join().unwrap();
        }
        assert_eq!(fired.load(SeqCst), 0);
    }

    fn c04_r16_what_is_local_is_dropped_at_home_however_the_end_meets_a_change_of_drivers(_flavour: Flavour) {
        struct Home(thread::ThreadId, Arc<AtomicUsize>, Rc<()>);
        impl Drop for Home {
            fn drop(&mut self) {
                self.1.fetch_add((thread::current().id() != self.0) as usize, SeqCst);
            }
        }
        let astray = Arc::new(AtomicUsize::new(0));
        for round in 0..60 {
            let rt = common::builder!().build().unwrap();
            let callers: Vec<_> = (0..3).map(|_| {
                let (handle, astray) = (rt.handle(), astray.clone());
                thread::spawn(move || for _ in 0..10 {
                    handle.block_on(async {
                        let home = Home(thread::current().id(), astray.clone(), Rc::new(()));
                        let local = spawn_local(async move {
                            let _home = &home.2;
                            let _ = run_in_executor(|| ()).await;
                        });
                        let _ = spawn(async { sleep(MS / 20).await }).await;
                        let _ = run_in_executor(|| ()).await;
                        drop(local);
                    })
                })
            }).collect();
            thread::sleep(Duration::from_micros(round * 37 % 2000));
            drop(rt);
            callers.into_iter().for_each(|caller| caller.join().unwrap());
        }
        assert_eq!(astray.load(SeqCst), 0);
    }
}

#[test]
fn c10_r02_a_runtime_may_be_dropped_in_its_task_inside_another_runtime() {
    with_timeout(|| {
        let (rt, done) = (runtime(2), Gate::new());
        let (handle, opened) = (rt.handle(), done.clone());
        handle.spawn(async move {
            let other = runtime(2);
            let _guard = other.handle().enter();
            drop(rt);
            opened.open();
        });
        done.wait();
    });
}

#[test]
fn c10_r02_a_runtime_may_be_dropped_in_its_job_inside_another_block_on() {
    with_timeout(|| {
        let (rt, done) = (runtime(2), Gate::new());
        let (handle, opened) = (rt.handle(), done.clone());
        drop(handle.run_in_executor(move || {
            runtime(2).block_on(async move { drop(rt) });
            opened.open();
        }));
        done.wait();
    });
}

#[test]
fn c10_r03_a_drop_under_a_mere_enter_guard_waits() {
    with_timeout(|| {
        let (rt, probe, begun) = (runtime(2), DropProbe::new(), Gate::new());
        let (handle, guard, built) = (rt.handle(), probe.guard(), Gate::new());
        let opened = built.clone();
        rt.loops()[1].spawn_local(move || async move {
            let _slow = OnDrop(|| thread::sleep(20 * MS));
            opened.open();
            pending_with(guard).await
        });
        built.wait();
        let finished = Arc::new(AtomicBool::new(false));
        let (job_begun, job_finished) = (begun.clone(), finished.clone());
        drop(rt.run_in_executor(move || {
            job_begun.open();
            thread::sleep(50 * MS);
            job_finished.store(true, SeqCst);
        }));
        begun.wait();
        let _guard = handle.enter();
        drop(rt);
        assert_eq!(probe.count(), 1);
        assert!(finished.load(SeqCst));
    });
}

#[test]
fn c02_r04_a_guest_that_is_never_idle_takes_the_one_loop_over() {
    with_timeout(|| {
        let (rt, leave, visits) = (runtime(1), Flag::new(), Gate::new());
        let driver = driver(&rt, &leave);
        let (handle, opened) = (rt.handle(), visits.clone());
        let guest = thread::spawn(move || {
            handle.block_on(async move {
                let task = spawn(async { sleep(60 * MS).await });
                opened.open();
                while !task.done() {
                    yield_now().await
                }
            })
        });
        visits.wait();
        leave.set();
        driver.join().unwrap();
        guest.join().unwrap();
    });
}

#[test]
fn c02_r05_a_guest_serves_the_posts_to_a_loop_zero_that_its_driver_left() {
    with_timeout(|| {
        let (rt, leave, visits, left) = (runtime(2), Flag::new(), Gate::new(), Flag::new());
        let driver = driver(&rt, &leave);
        let (handle, opened, wait) = (rt.handle(), visits.clone(), left.wait());
        let guest = thread::spawn(move || {
            let posts = handle.clone();
            handle.block_on(async move {
                opened.open();
                wait.await;
                posts.loops()[0].spawn_local(|| async { 7 }).await.unwrap()
            })
        });
        visits.wait();
        leave.set();
        driver.join().unwrap();
        left.set();
        assert_eq!(guest.join().unwrap(), 7);
    });
}

static SOCKET: OnceLock<epicycle::net::Async<UdpSocket>> = OnceLock::new();

#[test]
fn c09_r06_a_waker_is_cloned_under_no_lock_of_its_descriptor() {
    const TABLE: &RawWakerVTable = &RawWakerVTable::new(
        |_| {
            let _ = SOCKET.get().unwrap().poll_readable(&mut Context::from_waker(Waker::noop()));
            RawWaker::new(std::ptr::null(), TABLE)
        },
        |_| (),
        |_| (),
        |_| (),
    );
    with_timeout(|| {
        runtime(2).block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            assert!(SOCKET.set(epicycle::net::Async::new(socket).unwrap()).is_ok());
            let socket = SOCKET.get().unwrap();
            let _ = socket.try_io(epicycle::net::Interest::READABLE, |socket| socket.recv(&mut [0; 1]));
            // SAFETY: nothing is behind the pointer, and none of the functions looks at it.
            let waker = unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), TABLE)) };
            let mut readable = Box::pin(socket.readable());
            assert!(readable.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        });
    });
}

#[test]
fn c03_r09_a_pinned_destructor_at_a_tenancys_end_holds_no_stealable_task_back() {
    with_timeout(|| {
        let (rt, ran, in_time) = (runtime(2), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        rt.block_on(async {
            for _ in 0..4 {
                let ran = ran.clone();
                spawn(async move { ran.fetch_add(1, SeqCst) });
            }
            let (ran, in_time) = (ran.clone(), in_time.clone());
            let slow = OnDrop(move || {
                eventually("the other loop runs them", || ran.load(SeqCst) == 4);
                in_time.store(true, SeqCst);
            });
            EventLoop::current().call_soon(move || drop(slow));
        });
        assert!(in_time.load(SeqCst));
    });
}

#[test]
fn c10_r10_a_chain_of_destructors_does_not_nest_on_a_thread_that_drives_another_loop() {
    const LINKS: usize = 50_000;
    with_timeout(|| {
        let (rt, chained, polled) = (runtime(2), runtime(2), Arc::new(AtomicUsize::new(0)));
        let (probe, mut flag) = (DropProbe::new(), Flag::new());
        for _ in 0..LINKS {
            let (next, polled, guard) = (Flag::new(), polled.clone(), probe.guard());
            let (wait, wakes) = (flag.wait(), next.clone());
            flag = next;
            chained.spawn(async move {
                let _link = (OnDrop(move || wakes.set()), guard);
                polled.fetch_add(1, SeqCst);
                wait.await;
            });
        }
        eventually("all wait", || polled.load(SeqCst) == LINKS);
        rt.block_on(async move { drop(chained) });
        assert_eq!(probe.count(), LINKS);
    });
}

#[test]
fn c10_r11_a_sleep_beyond_the_end_does_not_poll_in_a_loop() {
    with_timeout(|| {
        let (rt, begun) = (runtime(2), Gate::new());
        let (handle, opened) = (rt.handle(), begun.clone());
        let caller = thread::spawn(move || {
            handle.block_on(async move {
                let (sleep, polls) = CountPolls::new(sleep(200 * MS));
                opened.open();
                sleep.await;
                polls.load(SeqCst)
            })
        });
        begun.wait();
        drop(rt);
        let polls = caller.join().unwrap();
        assert!(polls < 100, "{polls} polls of one sleep");
    });
}

#[test]
fn c07_r12_the_longest_spin_is_no_overflow() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).spin(Duration::MAX).build().unwrap();
        let ran = Gate::new();
        let opened = ran.clone();
        rt.spawn(async move { opened.open() });
        ran.wait();
        thread::sleep(10 * MS);
        drop(rt);
    });
}

#[test]
fn c10_r14_a_loop_that_its_root_stopped_is_neither_leaked_nor_stopped_again() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let (probe, inner) = (DropProbe::new(), event_loop.clone());
        let guard = probe.guard();
        event_loop.call_later(HOUR, move || drop(guard));
        let _ = event_loop.run_until_complete(async move { inner.stop() });
        let next = event_loop.run_until_complete(async {
            for _ in 0..5 {
                yield_now().await
            }
        });
        assert!(next.is_ok(), "a stale stop");
        let inner = event_loop.clone();
        let _ = event_loop.run_until_complete(async move { inner.stop() });
        drop(event_loop);
        assert_eq!(probe.count(), 1);
    });
}

#[test]
fn c08_r15_no_job_is_lost_at_the_end_of_a_keep_alive() {
    with_timeout(|| {
        let keep = Duration::from_micros(300);
        let rt =
            Runtime::builder().worker_threads(2).max_blocking_threads(1).blocking_keep_alive(keep).build().unwrap();
        let start = Instant::now();
        for round in 0.. {
            let (sender, receiver) = mpsc::channel();
            drop(rt.run_in_executor(move || sender.send(())));
            assert!(receiver.recv_timeout(common::PATIENCE).is_ok(), "job {round} is lost");
            if start.elapsed() > 2000 * MS {
                break;
            }
            let (pause, from) = (keep + Duration::from_nanos(round * 7919 % 120_000), Instant::now());
            while from.elapsed() < pause {}
        }
    });
}

#[test]
fn c09_r17_a_waker_that_blocks_leaves_its_loops_timers_to_the_others() {
    struct Opens(Gate);
    impl Wake for Opens {
        fn wake(self: Arc<Self>) {
            self.0.open();
        }
    }
    /// Arms a sleep on the loop that wakes it, and blocks until that is over.
    struct Blocks(Mutex<mpsc::Sender<bool>>);
    impl Wake for Blocks {
        fn wake(self: Arc<Self>) {
            let gate = Gate::new();
            let mut inner = Box::pin(sleep(MS));
            let waker = Waker::from(Arc::new(Opens(gate.clone())));
            let _ = inner.as_mut().poll(&mut Context::from_waker(&waker));
            let start = Instant::now();
            while !gate.is_open() && start.elapsed() < common::PATIENCE / 2 {
                thread::sleep(MS);
            }
            let _ = self.0.lock().unwrap().send(gate.is_open());
        }
    }
    with_timeout(|| {
        let (rt, done, (sender, receiver)) = (runtime(4), Gate::new(), mpsc::channel());
        let stuck = done.clone();
        rt.loops()[1].call_soon_threadsafe(move || {
            let waker = Waker::from(Arc::new(Blocks(Mutex::new(sender))));
            let mut outer = Box::pin(sleep(MS));
            let _ = outer.as_mut().poll(&mut Context::from_waker(&waker));
            stuck.wait();
        });
        let _open = done.open_on_drop();
        assert!(receiver.recv_timeout(common::PATIENCE).unwrap(), "nobody served the sleep");
    });
}

#[test]
fn c12_r22_a_busy_guests_reader_makes_no_other_loop_spin() {
    with_timeout(|| {
        let (rt, leave) = (runtime(2), Flag::new());
        let (sender, receiver) = mpsc::channel();
        let (handle, wait, tid) = (rt.handle(), leave.wait(), sender.clone());
        let driver = thread::spawn(move || {
            handle.block_on(async move {
                tid.send(common::this_tid()).unwrap();
                wait.await
            })
        });
        rt.loops()[1].call_soon_threadsafe(move || sender.send(common::this_tid()).unwrap());
        let tids: Vec<u64> = receiver.iter().take(2).collect();
        let cpu = || tids.iter().map(|tid| common::thread_info(*tid).unwrap().cpu).sum::<Duration>();
        rt.block_on(async {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            EventLoop::current().add_reader(&ours, || ()).unwrap();
            std::io::Write::write_all(&mut theirs, b"x").unwrap();
            thread::sleep(10 * MS);
            let before = cpu();
            thread::sleep(800 * MS);
            let used = cpu() - before;
            assert!(used <= 100 * MS, "{used:?} of CPU time in 800 ms without work");
            EventLoop::current().remove_reader(&ours);
        });
        leave.set();
        driver.join().unwrap();
    });
}

/// The runtime ends by `end` while the driver of loop 0 is in a pinned destructor on its way out.
fn ends_while_the_driver_leaves(end: impl FnOnce(Runtime)) {
    with_timeout(|| {
        let (rt, probe, leaving, leave) = (runtime(2), DropProbe::new(), Gate::new(), Gate::new());
        let _open = leave.open_on_drop();
        let (handle, guard, entered, may) = (rt.handle(), probe.guard(), leaving.clone(), leave.clone());
        let driver = thread::spawn(move || {
            handle.block_on(async move {
                spawn(pending_with(guard));
                let slow = OnDrop(move || {
                    entered.open();
                    may.wait();
                });
                spawn_local(async move {
                    let _slow = slow;
                    pending::<()>().await
                });
                sleep(5 * MS).await;
            })
        });
        leaving.wait();
        end(rt);
        leave.open();
        driver.join().unwrap();
        eventually("the idle future of loop 0 is dropped", || probe.count() == 1);
    });
}

#[test]
fn c10_r26_loop_zero_is_closed_though_its_driver_is_leaving_background() {
    ends_while_the_driver_leaves(|rt| rt.shutdown_background());
}

#[test]
fn c10_r26_loop_zero_is_closed_though_its_driver_is_leaving_timeout() {
    ends_while_the_driver_leaves(|rt| rt.shutdown_timeout(20 * MS));
}

#[test]
fn c10_r26_loop_zero_is_closed_though_its_driver_is_leaving_in_a_job() {
    ends_while_the_driver_leaves(|rt| {
        let (handle, done) = (rt.handle(), Gate::new());
        let opened = done.clone();
        drop(handle.run_in_executor(move || {
            drop(rt);
            opened.open();
        }));
        done.wait();
    });
}

#[test]
fn c09_r28_wakers_of_one_batch_are_all_woken_though_one_blocks_for_a_while() {
    struct Slow;
    impl Wake for Slow {
        fn wake(self: Arc<Self>) {
            thread::sleep(50 * MS);
        }
    }
    with_timeout(|| {
        let (rt, count) = (runtime(3), common::CountWakes::new());
        let (counter, waker) = count;
        rt.loops()[1].call_soon_threadsafe(move || {
            for waker in [Waker::from(Arc::new(Slow)), waker] {
                let mut sleep = Box::pin(sleep(5 * MS));
                let _ = sleep.as_mut().poll(&mut Context::from_waker(&waker));
                std::mem::forget(sleep);
            }
        });
        eventually("both woken", || counter.count() == 1);
    });
}

/// Large, and ready at once.
struct Large(Box<u8>, [u8; 1 << 20]);

impl Future for Large {
    type Output = u8;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<u8> {
        Poll::Ready(*self.0 + self.1[1 << 19])
    }
}

#[test]
fn c09_r30_a_future_larger_than_a_loops_stack_ends() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).thread_stack_size(256 << 10).build().unwrap();
        let handle = rt.handle();
        // Whoever spawns it has it on the stack.
        let roomy = thread::Builder::new().stack_size(64 << 20);
        let spawner = roomy.spawn(move || handle.spawn(Large(Box::new(3), [4; 1 << 20]))).unwrap();
        let task = spawner.join().unwrap();
        // Nobody is in block_on: loop 1 runs it.
        assert_eq!(futures_lite::future::block_on(task).unwrap(), 7);
    });
}

#[test]
fn c10_r31_tasks_born_outside_do_not_wait_for_a_stuck_loop_zero() {
    with_timeout(|| {
        let (rt, probe, stuck, leave) = (runtime(2), DropProbe::new(), Gate::new(), Gate::new());
        let _open = leave.open_on_drop();
        let (guard, idle) = (probe.guard(), Gate::new());
        let polled = idle.clone();
        drop(rt.spawn(async move {
            polled.open();
            pending_with(guard).await
        }));
        // Polled by loop 1, since nobody drives loop 0: what is queued there when that is stuck waits for it.
        idle.wait();
        let (handle, entered, may) = (rt.handle(), stuck.clone(), leave.clone());
        let driver = thread::spawn(move || {
            handle.block_on(async move {
                entered.open();
                may.wait();
            })
        });
        stuck.wait();
        rt.shutdown_timeout(20 * MS);
        eventually("the task is dropped", || probe.count() == 1);
        leave.open();
        driver.join().unwrap();
        assert_eq!(probe.count(), 1);
    });
}

/// The time from `sleep`'s deadline on, as a waker of no task's sees it; `meanwhile` is what this thread does until then.
fn lateness(sleep_for: Duration, meanwhile: impl FnOnce(&mpsc::Receiver<Instant>) -> Instant) -> Duration {
    struct Tells(Mutex<mpsc::Sender<Instant>>);
    impl Wake for Tells {
        fn wake(self: Arc<Self>) {
            let _ = self.0.lock().unwrap().send(Instant::now());
        }
    }
    let (sender, receiver) = mpsc::channel();
    let waker = Waker::from(Arc::new(Tells(Mutex::new(sender))));
    let mut sleep = Box::pin(sleep(sleep_for));
    let deadline = sleep.deadline();
    let _ = sleep.as_mut().poll(&mut Context::from_waker(&waker));
    meanwhile(&receiver).saturating_duration_since(deadline)
}

#[test]
fn c07_r32_a_spinning_loop_serves_a_stuck_one() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).spin(HOUR).build().unwrap();
        rt.block_on(async {
            common::assert_latency("a stuck loop's sleep, served by a spinner", MS, 10, || {
                lateness(5 * MS, |woken| woken.recv_timeout(common::PATIENCE).expect("nobody served the sleep"))
            });
        });
    });
}

#[test]
fn c02_r32_a_spinning_custodian_serves_the_absent_loop_zero() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).spin(HOUR).build().unwrap();
        let (slept, polled) = (Gate::new(), Gate::new());
        let (opened, began) = (slept.clone(), polled.clone());
        rt.block_on(async move {
            let task = spawn(async move {
                let mut sleep = Box::pin(sleep(20 * MS));
                std::future::poll_fn(|cx| {
                    let poll = sleep.as_mut().poll(cx);
                    began.open();
                    poll
                })
                .await;
                opened.open();
            });
            while !polled.is_open() {
                yield_now().await;
            }
            drop(task);
        });
        slept.wait();
    });
}

#[test]
fn s3_r33_run_once_waits_no_longer_than_asked_after_a_timer() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        common::assert_latency("a wait of 50 us", Duration::from_micros(300), 50, || {
            event_loop.call_later(MS, || ());
            event_loop.run_once(None);
            let began = Instant::now();
            event_loop.run_once(Some(Duration::from_micros(50)));
            began.elapsed()
        });
    });
}

#[test]
fn s3_17_r34_a_timer_that_is_due_when_it_is_armed_is_not_put_off() {
    fn chain(left: usize) {
        let event_loop = EventLoop::current();
        match left {
            0 => event_loop.stop(),
            left => _ = event_loop.call_later(Duration::ZERO, move || chain(left - 1)),
        }
    }
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        // asyncio's wait is of no length if the earliest timer is due.
        common::assert_latency("a chain of a hundred", 20 * MS, 10, || {
            let began = Instant::now();
            event_loop.call_soon(|| chain(100));
            event_loop.run_forever();
            began.elapsed()
        });
    });
}

/// Turns that loop 0 has begun.
fn turns(rt: &RuntimeHandle) -> u64 {
    rt.metrics().loops[0].turns
}

#[test]
fn c05_s3_20_r35_what_a_callback_schedules_runs_in_the_next_turn_beside_stealable_tasks() {
    for stealable in [0, 1, 50] {
        with_timeout(move || {
            let rt = Runtime::builder().worker_threads(2).work_stealing(false).build().unwrap();
            let handle = rt.handle();
            rt.block_on(async move {
                let tasks: Vec<_> = (0..stealable).map(|_| spawn(async {})).collect();
                let seen = Rc::new(Cell::new((0, 0)));
                let (outer, inner) = (seen.clone(), seen.clone());
                let (event_loop, first, second) = (EventLoop::current(), handle.clone(), handle);
                EventLoop::current().call_soon(move || {
                    outer.set((turns(&first), 0));
                    event_loop.call_soon(move || inner.set((inner.get().0, turns(&second))));
                });
                while seen.get().1 == 0 {
                    yield_now().await;
                }
                for task in tasks {
                    task.await.unwrap();
                }
                let (scheduled, run) = seen.get();
                assert_eq!(run, scheduled + 1, "with {stealable} stealable handles queued");
            });
        });
    }
}

#[test]
fn c11_r36_one_pinned_task_takes_no_more_than_its_share_beside_many() {
    const ROUNDS: usize = 1000;
    for (pinned, stealable) in [(1, 30), (30, 1), (15, 15)] {
        with_timeout(move || {
            let rt = Runtime::builder().worker_threads(2).work_stealing(false).build().unwrap();
            rt.block_on(async move {
                let (on, polls) = (Flag::new(), Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]));
                let spin = |kind: usize| {
                    let (on, polls) = (on.clone(), polls.clone());
                    async move {
                        while !on.is_set() {
                            polls[kind].fetch_add(1, SeqCst);
                            yield_now().await;
                        }
                    }
                };
                let mut tasks: Vec<_> = (0..pinned).map(|_| spawn_local(spin(0))).collect();
                tasks.extend((0..stealable).map(|_| spawn(spin(1))));
                for _ in 0..ROUNDS {
                    yield_now().await;
                }
                let each = [polls[0].load(SeqCst) / pinned, polls[1].load(SeqCst) / stealable];
                on.set();
                for task in tasks {
                    task.await.unwrap();
                }
                let (least, most) = (each[0].min(each[1]), each[0].max(each[1]));
                assert!(
                    most <= least + least / 10,
                    "{pinned} pinned tasks were polled {} times each, {stealable} others {}",
                    each[0],
                    each[1]
                );
            });
        });
    }
}

#[test]
fn c06_r38_equal_deadlines_fire_in_order_beside_a_helper() {
    const CALLBACKS: usize = 500;
    for loops in [1, 2, 4] {
        with_timeout(move || {
            let rt = runtime(loops);
            for round in 0..30 {
                rt.block_on(async {
                    let (event_loop, fired) = (EventLoop::current(), Rc::new(RefCell::new(Vec::new())));
                    let when = Instant::now() + MS;
                    for n in 0..CALLBACKS {
                        let fired = fired.clone();
                        event_loop.call_at(when, move || fired.borrow_mut().push(n));
                    }
                    // Held up, so that others help.
                    while Instant::now() < when + Duration::from_micros(400) {}
                    while fired.borrow().len() < CALLBACKS {
                        yield_now().await;
                    }
                    assert!(fired.borrow().is_sorted(), "round {round} with {loops} loops");
                });
            }
        });
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match epicycle::timeout(Duration::from_secs(20), future).await {
        Ok(output) => output,
        Err(_) => panic!("hangs: {what}"),
    }
}

common::flavours! {
    fn b60_r45_more_buffers_than_a_call_takes_are_no_short_write(rt: Runtime) {
        rt.block_on(async {
            let (mut a, _b) = epicycle::net::UnixStream::pair().unwrap();
            // The event that the registration itself brings is over.
            sleep(50 * MS).await;
            let buffers = vec![IoSlice::new(b"y"); 1500];
            let len = soon("the first write", a.write_vectored(&buffers)).await.unwrap();
            assert_eq!(len, 1024);
            let len = soon("a write though there is room", a.write_vectored(&buffers[len..])).await.unwrap();
            assert_eq!(len, 476);
        });
    }

    fn b60_r45_more_buffers_than_a_call_takes_are_no_short_read(rt: Runtime) {
        rt.block_on(async {
            let listener = epicycle::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut a = epicycle::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut b, _) = listener.accept().await.unwrap();
            a.write_all(&[7; 1500]).await.unwrap();
            sleep(50 * MS).await;
            let mut first = [[0u8]; 1500];
            let mut buffers: Vec<_> = first.iter_mut().map(|one| IoSliceMut::new(one)).collect();
            assert_eq!(soon("the first read", b.read_vectored(&mut buffers)).await.unwrap(), 1024);
            let mut rest = [0; 1500];
            assert_eq!(soon("a read though there is more", b.read(&mut rest)).await.unwrap(), 476);
        });
    }
}
