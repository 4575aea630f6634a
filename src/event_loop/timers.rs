//! A loop's timers: a heap under a lock, the earliest deadline for peers to see, and a place for one that was just dropped.
//!
//! *Invariant.* Holds wakers and nothing else, so whoever expires it only wakes. Equal deadlines fire in arming order.
//! Cancelling takes the entry out at once, by whoever cancels: there is no garbage to sweep (asyncio's rule of "over 100
//! and more than half cancelled" bounds what does not exist here).
//!
//! *Helpers.* Any loop may expire another one's timers. What is pinned to the timers' own loop a helper only takes out of the heap
//! and *leaves* for it, in order: it could not run it, and were both to wake what they have taken, the later batch might come
//! first. The loop takes what was left before it takes more, in one visit. (A guest's timers, and those of what may run anywhere,
//! the helper wakes.)
//!
//! *The spare.* One exception, and only until the end of the turn: a timer that is dropped in a turn of its own loop stays in
//! the heap as the spare, and the next one that this thread arms takes its place. A server's `timeout(.., read()).await` in a
//! loop does one after the other, and pays one visit to the heap for both. The heap counts the spare as cancelled, does
//! not show it, and does not wake for it. Only wakers of the loop's own tasks and callbacks are kept so: nobody can count their
//! clones, and dropping the last one runs no user code, since the runtime goes on.
//!
//! The spare is named by two words that the loop's thread alone sets, without the lock, and only when none is named; they are
//! cleared under the lock, by that thread or by whoever finds the spare due. Under the lock, then, a spare that is seen
//! stays one. Who does not see it yet finds a timer that is dropped later: that is the same as having come before the drop.
//! Who has been told of the drop sees it, as he sees all that came before it.
//!
//! *What has been swept.* Who expires notes, under the lock, up to which moment he left nothing, and the number of the last
//! timer that was armed by then. Both only grow, and what is gone stays gone: so who reads them without the lock, and be it one
//! word from each of two sweeps, may believe that a timer with an earlier deadline and a lower number is not there any more,
//! and need not look. That is nearly every timer that fires.
//!
//! *Threads.* Any; the lock is nearly always the owner's, and biased: while its loop is driven, that thread locks it without an
//! atomic read-modify-write. No waker is cloned, woken or dropped under it. *Ordering.* The
//! lock's. `next` is a hint for peers; a loop that parks reads the heap after SleepFence, and who arms from another thread
//! fences after, so one sees the other (`park.rs`).

mod timer;

pub(crate) use timer::Timer;

use std::task::Waker;
use std::time::Instant;

use super::clock::NEVER;
use super::heap::{Heap, Key};
use crate::primitive::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::primitive::{BiasedMutex, MODELLED};
use crate::task::{Event, FutureId, Observer, only_loop};

/// How many wakers are taken out of the heap before they are woken.
const BATCH: usize = if MODELLED { 1 } else { 64 };

pub(crate) struct Timers {
    /// The loop.
    index: usize,
    observer: Observer,
    inner: BiasedMutex<Inner>,
    /// The earliest deadline, for peers to see without the lock.
    next: AtomicU64,
    /// Helpers have left something.
    has_left: AtomicBool,
    spare: Spare,
    swept: Swept,
}

struct Inner {
    heap: Heap,
    /// What helpers have taken out, and left to be woken by the loop itself; with the numbers.
    left: Vec<(u64, Waker)>,
    /// What the timers' numbers begin at, which are unique in the process.
    first: u64,
    armed: u64,
    fired: u64,
    cancelled: u64,
    closed: bool,
}

/// The spare, as the file header says.
struct Spare {
    /// Its number, or `NONE`.
    sequence: AtomicU64,
    slot: AtomicU32,
}

/// The number of no timer: the first is 1.
const NONE: u64 = 0;

#[derive(Default)]
struct Swept {
    until: AtomicU64,
    sequence: AtomicU64,
}

/// For the metrics.
pub(crate) struct TimerCounts {
    pub(crate) armed: u64,
    pub(crate) fired: u64,
    pub(crate) cancelled: u64,
    pub(crate) pending: usize,
    /// The earliest deadline.
    pub(crate) next: u64,
}

impl Inner {
    /// The last number given.
    fn last(&self) -> u64 {
        self.first + self.armed
    }

    /// The next timer's number.
    fn number(&mut self) -> u64 {
        self.armed += 1;
        self.last()
    }
}

impl Spare {
    /// As seen at this moment. Only under the lock, or by the loop's thread, the two words belong together; else the heap knows
    /// no such key.
    fn key(&self) -> Option<Key> {
        // Ordering: Relaxed: the heap has the last word.
        let sequence = self.sequence.load(Ordering::Relaxed);
        (sequence != NONE).then(|| Key { deadline: NEVER, sequence, slot: self.slot.load(Ordering::Relaxed) })
    }

