//! One loop's selector in another's, level-triggered, which mio does not offer.
//!
//! *Invariant.* The same tokens as mio's registrations in the same poll set. *Threads.* Any. *Ordering.* The kernel's.

#[cfg(target_os = "linux")]
pub(super) use linux::{nest, unnest};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{nest, unnest};

#[cfg(target_os = "linux")]
mod linux {
    //! epoll without EPOLLET.
    use std::io;
    use std::os::fd::AsFd;

    use mio::{Registry, Token};
    use rustix::event::epoll::{self, EventData, EventFlags};

    pub(in super::super) fn nest(outer: &Registry, inner: &Registry, token: Token) -> io::Result<()> {
        let data = EventData::new_u64(token.0 as u64);
        Ok(epoll::add(outer.as_fd(), inner.as_fd(), data, EventFlags::IN)?)
    }

    pub(in super::super) fn unnest(outer: &Registry, inner: &Registry) {
        // Fails only if it was not nested.
        let _ = epoll::delete(outer.as_fd(), inner.as_fd());
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    //! kqueue through mio: selectors are not nested, so the custodian ticks.
    use std::io;

    use mio::{Registry, Token};

    pub(in super::super) fn nest(_: &Registry, _: &Registry, _: Token) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn unnest(_: &Registry, _: &Registry) {}
}
