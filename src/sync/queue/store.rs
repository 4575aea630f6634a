//! In which order items come out again: first, last or lowest first.
//!
//! *Invariant.* What goes in comes out once, whatever panics on the way. *Threads.* Whoever holds the queue's lock. *Ordering.* That lock's.

use std::collections::VecDeque;

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

/// A binary heap of its own, as std's drops an item when a comparison panics: here that would be under the queue's lock.
#[derive(Debug)]
pub(super) struct Lowest<T> {
    heap: Vec<Ranked<T>>,
    puts: u64,
}

/// An item and its number: of equal ones, the first to be put is the lowest.
#[derive(Debug)]
struct Ranked<T> {
    item: T,
    number: u64,
}

impl<T: Ord> Lowest<T> {
    fn is_lower(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.heap[one], &self.heap[other]);
        one.item.cmp(&other.item).then(one.number.cmp(&other.number)).is_lt()
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.is_lower(at, (at - 1) / 2) {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// Among the first `len`.
    fn sink(&mut self, mut at: usize, len: usize) {
        while 2 * at + 1 < len {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if right < len && self.is_lower(right, left) { right } else { left };
            if !self.is_lower(child, at) {
                return;
            }
            self.heap.swap(at, child);
            at = child;
        }
    }
}

impl<T: Ord> Default for Lowest<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), puts: 0 }
    }
}

impl<T: Ord> Store for Lowest<T> {
    type Item = T;

    fn push(&mut self, item: T) {
        self.puts += 1;
        self.heap.push(Ranked { item, number: self.puts });
        self.rise(self.heap.len() - 1);
    }

    fn pop(&mut self) -> Option<T> {
        let last = self.heap.len().checked_sub(1)?;
        self.heap.swap(0, last);
        // Before it is taken out: should a comparison panic, it is still there.
        self.sink(0, last);
        self.heap.pop().map(|ranked| ranked.item)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }
}