    /// Under the lock.
    fn clear(&self) {
        // Ordering: Relaxed: see `key`. The loop's thread sets it again only once it has read this.
        self.sequence.store(NONE, Ordering::Relaxed);
    }
}

impl Timers {
    pub(crate) fn new(index: usize, observer: Observer) -> Self {
        let first = FutureId::next_timers();
        let inner =
            Inner { heap: Heap::default(), left: Vec::new(), first, armed: 0, fired: 0, cancelled: 0, closed: false };
        let spare = Spare { sequence: AtomicU64::new(NONE), slot: AtomicU32::new(0) };
        let next = AtomicU64::new(NEVER);
        Self {
            index,
            observer,
            inner: BiasedMutex::new(inner),
            next,
            has_left: AtomicBool::new(false),
            spare,
            swept: Swept::default(),
        }
    }

    /// The calling thread drives the loop from now on.
    pub(super) fn take_over(&self) {
        self.inner.take_over();
    }

    /// The thread that drove the loop does not any more.
    pub(super) fn give_up(&self) {
        self.inner.give_up();
    }

    fn publish(&self, heap: &Heap) {
        // Ordering: Relaxed: a hint, written under the lock.
        self.next.store(heap.next(), Ordering::Relaxed);
    }

    fn tell_armed(&self, number: u64, when: Instant) {
        self.observer.tell(|| Event::TimerArmed { on: self.index, timer: FutureId::of_timer(number), when });
    }

    /// The earliest deadline as of some moment ago.
    pub(crate) fn next_hint(&self) -> u64 {
        // Ordering: Relaxed: see `publish`.
        self.next.load(Ordering::Relaxed)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> u64 {
        self.inner.lock().heap.next()
    }

    /// When the loop itself has to come next: at once, if something was left for it.
    pub(crate) fn next_own(&self) -> u64 {
        let inner = self.inner.lock();
        if inner.left.is_empty() { inner.heap.next() } else { 0 }
    }

    /// Whether helpers have left something for the loop itself, as of some moment ago.
    fn has_left(&self) -> bool {
        // Ordering: Relaxed: a hint, as `next`. A loop that parks asks `next_own`.
        self.has_left.load(Ordering::Relaxed)
    }

    /// Whether the loop itself has any, as of some moment ago.
    pub(crate) fn any_own(&self) -> bool {
        self.next_hint() != NEVER || self.has_left()
    }

    /// Wakes what is due, by the loop itself.
    pub(crate) fn expire_own(&self, now: u64, wake: impl Fn(Waker)) {
        self.expire(now, true, wake);
    }

    /// Wakes what is due, but for what is pinned to the timers' loop; returns how many. By another loop: the wakers put their
    /// tasks where they belong.
    pub(crate) fn expire_for(&self, now: u64, wake: impl Fn(Waker)) -> usize {
        self.expire(now, false, wake)
    }

    /// `own`: by the loop itself, which also wakes what was left for it.
    fn expire(&self, now: u64, own: bool, wake: impl Fn(Waker)) -> usize {
        let mut total = 0;
        let (mut due, mut numbers) = (Vec::new(), Vec::new());
        while self.next_hint() <= now || (own && self.has_left()) {
            due.reserve_exact(BATCH);
            let mut inner = self.inner.lock();
            if own && !inner.left.is_empty() {
                self.take_left(&mut inner, &mut due, &mut numbers);
            }
            let mut taken = 0;
            let spare = self.spare.key().and_then(|spare| inner.heap.find(spare));
            let unwanted = spare.filter(|spare| spare.deadline <= now).and_then(|spare| self.cancel(&mut inner, spare));
            while taken < BATCH
                && let Some((number, waker)) = inner.heap.pop_due(now)
            {
                taken += 1;
                if !own && only_loop(&waker) == Some(self.index) {
                    self.leave(&mut inner, number, waker);
                    continue;
                }
                due.push(waker);
                if self.observer.is_on() {
                    numbers.push(number);
                }
            }
            inner.fired += taken as u64;
            if inner.heap.next() > now {
                self.note_swept(&inner, now);
            }
            self.publish(&inner.heap);
            drop(inner);
            drop(unwanted);
            total += due.len();
            for waker in due.drain(..) {
                for number in numbers.drain(..1.min(numbers.len())) {
                    self.observer.tell(|| Event::TimerFired { on: self.index, timer: FutureId::of_timer(number) });
                }
                wake(waker);
            }
        }
        total
    }

    /// By a helper, under the lock: for the loop itself to wake.
    fn leave(&self, inner: &mut Inner, number: u64, waker: Waker) {
        inner.left.push((number, waker));
        // Ordering: Relaxed: written under the lock.
        self.has_left.store(true, Ordering::Relaxed);
    }

    /// By the loop itself, under the lock.
    #[cold]
    fn take_left(&self, inner: &mut Inner, due: &mut Vec<Waker>, numbers: &mut Vec<u64>) {
        for (number, waker) in inner.left.drain(..) {
            due.push(waker);
            if self.observer.is_on() {
                numbers.push(number);
            }
        }
        // Ordering: Relaxed: written under the lock.
        self.has_left.store(false, Ordering::Relaxed);
    }

    /// Nothing that was armed so far is due by `now` and still there.
    fn note_swept(&self, inner: &Inner, now: u64) {
        // With an observer a timer has its number before it is in the heap.
        // Ordering: Relaxed: the file header. The loads are the lock's.
        if !self.observer.is_on() && self.swept.until.load(Ordering::Relaxed) <= now {
            self.swept.until.store(now, Ordering::Relaxed);
            self.swept.sequence.store(inner.last(), Ordering::Relaxed);
        }
    }

    /// Whether the timer is known to be gone.
    #[inline]
    fn has_swept(&self, key: Key) -> bool {
        // Ordering: Relaxed: the file header.
        key.deadline <= self.swept.until.load(Ordering::Relaxed)
            && key.sequence <= self.swept.sequence.load(Ordering::Relaxed)
    }

    /// Takes a timer out. The lock is held.
    fn cancel(&self, inner: &mut Inner, key: Key) -> Option<Waker> {
        let waker = inner.heap.remove(key)?;
        inner.cancelled += 1;
        if self.spare.key().is_some_and(|spare| spare.sequence == key.sequence) {
            self.spare.clear();
        }
        Some(waker)
    }

    pub(crate) fn counts(&self) -> TimerCounts {
        let inner = self.inner.lock();
        let heap = &inner.heap;
        let spare = self.spare.key().and_then(|spare| heap.find(spare));
        let dropped = usize::from(spare.is_some());
        TimerCounts {
            armed: inner.armed,
            fired: inner.fired,
            cancelled: inner.cancelled + dropped as u64,
            pending: heap.len() - dropped,
            next: spare.map_or_else(|| heap.next(), |spare| heap.next_without(spare)),
        }
    }

    /// Takes no more timers and wakes all that wait, to find their loop gone.
    pub(crate) fn close(&self, wake: impl Fn(Waker)) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let mut wakers = inner.heap.drain();
        wakers.extend(inner.left.drain(..).map(|(_, waker)| waker));
        self.publish(&inner.heap);
        drop(inner);
        wakers.into_iter().for_each(wake);
    }
}

