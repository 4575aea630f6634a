//! The state word of a task: one atomic integer, and every change of it that exists.
//!
//! *Invariant.* No bit arithmetic happens outside this file. The word holds flags, a count of wakes and a count of
//! references:
//!
//! | bits | name | set by | meaning |
//! |---|---|---|---|
//! | 0 | `COMPLETE` | whoever runs the task | the future is gone and the output is in its place |
//! | 1 | `CANCELLED` | anyone | the future is to be dropped instead of polled; after completion: it was |
//! | 2 | `JOIN` | creation | a `Task<T>` exists; it drops the output |
//! | 3 | `JOIN_WAKER` | the `Task<T>` | the join slot holds a waker and belongs to whoever completes |
//! | 4 | `CALLBACKS` | anyone | done-callbacks are registered |
//! | 5 | `CLAIMED` | runner or canceller | a one-shot has been started or taken away from its queue; a post was taken away |
//! | 6 | `RENOTIFY` | a waker | the wake count was folded back, see `fold` |
//! | 7 | `UNBUILT` | creation | posted, not yet run on its loop: still `Send`, in no live list |
//! | 8-39 | wakes | anyone | 0: idle. Else: queued or running, and its owner will look again |
//! | 40-63 | refs | anyone | wakers, handles, and one for the runtime while not complete |
//!
//! *Phases* of a task (a one-shot is its own case, below):
//!
//! | phase | wakes | who may touch the future |
//! |---|---|---|
//! | idle | 0 | nobody |
//! | queued | >= 1 | the holder of its [`ReadyHandle`](super::ReadyHandle) |
//! | running | >= 1 | the thread inside `run` |
//! | complete | >= 1 for ever | the `Task<T>`, or the completer if there is none |
//!
//! A wake adds one. Whoever moves the count from 0 to 1 makes *the* ready handle, so there is one at a time. The runner
//! notes the count it saw, polls, and goes idle only if the word has not changed but for references: one atomic
//! operation to schedule, one to run. A task that wakes itself while it is polled goes on without any. A complete task
//! keeps a count above zero, so a late wake schedules nothing.
//!
//! *Threads.* Any. *Ordering.* A wake is a Release and the runner's look an Acquire: what happened before a wake is seen
//! by the poll that it causes. `suspend` and `complete` release what the poll wrote; read-modify-writes in between
//! continue the release sequence, so the next runner or the joiner, who acquires, sees it.

use crate::primitive::MODELLED;
use crate::primitive::atomic::{AtomicU64, Ordering};

const COMPLETE: u64 = 1;
const CANCELLED: u64 = 1 << 1;
const JOIN: u64 = 1 << 2;
const JOIN_WAKER: u64 = 1 << 3;
const CALLBACKS: u64 = 1 << 4;
const CLAIMED: u64 = 1 << 5;
const RENOTIFY: u64 = 1 << 6;
const UNBUILT: u64 = 1 << 7;
const WAKE: u64 = 1 << 8;
const WAKES: u64 = 0xffff_ffff << 8;
const REF: u64 = 1 << 40;

/// Half of the wake count's range: from here on wakers fold it back. The models reach it with three wakes.
const FOLD_AT: u64 = if MODELLED { 2 } else { 1 << 31 };
/// Half of the reference count's range: a leak of wakers is caught here, long before it wraps.
const MAX_REFS: u64 = 1 << 23;

/// One look at the word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Snapshot(u64);

impl Snapshot {
    pub(super) fn is_complete(self) -> bool {
        self.0 & COMPLETE != 0
    }
    pub(super) fn is_cancelled(self) -> bool {
        self.0 & CANCELLED != 0
    }
    pub(super) fn has_join(self) -> bool {
        self.0 & JOIN != 0
    }
    pub(super) fn has_join_waker(self) -> bool {
        self.0 & JOIN_WAKER != 0
    }
    pub(super) fn has_callbacks(self) -> bool {
        self.0 & CALLBACKS != 0
    }
    pub(super) fn is_unbuilt(self) -> bool {
        self.0 & UNBUILT != 0
    }
    pub(super) fn is_ready(self) -> bool {
        self.wakes() > 0
    }
    pub(super) fn is_claimed(self) -> bool {
        self.0 & CLAIMED != 0
    }
    fn wakes(self) -> u64 {
        (self.0 & WAKES) >> 8
    }
    fn refs(self) -> u64 {
        self.0 >> 40
    }
}

