//! [`Mutex`]: one at a time, held across awaits.
//!
//! *Invariant.* Who has the one permit may hold the value; a guard gives back the value before the permit. *Threads.* Any.
//! *Ordering.* That of the permits' lock.

use std::fmt;
use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::blocking;
use super::permits::{HasPermits, Held, Permits};
use crate::primitive::{Exclusive, Hold};

/// A lock that is waited for without blocking the thread, and may be held across an `.await`. asyncio's `Lock`.
///
/// Fair: the lock goes to who has waited longest, and a newcomer does not overtake anybody. It is handed over on unlocking, so
/// it is not free in between. Any task on any loop, of any runtime or of none, and with
/// [`blocking_lock`](Self::blocking_lock) any thread may take part. There is no poison: a panic while the lock is held
/// unlocks it.
///
/// Where nothing is awaited while it is held, `std::sync::Mutex` is cheaper.
///
/// The counterpart of `asyncio.Lock` and `tokio::sync::Mutex`. asyncio's error for releasing a lock that is not held has none:
/// here that cannot be written.
///
/// # Examples
///
/// ```
/// use epicycle::sync::Mutex;
/// use std::sync::Arc;
///
/// epicycle::run(async {
///     let total = Arc::new(Mutex::new(0));
///     let tasks: Vec<_> = (1..=10)
///         .map(|n| {
///             let total = total.clone();
///             epicycle::spawn(async move {
///                 let mut total = total.lock().await;
///                 epicycle::yield_now().await;
///                 *total += n;
///             })
///         })
///         .collect();
///     for task in tasks {
///         task.await.unwrap();
///     }
///     assert_eq!(*total.lock().await, 55);
/// });
/// ```
#[doc(alias = "Lock")]
pub struct Mutex<T: ?Sized> {
    permits: Permits,
    value: Exclusive<T>,
}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::Mutex;
    ///
    /// let mutex = Mutex::new(1);
    /// assert_eq!(*mutex.try_lock().unwrap(), 1);
    /// ```
    pub fn new(value: T) -> Self {
        Self { permits: Permits::new(1, 1), value: Exclusive::new(value) }
    }

    /// The value.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Mutex::new(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Waits for its turn, and locks.
    ///
    /// A free lock is taken without letting other tasks run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the line; if the lock had been handed to it already, it goes to the next one.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let mutex = epicycle::sync::Mutex::new(vec![1]);
    /// let mut guard = mutex.lock().await;
    /// guard.push(2);
    /// drop(guard);
    /// assert_eq!(mutex.into_inner(), [1, 2]);
    /// # });
    /// ```
    #[doc(alias = "acquire")]
    pub async fn lock(&self) -> MutexGuard<'_, T> {
        self.permits.lock().await;
        MutexGuard::new(self)
    }

    /// As [`lock`](Self::lock), with a guard that keeps the mutex alive and borrows nothing, for a task to take along.
    ///
    /// # Cancel safety
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::Mutex;
    /// use std::sync::Arc;
    ///
    /// # epicycle::run(async {
    /// let mutex = Arc::new(Mutex::new(1));
    /// let mut guard = mutex.clone().lock_owned().await;
    /// epicycle::spawn(async move { *guard += 1 }).await.unwrap();
    /// assert_eq!(*mutex.lock().await, 2);
    /// # });
    /// ```
    pub async fn lock_owned(self: Arc<Self>) -> OwnedMutexGuard<T> {
        self.permits.lock().await;
        OwnedMutexGuard::new(self)
    }

    /// Locks if that is possible at once. `None` while it is locked, and while it is being handed over.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = epicycle::sync::Mutex::new(());
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(mutex.try_lock().is_none());
    /// ```
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.permits.try_take(1).then(|| MutexGuard::new(self))
    }

    /// As [`try_lock`](Self::try_lock), with a guard that keeps the mutex alive and borrows nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let mutex = Arc::new(epicycle::sync::Mutex::new(()));
    /// let guard = mutex.clone().try_lock_owned().unwrap();
    /// assert!(mutex.try_lock_owned().is_none());
    /// ```
    pub fn try_lock_owned(self: Arc<Self>) -> Option<OwnedMutexGuard<T>> {
        self.permits.try_take(1).then(|| OwnedMutexGuard::new(self))
    }

    /// Blocks the thread until it is its turn, and locks. It stands in the same line as the tasks.
    ///
    /// # Panics
    ///
    /// On a thread that drives an event loop: there, use [`lock`](Self::lock).
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::Mutex;
    /// use std::{sync::Arc, thread};
    ///
    /// let mutex = Arc::new(Mutex::new(1));
    /// let theirs = mutex.clone();
    /// thread::spawn(move || *theirs.blocking_lock() += 1).join().unwrap();
    /// assert_eq!(*mutex.blocking_lock(), 2);
    /// ```
    #[track_caller]
    pub fn blocking_lock(&self) -> MutexGuard<'_, T> {
        blocking::block_on("Mutex::blocking_lock", "lock().await", self.lock())
    }

    /// As [`blocking_lock`](Self::blocking_lock), with a guard that keeps the mutex alive and borrows nothing.
    ///
    /// # Panics
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let mutex = Arc::new(epicycle::sync::Mutex::new(1));
    /// assert_eq!(*mutex.blocking_lock_owned(), 1);
    /// ```
    #[track_caller]
    pub fn blocking_lock_owned(self: Arc<Self>) -> OwnedMutexGuard<T> {
        blocking::block_on("Mutex::blocking_lock_owned", "lock_owned().await", self.lock_owned())
    }

    /// Whether it is locked, or being handed over. asyncio's `locked()`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mutex = epicycle::sync::Mutex::new(());
    /// let guard = mutex.try_lock();
    /// assert!(mutex.is_locked());
    /// ```
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.permits.is_locked()
    }

    /// The value, without locking: nobody else has a reference to the mutex.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut mutex = epicycle::sync::Mutex::new(1);
    /// *mutex.get_mut() = 2;
    /// assert_eq!(mutex.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

