//! A loop's selector: the kernel's poll set, the descriptors registered with it, and the two things that end a wait: a
//! wake-up from another thread, and a timer of better grain than the kernel's milliseconds.
//!
//! *Invariant.* Holds wakers and nothing else, so whoever polls it only wakes. The poll set is behind a lock that its owner
//! holds while it waits and an adopter while it looks; registering needs only the registry.
//!
//! *Threads.* `register` and `deregister` any; `lock` the owner to wait, anyone to look. *Ordering.* The locks';
//! `readiness.rs` for what an event publishes.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Token};
use slab::Slab;

use super::alarm::Alarm;
use super::clock;
use super::nest::{self, Host, Tell};
use super::park::Unblock;
use super::readiness::{READ_CLOSED, READABLE, Readiness, SHUTDOWN, WRITABLE, WRITE_CLOSED};
use crate::primitive::atomic::{AtomicU64, AtomicUsize, Ordering};
use crate::primitive::{Mutex, MutexGuard};

const WAKE: Token = Token(usize::MAX);
const ALARM: Token = Token(usize::MAX - 1);
const TICK: Token = Token(usize::MAX - 3);
/// An absent loop's selector, nested in its custodian's.
const NESTED: Token = Token(usize::MAX - 2);
/// A stuck loop's selector, nested in its helper's.
const HELPED: Token = Token(usize::MAX - 4);

/// A token is a slot and, above it, a number that tells its users apart.
const SLOT_BITS: u32 = usize::BITS / 2;

pub(crate) struct Selector {
    poll: Mutex<PollSet>,
    registry: mio::Registry,
    waker: mio::Waker,
    /// Ends the wait of a watcher, and when it is set to do so next.
    tick: Option<Alarm>,
    ticks_at: AtomicU64,
    sources: Mutex<Sources>,
    /// How many descriptors are registered; written under the lock, a hint without it.
    count: AtomicUsize,
    /// Whose poll set this one is in. The kernel's lists change under this lock.
    host: Mutex<Host>,
}

pub(crate) struct PollSet {
    poll: mio::Poll,
    alarm: Option<Alarm>,
}

#[derive(Default)]
struct Sources {
    slots: Slab<Source>,
    /// Who registered a descriptor's number last: only that one may take it out of the poll set.
    by_fd: HashMap<RawFd, Token>,
    registered: usize,
    closed: bool,
}

struct Source {
    token: Token,
    readiness: Arc<Readiness>,
}

/// How a descriptor is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trigger {
    /// Both directions, when they change: for sockets.
    Edge,
    /// When it changes, and again for each [`Selector::rearm`]: for asyncio's readers and writers, who are called as long as it
    /// is so.
    Rearmed(Interest),
}

/// What a batch of events was.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Batch {
    pub(crate) events: usize,
    /// The batch was full: there may be more.
    pub(crate) full: bool,
    /// The absent loop's selector has something.
    pub(crate) nested: bool,
    /// The selector of a loop that was stuck has something new.
    pub(crate) helped: bool,
    /// The watcher's tick.
    pub(crate) ticked: bool,
}

