//! Locks, events, conditions, semaphores and barriers (`epicycle::sync`; asyncio's N55-N63).
//!
//! The order of a line is checked by polling futures by hand, one after the other, on the test's own thread; what must hold
//! between loops is stressed by tasks of all flavours, which are cancelled at random; hops are counted on one loop. Plain
//! threads take part where a test says so. Queues are in `queue.rs`.

mod common;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use common::{
    CountPolls, CountWakes, DropProbe, Flag, Gate, Turns, eventually, eventually_async, panics_with, with_timeout,
};
use epicycle::sync::{
    Barrier, BrokenBarrierError, Condition, Event, Mutex, MutexGuard, OverReleaseError, OwnedMutexGuard,
    OwnedSemaphorePermit, Semaphore, SemaphorePermit,
};
use epicycle::{EventLoop, Runtime, Task, spawn, yield_now};
use futures_lite::future::poll_once;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Polls by hand, with a waker that does nothing.
fn poll<T>(future: &mut Boxed<'_, T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// A future that was polled and waits.
#[track_caller]
fn waiting<'a, T: 'a>(future: impl Future<Output = T> + Send + 'a) -> Boxed<'a, T> {
    let mut future: Boxed<'a, T> = Box::pin(future);
    assert!(poll(&mut future).is_none(), "it has to wait");
    future
}

/// A future that needs one poll.
#[track_caller]
fn now<'a, T: 'a>(future: impl Future<Output = T> + Send + 'a) -> T {
    poll(&mut (Box::pin(future) as Boxed<'a, T>)).expect("it need not wait")
}

/// Numbers that are random enough, and the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Tasks by the dozen, some of which are cancelled at some moment.
async fn with_random_cancels<F: Future<Output = ()> + Send + 'static>(tasks: usize, make: impl Fn(usize) -> F) {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut running: VecDeque<Task<()>> = VecDeque::new();
    for n in 0..tasks {
        running.push_back(spawn(make(n)));
        match dice.below(4) {
            0 => yield_now().await,
            1 => {
                let at = usize::try_from(dice.below(running.len() as u64)).unwrap();
                running.remove(at).unwrap().cancel();
            }
            _ => (),
        }
        if running.len() > 20 {
            // It may be one that waits for others: those go on meanwhile.
            if let Err(error) = running.pop_front().unwrap().await {
                assert!(error.is_cancelled(), "{error}");
            }
        }
    }
    for task in running {
        if let Err(error) = task.await {
            assert!(error.is_cancelled(), "{error}");
        }
    }
}

#[test]
fn all_types_are_send_and_sync_as_what_is_inside() {
    fn both<T: Send + Sync>() {}
    both::<(Mutex<std::cell::Cell<u8>>, Event, Condition, Semaphore, Barrier)>();
    both::<(MutexGuard<'_, u8>, OwnedMutexGuard<u8>, SemaphorePermit<'_>, OwnedSemaphorePermit)>();
    fn send<T: Send>(value: T) -> T {
        value
    }
    let (mutex, event, condition, semaphore, barrier) =
        (Mutex::new(1), Event::new(), Condition::new(), Semaphore::new(9), Barrier::new(1));
    drop(send(mutex.lock()));
    drop(send(event.wait()));
    drop(send(semaphore.acquire_many(2)));
    drop(send(barrier.wait()));
    drop(send(condition.wait(mutex.try_lock().unwrap())));
    drop(send(condition.wait_for(mutex.try_lock().unwrap(), |_| true)));
    let shared: Arc<Mutex<[u8]>> = Arc::new(Mutex::new([1, 2, 3]));
    shared.try_lock().unwrap()[1] = 5;
    assert_eq!(*shared.try_lock_owned().unwrap(), [1, 5, 3]);
}

// -------------------------------------------------------------------------------------------------------- mutex

#[test]
fn n55_the_lock_is_fifo_and_a_newcomer_does_not_barge() {
    let mutex = Mutex::new(0);
    let guard = mutex.try_lock().unwrap();
    let (mut first, mut second) = (waiting(mutex.lock()), waiting(mutex.lock()));
    drop(guard);
    // It is handed over: not free for one moment.
    assert!(mutex.is_locked() && mutex.try_lock().is_none());
    let mut newcomer = waiting(mutex.lock());
    assert!(poll(&mut second).is_none());
    let guard = poll(&mut first).expect("handed over");
    assert!(poll(&mut second).is_none() && poll(&mut newcomer).is_none());
    drop(guard);
    assert!(poll(&mut newcomer).is_none());
    drop(poll(&mut second).expect("handed over"));
    drop(poll(&mut newcomer).expect("handed over"));
    assert!(!mutex.is_locked() && mutex.try_lock().is_some());
}

#[test]
fn n56_a_waiter_that_was_chosen_and_is_dropped_passes_the_lock_on() {
    // bpo-27585, bpo-32734: chosen and dropped, with others in the line or none.
    for others in 0..3 {
        let mutex = Mutex::new(());
        let guard = mutex.try_lock().unwrap();
        let first = waiting(mutex.lock());
        let mut line: Vec<_> = (0..others).map(|_| waiting(mutex.lock())).collect();
        drop(guard);
        drop(first);
        for next in &mut line {
            drop(poll(next).expect("passed on"));
        }
        assert!(mutex.try_lock().is_some(), "free again");
    }
}

#[test]
fn n56_waiters_that_leave_the_line_do_not_disturb_it() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let mut line: Vec<_> = (0..5).map(|_| waiting(mutex.lock())).collect();
    drop(line.remove(4));
    drop(line.remove(2));
    drop(line.remove(0));
    drop(guard);
    for next in &mut line {
        drop(poll(next).expect("handed over"));
    }
    let guard = mutex.try_lock().expect("free");
    drop(waiting(mutex.lock()));
    drop(guard);
    assert!(!mutex.is_locked());
}

#[test]
fn n56_the_one_it_was_passed_to_is_woken() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let (wakes, waker) = CountWakes::new();
    let first = waiting(mutex.lock());
    let mut second = pin!(mutex.lock());
    assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    drop(guard);
    assert_eq!(wakes.count(), 0);
    drop(first);
    assert_eq!(wakes.count(), 1);
}

#[test]
fn a_waiter_that_moves_to_another_task_is_woken_there() {
    let mutex = Mutex::new(());
    let guard = mutex.try_lock().unwrap();
    let (old, old_waker) = CountWakes::new();
    let (new, new_waker) = CountWakes::new();
    let mut lock = pin!(mutex.lock());
    for waker in [&old_waker, &old_waker, &new_waker] {
        assert!(lock.as_mut().poll(&mut Context::from_waker(waker)).is_pending());
    }
    drop(guard);
    assert_eq!((old.count(), new.count()), (0, 1));
    assert_eq!(Arc::strong_count(&old), 2, "the waker that was replaced is gone");
}

#[test]
fn a_guard_that_is_dropped_in_a_panic_unlocks_without_poison() {
    let mutex = Arc::new(Mutex::new(1));
    let theirs = mutex.clone();
    assert!(
        thread::spawn(move || {
            let _guard = theirs.blocking_lock();
            panic!("on purpose")
        })
        .join()
        .is_err()
    );
    assert_eq!(*mutex.try_lock().unwrap(), 1);
    assert_eq!(format!("{mutex:?}"), "Mutex { value: 1 }");
    let guard = mutex.try_lock().unwrap();
    assert_eq!(format!("{guard:?} {guard} {mutex:?}"), "1 1 Mutex { value: <locked> }");
}

/// A waker that uses the primitives it is called by, whenever it is called.
struct Nosy(Box<dyn Fn() + Send + Sync>);

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn c9_no_waker_is_called_or_dropped_under_a_lock() {
    with_timeout(|| {
        let all = Arc::new((Mutex::new(()), Event::new(), Semaphore::new(0), Barrier::new(2)));
        let theirs = all.clone();
        let look = move || {
            drop(theirs.0.try_lock());
            theirs.1.is_set();
            theirs.2.available_permits();
            theirs.3.waiting();
        };
        let waker = || Waker::from(Arc::new(Nosy(Box::new(look.clone()))));
        let guard = all.0.try_lock().unwrap();
        for give_up in [true, false] {
            let mut lock: Boxed<'_, MutexGuard<'_, ()>> = Box::pin(all.0.lock());
            let mut event: Boxed<'_, ()> = Box::pin(all.1.wait());
            let mut permit: Boxed<'_, SemaphorePermit<'_>> = Box::pin(all.2.acquire());
            let mut round: Boxed<'_, _> = Box::pin(all.3.wait());
            for _ in 0..2 {
                assert!(lock.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
                assert!(event.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
                assert!(permit.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
                assert!(round.as_mut().poll(&mut Context::from_waker(&waker())).is_pending());
            }
            if give_up {
                continue;
            }
            all.1.set();
            all.2.add_permits(1).unwrap();
            now(all.3.wait()).unwrap();
            assert!(poll(&mut event).is_some() && poll(&mut permit).is_some() && poll(&mut round).is_some());
        }
        drop(guard);
    });
}

#[test]
fn c9_a_waker_that_panics_keeps_none_of_the_others_asleep() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("on purpose");
        }
    }
    let event = Event::new();
    let (wakes, waker) = CountWakes::new();
    let mut waits: Vec<_> = (0..3).map(|_| Box::pin(event.wait())).collect();
    for (wait, waker) in waits.iter_mut().zip([waker.clone(), Waker::from(Arc::new(Panics)), waker]) {
        assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    event.set();
    assert_eq!(wakes.count(), 2);
}

// -------------------------------------------------------------------------------------------------------- event

#[test]
fn n58_set_lets_all_go_who_wait_even_if_it_is_cleared_at_once() {
    let event = Event::new();
    let mut line: Vec<_> = (0..3).map(|_| waiting(event.wait())).collect();
    event.set();
    event.clear();
    assert!(!event.is_set());
    let late = waiting(event.wait());
    assert!(line.iter_mut().all(|wait| poll(wait).is_some()));
    drop(late);
    event.set();
    event.set();
    now(event.wait());
}

// ---------------------------------------------------------------------------------------------------- condition

#[test]
fn n59_a_wait_that_is_dropped_does_not_lock_again_and_passes_its_notification_on() {
    let (mutex, condition) = (Mutex::new(()), Condition::new());
    // Dropped while it waits: it leaves the line, and the mutex is free.
    let gone = waiting(condition.wait(mutex.try_lock().unwrap()));
    let mut first = waiting(condition.wait(mutex.try_lock().expect("unlocked while it waits")));
    let mut second = waiting(condition.wait(mutex.try_lock().unwrap()));
    let mut third = waiting(condition.wait(mutex.try_lock().unwrap()));
    drop(gone);
    condition.notify(&mutex.try_lock().unwrap(), 1);
    // Dropped after it was notified and before it ran.
    drop(first);
    assert!(poll(&mut third).is_none());
    // Dropped after it ran, while it waited for the mutex.
    let guard = mutex.try_lock().unwrap();
    assert!(poll(&mut second).is_none(), "notified, but the mutex is locked");
    drop(second);
    assert!(poll(&mut third).is_none(), "notified, but the mutex is locked");
    drop(guard);
    drop(poll(&mut third).expect("notified and locked"));
    // Used up: nobody else is notified.
    first = waiting(condition.wait(mutex.try_lock().unwrap()));
    assert!(poll(&mut first).is_none() && mutex.try_lock().is_some());
}

#[test]
fn n59_a_wait_that_is_not_polled_unlocks_when_it_is_dropped() {
    let (mutex, condition) = (Mutex::new(()), Condition::new());
    let wait = condition.wait(mutex.try_lock().unwrap());
    assert!(mutex.try_lock().is_none());
    drop(wait);
    assert!(mutex.try_lock().is_some());
    // And it is no visitor any more.
    let other = Mutex::new(());
    drop(waiting(condition.wait(other.try_lock().unwrap())));
}

#[test]
fn n59_n60_owned_guards_wait_as_well() {
    let (mutex, condition) = (Arc::new(Mutex::new(0)), Condition::new());
    let guard = mutex.clone().try_lock_owned().unwrap();
    let mut wait = waiting(condition.wait_for(guard, |value| *value == 2));
    for value in 1..=2 {
        assert!(poll(&mut wait).is_none());
        let mut guard = mutex.clone().try_lock_owned().unwrap();
        *guard = value;
        condition.notify_all(&guard);
    }
    assert_eq!(*poll(&mut wait).unwrap(), 2);
}

#[test]
fn n60_notify_goes_to_as_many_as_asked_in_the_order_of_arrival() {
    let (mutex, condition) = (Mutex::new(()), Condition::new());
    let mut line: Vec<_> = (0..5).map(|_| waiting(condition.wait(mutex.try_lock().unwrap()))).collect();
    condition.notify(&mutex.try_lock().unwrap(), 2);
    let mut ready = || line.iter_mut().map(|wait| poll(wait).is_some()).collect::<Vec<_>>();
    // The second of the two is handed the mutex by the first, whose guard is dropped.
    assert_eq!(ready(), [true, true, false, false, false]);
    line.drain(..2);
    condition.notify_all(&mutex.try_lock().unwrap());
    assert!(line.iter_mut().all(|wait| poll(wait).is_some()));
    condition.notify(&mutex.try_lock().unwrap(), 7);
}

#[test]
fn n60_wait_for_looks_again_after_each_notification() {
    let (mutex, condition) = (Mutex::new(0), Condition::new());
    let looks = AtomicUsize::new(0);
    let mut wait = waiting(condition.wait_for(mutex.try_lock().unwrap(), |value| {
        looks.fetch_add(1, SeqCst);
        *value >= 2
    }));
    for value in 0..3 {
        assert!(poll(&mut wait).is_none());
        assert_eq!(looks.load(SeqCst), value + 1);
        let mut guard = mutex.try_lock().unwrap();
        *guard = value;
        condition.notify(&guard, 1);
    }
    assert_eq!(*poll(&mut wait).unwrap(), 2);
    drop(now(condition.wait_for(mutex.try_lock().unwrap(), |value| *value == 2)));
}

#[test]
fn n60_a_guard_of_another_mutex_is_refused() {
    let (mutex, other, condition) = (Mutex::new(()), Mutex::new(()), Condition::new());
    let mut wait = waiting(condition.wait(mutex.try_lock().unwrap()));
    panics_with("another Mutex", || condition.notify(&other.try_lock().unwrap(), 1));
    panics_with("another Mutex", || condition.wait(other.try_lock().unwrap()));
    assert!(poll(&mut wait).is_none());
    drop(wait);
    condition.notify(&other.try_lock().unwrap(), 1);
}

// ---------------------------------------------------------------------------------------------------- semaphore

#[test]
fn n61_gh_90155_permits_of_cancelled_waiters_reach_the_next() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let (t1, t2, mut t3) = (waiting(semaphore.acquire()), waiting(semaphore.acquire()), waiting(semaphore.acquire()));
    drop(t1);
    drop(t2);
    drop(permit);
    drop(poll(&mut t3).expect("t3 gets it"));
    assert_eq!(semaphore.available_permits(), 1);
    // The other way round: chosen first, cancelled then.
    let permit = semaphore.try_acquire().unwrap();
    let (t1, t2, mut t3) = (waiting(semaphore.acquire()), waiting(semaphore.acquire()), waiting(semaphore.acquire()));
    drop(permit);
    drop((t1, t2));
    assert!(poll(&mut t3).is_some());
    assert_eq!(semaphore.available_permits(), 1);
}

#[test]
fn n61_who_acquires_again_queues_again() {
    let semaphore = Semaphore::new(1);
    let permit = semaphore.try_acquire().unwrap();
    let mut other = waiting(semaphore.acquire());
    drop(permit);
    assert!(semaphore.is_locked() && semaphore.try_acquire().is_none());
    let mut again = waiting(semaphore.acquire());
    let permit = poll(&mut other).expect("first come, first served");
    assert!(poll(&mut again).is_none());
    drop(permit);
    assert!(poll(&mut again).is_some());
}

#[test]
fn n61_many_at_once_are_not_overtaken_and_let_others_pass_when_they_leave() {
    let semaphore = Semaphore::new(3);
    let permit = semaphore.try_acquire().unwrap();
    let mut many = waiting(semaphore.acquire_many(3));
    let mut one = waiting(semaphore.acquire());
    assert!(semaphore.try_acquire().is_none() && semaphore.available_permits() == 2);
    drop(permit);
    assert!(poll(&mut one).is_none());
    let permits = poll(&mut many).unwrap();
    assert_eq!(permits.count(), 3);
    drop(permits);
    drop(poll(&mut one).unwrap());
    // The first gives up: the one behind it wants less than there is.
    let permit = semaphore.try_acquire().unwrap();
    let many = waiting(semaphore.acquire_many(3));
    let mut one = waiting(semaphore.acquire());
    drop(many);
    assert!(poll(&mut one).is_some());
    drop(permit);
    // Several at a time are handed out.
    let all = semaphore.try_acquire_many(3).unwrap();
    let mut line: Vec<_> = (0..3).map(|_| waiting(semaphore.acquire())).collect();
    drop(all);
    assert!(line.iter_mut().all(|wait| poll(wait).is_some()));
    assert_eq!((semaphore.available_permits(), now(semaphore.acquire_many(0)).count()), (3, 0));
}

#[test]
fn n62_more_than_the_bound_cannot_be_released() {
    let semaphore = Semaphore::bounded(2);
    assert_eq!(semaphore.add_permits(1).unwrap_err().to_string(), "BoundedSemaphore released too many times");
    // A held permit counts, too: it comes back.
    let permit = semaphore.try_acquire().unwrap();
    assert!(semaphore.add_permits(1).is_err());
    permit.forget();
    assert_eq!((semaphore.add_permits(1), semaphore.add_permits(1).is_err()), (Ok(()), true));
    assert_eq!(semaphore.available_permits(), 2);
    panics_with("would never come", || semaphore.acquire_many(3));
    // Without a bound there is the machine's.
    let semaphore = Semaphore::new(0);
    let mut wait = waiting(semaphore.acquire());
    assert_eq!(semaphore.add_permits(5), Ok(()));
    assert!(poll(&mut wait).is_some());
    let error: Result<(), OverReleaseError> = semaphore.add_permits(usize::MAX);
    assert!(error.is_err() && semaphore.available_permits() == 5);
}

// ------------------------------------------------------------------------------------------------------ barrier

#[test]
fn n63_the_last_arrival_lets_all_go_with_distinct_positions() {
    let barrier = Barrier::new(3);
    for _ in 0..3 {
        let (mut first, mut second) = (waiting(barrier.wait()), waiting(barrier.wait()));
        assert_eq!(barrier.waiting(), 2);
        assert_eq!(now(barrier.wait()), Ok(2));
        assert_eq!((poll(&mut second), poll(&mut first)), (Some(Ok(1)), Some(Ok(0))));
        assert_eq!(barrier.waiting(), 0);
    }
    panics_with("at least one party", || Barrier::new(0));
}

#[test]
fn n63_who_gives_up_is_not_counted() {
    let barrier = Barrier::new(3);
    let gone = waiting(barrier.wait());
    let mut first = waiting(barrier.wait());
    drop(gone);
    let mut second = waiting(barrier.wait());
    assert_eq!(now(barrier.wait()), Ok(2));
    assert_eq!((poll(&mut first), poll(&mut second)), (Some(Ok(0)), Some(Ok(1))));
}

#[test]
fn n63_late_comers_wait_until_the_round_before_has_left() {
    let barrier = Barrier::new(2);
    let mut slow = waiting(barrier.wait());
    assert_eq!(now(barrier.wait()), Ok(1));
    let (mut next, mut other, mut third) = (waiting(barrier.wait()), waiting(barrier.wait()), waiting(barrier.wait()));
    assert_eq!(barrier.waiting(), 0, "the last round leaves");
    assert!(poll(&mut next).is_none());
    assert_eq!(poll(&mut slow), Some(Ok(0)));
    assert_eq!((poll(&mut other), poll(&mut next)), (Some(Ok(1)), Some(Ok(0))));
    assert!(poll(&mut third).is_none());
    assert_eq!(barrier.waiting(), 1);
    // One that was let go and is dropped has left, too: the next round, complete meanwhile, goes.
    assert_eq!(now(barrier.wait()), Ok(1));
    let (mut next, mut other) = (waiting(barrier.wait()), waiting(barrier.wait()));
    drop(third);
    assert_eq!((poll(&mut next), poll(&mut other)), (Some(Ok(0)), Some(Ok(1))));
}

#[test]
fn n63_reset_and_abort_break_those_who_wait() {
    let broken = |result: Option<Result<usize, BrokenBarrierError>>| result.expect("done").is_err();
    let barrier = Barrier::new(3);
    let mut line = [waiting(barrier.wait()), waiting(barrier.wait())];
    barrier.reset();
    assert!(line.iter_mut().all(|wait| broken(poll(wait))) && !barrier.is_broken());
    let mut line = [waiting(barrier.wait()), waiting(barrier.wait())];
    barrier.abort();
    assert!(barrier.is_broken() && now(barrier.wait()).is_err());
    assert!(line.iter_mut().all(|wait| broken(poll(wait))));
    barrier.reset();
    let mut line = [waiting(barrier.wait()), waiting(barrier.wait())];
    assert_eq!(now(barrier.wait()), Ok(2));
    // Who was let go is not called back.
    barrier.abort();
    assert!(line.iter_mut().all(|wait| !broken(poll(wait))));
}

// ------------------------------------------------------------------------------------------- hops, on one loop

/// Runs each body twice: on a loop of its own, and on the only loop of a runtime; with a count of its turns.
macro_rules! one_loop {
    ($(async fn $name:ident($event_loop:ident, $turns:ident) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn body($event_loop: EventLoop) {
                let $turns = Turns::start(&$event_loop);
                yield_now().await;
                yield_now().await;
                $body
            }

            #[test]
            fn alone() {
                with_timeout(|| {
                    let event_loop = EventLoop::new().unwrap();
                    event_loop.run_until_complete(body(event_loop.clone())).unwrap();
                    event_loop.close();
                });
            }

            #[test]
            fn runtime() {
                with_timeout(|| {
                    let rt = Runtime::builder().worker_threads(1).build().unwrap();
                    rt.block_on(async { body(EventLoop::current()).await });
                });
            }
        }
    )+};
}

