//! TCP: [`TcpStream`], [`TcpListener`], and listeners for every loop.
//!
//! *Invariant*: sockets are created non-blocking and CLOEXEC. *Threads*: any. *Ordering*: none of its own.

mod listener;
mod per_loop;
mod stream;

pub use listener::{TcpListener, TcpListenerBuilder};
pub use per_loop::{ListenerPart, PerLoopListeners};
pub use stream::TcpStream;
