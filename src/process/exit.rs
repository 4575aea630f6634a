//! [`Process`]: a child as all who have to do with it share it, and how its end is noticed.
//!
//! *Invariant.* Only under the lock is the child reaped, and signalled by number; once it was reaped, its number is not used
//! any more. `ended` can be read from as soon as the child can be reaped, or as soon as it was.
//!
//! *Threads.* Any. *Ordering.* The lock's; what wakes those who wait is the descriptor.

use std::future::poll_fn;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal};

use super::reaper;
use crate::event_loop::poll_proceed;
use crate::net::Async;
use crate::primitive::Mutex;
use crate::signal::SignalKind;
use crate::time::sleep;

/// The exit status as asyncio has it: the code, or `-N` if signal `N` ended the process.
///
/// # Examples
///
/// ```
/// use epicycle::process::{returncode, shell};
///
/// # epicycle::run(async {
/// assert_eq!(returncode(shell("exit 3").status().await?), 3);
/// assert_eq!(returncode(shell("kill -TERM $$").status().await?), -15);
/// # Ok::<(), std::io::Error>(())
/// # }).unwrap();
/// ```
pub fn returncode(status: ExitStatus) -> i32 {
    // Stopped children are not asked about, so there is one of the two.
    status.code().or(status.signal().map(|signal| -signal)).unwrap_or_default()
}

/// A child that is traced is its debugger's to reap first: its pidfd says that it has ended, and it cannot be reaped yet. How
/// long to leave it alone then.
pub(super) const DEBUGGER: Duration = Duration::from_millis(10);

pub(super) struct Process {
    id: u32,
    child: Mutex<Child>,
    ended: Async<OwnedFd>,
    /// `ended` is a pidfd. Else it is a pipe that the reaper holds the other end of.
    has_pidfd: bool,
}

impl Process {
    /// Takes over a child that was just started. In case of an error it is killed and reaped.
    #[track_caller]
    pub(super) fn new(child: Child) -> io::Result<Arc<Self>> {
        Self::watch(child, open_pidfd)
    }

    #[track_caller]
    fn watch(
        mut child: Child,
        open_pidfd: impl FnOnce(&Child) -> io::Result<Option<OwnedFd>>,
    ) -> io::Result<Arc<Self>> {
        let (ended, told) = end_of(&child, open_pidfd).inspect_err(|_| kill_and_reap(&mut child))?;
        let this = Arc::new(Self { id: child.id(), child: Mutex::new(child), ended, has_pidfd: told.is_none() });
        if let Some(told) = told {
            reaper::tell(this.clone(), told).inspect_err(|_| kill_and_reap(&mut this.child.lock()))?;
        }
        Ok(this)
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Can be read from when the child has ended.
    pub(super) fn ended(&self) -> &OwnedFd {
        self.ended.get_ref()
    }

    /// Reaps the child if it has ended.
    ///
    /// # Errors
    /// If somebody else has reaped it.
    pub(super) fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.child.lock().try_wait()
    }

    pub(super) async fn wait(&self) -> io::Result<ExitStatus> {
        let mut has_ended = false;
        loop {
            if let Some(status) = self.try_wait()? {
                poll_fn(poll_proceed).await;
                return Ok(status);
            }
            if has_ended {
                sleep(DEBUGGER).await;
            }
            self.ended.readable().await?;
            has_ended = true;
        }
    }

    /// To this child or to nobody.
    pub(super) fn send_signal(&self, kind: SignalKind) -> io::Result<()> {
        let Some(signal) = Signal::from_named_raw(kind.as_raw()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{kind:?} has no name here")));
        };
        // Not reaped while we hold this, so that the number is its own.
        let mut child = self.child.lock();
        if !matches!(child.try_wait(), Ok(None)) {
            return Ok(());
        }
        let sent = match self.has_pidfd {
            true => send_through(self.ended(), signal),
            false => rustix::process::kill_process(Pid::from_child(&child), signal),
        };
        match sent {
            // Reaped by somebody else.
            Err(Errno::SRCH) => Ok(()),
            sent => Ok(sent?),
        }
    }

