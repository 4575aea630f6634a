//! Context variables: `task_local!`, inheritance, and who sees what when (asyncio's contextvars; S3-24, N87's "context
//! separate" is in eager.rs).
//!
//! The variables are statics that all tests of this file share; each test sets them in scopes and tasks of its own.

mod common;

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context as PollContext, Poll};
use std::thread;
use std::time::Duration;

use common::{Flag, Flavour, Gate, OnDrop, Reports, eventually, eventually_async, panics_with, with_timeout};
use epicycle::context::Context;
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, run_in_executor, spawn, spawn_local, task_local, yield_now};

const MS: Duration = Duration::from_millis(1);

task_local! {
    /// Documented, public, without a value.
    pub static NAME: &'static str;
    static NUMBER: u32 = 0;
    static SHARED: Arc<()>;
    static LAST: u8
}

/// What `NAME` is here, or a dash.
fn name() -> &'static str {
    NAME.try_get().unwrap_or("-")
}

/// Polls two futures by turns, in one task.
async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    futures_lite::future::zip(a, b).await
}

/// Reports what its destructor sees.
fn tell_in_drop(seen: &mpsc::Sender<(&'static str, u32)>) -> OnDrop<impl FnMut() + Send + use<>> {
    let seen = seen.clone();
    OnDrop(move || seen.send((name(), NUMBER.get())).unwrap())
}

common::flavours! {
    fn ctx_a_child_has_its_parents_values_at_the_spawn_and_nothing_later(rt: Runtime) {
        rt.block_on(async {
            for local in [false, true] {
                NAME.set("before");
                let flag = Flag::new();
                let wait = flag.wait();
                let child = async move {
                    let first = name();
                    wait.await;
                    let second = name();
                    NAME.set("the child's");
                    NUMBER.set(9);
                    yield_now().await;
                    (first, second, name())
                };
                let child = if local { spawn_local(child) } else { spawn(child) };
                NAME.set("after");
                eventually_async("it waits", || flag.waiters() == 1).await;
                flag.set();
                assert_eq!(child.await.unwrap(), ("before", "before", "the child's"));
                assert_eq!((name(), NUMBER.get()), ("after", 0));
            }
        });
        NAME.set("outside"); // the thread's own from here on
        assert_eq!(name(), "outside");
    }

    fn ctx_grandchildren_and_every_loop(rt: Runtime) {
        rt.block_on(NAME.scope("root", async {
            for event_loop in rt.loops() {
                let seen = event_loop.spawn_local(|| async {
                    let mine = name();
                    let child = spawn(async { spawn(async { yield_now().await; name() }).await.unwrap() });
                    (mine, child.await.unwrap())
                });
                assert_eq!(seen.await.unwrap(), ("root", "root"));
            }
        }));
        // And nothing stays behind on any of them.
        rt.block_on(async {
            for event_loop in rt.loops() {
                assert_eq!(event_loop.spawn_local(|| async { (name(), NUMBER.get()) }).await.unwrap(), ("-", 0));
            }
        });
    }

    fn ctx_values_stay_with_their_tasks_over_steals_and_sleeps(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..200u32).map(|i| spawn(NUMBER.scope(i, async move {
                for turn in 0..20 {
                    assert_eq!(NUMBER.get(), i);
                    if turn == 10 { NAME.set("half way"); }
                    assert_eq!(name(), if turn < 10 { "-" } else { "half way" });
                    if (turn + i) % 7 == 0 { sleep(Duration::from_micros(100)).await } else { yield_now().await }
                }
                spawn(async { NUMBER.get() }).await.unwrap()
            }))).collect();
            let bare: Vec<_> = (0..200).map(|_| spawn(async { for _ in 0..20 { assert_eq!((name(), NUMBER.get()), ("-", 0)); yield_now().await } })).collect();
            for (i, task) in tasks.into_iter().enumerate() { assert_eq!(task.await.unwrap(), i as u32) }
            for task in bare { task.await.unwrap() }
        });
    }

    fn ctx_callbacks_have_the_values_of_their_registration(rt: Runtime) {
        let (sender, seen) = mpsc::channel();
        let note = |what: &'static str| { let sender = sender.clone(); move || { sender.send((what, name())).unwrap(); NAME.set("a callback's"); } };
        rt.block_on(async {
            let event_loop = EventLoop::current();
            let scope = NAME.scope("registered", async {
                event_loop.call_soon(note("soon"));
                event_loop.call_later(MS, note("later"));
                event_loop.handle().call_soon_threadsafe(note("threadsafe"));
                rt.call_soon_threadsafe(note("anywhere"));
            });
            scope.await;
            event_loop.call_soon(note("bare"));
            event_loop.call_later(MS, note("bare"));
            NAME.set("too late");
            let mut all: Vec<_> = Vec::new();
            eventually_async("all six ran", || { all.extend(seen.try_iter()); all.len() == 6 }).await;
            for (what, name) in all { assert_eq!(name, if what == "bare" { "-" } else { "registered" }, "{what}") }
            assert_eq!(name(), "too late", "what a callback sets is its own");
        });
    }

    fn ctx_done_callbacks_have_the_values_of_their_registration(rt: Runtime) {
        rt.block_on(async {
            for already_done in [false, true] {
                let (flag, (sender, seen)) = (Flag::new(), mpsc::channel());
                let wait = flag.clone();
                let task = spawn(NAME.scope("the task's", async move { wait.wait().await }));
                if already_done {
                    flag.set();
                    eventually_async("done", || task.done()).await;
                }
                for who in ["one", "two", "-"] {
                    let sender = sender.clone();
                    let add = || task.add_done_callback(move |_| { sender.send(name()).unwrap(); NAME.set("a callback's"); });
                    if who == "-" { add() } else { NAME.sync_scope(who, add) }
                }
                flag.set();
                let mut all = Vec::new();
                eventually_async("all three ran", || { all.extend(seen.try_iter()); all.len() == 3 }).await;
                assert_eq!(all, ["one", "two", "-"]);
                task.await.unwrap();
            }
        });
    }

    fn ctx_a_reader_keeps_its_values_over_all_its_calls(rt: Runtime) {
        use std::io::{Read as _, Write as _};
        rt.block_on(async {
            let (mut ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            let seen = Rc::new(Cell::new((0, 0)));
            let (slot, mut end) = (seen.clone(), ours.try_clone().unwrap());
            NUMBER.sync_scope(5, || EventLoop::current().add_reader(&ours, move || {
                let _ = end.read(&mut [0]);
                slot.set((slot.get().0 + 1, NUMBER.get()));
                NUMBER.set(NUMBER.get() + 1);
            })).unwrap();
            for call in 1..=3 {
                theirs.write_all(b"x").unwrap();
                eventually_async("called", || seen.get().0 == call).await;
                assert_eq!(seen.get(), (call, 4 + call), "what it sets it finds again, as in asyncio");
            }
            assert_eq!(NUMBER.get(), 0);
            assert!(EventLoop::current().remove_reader(&ours));
            let _ = ours.read(&mut [0]);
        });
    }

    fn ctx_executor_jobs_are_handed_the_values(rt: Runtime) {
        rt.block_on(async {
            let job = NAME.scope("asked", async { run_in_executor(|| {
                let first = name();
                NAME.set("the job's");
                (first, name(), futures_lite::future::block_on(run_in_executor(name)).unwrap())
            }).await.unwrap() });
            assert_eq!(job.await, ("asked", "the job's", "the job's"));
            // The thread that ran it has kept nothing.
            for _ in 0..20 { assert_eq!(run_in_executor(name).await.unwrap(), "-") }
            // A job that blocks on the runtime has a root of its own, with the job's values.
            let handle = rt.handle();
            let nested = NAME.sync_scope("asked", || run_in_executor(move || handle.block_on(async { yield_now().await; name() })));
            assert_eq!(nested.await.unwrap(), "asked");
        });
    }

    fn ctx_destructors_see_their_tasks_values_however_it_ends(rt: Runtime) {
        let (sender, seen) = mpsc::channel();
        rt.block_on(async {
            for local in [false, true] {
                for end in ["done", "cancelled", "panicked", "never polled"] {
                    let (flag, guard) = (Flag::new(), tell_in_drop(&sender));
                    let wait = flag.clone();
                    let body = async move {
                        let _guard = guard;
                        NUMBER.set(7);
                        wait.wait().await;
                        assert!(end != "panicked", "on purpose");
                    };
                    let task = NAME.sync_scope("mine", || if local { spawn_local(body) } else { spawn(body) });
                    if end != "never polled" { eventually_async("it waits", || flag.waiters() == 1).await }
                    match end {
                        "cancelled" | "never polled" => _ = NAME.sync_scope("the canceller's", || task.cancel()),
                        _ => NAME.sync_scope("the waker's", || flag.set()),
                    }
                    let _ = task.await;
                    let number = seen.recv().unwrap();
                    let expected = if end == "never polled" { vec![0, 7] } else { vec![7] };
                    assert!(number.0 == "mine" && expected.contains(&number.1), "{end}, local {local}: {number:?}");
                }
            }
            // A callback and a job that were cancelled: the closure is dropped with its values, not the canceller's.
            for bare in [false, true] {
                let registered = if bare { "-" } else { "registered" };
                let (soon, later) = (tell_in_drop(&sender), tell_in_drop(&sender));
                let event_loop = EventLoop::current();
                let make = || (event_loop.call_soon(move || drop(soon)), event_loop.call_later(60_000 * MS, move || drop(later)));
                let (soon, later) = if bare { make() } else { NAME.sync_scope(registered, make) };
                NAME.sync_scope("the canceller's", || assert!(soon.cancel() && later.cancel()));
                assert_eq!((seen.recv().unwrap().0, seen.recv().unwrap().0), (registered, registered));
                assert_eq!(name(), "-");
            }
        });
        // With the runtime.
        let (one, two) = (tell_in_drop(&sender), tell_in_drop(&sender));
        rt.block_on(async {
            NAME.sync_scope("stealable", || spawn(common::pending_with(one)));
            let last = rt.loops().last().unwrap();
            NAME.sync_scope("pinned", || last.spawn_local(move || common::pending_with(two)));
            for _ in 0..10 { yield_now().await }
        });
        NAME.sync_scope("the dropper's", || drop(rt));
        let mut all = [seen.recv().unwrap().0, seen.recv().unwrap().0];
        all.sort_unstable();
        assert_eq!(all, ["pinned", "stealable"]);
    }

    fn ctx_block_on_is_a_call_like_any_other(rt: Runtime) {
        NAME.set("the thread's");
        let seen = rt.block_on(async {
            let first = name();
            let other = Rc::new(Cell::new(""));
            let slot = other.clone();
            EventLoop::current().call_soon(move || slot.set(name()));
            let child = spawn(async { name() }).await.unwrap();
            NAME.set("set in the root");
            yield_now().await;
            (first, child, other.get())
        });
        assert_eq!(seen, ("the thread's", "the thread's", "the thread's"));
        assert_eq!(name(), "set in the root");
        panics_with("on purpose", || rt.block_on(async { NAME.set("and panicked"); panic!("on purpose") }));
        assert_eq!(name(), "and panicked");
        // What was spawned from elsewhere is run by this block_on, but not with its values.
        let bare = { let handle = rt.handle(); thread::spawn(move || handle.spawn(async { name() })).join().unwrap() };
        assert_eq!(rt.block_on(bare).unwrap(), "-");
        let handle = rt.handle();
        let guest = NAME.sync_scope("a guest's", Context::capture);
        rt.block_on(async move {
            let mut guest = guest;
            let thread = thread::spawn(move || guest.run(|| handle.block_on(async { for _ in 0..20 { yield_now().await } (name(), spawn(async { name() }).await.unwrap()) })));
            eventually_async("the guest is done", || thread.is_finished()).await;
            assert_eq!(thread.join().unwrap(), ("a guest's", "a guest's"));
        });
    }

    fn ctx_values_go_with_the_last_task_that_has_them(rt: Runtime) {
        let value = Arc::new(());
        let count = || Arc::strong_count(&value);
        rt.block_on(async {
            let flag = Flag::new();
            let tasks: Vec<_> = SHARED.sync_scope(value.clone(), || (0..10).map(|_| spawn(flag.wait())).collect());
            assert!(count() == 2, "one value for all of them, {}", count());
            flag.set();
            for task in tasks { task.await.unwrap() }
            eventually_async("gone with the tasks, however long their handles are kept", || count() == 1).await;
            let kept = SHARED.sync_scope(value.clone(), || spawn(async {}));
            eventually_async("done", || kept.done()).await;
            eventually_async("gone before its handle", || count() == 1).await;
            kept.await.unwrap();
        });
    }

    fn c09_ctx_a_value_whose_destructor_panics_is_reported(flavour: Flavour) {
        let _ = flavour;
        struct Bomb;
        impl Drop for Bomb { fn drop(&mut self) { if !thread::panicking() { panic!("in a value's destructor") } } }
        task_local! { static BOMB: Bomb; }
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            spawn(async { BOMB.set(Bomb); yield_now().await; 5 }).await.unwrap();
            eventually_async("reported", || reports.of_panic("in a value's destructor") == 1).await;
            assert!(spawn(async { BOMB.try_with(|_| ()).is_err() }).await.unwrap());
        });
    }

    fn ctx_a_panic_leaves_the_values_as_they_were(rt: Runtime) {
        rt.block_on(async {
            NAME.set("kept");
            let scope = Box::pin(NAME.scope("inside", async { assert!(name() != "inside", "on purpose") }));
            let mut scope = Some(scope);
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut cx = PollContext::from_waker(std::task::Waker::noop());
                let _ = scope.as_mut().unwrap().as_mut().poll(&mut cx);
            }));
            assert!(caught.is_err());
            assert_eq!(name(), "kept");
            drop(scope);
            assert_eq!(name(), "kept");
            let _ = spawn(NAME.scope("inside", async { panic!("in a task") })).await;
            for event_loop in rt.loops() {
                assert_eq!(event_loop.spawn_local(|| async { name() }).await.unwrap(), "kept");
            }
        });
    }
}

