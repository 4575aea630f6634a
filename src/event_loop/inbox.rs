//! A loop's own FIFO for pinned work that other threads post.
//!
//! *Invariant.* In order of posting. Once closed, posts come back to the poster. *Threads.* `push` any, `take` the loop's
//! own (or whoever has its tenancy). *Ordering.* The lock's; `is_empty` is ordered by the fences of `park.rs`.

use std::collections::VecDeque;

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicUsize, Ordering};
use crate::task::ReadyHandle;

pub(crate) struct Inbox {
    posts: Mutex<Posts>,
    len: AtomicUsize,
}

struct Posts {
    queue: VecDeque<ReadyHandle>,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self { posts: Mutex::new(Posts { queue: VecDeque::new(), closed: false }), len: AtomicUsize::new(0) }
    }

    /// Appends; gives the handle back if closed.
    pub(crate) fn push(&self, handle: ReadyHandle) -> Result<(), ReadyHandle> {
        let mut posts = self.posts.lock();
        if posts.closed {
            return Err(handle);
        }
        posts.queue.push_back(handle);
        // Ordering: Relaxed: the poster's GiveFence, then the loop's SleepFence, order it against the loop's last look.
        self.len.store(posts.queue.len(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes everything, swapping in `empty`, whose room is used for the next posts.
    pub(crate) fn take(&self, empty: VecDeque<ReadyHandle>) -> VecDeque<ReadyHandle> {
        debug_assert!(empty.is_empty());
        let mut posts = self.posts.lock();
        // Ordering: Relaxed, as in `push`.
        self.len.store(0, Ordering::Relaxed);
        std::mem::replace(&mut posts.queue, empty)
    }

    /// Puts posts back, before those that came meanwhile; drops them if closed.
    pub(crate) fn restore(&self, mut older: VecDeque<ReadyHandle>) {
        let mut posts = self.posts.lock();
        if !posts.closed {
            older.append(&mut posts.queue);
            std::mem::swap(&mut posts.queue, &mut older);
            // Ordering: Relaxed, as in `push`.
            self.len.store(posts.queue.len(), Ordering::Relaxed);
        }
        drop(posts);
        drop(older);
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        // Ordering: Relaxed: see `push`.
        self.len.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses posts from now on; returns what was there, for the caller to drop where it may.
    pub(crate) fn close(&self) -> VecDeque<ReadyHandle> {
        self.posts.lock().closed = true;
        self.take(VecDeque::new())
    }
}
