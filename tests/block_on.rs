//! C2: whoever calls `block_on` drives loop 0, and what becomes of that loop's work when the caller leaves.
//!
//! "Tenancy" is the time one thread spends as the driver of loop 0. Threads: each test says which thread does what.

// Tasks are handed out of block_on on purpose.
#![allow(clippy::async_yields_async)]

mod common;

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    DropProbe, Flag, Flavour, Gate, OnDrop, eventually, eventually_async, flavour, panics, panics_with, pending_with,
};
use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, spawn_local, yield_now};

const NESTED: &str = "block_on was called on a thread that already drives an event loop";
const CLOSED: &str = "event loop is closed";
const MS: Duration = Duration::from_millis(1);

/// Polls nothing twice: pending once, waking itself.
async fn pending_once() {
    yield_now().await;
}

common::flavours! {
    fn c02_b01_block_on_returns_ready_and_pending_values(rt: Runtime) {
        assert_eq!(rt.block_on(async { 7 }), 7);
        assert_eq!(rt.block_on(ready("now")), "now");
        assert_eq!(rt.block_on(async { sleep(3 * MS).await; pending_once().await; 8 }), 8);
        assert_eq!(rt.handle().block_on(async { yield_now().await; 9 }), 9);
    }

    fn c02_root_may_borrow_and_need_not_be_send(rt: Runtime) {
        let mut text = String::from("a");
        let shared = Rc::new(Cell::new(1));
        let (text_ref, inner) = (&mut text, shared.clone());
        let out = rt.block_on(async move {
            inner.set(inner.get() + 1);
            sleep(MS).await;
            text_ref.push('b');
            inner // an Rc comes out: no Send needed
        });
        assert_eq!((out.get(), text.as_str()), (2, "ab"));
    }

    fn c02_root_is_polled_on_the_calling_thread_only(rt: Runtime) {
        let here = thread::current().id();
        let flag = Flag::new();
        let polls = Rc::new(RefCell::new(Vec::new()));
        let seen = polls.clone();
        rt.block_on(async {
            // Wakes from another thread, from other loops, from timers.
            let remote = flag.clone();
            let waker = thread::spawn(move || { thread::sleep(2 * MS); remote.set() });
            let tasks: Vec<_> = (0..50).map(|_| epicycle::spawn(async { yield_now().await })).collect();
            let mut rest = Box::pin(async move {
                for task in tasks { task.await.unwrap() }
                sleep(2 * MS).await;
                flag.wait().await;
            });
            poll_fn(move |cx| {
                seen.borrow_mut().push(thread::current().id());
                rest.as_mut().poll(cx)
            }).await;
            waker.join().unwrap();
        });
        let polls = polls.borrow();
        assert!(polls.len() >= 2, "the root was suspended at least once");
        assert!(polls.iter().all(|id| *id == here));
    }

    fn c02_root_is_dropped_before_block_on_returns(rt: Runtime) {
        let probe = DropProbe::new();
        let guard = probe.guard();
        rt.block_on(async move {
            sleep(MS).await;
            let _keep = &guard;
        });
        assert_eq!(probe.only().thread, thread::current().id());
        // A root that completes without ever finishing its inner future.
        let probe = DropProbe::new();
        let mut inner = Box::pin(pending_with(probe.guard()));
        let mut polls = 0;
        rt.block_on(poll_fn(move |cx| {
            assert!(inner.as_mut().poll(cx).is_pending());
            polls += 1;
            if polls == 3 { Poll::Ready(()) } else { cx.waker().wake_by_ref(); Poll::Pending }
        }));
        assert_eq!(probe.only().thread, thread::current().id());
    }

    fn c02_c09_b23_a_panicking_root_propagates_and_the_runtime_stays_usable(rt: Runtime) {
        struct Payload(u32);
        let probe = DropProbe::new();
        for round in 0..3 {
            let (root, task, local) = (probe.guard(), probe.guard(), probe.guard());
            let before = probe.count();
            let unwound = catch_unwind(AssertUnwindSafe(|| rt.block_on(async {
                let _root = root;
                let finished = epicycle::spawn(async { drop(task) });
                spawn_local(pending_with(local));
                finished.await.unwrap();
                std::panic::panic_any(Payload(round));
            })));
            let payload = unwound.expect_err("the root's panic propagates");
            assert_eq!(payload.downcast_ref::<Payload>().expect("the payload itself").0, round);
            assert_eq!(probe.count() - before, 3, "root, task and the pinned leftover are gone");
            assert_eq!(rt.block_on(epicycle_spawned(&rt, round)), round);
        }
    }

    fn c02_the_caller_runs_loop_zero_in_full(rt: Runtime) {
        let here = thread::current().id();
        let ran = Rc::new(RefCell::new(Vec::new()));
        let note = |what: &'static str| { let ran = ran.clone(); move || ran.borrow_mut().push((what, thread::current().id())) };
        let (ours, mut theirs) = StdUnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let handle = rt.loops()[0].clone();
        let posted = Arc::new(Mutex::new(None));
        rt.block_on(async {
            let event_loop = EventLoop::current();
            assert_eq!(event_loop.index(), 0);
            event_loop.call_soon(note("soon"));
            event_loop.call_later(MS, note("later"));
            event_loop.call_at(Instant::now() + MS, note("at"));
            let local = note("local");
            spawn_local(async move { sleep(MS).await; local() });
            let reader = note("reader");
            event_loop.add_reader(&ours, {
                let (ours, event_loop) = (ours.try_clone().unwrap(), event_loop.clone());
                let mut fired = false;
                move || {
                    if !fired { fired = true; reader(); }
                    let _ = (&ours).read(&mut [0; 8]);
                    let _ = &event_loop;
                }
            }).unwrap();
            theirs.write_all(b"x").unwrap();
            let slot = posted.clone();
            thread::spawn(move || handle.call_soon_threadsafe(move || *slot.lock().unwrap() = Some(thread::current().id())))
                .join().unwrap();
            eventually_async("everything ran", || ran.borrow().len() == 5 && posted.lock().unwrap().is_some()).await;
            assert!(event_loop.remove_reader(&ours));
        });
        assert!(ran.borrow().iter().all(|(_, thread)| *thread == here), "{:?}", ran.borrow());
        let mut names: Vec<_> = ran.borrow().iter().map(|(what, _)| *what).collect();
        names.sort_unstable();
        assert_eq!(names, ["at", "later", "local", "reader", "soon"]);
        assert_eq!(*posted.lock().unwrap(), Some(here));
    }

    fn c02_a_spawn_from_the_root_is_a_local_push(rt: Runtime) {
        let (here, before) = (thread::current().id(), rt.metrics());
        let threads = rt.block_on(async {
            let mut threads = Vec::new();
            for _ in 0..100 { threads.push(epicycle::spawn(async { thread::current().id() }).await.unwrap()) }
            threads
        });
        let pulls = |metrics: &epicycle::runtime::Metrics| metrics.loops.iter().map(|l| l.injector_pulls).sum::<u64>();
        assert_eq!(pulls(&rt.metrics()), pulls(&before), "nothing went through the injector");
        if flavour() != Flavour::FourLoops {
            assert!(threads.iter().all(|id| *id == here), "without thieves they run where they were spawned");
        }
    }

    fn c02_block_on_returns_within_a_handle_of_the_roots_end_however_busy_the_loop(rt: Runtime) {
        const BUSY: usize = 500;
        let polls = Rc::new(Cell::new(0usize));
        let at_end = rt.block_on(async {
            for _ in 0..BUSY {
                let polls = polls.clone();
                spawn_local(async move { loop { polls.set(polls.get() + 1); yield_now().await } });
            }
            while polls.get() < 3 * BUSY { yield_now().await }
            polls.get()
        });
        let after = polls.get() - at_end;
        // n = 1: the rest of this turn and at most the whole of the next one, in which the stop callback is.
        let bound = if flavour() == Flavour::OneLoop { 2 * BUSY } else { 1 };
        assert!(at_end >= BUSY && after <= bound, "{after} handles ran after the root's end, {bound} may");
    }

    fn c02_c04_pinned_leftovers_are_dropped_on_that_thread_on_return_and_on_unwind(rt: Runtime) {
        for unwind in [false, true] {
            let probe = DropProbe::new();
            let task = Arc::new(Mutex::new(None));
            let handles = Arc::new(Mutex::new(Vec::new()));
            let (slot, timers) = (task.clone(), handles.clone());
            let (here, root_probe) = (thread::current().id(), probe.clone());
            let (ours, _theirs) = StdUnixStream::pair().unwrap();
            let readers = ours.try_clone().unwrap();
            let run = || rt.block_on(async {
                let probe = root_probe;
                let event_loop = EventLoop::current();
                // A pinned task that waits, one that was never polled, a timer, a reader, a writer, a callback, a post.
                let (one, two, three, four, five, six) =
                    (probe.guard(), probe.guard(), probe.guard(), probe.guard(), probe.guard(), probe.guard());
                *slot.lock().unwrap() = Some(event_loop.handle().spawn_local(|| async { pending::<u8>().await }));
                spawn_local(pending_with(one));
                yield_now().await;
                yield_now().await;
                timers.lock().unwrap().push(event_loop.call_later(Duration::from_secs(3600), move || drop(two)));
                event_loop.add_reader(&readers, move || { let _keep = &three; }).unwrap();
                event_loop.call_soon(move || drop(four));
                spawn_local(async move { drop(five); pending::<()>().await });
                // A writer is always ready here: it may run, and it is dropped in the end.
                event_loop.add_writer(&readers, move || { let _keep = &six; }).unwrap();
                assert!(!unwind, "on purpose");
            });
            if unwind { panics_with("on purpose", run) } else { run() }
            let records = probe.records();
            assert_eq!(records.len(), 6, "each dropped exactly once (unwind: {unwind})");
            assert!(records.iter().all(|record| record.thread == here));
            let task = task.lock().unwrap().take().unwrap();
            assert!(task.done() && task.cancelled() && !task.cancel());
            assert!(futures_lite::future::block_on(task).unwrap_err().is_cancelled());
            // Their handles are harmless now: neither runs anything.
            for timer in handles.lock().unwrap().drain(..) { timer.cancel(); }
            drop(ours);
            assert_eq!(rt.block_on(async { 5 }), 5);
            assert_eq!(probe.count(), 6);
        }
    }

    fn c02_leftovers_are_cleared_until_nothing_new_appears(rt: Runtime) {
        // The destructor of each leftover pins the next thing; all of them are gone when block_on returns.
        struct Chain { left: usize, event_loop: EventLoop, probe: DropProbe }
        impl Drop for Chain {
            fn drop(&mut self) {
                drop(self.probe.guard());
                if self.left == 0 { return }
                let next = Chain { left: self.left - 1, event_loop: self.event_loop.clone(), probe: self.probe.clone() };
                match self.left % 3 {
                    0 => drop(self.event_loop.spawn_local(pending_with(next))),
                    1 => drop(self.event_loop.call_soon(move || drop(next))),
                    _ => drop(self.event_loop.call_later(Duration::from_secs(3600), move || drop(next))),
                }
            }
        }
        let probe = DropProbe::new();
        let inner = probe.clone();
        rt.block_on(async move {
            let chain = Chain { left: 12, event_loop: EventLoop::current(), probe: inner };
            spawn_local(pending_with(chain));
            yield_now().await;
        });
        assert_eq!(probe.count(), 13);
        assert!(probe.records().iter().all(|record| record.thread == thread::current().id()));
    }

    fn c02_a_leftover_whose_destructor_panics_does_not_keep_the_others(rt: Runtime) {
        let probe = DropProbe::new();
        let inner = probe.clone();
        rt.block_on(async move {
            for i in 0..9 {
                let guard = inner.guard();
                spawn_local(pending_with(OnDrop(move || { let _guard = &guard; assert!(i % 3 != 1, "in a leftover's destructor") })));
            }
            yield_now().await;
        });
        assert_eq!(probe.count(), 9);
        assert_eq!(rt.block_on(async { 1 }), 1);
    }

    fn c02_an_event_loop_kept_beyond_its_tenancy_panics_when_used(rt: Runtime) {
        let kept = rt.block_on(async { EventLoop::current() });
        let misuse = |kept: &EventLoop| {
            panics_with(CLOSED, || kept.call_soon(|| ()));
            panics_with(CLOSED, || kept.call_later(MS, || ()));
            panics_with(CLOSED, || kept.call_at(Instant::now(), || ()));
            panics_with(CLOSED, || kept.spawn_local(async {}));
        };
        misuse(&kept);
        // The next tenancy, though of the same thread and the same loop 0, is not the one it was made in.
        let again = rt.block_on(async { misuse(&kept); EventLoop::current() });
        misuse(&again);
        assert!(EventLoop::try_current().is_none());
    }

    fn c02_posts_through_a_loop_handle_wait_for_the_next_tenancy(rt: Runtime) {
        let (ran, here) = (Arc::new(Mutex::new(Vec::new())), thread::current().id());
        let post = || {
            let (callback, task) = (ran.clone(), ran.clone());
            rt.loops()[0].call_soon_threadsafe(move || callback.lock().unwrap().push(thread::current().id()));
            rt.loops()[0].spawn_local(move || {
                let local = Rc::new(()); // built on the loop's own thread
                async move { yield_now().await; drop(local); task.lock().unwrap().push(thread::current().id()) }
            })
        };
        // Before the first tenancy, and between two.
        for round in 1..=3 {
            let task = post();
            thread::sleep(10 * MS);
            assert_eq!(ran.lock().unwrap().len(), 2 * (round - 1), "nobody drives loop 0 now");
            assert!(!task.done());
            rt.block_on(async { task.await.unwrap(); eventually_async("the callback", || ran.lock().unwrap().len() == 2 * round).await });
        }
        assert!(ran.lock().unwrap().iter().all(|id| *id == here));
    }

    fn c02_a_post_at_the_very_end_of_a_tenancy_is_not_lost(rt: Runtime) {
        for _ in 0..50 {
            let (built, called) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let (build, call) = (built.clone(), called.clone());
            let task = rt.block_on(async {
                // Posted by another thread while this root is in its last poll: nobody can have built it before the root ends.
                let own = EventLoop::current().handle();
                thread::spawn(move || {
                    own.call_soon_threadsafe(move || { call.fetch_add(1, SeqCst); });
                    own.spawn_local(move || { build.fetch_add(1, SeqCst); async { 3 } })
                }).join().unwrap()
            });
            rt.block_on(async {
                assert_eq!(task.await.unwrap(), 3, "it waited for this tenancy, or ran in the last turn of the other");
                eventually_async("the callback too", || called.load(SeqCst) == 1).await;
            });
            assert_eq!((built.load(SeqCst), called.load(SeqCst)), (1, 1));
        }
    }

    fn c02_posts_race_with_tenancies_and_each_runs_once(rt: Runtime) {
        const POSTS: usize = 2000;
        let rt = Arc::new(rt);
        let ran = Arc::new(AtomicUsize::new(0));
        let poster = {
            let (rt, ran) = (rt.clone(), ran.clone());
            thread::spawn(move || for i in 0..POSTS {
                let ran = ran.clone();
                rt.loops()[0].call_soon_threadsafe(move || { ran.fetch_add(1, SeqCst); });
                if i % 16 == 0 { thread::yield_now() }
            })
        };
        while !poster.is_finished() {
            rt.block_on(async { for _ in 0..3 { yield_now().await } });
        }
        poster.join().unwrap();
        // Whatever a tenancy did not come to is Send and waits for the next one.
        rt.block_on(eventually_async("every post ran", || ran.load(SeqCst) == POSTS));
        let (done, inner) = (Flag::new(), ran.clone());
        let last = done.clone();
        rt.loops()[0].call_soon_threadsafe(move || { inner.fetch_add(1, SeqCst); last.set() });
        rt.block_on(done.wait());
        assert_eq!(ran.load(SeqCst), POSTS + 1, "each once");
    }

    fn c02_stealable_work_goes_on_after_return_or_waits_with_one_loop(rt: Runtime) {
        let ticks = Arc::new(AtomicUsize::new(0));
        let (spins, counter) = (Arc::new(AtomicUsize::new(0)), ticks.clone());
        let spinner = spins.clone();
        rt.block_on(async {
            epicycle::spawn(async move { loop { counter.fetch_add(1, SeqCst); sleep(MS).await } });
            epicycle::spawn(async move { loop { spinner.fetch_add(1, SeqCst); yield_now().await } });
            sleep(3 * MS).await;
        });
        let (tick, spin) = (ticks.load(SeqCst), spins.load(SeqCst));
        if flavour() == Flavour::OneLoop {
            thread::sleep(30 * MS);
            assert_eq!((ticks.load(SeqCst), spins.load(SeqCst)), (tick, spin), "b11: no thread, no progress");
            rt.block_on(eventually_async("both go on", || ticks.load(SeqCst) > tick + 3 && spins.load(SeqCst) > spin + 3));
        } else {
            eventually("the background loops serve both", || ticks.load(SeqCst) > tick + 20 && spins.load(SeqCst) > spin + 20);
        }
    }

    fn c02_live_sockets_and_sleeps_of_loop_zero_are_served_after_return(rt: Runtime) {
        // Echo servers and sleepers that settled on loop 0, whose driver then leaves.
        const PAIRS: usize = 8;
        let sleeps = Arc::new(AtomicUsize::new(0));
        let mut clients = rt.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..PAIRS {
                let (mut ours, theirs) = common::socket_pair();
                epicycle::spawn(async move {
                    let mut buf = [0; 64];
                    loop {
                        let n = ours.read(&mut buf).await.unwrap();
                        if n == 0 { break }
                        ours.write_all(&buf[..n]).await.unwrap();
                    }
                });
                let sleeps = sleeps.clone();
                // Armed here: polled once by the root, then handed to a task.
                let mut timer = Box::pin(sleep(20 * MS));
                poll_fn(|cx| { let _ = timer.as_mut().poll(cx); Poll::Ready(()) }).await;
                epicycle::spawn(async move { timer.await; sleeps.fetch_add(1, SeqCst); });
                clients.push(theirs);
            }
            sleep(2 * MS).await;
            clients
        });
        let echo = |clients: &mut Vec<StdUnixStream>| for (i, client) in clients.iter_mut().enumerate() {
            client.set_nonblocking(false).unwrap();
            client.set_read_timeout(Some(common::PATIENCE)).unwrap();
            for round in 0..20u8 {
                let sent = [i as u8, round];
                client.write_all(&sent).unwrap();
                let mut back = [0; 2];
                client.read_exact(&mut back).expect("served though nobody drives loop 0");
                assert_eq!(back, sent);
            }
        };
        if flavour() == Flavour::OneLoop {
            clients[0].write_all(b"x").unwrap();
            thread::sleep(40 * MS);
            assert_eq!(sleeps.load(SeqCst), 0, "n = 1: all of it waits");
            assert!(clients[0].read(&mut [0; 1]).is_err());
            let stop = Flag::new();
            let end = stop.clone();
            let driver = thread::spawn(move || { rt.block_on(end.wait()); rt });
            eventually("the sleeps", || sleeps.load(SeqCst) == PAIRS);
            clients[0].set_nonblocking(false).unwrap();
            clients[0].read_exact(&mut [0; 1]).unwrap();
            echo(&mut clients);
            stop.set();
            drop(driver.join().unwrap());
        } else {
            eventually("the sleeps", || sleeps.load(SeqCst) == PAIRS);
            echo(&mut clients);
        }
    }

    fn c02_b07_a_second_caller_is_served_while_the_first_drives(rt: Runtime) {
        let rt = Arc::new(rt);
        let (release, inside) = (Flag::new(), Gate::new());
        let first = {
            let (rt, release, inside) = (rt.clone(), release.clone(), inside.clone());
            thread::spawn(move || rt.block_on(async { inside.open(); release.wait().await; 1 }))
        };
        inside.wait();
        let second = {
            let rt = rt.clone();
            thread::spawn(move || rt.block_on(guest_work(thread::current().id())))
        };
        assert_eq!(second.join().unwrap(), 2);
        assert!(!first.is_finished());
        release.set();
        assert_eq!(first.join().unwrap(), 1);
    }

    fn c02_many_guests_at_once(rt: Runtime) {
        let rt = &rt;
        thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(move || for _ in 0..5 { assert_eq!(rt.block_on(guest_work(thread::current().id())), 2) });
            }
        });
    }

    fn c02_b07_a_waiting_caller_takes_loop_zero_over_when_its_driver_leaves(rt: Runtime) {
        let rt = Arc::new(rt);
        let (release, inside) = (Flag::new(), Gate::new());
        let ticks = Arc::new(AtomicUsize::new(0));
        let first = {
            let (rt, release, inside, ticks) = (rt.clone(), release.clone(), inside.clone(), ticks.clone());
            thread::spawn(move || rt.block_on(async {
                // Lives on loop 0, and the second caller needs it.
                epicycle::spawn(async move { loop { sleep(MS).await; ticks.fetch_add(1, SeqCst); } });
                inside.open();
                release.wait().await;
            }))
        };
        inside.wait();
        let waiting = Flag::new();
        let (left, local_ticks) = (Gate::new(), Arc::new(AtomicUsize::new(0)));
        let second = {
            let (rt, ticks, waiting, local_ticks) = (rt.clone(), ticks.clone(), waiting.clone(), local_ticks.clone());
            let left = left.clone();
            thread::spawn(move || {
                let here = thread::current().id();
                rt.block_on(async {
                    // Pinned to the guest's own loop: goes on across the take-over, on this thread.
                    let pinned = spawn_local(async move {
                        loop { assert_eq!(thread::current().id(), here); local_ticks.fetch_add(1, SeqCst); sleep(MS).await }
                    });
                    waiting.set();
                    let start = ticks.load(SeqCst);
                    eventually_async("ten more ticks", || ticks.load(SeqCst) >= start + 10).await;
                    let (mut ours, mut theirs) = common::socket_pair();
                    theirs.write_all(b"abc").unwrap();
                    let mut buf = [0; 3];
                    ours.read_exact(&mut buf).await.unwrap();
                    assert!(!pinned.done(), "the pinned task is alive and has not failed");
                    // The first caller leaves in here: the test waits for it and these ticks go on.
                    eventually_async("ticks after the hand-over", || left.is_open() && ticks.load(SeqCst) >= start + 40).await;
                    buf
                })
            })
        };
        eventually("the second caller waits", || waiting.is_set());
        release.set();
        first.join().unwrap();
        let before = local_ticks.load(SeqCst);
        eventually("pinned work of the guest goes on", || local_ticks.load(SeqCst) > before + 3);
        left.open();
        assert_eq!(second.join().unwrap(), *b"abc", "never hangs, though the driver is gone");
    }

    fn c02_posts_to_loop_zero_are_served_by_whoever_took_it_over(rt: Runtime) {
        let rt = Arc::new(rt);
        let (release, inside) = (Flag::new(), Gate::new());
        let first = {
            let (rt, release, inside) = (rt.clone(), release.clone(), inside.clone());
            thread::spawn(move || rt.block_on(async { inside.open(); release.wait().await }))
        };
        inside.wait();
        let (started, posted) = (Gate::new(), Flag::new());
        let second = {
            let (rt, started, posted) = (rt.clone(), started.clone(), posted.clone());
            thread::spawn(move || rt.block_on(async { started.open(); posted.wait().await; thread::current().id() }))
        };
        started.wait();
        release.set();
        first.join().unwrap();
        let ran_on = Arc::new(Mutex::new(None));
        let slot = ran_on.clone();
        rt.loops()[0].call_soon_threadsafe(move || { *slot.lock().unwrap() = Some(thread::current().id()); posted.set() });
        let second = second.join().unwrap();
        assert_eq!(*ran_on.lock().unwrap(), Some(second));
    }

    fn c02_the_driver_changes_a_hundred_times(rt: Runtime) {
        // A baton of overlapping callers: each stays until the next one is inside, so each hand-over meets a waiter.
        let rt = Arc::new(rt);
        let alive = Arc::new(AtomicUsize::new(0));
        let counter = alive.clone();
        rt.spawn(async move { loop { counter.fetch_add(1, SeqCst); sleep(MS).await } });
        let mut previous: Option<(Flag, thread::JoinHandle<()>)> = None;
        for _ in 0..100 {
            let (leave, inside) = (Flag::new(), Gate::new());
            let caller = {
                let (rt, leave, inside) = (rt.clone(), leave.clone(), inside.clone());
                thread::spawn(move || rt.block_on(async move {
                    inside.open();
                    leave.wait().await;
                    // Needs a loop that runs: stealable work, a timer.
                    epicycle::spawn(async { yield_now().await }).await.unwrap();
                    sleep(Duration::from_micros(200)).await;
                }))
            };
            inside.wait();
            if let Some((flag, thread)) = previous.replace((leave, caller)) { flag.set(); thread.join().unwrap() }
        }
        let (flag, thread) = previous.unwrap();
        flag.set();
        thread.join().unwrap();
        assert!(alive.load(SeqCst) > 0);
    }

    fn c02_two_callers_leave_at_the_same_moment(rt: Runtime) {
        let rt = &rt;
        for _ in 0..100 {
            let barrier = &Barrier::new(2);
            thread::scope(|scope| for _ in 0..2 {
                scope.spawn(move || { barrier.wait(); rt.block_on(async { yield_now().await; epicycle::spawn(async {}).await.unwrap() }) });
            });
        }
    }

    fn c02_b08_s1_nested_block_on_panics_wherever_a_loop_runs(rt: Runtime) {
        let handle = rt.handle();
        let other = Runtime::builder().worker_threads(1).build().unwrap();
        let other = Arc::new(other);
        rt.block_on(async {
            // In the root, also into another runtime, and by way of `run`.
            panics_with(NESTED, || handle.block_on(async {}));
            panics_with(NESTED, || other.block_on(async {}));
            panics_with("run was called on a thread that already drives", || epicycle::run(async {}));
            // In a stealable task, a pinned one, a callback, a timer's callback.
            let (a, b) = (handle.clone(), handle.clone());
            epicycle::spawn(async move { panics_with(NESTED, || a.block_on(async {})) }).await.unwrap();
            spawn_local(async move { panics_with(NESTED, || b.block_on(async {})) }).await.unwrap();
            let texts = Arc::new(Mutex::new(Vec::new()));
            for timer in [false, true] {
                let (texts, handle) = (texts.clone(), handle.clone());
                let nested = move || { let text = panics(|| handle.block_on(async {})); texts.lock().unwrap().push(text) };
                if timer { EventLoop::current().call_later(MS, nested); } else { EventLoop::current().call_soon(nested); }
            }
            eventually_async("both callbacks", || texts.lock().unwrap().len() == 2).await;
            assert!(texts.lock().unwrap().iter().all(|text| text.contains(NESTED)), "{texts:?}");
            // Nothing is broken by any of it.
            sleep(MS).await;
            assert_eq!(epicycle::spawn(async { 4 }).await.unwrap(), 4);
        });
        assert_eq!(other.block_on(async { 3 }), 3);
        assert_eq!(rt.block_on(async { 5 }), 5);
    }

    fn c02_nested_block_on_panics_in_a_guest_too(rt: Runtime) {
        let rt = Arc::new(rt);
        let (release, inside) = (Flag::new(), Gate::new());
        let first = {
            let (rt, release, inside) = (rt.clone(), release.clone(), inside.clone());
            thread::spawn(move || rt.block_on(async { inside.open(); release.wait().await }))
        };
        inside.wait();
        let handle = rt.handle();
        rt.block_on(async { panics_with(NESTED, || handle.block_on(async {})) });
        release.set();
        first.join().unwrap();
    }

    fn c02_a_root_panics_by_a_nested_block_on_and_the_loop_is_free_again(rt: Runtime) {
        let handle = rt.handle();
        panics_with(NESTED, || rt.block_on(async { handle.block_on(async {}) }));
        assert_eq!(rt.block_on(async { 6 }), 6);
    }

    fn c02_pinned_leftovers_of_a_guest_are_dropped_on_its_thread(rt: Runtime) {
        let rt = Arc::new(rt);
        let (release, inside) = (Flag::new(), Gate::new());
        let first = {
            let (rt, release, inside) = (rt.clone(), release.clone(), inside.clone());
            thread::spawn(move || rt.block_on(async { inside.open(); release.wait().await }))
        };
        inside.wait();
        let probe = DropProbe::new();
        let inner = probe.clone();
        rt.block_on(async {
            spawn_local(pending_with(inner.guard()));
            let (soon, late) = (inner.guard(), inner.guard());
            EventLoop::current().call_later(Duration::from_secs(3600), move || drop(late));
            yield_now().await;
            EventLoop::current().call_soon(move || drop(soon));
        });
        assert_eq!(probe.count(), 3);
        assert!(probe.records().iter().all(|record| record.thread == thread::current().id()));
        release.set();
        first.join().unwrap();
    }

    fn c02_the_roots_waker_outlives_block_on_harmlessly(rt: Runtime) {
        let mut kept = Vec::new();
        for _ in 0..20 {
            let waker = rt.block_on(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
            waker.wake_by_ref();
            kept.push(waker);
            // Stale wakes hit the tenancies of others and do nothing to them.
            let stale = kept.clone();
            let storm = thread::spawn(move || for waker in &stale { waker.wake_by_ref() });
            rt.block_on(async { sleep(MS).await; epicycle::spawn(async {}).await.unwrap() });
            storm.join().unwrap();
        }
        drop(rt);
        kept.into_iter().for_each(std::task::Waker::wake);
    }

    fn c02_a_wake_of_the_root_from_another_thread_is_never_lost(rt: Runtime) {
        let (requests, server) = std::sync::mpsc::channel::<Flag>();
        let waker = thread::spawn(move || for flag in server { flag.set() });
        rt.block_on(async {
            for round in 0..2000 {
                let flag = Flag::new();
                requests.send(flag.clone()).unwrap();
                if round % 7 == 0 { yield_now().await }
                flag.wait().await;
            }
        });
        drop(requests);
        waker.join().unwrap();
    }

    fn c06_c02_a_sleep_off_every_loop_is_armed_on_a_present_one(rt: Runtime) {
        // Nobody drives loop 0 at first: with one loop the sleep waits for a driver, with four it needs none.
        let (handle, done) = (rt.handle(), Gate::new());
        let end = done.clone();
        let sleeper = thread::spawn(move || {
            let _entered = handle.enter();
            let start = Instant::now();
            futures_lite::future::block_on(sleep(10 * MS));
            end.open();
            start.elapsed()
        });
        if flavour() == Flavour::OneLoop {
            thread::sleep(20 * MS);
            rt.block_on(eventually_async("it fires", || done.is_open()));
        }
        assert!(sleeper.join().unwrap() >= 10 * MS);
    }

    fn c02_s1_07_stopping_the_loop_ends_block_on(rt: Runtime) {
        const STOPPED: &str = "Event loop stopped before Future completed.";
        let probe = DropProbe::new();
        // By a callback, a task, a timer, and the root itself.
        for by in 0..4 {
            let (root, pinned) = (probe.guard(), probe.guard());
            let text = panics(|| rt.block_on(async {
                let _root = root;
                let event_loop = EventLoop::current();
                let stopper = event_loop.clone();
                drop(spawn_local(async move { let _pinned = pinned; pending::<()>().await }));
                yield_now().await;
                match by {
                    0 => drop(event_loop.call_soon(move || stopper.stop())),
                    1 => drop(spawn_local(async move { stopper.stop(); pending::<()>().await })),
                    2 => drop(event_loop.call_later(MS, move || stopper.stop())),
                    _ => stopper.stop(),
                }
                pending::<()>().await
            }));
            assert_eq!(text, STOPPED);
            assert_eq!(probe.count(), 2 * (by + 1), "what was pinned is dropped, and the future");
            assert!(probe.records().iter().all(|record| record.thread == thread::current().id()));
        }
        // Too late: the future is done in the same turn.
        assert_eq!(rt.block_on(async { EventLoop::current().stop(); 5 }), 5);
        // What is ready still runs, and the next one finds the loop as ever.
        let ran = Cell::new(false);
        let set = std::pin::pin!(async { yield_now().await; EventLoop::current().stop(); ran.set(true); pending::<()>().await });
        assert_eq!(panics(|| rt.block_on(set)), STOPPED);
        assert!(ran.get());
        assert_eq!(rt.block_on(async { epicycle::spawn(async { 6 }).await.unwrap() }), 6);
    }

    fn c02_s1_07_a_guests_loop_can_be_stopped_and_a_background_loop_cannot(rt: Runtime) {
        let (inside, gate) = (Flag::new(), Flag::new());
        thread::scope(|scope| {
            scope.spawn(|| rt.block_on(async { inside.set(); gate.wait().await }));
            eventually("there is a driver", || inside.is_set());
            let text = panics(|| rt.block_on(async {
                EventLoop::current().call_soon(|| EventLoop::current().stop());
                pending::<()>().await
            }));
            assert_eq!(text, "Event loop stopped before Future completed.");
            assert_eq!(rt.block_on(async { 7 }), 7);
            for background in rt.loops().iter().skip(1) {
                let stopping = background.spawn_local(|| async { EventLoop::current().stop() });
                let text = common::panic_text(&*rt.block_on(stopping).unwrap_err().into_panic());
                assert!(text.contains("a background loop ends with the Runtime"), "{text}");
            }
            gate.set();
        });
    }

    fn c02_a_guests_pinned_work_survives_the_drivers_comings_and_goings(rt: Runtime) {
        let rt = Arc::new(rt);
        let on = Arc::new(AtomicBool::new(true));
        let guests: Vec<_> = (0..2).map(|_| {
            let (rt, on) = (rt.clone(), on.clone());
            thread::spawn(move || rt.block_on(async {
                let (here, count) = (thread::current().id(), Rc::new(Cell::new(0)));
                let ticks = count.clone();
                let pinned = spawn_local(async move { loop { assert_eq!(thread::current().id(), here); ticks.set(ticks.get() + 1); sleep(Duration::from_micros(300)).await } });
                let own = EventLoop::current().handle();
                let mut posts = 0;
                while on.load(SeqCst) {
                    // A post to its own loop, from another thread.
                    let (own, arrived) = (own.clone(), Flag::new());
                    let set = arrived.clone();
                    epicycle::run_in_executor(move || own.call_soon_threadsafe(move || set.set())).await.unwrap();
                    arrived.wait().await;
                    posts += 1;
                }
                assert!(!pinned.done() && count.get() > 0);
                posts
            }))
        }).collect();
        for round in 0..40 {
            rt.block_on(async { sleep(MS).await });
            if round % 4 == 0 { thread::sleep(2 * MS) }
        }
        on.store(false, SeqCst);
        // With one loop one of the guests drives loop 0 now, and the other is served by it.
        for guest in guests { assert!(guest.join().unwrap() > 0) }
    }

    fn c10_a_guest_ends_when_the_runtime_is_dropped_by_another(rt: Runtime) {
        let (handle, release, inside) = (rt.handle(), Flag::new(), Gate::new());
        let callers: Vec<_> = (0..2).map(|_| {
            let (handle, release, inside) = (handle.clone(), release.clone(), inside.clone());
            thread::spawn(move || handle.block_on(async { inside.open(); release.wait().await; 3 }))
        }).collect();
        inside.wait();
        thread::sleep(2 * MS);
        let waker = thread::spawn(move || { thread::sleep(20 * MS); release.set() });
        drop(rt);
        waker.join().unwrap();
        for caller in callers { let _ = caller.join(); }
    }

    fn c02_block_on_needs_no_thread_of_its_own_after_thousands_of_calls(rt: Runtime) {
        for i in 0..2000 { assert_eq!(rt.block_on(async { i }), i) }
        for i in 0..200 { assert_eq!(rt.block_on(async { epicycle::spawn(async move { i }).await.unwrap() }), i) }
    }
}

