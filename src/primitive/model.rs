//! The primitives under loom: its atomics and locks, and stand-ins for crossbeam's deques.
//!
//! *Invariant.* A stand-in gives no more ordering than the real one promises where our protocols look without taking:
//! `is_empty` and `len` are one Acquire load of an index that a push stores with Release. What takes (pop, steal) locks.
//!
//! *Threads.* As the real ones. *Ordering.* See above; a missing fence on our side can therefore be found.

pub(crate) use loom::sync::MutexGuard;

/// std's with a constant value, of which each of a model's threads has its own. Has `with` only.
macro_rules! model_thread_local {
    ($(#[$attribute:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
        loom::thread_local! { $(#[$attribute])* static $name: $type = $value; }
    };
}
pub(crate) use model_thread_local as thread_local;

/// loom's mutex with parking_lot's shape: no poison.
#[derive(Debug)]
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok()
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

/// Whether this build is for the models, which shrink some constants.
pub(crate) const MODELLED: bool = true;

pub(crate) mod atomic {
    //! Atomics and fences.
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
}

/// loom's cell: it reports two accesses that are not ordered.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(loom::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }

    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        self.0.with_mut(f)
    }
}

/// What tells this thread from all others; never 0.
pub(crate) fn thread_token() -> usize {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish() as usize | 1
}

/// Lets others go first, who are about to do what this thread waits for.
pub(crate) fn give_way(_: u32) {
    loom::thread::yield_now();
}

pub(crate) mod asymmetric {
    //! Stand-ins for the fences of `asymmetric.rs`: whichever of the two comes second sees what the other's thread did before.
    //! A fence would do more: it would make a Release of each plain store after it.
    use super::atomic::{AtomicUsize, Ordering};

    loom::lazy_static! {
        static ref LIGHT: AtomicUsize = AtomicUsize::new(0);
        static ref HEAVY: AtomicUsize = AtomicUsize::new(0);
    }

    pub(crate) fn light() {
        // Ordering: Release, pairs with the Acquire in `heavy`.
        LIGHT.fetch_add(1, Ordering::Release);
        // Ordering: Acquire, pairs with the Release in `heavy`. An addition reads the last value, as a load need not.
        HEAVY.fetch_add(0, Ordering::Acquire);
    }

    pub(crate) fn heavy() {
        // Ordering: Release, pairs with the Acquire in `light`.
        HEAVY.fetch_add(1, Ordering::Release);
        // Ordering: Acquire, pairs with the Release in `light`.
        LIGHT.fetch_add(0, Ordering::Acquire);
    }

    pub(crate) fn are_there() -> bool {
        true
    }

    pub(crate) fn prepare() {}
}

pub(crate) mod deque {
    //! Stand-ins with crossbeam-deque's names, as far as this crate uses them.
    use std::collections::VecDeque;
    use std::sync::Arc;

    use super::Mutex;
    use super::atomic::{AtomicUsize, Ordering};

    pub(crate) enum Steal<T> {
        Empty,
        Success(T),
        #[allow(dead_code)]
        Retry,
    }

    struct Fifo<T> {
        items: Mutex<VecDeque<T>>,
        pushed: AtomicUsize,
        taken: AtomicUsize,
    }

    impl<T> Fifo<T> {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                items: Mutex::new(VecDeque::new()),
                pushed: AtomicUsize::new(0),
                taken: AtomicUsize::new(0),
            })
        }

        fn push(&self, item: T) {
            let mut items = self.items.lock();
            items.push_back(item);
            // Ordering: Release, as the real push on its back index; pairs with the loads in `len`.
            self.pushed.fetch_add(1, Ordering::Release);
        }

        fn pop(&self) -> Option<T> {
            let mut items = self.items.lock();
            let item = items.pop_front();
            if item.is_some() {
                // Under the lock: in the real one, too, what a pop found empty looks empty to the popper afterwards.
                self.taken.fetch_add(1, Ordering::AcqRel);
            }
            item
        }

        fn len(&self) -> usize {
            let taken = self.taken.load(Ordering::Acquire);
            self.pushed.load(Ordering::Acquire).saturating_sub(taken)
        }

        fn steal_into(&self, dest: &Worker<T>, limit: usize) -> Steal<()> {
            // A look without taking: one that finds nothing orders nothing.
            if self.len() == 0 {
                return Steal::Empty;
            }
            let mut items = self.items.lock();
            let n = items.len().div_ceil(2).min(limit);
            let batch: Vec<T> = items.drain(..n).collect();
            if batch.is_empty() {
                return Steal::Empty;
            }
            // Under the lock, as in `pop`.
            self.taken.fetch_add(batch.len(), Ordering::AcqRel);
            drop(items);
            batch.into_iter().for_each(|item| dest.push(item));
            Steal::Success(())
        }
    }

    pub(crate) struct Worker<T>(Arc<Fifo<T>>);
    pub(crate) struct Stealer<T>(Arc<Fifo<T>>);
    pub(crate) struct Injector<T>(Arc<Fifo<T>>);

    impl<T> Worker<T> {
        pub(crate) fn new_fifo() -> Self {
            Self(Fifo::new())
        }
        pub(crate) fn stealer(&self) -> Stealer<T> {
            Stealer(self.0.clone())
        }
        pub(crate) fn push(&self, item: T) {
            self.0.push(item);
        }
        pub(crate) fn pop(&self) -> Option<T> {
            self.0.pop()
        }
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }
    }

    impl<T> Stealer<T> {
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
        pub(crate) fn steal_batch_with_limit(&self, dest: &Worker<T>, limit: usize) -> Steal<()> {
            self.0.steal_into(dest, limit)
        }
    }

    impl<T> Injector<T> {
        pub(crate) fn new() -> Self {
            Self(Fifo::new())
        }
        pub(crate) fn push(&self, item: T) {
            self.0.push(item);
        }
        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
        pub(crate) fn is_empty(&self) -> bool {
            self.len() == 0
        }
        pub(crate) fn steal_batch_with_limit(&self, dest: &Worker<T>, limit: usize) -> Steal<()> {
            self.0.steal_into(dest, limit)
        }
    }
}
