//! [`PerLoopListeners`]: one listening socket per loop, all on one address.
//!
//! *Invariant*: a socket takes part in the kernel's spreading from `listen` on; so a part that nobody listens on gets no
//! connections that would then wait for ever.
//!
//! On Linux the group claims its address: its sockets are bound without `SO_REUSEPORT`, which Linux allows as long as none of them
//! listens. The first to listen does so without, too, which the kernel grants to one socket only; then that gets the option, and
//! the others, with the option, may join it. So of two groups one is refused, whatever the order of their steps. Elsewhere
//! `SO_REUSEPORT` has to be set before binding, and cannot be told from anybody else's.
//!
//! *Threads*: parts travel to the loops that use them. *Ordering*: the lock of the claim.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::vec;

use socket2::{SockRef, Socket};

use super::{TcpListener, TcpListenerBuilder};
use crate::primitive::Mutex;

/// Whether sockets may be bound together without `SO_REUSEPORT`, and be given that later.
const CLAIMS: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// One socket per loop of a runtime, all bound to one address. From [`TcpListener::bind_per_loop`].
///
/// Each part is to be taken to its loop and told to listen there. What is accepted from it then lives on that loop, from
/// the first byte on, and may be served by tasks that are pinned to it.
///
/// A part that is dropped while connections wait for it resets these: end all of them together.
///
/// Neither asyncio nor Tokio has its like; there it is done by hand, with `reuse_port`.
///
/// # Examples
///
/// ```
/// use epicycle::io::{self, AsyncReadExt, AsyncWriteExt};
/// use epicycle::net::{ListenerPart, TcpListener, TcpStream};
/// use epicycle::{RuntimeHandle, spawn_local};
///
/// async fn serve(part: ListenerPart) -> io::Result<()> {
///     let listener = part.listen()?;
///     loop {
///         let (stream, _) = listener.accept().await?;
///         spawn_local(async move { io::copy(&stream, &stream).await });
///     }
/// }
///
/// # epicycle::run(async {
/// let parts = TcpListener::bind_per_loop("127.0.0.1:0").await?;
/// let addr = parts.local_addr();
/// for (part, home) in parts.into_iter().zip(RuntimeHandle::current().loops()) {
///     home.spawn_local(move || serve(part));
/// }
/// # while TcpStream::connect(addr).await.is_err() { epicycle::yield_now().await }
/// let mut client = TcpStream::connect(addr).await?;
/// client.write_all(b"echo").await?;
/// let mut echo = [0; 4];
/// client.read_exact(&mut echo).await?;
/// assert_eq!(&echo, b"echo");
/// # Ok::<(), io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct PerLoopListeners {
    addr: SocketAddr,
    parts: Vec<ListenerPart>,
}

impl PerLoopListeners {
    pub(super) fn bind(options: &TcpListenerBuilder, addr: SocketAddr, loops: usize) -> io::Result<Self> {
        let options = if CLAIMS { options.clone() } else { options.clone().reuse_port(true) };
        let claimed = Arc::new(Mutex::new(false));
        let part = |addr| {
            let socket = options.bound(addr)?;
            io::Result::Ok(ListenerPart { socket, options: options.clone(), claimed: claimed.clone() })
        };
        let mut parts = vec![part(addr)?];
        // The first one may have been given a port by the system.
        let addr = parts[0].socket.local_addr()?.as_socket().unwrap_or(addr);
        while parts.len() < loops {
            parts.push(part(addr)?);
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
/// ```
/// use epicycle::net::{ListenerPart, TcpListener};
///
/// # epicycle::run(async {
/// let parts = TcpListener::bind_per_loop("127.0.0.1:0").await?;
/// let addr = parts.local_addr();
/// let part: ListenerPart = parts.into_iter().next().unwrap();
/// let task = epicycle::spawn(async move { part.listen() }); // on whichever loop runs the task
/// assert_eq!(task.await.unwrap()?.local_addr()?, addr);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
#[derive(Debug)]
pub struct ListenerPart {
    socket: Socket,
    options: TcpListenerBuilder,
    /// The first of the group listens.
    claimed: Arc<Mutex<bool>>,
}

impl ListenerPart {
    /// Begins to listen, on the loop where this is called.
    ///
    /// # Errors
    ///
    /// Those of `listen`, and of the selector. `AddrInUse` if another server has listened on the address in the meantime.
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
        let mut claimed = self.claimed.lock();
        if *claimed {
            self.socket.set_reuse_port(true)?;
        }
        let listener = self.options.listen(self.socket)?;
        if !*claimed {
            SockRef::from(&listener).set_reuse_port(true)?;
            *claimed = true;
        }
        Ok(listener)
    }
}
