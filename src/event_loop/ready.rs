//! What a loop is going to run: a FIFO that peers can steal from, and one for pinned handles.
//!
//! *Invariant.* Everything not pinned is in the stealable FIFO, at once and always. A loop without peers has one FIFO for
//! both, so that all of it runs in asyncio's order.
//!
//! *Threads.* The loop's own; peers hold the stealable FIFO's other end. *Ordering.* crossbeam-deque's.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::inbox::Inbox;
use crate::primitive::deque::Worker;
use crate::task::ReadyHandle;

/// How many handles of each FIFO a turn may still run. Each has its own, so that what is pushed meanwhile waits for the next turn
/// however the two alternate.
#[derive(Clone, Copy)]
pub(crate) struct Quota {
    pinned: usize,
    stealable: usize,
}

impl Quota {
    pub(crate) fn total(self) -> usize {
        self.pinned + self.stealable
    }
}

pub(crate) struct Ready {
    pinned: RefCell<VecDeque<ReadyHandle>>,
    /// `None` for a loop without peers.
    stealable: RefCell<Option<Worker<ReadyHandle>>>,
    /// Whose turn it is when both have something.
    pinned_next: Cell<bool>,
}

impl Ready {
    pub(crate) fn new(stealable: Option<Worker<ReadyHandle>>) -> Self {
        Self { pinned: RefCell::default(), stealable: RefCell::new(stealable), pinned_next: Cell::new(true) }
    }

    #[inline]
    pub(crate) fn push_pinned(&self, handle: ReadyHandle) {
        self.pinned.borrow_mut().push_back(handle);
    }

    /// Gives the handle back if there are no peers.
    #[inline]
    pub(crate) fn push_stealable(&self, handle: ReadyHandle) -> Result<(), ReadyHandle> {
        match &*self.stealable.borrow() {
            Some(queue) => queue.push(handle),
            None => return Err(handle),
        }
        Ok(())
    }

    /// Moves an inbox's posts to the pinned FIFO.
    pub(crate) fn take_posts(&self, inbox: &Inbox) -> usize {
        let mut pinned = self.pinned.borrow_mut();
        if pinned.is_empty() {
            let empty = std::mem::take(&mut *pinned);
            *pinned = inbox.take(empty);
            pinned.len()
        } else {
            let mut posts = inbox.take(VecDeque::new());
            let n = posts.len();
            pinned.append(&mut posts);
            n
        }
    }

    /// What is there now, for a turn to run.
    pub(crate) fn quota(&self) -> Quota {
        Quota { pinned: self.pinned.borrow().len(), stealable: self.stealable_len() }
    }

    /// The oldest handle within the quota; the two FIFOs in turn.
    #[inline]
    pub(crate) fn pop(&self, quota: &mut Quota) -> Option<ReadyHandle> {
        if quota.pinned == 0 {
            return self.take_stealable_within(quota);
        }
        if quota.stealable == 0 {
            return self.take_pinned(quota);
        }
        let pinned_first = self.pinned_next.replace(!self.pinned_next.get());
        if pinned_first {
            self.take_pinned(quota).or_else(|| self.take_stealable_within(quota))
        } else {
            self.take_stealable_within(quota).or_else(|| self.take_pinned(quota))
        }
    }

    fn take_pinned(&self, quota: &mut Quota) -> Option<ReadyHandle> {
        quota.pinned = quota.pinned.checked_sub(1)?;
        self.pop_pinned()
    }

    /// A thief may have been there since the quota was taken.
    #[inline]
    fn take_stealable_within(&self, quota: &mut Quota) -> Option<ReadyHandle> {
        quota.stealable = quota.stealable.checked_sub(1)?;
        self.pop_stealable()
    }

    /// The oldest of the FIFO that holds pinned handles (for a loop without peers: all).
    pub(crate) fn pop_pinned(&self) -> Option<ReadyHandle> {
        self.pinned.borrow_mut().pop_front()
    }

    /// The oldest of the FIFO that peers can steal from.
    #[inline]
    pub(crate) fn pop_stealable(&self) -> Option<ReadyHandle> {
        self.stealable.borrow().as_ref().and_then(Worker::pop)
    }

    pub(crate) fn len(&self) -> usize {
        self.pinned.borrow().len() + self.stealable_len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pinned.borrow().is_empty() && self.stealable.borrow().as_ref().is_none_or(Worker::is_empty)
    }

    pub(crate) fn stealable_len(&self) -> usize {
        self.stealable.borrow().as_ref().map_or(0, Worker::len)
    }

    /// Fills the stealable FIFO from elsewhere; returns how many came.
    pub(crate) fn fill(&self, take: impl FnOnce(&Worker<ReadyHandle>)) -> usize {
        let stealable = self.stealable.borrow();
        let Some(queue) = &*stealable else { return 0 };
        let before = queue.len();
        take(queue);
        queue.len().saturating_sub(before)
    }

    /// Gives up the stealable FIFO, for the loop's next tenancy.
    pub(crate) fn take_stealable(&self) -> Option<Worker<ReadyHandle>> {
        self.stealable.borrow_mut().take()
    }
}
