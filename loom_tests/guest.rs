//! A runtime of one loop: guests about to sleep against the driver that gives the loop up.
//!
//! *Property.* At most one drives at a time; a guest finds the loop vacant or is woken when it becomes so, also if another took
//! it in between and has left again: none sleeps for ever while the loop is vacant. A guest that drives the loop sleeps in that
//! loop's selector, and is woken by posts to either.
//! *Threads.* A driver, one or two guests. A guest that sleeps is one whose thread has ended; if it was unparked, it goes on at
//! the end. *Bound.* Two preemptions.
//! *Seeded bugs.* The leaver wakes the guests before it gives the loop up; the guest looks before it publishes itself; only
//! one guest is woken, though it may have ended meanwhile; a driving guest is not woken in its selector.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize as StdUsize, Ordering::Relaxed};

use loom::sync::Arc;
use loom::thread;

use super::support::{Home, Hub, Tally, check, new_task};
use crate::event_loop::Remote;
use crate::event_loop::park::Seen;
use crate::primitive::BiasedArc;
use crate::scheduler::tenancy::{Queue, Tenancy};
use crate::task::{Kind, Observer, Once, ReadyHandle, spawn_cell};

struct Runtime {
    tenancy: Tenancy,
    /// How many drive; no part of the model.
    drivers: StdUsize,
}

struct Guest {
    remote: BiasedArc<Remote>,
    is_done: bool,
}

impl Runtime {
    /// The loop is driven by the caller.
    fn new() -> (Arc<Self>, Queue) {
        let this = Arc::new(Self { tenancy: Tenancy::new(None), drivers: StdUsize::new(0) });
        let queue = this.claim().expect("vacant");
        (this, queue)
    }

    /// `Tenancy::claim`, counted.
    fn claim(&self) -> Option<Queue> {
        let queue = self.tenancy.claim()?;
        assert_eq!(self.drivers.fetch_add(1, Relaxed), 0, "two drive");
        Some(queue)
    }

    /// The end of `leave_loop_0`.
    fn release(&self, queue: Queue) {
        self.drivers.fetch_sub(1, Relaxed);
        self.tenancy.release(queue);
    }
}

impl Guest {
    /// The beginning of `visit`.
    fn arrive(runtime: &Runtime) -> Self {
        let remote = Remote::new_guest(None, Observer::default()).expect("a selector");
        runtime.tenancy.add_guest(remote.clone());
        Self { remote, is_done: false }
    }

    /// `visit`'s loop: drives until its root is done, which is at once, or sleeps as `sleep_as_guest` does.
    fn visit(&mut self, runtime: &Runtime) {
        loop {
            if let Some(queue) = runtime.claim() {
                thread::yield_now();
                runtime.release(queue);
                runtime.tenancy.remove_guest(&self.remote);
                self.is_done = true;
                return;
            }
            self.remote.parker().publish();
            let may_drive = runtime.tenancy.is_free();
            if !may_drive {
                return;
            }
            self.remote.parker().retract();
        }
    }

    /// Goes on if it was unparked; true if so.
    fn wake(&mut self, runtime: &Runtime) -> bool {
        let woken = !self.is_done && self.remote.parker().seen() == Seen::Awake;
        if woken {
            self.remote.parker().retract();
            self.visit(runtime);
        }
        woken
    }
}

fn model(guests: usize) {
    check(move || {
        let (runtime, queue) = Runtime::new();
        let visiting: Vec<_> = (0..guests)
            .map(|_| {
                let runtime = runtime.clone();
                thread::spawn(move || {
                    let mut guest = Guest::arrive(&runtime);
                    guest.visit(&runtime);
                    guest
                })
            })
            .collect();
        runtime.release(queue);
        let mut guests: Vec<_> = visiting.into_iter().map(|thread| thread.join().unwrap()).collect();
        while guests.iter_mut().any(|guest| guest.wake(&runtime)) {}
        assert!(guests.iter().all(|guest| guest.is_done), "one sleeps, and nobody drives");
        assert!(runtime.tenancy.is_free());
    });
}

#[test]
fn a_guest_takes_over() {
    model(1);
}

#[test]
fn one_guest_after_the_other() {
    model(2);
}

/// `carry`, from the guest's announcement to the selector's wait. True if it would wait.
fn falls_asleep(guest: &Remote, core: &Remote) -> bool {
    guest.parker().publish();
    core.parker().publish();
    core.inbox().is_empty() && guest.inbox().is_empty()
}

/// The end of the wait.
fn wakes(guest: &Remote, core: &Remote) {
    core.parker().retract();
    guest.parker().retract();
    for remote in [core, guest] {
        remote.inbox().take(VecDeque::new()).into_iter().for_each(ReadyHandle::run);
    }
}

#[test]
fn a_guest_that_drives_is_posted_to() {
    check(|| {
        let hub = Hub::new();
        let ran = Tally::default();
        let core = Remote::new(0, false, None, Observer::default()).expect("a selector");
        let guest = Remote::new_guest(None, Observer::default()).expect("a selector");
        let posting = [guest.clone(), guest.clone()].map(|remote| {
            let (hub, ran) = (hub.clone(), ran.clone());
            thread::spawn(move || {
                let closure = Once::new(move || ran.add());
                let task = spawn_cell(closure, Home::of(&hub), new_task(Kind::Callback, false, true));
                remote.post(task.into_ready());
                drop(task.into_handle());
            })
        });
        // As before it took the loop over: perhaps a post's wake-up is still under way from then.
        guest.parker().publish();
        guest.parker().retract();
        guest.set_carrier(Some(core.clone()));
        let mut asleep = falls_asleep(&guest, &core);
        if !asleep {
            wakes(&guest, &core);
            asleep = falls_asleep(&guest, &core);
        }
        posting.into_iter().for_each(|thread| thread.join().unwrap());
        // All is quiet: who was not woken sleeps for ever.
        while asleep && core.parker().seen() == Seen::Awake {
            wakes(&guest, &core);
            asleep = falls_asleep(&guest, &core);
        }
        if !asleep {
            wakes(&guest, &core);
        }
        assert_eq!(ran.get(), 2, "asleep: {asleep}");
        guest.set_carrier(None);
        assert_eq!(hub.freed.get(), 2);
    });
}
