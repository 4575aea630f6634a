//! C9: user code may panic anywhere, and runs under no engine lock.
//!
//! "Anywhere" is: tasks, callbacks of every kind, hooks, wakers (clone, wake, drop), destructors of futures, closures,
//! outputs and panic payloads, the exception handler itself, and thread-local destructors. After each the runtime must be
//! as good as new, which every test proves by using it.

mod common;

use std::cell::RefCell;
use std::future::{Future, pending};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{DropProbe, Flag, Flavour, OnDrop, Reports, eventually, eventually_async, pending_with};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, RuntimeHandle, spawn, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The engine works in all its parts: tasks, pinned tasks, callbacks, timers, executor, every loop.
async fn works(rt: &Runtime) {
    assert_eq!(
        spawn(async {
            yield_now().await;
            1
        })
        .await
        .unwrap(),
        1
    );
    for event_loop in rt.loops() {
        let round = event_loop.spawn_local(|| async {
            let flag = Flag::new();
            let (soon, later) = (flag.clone(), Flag::new());
            let set = later.clone();
            EventLoop::current().call_soon(move || soon.set());
            EventLoop::current().call_later(MS, move || set.set());
            flag.wait().await;
            later.wait().await;
            sleep(MS).await;
        });
        round.await.unwrap();
    }
    assert_eq!(epicycle::run_in_executor(|| 2).await.unwrap(), 2);
}

/// What a thread-local does when its thread ends.
type LastWords = OnDrop<Box<dyn FnMut()>>;

