//! What the loops of one runtime share, and how a stealable task finds its queue.
//!
//! *Invariant.* Read-mostly but for the injector and the idle word. A task refers to its birth loop's [`Anchor`], not to
//! `Shared` itself, so that each loop counts the references of what it spawned by itself.
//!
//! *Threads.* Any. *Ordering.* Each part's own file.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::executor::{Pool, Threads};
use super::idle::Idle;
use super::injector::Injector;
use super::jobs::Executor;
use super::tenancy::{Queue, Tenancy};
use crate::event_loop::{LoopCore, LoopHandle, Remote, current};
use crate::primitive::deque::{Stealer, Worker};
use crate::primitive::{BiasedArc, CachePadded};
use crate::task::{
    Callbacks, ErrorContext, ExceptionHandler, Kind, LiveList, NewTask, Observer, Once, ReadyHandle, Schedule, catch,
    drop_payload, launch,
};

/// A hook that is told a loop's index.
pub(crate) type Hook = Option<Arc<dyn Fn(usize) + Send + Sync>>;

/// The builder's choices, as far as the loops need them.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) loops: usize,
    pub(crate) work_stealing: bool,
    pub(crate) event_interval: usize,
    pub(crate) spin: Duration,
    /// There is a CPU for each loop, so a short spin takes nobody's place.
    pub(crate) may_spin: bool,
    /// The executor's threads; the loops' have the same names and stacks.
    pub(crate) threads: Threads,
    /// Runs the jobs instead of the pool.
    pub(crate) default_executor: Option<Arc<dyn Executor>>,
    pub(crate) on_thread_start: Hook,
    pub(crate) on_thread_stop: Hook,
    pub(crate) exception_handler: ExceptionHandler,
    pub(crate) observer: Observer,
    /// Debug mode: handles that take so long are reported.
    pub(crate) slow: Option<Duration>,
}

pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) remotes: Box<[BiasedArc<Remote>]>,
    pub(crate) handles: Box<[LoopHandle]>,
    /// The other ends of the loops' stealable queues; empty for one loop.
    pub(crate) stealers: Box<[CachePadded<Stealer<ReadyHandle>>]>,
    pub(crate) injector: CachePadded<Injector>,
    pub(crate) idle: CachePadded<Idle>,
    pub(crate) executor: Pool,
    /// Who drives loop 0.
    pub(crate) tenancy: Tenancy,
    /// Tasks spawned off the loops. Closed by each loop that closes, since it is no loop's own.
    pub(crate) outside: CachePadded<LiveList>,
    closing: AtomicBool,
    /// Round robin for sockets and timers made off the loops.
    next_home: AtomicUsize,
}

/// Where a task was born: on a loop of a runtime, or outside its loops. Each loop's driver holds its anchor's bias, so that what it
/// spawns and what it frees is counted without atomic operations.
pub(crate) struct Anchor {
    pub(crate) shared: Arc<Shared>,
    /// The loop's, which is also in `shared`: this is the shorter way. None outside.
    pub(super) remote: Option<BiasedArc<Remote>>,
}

/// The index of the anchor of threads that drive no loop: what they spawn is listed by itself, so that they and loop 0 do not
/// wait for each other.
pub(crate) const OUTSIDE: usize = usize::MAX;

impl Anchor {
    pub(crate) fn new(shared: &Arc<Shared>, index: usize) -> BiasedArc<Self> {
        BiasedArc::new(Self { shared: shared.clone(), remote: shared.remotes.get(index).cloned() })
    }

    /// Tells the exception handler of the loop, or of the runtime.
    pub(crate) fn report(&self, context: &ErrorContext) {
        self.remote.as_ref().unwrap_or(&self.shared.remotes[0]).report(context);
    }
}

impl Shared {
    /// The shared state, and the owners' ends of the stealable queues, by loop.
    pub(crate) fn new(options: Options) -> io::Result<(Arc<Self>, Vec<Queue>)> {
        let n = options.loops;
        let remotes = (0..n)
            .map(|index| Remote::new(index, index == 0, options.exception_handler.clone(), options.observer.clone()))
            .collect::<io::Result<Box<[_]>>>()?;
        remotes.iter().for_each(|remote| remote.set_has_peers(n > 1));
        if let Some(slow) = options.slow {
            let nanos = u64::try_from(slow.as_nanos()).unwrap_or(u64::MAX).max(1);
            remotes.iter().for_each(|remote| remote.set_slow_nanos(nanos));
        }
        let mut queues: Vec<_> = (0..n).map(|_| (n > 1).then(Worker::new_fifo)).collect();
        let stealers = queues.iter().flatten().map(|queue| CachePadded::new(queue.stealer()));
        let shared = Arc::new(Self {
            handles: remotes.iter().map(|remote| LoopHandle::new(remote.clone())).collect(),
            stealers: stealers.collect(),
            injector: CachePadded::new(Injector::new()),
            idle: CachePadded::new(Idle::new(n)),
            executor: Pool::new(options.threads.clone()),
            tenancy: Tenancy::new(queues[0].take()),
            outside: CachePadded::new(LiveList::new()),
            closing: AtomicBool::new(false),
            next_home: AtomicUsize::new(0),
            remotes,
            options,
        });
        Ok((shared, queues))
    }

