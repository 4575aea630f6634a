//! Connecting to the first of several addresses that answers: RFC 8305, "happy eyeballs".
//!
//! *Invariant*: the next attempt begins when one fails or when the last one has gone unanswered for the delay; the first to
//! succeed drops the others. *Threads*: any. *Ordering*: owner-only, none.

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use crate::time::{Sleep, sleep};

/// Puts the families in turn, beginning with the first address's, which gets `first` addresses before it is another's turn.
/// Zero leaves the order as it is.
pub(super) fn interleave(addresses: Vec<SocketAddr>, first: usize) -> Vec<SocketAddr> {
    let Some(family) = addresses.first().map(SocketAddr::is_ipv6).filter(|_| first > 0) else { return addresses };
    let (own, other): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == family);
    let (mut own, mut other) = (own.into_iter(), other.into_iter());
    let mut ordered: Vec<_> = own.by_ref().take(first - 1).collect();
    loop {
        let pair = [own.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Does `attempt` with the addresses, each `delay` after the one before it, or when that has failed.
pub(super) async fn race<T, F>(
    addresses: Vec<SocketAddr>,
    delay: Option<Duration>,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    if let [only] = addresses[..] {
        return attempt(only).await;
    }
    let mut race =
        Race { waiting: addresses.into_iter(), delay, timer: None, running: Vec::new(), failures: Vec::new() };
    poll_fn(|cx| race.poll(cx, &attempt)).await
}

struct Race<F> {
    waiting: vec::IntoIter<SocketAddr>,
    delay: Option<Duration>,
    /// Until the next one may begin.
    timer: Option<Sleep>,
    running: Vec<(SocketAddr, Pin<Box<F>>)>,
    failures: Vec<(SocketAddr, io::Error)>,
}

impl<T, F: Future<Output = io::Result<T>>> Race<F> {
    fn poll(&mut self, cx: &mut Context<'_>, attempt: &impl Fn(SocketAddr) -> F) -> Poll<io::Result<T>> {
        loop {
            let failures = self.failures.len();
            let mut at = 0;
            while at < self.running.len() {
                match self.running[at].1.as_mut().poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Ok(winner)) => return Poll::Ready(Ok(winner)),
                    Poll::Ready(Err(error)) => {
                        let (address, _) = self.running.remove(at);
                        self.failures.push((address, error));
                    }
                }
            }
            let failed = self.failures.len() > failures;
            if !(self.running.is_empty() || failed || self.poll_timer(cx).is_ready()) {
                return Poll::Pending;
            }
            match self.waiting.next() {
                Some(address) => self.running.push((address, Box::pin(attempt(address)))),
                None if self.running.is_empty() => return Poll::Ready(Err(all_failed(&mut self.failures))),
                None => return Poll::Pending,
            }
            self.timer = self.delay.filter(|_| self.waiting.len() > 0).map(sleep);
        }
    }

    /// Pending for ever if there is none: then only a failure lets the next one begin.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) => Pin::new(timer).poll(cx),
            None => Poll::Pending,
        }
    }
}

/// The first error, if all are alike; else one that tells of all.
fn all_failed(failures: &mut Vec<(SocketAddr, io::Error)>) -> io::Error {
    let Some(kind) = failures.last().map(|(_, error)| error.kind()) else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no socket address was given or found");
    };
    if failures.iter().all(|(_, error)| error.kind() == kind) {
        return failures.swap_remove(0).1;
    }
    let mut text = "no address could be connected to".to_owned();
    for (address, error) in failures {
        write!(text, "; {address}: {error}").expect("a string takes everything");
    }
    io::Error::new(kind, text)
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn families_come_in_turn() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(interleave(given.clone(), 0), given);
        assert_eq!(interleave(given.clone(), 1), addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(interleave(given.clone(), 2), addresses(&["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1"]));
        assert_eq!(interleave(given.clone(), 9), given);
        assert_eq!(interleave(Vec::new(), 1), Vec::new());
    }
}
