//! [`PerLoopListeners`]: one listening socket per loop, all on one address.
//!
//! *Invariant*: a socket takes part in the kernel's spreading from `listen` on; so a part that nobody listens on gets no
//! connections that would then wait for ever. *Threads*: parts travel to the loops that use them.
//! *Ordering*: owner-only, none.

use std::io;
use std::net::SocketAddr;
use std::vec;

use socket2::Socket;

use super::{TcpListener, TcpListenerBuilder};

/// One socket per loop of a runtime, all bound to one address. From [`TcpListener::bind_per_loop`].
///
/// Each part is to be taken to its loop and told to listen there. What is accepted from it then lives on that loop, from
/// the first byte on, and may be served by tasks that are pinned to it.
///
/// A part that is dropped while connections wait for it resets these: end all of them together.
///
/// # Examples
///
/// ```no_run
/// use epicycle::net::TcpListener;
/// use epicycle::{RuntimeHandle, io};
///
/// # epicycle::run(async {
/// let parts = TcpListener::bind_per_loop("127.0.0.1:8080").await?;
/// for (part, home) in parts.into_iter().zip(RuntimeHandle::current().loops()) {
///     home.spawn_local(move || async move {
///         let listener = part.listen()?;
///         loop {
///             let (stream, _) = listener.accept().await?;
///             epicycle::spawn_local(async move { io::copy(&stream, &stream).await });
///         }
///         #[allow(unreachable_code)]
///         Ok::<(), io::Error>(())
///     });
/// }
/// # std::future::pending::<()>().await;
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct PerLoopListeners {
    addr: SocketAddr,
    parts: Vec<ListenerPart>,
}

impl PerLoopListeners {
    pub(super) fn bind(addr: SocketAddr, loops: usize) -> io::Result<Self> {
        let options = TcpListener::builder().reuse_port(true);
        let first = options.bound(addr)?;
        // The first one may have been given a port by the system.
        let addr = first.local_addr()?.as_socket().unwrap_or(addr);
        let mut parts = vec![ListenerPart { socket: first, options: options.clone() }];
        while parts.len() < loops {
            parts.push(ListenerPart { socket: options.bound(addr)?, options: options.clone() });
        }
        Ok(Self { addr, parts })
    }

    /// The address they are all bound to.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let parts = epicycle::net::TcpListener::bind_per_loop("127.0.0.1:0").await?;
    /// assert_ne!(parts.local_addr().port(), 0);
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }
}

impl IntoIterator for PerLoopListeners {
    type Item = ListenerPart;
    type IntoIter = vec::IntoIter<ListenerPart>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter()
    }
}

/// The socket for one loop, bound but not listening yet. `Send`, to be taken there.
///
/// # Examples
///
/// See [`PerLoopListeners`].
#[derive(Debug)]
pub struct ListenerPart {
    socket: Socket,
    options: TcpListenerBuilder,
}

impl ListenerPart {
    /// Begins to listen, on the loop where this is called.
    ///
    /// # Errors
    ///
    /// Those of `listen`, and of the selector.
    ///
    /// # Panics
    ///
    /// Outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let parts = epicycle::net::TcpListener::bind_per_loop("127.0.0.1:0").await?;
    /// let addr = parts.local_addr();
    /// for part in parts {
    ///     assert_eq!(part.listen()?.local_addr()?, addr);
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// # }).unwrap();
    /// ```
    #[track_caller]
    pub fn listen(self) -> io::Result<TcpListener> {
        self.options.listen(self.socket)
    }
}
