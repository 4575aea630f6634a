//! The half of a loop that other threads may touch.
//!
//! *Invariant.* Lives as long as anything refers to it: a task, a timer, a socket, a handle. What it offers after its loop
//! closed is harmless. *Threads.* Any. *Ordering.* Each part's own file.

use std::io;
use std::rc::Rc;
use std::task::Waker;
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::core::LoopCore;
use super::current;
use super::inbox::Inbox;
use super::park::{Parker, Unblock};
use super::selector::Selector;
use super::stats::Stats;
use super::timers::Timers;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::primitive::{BiasedArc, CachePadded, Mutex};
use crate::task::{
    Callbacks, ErrorContext, ExceptionHandler, Kind, LiveList, NewTask, Observer, Once, ReadyHandle, Schedule, Witness,
    catch, discard, drop_payload, launch, report_to,
};

pub(crate) struct Remote {
    index: usize,
    parker: CachePadded<Parker>,
    stats: CachePadded<Stats>,
    inbox: CachePadded<Inbox>,
    timers: CachePadded<Timers>,
    selector: Selector,
    /// Tasks that may run anywhere and were born here.
    live: CachePadded<LiveList>,
    /// Tasks and timed callbacks that belong here.
    pinned: CachePadded<LiveList>,
    observer: Observer,
    handler: Mutex<ExceptionHandler>,
    /// In debug mode: how long a handle may take before it is reported, in nanoseconds. 0: not in debug mode.
    slow_nanos: AtomicU64,
    /// In debug mode: the handle that the loop is in.
    inside: Mutex<Option<Inside>>,
    /// One of a runtime's several loops.
    has_peers: AtomicBool,
    /// A guest's own thread, which does not sleep in a selector.
    guest: Option<Thread>,
    /// The loop that a guest's thread drives as well, and in whose selector it sleeps.
    carrier: Mutex<Option<BiasedArc<Remote>>>,
}

impl Remote {
    pub(crate) fn new(
        index: usize,
        absent: bool,
        handler: ExceptionHandler,
        observer: Observer,
    ) -> io::Result<BiasedArc<Self>> {
        Self::build(index, absent, handler, observer, None)
    }

    /// The remote half of a guest: a thread inside `block_on` that drives no loop.
    pub(crate) fn new_guest(handler: ExceptionHandler, observer: Observer) -> io::Result<BiasedArc<Self>> {
        Self::build(usize::MAX, false, handler, observer, Some(std::thread::current()))
    }

    fn build(
        index: usize,
        absent: bool,
        handler: ExceptionHandler,
        observer: Observer,
        guest: Option<Thread>,
    ) -> io::Result<BiasedArc<Self>> {
        Ok(BiasedArc::new(Self {
            index,
            parker: CachePadded::new(Parker::new(absent)),
            stats: CachePadded::default(),
            inbox: CachePadded::new(Inbox::new()),
            timers: CachePadded::new(Timers::new(index, observer.clone())),
            selector: Selector::new()?,
            live: CachePadded::new(LiveList::new()),
            pinned: CachePadded::new(LiveList::new()),
            observer,
            handler: Mutex::new(handler),
            slow_nanos: AtomicU64::new(0),
            inside: Mutex::new(None),
            has_peers: AtomicBool::new(false),
            guest,
            carrier: Mutex::new(None),
        }))
    }

    /// The calling thread drives the loop from now on: what it locks nearly alone it locks without atomic operations.
    pub(super) fn take_over(&self) {
        self.live.take_over();
        self.pinned.take_over();
        self.timers.take_over();
    }