async fn turns_of<T>(turns: &Turns, work: impl Future<Output = T>) -> (usize, T) {
    let before = turns.count();
    let value = work.await;
    (turns.count() - before, value)
}

one_loop! {
    async fn c05_hops_what_is_free_takes_no_turn(_event_loop, turns) {
        let (mutex, semaphore, event, barrier) = (Mutex::new(()), Semaphore::new(2), Event::new(), Barrier::new(1));
        event.set();
        let work = async {
            drop(mutex.lock().await);
            drop(semaphore.acquire_many(2).await);
            event.wait().await;
            barrier.wait().await.unwrap();
        };
        assert_eq!(turns_of(&turns, work).await.0, 0);
    }

    async fn c05_hops_an_event_that_a_callback_sets_takes_two(event_loop, turns) {
        for _ in 0..5 {
            let event = Arc::new(Event::new());
            let theirs = event.clone();
            event_loop.call_soon(move || theirs.set());
            assert_eq!(turns_of(&turns, event.wait()).await.0, 2);
        }
    }

    async fn c05_hops_a_lock_hand_off_takes_two(event_loop, turns) {
        for _ in 0..5 {
            let mutex = Arc::new(Mutex::new(()));
            let guard = mutex.clone().try_lock_owned().unwrap();
            event_loop.call_soon(move || drop(guard));
            assert_eq!(turns_of(&turns, mutex.lock()).await.0, 2);
            let semaphore = Arc::new(Semaphore::new(1));
            let permit = semaphore.clone().try_acquire_owned().unwrap();
            event_loop.call_soon(move || drop(permit));
            assert_eq!(turns_of(&turns, semaphore.acquire()).await.0, 2);
        }
    }

    async fn n55_n61_pinned_tasks_are_served_in_the_order_of_their_arrival(event_loop, _turns) {
        let (mutex, semaphore) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(1)));
        let tasks: Vec<_> = (0..10).map(|n| {
            let (mutex, semaphore) = (mutex.clone(), semaphore.clone());
            event_loop.spawn_local(async move {
                let mut order = mutex.lock().await;
                yield_now().await;
                order.push(n);
                drop(order);
                let permit = semaphore.acquire().await;
                yield_now().await;
                mutex.lock().await.push(10 + n);
                drop(permit);
            })
        }).collect();
        for task in tasks { task.await.unwrap() }
        let order = mutex.lock().await;
        let (locked, acquired): (Vec<i32>, Vec<i32>) = order.iter().partition(|n| **n < 10);
        assert!(locked.is_sorted() && acquired.is_sorted(), "{order:?}");
    }

    async fn c11_a_task_that_always_finds_the_lock_free_lets_others_run(event_loop, _turns) {
        let (mutex, stop) = (Mutex::new(()), Flag::new());
        let stopper = stop.clone();
        let task = event_loop.spawn_local(async move { stopper.set() });
        while !stop.is_set() { drop(mutex.lock().await) }
        task.await.unwrap();
    }
}

