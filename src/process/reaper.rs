//! The reaper: one thread of the process, which reaps children that nobody else would, and is gone when there are none.
//!
//! They are those whose owner is gone (it waits for their pidfds), and all those without a pidfd (it listens for `SIGCHLD`,
//! and tells their owners by closing a pipe). A runtime may end before they do; hence a thread and not a task.
//!
//! *Invariant.* While there are wards, the thread runs or the last attempt to start it failed. It looks at a ward after it has
//! emptied the bell, and whoever brings a ward rings afterwards. Should it not be able to wait, it looks at them now and
//! then. *Threads.* Any, and its own. *Ordering.* The lock's, and the socket's.

use std::io::{self, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::SigId;
use signal_hook::consts::SIGCHLD;
use signal_hook::low_level::{pipe, unregister};

use super::exit::{DEBUGGER, Process};
use crate::primitive::Mutex;
use crate::scheduler::report;
use crate::task::ErrorContext;

struct Ward {
    process: Arc<Process>,
    /// Closed when it was reaped. None: its pidfd tells us, not we its owner.
    told: Option<PipeWriter>,
}

impl Ward {
    /// Also if somebody else has reaped it.
    fn is_gone(&self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

#[derive(Default)]
struct Reaper {
    /// The thread does not know of them yet.
    arriving: Vec<Ward>,
    /// The thread reads from the other end.
    bell: Option<UnixStream>,
    /// Rings at every `SIGCHLD`.
    listener: Option<SigId>,
}

static REAPER: LazyLock<Mutex<Reaper>> = LazyLock::new(|| Mutex::new(Reaper::default()));

/// Reaps `process`, which has no pidfd, and then closes `told`.
pub(super) fn tell(process: Arc<Process>, told: PipeWriter) -> io::Result<()> {
    let mut reaper = REAPER.lock();
    reaper.start()?;
    if reaper.listener.is_none()
        && let Some(bell) = &reaper.bell
    {
        reaper.listener = Some(pipe::register(SIGCHLD, bell.try_clone()?)?);
    }
    reaper.arriving.push(Ward { process, told: Some(told) });
    reaper.ring();
    Ok(())
}

/// Reaps `process`, which has a pidfd and no owner any more.
pub(super) fn adopt(process: Arc<Process>) {
    let mut reaper = REAPER.lock();
    reaper.arriving.push(Ward { process, told: None });
    // Without a thread it waits for the next one's attempt.
    if reaper.start().is_ok() {
        reaper.ring();
    }
}

impl Reaper {
    /// Starts the thread unless it runs.
    fn start(&mut self) -> io::Result<()> {
        if self.bell.is_none() {
            let (ours, threads) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            threads.set_nonblocking(true)?;
            thread::Builder::new().name("epicycle-reaper".into()).spawn(move || run(&threads))?;
            self.bell = Some(ours);
        }
        Ok(())
    }

    fn ring(&self) {
        if let Some(mut bell) = self.bell.as_ref() {
            // If there is no room, it has been rung.
            let _ = bell.write(&[0]);
        }
    }
}

/// What to do if `poll` fails, as for want of memory or if the limit of descriptors was lowered: it may go on failing.
#[derive(Default)]
struct Trouble {
    /// None: the last one went well.
    pause: Option<Duration>,
}

impl Trouble {
    const FIRST_PAUSE: Duration = DEBUGGER;
    const LONGEST_PAUSE: Duration = Duration::from_secs(1);

    /// How long to leave it alone. Reported once, until it goes well again.
    fn after<T>(&mut self, polled: rustix::io::Result<T>) -> Option<Duration> {
        match polled {
            Ok(_) => self.pause = None,
            Err(Errno::INTR) => return None,
            Err(error) => {
                if self.pause.is_none() {
                    let message = "The reaper of child processes cannot wait, and looks now and then";
                    report(&ErrorContext::new(format!("{message}: {error}")));
                }
                let next = self.pause.map_or(Self::FIRST_PAUSE, |pause| (pause * 2).min(Self::LONGEST_PAUSE));
                self.pause = Some(next);
            }
        }
        self.pause
    }
}

fn run(bell: &UnixStream) {
    let mut wards = Vec::new();
    let mut have_ended = false;
    let mut trouble = Trouble::default();
    loop {
        silence(bell);
        let before = wards.len();
        wards.retain(|ward: &Ward| !ward.is_gone());
        if have_ended && wards.len() == before {
            thread::sleep(DEBUGGER);
        }
        let mut reaper = REAPER.lock();
        let arriving = std::mem::take(&mut reaper.arriving);
        drop(reaper);
        wards.extend(arriving.into_iter().filter(|ward| !ward.is_gone()));
        if wards.is_empty() && retire() {
            return;
        }
        let mut sources = vec![PollFd::new(bell, PollFlags::IN)];
        let orphans = wards.iter().filter(|ward| ward.told.is_none());
        sources.extend(orphans.map(|ward| PollFd::from_borrowed_fd(ward.process.ended().as_fd(), PollFlags::IN)));
        let polled = poll(&mut sources, None);
        if let Some(pause) = trouble.after(polled) {
            have_ended = false;
            thread::sleep(pause);
            continue;
        }
        have_ended = sources[1..].iter().any(|source| !source.revents().is_empty());
    }
}

/// Whether the thread may end, having nothing to look after: if so, the next ward starts another.
fn retire() -> bool {
    let mut reaper = REAPER.lock();
    if !reaper.arriving.is_empty() {
        return false;
    }
    // Before the sockets are closed: to write to one that nobody reads would raise a signal.
    if let Some(listener) = reaper.listener.take() {
        unregister(listener);
    }
    reaper.bell = None;
    true
}

fn silence(mut bell: &UnixStream) {
    let mut taken = [0; 64];
    while matches!(bell.read(&mut taken), Ok(1..)) {}
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_poll_that_goes_on_failing_is_tried_less_and_less_often() {
        let mut trouble = Trouble::default();
        assert_eq!(trouble.after(Ok(1)), None);
        let pauses: Vec<_> = (0..12).filter_map(|_| trouble.after::<()>(Err(Errno::INVAL))).collect();
        assert_eq!((pauses.len(), pauses[0], pauses[11]), (12, Trouble::FIRST_PAUSE, Trouble::LONGEST_PAUSE));
        assert!(pauses.is_sorted());
        assert_eq!(trouble.after::<()>(Err(Errno::INTR)), None, "that is no trouble");
        assert_eq!(trouble.after(Ok(1)), None);
        assert_eq!(trouble.after::<()>(Err(Errno::NOMEM)), Some(Trouble::FIRST_PAUSE));
    }
}
