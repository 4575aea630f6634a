//! A timer of the kernel's in the poll set, where there is one: epoll's own timeout counts whole milliseconds.
//!
//! *Invariant.* Armed for at most one deadline; arming for the same again is free. *Threads.* Whoever holds the poll set's
//! lock. *Ordering.* That lock's.

#[cfg(target_os = "linux")]
pub(super) use linux::Alarm;
#[cfg(not(target_os = "linux"))]
pub(super) use other::Alarm;

#[cfg(target_os = "linux")]
mod linux {
    //! timerfd, edge-triggered: it never needs to be read.
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::Duration;

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
    };

    use super::super::clock;

    pub(in super::super) struct Alarm {
        fd: OwnedFd,
        /// What it was last armed for; `NEVER` when disarmed.
        deadline: u64,
    }

    impl Alarm {
        pub(in super::super) fn new(registry: &Registry, token: Token) -> io::Result<Option<Self>> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
            Ok(Some(Self { fd, deadline: clock::NEVER }))
        }

        pub(in super::super) fn arm(&mut self, deadline: u64, left: Duration) -> io::Result<()> {
            if self.deadline != deadline {
                self.set(left)?;
                self.deadline = deadline;
            }
            Ok(())
        }

        pub(in super::super) fn disarm(&mut self) -> io::Result<()> {
            if self.deadline != clock::NEVER {
                self.set(Duration::ZERO)?;
                self.deadline = clock::NEVER;
            }
            Ok(())
        }

        /// Once, so long from now; whatever it was set to before. Any thread.
        pub(in super::super) fn fire_after(&self, after: Duration) -> io::Result<()> {
            self.set(after)
        }

        /// Zero disarms.
        fn set(&self, left: Duration) -> io::Result<()> {
            let value = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
            let spec = Itimerspec { it_interval: interval, it_value: value };
            timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    //! None: kqueue's own timeout counts nanoseconds.
    use std::io;
    use std::time::Duration;

    use mio::{Registry, Token};

    pub(in super::super) struct Alarm(std::convert::Infallible);

    impl Alarm {
        pub(in super::super) fn new(_: &Registry, _: Token) -> io::Result<Option<Self>> {
            Ok(None)
        }

        pub(in super::super) fn arm(&mut self, _: u64, _: Duration) -> io::Result<()> {
            match self.0 {}
        }

        pub(in super::super) fn disarm(&mut self) -> io::Result<()> {
            match self.0 {}
        }

        pub(in super::super) fn fire_after(&self, _: Duration) -> io::Result<()> {
            match self.0 {}
        }
    }
}
