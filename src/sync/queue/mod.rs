//! [`Queue`], [`PriorityQueue`] and [`LifoQueue`]: items from many to many, as many as there is room for.
//!
//! *Invariant.* Three names for one `core.rs` with three `store.rs`. *Threads.* Any. *Ordering.* The lock's.

mod core;
mod error;
mod store;

use std::fmt;
use std::future::Future;

use self::core::Core;
use self::store::{Fifo, Lifo, Lowest};
use super::blocking;

pub use error::{GetNowaitError, PutNowaitError, QueueShutDown};
// The values, to make and to match; the types of the same names are below.
pub use values::*;

mod values {
    pub use super::error::GetNowaitError::QueueEmpty;
    pub use super::error::PutNowaitError::QueueFull;
}

/// asyncio's name of what `get_nowait` fails with: as a value, that there is no item; as a type, that or the queue's end.
///
/// ```
/// use epicycle::sync::{Queue, QueueEmpty};
///
/// fn first(queue: &Queue<i32>) -> Result<i32, QueueEmpty> {
///     queue.get_nowait()
/// }
///
/// assert!(matches!(first(&Queue::new(0)), Err(QueueEmpty)));
/// ```
pub type QueueEmpty = GetNowaitError;

/// asyncio's name of what `put_nowait` fails with: as a value, that there is no room; as a type, that or the queue's end. The item
/// is inside.
///
/// ```
/// use epicycle::sync::{Queue, QueueFull};
///
/// fn offer(queue: &Queue<i32>, item: i32) -> Result<(), QueueFull<i32>> {
///     queue.put_nowait(item)
/// }
///
/// let queue = Queue::new(1);
/// offer(&queue, 1).unwrap();
/// assert!(matches!(offer(&queue, 2), Err(QueueFull(2))));
/// ```
pub type QueueFull<T = ()> = PutNowaitError<T>;

