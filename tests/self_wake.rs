//! Tasks that wake themselves while they are polled, and what happens to them meanwhile (behaviours 12, 25, 29; C8).

mod common;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;

use common::{DropProbe, Gate, OnDrop, eventually_async, panic_text};
use epicycle::{EventLoop, Runtime, spawn, spawn_local, task, task_local, yield_now};

task_local! { static NUMBER: usize = 0; }

/// Is pending in its first `pending` polls, in each of which it calls `wake`; gives the number of polls.
fn waking(pending: usize, wake: impl Fn(&Waker) + Send + Sync) -> impl Future<Output = usize> + Send {
    let mut polls = 0;
    poll_fn(move |cx| {
        polls += 1;
        if polls > pending {
            return Poll::Ready(polls);
        }
        wake(cx.waker());
        Poll::Pending
    })
}

/// A way to wake the task that is being polled.
type Way = fn(&Waker);

const WAYS: [Way; 6] = [
    Waker::wake_by_ref,
    |waker| [waker.clone()].into_iter().for_each(Waker::wake),
    |waker| (0..100).for_each(|_| waker.wake_by_ref()),
    // From a poll within the poll.
    |waker| {
        let waker = waker.clone();
        drop(task::Builder::new().eager(true).spawn(async move { waker.wake() }));
    },
    // The same, and the inner one wakes itself, too.
    |waker| {
        let waker = waker.clone();
        let inner = task::Builder::new().eager(true);
        drop(inner.spawn(waking(2, move |own| {
            own.wake_by_ref();
            waker.wake_by_ref()
        })));
    },
    // From another thread, which is done before the poll is.
    |waker| {
        let waker = waker.clone();
        thread::spawn(move || waker.wake()).join().unwrap();
    },
];

