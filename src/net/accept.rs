//! [`Acceptor`]: what accepting has in common for TCP and Unix sockets, which is what to do when it fails.
//!
//! *Invariant*: readiness of a listener stays set until accepting would block, so that a burst of connections costs one
//! visit to the selector. A connection that was aborted while it waited is nobody's concern. When the process or the
//! system has run out of descriptors or memory, the listener is still readable: trying again at once would burn the CPU
//! and help nobody, so accepting pauses for a second, as in asyncio. *Threads*: any; the pause is shared by all who
//! accept. *Ordering*: the mutex.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::Async;
use crate::scheduler;
use crate::time::{Sleep, sleep_until};

/// asyncio's `ACCEPT_RETRY_DELAY`.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Acceptor<L: AsFd> {
    io: Async<L>,
    pause: Mutex<Pause>,
}

#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    /// For `poll_accept`; an `accept` has its own.
    sleep: Option<Sleep>,
}

/// What to do about a failed attempt.
enum Verdict {
    Fail,
    TryAgain,
    Pause,
}

impl Verdict {
    fn on(error: &io::Error) -> Self {
        match Errno::from_io_error(error) {
            Some(Errno::CONNABORTED) => Self::TryAgain,
            // Linux gives out here what the network had against the one connection, which is gone with that.
            Some(
                Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::NETDOWN
                | Errno::NETUNREACH
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH,
            ) => Self::TryAgain,
            Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => Self::Pause,
            _ => Self::Fail,
        }
    }
}

impl<L: AsFd> Acceptor<L> {
    pub(super) fn new(io: Async<L>) -> Self {
        Self { io, pause: Mutex::default() }
    }

    pub(super) fn io(&self) -> &Async<L> {
        &self.io
    }

    pub(super) fn into_io(self) -> Async<L> {
        self.io
    }

    pub(super) async fn accept<R>(&self, mut attempt: impl FnMut(&L) -> io::Result<R>) -> io::Result<R> {
        loop {
            let paused = self.pause.lock().until;
            if let Some(until) = paused {
                sleep_until(until).await;
                self.resume(until);
            }
            match self.io.read_with(&mut attempt).await {
                Ok(accepted) => return Ok(accepted),
                Err(error) => self.consider(error)?,
            }
        }
    }

    pub(super) fn poll_accept<R>(
        &self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&L) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            ready!(self.poll_resumed(cx));
            match ready!(self.io.poll_read_with(cx, &mut attempt)) {
                Ok(accepted) => return Poll::Ready(Ok(accepted)),
                Err(error) => self.consider(error)?,
            }
        }
    }

    fn poll_resumed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pause = self.pause.lock();
        let Some(until) = pause.until else { return Poll::Ready(()) };
        // Taken out for the poll: arming and dropping a timer clone and drop wakers, which may be anybody's code.
        let mut sleep = pause.sleep.take().unwrap_or_else(|| sleep_until(until));
        drop(pause);
        let poll = Pin::new(&mut sleep).poll(cx);
        match poll {
            Poll::Ready(()) => self.resume(until),
            Poll::Pending => {
                let replaced = self.pause.lock().sleep.replace(sleep);
                drop(replaced);
            }
        }
        poll
    }

    fn resume(&self, ended: Instant) {
        let mut pause = self.pause.lock();
        // Unless another task has tried, failed and begun the next one.
        if pause.until == Some(ended) {
            pause.until = None;
        }
    }

    /// Ok if it is worth trying again, perhaps after a pause.
    fn consider(&self, error: io::Error) -> io::Result<()> {
        match Verdict::on(&error) {
            Verdict::Fail => Err(error),
            Verdict::TryAgain => Ok(()),
            Verdict::Pause => {
                let begun = self.pause.lock().until.replace(Instant::now() + PAUSE).is_none();
                if begun {
                    scheduler::report_error("accept() is out of system resources and pauses for a second", error);
                }
                Ok(())
            }
        }
    }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use std::future::poll_fn;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::runtime::run;

    const OF_ONE_CONNECTION: [Errno; 3] = [Errno::CONNABORTED, Errno::PROTO, Errno::HOSTUNREACH];

    /// Accepting as it is, but for the first attempts, which fail.
    fn failing(errors: &[Errno]) -> impl FnMut(&TcpListener) -> io::Result<TcpStream> {
        let mut errors = errors.iter().copied();
        move |listener| match errors.next() {
            Some(error) => Err(error.into()),
            None => listener.accept().map(|(stream, _)| stream),
        }
    }

    fn acceptor() -> (Acceptor<TcpListener>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        listener.set_nonblocking(true).unwrap();
        (Acceptor::new(Async::new(listener).unwrap()), client)
    }

    #[test]
    fn n17_an_aborted_connection_is_skipped_and_accepting_goes_on() {
        run(async {
            let (acceptor, client) = acceptor();
            let accepted = acceptor.accept(failing(&OF_ONE_CONNECTION)).await.unwrap();
            assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
            assert!(acceptor.pause.lock().until.is_none(), "that is no reason to pause");

            let (acceptor, client) = self::acceptor();
            let mut attempt = failing(&OF_ONE_CONNECTION);
            let accepted = poll_fn(|cx| acceptor.poll_accept(cx, &mut attempt)).await.unwrap();
            assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
        });
    }

    #[test]
    fn n17_an_error_of_the_listener_itself_comes_out() {
        run(async {
            let (acceptor, _client) = acceptor();
            for error in [Errno::INVAL, Errno::OPNOTSUPP, Errno::PERM] {
                let failed = acceptor.accept(failing(&[error])).await.unwrap_err();
                assert_eq!(Errno::from_io_error(&failed), Some(error));
            }
            assert!(acceptor.accept(failing(&[])).await.is_ok());
        });
    }
}
