//! The global FIFO: what any thread may give to the loops as a whole.
//!
//! *Invariant.* Once closed, it is empty or about to be emptied by whoever pushed. *Threads.* Any. *Ordering.* A push ends
//! with GiveFence, after which the pusher decides whether to wake somebody. Closing is the same kind of pair: the closer
//! sets the flag, fences and drains; a pusher pushes, fences (the same fence) and looks at the flag.

use crate::primitive::atomic::{AtomicBool, Ordering, fence};
use crate::primitive::deque::{Injector as Fifo, Steal, Worker};
use crate::task::{ReadyHandle, discard};

pub(crate) struct Injector {
    fifo: Fifo<ReadyHandle>,
    closed: AtomicBool,
}

impl Injector {
    pub(crate) fn new() -> Self {
        Self { fifo: Fifo::new(), closed: AtomicBool::new(false) }
    }

    /// Appends, and does GiveFence. False if the injector is closed, and then the handle has been dropped.
    pub(crate) fn push(&self, handle: ReadyHandle) -> bool {
        self.fifo.push(handle);
        fence(Ordering::SeqCst); // GiveFence, pairs with SleepFence and with the fence in `close`
        // Ordering: Relaxed: ordered by the fence.
        let open = !self.closed.load(Ordering::Relaxed);
        if !open {
            self.drain();
        }
        open
    }

    /// Moves up to `limit` of the oldest handles to `dest`; false if there was none.
    pub(crate) fn pull(&self, dest: &Worker<ReadyHandle>, limit: usize) -> bool {
        loop {
            match self.fifo.steal_batch_with_limit(dest, limit) {
                Steal::Success(()) => return true,
                Steal::Empty => return false,
                Steal::Retry => {}
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.fifo.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fifo.is_empty()
    }

    /// Drops what is there, and from now on all that is pushed.
    pub(crate) fn close(&self) {
        // Ordering: Relaxed: the fence orders it.
        self.closed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst); // pairs with the fence in `push`
        self.drain();
    }

    /// Dropping a ready handle cancels its task, whose destructor may push the next.
    fn drain(&self) {
        let scrap = Worker::new_fifo();
        while self.pull(&scrap, usize::MAX) {
            while let Some(handle) = scrap.pop() {
                discard(handle);
            }
        }
    }
}
