//! One loop among peers: asyncio's `_run_once` with three more lines. The page to read first.
//!
//! *Invariant.* All that a loop does, it does in [`Worker::run_once`], in this order. A loop parks only after it has
//! announced it, fenced, and looked at everything once more.
//!
//! *Threads.* The loop's own. *Ordering.* `README.md`; the fences are in `Idle` and `Parker`.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::Events;

use super::shared::Shared;
use super::watcher::Peers;
use crate::event_loop::clock::{self, NEVER};
use crate::event_loop::park::Seen;
use crate::event_loop::turn::TurnLimit;
use crate::event_loop::{Batch, LoopCore, PollSet, Remote, only_alarms};
use crate::primitive::BiasedArc;
use crate::primitive::deque::Steal;
use crate::task::Event;

/// How long a turn may take before the loop looks at its selector and timers again, in nanoseconds.
const TURN_NANOS: u64 = 50_000;

/// How many handles of a peer are worth an uninvited search: a peer with a single one is about to run it.
pub(super) const ENOUGH: usize = 2;

/// The most handles taken from a peer at once; crossbeam takes at most half of what is there, too.
const STEAL_BATCH: usize = 32;

/// The most handles taken from the injector at once.
const PULL_BATCH: usize = 64;

/// A backlog worth less than this, in nanoseconds, a loop keeps to itself: who takes a few short handles saves nobody time, and
/// parts tasks that wake each other, whose messages then cross between two CPUs until they are together again.
const STEAL_FLOOR: u64 = 20_000;

/// What a peer is woken for: that takes 20 us, and as much as is worth stealing has to be left by then.
const SHARE_FLOOR: u64 = 20_000 + STEAL_FLOOR;

/// What a handle is taken to cost before one was measured, in nanoseconds.
const HANDLE_GUESS: u64 = 1_000;

/// What counts as soon, in nanoseconds: waking a sleeping thread and being answered takes about that long.
const POSTS_ARE_CLOSE: u64 = 60_000;

/// How long to wait awake for the next post when they come close.
const SPIN_FOR_POSTS: Duration = Duration::from_micros(25);

/// How often a spinning loop looks for posts between two looks at its selector and its peers, which take ten times as long.
const SPINS_PER_LOOK: u32 = 16;

/// How many ticks in a row must find nobody running before the watcher resigns: a loop that sleeps for microseconds between
/// two events must not have it appointed anew each time.
const QUIET_TICKS: u32 = 4;

/// Loop 1 looks after loop 0 while that is absent.
const CUSTODIAN: usize = 1;