#[test]
fn ctx_scopes_nest_and_interleave_in_one_task() {
    with_timeout(|| {
        epicycle::run(async {
            let nested = NAME.scope("outer", async {
                let inner = NAME.scope("inner", async {
                    yield_now().await;
                    name()
                });
                (name(), inner.await, name())
            });
            assert_eq!(nested.await, ("outer", "inner", "outer"));
            let walk = |steps: usize| async move {
                for _ in 0..steps {
                    assert_eq!(NUMBER.get() as usize, steps);
                    yield_now().await;
                }
                assert_eq!(NUMBER.get() as usize, steps);
            };
            both(NUMBER.scope(3, walk(3)), NUMBER.scope(5, walk(5))).await;
            assert_eq!(NUMBER.get(), 0);
        });
    });
}

#[test]
fn ctx_a_scope_binds_its_own_variable_and_lets_others_through() {
    with_timeout(|| {
        epicycle::run(async {
            NUMBER.set(1);
            let flag = Flag::new();
            let wait = flag.clone();
            let scope = NAME.scope("bound", async move {
                NUMBER.set(2); // goes out, as from a function that is called
                NAME.set("bound again"); // stays in
                wait.wait().await;
                (name(), NUMBER.get())
            });
            let outside = async {
                yield_now().await;
                assert_eq!((name(), NUMBER.get()), ("-", 2));
                NUMBER.set(3); // comes in
                flag.set();
            };
            assert_eq!(both(scope, outside).await.0, ("bound again", 3));
            assert_eq!((name(), NUMBER.get()), ("-", 3));
        });
    });
}

