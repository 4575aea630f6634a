//! [`getnameinfo`]: from a socket address to names. The feature `getnameinfo`.
//!
//! *Invariant*: asks on the executor, for the operating system's resolver blocks. *Threads*: any. *Ordering*: none.

use std::io;
use std::net::SocketAddr;

use crate::scheduler;

/// The names of an address's host and port, such as `("localhost", "http")`; what has no name is given in digits.
///
/// asyncio's `loop.getnameinfo`. The operating system is asked on one of the executor's threads.
///
/// # Errors
///
/// Those of the resolver.
///
/// # Panics
///
/// Outside of a runtime and off a loop.
///
/// # Examples
///
/// ```
/// # epicycle::run(async {
/// let (host, service) = epicycle::net::getnameinfo(([127, 0, 0, 1], 80)).await?;
/// assert!(!host.is_empty() && !service.is_empty()); // "localhost" and "http", as a rule
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping the future gives up the answer; a query that has begun runs to its end on its thread.
pub async fn getnameinfo(addr: impl Into<SocketAddr>) -> io::Result<(String, String)> {
    let addr = addr.into();
    let asked = scheduler::run_in_executor(move || dns_lookup::getnameinfo(&addr, 0)).await;
    asked.map_err(io::Error::other)?.map_err(io::Error::from)
}