    /// The thread that drove the loop does not any more.
    pub(super) fn give_up(&self) {
        self.live.give_up();
        self.pinned.give_up();
        self.timers.give_up();
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }
    pub(crate) fn parker(&self) -> &Parker {
        &self.parker
    }
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }
    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }
    pub(crate) fn timers(&self) -> &Timers {
        &self.timers
    }
    pub(crate) fn selector(&self) -> &Selector {
        &self.selector
    }
    pub(crate) fn live(&self) -> &LiveList {
        &self.live
    }
    pub(crate) fn pinned(&self) -> &LiveList {
        &self.pinned
    }

    /// Wakes the loop's thread if it sleeps; what it should find has been published. True if it took a system call.
    pub(crate) fn unpark(&self) -> bool {
        let woken = self.parker.unpark(self);
        if woken {
            self.stats.unparks_received.add_shared(1);
            current::with(|current| {
                if let Some(core) = current {
                    core.remote().stats.unparks_sent.add(1);
                }
            });
        }
        woken
    }

    /// Posts a handle to the loop. On a closed loop it is dropped here, which a pinned one cannot reach: its loop closes
    /// the inbox only when no pinned task is left.
    pub(crate) fn post(&self, handle: ReadyHandle) {
        match self.inbox.push(handle) {
            Ok(()) => {
                self.unpark();
            }
            Err(handle) => {
                debug_assert!(handle.may_travel());
                if handle.may_travel() {
                    discard(handle);
                } else {
                    // Better lost than dropped on a foreign thread.
                    std::mem::forget(handle);
                }
            }
        }
    }

    pub(crate) fn slow_nanos(&self) -> u64 {
        // Ordering: Relaxed: an option, usually set before the loop runs.
        self.slow_nanos.load(Ordering::Relaxed)
    }

    pub(crate) fn set_slow_nanos(&self, nanos: u64) {
        // Ordering: Relaxed, as above.
        self.slow_nanos.store(nanos, Ordering::Relaxed);
    }

    /// In debug mode, around each handle: what the loop is in, for peers to see if it stays there too long.
    pub(super) fn set_inside(&self, handle: Option<Witness>) {
        let inside = handle.map(|handle| Inside {
            handle,
            since: Instant::now(),
            report_after: self.slow_nanos().saturating_mul(2),
        });
        let old = std::mem::replace(&mut *self.inside.lock(), inside);
        drop(old);
    }

    /// Whether the loop is in a handle for so long that a report is due.
    pub(crate) fn is_overstayed(&self) -> bool {
        self.slow_nanos() > 0 && self.inside.lock().as_ref().is_some_and(|inside| inside.overstays().is_some())
    }

    /// Reports the handle that the loop is in, if that is due: the first time after twice the slow-callback duration (what ends
    /// before is reported then, once), each next time after twice as long. By a peer, since the loop itself is not able to.
    pub(crate) fn report_overstayed(&self) {
        let context = self.inside.lock().as_mut().and_then(|inside| {
            let stayed = inside.overstays()?;
            inside.report_after = u64::try_from(stayed.as_nanos()).unwrap_or(u64::MAX).saturating_mul(2);
            let mut context = inside.handle.context("");
            let what = context.task_name().unwrap_or("callback");
            context.message =
                format!("Loop {} has been executing <{what}> for {:.3} seconds", self.index, stayed.as_secs_f64());
            context.loop_index = Some(self.index);
            Some(context)
        });
        if let Some(context) = context {
            self.report(&context);
        }
    }

    pub(crate) fn set_has_peers(&self, has_peers: bool) {
        // Ordering: Relaxed: set before the loop is known to anybody else.
        self.has_peers.store(has_peers, Ordering::Relaxed);
    }

    pub(crate) fn set_carrier(&self, carrier: Option<BiasedArc<Remote>>) {
        *self.carrier.lock() = carrier;
    }

    pub(crate) fn handler(&self) -> ExceptionHandler {
        self.handler.lock().clone()
    }

    pub(crate) fn set_handler(&self, handler: ExceptionHandler) {
        let old = std::mem::replace(&mut *self.handler.lock(), handler);
        drop(old);
    }

    /// The exception handler is told `context`.
    pub(crate) fn report(&self, context: &ErrorContext) {
        report_to(&self.handler(), context);
    }

    /// Wakes, and reports a waker that panics.
    pub(crate) fn wake(&self, waker: Waker) {
        if let Err(payload) = catch(|| waker.wake()) {
            self.report(&ErrorContext::new("Exception in a waker").with_panic(&*payload));
            drop_payload(payload);
        }
    }
}