#[test]
fn ctx_set_and_reset() {
    with_timeout(|| {
        thread::spawn(|| {
            // Off every runtime it works for the thread.
            let (first, second) = (NAME.set("one"), NAME.set("two"));
            assert_eq!(name(), "two");
            NAME.reset(second);
            assert_eq!(name(), "one");
            NAME.reset(first);
            assert_eq!(name(), "-");
            assert!(Context::capture().is_empty(), "nothing is left");
            task_local! { static OTHER: u32; }
            let token = NUMBER.set(1);
            panics_with("the token of `NUMBER` was given to `OTHER`", || OTHER.reset(token));
        })
        .join()
        .unwrap();
    });
}

#[test]
fn ctx_reading_what_is_not_set() {
    with_timeout(|| {
        assert!(LAST.try_get().is_err() && LAST.try_with(|_| ()).is_err());
        let text = LAST.try_get().unwrap_err().to_string();
        assert!(text.contains("`LAST` is not set") && text.contains("LAST.scope("), "{text}");
        panics_with("`LAST` is not set", || LAST.get());
        panics_with("`LAST` is not set", || LAST.with(|_| ()));
        assert_eq!((NUMBER.get(), NUMBER.name(), LAST.sync_scope(4, || LAST.get())), (0, "NUMBER", 4));
        assert_eq!(format!("{NUMBER:?}"), r#"LocalKey { name: "NUMBER", .. }"#);
    });
}

#[test]
fn ctx_a_default_is_made_once() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    task_local! { static COSTLY: usize = MADE.fetch_add(1, SeqCst); }
    with_timeout(|| {
        let threads: Vec<_> = (0..8).map(|_| thread::spawn(|| COSTLY.get())).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), 0);
        }
        assert_eq!(MADE.load(SeqCst), 1);
    });
}

