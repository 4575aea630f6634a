//! [`Semaphore`]: so many at a time.
//!
//! *Invariant.* That of `permits.rs`; permits are guards, so they come back. *Threads.* Any. *Ordering.* The permits' lock.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use super::blocking;
use super::permits::{HasPermits, Held, Permits};

/// A number of permits, for as many tasks at a time. asyncio's `Semaphore` and `BoundedSemaphore`.
///
/// Fair: first come, first served, also for who asks for many at once (those behind it wait, however little they want) and
/// for who has just given a permit back. Any task on any loop, and any thread may take part.
///
/// A permit is a guard: dropping it is asyncio's `release()`, so more cannot be released than was acquired. New permits are made
/// with [`add_permits`](Self::add_permits), up to the bound if there [is one](Self::bounded).
///
/// The counterpart of `tokio::sync::Semaphore`, too.
///
/// # Examples
///
/// ```
/// use epicycle::sync::Semaphore;
/// use std::{sync::Arc, time::Duration};
///
/// epicycle::run(async {
///     let semaphore = Arc::new(Semaphore::new(2));
///     let tasks: Vec<_> = (0..6)
///         .map(|_| {
///             let semaphore = semaphore.clone();
///             epicycle::spawn(async move {
///                 let _permit = semaphore.acquire().await; // two at a time from here
///                 epicycle::time::sleep(Duration::from_millis(1)).await;
///             })
///         })
///         .collect();
///     for task in tasks {
///         task.await.unwrap();
///     }
///     assert_eq!(semaphore.available_permits(), 2);
/// });
/// ```
#[doc(alias = "BoundedSemaphore")]
pub struct Semaphore {
    permits: Permits,
}

impl Semaphore {
    /// A semaphore with `permits` permits, to which others can be added.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Semaphore::new(3).available_permits(), 3);
    /// ```
    pub fn new(permits: usize) -> Self {
        Self { permits: Permits::new(permits, usize::MAX) }
    }

    /// A semaphore that never has more than `permits` permits, free and held ones together. asyncio's `BoundedSemaphore`.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = epicycle::sync::Semaphore::bounded(1);
    /// assert!(semaphore.add_permits(1).is_err());
    /// ```
    pub fn bounded(permits: usize) -> Self {
        Self { permits: Permits::new(permits, permits) }
    }

