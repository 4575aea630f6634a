//! Helping a loop that does not look after itself: one that is stuck in a long handle, and loop 0 without a driver.
//!
//! *Invariant.* Helping only wakes and steals: selector and timers hold nothing but wakers, and a pinned task's waker posts
//! it home. A peer's selector is polled only under its lock, which its owner holds while it is parked, so an owner's
//! wake-up is never taken (`park.rs`).
//!
//! Two kinds of helpers. The *watcher*, a parked loop, ticks while others run. If nobody is parked, every *running* loop
//! makes rounds every 2 ms: it walks forward from its neighbour and serves each stuck or absent loop up to the first
//! healthy one. A loop that spins before it parks does at its ticks what the watcher does. Stuck means: awake, and not between two
//! handles for so long. Loops publish when they last were, so one look tells, whoever looks; and the next tick can be so
//! timed that a handle that began just after this one is found stuck at [`TICK`]. Who finds a stuck loop is its *helper*
//! from then on: what comes for its descriptors wakes him at once (`README.md`, "Help").
//!
//! *Threads.* The helping loop's own. *Ordering.* Relaxed looks decide whether to help; locks protect the help.

use std::time::Duration;

use super::worker::{ENOUGH, Worker};
use crate::event_loop::Remote;
use crate::event_loop::clock::NEVER;
use crate::event_loop::park::Seen;

/// How long a handle can have run before the watcher comes to look: what it holds up is to be served after a millisecond, and waking
/// the watcher takes up to a tenth of that.
const TICK: Duration = Duration::from_micros(600);

/// The tick of a watcher who has not looked around yet, and beside a loop that is stuck.
pub(crate) const FIRST_TICK: Duration = Duration::from_micros(300);

/// A loop is stuck for the watcher when it has been in a handle for so long, in nanoseconds.
const STUCK_NANOS: u64 = 200_000;

/// How often a busy loop looks at its neighbours, and how long a handle of theirs is too long for it, in nanoseconds.
const ROUND_NANOS: u64 = 2_000_000;

/// How many looks in a row have to find a helped loop moving before it is left to itself, and how often it has to park.
const MOVES: u32 = 8;

/// The most batches of events that are taken from a peer at a time.
const MOST_BATCHES: usize = 16;

/// What a loop has seen of its peers.
pub(super) struct Peers {
    last_round: u64,
    /// When this loop last looked around awake.
    last_awake_tick: u64,
    /// Whom the last survey found in need, and whether they are stuck.
    needy: Vec<(usize, bool)>,
    /// Whose selectors are nested in ours.
    helped: Vec<Helped>,
    /// How often this loop has parked since somebody began to help it.
    parks_helped: u32,
}

/// A loop that was found stuck.
struct Helped {
    index: usize,
    /// How many looks in a row have found it moving.
    moves: u32,
}

impl Peers {
    pub(super) fn new() -> Self {
        Self { last_round: 0, last_awake_tick: 0, needy: Vec::new(), helped: Vec::new(), parks_helped: 0 }
    }
}

impl Worker {
    /// The watcher's look at all peers: only a look, since what it would wake may be a user's own waker, which may take its
    /// time; and a parked loop that is held up has nobody to watch over it. True if some peer is in need.
    pub(super) fn survey(&self) -> bool {
        let mut peers = self.peers.borrow_mut();
        peers.needy.clear();
        for (index, peer) in self.shared.remotes.iter().enumerate() {
            let seen = peer.parker().seen();
            if index == self.index || seen == Seen::Asleep {
                continue;
            }
            let overdue = peer.timers().next_hint() <= self.core.now();
            if seen == Seen::Absent {
                if overdue {
                    peers.needy.push((index, false));
                }
                continue;
            }
            let stuck = self.has_run_for(peer) >= STUCK_NANOS;
            let queued = if self.shared.options.work_stealing { self.shared.stealers[index].len() } else { 0 };
            let stranded = stuck && (queued > 0 || self.sources_of(peer) > 0 || peer.is_overstayed());
            if overdue || queued >= 2 || stranded {
                peers.needy.push((index, stuck));
            }
        }
        !peers.needy.is_empty() || !self.shared.injector.is_empty()
    }