/// One queue type and its methods, whose examples start with `use`ing it.
macro_rules! queue {
    ($(#[$meta:meta])* $name:ident, $store:ident, $text:literal $(, $bound:ident)?) => {
        $(#[$meta])*
        pub struct $name<T>(Core<$store<T>>);

        impl<T $(: $bound)?> $name<T> {
            /// A queue with room for `maxsize` items; 0 means that there is no limit, as in asyncio.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("let queue = epicycle::sync::", $text, "::<i32>::new(10);")]
            /// assert_eq!(queue.maxsize(), 10);
            /// ```
            pub fn new(maxsize: usize) -> Self {
                Self(Core::new(maxsize))
            }

            /// Puts an item, once there is room. First come, first served. If there is room it does not let other tasks run.
            ///
            /// # Errors
            ///
            /// [`QueueShutDown`] with the item, if the queue was shut down, before or while this waited.
            ///
            /// # Cancel safety
            ///
            /// Dropping the future drops the item, if it was not put. To keep it, wait with a clone or an `Arc` of it.
            ///
            /// # Examples
            ///
            /// ```
            /// # epicycle::run(async {
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(10);")]
            /// queue.put(1).await.unwrap();
            /// assert_eq!(queue.get().await, Ok(1));
            /// # });
            /// ```
            pub fn put(&self, item: T) -> impl Future<Output = Result<(), QueueShutDown<T>>> + use<'_, T> {
                self.0.put(item)
            }

            /// Gets an item, once there is one. First come, first served. If there is one it does not let other tasks run.
            ///
            /// # Errors
            ///
            /// [`QueueShutDown`] if the queue was shut down and has no item left.
            ///
            /// # Cancel safety
            ///
            /// No item is lost: dropping the future takes none, and if it was to have one the next in the line has it.
            ///
            /// # Examples
            ///
            /// ```
            /// # epicycle::run(async {
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(10);")]
            /// queue.put(1).await.unwrap();
            /// assert_eq!(queue.get().await, Ok(1));
            /// # });
            /// ```
            pub fn get(&self) -> impl Future<Output = Result<T, QueueShutDown>> + use<'_, T> {
                self.0.get()
            }

            /// Puts an item if there is room right now.
            ///
            /// It looks at nothing else, as in asyncio, so it may take the place that somebody was woken for, who then waits
            /// for another one.
            ///
            /// # Errors
            ///
            /// [`QueueFull`](PutNowaitError::QueueFull), or [`PutNowaitError::ShutDown`]; both give the item back.
            ///
            /// # Examples
            ///
            /// ```
            /// use epicycle::sync::QueueFull;
            ///
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(1);")]
            /// assert_eq!(queue.put_nowait(1), Ok(()));
            /// assert_eq!(queue.put_nowait(2), Err(QueueFull(2)));
            /// ```
            #[doc(alias = "try_send")]
            pub fn put_nowait(&self, item: T) -> Result<(), PutNowaitError<T>> {
                self.0.put_nowait(item)
            }

            /// Gets an item if there is one right now.
            ///
            /// It looks at nothing else, as in asyncio, so it may get the item that somebody was woken for, who then waits for
            /// another one.
            ///
            /// # Errors
            ///
            /// [`QueueEmpty`](GetNowaitError::QueueEmpty), or [`GetNowaitError::ShutDown`] once the queue is empty and shut down.
            ///
            /// # Examples
            ///
            /// ```
            /// use epicycle::sync::QueueEmpty;
            ///
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(1);")]
            /// queue.put_nowait(1).unwrap();
            /// assert_eq!(queue.get_nowait(), Ok(1));
            /// assert_eq!(queue.get_nowait(), Err(QueueEmpty));
            /// ```
            #[doc(alias = "try_recv")]
            pub fn get_nowait(&self) -> Result<T, GetNowaitError> {
                self.0.get_nowait()
            }

            /// Blocks the thread until there is room, and puts an item.
            ///
            /// # Errors
            ///
            /// As [`put`](Self::put).
            ///
            /// # Panics
            ///
            /// On a thread that drives an event loop: there, use [`put`](Self::put).
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(1);")]
            /// queue.blocking_put(1).unwrap();
            /// assert_eq!(queue.blocking_get(), Ok(1));
            /// ```
            #[track_caller]
            pub fn blocking_put(&self, item: T) -> Result<(), QueueShutDown<T>> {
                blocking::block_on(concat!($text, "::blocking_put"), "put(item).await", self.put(item))
            }

            /// Blocks the thread until there is an item, and gets it.
            ///
            /// # Errors
            ///
            /// As [`get`](Self::get).
            ///
            /// # Panics
            ///
            /// On a thread that drives an event loop: there, use [`get`](Self::get).
            ///
            /// # Examples
            ///
            /// ```
            /// use std::{sync::Arc, thread};
            ///
            #[doc = concat!("let queue = Arc::new(epicycle::sync::", $text, "::new(1));")]
            /// let theirs = queue.clone();
            /// thread::spawn(move || theirs.blocking_put(1).unwrap());
            /// assert_eq!(queue.blocking_get(), Ok(1));
            /// ```
            #[track_caller]
            pub fn blocking_get(&self) -> Result<T, QueueShutDown> {
                blocking::block_on(concat!($text, "::blocking_get"), "get().await", self.get())
            }

            /// Says that the work for one item is done. For [`join`](Self::join); who does not use that need not call it.
            ///
            /// # Panics
            ///
            /// If it is called more often than items were put. (asyncio raises a `ValueError`.)
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(0);")]
            /// queue.put_nowait(1).unwrap();
            /// queue.get_nowait().unwrap();
            /// queue.task_done();
            /// queue.blocking_join(); // there is nothing to wait for
            /// assert!(queue.empty());
            /// ```
            #[track_caller]
            pub fn task_done(&self) {
                assert!(self.0.task_done(), "task_done() called too many times: once for each item that was put");
            }

            /// Waits until [`task_done`](Self::task_done) was called for every item that was put; not at all if it was.
            ///
            /// # Cancel safety
            ///
            /// Nothing is lost by dropping the future.
            ///
            /// # Examples
            ///
            /// ```
            /// # epicycle::run(async {
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(0);")]
            /// queue.put_nowait(1).unwrap();
            /// let work = async {
            ///     queue.get().await.unwrap();
            ///     queue.task_done();
            /// };
            /// futures_lite::future::zip(queue.join(), work).await;
            /// assert!(queue.empty());
            /// # });
            /// ```
            pub fn join(&self) -> impl Future<Output = ()> + use<'_, T> {
                self.0.join()
            }

            /// Blocks the thread through a [`join`](Self::join).
            ///
            /// # Panics
            ///
            /// On a thread that drives an event loop: there, use [`join`](Self::join).
            ///
            /// # Examples
            ///
            /// ```
            /// use std::{sync::Arc, thread};
            ///
            #[doc = concat!("let queue = Arc::new(epicycle::sync::", $text, "::new(0));")]
            /// queue.put_nowait(1).unwrap();
            /// let theirs = queue.clone();
            /// thread::spawn(move || {
            ///     theirs.get_nowait().unwrap();
            ///     theirs.task_done();
            /// });
            /// queue.blocking_join();
            /// assert!(queue.empty());
            /// ```
            #[track_caller]
            pub fn blocking_join(&self) {
                blocking::block_on(concat!($text, "::blocking_join"), "join().await", self.join());
            }

            /// Ends the queue: from now on nothing can be put, and who waits to put fails.
            ///
            /// The items that are there can still be got; who gets, or waits to get, fails when there are none left. With
            /// `immediate` they are dropped, and the work for them counts as done; [`join`](Self::join) returns if none is
            /// left.
            ///
            /// # Examples
            ///
            /// ```
            /// # epicycle::run(async {
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(0);")]
            /// queue.put_nowait(1).unwrap();
            /// queue.shutdown(false);
            /// assert!(queue.put(2).await.is_err());
            /// assert_eq!(queue.get().await, Ok(1));
            /// assert!(queue.get().await.is_err());
            /// # });
            /// ```
            #[doc(alias = "close")]
            pub fn shutdown(&self, immediate: bool) {
                self.0.shut_down(immediate);
            }

            /// Whether the queue was shut down.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("assert!(!epicycle::sync::", $text, "::<i32>::new(0).is_shutdown());")]
            /// ```
            pub fn is_shutdown(&self) -> bool {
                self.0.is_shut_down()
            }

            /// How many items are there now.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(0);")]
            /// queue.put_nowait(1).unwrap();
            /// assert_eq!(queue.qsize(), 1);
            /// ```
            #[doc(alias = "len")]
            pub fn qsize(&self) -> usize {
                self.0.len()
            }

            /// Whether there is no item now.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("assert!(epicycle::sync::", $text, "::<i32>::new(0).empty());")]
            /// ```
            #[doc(alias = "is_empty")]
            pub fn empty(&self) -> bool {
                self.0.len() == 0
            }

            /// Whether there is no room now. Never, if there is no limit.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("let queue = epicycle::sync::", $text, "::new(1);")]
            /// queue.put_nowait(1).unwrap();
            /// assert!(queue.full());
            /// ```
            #[doc(alias = "is_full")]
            pub fn full(&self) -> bool {
                self.0.is_full()
            }

            /// How many items there is room for; 0 if there is no limit.
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("assert_eq!(epicycle::sync::", $text, "::<i32>::new(3).maxsize(), 3);")]
            /// ```
            #[doc(alias = "capacity")]
            pub fn maxsize(&self) -> usize {
                self.0.maxsize()
            }
        }

        impl<T $(: $bound)?> Default for $name<T> {
            /// Without a limit.
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl<T $(: $bound)?> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($text)
                    .field("qsize", &self.qsize())
                    .field("maxsize", &self.maxsize())
                    .field("shutdown", &self.is_shutdown())
                    .finish_non_exhaustive()
            }
        }
    };
}

