//! In which order items come out again: first, last or lowest first.
//!
//! *Invariant.* What goes in comes out once. *Threads.* Whoever holds the queue's lock. *Ordering.* That lock's.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

/// Where a queue keeps its items.
pub(super) trait Store: Default {
    type Item;

    fn push(&mut self, item: Self::Item);
    fn pop(&mut self) -> Option<Self::Item>;
    fn len(&self) -> usize;
}

#[derive(Debug)]
pub(super) struct Fifo<T>(VecDeque<T>);

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Store for Fifo<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.0.push_back(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[derive(Debug)]
pub(super) struct Lifo<T>(Vec<T>);

impl<T> Default for Lifo<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Store for Lifo<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.0.push(item);
    }

    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

#[derive(Debug)]
pub(super) struct Lowest<T> {
    heap: BinaryHeap<Reverse<Ranked<T>>>,
    puts: u64,
}

/// An item and its number: of equal ones, the first to be put is the lowest.
#[derive(Debug)]
struct Ranked<T> {
    item: T,
    number: u64,
}

impl<T: Ord> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.item.cmp(&other.item).then(self.number.cmp(&other.number))
    }
}

impl<T: Ord> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Ranked<T> {}

impl<T: Ord> Default for Lowest<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), puts: 0 }
    }
}

impl<T: Ord> Store for Lowest<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.puts += 1;
        self.heap.push(Reverse(Ranked { item, number: self.puts }));
    }

    fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|Reverse(ranked)| ranked.item)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }
}
