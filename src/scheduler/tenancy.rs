//! Who drives loop 0, and with what.
//!
//! *Invariant.* At most one thread; while there is none, the owner's end of the loop's stealable queue waits here. With one
//! loop, a guest that waits takes over when the driver leaves.
//!
//! *Threads.* Any. *Ordering.* The lock's. A guest about to sleep publishes itself and then looks at `is_free`; a leaver
//! frees the tenancy and then unparks the guests: the pair of `park.rs`.

use crate::event_loop::Remote;
use crate::primitive::deque::Worker;
use crate::primitive::{BiasedArc, Mutex};
use crate::task::ReadyHandle;

/// The owner's end of loop 0's stealable queue; `None` for a runtime of one loop.
pub(crate) type Queue = Option<Worker<ReadyHandle>>;

pub(crate) struct Tenancy(Mutex<Inner>);

struct Inner {
    vacant: Option<Queue>,
    guests: Vec<BiasedArc<Remote>>,
}

impl Tenancy {
    pub(crate) fn new(queue: Queue) -> Self {
        Self(Mutex::new(Inner { vacant: Some(queue), guests: Vec::new() }))
    }

    /// Takes the loop over, if nobody drives it.
    pub(crate) fn claim(&self) -> Option<Queue> {
        self.0.lock().vacant.take()
    }

    /// Gives the loop up and calls the guests, one of whom may take it.
    pub(crate) fn release(&self, queue: Queue) {
        let guests = {
            let mut inner = self.0.lock();
            inner.vacant = Some(queue);
            inner.guests.clone()
        };
        for guest in guests {
            guest.unpark();
        }
    }

    pub(crate) fn is_free(&self) -> bool {
        self.0.lock().vacant.is_some()
    }

    pub(crate) fn add_guest(&self, guest: BiasedArc<Remote>) {
        self.0.lock().guests.push(guest);
    }

    pub(crate) fn remove_guest(&self, guest: &BiasedArc<Remote>) {
        self.0.lock().guests.retain(|other| !BiasedArc::ptr_eq(other, guest));
    }

    /// Unparks every guest, to notice a shutdown.
    pub(crate) fn unpark_guests(&self) {
        let guests = self.0.lock().guests.clone();
        for guest in guests {
            guest.unpark();
        }
    }
}