    /// How many descriptors may be behind a peer's selector. Loop 0's may be nested in any, so they count for all.
    fn sources_of(&self, peer: &Remote) -> usize {
        peer.selector().sources() + self.shared.remotes[0].selector().sources()
    }

    /// For how long a peer has not been seen between two handles.
    fn has_run_for(&self, peer: &Remote) -> u64 {
        self.core.now().saturating_sub(peer.stats().seen_at.get())
    }

    /// When the watcher has to look around next.
    pub(super) fn until_next_tick(&self) -> Duration {
        let others = self.shared.remotes.iter().enumerate().filter(|&(index, _)| index != self.index);
        let awake = others.filter(|(_, peer)| peer.parker().seen() == Seen::Awake);
        awake.map(|(_, peer)| look_again_after(self.has_run_for(peer))).min().unwrap_or(TICK)
    }

    /// Helps those whom the last survey found in need. As a running loop, which is itself watched.
    pub(super) fn relieve_needy(&self) {
        let needy = std::mem::take(&mut self.peers.borrow_mut().needy);
        for &(index, stuck) in &needy {
            match self.shared.remotes[index].parker().seen() {
                Seen::Asleep => {}
                Seen::Absent => self.serve_timers(&self.shared.remotes[index]),
                Seen::Awake => self.relieve(index, stuck),
            }
        }
    }

    /// Takes over what an awake peer does not come to.
    fn relieve(&self, index: usize, stuck: bool) {
        if self.shared.options.work_stealing {
            // A peer that moves will get to its only handle itself. One that is stuck gets to none of what it has now, whatever
            // that is worth; what is taken here others can take from here.
            let (at_least, batches) = if stuck { (1, self.shared.stealers[index].len()) } else { (ENOUGH, 1) };
            let _ = (0..batches).all(|_| self.steal_from(index, at_least));
        }
        let peer = &self.shared.remotes[index];
        self.serve_timers(peer);
        if stuck {
            self.help(index);
            self.serve_selector(peer);
            peer.report_overstayed();
        }
    }

    /// Has this loop told at once of what comes for a stuck one, instead of finding it at the next tick.
    fn help(&self, index: usize) {
        let (me, peer) = (self.core.remote(), &self.shared.remotes[index]);
        if peer.selector().helper() == Some(self.index) {
            return;
        }
        // Who helps needs no help, and who is stuck gives none: so there are no circles, which the kernel refuses, nor chains.
        self.refuse_help();
        self.end_help_of(index);
        if self.sources_of(peer) > 0 && me.selector().help(self.index, peer.selector()) {
            let helped = &mut self.peers.borrow_mut().helped;
            helped.retain(|helped| helped.index != index);
            helped.push(Helped { index, moves: 0 });
        }
    }

    /// Ends the help that this loop is given.
    fn refuse_help(&self) {
        let own = self.core.remote().selector();
        if let Some(helper) = own.helper() {
            self.shared.remotes[helper].selector().end_help(helper, own);
        }
    }

    /// A loop that parks again and again looks after itself. Its helper may never find out: the kernel wakes it for what this
    /// one then harvests first, and lets it sleep on.
    pub(super) fn leave_helper(&self) {
        let parks = &mut self.peers.borrow_mut().parks_helped;
        *parks = if self.core.remote().selector().helper().is_some() { *parks + 1 } else { 0 };
        if *parks > MOVES {
            self.refuse_help();
        }
    }

    /// Ends the help that a loop gives.
    pub(super) fn end_help_of(&self, helper: usize) {
        for peer in self.shared.remotes.iter().filter(|peer| peer.selector().helper() == Some(helper)) {
            self.shared.remotes[helper].selector().end_help(helper, peer.selector());
        }
    }