/// The handle that a loop is in.
struct Inside {
    handle: Witness,
    since: Instant,
    /// How long it may stay before the next report, in nanoseconds.
    report_after: u64,
}

impl Inside {
    /// How long it has stayed, if that is too long.
    fn overstays(&self) -> Option<Duration> {
        let stayed = self.since.elapsed();
        (stayed.as_nanos() >= u128::from(self.report_after)).then_some(stayed)
    }
}

impl Unblock for Remote {
    fn unblock(&self) {
        match &self.guest {
            Some(thread) => {
                thread.unpark();
                let carrier = self.carrier.lock().clone();
                if let Some(carrier) = carrier {
                    carrier.unpark();
                }
            }
            None => self.selector.unblock(),
        }
    }
}

/// The scheduler of what is pinned to a loop.
pub(crate) struct PinnedHome {
    remote: BiasedArc<Remote>,
}

impl PinnedHome {
    #[inline]
    pub(crate) fn new(remote: BiasedArc<Remote>) -> Self {
        Self { remote }
    }
}

/// A queue, and what keeps it.
pub(crate) enum Target {
    Own(Rc<LoopCore>),
    Other(BiasedArc<Remote>),
}

impl Schedule for PinnedHome {
    type Target = Target;

    #[inline]
    fn target(&self) -> Target {
        current::with(|current| match current {
            Some(core) if BiasedArc::ptr_eq(core.remote(), &self.remote) => Target::Own(core.clone()),
            _ => Target::Other(self.remote.clone()),
        })
    }

    #[inline]
    fn push(target: Target, handle: ReadyHandle) {
        match target {
            Target::Own(core) => core.append(handle),
            Target::Other(remote) => remote.post(handle),
        }
    }

    #[inline]
    fn queue(&self, handle: ReadyHandle) {
        let posted = current::with(|current| match current {
            Some(core) if BiasedArc::ptr_eq(core.remote(), &self.remote) => {
                core.append(handle);
                None
            }
            _ => Some(handle),
        });
        if let Some(handle) = posted {
            self.remote.post(handle);
        }
    }

    #[inline]
    fn is_home(&self) -> bool {
        current::is_on(&self.remote)
    }

    /// Who counts the loop's references drives it, or is going to.
    #[inline]
    fn is_driven_here(&self) -> bool {
        BiasedArc::is_here(&self.remote)
    }

    fn only_loop(&self) -> Option<usize> {
        Some(self.remote.index)
    }

    #[inline]
    fn live(&self) -> Option<&LiveList> {
        Some(&self.remote.pinned)
    }

    fn observer(&self) -> Option<&Observer> {
        Some(&self.remote.observer)
    }

    /// Then who counts an end is not made to wait for a loop that may be away, or stuck.
    fn has_peers(&self) -> bool {
        // Ordering: Relaxed: see `set_has_peers`.
        self.remote.has_peers.load(Ordering::Relaxed)
    }

    fn deliver(&self, callbacks: Callbacks) {
        let new = NewTask {
            kind: Kind::Callback,
            pinned: true,
            queued: true,
            unbuilt: true,
            name: None,
            location: callbacks.location,
        };
        let remote = self.remote.clone();
        let call = Once::new(move || callbacks.call(&remote.observer, |context| remote.report(context)));
        drop(launch(call, PinnedHome::new(self.remote.clone()), new).into_handle());
    }

    fn report(&self, context: &ErrorContext) {
        let mut context = context.clone();
        context.loop_index = current::with(|core| core.map(|core| core.remote().index()));
        self.remote.report(&context);
    }
}