/// A task on `rt` that gives `value` back, spawned through the handle.
async fn epicycle_spawned(rt: &Runtime, value: u32) -> u32 {
    rt.spawn(async move {
        yield_now().await;
        value
    })
    .await
    .unwrap()
}

/// What a second caller of block_on may rely on: everything. Gives 2.
async fn guest_work(here: thread::ThreadId) -> u32 {
    sleep(MS).await;
    assert_eq!(thread::current().id(), here);
    assert_eq!(
        epicycle::spawn(async {
            sleep(MS).await;
            1
        })
        .await
        .unwrap(),
        1
    );
    let pinned = spawn_local(async move {
        let local = Rc::new(5);
        yield_now().await;
        sleep(MS).await;
        (*local, thread::current().id())
    });
    assert_eq!(pinned.await.unwrap(), (5, here), "pinned work of a guest runs on the guest's own thread");
    let done = Rc::new(Cell::new(0));
    let (soon, later) = (done.clone(), done.clone());
    EventLoop::current().call_soon(move || soon.set(soon.get() + 1));
    EventLoop::current().call_later(MS, move || later.set(later.get() + 10));
    eventually_async("the guest's callbacks", || done.get() == 11).await;
    let ((reader, mut writer), read) = (StdUnixStream::pair().unwrap(), Rc::new(Cell::new(None)));
    let slot = read.clone();
    EventLoop::current().add_reader(&reader, move || slot.set(Some(thread::current().id()))).unwrap();
    writer.write_all(b"x").unwrap();
    eventually_async("the guest's reader", || read.get().is_some()).await;
    assert_eq!(read.get(), Some(here));
    assert!(EventLoop::current().remove_reader(&reader));
    let (mut ours, mut theirs) = common::socket_pair();
    theirs.write_all(b"ping").unwrap();
    let mut buf = [0; 4];
    ours.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"ping");
    assert_eq!(epicycle::run_in_executor(|| 3).await.unwrap(), 3);
    2
}

