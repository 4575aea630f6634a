//! What can be said of a queue that has no item, no room, or no future.
//!
//! *Invariant.* An item that was not put is given back. *Threads.* Any. *Ordering.* None.

use std::error::Error;
use std::fmt;

/// A queue was shut down; an item that was to be put is inside. asyncio's `QueueShutDown`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{Queue, QueueShutDown};
///
/// # epicycle::run(async {
/// let queue = Queue::new(0);
/// queue.shutdown(false);
/// assert_eq!(queue.put("late").await, Err(QueueShutDown("late")));
/// assert_eq!(queue.get().await, Err(QueueShutDown(())));
/// # });
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct QueueShutDown<T = ()>(pub T);

/// Why `put_nowait` did not put: the item is inside. Tokio's `TrySendError`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{PutNowaitError, Queue, QueueFull};
///
/// let queue = Queue::new(1);
/// queue.put_nowait(1).unwrap();
/// assert_eq!(queue.put_nowait(2), Err(QueueFull(2)));
/// queue.shutdown(false);
/// assert_eq!(queue.put_nowait(3).unwrap_err().into_inner(), 3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum PutNowaitError<T> {
    /// There is no room. asyncio's `QueueFull`; also named `sync::QueueFull`.
    QueueFull(T),
    /// The queue was shut down. asyncio's `QueueShutDown`.
    ShutDown(T),
}

/// Why `get_nowait` got nothing. Tokio's `TryRecvError`.
///
/// # Examples
///
/// ```
/// use epicycle::sync::{GetNowaitError, Queue, QueueEmpty};
///
/// let queue = Queue::<i32>::new(0);
/// assert_eq!(queue.get_nowait(), Err(QueueEmpty));
/// queue.shutdown(false);
/// assert_eq!(queue.get_nowait(), Err(GetNowaitError::ShutDown));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetNowaitError {
    /// There is no item. asyncio's `QueueEmpty`; also named `sync::QueueEmpty`.
    QueueEmpty,
    /// There is no item, and as the queue was shut down there will be none. asyncio's `QueueShutDown`.
    ShutDown,
}

const SHUT_DOWN: &str = "the queue was shut down";

impl<T> QueueShutDown<T> {
    /// The item that was not put.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::QueueShutDown(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> PutNowaitError<T> {
    /// The item that was not put.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::QueueFull(1).into_inner(), 1);
    /// ```
    pub fn into_inner(self) -> T {
        match self {
            PutNowaitError::QueueFull(item) | PutNowaitError::ShutDown(item) => item,
        }
    }
}

// Items need not be `Debug` for the `unwrap` of a put.
impl<T> fmt::Debug for QueueShutDown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("QueueShutDown(..)")
    }
}

impl<T> fmt::Debug for PutNowaitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutNowaitError::QueueFull(_) => "QueueFull(..)",
            PutNowaitError::ShutDown(_) => "ShutDown(..)",
        })
    }
}

impl<T> fmt::Display for QueueShutDown<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHUT_DOWN)
    }
}

impl<T> fmt::Display for PutNowaitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PutNowaitError::QueueFull(_) => "the queue is full",
            PutNowaitError::ShutDown(_) => SHUT_DOWN,
        })
    }
}

impl fmt::Display for GetNowaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GetNowaitError::QueueEmpty => "the queue is empty",
            GetNowaitError::ShutDown => SHUT_DOWN,
        })
    }
}

impl<T> Error for QueueShutDown<T> {}

impl<T> Error for PutNowaitError<T> {}

impl Error for GetNowaitError {}
