//! Who gives up the handle of a callback, where and when: the callback runs once and is dropped once in any case (behaviours 2, 30;
//! C7, C8).

mod common;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use common::{DropProbe, OnDrop, eventually_async};
use epicycle::task::Handle;
use epicycle::time::sleep;
use epicycle::{EventLoop, Runtime, spawn_local, yield_now};

const MS: Duration = Duration::from_millis(1);

/// Counts its runs and its drops.
#[derive(Clone, Default)]
struct Count(Arc<(AtomicUsize, DropProbe)>);

impl Count {
    fn callback(&self) -> impl FnOnce() + Send + 'static + use<> {
        let (count, guard) = (self.clone(), self.0.1.guard());
        move || {
            let _guard = guard;
            count.0.0.fetch_add(1, SeqCst);
        }
    }

    fn runs(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    fn drops(&self) -> usize {
        self.0.1.count()
    }
}

common::flavours! {
    fn c07_handles_given_up_at_once_later_elsewhere_or_never(rt: Runtime) {
        rt.block_on(async {
            let (count, event_loop) = (Count::default(), EventLoop::current());
            let (send, receive) = mpsc::channel::<Handle>();
            let elsewhere = thread::spawn(move || receive.into_iter().map(drop).count());
            let mut kept = Vec::new();
            for i in 0..4000 {
                let handle = event_loop.call_soon(count.callback());
                match i % 4 {
                    0 => drop(handle),
                    1 => kept.push(handle),
                    // While it is queued, or runs, or has run.
                    2 => send.send(handle).unwrap(),
                    _ => std::mem::forget(handle),
                }
                if i % 100 == 0 { yield_now().await }
            }
            drop(send);
            eventually_async("all have run", || count.runs() == 4000).await;
            drop(kept);
            assert_eq!(elsewhere.join().unwrap(), 1000);
            assert_eq!((count.runs(), count.drops()), (4000, 4000));
        });
    }

    fn c07_a_callback_may_own_its_handle(rt: Runtime) {
        rt.block_on(async {
            let event_loop = EventLoop::current();
            let ran = Rc::new(Cell::new(0));
            for i in 0..30 {
                let slot = Rc::new(RefCell::new(None::<Handle>));
                let (own, ran) = (slot.clone(), ran.clone());
                let handle = event_loop.call_soon(move || {
                    ran.set(ran.get() + 1);
                    if i % 3 == 0 { assert!(!own.borrow().as_ref().unwrap().cancel(), "it runs") }
                    // Given up while it runs; else by its destructor.
                    if i % 3 == 1 { drop(own.take()) }
                });
                *slot.borrow_mut() = Some(handle);
            }
            for _ in 0..100 { yield_now().await }
            assert_eq!(ran.get(), 30);
        });
    }

    fn c07_handles_given_up_by_other_callbacks(rt: Runtime) {
        rt.block_on(async {
            let (count, event_loop) = (Count::default(), EventLoop::current());
            for _ in 0..50 {
                let later = Rc::new(RefCell::new(Vec::new()));
                let given = later.clone();
                drop(event_loop.call_soon(move || drop(given.take())));
                for _ in 0..5 { let handle = event_loop.call_soon(count.callback()); later.borrow_mut().push(handle) }
                let cancelled = event_loop.call_soon(count.callback());
                assert!(cancelled.cancel() && cancelled.cancelled());
                drop(cancelled);
                yield_now().await;
            }
            for _ in 0..100 { yield_now().await }
            assert_eq!((count.runs(), count.drops()), (250, 300));
        });
    }

    fn c07_timed_handles_given_up_around_their_time(rt: Runtime) {
        rt.block_on(async {
            let (count, event_loop) = (Count::default(), EventLoop::current());
            let mut handles = Vec::new();
            for i in 0..400 {
                handles.push(event_loop.call_later(MS / 20 * (i % 20), count.callback()));
                if i % 3 == 0 { handles.swap_remove(i as usize % handles.len()); }
                if i % 10 == 0 { sleep(MS / 10).await }
            }
            eventually_async("all have run", || count.runs() == 400).await;
            drop(handles);
            assert_eq!(count.drops(), 400);
            // Cancelled as they become due.
            let (late, mut in_time) = (Count::default(), 0);
            for i in 0..400 {
                let handle = event_loop.call_later(MS / 40 * (i % 8), late.callback());
                if i % 5 == 0 { sleep(MS / 20 * (i % 4)).await }
                in_time += usize::from(handle.cancel());
            }
            sleep(5 * MS).await;
            eventually_async("each has run or was cancelled", || late.runs() + in_time == 400).await;
            assert_eq!(late.drops(), 400);
        });
    }

    fn c07_posted_handles_given_up_on_the_loop_that_they_are_posted_to(rt: Runtime) {
        rt.block_on(async {
            let count = Count::default();
            let (send, receive) = mpsc::channel::<Handle>();
            let (poster, posted) = (EventLoop::current().handle(), count.clone());
            let posting = thread::spawn(move || {
                for i in 0..2000 {
                    let handle = poster.call_soon_threadsafe(posted.callback());
                    // From the loop's own thread, which gives it up there.
                    if i % 2 == 0 { drop(handle) } else { send.send(handle).unwrap() }
                }
            });
            while !posting.is_finished() { receive.try_iter().for_each(drop); yield_now().await }
            posting.join().unwrap();
            let own = EventLoop::current().handle();
            for _ in 0..100 { drop(own.call_soon_threadsafe(count.callback())) }
            receive.try_iter().for_each(drop);
            eventually_async("all have run", || count.runs() == 2100).await;
            assert_eq!(count.drops(), 2100);
        });
    }

    fn b30_handles_that_outlive_their_loops_drivers(rt: Runtime) {
        let count = Count::default();
        let handles: Arc<Mutex<Vec<Handle>>> = Arc::default();
        // Unrun when block_on ends: cancelled and dropped with the driver.
        rt.block_on(async {
            let event_loop = EventLoop::current();
            let (count, kept) = (count.clone(), handles.clone());
            let inner = count.clone();
            // A destructor that queues, while what is pinned is dropped.
            let at_the_end = OnDrop(move || {
                let event_loop = EventLoop::try_current();
                if let Some(event_loop) = event_loop { kept.lock().unwrap().push(event_loop.call_soon(inner.callback())) }
            });
            spawn_local(common::pending_with(at_the_end));
            yield_now().await;
            for _ in 0..10 { handles.lock().unwrap().push(event_loop.call_soon(count.callback())) }
        });
        let unrun = handles.lock().unwrap().iter().filter(|handle| handle.cancelled()).count();
        assert_eq!(count.runs() + unrun, handles.lock().unwrap().len());
        assert_eq!(count.drops(), handles.lock().unwrap().len());
        // Given up by the next driver, on another thread.
        thread::scope(|scope| {
            scope.spawn(|| rt.block_on(async { handles.lock().unwrap().clear(); yield_now().await })).join().unwrap();
        });
        assert_eq!(count.runs() + unrun, count.drops());
    }
}

#[test]
fn c07_a_standalone_loops_handles() {
    let event_loop = EventLoop::new().unwrap();
    let count = Count::default();
    // Before it runs it is no loop of this thread's; while it runs it is.
    drop(event_loop.call_soon(count.callback()));
    let kept = event_loop.call_soon(count.callback());
    event_loop
        .run_until_complete(async {
            yield_now().await;
            drop(kept);
            yield_now().await
        })
        .unwrap();
    assert_eq!((count.runs(), count.drops()), (2, 2));
    let unrun = event_loop.call_soon(count.callback());
    event_loop.close();
    assert!(unrun.cancelled());
    drop(unrun);
    assert_eq!((count.runs(), count.drops()), (2, 3));
}