    /// Waits for a permit.
    ///
    /// A free one is taken without letting other tasks run.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the place in the line; a permit that had been handed to it already goes to the next one.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let semaphore = epicycle::sync::Semaphore::new(1);
    /// let permit = semaphore.acquire().await;
    /// assert_eq!(semaphore.available_permits(), 0);
    /// drop(permit);
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # });
    /// ```
    pub async fn acquire(&self) -> SemaphorePermit<'_> {
        self.permits.take(1).await;
        SemaphorePermit(Held::new(self, 1))
    }

    /// Waits for `count` permits at once. It holds none of them until there are enough, and nobody behind it is served before.
    ///
    /// # Panics
    ///
    /// If a [bounded](Self::bounded) semaphore can never have as many.
    ///
    /// # Cancel safety
    ///
    /// As [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let semaphore = epicycle::sync::Semaphore::new(3);
    /// let permits = semaphore.acquire_many(2).await;
    /// assert_eq!(permits.count(), 2);
    /// # });
    /// ```
    #[track_caller]
    pub fn acquire_many(&self, count: usize) -> impl Future<Output = SemaphorePermit<'_>> {
        self.assert_possible(count);
        async move {
            self.permits.take(count).await;
            SemaphorePermit(Held::new(self, count))
        }
    }

    /// As [`acquire`](Self::acquire), with a permit that keeps the semaphore alive and borrows nothing, for a task to take along.
    ///
    /// # Cancel safety
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// # epicycle::run(async {
    /// let semaphore = Arc::new(epicycle::sync::Semaphore::new(1));
    /// let permit = semaphore.clone().acquire_owned().await;
    /// epicycle::spawn(async move { drop(permit) }).await.unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// # });
    /// ```
    pub async fn acquire_owned(self: Arc<Self>) -> OwnedSemaphorePermit {
        self.permits.take(1).await;
        OwnedSemaphorePermit(Held::new(self, 1))
    }

    /// As [`acquire_many`](Self::acquire_many), with a permit that keeps the semaphore alive and borrows nothing.
    ///
    /// # Panics
    ///
    /// As there.
    ///
    /// # Cancel safety
    ///
    /// As there.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// # epicycle::run(async {
    /// let semaphore = Arc::new(epicycle::sync::Semaphore::new(3));
    /// assert_eq!(semaphore.acquire_many_owned(3).await.count(), 3);
    /// # });
    /// ```
    #[track_caller]
    pub fn acquire_many_owned(self: Arc<Self>, count: usize) -> impl Future<Output = OwnedSemaphorePermit> {
        self.assert_possible(count);
        async move {
            self.permits.take(count).await;
            OwnedSemaphorePermit(Held::new(self, count))
        }
    }

    /// Takes a permit if one is free and nobody waits for it.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = epicycle::sync::Semaphore::new(1);
    /// let permit = semaphore.try_acquire().unwrap();
    /// assert!(semaphore.try_acquire().is_none());
    /// ```
    pub fn try_acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.try_acquire_many(1)
    }

    /// Takes `count` permits if so many are free and nobody waits for them.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = epicycle::sync::Semaphore::new(3);
    /// let permits = semaphore.try_acquire_many(2).unwrap();
    /// assert!(semaphore.try_acquire_many(2).is_none());
    /// ```
    pub fn try_acquire_many(&self, count: usize) -> Option<SemaphorePermit<'_>> {
        self.permits.try_take(count).then(|| SemaphorePermit(Held::new(self, count)))
    }

    /// As [`try_acquire`](Self::try_acquire), with a permit that keeps the semaphore alive and borrows nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let semaphore = Arc::new(epicycle::sync::Semaphore::new(1));
    /// let permit = semaphore.clone().try_acquire_owned().unwrap();
    /// assert!(semaphore.try_acquire_owned().is_none());
    /// ```
    pub fn try_acquire_owned(self: Arc<Self>) -> Option<OwnedSemaphorePermit> {
        self.permits.try_take(1).then(|| OwnedSemaphorePermit(Held::new(self, 1)))
    }

    /// Blocks the thread until it has a permit. It stands in the same line as the tasks.
    ///
    /// # Panics
    ///
    /// On a thread that drives an event loop: there, use [`acquire`](Self::acquire).
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = epicycle::sync::Semaphore::new(1);
    /// let permit = semaphore.blocking_acquire();
    /// assert!(semaphore.is_locked());
    /// ```
    #[track_caller]
    pub fn blocking_acquire(&self) -> SemaphorePermit<'_> {
        blocking::block_on("Semaphore::blocking_acquire", "acquire().await", self.acquire())
    }

    /// As [`blocking_acquire`](Self::blocking_acquire), for `count` permits at once.
    ///
    /// # Panics
    ///
    /// As there; and if a [bounded](Self::bounded) semaphore can never have as many.
    ///
    /// # Examples
    ///
    /// ```
    /// let semaphore = epicycle::sync::Semaphore::new(3);
    /// assert_eq!(semaphore.blocking_acquire_many(2).count(), 2);
    /// ```
    #[track_caller]
    pub fn blocking_acquire_many(&self, count: usize) -> SemaphorePermit<'_> {
        blocking::block_on("Semaphore::blocking_acquire_many", "acquire_many(..).await", self.acquire_many(count))
    }

    /// As [`blocking_acquire`](Self::blocking_acquire), with a permit that keeps the semaphore alive and borrows nothing.
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
    /// let semaphore = Arc::new(epicycle::sync::Semaphore::new(1));
    /// let permit = semaphore.clone().blocking_acquire_owned();
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(semaphore.available_permits(), 1);
    /// ```
    #[track_caller]
    pub fn blocking_acquire_owned(self: Arc<Self>) -> OwnedSemaphorePermit {
        blocking::block_on("Semaphore::blocking_acquire_owned", "acquire_owned().await", self.acquire_owned())
    }

    /// Makes `count` new permits, for those who wait first. asyncio's `release()` by somebody who has not acquired.
    ///
    /// # Errors
    ///
    /// [`OverReleaseError`] if a [bounded](Self::bounded) semaphore would have more than its bound, free and held ones together;
    /// then nothing is added. (asyncio counts the free ones only and raises a `ValueError`.)
    /// Any semaphore's bound is [`usize::MAX`].
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::Semaphore;
    ///
    /// let semaphore = Semaphore::bounded(2);
    /// semaphore.try_acquire().unwrap().forget();
    /// assert!(semaphore.add_permits(2).is_err());
    /// assert!(semaphore.add_permits(1).is_ok());
    /// assert_eq!(semaphore.available_permits(), 2);
    /// ```
    #[doc(alias = "release")]
    pub fn add_permits(&self, count: usize) -> Result<(), OverReleaseError> {
        if self.permits.add(count) { Ok(()) } else { Err(OverReleaseError(())) }
    }

    /// How many permits are free.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Semaphore::new(3).available_permits(), 3);
    /// ```
    pub fn available_permits(&self) -> usize {
        self.permits.free()
    }

    /// Whether who asks for a permit now has to wait. asyncio's `locked()`.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(epicycle::sync::Semaphore::new(0).is_locked());
    /// ```
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.permits.is_locked()
    }

    #[track_caller]
    fn assert_possible(&self, count: usize) {
        let bound = self.permits.bound();
        assert!(count <= bound, "{count} permits of a semaphore that is bounded to {bound} would never come");
    }
}