/// What a waker must do next.
#[must_use]
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Wake {
    /// Nothing: it is queued, running or complete.
    Nothing,
    /// It was idle: put its ready handle into a queue.
    Schedule,
    /// The reference given up was the last one: free the cell.
    Free,
}

/// What the runner must do after a poll that returned `Pending`.
#[must_use]
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Suspend {
    /// Nothing, and the cell may not be touched again.
    Idle,
    /// It was woken meanwhile: queue it again.
    Reschedule,
    /// It was cancelled meanwhile: drop the future now.
    Cancelled,
}

/// What the runner must do after it has stored an output.
#[must_use]
pub(super) enum Complete {
    /// A `cancel()` came first and wins: replace the output, then call `complete_cancelled`.
    CancelWon,
    /// Complete, and the runtime's reference is given up: the cell may not be touched again.
    Released,
    /// Complete, and somebody is to be told. The runtime's reference is still held.
    Tell,
}

/// What a canceller must do.
#[must_use]
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Cancel {
    /// Nothing: the request is noted, or was before.
    Noted,
    /// Too late: it is complete, or (one-shots) running.
    TooLate,
    /// It was idle: put its ready handle into a queue, so that its owner drops it.
    Schedule,
    /// (One-shots, and posts not yet run) it is the caller's: drop the closure, complete. If a queue holds a handle, the runtime's
    /// reference is that one's; else it is given up already.
    Claimed,
}

/// What became of a one-shot's turn to run.
#[must_use]
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Claim {
    Run,
    /// Cancelled from afar: drop the closure here.
    Drop,
    /// A canceller took it: only the queue's reference is left to give up.
    Gone,
}

/// What a `Task<T>` finds when it goes away.
#[must_use]
pub(super) enum DropJoin {
    /// Not complete, and the reference is given up: the cell may not be touched again.
    Detached,
    /// Not complete; the join slot, with a waker in it, is the caller's again. The reference is still held.
    DetachedWithWaker,
    /// Complete; the output is the caller's to drop. The reference is still held.
    Complete,
}

pub(super) struct State(AtomicU64);

impl State {
    /// A new task, with one reference for the runtime and one for its owner. `queued`: a ready handle is made with it.
    #[inline]
    pub(super) fn new(join: bool, queued: bool, unbuilt: bool) -> Self {
        let mut word = 2 * REF;
        word |= if join { JOIN } else { 0 };
        word |= if queued { WAKE } else { 0 };
        word |= if unbuilt { UNBUILT } else { 0 };
        Self(AtomicU64::new(word))
    }

