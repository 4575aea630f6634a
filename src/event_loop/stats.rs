//! A loop's counters.
//!
//! *Invariant.* Each has one writer, the loop's own thread, unless it says "any". So counting is a load and a store, with
//! no locked instruction. *Threads.* Read by any. *Ordering.* Relaxed throughout: figures that order nothing. A peer that
//! sees `handles_run` stand still acts on a guess, and locks before it touches anything.

use crate::primitive::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// By the one writer.
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// By any writer, for counts marked so.
    pub(crate) fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// By the one writer.
    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Keeps the largest; by the one writer.
    pub(crate) fn raise(&self, n: u64) {
        if n > self.get() {
            self.0.store(n, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) handles_run: Count,
    pub(crate) turns: Count,
    pub(crate) selects: Count,
    pub(crate) events: Count,
    pub(crate) parks: Count,
    pub(crate) unparks_sent: Count,
    /// Any.
    pub(crate) unparks_received: Count,
    pub(crate) steals_tried: Count,
    pub(crate) steals_won: Count,
    /// Any.
    pub(crate) handles_stolen_from: Count,
    pub(crate) injector_pulls: Count,
    pub(crate) inbox_pulls: Count,
    pub(crate) adoptions: Count,
    pub(crate) longest_handle_nanos: Count,
    /// When it last read the clock, between two handles. It reads it often, so what is long ago tells of a long handle.
    pub(crate) seen_at: Count,
    /// What a handle takes on average; 0: not known.
    pub(crate) handle_nanos: Count,
    /// What was queued at the beginning of the last turn.
    pub(crate) ready_depth: Count,
}
