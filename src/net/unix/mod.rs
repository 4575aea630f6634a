//! Sockets of the Unix domain: [`UnixStream`], [`UnixListener`], [`UnixDatagram`].
//!
//! *Invariant*: sockets are created CLOEXEC, and non-blocking before they are registered. *Threads*: any.
//! *Ordering*: none of its own.

mod datagram;
mod listener;
mod stream;

pub use datagram::UnixDatagram;
pub use listener::UnixListener;
pub use stream::UnixStream;