impl<T: ?Sized> HasPermits for Mutex<T> {
    fn permits(&self) -> &Permits {
        &self.permits
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("Mutex");
        match self.try_lock() {
            Some(value) => text.field("value", &&*value),
            None => text.field("value", &format_args!("<locked>")),
        };
        text.finish()
    }
}

/// A locked [`Mutex`]. Dropping it unlocks. Tokio's `MutexGuard`; asyncio's `async with lock`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{Mutex, MutexGuard};
///
/// let mutex = Mutex::new(1);
/// let guard: MutexGuard<'_, i32> = mutex.try_lock().unwrap();
/// assert_eq!(*guard, 1);
/// ```
///
/// To unlock what is not locked, a `RuntimeError` in asyncio, does not compile:
///
/// ```compile_fail,E0382
/// let mutex = epicycle::sync::Mutex::new(1);
/// let guard = mutex.try_lock().unwrap();
/// drop(guard);
/// drop(guard);
/// ```
#[must_use = "the mutex is unlocked at once if its guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    // Dropped in this order: whoever is next must find the value free.
    value: Hold<&'a Mutex<T>, T>,
    _permit: Held<&'a Mutex<T>>,
}

/// A locked [`Mutex`] that is kept alive. Dropping it unlocks. From [`Mutex::lock_owned`]. Tokio's
/// `OwnedMutexGuard`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{Mutex, OwnedMutexGuard};
/// use std::sync::Arc;
///
/// let guard: OwnedMutexGuard<i32> = Arc::new(Mutex::new(1)).try_lock_owned().unwrap();
/// assert_eq!(*guard, 1);
/// ```
#[must_use = "the mutex is unlocked at once if its guard is dropped"]
pub struct OwnedMutexGuard<T: ?Sized> {
    // Dropped in this order, as above.
    value: Hold<Arc<Mutex<T>>, T>,
    _permit: Held<Arc<Mutex<T>>>,
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// For who has just been given the permit.
    fn new(mutex: &'a Mutex<T>) -> Self {
        Self { value: Hold::new(mutex, |mutex| &mutex.value), _permit: Held::new(mutex, 1) }
    }