queue! {
    /// A queue from any number of producers to any number of consumers: the oldest item first. asyncio's `Queue`.
    ///
    /// Each item goes to one consumer, so it is also the channel of this crate. Those who wait for an item or for room are served
    /// in the order of their arrival. Any task on any loop may take part, and any thread, with the `blocking_` forms. It has no
    /// ends that could be dropped: [`shutdown`](Self::shutdown) ends it. Put it into an `Arc` to share it.
    ///
    /// The counterpart of `asyncio.Queue`, and of async-channel's and Tokio's bounded channels. Two things are as in asyncio: an
    /// item that was put is counted by [`qsize`](Self::qsize) until a consumer has run and taken it, and
    /// [`get_nowait`](Self::get_nowait) may take it before.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::Queue;
    /// use std::sync::Arc;
    ///
    /// epicycle::run(async {
    ///     let queue = Arc::new(Queue::new(10));
    ///     let theirs = queue.clone();
    ///     let consumer = epicycle::spawn(async move {
    ///         let mut sum = 0;
    ///         while let Ok(n) = theirs.get().await {
    ///             sum += n;
    ///         }
    ///         sum
    ///     });
    ///     for n in 1..=100 {
    ///         queue.put(n).await.unwrap();
    ///     }
    ///     queue.shutdown(false);
    ///     assert_eq!(consumer.await.unwrap(), 5050);
    /// });
    /// ```
    #[doc(alias = "channel")]
    Queue, Fifo, "Queue"
}

queue! {
    /// A [`Queue`] that gives the lowest item first, and of equal ones the oldest. asyncio's `PriorityQueue`.
    ///
    /// Items are compared while the queue is locked: their [`Ord`] must neither use the queue nor take long. If it panics, which it
    /// should not, that goes to the caller; no item is lost, not the one that was being put either, but their order may be.
    ///
    /// Use [`Reverse`](std::cmp::Reverse) for the highest first, and a tuple to give items a priority of their own.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::PriorityQueue;
    ///
    /// let queue = PriorityQueue::new(0);
    /// queue.put_nowait((2, "later")).unwrap();
    /// queue.put_nowait((1, "now")).unwrap();
    /// assert_eq!(queue.get_nowait(), Ok((1, "now")));
    /// ```
    PriorityQueue, Lowest, "PriorityQueue", Ord
}

queue! {
    /// A [`Queue`] that gives the newest item first. asyncio's `LifoQueue`.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::sync::LifoQueue;
    ///
    /// let queue = LifoQueue::new(0);
    /// queue.put_nowait("first").unwrap();
    /// queue.put_nowait("last").unwrap();
    /// assert_eq!(queue.get_nowait(), Ok("last"));
    /// ```
    #[doc(alias = "stack")]
    LifoQueue, Lifo, "LifoQueue"
}
