//! [`Interest`] and [`Ready`]: what to wait for, and what came.
//!
//! *Invariant*: plain values. *Threads*: any. *Ordering*: owner-only, none.

use std::ops::BitOr;

/// What to wait for: that reading, writing, or either can go on. Tokio's `Interest`.
///
/// # Examples
///
/// ```
/// use epicycle::net::{Interest, UdpSocket};
///
/// # epicycle::run(async {
/// let socket = UdpSocket::bind("127.0.0.1:0").await?;
/// let ready = socket.ready(Interest::READABLE | Interest::WRITABLE).await?;
/// assert!(ready.is_writable());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest {
    read: bool,
    write: bool,
}

impl Interest {
    /// Reading, accepting and receiving.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Interest;
    ///
    /// assert!(Interest::READABLE.is_readable() && !Interest::READABLE.is_writable());
    /// ```
    pub const READABLE: Self = Self { read: true, write: false };
    /// Writing, connecting and sending.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::Interest;
    ///
    /// assert_ne!(Interest::WRITABLE, Interest::READABLE);
    /// assert!((Interest::WRITABLE | Interest::READABLE).is_writable());
    /// ```
    pub const WRITABLE: Self = Self { read: false, write: true };

    /// Whether reading is asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(epicycle::net::Interest::READABLE.is_readable());
    /// ```
    pub fn is_readable(self) -> bool {
        self.read
    }

    /// Whether writing is asked for.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!epicycle::net::Interest::READABLE.is_writable());
    /// ```
    pub fn is_writable(self) -> bool {
        self.write
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self { read: self.read || other.read, write: self.write || other.write }
    }
}

/// What can go on: the answer of the `ready` methods. Tokio's `Ready`.
///
/// It tells of the past. Only trying tells of now; the `try_` methods do, and fail with `WouldBlock` if not.
///
/// # Examples
///
/// ```
/// use epicycle::net::{Interest, UnixStream};
///
/// # epicycle::run(async {
/// let (stream, _peer) = UnixStream::pair()?;
/// let ready = stream.ready(Interest::WRITABLE).await?;
/// assert!(ready.is_writable() && !ready.is_readable());
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ready {
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Ready {
    /// Reading will not block, or will report an end or an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{Interest, UnixStream};
    ///
    /// # epicycle::run(async {
    /// let (stream, peer) = UnixStream::pair()?;
    /// drop(peer); // the end can be read, too
    /// assert!(stream.ready(Interest::READABLE).await?.is_readable());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_readable(self) -> bool {
        self.read
    }

    /// Writing will not block, or will report an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use epicycle::net::{Interest, UnixStream};
    ///
    /// # epicycle::run(async {
    /// let (stream, _peer) = UnixStream::pair()?;
    /// let ready = stream.ready(Interest::READABLE | Interest::WRITABLE).await?;
    /// assert!(ready.is_writable() && !ready.is_readable());
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_writable(self) -> bool {
        self.write
    }
}
