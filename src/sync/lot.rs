//! The FIFO of waiters under every primitive of this room.
//!
//! *Invariant.* A waiter enters at the back and leaves by itself: [`choose`](Lot::choose) takes it out of the line and leaves a
//! grant in its entry, where it stays until the waiter collects it or gives it up. So what is granted always has one owner.
//! *Threads.* Whoever holds the primitive's lock, which a lot is kept under. *Ordering.* That lock's. No waker is cloned, woken
//! or dropped in here: they come and go as values, for the callers to do that outside the lock.

use std::mem;
use std::task::Waker;

use slab::Slab;

use crate::scheduler::shield_waker;

/// The end of the line.
const NONE: usize = usize::MAX;

/// Waiters that each ask for an `R` and are granted a `G`.
#[derive(Debug)]
pub(super) struct Lot<R, G> {
    entries: Slab<Entry<R, G>>,
    /// The ends of a doubly linked list of those who wait, so that leaving costs the same anywhere in the line.
    front: usize,
    back: usize,
    waiting: usize,
    last_ticket: u64,
}

#[derive(Debug)]
struct Entry<R, G> {
    request: R,
    stage: Stage<G>,
    /// In the order of arrival, for those who have to go back into the line.
    ticket: u64,
    previous: usize,
    next: usize,
}

#[derive(Debug)]
enum Stage<G> {
    Waiting(Waker),
    Chosen(G),
}

/// A waiter's place, from its entering to its leaving.
#[derive(Debug)]
pub(super) struct Key(usize);

/// What somebody had who left.
#[derive(Debug)]
pub(super) enum Left<G> {
    Waiting(Waker),
    Chosen(G),
}

impl<R, G> Lot<R, G> {
    pub(super) fn new() -> Self {
        Self { entries: Slab::new(), front: NONE, back: NONE, waiting: 0, last_ticket: 0 }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many have been chosen and have not collected.
    pub(super) fn chosen(&self) -> usize {
        self.entries.len() - self.waiting
    }

    /// What the first in the line asks for.
    pub(super) fn first(&self) -> Option<&R> {
        self.entries.get(self.front).map(|entry| &entry.request)
    }

    /// Enters at the back.
    pub(super) fn enter(&mut self, request: R, waker: Waker) -> Key {
        self.last_ticket += 1;
        let ticket = self.last_ticket;
        let entry = Entry { request, stage: Stage::Waiting(waker), ticket, previous: NONE, next: NONE };
        let at = self.entries.insert(entry);
        self.link(at);
        Key(at)
    }

    /// Chooses the first in the line; who is to be woken.
    pub(super) fn choose(&mut self, grant: G) -> Option<Waker> {
        let at = self.front;
        if at == NONE {
            return None;
        }
        self.unlink(at);
        match mem::replace(&mut self.entries[at].stage, Stage::Chosen(grant)) {
            Stage::Waiting(waker) => Some(waker),
            Stage::Chosen(_) => unreachable!("who is in the line waits"),
        }
    }

    /// Whether a waiter has been chosen.
    pub(super) fn is_chosen(&self, key: &Key) -> bool {
        matches!(self.entries[key.0].stage, Stage::Chosen(_))
    }

    /// Whether a wake of what a waiter left behind would wake the same task as `waker`.
    pub(super) fn will_wake(&self, key: &Key, waker: &Waker) -> bool {
        matches!(&self.entries[key.0].stage, Stage::Waiting(known) if known.will_wake(waker))
    }

    /// Exchanges the waker of one who waits; the old one, or the new one if it is not needed any more.
    pub(super) fn rewake(&mut self, key: &Key, waker: Waker) -> Waker {
        match &mut self.entries[key.0].stage {
            Stage::Waiting(known) => mem::replace(known, waker),
            Stage::Chosen(_) => waker,
        }
    }

    /// Sends one who was chosen back into the line, to the place that its arrival gave it; what it was granted.
    pub(super) fn wait_again(&mut self, key: &Key, waker: Waker) -> Option<G> {
        let was = mem::replace(&mut self.entries[key.0].stage, Stage::Waiting(waker));
        self.link(key.0);
        match was {
            Stage::Chosen(grant) => Some(grant),
            Stage::Waiting(_) => unreachable!("who is chosen is not in the line"),
        }
    }

    /// Leaves, whether chosen or not.
    pub(super) fn leave(&mut self, key: Key) -> Left<G> {
        if matches!(self.entries[key.0].stage, Stage::Waiting(_)) {
            self.unlink(key.0);
        }
        match self.entries.remove(key.0).stage {
            Stage::Waiting(waker) => Left::Waiting(waker),
            Stage::Chosen(grant) => Left::Chosen(grant),
        }
    }

    /// Puts an entry into the line behind all who came before it: almost always the back.
    fn link(&mut self, at: usize) {
        let ticket = self.entries[at].ticket;
        let mut previous = self.back;
        while previous != NONE && self.entries[previous].ticket > ticket {
            previous = self.entries[previous].previous;
        }
        let next = if previous == NONE { self.front } else { self.entries[previous].next };
        self.entries[at].previous = previous;
        self.entries[at].next = next;
        self.set_next(previous, at);
        self.set_previous(next, at);
        self.waiting += 1;
    }

    fn unlink(&mut self, at: usize) {
        let (previous, next) = (self.entries[at].previous, self.entries[at].next);
        self.set_next(previous, next);
        self.set_previous(next, previous);
        self.waiting -= 1;
    }

    fn set_next(&mut self, at: usize, next: usize) {
        match self.entries.get_mut(at) {
            Some(entry) => entry.next = next,
            None => self.front = next,
        }
    }

    fn set_previous(&mut self, at: usize, previous: usize) {
        match self.entries.get_mut(at) {
            Some(entry) => entry.previous = previous,
            None => self.back = previous,
        }
    }
}

/// Who is to be woken once the lock is given back.
#[derive(Debug, Default)]
#[must_use = "somebody would sleep for ever"]
pub(super) struct Wakers {
    /// Mostly it is one, which needs no memory.
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakers {
    pub(super) fn push(&mut self, waker: Waker) {
        if self.first.is_none() {
            self.first = Some(waker);
        } else {
            self.rest.push(waker);
        }
    }

    /// Wakes all, in the order of their being chosen. One that panics is reported, and keeps none of the others asleep.
    pub(super) fn wake(mut self) {
        self.wake_all();
    }

    fn wake_all(&mut self) {
        for waker in self.first.take().into_iter().chain(mem::take(&mut self.rest)) {
            shield_waker(|| waker.wake());
        }
    }
}

/// Drops a waker that is not needed. Its panic is reported: whoever has just been given something is to keep it.
pub(super) fn discard(waker: Waker) {
    shield_waker(|| drop(waker));
}

impl Drop for Wakers {
    /// Only while a comparison's panic unwinds is anybody left, and the lock has been given back by then.
    fn drop(&mut self) {
        self.wake_all();
    }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use super::*;

