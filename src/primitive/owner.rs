//! Which thread something is biased to.
//!
//! *Invariant.* The word holds the token of the thread that is the owner, else [`NOBODY`]. A thread that reads its own token is the
//! owner: it alone ever writes that token, and it overwrites it before it stops being the owner. So a Relaxed load tells a thread
//! for certain whether it is; who else is, nobody asks. Tokens are not used again, and a thread has its own in its exit
//! destructors, too.
//!
//! *Threads.* Any may ask. That there is one owner at a time is up to whoever has such a word. *Ordering.* Relaxed: it orders
//! nothing; what the owners leave to each other goes another way.

use super::atomic::{AtomicUsize, Ordering};
use super::thread_token;

/// No thread's token.
const NOBODY: usize = 0;

pub(super) struct Owner(AtomicUsize);

impl Owner {
    pub(super) fn nobody() -> Self {
        Self(AtomicUsize::new(NOBODY))
    }

    /// Whether this thread is the owner.
    #[inline]
    pub(super) fn is_here(&self) -> bool {
        self.0.load(Ordering::Relaxed) == thread_token()
    }

    /// By who knows that no other thread is becoming the owner, or ceasing to be, at the moment.
    pub(super) fn is_elsewhere(&self) -> bool {
        ![NOBODY, thread_token()].contains(&self.0.load(Ordering::Relaxed))
    }

    /// This thread is the owner from now on.
    pub(super) fn begin(&self) {
        self.0.store(thread_token(), Ordering::Relaxed);
    }

    /// By the owner, who is none any more.
    pub(super) fn end(&self) {
        self.0.store(NOBODY, Ordering::Relaxed);
    }
}