/// A panic payload whose destructor panics too.
struct Bomb(&'static str);

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

/// A waker that panics where it is told to. `Wake`'s clone is an Arc's and cannot, so that one is done by [`cloning`].
struct BadWaker {
    on_wake: bool,
    on_drop: bool,
}

impl Wake for BadWaker {
    fn wake(self: Arc<Self>) {
        assert!(!self.on_wake, "in a waker's wake");
    }
}

impl Drop for BadWaker {
    fn drop(&mut self) {
        assert!(!self.on_drop || thread::panicking(), "in a waker's drop");
    }
}

common::flavours! {
    fn c09_every_kind_of_callback_may_panic(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let event_loop = EventLoop::current();
            event_loop.call_soon(|| panic!("call_soon"));
            event_loop.call_later(MS, || panic!("call_later"));
            event_loop.call_at(event_loop.time() + MS, || panic!("call_at"));
            rt.call_soon_threadsafe(|| panic!("runtime's threadsafe"));
            for (i, other) in rt.loops().iter().enumerate() { other.call_soon_threadsafe(move || panic!("loop's threadsafe {i}")); }
            spawn(async {}).add_done_callback(|_| panic!("done callback"));
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let (inner, own) = (event_loop.clone(), ours.try_clone().unwrap());
            drop(own);
            let key = std::rc::Rc::new(ours);
            let this = key.clone();
            event_loop.add_reader(&*key, move || { inner.remove_reader(&*this); panic!("reader") }).unwrap();
            theirs.write_all(b"x").unwrap();
            let mut expected = vec!["call_soon".into(), "call_later".into(), "call_at".into(), "runtime's threadsafe".into(), "done callback".into(), "reader".into()];
            expected.extend((0..rt.loops().len()).map(|i| format!("loop's threadsafe {i}")));
            eventually_async("all reports", || expected.iter().all(|text: &String| reports.of_panic(text) >= 1)).await;
            works(&rt).await;
            for text in &expected { assert_eq!(reports.of_panic(text), 1, "{text}: reported once") }
            assert_eq!(reports.all().len(), expected.len(), "{:?}", reports.all());
        });
    }

    fn c09_n11_a_panicking_exception_handler_falls_back_to_the_default_one(flavour: Flavour) {
        let _ = flavour;
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let rt = common::builder!().exception_handler(move |_| {
            count.fetch_add(1, SeqCst);
            std::panic::panic_any(Bomb("in the handler's payload"))
        }).build().unwrap();
        rt.block_on(async {
            for _ in 0..3 { EventLoop::current().call_soon(|| panic!("in a callback")); }
            drop(spawn(async { panic!("in a task") }));
            eventually_async("the handler was asked four times", || calls.load(SeqCst) == 4).await;
            works(&rt).await;
        });
        drop(rt);
        assert_eq!(calls.load(SeqCst), 4);
    }

    fn c09_a_payload_whose_drop_panics_is_contained(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            // A detached task, a task dropped late, callbacks, an executor job.
            drop(spawn(async { std::panic::panic_any(Bomb("payload")) }));
            let late = spawn(async { std::panic::panic_any(Bomb("payload")) });
            eventually_async("done", || late.done()).await;
            spawn(async move { drop(late) }).await.unwrap();
            drop(spawn_local(async { std::panic::panic_any(Bomb("payload")) }));
            EventLoop::current().call_soon(|| std::panic::panic_any(Bomb("payload")));
            rt.call_soon_threadsafe(|| std::panic::panic_any(Bomb("payload")));
            drop(epicycle::run_in_executor(|| std::panic::panic_any(Bomb("payload"))));
            sleep(10 * MS).await;
            works(&rt).await;
        });
        assert!(reports.all().len() >= 6, "each panic is reported: {:?}", reports.all());
    }

    fn c09_destructors_of_closures_and_outputs_may_panic(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let bomb = |text: &'static str| OnDrop(move || panic!("{text}"));
            let event_loop = EventLoop::current();
            // Cancelled callbacks, here and from another thread; those posted to other loops.
            let (a, b, c) = (bomb("cancelled here"), bomb("cancelled timer"), bomb("cancelled there"));
            let here = event_loop.call_soon(move || drop(a));
            let timer = event_loop.call_later(HOUR, move || drop(b));
            let there = event_loop.call_later(HOUR, move || drop(c));
            assert!(here.cancel() && timer.cancel());
            assert!(thread::spawn(move || there.cancel()).join().unwrap());
            // The output of a detached task, and a callback whose captures go off after it ran.
            let (d, e) = (bomb("detached output"), bomb("after a callback"));
            drop(spawn(async move { yield_now().await; d }));
            event_loop.call_soon(move || { let _kept = &e; });
            // A future's own destructor on completion.
            let f = bomb("on completion");
            drop(spawn(async move { let _kept = f; yield_now().await }));
            // A replaced reader's.
            let (ours, _theirs) = UnixStream::pair().unwrap();
            let g = bomb("replaced reader");
            event_loop.add_reader(&ours, move || { let _kept = &g; }).unwrap();
            event_loop.add_reader(&ours, || ()).unwrap();
            assert!(event_loop.remove_reader(&ours));
            let texts = ["cancelled here", "cancelled timer", "cancelled there", "detached output", "after a callback", "on completion", "replaced reader"];
            eventually_async("all reports", || texts.iter().all(|text| reports.of_panic(text) >= 1)).await;
            works(&rt).await;
            for text in texts { assert_eq!(reports.of_panic(text), 1, "{text}") }
        });
    }

    fn c09_hooks_may_panic(flavour: Flavour) {
        let reports = Reports::new();
        let rt = common::builder!()
            .exception_handler(reports.handler())
            .on_thread_start(|_| panic!("start hook"))
            .on_thread_stop(|_| panic!("stop hook"))
            .build().unwrap();
        rt.block_on(works(&rt));
        drop(rt);
        if flavour.loops() > 1 {
            assert!(reports.of_panic("start hook") >= flavour.loops() - 1);
            assert!(reports.of_panic("stop hook") >= flavour.loops() - 1);
        }
    }

    fn c09_a_waker_that_panics_on_wake_or_drop_is_contained(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            for (on_wake, on_drop, text) in [(true, false, "in a waker's wake"), (false, true, "in a waker's drop")] {
                let bad = || Waker::from(Arc::new(BadWaker { on_wake, on_drop }));
                // In the join slot of a task, and in a socket's readiness: only the engine holds the waker then.
                let (before, flag, waker) = (reports.of_panic(text), Flag::new(), bad());
                let mut task = spawn(flag.wait());
                assert!(Pin::new(&mut task).poll(&mut Context::from_waker(&waker)).is_pending());
                drop_quietly(waker);
                flag.set();
                eventually_async("the task ended", || task.done()).await;
                eventually_async("reported", || reports.of_panic(text) == before + 1).await;
                assert!(task.await.is_ok());
                // In a timer's slot. What a Sleep itself holds goes with it, in the hands of its owner.
                let (mut timer, waker) = (Box::pin(sleep(5 * MS)), bad());
                assert!(timer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                drop_quietly(waker);
                sleep(10 * MS).await;
                drop_quietly(timer);
                if on_wake { eventually_async("reported", || reports.of_panic(text) == before + 2).await }
                // In a socket's.
                let ((mut ours, mut theirs), waker) = (common::socket_pair(), bad());
                let mut byte = [0; 1];
                let mut read = Box::pin(epicycle::io::AsyncReadExt::read(&mut ours, &mut byte));
                assert!(read.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
                drop_quietly(waker);
                theirs.write_all(b"x").unwrap();
                sleep(5 * MS).await;
                drop_quietly(read);
                if on_wake { eventually_async("reported", || reports.of_panic(text) == before + 3).await }
                works(&rt).await;
            }
        });
    }

    fn c09_a_waker_whose_clone_panics_leaves_the_engine_whole(rt: Runtime) {
        rt.block_on(async {
            let flag = Flag::new();
            let mut task = spawn({ let flag = flag.clone(); async move { flag.wait().await; 4 } });
            let mut timer = Box::pin(sleep(5 * MS));
            let waker = cloning::panics();
            // It panics in our own poll: that may come out here, and may not if it is contained.
            let poll = std::panic::AssertUnwindSafe(|| drop(Pin::new(&mut task).poll(&mut Context::from_waker(&waker))));
            let _ = std::panic::catch_unwind(poll);
            let poll = std::panic::AssertUnwindSafe(|| timer.as_mut().poll(&mut Context::from_waker(&waker)).is_ready());
            let _ = std::panic::catch_unwind(poll);
            flag.set();
            assert_eq!(task.await.unwrap(), 4);
            timer.await;
            works(&rt).await;
        });
    }

    fn c09_no_user_code_runs_under_an_engine_lock(flavour: Flavour) {
        // Whatever the engine calls or drops re-enters it in every way. A lock held there would deadlock or panic.
        let _ = flavour;
        let (calls, slot) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<RuntimeHandle>)));
        let reenter = {
            let (calls, slot) = (calls.clone(), slot.clone());
            move || {
                let Some(handle) = slot.lock().unwrap().clone() else { return };
                let task = handle.spawn(pending::<()>());
                task.cancel();
                drop(task);
                handle.spawn(async { yield_now().await });
                handle.call_soon_threadsafe(|| ()).cancel();
                for event_loop in handle.loops() {
                    event_loop.call_soon_threadsafe(|| ());
                    event_loop.spawn_local(|| async {}).cancel();
                }
                handle.run_in_executor(|| ()).cancel();
                let _ = handle.metrics();
                calls.fetch_add(1, SeqCst);
            }
        };
        struct Reenter<F: Fn() + Send + Sync>(F);
        impl<F: Fn() + Send + Sync> Wake for Reenter<F> {
            fn wake(self: Arc<Self>) { (self.0)() }
            fn wake_by_ref(self: &Arc<Self>) { (self.0)() }
        }
        impl<F: Fn() + Send + Sync> Drop for Reenter<F> {
            fn drop(&mut self) { (self.0)() }
        }
        let (start, stop, handler) = (reenter.clone(), reenter.clone(), reenter.clone());
        let rt = common::builder!()
            .on_thread_start(move |_| start())
            .on_thread_stop(move |_| stop())
            .exception_handler(move |_| handler())
            .build().unwrap();
        *slot.lock().unwrap() = Some(rt.handle());
        rt.block_on(async {
            let event_loop = EventLoop::current();
            for round in 0..20 {
                let waker = Waker::from(Arc::new(Reenter(reenter.clone())));
                let flag = Flag::new();
                let bomb = || OnDrop(reenter.clone());
                // Join slots and timers with such wakers; replaced, fired and dropped ones.
                let mut task = spawn({ let (wait, kept) = (flag.wait(), bomb()); async move { wait.await; kept } });
                let _ = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
                let mut timers = [Box::pin(sleep(MS)), Box::pin(sleep(HOUR))];
                for timer in &mut timers { let _ = timer.as_mut().poll(&mut Context::from_waker(&waker)); }
                let again = Waker::from(Arc::new(Reenter(reenter.clone())));
                for timer in &mut timers { let _ = timer.as_mut().poll(&mut Context::from_waker(&again)); }
                let _ = Pin::new(&mut task).poll(&mut Context::from_waker(&again));
                drop((waker, again));
                // Cancelled and finished tasks, callbacks, timers, readers, done-callbacks, jobs with such captures.
                spawn(pending_with(bomb())).cancel();
                spawn_local(pending_with(bomb())).cancel();
                let kept = bomb();
                event_loop.call_soon(move || drop(kept)).cancel();
                let kept = bomb();
                event_loop.call_later(HOUR, move || drop(kept)).cancel();
                let kept = bomb();
                event_loop.call_later(MS, move || drop(kept));
                let (ours, _theirs) = UnixStream::pair().unwrap();
                for _ in 0..2 { let kept = bomb(); event_loop.add_writer(&ours, move || { let _kept = &kept; }).unwrap() }
                yield_now().await;
                event_loop.remove_writer(&ours);
                let kept = bomb();
                spawn(async {}).add_done_callback(move |_| drop(kept));
                let kept = bomb();
                epicycle::run_in_executor(move || drop(kept)).cancel();
                for other in rt.loops() { let kept = bomb(); other.spawn_local(move || pending_with(kept)); }
                event_loop.call_soon(|| panic!("to the handler"));
                flag.set();
                if round % 2 == 0 { task.await.unwrap(); } else { drop(task) }
                sleep(2 * MS).await;
            }
            works(&rt).await;
        });
        drop(rt); // and in shutdown
        slot.lock().unwrap().take();
        assert!(calls.load(SeqCst) > 200, "{}", calls.load(SeqCst));
    }

    fn c09_b13_a_wake_from_a_thread_local_destructor_is_a_remote_wake(rt: Runtime) {
        thread_local! { static LAST: RefCell<Option<LastWords>> = const { RefCell::new(None) } }
        /// Arms the destructor of this thread to run `work`.
        fn at_exit(work: impl FnMut() + 'static) {
            LAST.with(|last| *last.borrow_mut() = Some(OnDrop(Box::new(work))));
        }
        rt.block_on(async {
            // A foreign thread, one that was inside block_on, one that had entered the runtime.
            for kind in 0..3 {
                let flag = Flag::new();
                let task = spawn(flag.wait());
                let local = spawn_local(flag.wait());
                eventually_async("both wait", || flag.waiters() == 2).await;
                let (handle, spawned) = (rt.handle(), Arc::new(AtomicBool::new(false)));
                let ran = spawned.clone();
                let thread = thread::spawn(move || {
                    let last = handle.clone();
                    let arm = move || at_exit(move || { flag.set(); let ran = ran.clone(); last.spawn(async move { ran.store(true, SeqCst) }); });
                    match kind {
                        // The destructor runs before or after those of the engine's own thread-locals, by who came first.
                        0 => { arm(); drop(handle.spawn(async {})) }
                        1 => { handle.block_on(async { yield_now().await }); arm() }
                        _ => { arm(); handle.block_on(async { yield_now().await }); let _entered = handle.enter(); }
                    }
                });
                task.await.unwrap();
                local.await.unwrap();
                eventually_async("a spawn from there runs too", || spawned.load(SeqCst)).await;
                eventually_async("the thread ended", || thread.is_finished()).await;
                thread.join().expect("no panic in its destructors");
            }
            // Destructors on the runtime's own threads run at shutdown, below.
            let (probe, waker_flag) = (DropProbe::new(), Flag::new());
            for event_loop in rt.loops().iter().skip(1) {
                let (guard, flag, handle) = (probe.guard(), waker_flag.clone(), rt.handle());
                event_loop.spawn_local(move || async move {
                    let mut guard = Some(guard);
                    at_exit(move || { flag.set(); handle.spawn(async {}); drop(guard.take()) });
                }).await.unwrap();
            }
            spawn(waker_flag.wait());
            yield_now().await;
            let (probe, loops) = (probe.clone(), rt.loops().len());
            EXPECT.with(|slot| *slot.borrow_mut() = Some((probe, loops)));
        });
        drop(rt);
        let (probe, loops) = EXPECT.with(|slot| slot.borrow_mut().take()).unwrap();
        assert_eq!(probe.count(), loops - 1, "each loop's thread has ended with its destructors run");
    }

    fn b10_use_in_a_thread_local_destructor_is_told_apart_from_no_context(rt: Runtime) {
        // Whatever it answers there, it must not panic or hang.
        thread_local! { static LAST: RefCell<Option<LastWords>> = const { RefCell::new(None) } }
        let (handle, answer) = (rt.handle(), Arc::new(Mutex::new(None)));
        let slot = answer.clone();
        thread::spawn(move || {
            LAST.with(|last| *last.borrow_mut() = Some(OnDrop(Box::new(move || {
                let result = RuntimeHandle::try_current();
                *slot.lock().unwrap() = Some(result.err().map(|error| (error.is_missing_context(), error.is_thread_local_destroyed(), error.to_string())));
                assert!(EventLoop::try_current().is_none());
            }))));
            let _entered = handle.enter();
        }).join().unwrap();
        let (missing, destroyed, text) = answer.lock().unwrap().take().expect("it ran").expect("nothing is current there");
        assert!(missing != destroyed && !text.is_empty());
        drop(rt);
    }

    fn c09_panics_storm_and_nothing_is_lost(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..400).map(|i| spawn(async move {
                for _ in 0..i % 5 { yield_now().await }
                assert!(i % 2 == 0, "odd");
                i
            })).collect();
            let mut sum = 0;
            for (i, task) in tasks.into_iter().enumerate() {
                match task.await {
                    Ok(value) => { assert_eq!(value, i); sum += 1 }
                    Err(error) => assert!(error.is_panic() && i % 2 == 1),
                }
            }
            assert_eq!(sum, 200);
            works(&rt).await;
        });
    }
}