    /// What a loop's `fleet` says if the loop belongs here.
    pub(crate) fn fleet(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    pub(crate) fn has_peers(&self) -> bool {
        self.remotes.len() > 1
    }

    pub(crate) fn is_closing(&self) -> bool {
        // Ordering: Acquire, pairs with the swap in `start_closing`.
        self.closing.load(Ordering::Acquire)
    }

    /// Begins the shutdown; false if somebody has before.
    pub(crate) fn start_closing(&self) -> bool {
        // Ordering: AcqRel: one closer; the loops see what it did before.
        let first = !self.closing.swap(true, Ordering::AcqRel);
        if first {
            for remote in &self.remotes {
                remote.unpark();
            }
        }
        first
    }

    /// Gives a stealable handle to whichever loop comes first.
    pub(crate) fn inject(&self, handle: ReadyHandle) {
        if !self.has_peers() {
            self.remotes[0].post(handle);
        } else if self.injector.push(handle) {
            self.unpark_invited(self.idle.invite_fenced(|index| self.has_pinned(index)));
        }
    }

    /// Unparks a loop to look for work, if none is looking already. A loop that has pinned tasks comes last: a long handle
    /// that it takes over would strand them.
    pub(crate) fn invite(&self) {
        self.unpark_invited(self.idle.invite(|index| self.has_pinned(index)));
    }

    fn has_pinned(&self, index: usize) -> bool {
        self.remotes[index].pinned().count() > 0
    }

    fn unpark_invited(&self, invited: Option<usize>) {
        if let Some(index) = invited {
            self.remotes[index].unpark();
        }
    }

    /// The sleeper `index` has become the watcher: it gets its first tick, by the kernel's timer or else by being woken.
    pub(crate) fn start_watch(&self, watcher: Option<usize>) {
        if let Some(index) = watcher {
            self.arm_tick(index, super::watcher::FIRST_TICK);
        }
    }

    /// The sleeper `index` looks around after so long.
    pub(super) fn arm_tick(&self, index: usize, after: Duration) {
        let remote = &self.remotes[index];
        if !remote.selector().arm_tick(after) {
            remote.unpark();
        }
    }

    /// A loop on which a socket or timer made off the loops can live: a background loop, if there is one. Not loop 0, which
    /// may lose its driver between our look and the arming, and then nobody would be told of the new deadline.
    pub(crate) fn present_home(&self) -> &BiasedArc<Remote> {
        match self.remotes.len() - 1 {
            0 => &self.remotes[0],
            // Ordering: Relaxed: any value will do.
            background => &self.remotes[1 + self.next_home.fetch_add(1, Ordering::Relaxed) % background],
        }
    }

    /// Runs a user's hook.
    pub(crate) fn call_hook(&self, hook: &Hook, index: usize) {
        let Some(hook) = hook else { return };
        if let Err(payload) = catch(|| hook(index)) {
            let mut context = ErrorContext::new("Exception in a thread hook").with_panic(&*payload);
            context.loop_index = Some(index);
            self.remotes[index].report(&context);
            drop_payload(payload);
        }
    }
}

/// The scheduler of tasks that may run on any loop.
pub(crate) struct StealableHome(pub(crate) BiasedArc<Anchor>);

pub(crate) enum Target {
    Own(Rc<LoopCore>),
    Anyone(BiasedArc<Anchor>),
}

impl StealableHome {
    /// Whether what is pushed by the thread of `core` goes into that loop's own queue.
    #[inline]
    fn serves(&self, core: &LoopCore) -> bool {
        core.fleet() == self.0.shared.fleet() && !core.is_closed()
    }
}

impl Schedule for StealableHome {
    type Target = Target;

    #[inline]
    fn target(&self) -> Target {
        current::with(|core| match core {
            Some(core) if self.serves(core) => Target::Own(core.clone()),
            _ => Target::Anyone(self.0.clone()),
        })
    }

    #[inline]
    fn push(target: Target, handle: ReadyHandle) {
        match target {
            // No announcement: the loop shares at its next turn if there is enough to share, and should its thread be held
            // up before that, the watcher sees to it.
            Target::Own(core) => core.push_stealable(handle),
            Target::Anyone(anchor) => anchor.shared.inject(handle),
        }
    }

    fn queue(&self, handle: ReadyHandle) {
        let given = current::with(|core| match core {
            Some(core) if self.serves(core) => {
                core.push_stealable(handle);
                None
            }
            _ => Some(handle),
        });
        if let Some(handle) = given {
            self.0.shared.inject(handle);
        }
    }

    fn is_home(&self) -> bool {
        true
    }

    #[inline]
    fn live(&self) -> Option<&LiveList> {
        Some(self.0.remote.as_ref().map_or(&*self.0.shared.outside, |remote| remote.live()))
    }

    #[inline]
    fn is_birthplace(&self) -> bool {
        BiasedArc::is_here(&self.0)
    }

    fn observer(&self) -> Option<&Observer> {
        Some(&self.0.shared.options.observer)
    }

    fn has_peers(&self) -> bool {
        self.0.shared.has_peers()
    }

    fn deliver(&self, callbacks: Callbacks) {
        let new = NewTask {
            kind: Kind::Callback,
            pinned: false,
            queued: true,
            unbuilt: false,
            name: None,
            location: callbacks.location,
        };
        let reporter = StealableHome(self.0.clone());
        let call =
            Once::new(move || callbacks.call(&reporter.0.shared.options.observer, |context| reporter.report(context)));
        drop(launch(call, StealableHome(self.0.clone()), new).into_handle());
    }

    fn report(&self, context: &ErrorContext) {
        let mut context = context.clone();
        context.loop_index = current::with(|core| core.map(|core| core.remote().index()));
        self.0.report(&context);
    }
}
