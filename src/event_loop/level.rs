//! Level-triggered registrations, which mio does not offer: for asyncio's readers and writers, and for nesting one loop's
//! selector in another's.
//!
//! *Invariant.* The same tokens as mio's registrations in the same poll set. A registration whose callback runs on another
//! thread than the selector's (a guest's) is edge-triggered and re-armed after each callback: else the selector's loop would go
//! on waking for what it cannot do. *Threads.* Any. *Ordering.* The kernel's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

#[cfg(target_os = "linux")]
pub(super) use linux::{nest, unnest};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{nest, unnest};

/// Whether the kernel itself goes on telling; else the owner re-arms.
fn is_level(own: bool) -> bool {
    own && cfg!(target_os = "linux")
}

/// `own`: the callback runs on the selector's own thread.
pub(super) fn register(
    registry: &Registry,
    fd: BorrowedFd<'_>,
    token: Token,
    interest: Interest,
    own: bool,
) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if is_level(own) {
        return linux::register(registry, fd, token, interest);
    }
    let _ = own;
    registry.register(&mut SourceFd(&fd.as_raw_fd()), token, interest)
}

pub(super) fn change(
    registry: &Registry,
    fd: BorrowedFd<'_>,
    token: Token,
    interest: Interest,
    own: bool,
) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if is_level(own) {
        return linux::change(registry, fd, token, interest);
    }
    let _ = own;
    registry.reregister(&mut SourceFd(&fd.as_raw_fd()), token, interest)
}

/// After a callback: what is still ready is reported once more.
pub(super) fn rearm(registry: &Registry, fd: RawFd, token: Token, interest: Interest, own: bool) {
    if !is_level(own) {
        // Fails only if the descriptor was closed meanwhile: then there is nothing to report.
        let _ = registry.reregister(&mut SourceFd(&fd), token, interest);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    //! epoll without EPOLLET.
    use std::io;
    use std::os::fd::{AsFd, BorrowedFd};

    use mio::{Interest, Registry, Token};
    use rustix::event::epoll::{self, EventData, EventFlags};

    pub(in super::super) fn register(
        registry: &Registry,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::add(registry.as_fd(), fd, data(token), flags(interest))?)
    }

    pub(in super::super) fn change(
        registry: &Registry,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        Ok(epoll::modify(registry.as_fd(), fd, data(token), flags(interest))?)
    }

    fn data(token: Token) -> EventData {
        EventData::new_u64(token.0 as u64)
    }

    fn flags(interest: Interest) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN | EventFlags::RDHUP, interest.is_readable());
        flags.set(EventFlags::OUT, interest.is_writable());
        flags
    }

    pub(in super::super) fn nest(outer: &Registry, inner: &Registry, token: Token) -> io::Result<()> {
        Ok(epoll::add(outer.as_fd(), inner.as_fd(), data(token), EventFlags::IN)?)
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