thread_local! {
    /// Carries the probe of the thread-local test out of `block_on`.
    static EXPECT: RefCell<Option<(DropProbe, usize)>> = const { RefCell::new(None) };
}

/// Drops our own reference; if the engine has none, the panic of its drop is ours and not under test.
fn drop_quietly<T>(value: T) {
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(value)));
}

/// A waker whose clone panics, made from the vtable's parts as any other.
mod cloning {
    use std::task::{RawWaker, RawWakerVTable, Waker};

    const TABLE: RawWakerVTable = RawWakerVTable::new(|_| panic!("in a waker's clone"), |_| (), |_| (), |_| ());

    pub fn panics() -> Waker {
        // SAFETY: the functions ignore their pointer; a waker must not unwind for memory safety to hold, and does not.
        unsafe { Waker::from_raw(RawWaker::new(std::ptr::null(), &TABLE)) }
    }
}

#[test]
fn c09_one_panicking_task_does_not_end_the_watch_of_the_rest() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(4).build().unwrap();
        let ticks = Arc::new(AtomicUsize::new(0));
        let count = ticks.clone();
        rt.spawn(async move {
            loop {
                sleep(MS).await;
                count.fetch_add(1, SeqCst);
            }
        });
        for _ in 0..200 {
            rt.spawn(async { panic!("again") });
        }
        let before = ticks.load(SeqCst);
        eventually("the ticker goes on", || ticks.load(SeqCst) > before + 10);
    });
}