    /// Something has come for a loop that was stuck: serves it, if it still is; and ends the help for one that moves.
    pub(super) fn serve_helped(&self) {
        let mut all = std::mem::take(&mut self.peers.borrow_mut().helped);
        all.retain_mut(|helped| {
            let peer = &self.shared.remotes[helped.index];
            let stuck = peer.parker().seen() == Seen::Awake && self.has_run_for(peer) >= STUCK_NANOS;
            helped.moves = if stuck { 0 } else { helped.moves + 1 };
            if helped.moves > MOVES || peer.selector().helper() != Some(self.index) {
                self.core.remote().selector().end_help(self.index, peer.selector());
                return false;
            }
            if self.shared.options.work_stealing && helped.moves == 0 {
                self.steal_from(helped.index, 1);
            }
            self.serve_selector(peer);
            true
        });
        self.peers.borrow_mut().helped.append(&mut all);
    }

    /// The watcher's part for a loop that does not wait for its tick, since it spins or finds events whenever it parks: nobody else
    /// may look after a stuck peer or an absent loop 0 meanwhile.
    pub(super) fn watch_awake(&self) {
        let now = self.core.now();
        if now.saturating_sub(self.peers.borrow().last_awake_tick) < FIRST_TICK.as_nanos() as u64 {
            return;
        }
        self.peers.borrow_mut().last_awake_tick = now;
        if self.survey() {
            self.relieve_needy();
        }
    }

    /// Every few milliseconds of a busy loop: serves the stuck and absent loops that come after it.
    pub(super) fn make_rounds(&self) {
        let now = self.core.now();
        let due = {
            let mut peers = self.peers.borrow_mut();
            let due = now.saturating_sub(peers.last_round) >= ROUND_NANOS;
            if due {
                peers.last_round = now;
            }
            due
        };
        if !due {
            return;
        }
        let n = self.shared.remotes.len();
        for step in 1..n {
            let index = (self.index + step) % n;
            let peer = &self.shared.remotes[index];
            match peer.parker().seen() {
                Seen::Asleep => break,
                Seen::Absent => {
                    self.serve_timers(peer);
                    self.serve_selector(peer);
                }
                Seen::Awake => {
                    if self.has_run_for(peer) < ROUND_NANOS {
                        break;
                    }
                    self.relieve(index, true);
                }
            }
        }
    }

    /// Wakes what a peer's timers owe.
    pub(super) fn serve_timers(&self, peer: &Remote) {
        let next = peer.timers().next_hint();
        if next != NEVER && next <= self.core.read_clock() {
            let fired = peer.timers().expire_for(self.core.now(), |waker| self.core.remote().wake(waker));
            self.core.remote().stats().adoptions.add(fired as u64);
        }
    }

    /// Wakes what a peer's selector has, until a batch is short; also what is nested in it.
    pub(super) fn serve_selector(&self, peer: &Remote) {
        let mut nested = false;
        for _ in 0..MOST_BATCHES {
            let Some(batch) = self.core.look_at(peer) else { break };
            self.core.remote().stats().adoptions.add(batch.events as u64);
            nested |= batch.nested;
            if !batch.full {
                break;
            }
        }
        let absent = &self.shared.remotes[0];
        if nested && !std::ptr::eq(peer, &**absent) {
            self.serve_selector(absent);
        }
    }
}

/// When to look again at a loop that has been in a handle for `nanos`.
fn look_again_after(nanos: u64) -> Duration {
    if nanos < STUCK_NANOS { TICK - Duration::from_nanos(nanos) } else { FIRST_TICK }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn c07_a_handle_is_found_stuck_before_it_is_older_than_a_tick() {
        let tick = TICK.as_nanos() as u64;
        for began in (0..tick).step_by(1_000) {
            // A look at 0, when the loop was between two handles, and the next ones.
            let mut now = look_again_after(0).as_nanos() as u64;
            while now - began < STUCK_NANOS {
                now += look_again_after(now - began).as_nanos() as u64;
            }
            assert!(now - began <= tick, "began {began}, found {now}");
        }
    }
}