#[test]
fn ctx_contexts_are_values() {
    with_timeout(|| {
        let mut one = NAME.sync_scope("one", Context::capture);
        let mut two = one.clone();
        one.run(|| {
            NUMBER.set(1);
            assert_eq!((name(), NUMBER.get()), ("one", 1));
            two.run(|| assert_eq!((name(), NUMBER.get()), ("one", 0)));
        });
        assert_eq!((one.len(), two.len(), NUMBER.get()), (2, 1, 0));
        assert_eq!((one.get(&NUMBER).as_deref(), two.get(&NUMBER).as_deref()), (Some(&1), Some(&0)));
        assert_eq!(two.get(&LAST), None);
        panics_with("on purpose", || one.run(|| panic!("on purpose")));
        assert_eq!((name(), one.len()), ("-", 2), "given back on unwind, too");
        // A future of its own, with a destructor.
        let (sender, seen) = mpsc::channel();
        let guard = tell_in_drop(&sender);
        epicycle::run(async {
            let apart = one.clone().scope(async move {
                let _guard = guard;
                yield_now().await;
                std::future::pending::<()>().await;
            });
            let task = spawn(apart);
            for _ in 0..5 {
                yield_now().await
            }
            task.cancel();
            assert!(task.await.is_err());
        });
        assert_eq!(seen.recv().unwrap(), ("one", 1));
    });
}