/// The spare: by the loop's own thread, in its turn.
impl Timers {
    /// Keeps a timer that is dropped; false if there is one already.
    #[inline]
    fn set_aside(&self, key: Key) -> bool {
        if self.spare.key().is_some() || self.observer.is_on() {
            return false;
        }
        // Ordering: Relaxed: the file header.
        self.spare.slot.store(key.slot, Ordering::Relaxed);
        self.spare.sequence.store(key.sequence, Ordering::Relaxed);
        true
    }

    /// Arms in the place of the spare, if there is one.
    #[inline]
    fn rearm<'a>(&self, deadline: u64, mut waker: Given<'a>) -> Result<Key, Given<'a>> {
        while self.spare.key().is_some() {
            let mut inner = self.inner.lock();
            let spare = self.spare.key().and_then(|spare| inner.heap.find(spare));
            let Some((spare, kept)) = spare.and_then(|spare| Some((spare, inner.heap.waker(spare)?))) else {
                // It was due meanwhile.
                self.spare.clear();
                break;
            };
            match &mut waker {
                Given::Own(waker) => std::mem::swap(kept, waker),
                Given::Lent(waker) if kept.will_wake(waker) => {}
                Given::Lent(lent) => {
                    // Cloned outside the lock: it may be user code.
                    drop(inner);
                    waker = Given::Own(lent.clone());
                    continue;
                }
            }
            self.spare.clear();
            inner.cancelled += 1;
            let sequence = inner.number();
            let key = inner.heap.rekey(spare, deadline, sequence);
            self.publish(&inner.heap);
            drop(inner);
            drop(waker);
            return Ok(key);
        }
        Err(waker)
    }

    /// Takes the spare out; its waker is to be dropped.
    #[cold]
    fn take_spare(&self) -> Option<Waker> {
        let mut inner = self.inner.lock();
        let spare = self.spare.key()?;
        let waker = self.cancel(&mut inner, spare);
        self.spare.clear();
        self.publish(&inner.heap);
        waker
    }

    /// At the end of a turn.
    pub(crate) fn end_turn(&self) -> Option<Waker> {
        if self.spare.key().is_some() { self.take_spare() } else { None }
    }
}

/// A waker to be armed: cloned only if it has to be.
enum Given<'a> {
    Own(Waker),
    Lent(&'a Waker),
}

impl Given<'_> {
    fn waker(&self) -> &Waker {
        match self {
            Self::Own(waker) => waker,
            Self::Lent(waker) => waker,
        }
    }

    fn into_owned(self) -> Waker {
        match self {
            Self::Own(waker) => waker,
            Self::Lent(waker) => waker.clone(),
        }
    }
}
