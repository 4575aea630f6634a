//! A runtime of one loop: guests about to sleep against the driver that gives the loop up.
//!
//! *Property.* At most one drives at a time; a guest finds the loop vacant or is woken when it becomes so, also if another took
//! it in between and has left again: none sleeps for ever while the loop is vacant.
//! *Threads.* A driver, one or two guests. A guest that sleeps is one whose thread has ended; if it was unparked, it goes on at
//! the end. *Bound.* Two preemptions.
//! *Seeded bugs.* The leaver wakes the guests before it gives the loop up; the guest looks before it publishes itself; only
//! one guest is woken, though it may have ended meanwhile.

use std::sync::Arc as StdArc;
use std::sync::atomic::{AtomicUsize as StdUsize, Ordering::Relaxed};

use loom::sync::Arc;
use loom::thread;

use super::support::check;
use crate::event_loop::Remote;
use crate::scheduler::tenancy::{Queue, Tenancy};

struct Runtime {
    tenancy: Tenancy,
    /// How many drive; no part of the model.
    drivers: StdUsize,
}

struct Guest {
    remote: StdArc<Remote>,
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
        let remote = Remote::new_guest(None).expect("a selector");
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
        let woken = !self.is_done && self.remote.parker().is_notified();
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
