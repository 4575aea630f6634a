//! A descriptor: events against waits and clears.
//!
//! *Property.* Whoever waits for data that is there is woken: an event that comes while somebody finds the descriptor empty
//! is not cleared with the old one, and is seen by a waiter that enters itself meanwhile. Waiters that go away leave nothing.
//! *Threads.* The selector's poller; one or two readers. *Bound.* Two preemptions.
//! *Seeded bugs.* `clear` does not compare ticks; a waiter, in the slot or listed, does not look again; one that goes away stays
//! in the list.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc as StdArc;
use std::task::{Context, Poll};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

use super::support::{Signal, check};
use crate::event_loop::readiness::{Direction, READABLE, Readiness, ReadyFuture, WRITABLE};

/// A socket: what the kernel holds, and what is known of it.
struct Socket {
    bytes: AtomicUsize,
    readiness: StdArc<Readiness>,
}

impl Socket {
    fn new() -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), readiness: StdArc::new(Readiness::new(true)) })
    }

    /// A byte arrives, and an event with it: `Selector::dispatch`.
    fn arrive(&self) {
        self.bytes.fetch_add(1, Relaxed);
        self.tell(READABLE);
    }

    fn tell(&self, bits: u64) {
        let mut wakers = Vec::new();
        self.readiness.set(bits, |waker| wakers.push(waker));
        wakers.into_iter().for_each(|waker| waker.wake());
    }

    /// The system call: a byte, or "would block".
    fn read(&self) -> bool {
        self.bytes.fetch_update(Relaxed, Relaxed, |bytes| bytes.checked_sub(1)).is_ok()
    }

    /// `Registration::poll_io`.
    fn poll_read(&self, cx: &Context<'_>) -> Poll<()> {
        loop {
            match self.readiness.poll(cx, Direction::Read) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(event) => {
                    if self.read() {
                        return Poll::Ready(());
                    }
                    self.readiness.clear(event.unwrap());
                }
            }
        }
    }

    /// Reads one byte, in the slot of its direction.
    fn read_in_slot(&self, signal: &StdArc<Signal>) {
        let waker = signal.waker();
        while self.poll_read(&Context::from_waker(&waker)).is_pending() {
            signal.wait();
        }
    }

    /// Reads one byte, as one of many: `Registration::io`.
    fn read_in_list(&self, signal: &StdArc<Signal>) {
        let waker = signal.waker();
        let mut cx = Context::from_waker(&waker);
        loop {
            let mut ready = pin!(ReadyFuture::new(&self.readiness, Direction::Read));
            let event = loop {
                match ready.as_mut().poll(&mut cx) {
                    Poll::Ready(event) => break event.unwrap(),
                    Poll::Pending => signal.wait(),
                }
            };
            if self.read() {
                return;
            }
            self.readiness.clear(event);
        }
    }
}

#[test]
fn two_bytes_for_one_reader() {
    check(|| {
        let socket = Socket::new();
        let polling = thread::spawn({
            let socket = socket.clone();
            move || {
                socket.arrive();
                socket.arrive();
            }
        });
        let signal = Signal::new();
        socket.read_in_slot(&signal);
        socket.read_in_slot(&signal);
        polling.join().unwrap();
    });
}

#[test]
fn an_event_of_the_other_direction() {
    check(|| {
        let socket = Socket::new();
        let polling = thread::spawn({
            let socket = socket.clone();
            move || {
                socket.tell(WRITABLE);
                socket.arrive();
            }
        });
        socket.read_in_slot(&Signal::new());
        polling.join().unwrap();
        assert!(socket.readiness.look(Direction::Write).is_some());
    });
}

#[test]
fn two_readers_in_the_list() {
    check(|| {
        let socket = Socket::new();
        let reading = [0, 1].map(|_| {
            let socket = socket.clone();
            thread::spawn(move || {
                let signal = Signal::new();
                socket.read_in_list(&signal);
                assert_eq!(StdArc::strong_count(&signal), 1, "no waker is left in the list");
            })
        });
        socket.arrive();
        socket.arrive();
        reading.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_waiter_goes_away() {
    check(|| {
        let socket = Socket::new();
        socket.readiness.clear(socket.readiness.look(Direction::Read).unwrap());
        let leaving = thread::spawn({
            let socket = socket.clone();
            move || {
                let signal = Signal::new();
                let waker = signal.waker();
                let mut ready = ReadyFuture::new(&socket.readiness, Direction::Read);
                let _ = Pin::new(&mut ready).poll(&mut Context::from_waker(&waker));
                drop(ready);
                drop(waker);
                signal
            }
        });
        let staying = thread::spawn({
            let socket = socket.clone();
            move || socket.read_in_list(&Signal::new())
        });
        socket.arrive();
        staying.join().unwrap();
        let signal = leaving.join().unwrap();
        assert_eq!(StdArc::strong_count(&signal), 1);
        assert!(signal.woken.get() <= 1);
    });
}