// ------------------------------------------------------------------------------------------------ between loops

common::flavours! {
    fn n55_tasks_of_all_loops_stand_in_one_line(rt: Runtime) {
        rt.block_on(async {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let guard = mutex.clone().lock_owned().await;
            let mut tasks = Vec::new();
            for n in 0..30 {
                let mutex = mutex.clone();
                let (lock, polls) = CountPolls::new(mutex.lock_owned());
                tasks.push(spawn(async move { lock.await.push(n) }));
                eventually_async("it waits", || polls.load(SeqCst) > 0).await;
            }
            drop(guard);
            for task in tasks { task.await.unwrap() }
            assert!(mutex.lock().await.iter().copied().eq(0..30));
        });
    }

    fn n55_n56_one_at_a_time_whatever_is_cancelled(rt: Runtime) {
        let (mutex, inside, locks) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        rt.block_on(with_random_cancels(800, |_| {
            let (mutex, inside, locks) = (mutex.clone(), inside.clone(), locks.clone());
            async move {
                let mut count = mutex.lock().await;
                assert!(!inside.swap(true, SeqCst), "two at a time");
                locks.fetch_add(1, SeqCst);
                *count += 1;
                let inside = common::OnDrop(move || inside.store(false, SeqCst));
                yield_now().await;
                drop(inside);
                drop(count);
                // A wait that is given up after one poll, chosen or not.
                drop(poll_once(mutex.lock()).await);
            }
        }));
        eventually("free again", || !mutex.is_locked());
        assert_eq!(*mutex.try_lock().unwrap(), locks.load(SeqCst));
    }

    fn n61_no_permit_is_lost_or_made_whatever_is_cancelled(rt: Runtime) {
        let (semaphore, held) = (Arc::new(Semaphore::bounded(3)), Arc::new(AtomicUsize::new(0)));
        rt.block_on(with_random_cancels(800, |n| {
            let (semaphore, held) = (semaphore.clone(), held.clone());
            async move {
                let permits = semaphore.clone().acquire_many_owned(1 + n % 3).await;
                let count = permits.count();
                assert!(held.fetch_add(count, SeqCst) + count <= 3, "more than there are");
                let held = common::OnDrop(move || { held.fetch_sub(count, SeqCst); });
                yield_now().await;
                drop(held);
                drop(permits);
                drop(poll_once(semaphore.acquire_many(n % 4)).await);
            }
        }));
        eventually("all come back", || semaphore.available_permits() == 3);
    }

    fn n58_everybody_hears_of_an_event(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..50 {
                let event = Arc::new(Event::new());
                let tasks: Vec<_> = (0..8).map(|_| { let event = event.clone(); spawn(async move { event.wait().await }) }).collect();
                yield_now().await;
                event.set();
                for task in tasks { task.await.unwrap() }
            }
        });
    }

    fn n59_n60_no_notification_is_lost_whatever_is_cancelled(rt: Runtime) {
        // A ticket for each notification; whoever is notified takes one, and who is cancelled leaves it to others.
        rt.block_on(async {
            let shared = Arc::new((Mutex::new(0), Condition::new()));
            let taker = |shared: Arc<(Mutex<usize>, Condition)>| async move {
                let mut tickets = shared.1.wait_for(shared.0.lock().await, |tickets| *tickets > 0).await;
                *tickets -= 1;
            };
            let mut dice = Dice(12345);
            for _ in 0..100 {
                let tasks: Vec<_> = (0..8).map(|_| spawn(taker(shared.clone()))).collect();
                yield_now().await;
                let (cancelled, served) = tasks.split_at(4);
                for _ in 0..served.len() {
                    let mut tickets = shared.0.lock().await;
                    *tickets += 1;
                    shared.1.notify(&tickets, 1);
                    drop(tickets);
                    if dice.below(2) == 0 { cancelled[usize::try_from(dice.below(4)).unwrap()].cancel(); }
                }
                for task in cancelled { task.cancel(); }
                // Some who were cancelled too late have taken a ticket. So there is a new one whenever there is none; but if there is
                // one and its notification was lost, nobody comes for it.
                let refill = async {
                    loop {
                        epicycle::time::sleep(Duration::from_millis(100)).await;
                        let mut tickets = shared.0.lock().await;
                        if *tickets == 0 { *tickets = 1; shared.1.notify(&tickets, 1) }
                    }
                };
                let all = async { let mut taken = 0; for task in tasks { taken += usize::from(task.await.is_ok()) } taken };
                let taken: usize = futures_lite::future::or(all, refill).await;
                assert!(taken >= 4);
                *shared.0.lock().await = 0;
            }
        });
    }

    fn n63_rounds_keep_together(rt: Runtime) {
        rt.block_on(async {
            let (barrier, round) = (Arc::new(Barrier::new(5)), Arc::new(AtomicUsize::new(0)));
            let tasks: Vec<_> = (0..5).map(|_| {
                let (barrier, round) = (barrier.clone(), round.clone());
                spawn(async move {
                    let mut positions = Vec::new();
                    for n in 0..100 {
                        assert_eq!(round.load(SeqCst) / 5, n, "nobody is ahead or behind");
                        positions.push(barrier.wait().await.unwrap());
                        round.fetch_add(1, SeqCst);
                        barrier.wait().await.unwrap();
                    }
                    positions
                })
            }).collect();
            let mut sums = [0; 100];
            for task in tasks {
                for (sum, position) in sums.iter_mut().zip(task.await.unwrap()) { *sum += 1 << (4 * position) }
            }
            assert_eq!(sums, [0x11111; 100], "each position once a round");
        });
    }

    fn threads_and_tasks_stand_in_the_same_line(rt: Runtime) {
        let (mutex, semaphore, barrier) = (Arc::new(Mutex::new(0)), Arc::new(Semaphore::new(1)), Arc::new(Barrier::new(4)));
        let threads: Vec<_> = (0..2).map(|_| {
            let (mutex, semaphore, barrier) = (mutex.clone(), semaphore.clone(), barrier.clone());
            thread::spawn(move || {
                for _ in 0..100 {
                    barrier.blocking_wait().unwrap();
                    *mutex.blocking_lock() += 1;
                    drop(semaphore.blocking_acquire());
                    drop(semaphore.clone().blocking_acquire_owned());
                    let _permits = semaphore.blocking_acquire_many(1);
                    *mutex.clone().blocking_lock_owned() += 1;
                }
            })
        }).collect();
        rt.block_on(async {
            let tasks: Vec<_> = (0..2).map(|_| {
                let (mutex, semaphore, barrier) = (mutex.clone(), semaphore.clone(), barrier.clone());
                spawn(async move {
                    for _ in 0..100 {
                        barrier.wait().await.unwrap();
                        *mutex.lock().await += 1;
                        let _permit = semaphore.acquire().await;
                        yield_now().await;
                        *mutex.lock().await += 1;
                    }
                })
            }).collect();
            for task in tasks { task.await.unwrap() }
        });
        for thread in threads { thread.join().unwrap() }
        assert_eq!(*mutex.blocking_lock(), 800);
    }

    fn a_thread_waits_for_a_condition_and_an_event(rt: Runtime) {
        let shared = Arc::new((Mutex::new(0), Condition::new(), Event::new()));
        let theirs = shared.clone();
        let thread = thread::spawn(move || {
            let (count, changed, go) = &*theirs;
            go.blocking_wait();
            let mut guard = count.blocking_lock();
            while *guard < 1 { guard = changed.blocking_wait(guard) }
            *changed.blocking_wait_for(guard, |count| *count == 2) = 3;
        });
        rt.block_on(async {
            let (count, changed, go) = &*shared;
            go.set();
            for n in 1..=2 {
                let mut guard = count.lock().await;
                *guard = n;
                changed.notify_all(&guard);
                drop(guard);
                yield_now().await;
            }
        });
        thread.join().unwrap();
        assert_eq!(*shared.0.blocking_lock(), 3);
    }

    fn a_blocking_call_on_a_loops_thread_says_what_to_do_instead(rt: Runtime) {
        rt.block_on(async {
            let (mutex, condition, other) = (Arc::new(Mutex::new(())), Condition::new(), Mutex::new(()));
            panics_with("use `lock().await` here", || drop(mutex.blocking_lock()));
            panics_with("`lock_owned().await`", || drop(mutex.clone().blocking_lock_owned()));
            panics_with("`wait().await`", || Event::new().blocking_wait());
            panics_with("`acquire().await`", || drop(Semaphore::new(1).blocking_acquire()));
            panics_with("`acquire_many(..).await`", || drop(Semaphore::new(2).blocking_acquire_many(2)));
            panics_with("`acquire_owned().await`", || drop(Arc::new(Semaphore::new(1)).blocking_acquire_owned()));
            panics_with("`wait().await`", || Barrier::new(1).blocking_wait());
            panics_with("`wait(guard).await`", || drop(condition.blocking_wait(other.try_lock().unwrap())));
            panics_with("`wait_for(..).await`", || drop(condition.blocking_wait_for(other.try_lock().unwrap(), |()| true)));
            // In a task and in a callback, too, but not in a job.
            let theirs = mutex.clone();
            assert!(spawn(async move { drop(theirs.blocking_lock()) }).await.unwrap_err().is_panic());
            let theirs = mutex.clone();
            epicycle::run_in_executor(move || for _ in 0..1000 { drop(theirs.blocking_lock()) }).await.unwrap();
            assert!(mutex.try_lock().is_some());
        });
    }

    fn c8_what_a_task_holds_is_given_back_when_it_is_cancelled(rt: Runtime) {
        rt.block_on(async {
            let (mutex, semaphore) = (Arc::new(Mutex::new(())), Arc::new(Semaphore::new(2)));
            let (theirs, permits, probe) = (mutex.clone(), semaphore.clone(), DropProbe::new());
            let drops = probe.guard();
            let task = spawn(async move {
                let _guards = (theirs.lock().await, permits.acquire_many(2).await, drops);
                std::future::pending::<()>().await;
            });
            eventually_async("it holds them", || semaphore.available_permits() == 0).await;
            task.cancel();
            drop(mutex.lock().await);
            drop(semaphore.acquire_many(2).await);
            eventually_async("all is dropped", || probe.count() == 1).await;
        });
    }

    fn c10_a_runtime_that_ends_hands_on_what_its_tasks_had(rt: Runtime) {
        let (mutex, gate) = (Arc::new(Mutex::new(())), Gate::new());
        let other = Runtime::builder().worker_threads(2).build().unwrap();
        let holders: Vec<_> = (0..4).map(|_| {
            let mutex = mutex.clone();
            rt.spawn(async move { let _guard = mutex.lock().await; std::future::pending::<()>().await })
        }).collect();
        rt.block_on(eventually_async("one has it", || mutex.is_locked()));
        let (theirs, opened) = (mutex.clone(), gate.clone());
        let waiter = other.spawn(async move { drop(theirs.lock().await); opened.open() });
        drop(rt);
        gate.wait();
        drop(holders);
        other.block_on(waiter).unwrap();
    }
}