    fn enter(lot: &mut Lot<char, ()>, name: char) -> Key {
        lot.enter(name, Waker::noop().clone())
    }

    fn line(lot: &mut Lot<char, ()>) -> String {
        let mut line = String::new();
        while let Some(name) = lot.first().copied() {
            line.push(name);
            lot.choose(()).unwrap();
        }
        line
    }

    #[test]
    fn the_line_is_fifo_wherever_somebody_leaves_it() {
        for leaver in 0..4 {
            let mut lot = Lot::new();
            let mut keys: Vec<Key> = "abcd".chars().map(|name| enter(&mut lot, name)).collect();
            assert!(matches!(lot.leave(keys.remove(leaver)), Left::Waiting(_)));
            keys.push(enter(&mut lot, 'e'));
            assert_eq!((lot.waiting(), lot.chosen()), (4, 0));
            let expected: String = "abcde".chars().filter(|name| *name != ['a', 'b', 'c', 'd'][leaver]).collect();
            assert_eq!(line(&mut lot), expected);
            assert_eq!((lot.waiting(), lot.chosen()), (0, 4));
            assert!(keys.into_iter().all(|key| matches!(lot.leave(key), Left::Chosen(()))));
            assert_eq!((lot.waiting(), lot.chosen()), (0, 0));
        }
    }

    #[test]
    fn who_waits_again_keeps_its_place() {
        let mut lot = Lot::new();
        let keys: Vec<Key> = "abcd".chars().map(|name| enter(&mut lot, name)).collect();
        for _ in 0..3 {
            lot.choose(()).unwrap();
        }
        for back in [1, 0, 2] {
            lot.wait_again(&keys[back], Waker::noop().clone());
        }
        assert_eq!(line(&mut lot), "abcd");
    }
}
