//! What is known of one descriptor: which directions are ready, and who waits for them.
//!
//! *Invariant.* An event that came after a clear's look survives the clear: each event counts up a tick, and a clear names
//! the tick it saw. A direction is taken to be ready until the system call says otherwise.
//!
//! *Threads.* Any: whoever polled the selector sets, whoever uses the descriptor clears and waits. *Ordering.* `set`
//! changes the word, then takes the waiters' lock; a waiter enters itself under the lock, then looks at the word again. So
//! either the waiter sees the event or `set` sees the waiter.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicU64, Ordering};

pub(crate) const READABLE: u64 = 1;
pub(crate) const WRITABLE: u64 = 1 << 1;
pub(super) const READ_CLOSED: u64 = 1 << 2;
pub(super) const WRITE_CLOSED: u64 = 1 << 3;
/// The loop is gone; every wait ends with an error.
pub(super) const SHUTDOWN: u64 = 1 << 4;
const TICK: u64 = 1 << 8;

/// Reading (and accepting), or writing (and connecting).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    fn mask(self) -> u64 {
        match self {
            Direction::Read => READABLE | READ_CLOSED | SHUTDOWN,
            Direction::Write => WRITABLE | WRITE_CLOSED | SHUTDOWN,
        }
    }
}

/// What a look found: names the event, so that clearing it cannot clear a later one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadyEvent {
    word: u64,
    direction: Direction,
}

pub(crate) struct Readiness {
    word: AtomicU64,
    waiters: Mutex<Waiters>,
}

#[derive(Default)]
struct Waiters {
    /// For `poll_*`: the last one to poll each direction.
    slots: [Option<Waker>; 2],
    /// For futures: any number.
    list: Vec<Waiter>,
    last_id: u64,
}

struct Waiter {
    id: u64,
    direction: Direction,
    waker: Waker,
}

impl Readiness {
    pub(crate) fn new(ready: bool) -> Self {
        let word = if ready { READABLE | WRITABLE } else { 0 };
        Self { word: AtomicU64::new(word), waiters: Mutex::new(Waiters::default()) }
    }

    /// Notes an event and hands the wakers of those it concerns to `wake_later`; they are woken outside all locks.
    pub(crate) fn set(&self, bits: u64, mut wake_later: impl FnMut(Waker)) {
        // Ordering: AcqRel: Release pairs with the Acquire in `event` and `look`: what made it ready happened before.
        let _ =
            self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some((word | bits).wrapping_add(TICK)));
        let mut waiters = self.waiters.lock();
        for direction in [Direction::Read, Direction::Write] {
            if bits & direction.mask() == 0 {
                continue;
            }
            if let Some(waker) = waiters.slots[direction as usize].take() {
                wake_later(waker);
            }
            let listed = waiters.list.extract_if(.., |waiter| waiter.direction == direction);
            listed.for_each(|waiter| wake_later(waiter.waker));
        }
    }

    fn event(&self, direction: Direction) -> Option<io::Result<ReadyEvent>> {
        // Ordering: Acquire, pairs with `set`.
        let word = self.word.load(Ordering::Acquire);
        if word & direction.mask() == 0 {
            None
        } else if word & SHUTDOWN != 0 {
            Some(Err(gone()))
        } else {
            Some(Ok(ReadyEvent { word, direction }))
        }
    }

    /// What is known of a direction that is ready.
    #[inline]
    pub(crate) fn look(&self, direction: Direction) -> Option<ReadyEvent> {
        // Ordering: Acquire, pairs with `set`.
        let word = self.word.load(Ordering::Acquire);
        (word & direction.mask() != 0 && word & SHUTDOWN == 0).then_some(ReadyEvent { word, direction })
    }

    pub(crate) fn clear(&self, event: ReadyEvent) {
        // What is closed stays closed.
        let bits = event.direction.mask() & (READABLE | WRITABLE);
        // Ordering: AcqRel, so that a later look sees at least what this one saw. Declines if a tick came between; the
        // other direction may have been cleared meanwhile.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
            (word / TICK == event.word / TICK && word & bits != 0).then_some(word & !bits)
        });
    }

    /// Clears a direction whatever is known of it: for level-triggered watches, which are told again.
    pub(super) fn forget(&self, direction: Direction) {
        // Ordering: AcqRel, as in `clear`.
        self.word.fetch_and(!direction.mask() | SHUTDOWN, Ordering::AcqRel);
    }

    /// Ready, or the direction's slot holds the context's waker.
    #[inline]
    pub(crate) fn poll(&self, cx: &Context<'_>, direction: Direction) -> Poll<io::Result<ReadyEvent>> {
        match self.look(direction) {
            Some(event) => Poll::Ready(Ok(event)),
            None => self.wait(cx, direction),
        }
    }

    fn wait(&self, cx: &Context<'_>, direction: Direction) -> Poll<io::Result<ReadyEvent>> {
        // Cloned and dropped outside the lock: both are user code. Cloned without asking whether it is there already, since an
        // event takes it out: who comes back has mostly been woken, and then a clone is less than a second lock.
        let waker = cx.waker().clone();
        let old = self.waiters.lock().slots[direction as usize].replace(waker);
        drop(old);
        // After the entry, the second look: see the file header.
        match self.event(direction) {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }

    /// The same for any number of waiters: `id` is the waiter's own, 0 before its first wait.
    fn poll_listed(&self, cx: &Context<'_>, direction: Direction, id: &mut u64) -> Poll<io::Result<ReadyEvent>> {
        if let Some(event) = self.event(direction) {
            return Poll::Ready(event);
        }
        // Cloned and dropped outside the lock: both are user code.
        let waker = cx.waker().clone();
        let old = self.waiters.lock().enter(id, direction, waker);
        drop(old);
        match self.event(direction) {
            Some(event) => Poll::Ready(event),
            None => Poll::Pending,
        }
    }

    fn unlist(&self, id: u64) {
        let waiter = self.waiters.lock().remove(id);
        drop(waiter);
    }
}

impl Waiters {
    /// Lists a waiter, or replaces its waker; returns the old one.
    fn enter(&mut self, id: &mut u64, direction: Direction, waker: Waker) -> Option<Waker> {
        if let Some(held) = self.list.iter_mut().find(|waiter| waiter.id == *id) {
            return Some(std::mem::replace(&mut held.waker, waker));
        }
        self.last_id += 1;
        *id = self.last_id;
        self.list.push(Waiter { id: *id, direction, waker });
        None
    }

    fn remove(&mut self, id: u64) -> Option<Waiter> {
        let at = self.list.iter().position(|waiter| waiter.id == id)?;
        Some(self.list.remove(at))
    }
}

#[cold]
fn gone() -> io::Error {
    io::Error::other("the event loop that served this descriptor is closed")
}

/// The future behind `Registration::ready`.
pub(crate) struct ReadyFuture<'a> {
    readiness: &'a Arc<Readiness>,
    direction: Direction,
    id: u64,
}

impl<'a> ReadyFuture<'a> {
    pub(crate) fn new(readiness: &'a Arc<Readiness>, direction: Direction) -> Self {
        Self { readiness, direction, id: 0 }
    }
}

impl Future for ReadyFuture<'_> {
    type Output = io::Result<ReadyEvent>;

    fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        this.readiness.poll_listed(cx, this.direction, &mut this.id)
    }
}

impl Drop for ReadyFuture<'_> {
    fn drop(&mut self) {
        if self.id != 0 {
            self.readiness.unlist(self.id);
        }
    }
}