    /// The mutex that is locked.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Mutex, MutexGuard};
    ///
    /// let mutex = Mutex::new(1);
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(MutexGuard::mutex(&guard).is_locked());
    /// ```
    pub fn mutex(guard: &Self) -> &'a Mutex<T> {
        guard.value.owner()
    }
}

impl<T: ?Sized> OwnedMutexGuard<T> {
    fn new(mutex: Arc<Mutex<T>>) -> Self {
        Self { value: Hold::new(mutex.clone(), |mutex| &mutex.value), _permit: Held::new(mutex, 1) }
    }

    /// The mutex that is locked.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::{Mutex, OwnedMutexGuard};
    /// use std::sync::Arc;
    ///
    /// let guard = Arc::new(Mutex::new(1)).try_lock_owned().unwrap();
    /// assert!(OwnedMutexGuard::mutex(&guard).is_locked());
    /// ```
    pub fn mutex(guard: &Self) -> &Arc<Mutex<T>> {
        guard.value.owner()
    }
}

macro_rules! guard_traits {
    ($($guard:ty),+) => {$(
        impl<T: ?Sized> Deref for $guard {
            type Target = T;

            fn deref(&self) -> &T {
                &self.value
            }
        }

        impl<T: ?Sized> DerefMut for $guard {
            fn deref_mut(&mut self) -> &mut T {
                &mut self.value
            }
        }

        impl<T: ?Sized + fmt::Debug> fmt::Debug for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&**self, f)
            }
        }

        impl<T: ?Sized + fmt::Display> fmt::Display for $guard {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&**self, f)
            }
        }
    )+};
}

guard_traits!(MutexGuard<'_, T>, OwnedMutexGuard<T>);

/// A guard that a [`Condition`](super::Condition) can unlock while it waits: [`MutexGuard`] or [`OwnedMutexGuard`].
///
/// # Examples
///
/// ```
/// use epicycle::sync::{Condition, Guard};
///
/// async fn wait_twice<G: Guard>(condition: &Condition, guard: G) -> G {
///     let guard = condition.wait(guard).await;
///     condition.wait(guard).await
/// }
///
/// # epicycle::run(async {
/// # let mutex = epicycle::sync::Mutex::new(0);
/// # let condition = Condition::new();
/// let notify = async {
///     for _ in 0..2 {
///         let mut count = mutex.lock().await;
///         *count += 1;
///         condition.notify_all(&count);
///         drop(count);
///         epicycle::yield_now().await;
///     }
/// };
/// let waiting = wait_twice(&condition, mutex.lock().await);
/// assert_eq!(*futures_lite::future::zip(waiting, notify).await.0, 2);
/// # });
/// ```
pub trait Guard: sealed::Guard {}

impl<G: sealed::Guard> Guard for G {}

pub(super) mod sealed {
    use super::*;

    #[expect(unnameable_types, reason = "sealed")]
    pub trait Guard: DerefMut + Sized {
        type Unlocked;

        /// Which mutex it is.
        fn address(&self) -> usize;
        fn unlock(self) -> Self::Unlocked;
        fn relock(mutex: Self::Unlocked) -> impl Future<Output = Self>;
    }
}

impl<'a, T: ?Sized> sealed::Guard for MutexGuard<'a, T> {
    type Unlocked = &'a Mutex<T>;

    fn address(&self) -> usize {
        std::ptr::from_ref(&self.value.owner().permits).addr()
    }

    fn unlock(self) -> &'a Mutex<T> {
        self.value.owner()
    }

    fn relock(mutex: &'a Mutex<T>) -> impl Future<Output = Self> {
        mutex.lock()
    }
}

impl<T: ?Sized> sealed::Guard for OwnedMutexGuard<T> {
    type Unlocked = Arc<Mutex<T>>;

    fn address(&self) -> usize {
        std::ptr::from_ref(&self.value.owner().permits).addr()
    }

    fn unlock(self) -> Arc<Mutex<T>> {
        self.value.owner().clone()
    }

    fn relock(mutex: Arc<Mutex<T>>) -> impl Future<Output = Self> {
        mutex.lock_owned()
    }
}