    /// Its owner is gone: from now on somebody else sees to it that it is reaped.
    pub(super) fn orphan(self: Arc<Self>) {
        // Where there is no pidfd, the reaper has it already.
        if self.has_pidfd && matches!(self.try_wait(), Ok(None)) {
            reaper::adopt(self);
        }
    }
}

/// What can be read from at the end; and what is to be closed then, if the kernel does not see to it.
#[track_caller]
fn end_of(
    child: &Child,
    open_pidfd: impl FnOnce(&Child) -> io::Result<Option<OwnedFd>>,
) -> io::Result<(Async<OwnedFd>, Option<PipeWriter>)> {
    if let Some(pidfd) = open_pidfd(child)? {
        return Ok((Async::new_nonblocking(pidfd)?, None));
    }
    let (ours, reapers) = io::pipe()?;
    Ok((Async::new_nonblocking(OwnedFd::from(ours))?, Some(reapers)))
}

/// A pidfd; none where there is no such thing.
#[cfg(target_os = "linux")]
fn open_pidfd(child: &Child) -> io::Result<Option<OwnedFd>> {
    use rustix::process::{PidfdFlags, pidfd_open};
    match pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // An old kernel, or a sandbox that does not know it.
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(target_os = "linux")]
fn send_through(pidfd: &OwnedFd, signal: Signal) -> rustix::io::Result<()> {
    rustix::process::pidfd_send_signal(pidfd, signal)
}

#[cfg(not(target_os = "linux"))]
fn open_pidfd(_: &Child) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}

#[cfg(not(target_os = "linux"))]
fn send_through(_: &OwnedFd, _: Signal) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

/// For a child that nobody can be told of. It was just started, so it is ours to kill, and this is short.
fn kill_and_reap(child: &mut Child) {
    if child.kill().is_ok() {
        let _ = child.wait();
    }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    //! Without pidfds, as elsewhere than on Linux.

    use std::process::Command;
    use std::time::Instant;

    use super::*;
    use crate::runtime::run;
    use crate::scheduler::{run_in_executor, spawn};

    fn start(script: &str) -> Arc<Process> {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let process = Process::watch(child, |_| Ok(None)).unwrap();
        assert!(!process.has_pidfd);
        process
    }

    fn send(process: &Process, number: i32) {
        process.send_signal(SignalKind::from_raw(number)).unwrap();
    }

    #[test]
    fn the_end_is_noticed_by_all_who_wait() {
        run(async {
            let process = start("read line; exit 4");
            let mut all = Vec::new();
            for _ in 0..20 {
                let process = start("sleep 0.01; exit 4");
                for _ in 0..3 {
                    let process = process.clone();
                    all.push(spawn(async move { process.wait().await }));
                }
            }
            for waiting in all {
                assert_eq!(returncode(waiting.await.unwrap().unwrap()), 4);
            }
            send(&process, 15);
            let status = process.wait().await.unwrap();
            assert!([-15, 4].contains(&returncode(status)));
            send(&process, 9);
            assert_eq!(process.wait().await.unwrap(), status);
        });
    }

    #[test]
    fn killing_races_with_the_end() {
        run(async {
            for i in 0..50 {
                let process = start("exit 0");
                let own = process.clone();
                let killer = run_in_executor(move || {
                    std::thread::sleep(Duration::from_micros(i * 40));
                    send(&own, 9);
                });
                assert!([0, -9].contains(&returncode(process.wait().await.unwrap())));
                killer.await.unwrap();
            }
        });
    }

    #[test]
    fn orphans_are_reaped() {
        let process = run(async { start("exec sleep 100") });
        let other = Arc::downgrade(&process);
        send(&process, 9);
        process.orphan();
        let start = Instant::now();
        while other.strong_count() > 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "never reaped");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