impl Selector {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let waker = mio::Waker::new(&registry, WAKE)?;
        let alarm = Alarm::new(&registry, ALARM)?;
        let tick = Alarm::new(&registry, TICK)?;
        Ok(Self {
            poll: Mutex::new(PollSet { poll, alarm }),
            tick,
            ticks_at: AtomicU64::new(0),
            registry,
            waker,
            sources: Mutex::new(Sources::default()),
            count: AtomicUsize::new(0),
            host: Mutex::new(Host::Nobody),
        })
    }

    /// How many descriptors are registered, as of some moment ago.
    pub(crate) fn sources(&self) -> usize {
        // Ordering: Relaxed: a hint.
        self.count.load(Ordering::Relaxed)
    }

    // ---- registering -----------------------------------------------------------------------------------------------

    pub(super) fn register(&self, descriptor: BorrowedFd<'_>, trigger: Trigger) -> io::Result<(Token, Arc<Readiness>)> {
        let fd = descriptor.as_raw_fd();
        let readiness = Arc::new(Readiness::new(trigger == Trigger::Edge));
        let replaced;
        let token = {
            let mut sources = self.sources.lock();
            if sources.closed {
                return Err(io::Error::other("the event loop is closed"));
            }
            sources.registered += 1;
            let user = sources.registered & ((1 << (SLOT_BITS - 1)) - 1);
            let entry = sources.slots.vacant_entry();
            let token = Token(entry.key() | user << SLOT_BITS);
            entry.insert(Source { token, readiness: readiness.clone() });
            replaced = sources.by_fd.insert(fd, token);
            // Ordering: Relaxed: a hint.
            self.count.store(sources.slots.len(), Ordering::Relaxed);
            token
        };
        let interest = match trigger {
            Trigger::Edge => Interest::READABLE | Interest::WRITABLE,
            Trigger::Rearmed(interest) => interest,
        };
        match self.registry.register(&mut SourceFd(&fd), token, interest) {
            Ok(()) => Ok((token, readiness)),
            Err(error) => {
                self.forget(fd, token);
                if let Some(owner) = replaced {
                    // "Exists": the number is still its first user's.
                    self.sources.lock().by_fd.entry(fd).or_insert(owner);
                }
                Err(error)
            }
        }
    }

    /// Has what is ready now reported once more, and changes what a registration waits for. An error says that the
    /// descriptor was closed since it was registered.
    pub(super) fn rearm(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        if !self.owns(fd, token) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.registry.reregister(&mut SourceFd(&fd), token, interest)
    }

    fn owns(&self, fd: RawFd, token: Token) -> bool {
        self.sources.lock().by_fd.get(&fd) == Some(&token)
    }

    /// Takes a descriptor out. Afterwards no event reaches its readiness.
    pub(super) fn deregister(&self, fd: RawFd, token: Token) {
        if self.forget(fd, token) {
            // Fails only if the descriptor was closed first: then the kernel has taken it out.
            let _ = self.registry.deregister(&mut SourceFd(&fd));
        }
    }

    /// Forgets a descriptor that was closed before it was taken out; the kernel has done the rest.
    pub(super) fn deregister_closed(&self, fd: RawFd, token: Token) {
        self.forget(fd, token);
    }

    /// Drops the registration; true if the descriptor's number is still this one's.
    fn forget(&self, fd: RawFd, token: Token) -> bool {
        let mut sources = self.sources.lock();
        let slot = slot_of(token);
        if sources.slots.get(slot).is_some_and(|source| source.token == token) {
            sources.slots.remove(slot);
            // Ordering: Relaxed: a hint.
            self.count.store(sources.slots.len(), Ordering::Relaxed);
        }
        let owns = sources.by_fd.get(&fd) == Some(&token);
        if owns {
            sources.by_fd.remove(&fd);
        }
        owns
    }

    /// Whether a socket or other resource of ours has registered this number.
    pub(super) fn is_registered(&self, fd: RawFd) -> bool {
        self.sources.lock().by_fd.contains_key(&fd)
    }

    // ---- polling ---------------------------------------------------------------------------------------------------

    pub(crate) fn lock(&self) -> MutexGuard<'_, PollSet> {
        self.poll.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, PollSet>> {
        self.poll.try_lock()
    }

    /// Hands each event to the readiness it belongs to and wakes whom it concerns, under no lock.
    pub(crate) fn dispatch(&self, events: &Events, wake: impl Fn(Waker)) -> Batch {
        let mut batch = Batch::default();
        if events.is_empty() {
            return batch;
        }
        let mut seen = 0;
        let mut wakers = Vec::new();
        {
            let sources = self.sources.lock();
            for event in events {
                seen += 1;
                match event.token() {
                    WAKE | ALARM => continue,
                    TICK => {
                        batch.ticked = true;
                        continue;
                    }
                    NESTED => batch.nested = true,
                    HELPED => batch.helped = true,
                    token => {
                        let source = sources.slots.get(slot_of(token));
                        if let Some(source) = source.filter(|source| source.token == token) {
                            source.readiness.set(bits(event), |waker| wakers.push(waker));
                        }
                    }
                }
                batch.events += 1;
            }
        }
        batch.full = seen == events.capacity();
        wakers.into_iter().for_each(wake);
        batch
    }

    /// Ends every wait with an error and refuses new ones.
    pub(crate) fn close(&self, wake: impl Fn(Waker)) {
        let mut wakers = Vec::new();
        let sources: Vec<_> = {
            let mut sources = self.sources.lock();
            sources.closed = true;
            sources.slots.iter().map(|(_, source)| source.readiness.clone()).collect()
        };
        for readiness in &sources {
            readiness.set(SHUTDOWN, |waker| wakers.push(waker));
        }
        wakers.into_iter().for_each(wake);
    }

    // ---- ticking ---------------------------------------------------------------------------------------------------

    /// Has the current or next wait end within `after`. False if there is no such timer here. Any thread.
    pub(crate) fn arm_tick(&self, after: Duration) -> bool {
        let Some(tick) = &self.tick else { return false };
        let now = clock::now();
        let at = now + after.as_nanos() as u64;
        // Ordering: Relaxed: two who arm at once both set the timer, to nearly the same time.
        let ticks_at = self.ticks_at.load(Ordering::Relaxed);
        if now < ticks_at && ticks_at <= at {
            return true;
        }
        self.ticks_at.store(at, Ordering::Relaxed);
        tick.fire_after(after).is_ok()
    }

    /// Whether a wait will end for a tick, as far as one can tell.
    pub(crate) fn tick_is_armed(&self) -> bool {
        // Ordering: Relaxed, as in `arm_tick`.
        self.ticks_at.load(Ordering::Relaxed) > clock::now()
    }

    // ---- nesting another loop's selector ---------------------------------------------------------------------------

    /// Has the loop `index`, whose selector this is, look after an absent one.
    pub(crate) fn nest(&self, index: usize, inner: &Selector) -> io::Result<()> {
        let mut host = inner.host.lock();
        *host = Host::Custodian(index);
        // It may have helped that loop. Another helper finds out by itself.
        nest::unnest(&self.registry, &inner.registry);
        nest::nest(&self.registry, &inner.registry, NESTED, Tell::Always)
    }

    pub(crate) fn unnest(&self, inner: &Selector) {
        let mut host = inner.host.lock();
        *host = Host::Nobody;
        nest::unnest(&self.registry, &inner.registry);
    }

    /// Has the loop `index`, whose selector this is, told of what comes for a stuck one. False if somebody else is, or the
    /// kernel does not do it.
    pub(crate) fn help(&self, index: usize, inner: &Selector) -> bool {
        let mut host = inner.host.lock();
        let helps = *host == Host::Nobody && nest::nest(&self.registry, &inner.registry, HELPED, Tell::News).is_ok();
        if helps {
            *host = Host::Helper(index);
        }
        helps
    }

    /// The end of that. Any thread.
    pub(crate) fn end_help(&self, index: usize, inner: &Selector) {
        let mut host = inner.host.lock();
        if *host == Host::Helper(index) {
            *host = Host::Nobody;
        }
        if *host != Host::Custodian(index) {
            nest::unnest(&self.registry, &inner.registry);
        }
    }

    /// Which loop helps this one.
    pub(crate) fn helper(&self) -> Option<usize> {
        match *self.host.lock() {
            Host::Helper(index) => Some(index),
            Host::Nobody | Host::Custodian(_) => None,
        }
    }
}