/// Not a test of the engine: that the helper panics as it says.
#[test]
fn the_bad_wakers_are_bad() {
    assert!(std::panic::catch_unwind(|| cloning::panics().clone()).is_err());
    assert!(
        std::panic::catch_unwind(|| Waker::from(Arc::new(BadWaker { on_wake: true, on_drop: false })).wake()).is_err()
    );
    assert!(
        std::panic::catch_unwind(|| drop(Waker::from(Arc::new(BadWaker { on_wake: false, on_drop: true })))).is_err()
    );
    assert!(matches!(Poll::Ready(()), Poll::Ready(())));
}

#[test]
fn c09_n10_n11_a_loop_of_its_own_has_a_handler_of_its_own() {
    common::with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let reports = Reports::new();
        event_loop.set_exception_handler(Some(Box::new(reports.handler())));
        event_loop.call_soon(|| panic!("in a callback"));
        event_loop.call_later(MS, || panic!("in a timer"));
        drop(event_loop.spawn_local(async { panic!("in a task") }));
        event_loop.run_until_complete(sleep(5 * MS)).unwrap();
        for text in ["in a callback", "in a timer", "in a task"] {
            assert_eq!(reports.of_panic(text), 1, "{text}")
        }
        event_loop.call_exception_handler(&epicycle::ErrorContext::new("by hand"));
        assert!(reports.all().iter().any(|report| report.message() == "by hand"));
        // One that fails gives way to the default one, for that report; `None` brings the default one back.
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        event_loop.set_exception_handler(Some(Box::new(move |_| {
            count.fetch_add(1, SeqCst);
            panic!("in the handler")
        })));
        for _ in 0..2 {
            event_loop.call_soon(|| panic!("again"));
        }
        event_loop.run_once(Some(MS));
        assert_eq!(calls.load(SeqCst), 2);
        event_loop.set_exception_handler(None);
        event_loop.call_soon(|| panic!("to the log"));
        event_loop.run_once(Some(MS));
        assert_eq!((calls.load(SeqCst), reports.of_panic("to the log")), (2, 0));
        event_loop.close();
    });
}
