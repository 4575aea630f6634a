//! What reviews with fresh eyes broke in readers, in the order of posts, and in what is kept for a while: one test for each finding.
//!
//! Each counts events. `rNN` goes on from `regressions.rs`.

mod common;

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io::{PipeReader, Read, Write, pipe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use common::{Flag, Gate, with_timeout};
use epicycle::time::{Sleep, sleep};
use epicycle::{EventLoop, Runtime, RuntimeHandle, spawn, yield_now};

const MS: Duration = Duration::from_millis(1);

fn is_readable(pipe: &PipeReader) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut descriptors = [PollFd::new(pipe, PollFlags::IN)];
    poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() > 0
}

/// Feeds a reader of this loop byte by byte, which takes `pause` and then one byte; returns how often it found none.
async fn idle_calls(bytes: usize, pause: Duration) -> usize {
    let (reader, mut writer) = pipe().unwrap();
    let reader = Rc::new(reader);
    let (taken, idle) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (own, own_taken, own_idle) = (reader.clone(), taken.clone(), idle.clone());
    let callback = move || {
        if !is_readable(&own) {
            return own_idle.set(own_idle.get() + 1);
        }
        let began = Instant::now();
        while began.elapsed() < pause {}
        (&*own).read_exact(&mut [0]).unwrap();
        own_taken.set(own_taken.get() + 1);
    };
    EventLoop::current().add_reader(&*reader, callback).unwrap();
    for n in 1..=bytes {
        writer.write_all(b"x").unwrap();
        while taken.get() < n {
            sleep(MS).await;
        }
        sleep(MS).await;
    }
    assert!(EventLoop::current().remove_reader(&*reader));
    idle.get()
}

#[test]
fn s3_27_r39_a_guests_reader_is_called_only_if_there_is_something_to_read() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        let (leave, drives) = (Flag::new(), Gate::new());
        let (handle, left, entered) = (rt.handle(), leave.clone(), drives.clone());
        let driver = thread::spawn(move || {
            handle.block_on(async move {
                entered.open();
                left.wait().await
            })
        });
        drives.wait();
        assert_eq!(rt.block_on(idle_calls(50, Duration::ZERO)), 0);
        leave.set();
        driver.join().unwrap();
    });
}

#[test]
fn s3_27_r39_a_slow_reader_beside_an_idle_loop_is_called_only_if_there_is_something_to_read() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(2).build().unwrap();
        let idle = rt.block_on(idle_calls(30, 3 * MS));
        // A look of the idle loop that began before the call and ends after it cannot be told from a later one.
        assert!(idle <= 3, "{idle} of 30 calls had nothing to read");
    });
}

#[test]
fn s3_26_r40_a_reader_that_replaces_another_does_not_inherit_its_event() {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let [(first, mut to_first), (second, mut to_second)] = [pipe().unwrap(), pipe().unwrap()];
        let (first, second, idle) = (Rc::new(first), Rc::new(second), Rc::new(Cell::new(0)));
        event_loop.add_reader(&*second, || ()).unwrap();
        let (inner, read, replaced, count) = (event_loop.clone(), first.clone(), second.clone(), idle.clone());
        let callback = move || {
            (&*read).read_exact(&mut [0]).unwrap();
            if is_readable(&replaced) {
                (&*replaced).read_exact(&mut [0]).unwrap();
            }
            let (pipe, count) = (replaced.clone(), count.clone());
            let next = move || count.set(count.get() + usize::from(!is_readable(&pipe)));
            inner.add_reader(&*replaced, next).unwrap();
        };
        event_loop.add_reader(&*first, callback).unwrap();
        to_first.write_all(b"x").unwrap();
        to_second.write_all(b"x").unwrap();
        (0..5).for_each(|_| event_loop.run_once(Some(MS)));
        assert_eq!(idle.get(), 0);
        assert!(event_loop.remove_reader(&*first) && event_loop.remove_reader(&*second));
    });
}

type Order = Arc<Mutex<Vec<&'static str>>>;

fn one_loop() -> (Runtime, RuntimeHandle, Order) {
    let rt = Runtime::builder().worker_threads(1).build().unwrap();
    let handle = rt.handle();
    (rt, handle, Order::default())
}

fn note(order: &Order, what: &'static str) -> impl FnOnce() + Send + 'static + use<> {
    let order = order.clone();
    move || order.lock().unwrap().push(what)
}

#[test]
fn c05_r41_with_one_loop_a_post_stays_before_what_is_spawned_after_it() {
    with_timeout(|| {
        let (rt, handle, order) = one_loop();
        let (post, global) = (note(&order, "post"), note(&order, "global post"));
        let (spawned, soon) = (note(&order, "spawn"), note(&order, "soon"));
        rt.block_on(async move {
            let posting = thread::spawn(move || {
                handle.loops()[0].call_soon_threadsafe(post);
                handle.call_soon_threadsafe(global);
            });
            posting.join().unwrap();
            let task = spawn(async move { spawned() });
            EventLoop::current().call_soon(soon);
            task.await.unwrap();
            yield_now().await;
        });
        assert_eq!(*order.lock().unwrap(), ["post", "global post", "spawn", "soon"]);
    });
}

#[test]
fn c05_r41_with_one_loop_a_post_stays_before_a_task_that_yields_after_it() {
    with_timeout(|| {
        let (rt, handle, order) = one_loop();
        let (post, yielded) = (note(&order, "post"), note(&order, "yielded"));
        rt.block_on(async move {
            let task = spawn(async move {
                thread::spawn(move || handle.loops()[0].call_soon_threadsafe(post)).join().unwrap();
                yield_now().await;
                yielded();
            });
            task.await.unwrap();
        });
        assert_eq!(*order.lock().unwrap(), ["post", "yielded"]);
    });
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !thread::panicking() {
            panic!("a destructor of the user's");
        }
    }
}

async fn polled_once(mut sleep: Pin<Box<Sleep>>) -> Pin<Box<Sleep>> {
    let pending = poll_fn(|cx| Poll::Ready(sleep.as_mut().poll(cx).is_pending())).await;
    assert!(pending);
    sleep
}

/// The timer's waker is the last that holds another runtime: its end is user code, and is not put off to the end of the turn.
#[test]
fn c09_r42_a_timer_kept_for_the_next_one_ends_no_other_runtime() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        let bomb = Bomb;
        let other = Runtime::builder().worker_threads(2).exception_handler(move |_| _ = &bomb).build().unwrap();
        let done = rt.block_on(async move {
            let sleep = polled_once(Box::pin(sleep(Duration::from_secs(100)))).await;
            let sleep = other.spawn(polled_once(sleep)).await.unwrap();
            thread::spawn(move || drop(other)).join().unwrap();
            let dropping = spawn(async move { drop(sleep) });
            let panicked = dropping.await.is_err();
            yield_now().await;
            panicked
        });
        assert!(done, "the panic is that of the task which dropped the timer");
    });
}