    #[inline]
    pub(super) fn load(&self) -> Snapshot {
        // Ordering: Acquire, pairs with the Release in `complete`: who sees COMPLETE sees the output.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Tries `change` until it sticks or declines; returns the word before, and whether it stuck.
    #[inline]
    fn update(&self, mut change: impl FnMut(Snapshot) -> Option<u64>) -> (Snapshot, bool) {
        let mut now = self.0.load(Ordering::Acquire);
        loop {
            let Some(next) = change(Snapshot(now)) else {
                return (Snapshot(now), false);
            };
            // Ordering: AcqRel, so that each transition sees and publishes all that came before it (file header).
            match self.0.compare_exchange_weak(now, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return (Snapshot(now), true),
                Err(actual) => now = actual,
            }
        }
    }

    // ---- references ------------------------------------------------------------------------------------------------

    pub(super) fn add_ref(&self) {
        // Ordering: Relaxed, as in std's Arc: a new reference is made from one that keeps the cell alive.
        let before = Snapshot(self.0.fetch_add(REF, Ordering::Relaxed));
        if before.refs() >= MAX_REFS {
            eprintln!("epicycle: more than {MAX_REFS} wakers and handles of one task; aborting");
            // As std's Arc: more references than memory could hold is a leak that would end in a use after free.
            std::process::abort();
        }
        if before.wakes() >= FOLD_AT {
            self.fold();
        }
    }

    /// The same while nobody else knows of the cell.
    #[inline]
    pub(super) fn add_first_ref(&self) {
        // Ordering: Relaxed: whatever tells others of the cell releases it.
        self.0.store(self.0.load(Ordering::Relaxed) + REF, Ordering::Relaxed);
    }

    /// Gives up a reference; true if it was the last and the cell is to be freed.
    #[must_use]
    #[inline]
    pub(super) fn drop_ref(&self) -> bool {
        if self.load().refs() == 1 {
            // It is the caller's, so there is none from which another could be made, and nobody to race with. The load has
            // acquired what those did who gave up theirs.
            return true;
        }
        // Ordering: AcqRel: Release hands our accesses to whoever frees, Acquire sees those of all others.
        Snapshot(self.0.fetch_sub(REF, Ordering::AcqRel)).refs() == 1
    }

    // ---- waking ----------------------------------------------------------------------------------------------------

    #[inline]
    pub(super) fn wake_by_ref(&self) -> Wake {
        // Ordering: AcqRel: Release pairs with the Acquire in `start`; Acquire orders the queueing after the last poll.
        let before = Snapshot(self.0.fetch_add(WAKE, Ordering::AcqRel));
        if before.wakes() >= FOLD_AT {
            self.fold();
        }
        if before.wakes() == 0 { Wake::Schedule } else { Wake::Nothing }
    }

    /// Wakes and gives up the waker's reference in one operation.
    pub(super) fn wake_by_val(&self) -> Wake {
        // Ordering: AcqRel, as in `wake_by_ref` and `drop_ref`. Not folded here: the cell may be gone; `add_ref`, which
        // every owned waker went through, does it.
        let before = Snapshot(self.0.fetch_add(WAKE.wrapping_sub(REF), Ordering::AcqRel));
        if before.refs() == 1 {
            Wake::Free
        } else if before.wakes() == 0 {
            Wake::Schedule
        } else {
            Wake::Nothing
        }
    }

    /// Takes a wake count that has run half way round back to a small one. `RENOTIFY` tells the runner, whose own note
    /// of the count is now worthless, to look again: one poll too many, never one too few.
    #[cold]
    fn fold(&self) {
        self.update(|now| (now.wakes() >= FOLD_AT).then_some((now.0 & !WAKES) | WAKE | RENOTIFY));
    }

    // ---- running a task --------------------------------------------------------------------------------------------

    /// The beginning of a run, by the holder of the ready handle. The flag says that this is the first run of a posted task; which
    /// may be claimed by then, and so not the runner's.
    #[inline]
    pub(super) fn start(&self) -> (Snapshot, bool) {
        // Ordering: Acquire, pairs with every wake and with the last runner's `suspend`.
        let now = Snapshot(self.0.load(Ordering::Acquire));
        if now.0 & (RENOTIFY | UNBUILT) == 0 {
            return (now, false);
        }
        // Ordering: AcqRel, as in `update`; decides against a `cancel` of a post. Rare: the first run of a posted task, or after a
        // fold.
        let before = self.0.fetch_and(!(RENOTIFY | UNBUILT), Ordering::AcqRel);
        (Snapshot(before & !(RENOTIFY | UNBUILT)), before & UNBUILT != 0)
    }

    /// The end of a run whose poll returned `Pending`; `seen` is what `start` returned.
    #[inline]
    pub(super) fn suspend(&self, seen: Snapshot) -> Suspend {
        let mut outcome = Suspend::Idle;
        self.update(|now| {
            if now.is_cancelled() {
                outcome = Suspend::Cancelled;
                return None;
            }
            if now.wakes() != seen.wakes() || now.0 & RENOTIFY != 0 {
                outcome = Suspend::Reschedule;
                return Some((now.0 & !(WAKES | RENOTIFY)) | WAKE);
            }
            outcome = Suspend::Idle;
            Some(now.0 & !WAKES)
        });
        outcome
    }

    /// The same for a task that woke itself during the poll, which its runner has noted elsewhere (`id.rs`). The word stays as it
    /// is: the count has been above zero since before the run, so the right to run, and to queue, is still the runner's. Wakes of
    /// others only add to the count, a cancel that comes from here on is seen by the next `start`, and so is `RENOTIFY`.
    #[inline]
    pub(super) fn go_on(&self) -> Suspend {
        // Ordering: Acquire, as in `update`. Nothing is released here: to the next runner, if it is another thread, the poll's
        // writes go with the ready handle, by its queue's ordering.
        if self.load().is_cancelled() { Suspend::Cancelled } else { Suspend::Reschedule }
    }

    /// The end of a run whose task nobody else refers to: no `Task`, no waker, nobody who could be told or could cancel.
    #[inline]
    pub(super) fn is_forgotten(&self) -> bool {
        let now = self.load();
        now.refs() == 1 && now.0 & (CALLBACKS | CANCELLED) == 0
    }

    /// The end of a run that stored an output.
    #[inline]
    pub(super) fn complete(&self) -> Complete {
        let mut released = false;
        let (_, stuck) = self.update(|now| {
            if now.is_cancelled() {
                return None;
            }
            // With an owner and nobody to tell, completing and giving up the reference are one step.
            released = now.has_join() && now.0 & (JOIN_WAKER | CALLBACKS) == 0 && now.refs() > 1;
            Some((now.0 | COMPLETE) - if released { REF } else { 0 })
        });
        match (stuck, released) {
            (false, _) => Complete::CancelWon,
            (true, true) => Complete::Released,
            (true, false) => Complete::Tell,
        }
    }

    /// The same once the output says that the task was cancelled (or its clean-up panicked). Releases nothing.
    pub(super) fn complete_cancelled(&self) -> Snapshot {
        // Ordering: AcqRel, as in `update`.
        Snapshot(self.0.fetch_or(COMPLETE, Ordering::AcqRel))
    }

    /// The same for a callback, which nobody awaits: gives up the runtime's reference in one step with it; true if it was the last
    /// and the cell is to be freed.
    #[must_use]
    pub(super) fn complete_unawaited(&self) -> bool {
        // Ordering: AcqRel, as in `drop_ref`. COMPLETE is set once, so to add it is to set it.
        Snapshot(self.0.fetch_add(COMPLETE.wrapping_sub(REF), Ordering::AcqRel)).refs() == 1
    }

    // ---- cancelling ------------------------------------------------------------------------------------------------

    /// A post that its loop has not begun to run is still `Send`: the canceller takes it, and the queue keeps an empty handle, as
    /// with one-shots.
    pub(super) fn cancel(&self) -> Cancel {
        let (before, stuck) = self.update(|now| {
            let claims = if now.is_unbuilt() { CLAIMED } else { 0 };
            (!now.is_complete() && !now.is_cancelled()).then_some((now.0 | CANCELLED | claims) + WAKE)
        });
        match stuck {
            true if before.is_unbuilt() => Cancel::Claimed,
            true if before.wakes() == 0 => Cancel::Schedule,
            false if before.is_complete() => Cancel::TooLate,
            _ => Cancel::Noted,
        }
    }

    // ---- one-shots: callbacks and executor jobs --------------------------------------------------------------------
    //
    // A one-shot's runtime reference belongs to its ready handle once that exists: a canceller may finish the one-shot
    // while a queue still holds the handle, and the queue's pop gives the reference up.

    /// The turn of a queued one-shot, by the holder of its ready handle. `hidden`: no other thread makes a reference of what it
    /// finds in a list.
    #[inline]
    pub(super) fn claim(&self, hidden: bool) -> Claim {
        let now = self.load();
        if now.is_claimed() {
            return Claim::Gone;
        }
        let before = if hidden && now.refs() == 1 {
            // The one reference is the handle's, and there is none from which another could be made: nobody to decide against.
            // Ordering: the load has acquired what those did who gave up theirs. Release passes it on, though nobody is left to
            // look but this thread, which completes and frees.
            self.0.store(now.0 | CLAIMED, Ordering::Release);
            now
        } else {
            // Ordering: AcqRel: decides against `cancel_one_shot`, and acquires what the poster wrote.
            Snapshot(self.0.fetch_or(CLAIMED, Ordering::AcqRel))
        };
        match (before.is_claimed(), before.is_cancelled()) {
            (true, _) => Claim::Gone,
            (false, true) => Claim::Drop,
            (false, false) => Claim::Run,
        }
    }

    /// `unawaited`: it is a callback. `may_drop_here(snapshot)`: whether the caller's thread is one on which the closure may be dropped.
    ///
    /// A callback that is claimed is complete, too: nobody looks for an output, and while the closure is dropped the canceller's own
    /// reference keeps the cell.
    #[inline]
    pub(super) fn cancel_one_shot(&self, unawaited: bool, may_drop_here: impl Fn(Snapshot) -> bool) -> Cancel {
        let mut claims = false;
        let (before, stuck) = self.update(|now| {
            if now.is_complete() || now.is_claimed() || now.is_cancelled() {
                return None;
            }
            claims = may_drop_here(now);
            let claim = if claims { CLAIMED | if unawaited { COMPLETE } else { 0 } } else { 0 };
            let released = if claims && !now.is_ready() { REF } else { 0 };
            // The added wake keeps a timer that fires meanwhile from queueing it.
            Some((now.0 | CANCELLED | claim) + WAKE - released)
        });
        let queued = before.wakes() > 0;
        match (stuck, claims) {
            (false, _) if before.is_cancelled() => Cancel::Noted,
            (false, _) => Cancel::TooLate,
            (true, true) => Cancel::Claimed,
            (true, false) if queued => Cancel::Noted,
            (true, false) => Cancel::Schedule,
        }
    }

    /// Gives up the reference of a callback's `Handle`; true if it was the last and the cell is to be freed. `is_driven_here()`: it is
    /// pinned, and the calling thread alone runs its loop, or is going to.
    #[must_use]
    #[inline]
    pub(super) fn drop_handle(&self, is_driven_here: impl FnOnce() -> bool) -> bool {
        let now = self.load();
        if now.refs() == 2 && now.0 & COMPLETE == 0 && is_driven_here() {
            // The other reference is the runtime's, since that goes after COMPLETE only; so there is no waker and no other
            // handle. A timer's waker that is gone has either made no ready handle, or made it with its last access to the
            // word. That handle is in this loop's queue, or on the way there, or being run; that of a posted callback is there or in
            // the inbox, since who posts has no `Handle` to give away before. Whatever takes it out is this thread (an inbox
            // refuses posts only after its loop's thread has ceased to drive it), as is whoever follows the entry of a
            // callback in the list of what is pinned here. So nobody changes the word between the load and the store.
            // Ordering: Release, as in `claim`: for this thread alone.
            self.0.store(now.0 - REF, Ordering::Release);
            return false;
        }
        self.drop_ref()
    }

    // ---- joining ---------------------------------------------------------------------------------------------------

    /// The `Task<T>` has written a waker into the slot. False: complete, the slot is still the caller's.
    #[must_use]
    pub(super) fn set_join_waker(&self) -> bool {
        self.update(|now| (!now.is_complete()).then_some(now.0 | JOIN_WAKER)).1
    }

    /// The `Task<T>` wants the slot back. False: complete, and the slot belongs to the completer.
    #[must_use]
    pub(super) fn unset_join_waker(&self) -> bool {
        self.update(|now| (!now.is_complete()).then_some(now.0 & !JOIN_WAKER)).1
    }

    pub(super) fn drop_join(&self) -> DropJoin {
        let (before, stuck) = self.update(|now| {
            // Never the last reference: the runtime's is there until completion.
            let reference = if now.has_join_waker() { 0 } else { REF };
            (!now.is_complete()).then_some((now.0 & !(JOIN | JOIN_WAKER)) - reference)
        });
        match (stuck, before.has_join_waker()) {
            (true, false) => DropJoin::Detached,
            (true, true) => DropJoin::DetachedWithWaker,
            (false, _) => DropJoin::Complete,
        }
    }

    /// A done-callback is in the list. True: the task is complete, so whoever finds it in the list delivers it.
    #[must_use]
    pub(super) fn set_callbacks(&self) -> bool {
        // Ordering: AcqRel; the same word orders this against `complete`, so one of the two sees the other.
        Snapshot(self.0.fetch_or(CALLBACKS, Ordering::AcqRel)).is_complete()
    }
}
