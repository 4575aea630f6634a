//! A 4-ary heap of deadlines, each with the waker of what it makes ready.
//!
//! *Invariant.* Equal deadlines come out in the order of their numbers. A [`Key`] finds its own entry or none, whoever has the
//! slot by now. Runs no waker's code: what is taken out is the caller's. *Threads.* Whoever holds it. *Ordering.* None.

use std::task::Waker;

use slab::Slab;

use super::clock::NEVER;

/// Children per node: four share a cache line or two, and the heap is half as deep as a binary one.
const ARITY: usize = 4;

#[derive(Default)]
pub(super) struct Heap {
    nodes: Vec<Node>,
    /// By slot: where its node is. Apart from the entries, because sifting touches only these: sixteen to a cache line.
    places: Vec<u32>,
    entries: Slab<Entry>,
}

#[derive(Clone, Copy)]
struct Node {
    deadline: u64,
    slot: u32,
}

struct Entry {
    waker: Waker,
    sequence: u64,
}

/// What finds an entry again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) deadline: u64,
    /// Unique.
    pub(super) sequence: u64,
    pub(super) slot: u32,
}

impl Key {
    /// Of no timer. Its deadline has passed for good.
    pub(super) const DEAD: Self = Self { deadline: 0, sequence: 0, slot: u32::MAX };
}

impl Heap {
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The earliest deadline.
    pub(super) fn next(&self) -> u64 {
        self.nodes.first().map_or(NEVER, |node| node.deadline)
    }

    /// The earliest deadline but for that of `key`.
    pub(super) fn next_without(&self, key: Key) -> u64 {
        match self.place_of(key) {
            // Below the first node there is none that is earlier than all of its children.
            Some(0) => self.nodes.iter().skip(1).take(ARITY).map(|node| node.deadline).min().unwrap_or(NEVER),
            _ => self.next(),
        }
    }

    pub(super) fn insert(&mut self, deadline: u64, sequence: u64, waker: Waker) -> Key {
        let at = self.nodes.len();
        let slot = self.entries.insert(Entry { waker, sequence });
        if slot >= self.places.len() {
            self.places.resize(slot + 1, 0);
        }
        let slot = u32::try_from(slot).expect("more than 2^32 timers");
        self.nodes.push(Node { deadline, slot });
        self.sift_up(at);
        Key { deadline, sequence, slot }
    }

    /// The entry, with its deadline, if it is still there.
    pub(super) fn find(&self, key: Key) -> Option<Key> {
        let at = self.place_of(key)?;
        Some(Key { deadline: self.nodes[at].deadline, ..key })
    }

    /// The waker of an entry that is still there.
    pub(super) fn waker(&mut self, key: Key) -> Option<&mut Waker> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        (entry.sequence == key.sequence).then_some(&mut entry.waker)
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Waker> {
        let at = self.place_of(key)?;
        Some(self.remove_at(at).1)
    }

    /// Takes out the first, if it is due.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<(u64, Waker)> {
        (self.next() <= now).then(|| self.remove_at(0))
    }

    /// Gives an entry that is there another deadline and another number.
    #[inline]
    pub(super) fn rekey(&mut self, key: Key, deadline: u64, sequence: u64) -> Key {
        let at = self.places[key.slot as usize] as usize;
        self.entries[key.slot as usize].sequence = sequence;
        self.nodes[at].deadline = deadline;
        // The number is the highest, so an equal deadline is a later place.
        if deadline < key.deadline {
            self.sift_up(at);
        } else {
            self.sift_down(at);
        }
        Key { deadline, sequence, slot: key.slot }
    }

    pub(super) fn drain(&mut self) -> Vec<Waker> {
        self.nodes.clear();
        self.entries.drain().map(|entry| entry.waker).collect()
    }

    fn place_of(&self, key: Key) -> Option<usize> {
        let entry = self.entries.get(key.slot as usize)?;
        (entry.sequence == key.sequence).then(|| self.places[key.slot as usize] as usize)
    }

    fn remove_at(&mut self, at: usize) -> (u64, Waker) {
        let node = self.nodes.swap_remove(at);
        if at < self.nodes.len() && !self.sift_down(at) {
            self.sift_up(at);
        }
        let Entry { waker, sequence } = self.entries.remove(node.slot as usize);
        (sequence, waker)
    }

    fn is_before(&self, one: Node, other: Node) -> bool {
        let sequence = |node: Node| self.entries[node.slot as usize].sequence;
        one.deadline < other.deadline || (one.deadline == other.deadline && sequence(one) < sequence(other))
    }

    fn place(&mut self, node: Node, at: usize) {
        self.nodes[at] = node;
        self.places[node.slot as usize] = at as u32;
    }

    fn sift_up(&mut self, mut at: usize) {
        let node = self.nodes[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if !self.is_before(node, self.nodes[parent]) {
                break;
            }
            self.place(self.nodes[parent], at);
            at = parent;
        }
        self.place(node, at);
    }

    /// Whether it moved.
    fn sift_down(&mut self, from: usize) -> bool {
        let node = self.nodes[from];
        let mut at = from;
        loop {
            let children = at * ARITY + 1..(at * ARITY + 1 + ARITY).min(self.nodes.len());
            let earlier = |one, other| if self.is_before(self.nodes[other], self.nodes[one]) { other } else { one };
            let Some(child) = children.reduce(earlier) else { break };
            if !self.is_before(self.nodes[child], node) {
                break;
            }
            self.place(self.nodes[child], at);
            at = child;
        }
        self.place(node, at);
        at != from
    }
}