common::flavours! {
    fn b12_each_way_to_wake_oneself_is_one_more_poll(rt: Runtime) {
        rt.block_on(async {
            for way in WAYS {
                // One wake at least for each poll but the last, and no poll that nobody asked for.
                assert_eq!(spawn(waking(3, way)).await.unwrap(), 4);
                assert_eq!(spawn_local(waking(3, way)).await.unwrap(), 4);
                assert_eq!(task::Builder::new().eager(true).spawn(waking(3, way)).await.unwrap(), 4);
            }
        });
    }

    fn b12_the_future_of_block_on_may_wake_itself(rt: Runtime) {
        for way in WAYS {
            assert_eq!(rt.block_on(waking(3, way)), 4);
        }
    }

    fn b12_waking_oneself_and_then_waiting(rt: Runtime) {
        rt.block_on(async {
            let (polls, waker) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None::<Waker>)));
            let (count, slot) = (polls.clone(), waker.clone());
            let task = spawn(poll_fn(move |cx| {
                *slot.lock().unwrap() = Some(cx.waker().clone());
                match count.fetch_add(1, SeqCst) {
                    0 => { cx.waker().wake_by_ref(); Poll::Pending }
                    1 => Poll::Pending,
                    _ => Poll::Ready(()),
                }
            }));
            eventually_async("two polls", || polls.load(SeqCst) >= 2).await;
            for _ in 0..20 { yield_now().await }
            assert_eq!(polls.load(SeqCst), 2, "the note of the first poll is not that of the second");
            waker.lock().unwrap().take().unwrap().wake();
            task.await.unwrap();
            assert_eq!(polls.load(SeqCst), 3);
        });
    }

    fn b12_two_tasks_that_wake_themselves_and_each_other(rt: Runtime) {
        rt.block_on(async {
            let wakers: Arc<Mutex<Vec<Waker>>> = Arc::default();
            let tasks: Vec<_> = (0..8).map(|i| {
                let (wakers, running, mut left) = (wakers.clone(), AtomicBool::new(false), 400);
                spawn(poll_fn(move |cx| {
                    assert!(!running.swap(true, SeqCst), "polled by two at once");
                    left -= 1;
                    let others: Vec<Waker> = {
                        let mut wakers = wakers.lock().unwrap();
                        if wakers.len() < 8 { wakers.push(cx.waker().clone()) }
                        wakers.iter().skip(left % 3).step_by(3).cloned().collect()
                    };
                    if (left + i) % 2 == 0 { cx.waker().wake_by_ref() }
                    others.into_iter().for_each(Waker::wake);
                    cx.waker().wake_by_ref();
                    running.store(false, SeqCst);
                    if left == 0 { Poll::Ready(()) } else { Poll::Pending }
                }))
            }).collect();
            for task in tasks { task.await.unwrap() }
        });
    }

    fn b25_a_cancel_from_another_thread_ends_one_that_woke_itself(rt: Runtime) {
        rt.block_on(async {
            for wakes_first in [true, false] {
                let (probe, entered, cancelled) = (DropProbe::new(), Gate::new(), Gate::new());
                let polls = Arc::new(AtomicUsize::new(0));
                let (guard, go, wait, count) = (probe.guard(), entered.clone(), cancelled.clone(), polls.clone());
                let task = spawn(poll_fn(move |cx| {
                    let _guard = &guard;
                    count.fetch_add(1, SeqCst);
                    if wakes_first { cx.waker().wake_by_ref() }
                    go.open();
                    wait.wait();
                    if !wakes_first { cx.waker().wake_by_ref() }
                    Poll::<()>::Pending
                }));
                let canceller = thread::spawn(move || {
                    entered.wait();
                    assert!(task.cancel());
                    cancelled.open();
                    task
                });
                eventually_async("it is cancelled", || canceller.is_finished()).await;
                assert!(canceller.join().unwrap().await.unwrap_err().is_cancelled());
                assert_eq!(polls.load(SeqCst), 1, "dropped as soon as the poll ends, not polled again");
                probe.only();
            }
        });
    }

    fn b25_a_task_that_wakes_itself_for_ever_can_be_cancelled(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..20 {
                let probe = DropProbe::new();
                let (guard, polls) = (probe.guard(), Arc::new(AtomicUsize::new(0)));
                let count = polls.clone();
                let task = spawn(async move {
                    let _guard = guard;
                    loop { count.fetch_add(1, SeqCst); yield_now().await }
                });
                eventually_async("it runs", || polls.load(SeqCst) > 3).await;
                let task = thread::spawn(move || { task.cancel(); task }).join().unwrap();
                assert!(task.await.unwrap_err().is_cancelled());
                probe.only();
            }
        });
    }

    fn b29_waking_oneself_in_the_last_poll_is_nothing(rt: Runtime) {
        rt.block_on(async {
            let probe = DropProbe::new();
            let guard = probe.guard();
            let slot = Arc::new(Mutex::new(None::<Waker>));
            let (inner, at_end) = (slot.clone(), slot.clone());
            let polls = Arc::new(AtomicUsize::new(0));
            let count = polls.clone();
            // Its destructor runs while it completes, inside the task.
            let wakes = OnDrop(move || if let Some(waker) = at_end.lock().unwrap().take() { waker.wake_by_ref(); waker.wake() });
            spawn(poll_fn(move |cx| {
                let _own = (&guard, &wakes);
                count.fetch_add(1, SeqCst);
                *inner.lock().unwrap() = Some(cx.waker().clone());
                cx.waker().wake_by_ref();
                Poll::Ready(())
            })).await.unwrap();
            for _ in 0..20 { yield_now().await }
            assert_eq!(polls.load(SeqCst), 1);
            assert!(slot.lock().unwrap().is_none(), "the destructor woke it");
            probe.only();
        });
    }

    fn c08_a_panic_after_waking_oneself_leaves_nothing_behind(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..10 {
                let bomb = spawn(poll_fn(|cx| -> Poll<()> { cx.waker().wake_by_ref(); panic!("after waking itself") }));
                let error = bomb.await.unwrap_err();
                assert_eq!(panic_text(&*error.into_panic()), "after waking itself");
                // What this loop polls next is not taken for woken.
                let polls = Arc::new(AtomicUsize::new(0));
                let count = polls.clone();
                let task = spawn(poll_fn(move |_| -> Poll<()> { count.fetch_add(1, SeqCst); Poll::Pending }));
                for _ in 0..20 { yield_now().await }
                eventually_async("a poll", || polls.load(SeqCst) > 0).await;
                assert_eq!(polls.load(SeqCst), 1);
                task.cancel();
            }
        });
    }

    fn c08_another_task_woken_inside_a_poll_is_woken(rt: Runtime) {
        rt.block_on(async {
            let slot = Arc::new(Mutex::new(None::<Waker>));
            let inner = slot.clone();
            let mut polls = 0;
            let waits = spawn(poll_fn(move |cx| {
                *inner.lock().unwrap() = Some(cx.waker().clone());
                polls += 1;
                if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
            }));
            eventually_async("it waits", || slot.lock().unwrap().is_some()).await;
            let waker = slot.lock().unwrap().clone().unwrap();
            spawn(waking(1, move |own| { own.wake_by_ref(); waker.wake_by_ref() })).await.unwrap();
            waits.await.unwrap();
        });
    }

    fn c09_the_context_stays_with_who_woke_itself(rt: Runtime) {
        rt.block_on(async {
            let tasks: Vec<_> = (1..50).map(|i| spawn(async move {
                NUMBER.set(i);
                for _ in 0..20 { yield_now().await; assert_eq!(NUMBER.get(), i) }
            })).collect();
            for task in tasks { task.await.unwrap() }
            assert_eq!(NUMBER.get(), 0);
        });
    }
}

#[test]
fn b12_a_callback_is_not_the_root_that_it_wakes() {
    let event_loop = EventLoop::new().unwrap();
    let runs = Cell::new(0);
    let root = poll_fn(|cx| {
        runs.set(runs.get() + 1);
        if runs.get() == 3 {
            return Poll::Ready(());
        }
        let waker = cx.waker().clone();
        EventLoop::current().call_soon(move || waker.wake());
        Poll::Pending
    });
    event_loop.run_until_complete(root).unwrap();
    assert_eq!(runs.get(), 3);
}
