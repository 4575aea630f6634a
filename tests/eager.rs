//! Eager tasks: polled where they are spawned, to the first suspension (N87; S3-32: the current task around them).

mod common;

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use common::{DropProbe, Flag, Flavour, OnDrop, Reports, eventually_async, loop_index, with_timeout};
use epicycle::task::{self, Builder, Outcome, Work};
use epicycle::time::sleep;
use epicycle::{
    Event, EventLoop, Instrument, Runtime, Task, current_task, run_in_executor, spawn, spawn_local, yield_now,
};

const MS: Duration = Duration::from_millis(1);

epicycle::task_local! { static NAME: &'static str = "-"; }

fn eager() -> Builder {
    Builder::new().eager(true)
}

/// Runs `inside` as a stealable task, as a pinned one, and in the root.
fn everywhere(rt: &Runtime, inside: fn()) {
    rt.block_on(async {
        spawn(async move { inside() }).await.unwrap();
        spawn_local(async move { inside() }).await.unwrap();
        inside();
    });
}

/// Counts the handles that polled a task.
#[derive(Clone, Default)]
struct Polls(Arc<AtomicUsize>);

impl Instrument for Polls {
    fn event(&self, event: &Event) {
        if let Event::HandleStarted { work: Work::Task(_), .. } = event {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

type Tree = Pin<Box<dyn Future<Output = usize> + Send>>;

/// A task with five children, each with five, and so on; the number of tasks.
fn tree(depth: usize, eager: bool) -> Tree {
    Box::pin(async move {
        if depth == 0 {
            return 1;
        }
        let children: Vec<_> = (0..5).map(|_| Builder::new().eager(eager).spawn(tree(depth - 1, eager))).collect();
        let mut count = 1;
        for child in children {
            count += child.await.unwrap();
        }
        count
    })
}

/// Each eager task spawns the next, so far down.
fn chain(depth: usize) -> Tree {
    Box::pin(async move {
        if depth == 0 {
            return 0;
        }
        // Some of the stack that a real body would use.
        let ballast = std::hint::black_box([depth as u8; 1024]);
        let below = eager().spawn(chain(depth - 1)).await.unwrap();
        std::hint::black_box(&ballast);
        below + 1
    })
}

common::flavours! {
    fn n87_it_runs_inside_the_spawn_to_its_first_suspension(rt: Runtime) {
        everywhere(&rt, || {
            for local in [false, true] {
                let (flag, steps) = (Flag::new(), Arc::new(AtomicUsize::new(0)));
                let (wait, step, here) = (flag.clone(), steps.clone(), thread::current().id());
                let body = async move {
                    assert_eq!(thread::current().id(), here);
                    step.store(1, SeqCst);
                    wait.wait().await;
                    step.store(2, SeqCst);
                };
                let task = if local { eager().spawn_local(body) } else { eager().spawn(body) };
                assert_eq!((steps.load(SeqCst), task.done(), flag.waiters()), (1, false, 1));
                flag.set();
                assert_eq!((steps.load(SeqCst), task.done()), (1, false), "the rest is a handle like any other");
            }
        });
    }

    fn n87_hops_eager_done_at_once_is_never_queued(flavour: Flavour) {
        let _ = flavour;
        let polls = Polls::default();
        let rt = common::builder!().instrument(polls.clone()).build().unwrap();
        rt.block_on(async {
            // A callback is no task; the root's handle is one, and is over while the root runs.
            let before = polls.0.load(SeqCst);
            let task = eager().spawn(async { 1 });
            assert!(task.done() && !task.cancelled() && !task.cancel());
            assert_eq!(task.await.unwrap(), 1);
            assert_eq!(eager().spawn_local(async { Rc::new(2) }).await.unwrap().as_ref(), &2);
            assert_eq!(polls.0.load(SeqCst), before);
        });
    }

    fn n87_a_recursive_group_five_wide_four_deep_queues_nothing(flavour: Flavour) {
        let _ = flavour;
        let polls = Polls::default();
        let rt = common::builder!().instrument(polls.clone()).build().unwrap();
        for (is_eager, queued) in [(true, 0), (false, 781)] {
            rt.block_on(async {
                let before = polls.0.load(SeqCst);
                assert_eq!(Builder::new().eager(is_eager).spawn(tree(4, is_eager)).await.unwrap(), 781);
                let handles = polls.0.load(SeqCst) - before;
                if is_eager { assert_eq!(handles, queued) } else { assert!(handles >= queued, "{handles}") }
            });
        }
    }

    fn n87_s3_32_the_current_task_is_restored(rt: Runtime) {
        everywhere(&rt, || {
            let me = task::id();
            let child = eager().name("child").spawn(async move {
                let inner = current_task().unwrap();
                assert!(inner.id != me && inner.name == "child" && !inner.pinned);
                let grandchild = eager().spawn_local(async { current_task().unwrap() });
                assert!(current_task().unwrap().id == inner.id);
                let grandchild = grandchild.await.unwrap();
                assert!(grandchild.id != inner.id && grandchild.pinned);
                inner.id
            });
            assert_eq!(task::id(), me);
            assert_eq!(current_task().unwrap().id, me);
            let id = child.id();
            assert_eq!(futures_lite::future::block_on(child).unwrap(), id);
        });
        rt.block_on(async {
            // From a callback: none before, none after.
            let (sender, seen) = mpsc::channel();
            EventLoop::current().call_soon(move || {
                let task = eager().spawn(async { task::try_id() });
                sender.send((task, task::try_id())).unwrap();
            });
            yield_now().await;
            let (task, after) = seen.recv().unwrap();
            assert_eq!((Some(task.id()), after), (task.await.unwrap(), None));
        });
    }

    fn n87_its_context_is_its_own(rt: Runtime) {
        rt.block_on(async {
            NAME.set("the parent's");
            let (flag, seen) = (Flag::new(), Arc::new(Mutex::new(Vec::new())));
            let (wait, note) = (flag.clone(), seen.clone());
            let task = eager().spawn(async move {
                note.lock().unwrap().push(NAME.get());
                NAME.set("the child's");
                wait.wait().await;
                note.lock().unwrap().push(NAME.get());
            });
            assert_eq!(NAME.get(), "the parent's");
            NAME.set("later");
            flag.set();
            task.await.unwrap();
            assert_eq!(*seen.lock().unwrap(), ["the parent's", "the child's"]);
            assert_eq!(NAME.get(), "later");
            // One that begins without any.
            assert_eq!(spawn(epicycle::context::Context::new().scope(async {
                let child = eager().spawn(async { NAME.set("x"); yield_now().await; NAME.get() });
                (NAME.get(), child.await.unwrap())
            })).await.unwrap(), ("-", "x"));
        });
    }

    fn n87_c09_a_panic_is_the_tasks(rt: Runtime) {
        rt.block_on(async {
            let me = task::id();
            let task = eager().spawn(async { if true { panic!("in the first poll") } });
            assert!(task.done());
            assert_eq!(task::id(), me);
            assert_eq!(common::panic_text(&*task.await.unwrap_err().into_panic()), "in the first poll");
            let guard = OnDrop(|| panic!("in its destructor"));
            let task = eager().spawn_local(async move { let _guard = guard; });
            assert!(task.await.unwrap_err().is_panic());
            assert_eq!(eager().spawn(async { 3 }).await.unwrap(), 3);
        });
    }

    fn n87_n21_a_detached_ones_panic_is_reported(flavour: Flavour) {
        let _ = flavour;
        let reports = Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async { drop(eager().spawn(async { panic!("nobody looks") })) });
        assert_eq!(reports.of_panic("nobody looks"), 1);
    }

    fn n87_after_the_first_suspension_it_is_a_task_like_any_other(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (0..100u32).map(|i| eager().spawn(async move {
                for _ in 0..5 { yield_now().await }
                sleep(MS).await;
                i
            })).collect();
            for (i, task) in tasks.into_iter().enumerate() { assert_eq!(task.await.unwrap(), i as u32) }
            // Cancelled where it waits: dropped, on its own loop.
            let probe = DropProbe::new();
            let task = eager().spawn_local(common::pending_with(probe.guard()));
            assert!(task.cancel());
            assert_eq!(probe.count(), 0, "never inside cancel");
            assert!(task.await.unwrap_err().is_cancelled());
            assert_eq!(probe.only().loop_index, loop_index());
            // Done-callbacks, of both kinds.
            let (sender, seen) = mpsc::channel();
            for body in [Box::pin(async {}) as Pin<Box<dyn Future<Output = ()> + Send>>, Box::pin(async { yield_now().await })] {
                let sender = sender.clone();
                eager().spawn(body).add_done_callback(move |outcome| sender.send(outcome).unwrap());
            }
            let mut all = Vec::new();
            eventually_async("both called", || { all.extend(seen.try_iter()); all.len() == 2 }).await;
            assert_eq!(all, [Outcome::Completed; 2]);
        });
    }

    fn n87_woken_during_the_first_poll(rt: Runtime) {
        rt.block_on(async {
            for local in [false, true] {
                for far in [false, true] {
                    let polls = Arc::new(AtomicUsize::new(0));
                    let count = polls.clone();
                    let body = poll_fn(move |cx| {
                        if count.fetch_add(1, SeqCst) == 1 { return Poll::Ready(()) }
                        let waker = cx.waker().clone();
                        if far { thread::spawn(move || waker.wake()).join().unwrap() } else { waker.wake() }
                        Poll::Pending
                    });
                    let task = if local { eager().spawn_local(body) } else { eager().spawn(body) };
                    assert!(polls.load(SeqCst) == 1 || !local);
                    task.await.unwrap();
                    assert_eq!(polls.load(SeqCst), 2);
                }
            }
        });
    }

    fn n87_a_deep_recursion_does_not_exhaust_the_stack(rt: Runtime) {
        rt.block_on(async {
            assert_eq!(eager().spawn(chain(3000)).await.unwrap(), 3000);
            assert_eq!(spawn(chain(3000)).await.unwrap(), 3000);
            let depth = Rc::new(Cell::new(0));
            descend(depth.clone(), 40);
            assert_eq!(depth.get(), 16, "in place so deep, the rest is queued");
            eventually_async("all ran", || depth.get() == 40).await;
        });
    }

    fn n87_off_the_loops_it_is_queued(rt: Runtime) {
        let rt = Arc::new(rt);
        let stop = Flag::new();
        let driver = { let (rt, stop) = (rt.clone(), stop.wait()); thread::spawn(move || rt.block_on(stop)) };
        let handle = rt.handle();
        let on_loop = thread::spawn(move || {
            let _entered = handle.enter();
            let task: Task<bool> = eager().spawn(async { loop_index().is_some() });
            futures_lite::future::block_on(task).unwrap()
        });
        assert!(on_loop.join().unwrap(), "never polled on a stranger's thread");
        let handle = rt.handle();
        let job = rt.run_in_executor(move || { let _entered = handle.enter(); futures_lite::future::block_on(eager().spawn(async { loop_index().is_some() })).unwrap() });
        assert!(futures_lite::future::block_on(job).unwrap());
        // Nor on a loop of another runtime.
        let other = Runtime::builder().worker_threads(1).build().unwrap();
        let handle = rt.handle();
        other.block_on(async {
            let here = thread::current().id();
            let task = { let _entered = handle.enter(); eager().spawn(async { thread::current().id() }) };
            assert!(task.await.unwrap() != here);
        });
        stop.set();
        driver.join().unwrap();
    }

    fn s1_10_n88_an_eager_task_is_listed_while_it_runs(rt: Runtime) {
        rt.block_on(async {
            let handle = rt.handle();
            let listed = move |id| handle.all_tasks().iter().filter(|info| info.id == id).count();
            for local in [false, true] {
                let look = listed.clone();
                let body = async move { let id = task::id(); let first = look(id); yield_now().await; (first, look(id)) };
                let task = if local { eager().spawn_local(body) } else { eager().spawn(body) };
                let id = task.id();
                assert_eq!((task.await.unwrap(), listed(id)), ((1, 1), 0));
                let done = eager().spawn(async {});
                assert_eq!(listed(done.id()), 0);
            }
        });
    }

    fn n87_c10_spawned_while_the_runtime_closes_it_is_dropped_unpolled(rt: Runtime) {
        let (polled, probe) = (Arc::new(AtomicBool::new(false)), DropProbe::new());
        let (flag, guard) = (polled.clone(), probe.guard());
        let mut guard = Some(guard);
        let handle = rt.handle();
        let spawns = OnDrop(move || {
            let (flag, guard, _entered) = (flag.clone(), guard.take(), handle.enter());
            let task = eager().spawn(async move { let _guard = guard; flag.store(true, SeqCst); pending::<()>().await });
            drop(task);
        });
        rt.block_on(async { drop(spawn(common::pending_with(spawns))); for _ in 0..3 { yield_now().await } });
        drop(rt);
        assert_eq!((polled.load(SeqCst), probe.count()), (false, 1));
    }
}

/// Spawns an eager pinned task that does the same, and counts.
fn descend(depth: Rc<Cell<u32>>, left: u32) {
    if left > 0 {
        eager().spawn_local(async move {
            depth.set(depth.get() + 1);
            descend(depth, left - 1);
        });
    }
}

#[test]
fn n87_on_a_loop_of_its_own() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let seen = event_loop.run_until_complete(async {
            let here = thread::current().id();
            let task = eager().spawn(async { thread::current().id() });
            assert!(task.done());
            (
                task.await.unwrap() == here,
                eager()
                    .spawn_local(async {
                        yield_now().await;
                        4
                    })
                    .await
                    .unwrap(),
            )
        });
        assert_eq!(seen, Ok((true, 4)));
    });
}

#[test]
fn n87_spawned_and_awaited_in_a_row_they_leave_the_loop_its_turns() {
    with_timeout(|| {
        epicycle::Runtime::builder().worker_threads(1).build().unwrap().block_on(async {
            let turns = common::Turns::start(&EventLoop::current());
            let done = spawn(async { 1 });
            while !done.done() {
                yield_now().await
            }
            let before = turns.count();
            for _ in 0..1000 {
                let ready = eager().spawn(async {});
                ready.await.unwrap();
            }
            assert!(turns.count() > before, "the loop had its turns in between");
        });
    });
}

#[test]
fn n87_an_executor_job_is_not_a_loop() {
    with_timeout(|| {
        let index = epicycle::run(async {
            run_in_executor(|| futures_lite::future::block_on(eager().spawn(async { loop_index() })).unwrap())
                .await
                .unwrap()
        });
        assert!(index.is_some());
    });
}
