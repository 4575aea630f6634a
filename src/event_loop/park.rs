//! The state word with which a loop goes to sleep and others wake it.
//!
//! *Invariant.* `PARKED` stands only while the loop's thread holds its selector's lock, from before its last look at
//! everything that could need it until after it returned from the kernel. So an adopter, who must hold that lock to poll,
//! never takes the wake-up of a thread that relies on it: it can meet stale ones only.
//!
//! | state | meaning |
//! |---|---|
//! | `AWAKE` | running, or about to look at everything before it sleeps |
//! | `PARKED` | blocking, or about to: who gives it something must unblock it |
//! | `NOTIFIED` | was parked, and somebody has unblocked it |
//! | `ABSENT` | loop 0 between two tenancies: nobody sleeps here |
//!
//! *Threads.* `unpark` any; the rest the loop's own. *Ordering.* A Dekker pair: the giver publishes its gift, fences and
//! looks at the state; the sleeper publishes `PARKED`, fences and looks for gifts. One sees the other. The fences are
//! explicit `SeqCst` ones (step names in `scheduler/README.md`: GiveFence, SleepFence).

use crate::primitive::atomic::{AtomicU32, Ordering, fence};

const AWAKE: u32 = 0;
const PARKED: u32 = 1;
const NOTIFIED: u32 = 2;
const ABSENT: u32 = 3;

/// What ends the kernel's wait: an eventfd, or for a guest its thread's own parking place.
pub(crate) trait Unblock {
    fn unblock(&self);
}

/// A state as a peer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Awake,
    Asleep,
    Absent,
}

#[derive(Debug)]
pub(crate) struct Parker {
    state: AtomicU32,
}

impl Parker {
    pub(crate) fn new(absent: bool) -> Self {
        Self { state: AtomicU32::new(if absent { ABSENT } else { AWAKE }) }
    }

    /// Wakes the loop's thread if it sleeps or is about to. The caller has published what it should find. True if it
    /// took a system call.
    pub(crate) fn unpark(&self, unblock: &impl Unblock) -> bool {
        fence(Ordering::SeqCst); // GiveFence, pairs with SleepFence in `publish`.
        // Ordering: Relaxed: the fence orders this look.
        if self.state.load(Ordering::Relaxed) != PARKED {
            return false;
        }
        // Ordering: Relaxed: it carries no data; the sleeper looks at every queue again. An exchange, not a swap, so that
        // only PARKED is overwritten; whoever loses it came second.
        let won = self.state.compare_exchange(PARKED, NOTIFIED, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() {
            unblock.unblock();
        }
        won.is_ok()
    }

    /// Announces the sleep. The caller holds its selector's lock and then looks at everything once more.
    pub(crate) fn publish(&self) {
        // Ordering: Relaxed: the fence orders it.
        self.state.store(PARKED, Ordering::Relaxed);
        fence(Ordering::SeqCst); // SleepFence, pairs with GiveFence in `unpark`.
    }

    /// Ends the sleep; true if somebody unblocked us.
    pub(crate) fn retract(&self) -> bool {
        // Ordering: Relaxed: what we were woken for is found by looking at the queues, each with an ordering of its own.
        self.state.swap(AWAKE, Ordering::Relaxed) == NOTIFIED
    }

    /// Loop 0 gets a driver.
    pub(crate) fn enter(&self) {
        // Ordering: Relaxed + fence: as in `publish`: afterwards the driver looks at everything.
        self.state.store(AWAKE, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Loop 0 loses its driver.
    pub(crate) fn leave(&self) {
        // Ordering: Relaxed + fence: afterwards the leaver hands on all that was given to this loop.
        self.state.store(ABSENT, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    pub(crate) fn seen(&self) -> Seen {
        // Ordering: Relaxed: a heuristic, or ordered by the caller's fence.
        match self.state.load(Ordering::Relaxed) {
            AWAKE | NOTIFIED => Seen::Awake,
            PARKED => Seen::Asleep,
            _ => Seen::Absent,
        }
    }
}