impl Unblock for Selector {
    fn unblock(&self) {
        // Fails only if the kernel is out of memory; the counter of an eventfd that is full wakes as well.
        if let Err(error) = self.waker.wake() {
            log::error!(target: "epicycle", "cannot wake an event loop: {error}");
        }
    }
}

impl PollSet {
    /// What is ready now.
    pub(crate) fn look(&mut self, events: &mut Events) -> io::Result<()> {
        self.poll(events, Some(Duration::ZERO))
    }

    /// Waits for an event, a wake-up, or `deadline`.
    pub(crate) fn wait(&mut self, events: &mut Events, deadline: u64) -> io::Result<()> {
        if deadline == clock::NEVER {
            if let Some(alarm) = &mut self.alarm {
                alarm.disarm()?;
            }
            return self.poll(events, None);
        }
        let left = Duration::from_nanos(deadline.saturating_sub(clock::now()));
        if left.is_zero() {
            return self.look(events);
        }
        match &mut self.alarm {
            Some(alarm) => {
                alarm.arm(deadline, left)?;
                self.poll(events, None)
            }
            None => self.poll(events, Some(left)),
        }
    }

    fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            polled => polled,
        }
    }
}

/// Whether nothing but timers ended a wait.
pub(crate) fn only_alarms(events: &Events) -> bool {
    events.iter().all(|event| matches!(event.token(), ALARM | TICK))
}

fn slot_of(token: Token) -> usize {
    token.0 & ((1 << SLOT_BITS) - 1)
}

fn bits(event: &mio::event::Event) -> u64 {
    let mut bits = 0;
    if event.is_readable() || event.is_priority() {
        bits |= READABLE;
    }
    if event.is_writable() {
        bits |= WRITABLE;
    }
    if event.is_read_closed() {
        bits |= READ_CLOSED | READABLE;
    }
    if event.is_write_closed() {
        bits |= WRITE_CLOSED | WRITABLE;
    }
    if event.is_error() {
        // Whoever waits finds the error by trying.
        bits |= READABLE | WRITABLE;
    }
    bits
}
