//! [`ToSocketAddrs`] and [`lookup_host`]: from what the user writes to socket addresses.
//!
//! *Invariant*: what can be understood without asking anybody is; only names go to the executor, since the operating
//! system's resolver blocks. *Threads*: any. *Ordering*: owner-only, none.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::vec;

use crate::scheduler;

/// What can be turned into socket addresses, perhaps by asking a name server. The asynchronous twin of
/// [`std::net::ToSocketAddrs`].
///
/// Implemented for the same types: addresses, pairs of IP address and port, `"host:port"`, pairs of host name and port,
/// slices of addresses, and references to all these. It cannot be implemented outside of this crate; an own resolver is
/// best plugged in by passing on the addresses it found.
///
/// # Examples
///
/// ```
/// use epicycle::net::{ToSocketAddrs, UdpSocket};
///
/// async fn bound(addr: impl ToSocketAddrs) -> std::io::Result<bool> {
///     Ok(UdpSocket::bind(addr).await?.local_addr()?.ip().is_loopback())
/// }
///
/// # epicycle::run(async {
/// assert!(bound("127.0.0.1:0").await?);
/// assert!(bound(("localhost", 0)).await?);
/// assert!(bound(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).await?);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub trait ToSocketAddrs: sealed::Resolve {}

impl<T: sealed::Resolve + ?Sized> ToSocketAddrs for T {}

/// Resolves a host name, or anything else that is [`ToSocketAddrs`].
///
/// Names are looked up by the operating system (`getaddrinfo`) on the executor's threads. The counterpart of asyncio's
/// `loop.getaddrinfo` and of `tokio::net::lookup_host`.
///
/// # Errors
///
/// Those of the resolver; `InvalidInput` for a text that is no `host:port`.
///
/// # Panics
///
/// Outside of a runtime and off a loop, if a name has to be looked up. An address is understood anywhere.
///
/// # Examples
///
/// ```
/// # epicycle::run(async {
/// let found = epicycle::net::lookup_host("localhost:80").await?;
/// assert!(found.into_iter().all(|addr| addr.ip().is_loopback() && addr.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Dropping the future gives up the answer; a query that has begun runs to its end on its thread.
pub async fn lookup_host(host: impl ToSocketAddrs) -> io::Result<impl Iterator<Item = SocketAddr>> {
    resolve(host).await
}

/// The addresses of `target`, at least one.
pub(super) async fn resolve(target: impl ToSocketAddrs) -> io::Result<Addresses> {
    let addresses = match target.resolve()? {
        Resolution::Known(addresses) => addresses,
        Resolution::Ask { host, port } => ask(host, port).await?,
    };
    match addresses.is_empty() {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "no socket address was given or found")),
        false => Ok(addresses),
    }
}

async fn ask(host: String, port: u16) -> io::Result<Addresses> {
    let query = move || std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), port));
    let found = scheduler::run_in_executor(query).await.map_err(io::Error::other)??;
    Ok(Addresses::Many(found))
}

/// Does `attempt` with each address until one succeeds; else returns the last one's error.
pub(super) async fn first_to_succeed<R, F>(
    target: impl ToSocketAddrs,
    mut attempt: impl FnMut(SocketAddr) -> F,
) -> io::Result<R>
where
    F: Future<Output = io::Result<R>>,
{
    let mut last = None;
    for address in resolve(target).await? {
        match attempt(address).await {
            Ok(done) => return Ok(done),
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("resolve returns at least one address"))
}

/// One address, as is usual, without an allocation; or several.
#[derive(Debug)]
pub enum Addresses {
    /// One, until it is taken.
    One(Option<SocketAddr>),
    /// Several.
    Many(vec::IntoIter<SocketAddr>),
}

impl Addresses {
    fn is_empty(&self) -> bool {
        match self {
            Self::One(address) => address.is_none(),
            Self::Many(addresses) => addresses.as_slice().is_empty(),
        }
    }
}

impl Iterator for Addresses {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        match self {
            Self::One(address) => address.take(),
            Self::Many(addresses) => addresses.next(),
        }
    }
}

/// Addresses, or the question that leads to them.
#[derive(Debug)]
pub enum Resolution {
    /// There was nothing to ask.
    Known(Addresses),
    /// The system is to be asked for this name.
    Ask {
        /// The name.
        host: String,
        /// The port, which goes with each of its addresses.
        port: u16,
    },
}

impl From<SocketAddr> for Resolution {
    fn from(address: SocketAddr) -> Self {
        Self::Known(Addresses::One(Some(address)))
    }
}

impl Resolution {
    fn host(host: &str, port: u16) -> Self {
        match host.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, port).into(),
            Err(_) => Self::Ask { host: host.to_owned(), port },
        }
    }

    fn host_and_port(text: &str) -> io::Result<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let parts = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
        let (host, port) = parts.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is not of the form host:port"))
        })?;
        Ok(Self::host(host, port))
    }
}

mod sealed {
    use super::*;

    /// What [`ToSocketAddrs`] is made of, where nobody else can implement it.
    #[expect(unnameable_types, reason = "sealed")]
    pub trait Resolve {
        fn resolve(&self) -> io::Result<Resolution>;
    }

    impl Resolve for SocketAddr {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok((*self).into())
        }
    }

    impl Resolve for SocketAddrV4 {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(SocketAddr::V4(*self).into())
        }
    }

    impl Resolve for SocketAddrV6 {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(SocketAddr::V6(*self).into())
        }
    }

    impl Resolve for (IpAddr, u16) {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(SocketAddr::from(*self).into())
        }
    }

    impl Resolve for (Ipv4Addr, u16) {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(SocketAddr::from(*self).into())
        }
    }

    impl Resolve for (Ipv6Addr, u16) {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(SocketAddr::from(*self).into())
        }
    }

    impl Resolve for (&str, u16) {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(Resolution::host(self.0, self.1))
        }
    }

    impl Resolve for (String, u16) {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(Resolution::host(&self.0, self.1))
        }
    }

    impl Resolve for str {
        fn resolve(&self) -> io::Result<Resolution> {
            Resolution::host_and_port(self)
        }
    }

    impl Resolve for String {
        fn resolve(&self) -> io::Result<Resolution> {
            Resolution::host_and_port(self)
        }
    }

    impl Resolve for [SocketAddr] {
        fn resolve(&self) -> io::Result<Resolution> {
            Ok(Resolution::Known(Addresses::Many(Vec::from(self).into_iter())))
        }
    }

    impl<const N: usize> Resolve for [SocketAddr; N] {
        fn resolve(&self) -> io::Result<Resolution> {
            self[..].resolve()
        }
    }

    impl Resolve for Vec<SocketAddr> {
        fn resolve(&self) -> io::Result<Resolution> {
            self[..].resolve()
        }
    }

    impl<T: Resolve + ?Sized> Resolve for &T {
        fn resolve(&self) -> io::Result<Resolution> {
            (**self).resolve()
        }
    }
}