impl HasPermits for Semaphore {
    fn permits(&self) -> &Permits {
        &self.permits
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available_permits", &self.available_permits()).finish_non_exhaustive()
    }
}

/// One or more permits of a [`Semaphore`]. Dropping it gives them back. Tokio's `SemaphorePermit`; asyncio's
/// `async with semaphore`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{Semaphore, SemaphorePermit};
///
/// let semaphore = Semaphore::new(1);
/// let permit: SemaphorePermit<'_> = semaphore.try_acquire().unwrap();
/// assert_eq!(permit.count(), 1);
/// ```
#[must_use = "a permit that is dropped is given back at once"]
#[derive(Debug)]
pub struct SemaphorePermit<'a>(Held<&'a Semaphore>);

/// One or more permits of a [`Semaphore`] that is kept alive. From [`Semaphore::acquire_owned`]. Tokio's
/// `OwnedSemaphorePermit`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{OwnedSemaphorePermit, Semaphore};
/// use std::sync::Arc;
///
/// let permit: OwnedSemaphorePermit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
/// assert_eq!(permit.count(), 1);
/// ```
#[must_use = "a permit that is dropped is given back at once"]
#[derive(Debug)]
pub struct OwnedSemaphorePermit(Held<Arc<Semaphore>>);

macro_rules! permit_methods {
    ($($permit:ty),+) => {$(
        impl $permit {
            /// How many permits these are.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = epicycle::sync::Semaphore::new(3);
            /// assert_eq!(semaphore.try_acquire_many(2).unwrap().count(), 2);
            /// ```
            pub fn count(&self) -> usize {
                self.0.count()
            }

            /// Keeps the permits from ever coming back: the semaphore has fewer from now on.
            ///
            /// # Examples
            ///
            /// ```
            /// let semaphore = epicycle::sync::Semaphore::new(3);
            /// semaphore.try_acquire().unwrap().forget();
            /// assert_eq!(semaphore.available_permits(), 2);
            /// ```
            pub fn forget(self) {
                self.0.forget();
            }
        }
    )+};
}

permit_methods!(SemaphorePermit<'_>, OwnedSemaphorePermit);

/// A bounded [`Semaphore`] was to be given more permits than its bound allows. asyncio's `ValueError`.
///
/// # Examples
///
/// ```
/// let error = epicycle::sync::Semaphore::bounded(1).add_permits(1).unwrap_err();
/// assert_eq!(error.to_string(), "BoundedSemaphore released too many times");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverReleaseError(pub(super) ());

impl fmt::Display for OverReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoundedSemaphore released too many times")
    }
}

impl Error for OverReleaseError {}