pub(crate) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) core: Rc<LoopCore>,
    pub(super) index: usize,
    /// Counted among the searchers.
    searching: Cell<bool>,
    /// The last wait ended soon, and for a post from another thread.
    posts_are_close: Cell<bool>,
    /// As the watcher it found events where it would have set its tick, so it looks around awake.
    owes_tick: Cell<bool>,
    /// Where the next search begins.
    next_victim: Cell<usize>,
    /// The count of handles, and the time, at the last look at the selector; and at the last look around.
    looked: Cell<(u64, u64)>,
    looked_around: Cell<(u64, u64)>,
    /// What this loop has seen of the others.
    pub(super) peers: RefCell<Peers>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, core: Rc<LoopCore>) -> Self {
        let index = core.remote().index();
        Self {
            searching: Cell::new(false),
            posts_are_close: Cell::new(false),
            owes_tick: Cell::new(false),
            next_victim: Cell::new(index + 1),
            looked: Cell::new((0, 0)),
            looked_around: Cell::new((0, 0)),
            peers: RefCell::new(Peers::new()),
            shared,
            core,
            index,
        }
    }

    fn remote(&self) -> &BiasedArc<Remote> {
        self.core.remote()
    }

    /// One turn. `gift`: whether something beside the loop's own business asks it not to sleep. Breaks when `root`, called
    /// after the root future was woken, does.
    pub(crate) fn run_once(
        &self,
        gift: &dyn Fn() -> bool,
        root: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if self.must_look_around() {
            self.look_around(gift);
        }
        let handles = self.shared.options.event_interval;
        self.core.run_ready(TurnLimit { handles, nanos: TURN_NANOS }, root)
    }

    /// Whether a turn does more than to go on with what is ready: if that is nothing, if something was given to this loop or to
    /// all, or if it has timers. What only time brings (events, a backlog worth sharing, peers in need) is looked at when the
    /// clock was read, which is often enough for that. So a turn of one quick handle is hardly more than the handle.
    #[inline]
    fn must_look_around(&self) -> bool {
        let (handles, nanos) = self.looked_around.get();
        let remote = self.remote();
        self.core.now() != nanos
            || self.handles_since(handles) >= self.shared.options.event_interval as u64
            || !remote.inbox().is_empty()
            || !self.shared.injector.is_empty()
            || remote.timers().any_own()
            || self.core.ready().is_empty()
    }

    #[inline(never)]
    fn look_around(&self, gift: &dyn Fn() -> bool) {
        self.core.set_waited_for(self.has_custody() && self.absent_waits());
        self.make_rounds();
        self.core.take_posts();
        self.find_work(ENOUGH);
        if self.core.ready().is_empty() {
            self.park(gift);
        } else if self.look_is_due() {
            self.look();
        }
        self.core.expire_timers();
        self.expire_absent();
        if self.searching.get() && !self.core.ready().is_empty() {
            self.end_search();
        }
        self.share();
        self.looked_around.set(self.moment());
    }

    /// The count of handles, and the time when the clock was last read.
    fn moment(&self) -> (u64, u64) {
        (self.remote().stats().handles_run.get(), self.core.now())
    }

    fn handles_since(&self, count: u64) -> u64 {
        self.remote().stats().handles_run.get().wrapping_sub(count)
    }

    // ---- find work -------------------------------------------------------------------------------------------------

    /// Fetches from the injector, every turn; and, with nothing to do, from a peer that has `at_least` so many handles.
    fn find_work(&self, at_least: usize) {
        self.pull_injected();
        if self.core.ready().is_empty() {
            self.search(at_least);
        }
        if self.searching.get() && !self.core.ready().is_empty() {
            self.end_search();
        }
    }

    /// Takes this loop's share of the injector.
    fn pull_injected(&self) {
        let injector = &self.shared.injector;
        if injector.is_empty() {
            return;
        }
        let share = injector.len() / self.shared.remotes.len() + 1;
        let came = self.core.ready().fill(|queue| {
            injector.pull(queue, share.min(PULL_BATCH));
        });
        self.remote().stats().injector_pulls.add(came as u64);
    }

    /// Steals from the first peer that has enough. Uninvited, a loop searches only if there is something to be found.
    fn search(&self, at_least: usize) {
        if !self.shared.options.work_stealing || !self.victim_exists(at_least) {
            return;
        }
        if !self.searching.get() {
            if !self.shared.idle.try_search() {
                return;
            }
            self.searching.set(true);
        }
        let n = self.shared.stealers.len();
        for step in 0..n {
            let victim = (self.next_victim.get() + step) % n;
            if victim != self.index && self.is_enough(victim, at_least) && self.steal_from(victim, at_least) {
                self.next_victim.set(victim);
                return;
            }
        }
    }

    fn victim_exists(&self, at_least: usize) -> bool {
        (0..self.shared.stealers.len()).any(|index| index != self.index && self.is_enough(index, at_least))
    }

    /// Whether a peer has what is worth stealing. Who was invited may look for a single handle: it takes that whatever it is worth.
    fn is_enough(&self, victim: usize, at_least: usize) -> bool {
        self.shared.stealers[victim].len() >= at_least && (at_least < ENOUGH || self.has_backlog(victim, STEAL_FLOOR))
    }

    /// Whether what a loop has queued is worth so much, in nanoseconds. A loop with one handle is about to run it.
    fn has_backlog(&self, index: usize, worth: u64) -> bool {
        let queued = self.shared.stealers[index].len();
        if queued < ENOUGH {
            return false;
        }
        let each = match self.shared.remotes[index].stats().handle_nanos.get() {
            0 => HANDLE_GUESS,
            nanos => nanos,
        };
        each.saturating_mul(queued as u64) >= worth
    }

    /// Takes half of what a peer has, if that is `at_least` so many.
    pub(super) fn steal_from(&self, victim: usize, at_least: usize) -> bool {
        let stealer = &self.shared.stealers[victim];
        if stealer.len() < at_least {
            return false;
        }
        let stats = self.remote().stats();
        stats.steals_tried.add(1);
        let came = self
            .core
            .ready()
            .fill(|queue| while let Steal::Retry = stealer.steal_batch_with_limit(queue, STEAL_BATCH) {});
        if came > 0 {
            stats.steals_won.add(1);
            self.remote().observer().tell(|| Event::Stole { on: self.index, from: victim, handles: came });
            self.shared.remotes[victim].stats().handles_stolen_from.add_shared(came as u64);
        }
        came > 0
    }

    /// Found something. The last searcher passes the search on if there is more: whoever gave work while it searched woke
    /// nobody.
    fn end_search(&self) {
        self.searching.set(false);
        if self.shared.idle.end_search() && !self.shared.injector.is_empty() {
            self.shared.invite();
        }
    }

    // ---- look ------------------------------------------------------------------------------------------------------

    /// A loop that has work looks at its selector every `event_interval` handles or every 50 us.
    fn look_is_due(&self) -> bool {
        if self.remote().selector().sources() == 0 && !self.has_custody() {
            return false;
        }
        let (handles, nanos) = self.looked.get();
        self.handles_since(handles) >= self.shared.options.event_interval as u64
            || self.core.now() >= nanos + TURN_NANOS
    }

    fn look(&self) {
        let batch = self.core.look();
        self.note_look();
        self.serve_nested(batch);
    }

    fn serve_nested(&self, batch: Batch) {
        if batch.nested {
            self.serve_selector(&self.shared.remotes[0]);
        }
        if batch.helped {
            self.serve_helped();
        }
        // A tick that came with something else, or where it was not waited for, is not to be lost.
        if self.owes_tick.take() || batch.ticked {
            self.watch_awake();
        }
    }

    fn note_look(&self) {
        self.looked.set(self.moment());
    }

    /// The custodian expires the timers of loop 0 while that is absent.
    fn expire_absent(&self) {
        if self.has_custody() {
            self.serve_timers(&self.shared.remotes[0]);
        }
    }

    /// Whether loop 0 has something that others are to look after while it is absent.
    fn absent_waits(&self) -> bool {
        let absent = &self.shared.remotes[0];
        absent.timers().next_hint() != NEVER || absent.selector().sources() > 0
    }

    /// Whether this loop looks after loop 0 now.
    fn has_custody(&self) -> bool {
        self.index == CUSTODIAN && self.shared.remotes[0].parker().seen() == Seen::Absent
    }

    // ---- share -----------------------------------------------------------------------------------------------------

    /// Invites a peer if what is queued here is worth a wake-up.
    fn share(&self) {
        if !self.shared.options.work_stealing || !self.has_backlog(self.index, SHARE_FLOOR) {
            return;
        }
        let census = self.shared.idle.census();
        if census.parked > 0 && census.searching == 0 {
            self.shared.invite();
        }
    }

    // ---- park ------------------------------------------------------------------------------------------------------

    /// Sleeps until there is something to do. README: "to fall asleep".
    fn park(&self, gift: &dyn Fn() -> bool) {
        // What ran is measured before the wait, which is not its time.
        let idle_since = self.core.read_clock();
        if self.spin(gift) {
            return;
        }
        let remote = self.remote();
        remote.observer().tell(|| Event::Parked { on: self.index });
        if !self.core.ready().is_empty() {
            // By the instrument.
            remote.observer().tell(|| Event::Woke { on: self.index });
            return;
        }
        self.leave_helper();
        let last_searcher = self.shared.idle.park(self.index, self.searching.take());
        remote.stats().parks.add(1);
        let (waited, events) = self.core.with_events(|events| self.sleep(events, last_searcher, gift));
        let woken = self.shared.idle.wake(self.index);
        self.searching.set(woken.invited);
        let posted = !self.shared.injector.is_empty() || !self.remote().inbox().is_empty();
        self.shared.start_watch(woken.new_watcher);
        remote.observer().tell(|| Event::Woke { on: self.index });
        self.relieve_needy();
        self.core.read_clock();
        self.note_post(idle_since, posted);
        self.core.note_wait();
        self.core.take_posts();
        let batch = self.core.dispatch_wait(waited, events);
        self.note_look();
        self.serve_nested(batch);
        // What it was invited for may be with a loop that fetched it first, and has gone on with a long handle of its own.
        self.find_work(if woken.invited { 1 } else { ENOUGH });
    }

    /// After SleepFence: all that others can have given to this loop before they could see it parked.
    fn has_gift(&self, last_searcher: bool) -> bool {
        !self.remote().inbox().is_empty()
            || !self.shared.injector.is_empty()
            || self.shared.idle.is_invited(self.index)
            || self.shared.is_closing()
            || (last_searcher && self.shared.options.work_stealing && self.victim_exists(ENOUGH))
    }

    /// Blocks until there is something to do. As the watcher it looks around at each tick, and wakes up if a peer is
    /// in need.
    fn sleep(&self, events: &mut Events, mut last_searcher: bool, gift: &dyn Fn() -> bool) -> io::Result<()> {
        let remote = self.remote();
        let mut quiet_ticks = 0;
        loop {
            let mut poll = remote.selector().lock();
            remote.parker().publish(); // SleepFence
            let has_gift = self.has_gift(last_searcher) || gift();
            let waited = if has_gift { poll.look(events) } else { self.arm_and_wait(&mut poll, events) };
            let notified = remote.parker().retract();
            drop(poll);
            waited?;
            let timer_is_due = self.core.spaced(remote.timers().next_own()) <= self.core.read_clock();
            if has_gift || notified || timer_is_due || !only_alarms(events) {
                return Ok(());
            }
            quiet_ticks = if self.shared.idle.census().running == 0 { quiet_ticks + 1 } else { 0 };
            let watches = self.shared.idle.keep_watch(self.index, quiet_ticks > QUIET_TICKS);
            if (watches && self.survey()) || self.custody_is_due() {
                events.clear();
                return Ok(());
            }
            last_searcher = false;
        }
    }

    /// Blocks; as the watcher until the next tick at the latest.
    fn arm_and_wait(&self, poll: &mut PollSet, events: &mut Events) -> io::Result<()> {
        // Asked under the lock: of an appointment before this look the tick may have been taken by an adopter, so it is armed
        // again; of one after it the tick comes while we hold the lock.
        if self.shared.idle.keep_watch(self.index, false) {
            // Who finds events does not wait, and looks around by itself: setting and taking a tick costs more than a look.
            if !self.remote().selector().tick_is_armed() {
                poll.look(events)?;
                if !events.is_empty() {
                    self.owes_tick.set(true);
                    return Ok(());
                }
            }
            self.shared.arm_tick(self.index, self.until_next_tick());
        }
        poll.wait(events, self.deadline())
    }

    /// When this loop has to wake by itself: for its own timers, and as the custodian for an absent loop's.
    fn deadline(&self) -> u64 {
        let own = self.core.spaced(self.remote().timers().next_own());
        if self.index != CUSTODIAN {
            return own;
        }
        own.min(self.absent_deadline())
    }

    fn absent_deadline(&self) -> u64 {
        let absent = &self.shared.remotes[0];
        if absent.parker().seen() != Seen::Absent {
            return NEVER;
        }
        let timers = absent.timers().next();
        if cfg!(target_os = "linux") || absent.selector().sources() == 0 {
            return timers;
        }
        // Where selectors do not nest, the custodian looks every millisecond.
        timers.min(clock::now() + Duration::from_millis(1).as_nanos() as u64)
    }

    fn custody_is_due(&self) -> bool {
        self.index == CUSTODIAN && self.absent_deadline() <= self.core.now()
    }

    /// Looks around for a while before parking: if the user asked for it; or briefly, if other threads' posts have just come in
    /// quick succession, since then the next one is likely to come sooner than this thread could be woken for it. True if there
    /// is something to do. One loop at a time, counted as a searcher: so nobody is woken for what it will find, and the spinners
    /// do not crowd out the workers.
    fn spin(&self, gift: &dyn Fn() -> bool) -> bool {
        let asked_for = self.shared.options.spin;
        let span = if asked_for.is_zero() && self.posts_are_close.get() { SPIN_FOR_POSTS } else { asked_for };
        if span.is_zero() {
            return false;
        }
        if !self.searching.get() {
            if self.shared.idle.census().searching > 0 || !self.shared.idle.try_search() {
                return false;
            }
            self.searching.set(true);
        }
        let until = clock::now().saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
        let mut round = 0_u32;
        while self.core.read_clock() < until && !gift() {
            self.core.take_posts();
            self.pull_injected();
            round += 1;
            if !asked_for.is_zero() && round.is_multiple_of(SPINS_PER_LOOK) {
                self.look();
                self.core.expire_timers();
                self.watch_awake();
                self.find_work(ENOUGH);
            }
            if !self.core.ready().is_empty() || self.shared.is_closing() {
                if self.searching.get() {
                    self.end_search();
                }
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// After a wait that began at `since`: whether it was a post from elsewhere that ended it, and soon.
    fn note_post(&self, since: u64, posted: bool) {
        let soon = self.core.now().saturating_sub(since) < POSTS_ARE_CLOSE;
        self.posts_are_close.set(posted && soon && self.shared.options.may_spin);
    }

    /// Gives back what the loop holds of the runtime's common roles. True if it was the last to search.
    pub(crate) fn retire(&self) -> bool {
        self.end_help_of(self.index);
        self.shared.idle.leave(self.searching.take())
    }
}