#[test]
fn c02_b11_a_runtime_with_one_loop_makes_no_progress_outside_block_on() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let inner = ran.clone();
        let task = rt.spawn(async move { inner.store(true, SeqCst) });
        let soon = Arc::new(AtomicBool::new(false));
        let called = soon.clone();
        rt.call_soon_threadsafe(move || called.store(true, SeqCst));
        thread::sleep(20 * MS);
        assert!(!ran.load(SeqCst) && !soon.load(SeqCst) && !task.done());
        rt.block_on(async {
            task.await.unwrap();
            eventually_async("the callback", || soon.load(SeqCst)).await
        });
        assert!(ran.load(SeqCst));
    });
}

#[test]
fn c02_work_left_on_loop_zero_is_served_within_milliseconds() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(4).build().unwrap();
        common::assert_latency("a sleep whose loop 0 was left", 8 * MS, 25, || {
            let late = Arc::new(Mutex::new(None));
            let slot = late.clone();
            rt.block_on(async {
                let deadline = Instant::now() + 5 * MS;
                let mut timer = Box::pin(epicycle::time::sleep_until(deadline));
                poll_fn(|cx| {
                    let _ = timer.as_mut().poll(cx);
                    Poll::Ready(())
                })
                .await;
                epicycle::spawn(async move {
                    timer.await;
                    *slot.lock().unwrap() = Some(deadline.elapsed())
                });
            });
            eventually("the sleep", || late.lock().unwrap().is_some());
            late.lock().unwrap().take().unwrap()
        });
        common::assert_latency("a socket whose loop 0 was left", 8 * MS, 25, || {
            let late = Arc::new(Mutex::new(None));
            let slot = late.clone();
            let mut theirs = rt.block_on(async {
                let (mut ours, theirs) = common::socket_pair();
                let mut buf = [0; 1];
                let mut read = Box::pin(async move { ours.read(&mut buf).await.unwrap() });
                poll_fn(|cx| {
                    assert!(read.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
                epicycle::spawn(async move {
                    read.await;
                    *slot.lock().unwrap() = Some(Instant::now())
                });
                theirs
            });
            thread::sleep(2 * MS);
            let sent = Instant::now();
            theirs.write_all(b"x").unwrap();
            eventually("the read", || late.lock().unwrap().is_some());
            late.lock().unwrap().take().unwrap() - sent
        });
    });
}
