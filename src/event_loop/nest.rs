//! One loop's selector in another's, which mio does not offer.
//!
//! *Invariant.* The same tokens as mio's registrations in the same poll set. *Threads.* Any. *Ordering.* The kernel's.

#[cfg(target_os = "linux")]
pub(super) use linux::{nest, unnest};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{nest, unnest};

/// Whose poll set a loop's own is in.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Host {
    #[default]
    Nobody,
    /// That of the loop with this index, for as long as this one is absent.
    Custodian(usize),
    /// Since this one was found stuck, and until it has been seen to move.
    Helper(usize),
}

/// When a nested poll set is told of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tell {
    /// As long as it has something.
    Always,
    /// When something is added to it.
    News,
}

#[cfg(target_os = "linux")]
mod linux {
    //! epoll in epoll.
    use std::io;
    use std::os::fd::AsFd;

    use mio::{Registry, Token};
    use rustix::event::epoll::{self, EventData, EventFlags};

    use super::Tell;

    pub(in super::super) fn nest(outer: &Registry, inner: &Registry, token: Token, tell: Tell) -> io::Result<()> {
        let data = EventData::new_u64(token.0 as u64);
        let flags = match tell {
            Tell::Always => EventFlags::IN,
            Tell::News => EventFlags::IN | EventFlags::ET,
        };
        Ok(epoll::add(outer.as_fd(), inner.as_fd(), data, flags)?)
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

    use super::Tell;

    pub(in super::super) fn nest(_: &Registry, _: &Registry, _: Token, _: Tell) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(in super::super) fn unnest(_: &Registry, _: &Registry) {}
}