#[test]
fn ctx_a_scope_is_its_futures_kind() {
    fn check<T: Send>(_: &T) {}
    check(&NAME.scope("x", async {}));
    check(&Context::new().scope(async {}));
    check(&Context::new());
    let rc = Rc::new(3);
    assert_eq!(epicycle::run(NAME.scope("x", async { *rc })), 3, "neither Send nor 'static");
}

#[test]
fn ctx_a_future_that_waits_elsewhere_takes_its_scope_along() {
    // Polled by hand, by threads that have values of their own.
    with_timeout(|| {
        let gate = Gate::new();
        let mut future: Pin<Box<dyn Future<Output = &'static str> + Send>> = Box::pin(NAME.scope("taken", async {
            let mut first = true;
            std::future::poll_fn(move |_| {
                if std::mem::take(&mut first) {
                    return Poll::Pending;
                }
                Poll::Ready(())
            })
            .await;
            name()
        }));
        let seen = Arc::new(Mutex::new(None));
        for thread_name in ["a", "b"] {
            let (slot, back) = (seen.clone(), Arc::new(Mutex::new(None)));
            let give = back.clone();
            let thread = thread::spawn(move || {
                NAME.set(thread_name);
                let polled = future.as_mut().poll(&mut PollContext::from_waker(std::task::Waker::noop()));
                if let Poll::Ready(value) = polled {
                    *slot.lock().unwrap() = Some(value);
                }
                assert_eq!(name(), thread_name);
                *give.lock().unwrap() = Some(future);
            });
            thread.join().unwrap();
            future = back.lock().unwrap().take().unwrap();
        }
        gate.open();
        assert_eq!(*seen.lock().unwrap(), Some("taken"));
    });
}

#[test]
fn ctx_a_destructor_at_the_threads_end_finds_no_values() {
    with_timeout(|| {
        struct Look(mpsc::Sender<&'static str>);
        impl Drop for Look {
            fn drop(&mut self) {
                let _ = self.0.send(name());
                // Whether the slot is still there or not, this must not panic.
                let _ = NAME.sync_scope("late", name);
            }
        }
        thread_local! { static LOOK: std::cell::RefCell<Option<Look>> = const { std::cell::RefCell::new(None) }; }
        task_local! { static HOLDS: Mutex<Look>; }
        let (sender, seen) = mpsc::channel();
        thread::spawn(move || {
            LOOK.set(Some(Look(sender.clone())));
            HOLDS.set(Mutex::new(Look(sender)));
        })
        .join()
        .unwrap();
        let mut count = 0;
        eventually("both were dropped", || {
            count += seen.try_iter().count();
            count == 2
        });
    });
}
