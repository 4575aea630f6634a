//! Signals of the operating system, as something to await or as callbacks of a loop.
//!
//! | asyncio | Tokio | here |
//! |---|---|---|
//! | `loop.add_signal_handler` | | [`EventLoop::add_signal_handler`](crate::EventLoop::add_signal_handler) |
//! | | `signal::unix::signal` | [`signal()`] |
//! | `KeyboardInterrupt` | `signal::ctrl_c` | [`ctrl_c`] |
//!
//! Every [`Signal`] is a listener of its own, with a pair of sockets: the signal handler writes a byte into one end, the
//! other one is a descriptor like any other to an event loop. So nothing is shared: any number of listeners, in any
//! number of runtimes, each see every signal, and the end of one has no effect on another. There is no helper thread.
//! The callbacks of a loop work in the same way, one pair for each kind and loop.
//!
//! The price is what every runtime asks for: from the first listener for a signal on, its default action (the end of
//! the process, for most) is gone for good, also after the listener is dropped.
//!
//! ```
//! use epicycle::signal::{SignalKind, signal};
//!
//! # epicycle::run(async {
//! let mut child = signal(SignalKind::child())?;
//! signal_hook::low_level::raise(SignalKind::child().as_raw())?;
//! child.recv().await?;
//! # Ok::<(), std::io::Error>(())
//! # }).unwrap();
//! ```
//!
//! *Invariant*: the handler only writes to a socket that is open: it is unregistered before the socket is closed.
//! *Threads*: any. *Ordering*: the kernel's, of socket and signal.

#![forbid(unsafe_code)]

mod bell;
mod kind;

mod handlers;
mod listener;

pub use kind::SignalKind;
pub use listener::{Signal, ctrl_c, signal};
