//! Which loops run, search and sleep, and which sleeper watches the others.
//!
//! *Invariant.* One word counts the searching, running and parked loops; `sleepers` names the parked ones, most recently
//! parked last. A loop that is taken out of `sleepers` by another is *invited*: counted as running and searching before it
//! wakes. While any loop runs and any is parked, one parked loop is the watcher. Sleepers and watcher change under one
//! lock, together with the word.
//!
//! *Threads.* Any may invite; a loop parks and wakes itself. *Ordering.* Steps of `README.md`: who gives work does GiveFence
//! and looks at the word; who parks changes the word, does SleepFence (in `Parker::publish`) and looks for work.

use crate::primitive::Mutex;
use crate::primitive::atomic::{AtomicBool, AtomicU64, Ordering, fence};

const SEARCHING: u64 = 1;
const RUNNING: u64 = 1 << 20;
const PARKED: u64 = 1 << 40;
const FIELD: u64 = (1 << 20) - 1;

pub(crate) struct Idle {
    word: AtomicU64,
    set: Mutex<Set>,
    /// By loop: taken out of the sleepers by somebody who counted it as searching.
    invited: Box<[AtomicBool]>,
}

struct Set {
    sleepers: Vec<usize>,
    watcher: Option<usize>,
}

/// Counts at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Census {
    pub(crate) searching: usize,
    pub(crate) running: usize,
    pub(crate) parked: usize,
}

impl Census {
    fn of(word: u64) -> Self {
        let field = |unit: u64| ((word / unit) & FIELD) as usize;
        Self { searching: field(SEARCHING), running: field(RUNNING), parked: field(PARKED) }
    }
}

/// What a loop finds out by waking.
pub(crate) struct Woken {
    /// Somebody invited it to search, and counted it so.
    pub(crate) invited: bool,
    /// This sleeper has become the watcher: its tick is to be armed.
    pub(crate) new_watcher: Option<usize>,
}

impl Idle {
    /// `loops` in all, none of them here yet.
    pub(crate) fn new(loops: usize) -> Self {
        Self {
            word: AtomicU64::new(0),
            set: Mutex::new(Set { sleepers: Vec::with_capacity(loops), watcher: None }),
            invited: (0..loops).map(|_| AtomicBool::new(false)).collect(),
        }
    }

    pub(crate) fn census(&self) -> Census {
        // Ordering: Relaxed: a hint, or ordered by the caller's fence.
        Census::of(self.word.load(Ordering::Relaxed))
    }

    fn change(&self, add: u64, sub: u64) -> Census {
        // Ordering: Relaxed: the counts order nothing by themselves; fences and the lock do.
        Census::of(self.word.fetch_add(add.wrapping_sub(sub), Ordering::Relaxed))
    }

    /// A loop gets a driver. Returns the sleeper that has become the watcher.
    pub(crate) fn enter(&self) -> Option<usize> {
        let mut set = self.set.lock();
        self.change(RUNNING, 0);
        set.appoint()
    }

    /// Loop 0 loses its driver, who hands back its role as a searcher. True if it was the last one.
    pub(crate) fn leave(&self, searching: bool) -> bool {
        let _set = self.set.lock();
        let before = self.change(0, RUNNING + if searching { SEARCHING } else { 0 });
        searching && before.searching == 1
    }

    /// The loop is about to park. The caller then publishes it, fences, and looks for work once more. With others running and
    /// no watcher it becomes that. True if it was the last to search: nobody else will look for what is given from now on until
    /// it has.
    pub(crate) fn park(&self, index: usize, searching: bool) -> bool {
        let mut set = self.set.lock();
        set.sleepers.push(index);
        let before = self.change(PARKED, RUNNING + if searching { SEARCHING } else { 0 });
        if before.running > 1 && set.watcher.is_none() {
            set.watcher = Some(index);
        }
        searching && before.searching == 1
    }

    /// The loop is awake.
    pub(crate) fn wake(&self, index: usize) -> Woken {
        let mut set = self.set.lock();
        // Ordering: Relaxed: written under the lock.
        let invited = self.invited[index].load(Ordering::Relaxed);
        if invited {
            self.invited[index].store(false, Ordering::Relaxed);
        } else {
            set.sleepers.retain(|&sleeper| sleeper != index);
            self.change(RUNNING, PARKED);
        }
        if set.watcher == Some(index) {
            set.watcher = None;
        }
        Woken { invited, new_watcher: set.appoint() }
    }

    /// Whether this loop has been invited since it parked: a gift like any other, looked at after SleepFence.
    pub(crate) fn is_invited(&self, index: usize) -> bool {
        // Ordering: Relaxed: ordered by the fences.
        self.invited[index].load(Ordering::Relaxed)
    }

    /// Whether this parked loop is the watcher, and goes on being it: not if it `may_resign` and nobody runs.
    pub(crate) fn keep_watch(&self, index: usize, may_resign: bool) -> bool {
        let mut set = self.set.lock();
        let watches = set.watcher == Some(index);
        if watches && may_resign && self.census().running == 0 {
            set.watcher = None;
            return false;
        }
        watches
    }

    /// Takes a sleeper out, to be unparked by the caller and to search; nobody if somebody searches already.
    /// `last_choice` says which ones to take only if there is no other.
    pub(crate) fn invite(&self, last_choice: impl Fn(usize) -> bool) -> Option<usize> {
        fence(Ordering::SeqCst); // GiveFence, pairs with SleepFence.
        self.invite_fenced(last_choice)
    }

    /// The same after a GiveFence of the caller's.
    pub(crate) fn invite_fenced(&self, last_choice: impl Fn(usize) -> bool) -> Option<usize> {
        let census = self.census();
        if census.searching > 0 || census.parked == 0 {
            return None;
        }
        let mut set = self.set.lock();
        if self.census().searching > 0 {
            return None;
        }
        let at = (0..set.sleepers.len())
            .rev()
            .find(|&at| !last_choice(set.sleepers[at]))
            .or_else(|| set.sleepers.len().checked_sub(1))?;
        let index = set.sleepers.remove(at);
        self.change(RUNNING + SEARCHING, PARKED);
        // Ordering: Relaxed: under the lock; `unpark`'s fence orders it for the sleeper.
        self.invited[index].store(true, Ordering::Relaxed);
        Some(index)
    }

    /// An uninvited loop wants to search: at most half of the present loops may.
    pub(crate) fn try_search(&self) -> bool {
        let census = self.census();
        if 2 * census.searching >= census.running + census.parked {
            return false;
        }
        // Two at once may both pass: the bound is for economy, not for safety.
        self.change(SEARCHING, 0);
        true
    }

    /// A searcher has found work. True if it was the last: then it fences, and if there is more, invites another.
    pub(crate) fn end_search(&self) -> bool {
        let before = self.change(0, SEARCHING);
        fence(Ordering::SeqCst); // FoundFence, pairs with GiveFence of who saw us searching and invited nobody.
        before.searching == 1
    }
}

impl Set {
    /// Makes the longest sleeper the watcher if there is none: the most recently parked one is the likeliest to be woken.
    fn appoint(&mut self) -> Option<usize> {
        if self.watcher.is_some() {
            return None;
        }
        self.watcher = self.sleepers.first().copied();
        self.watcher
    }
}
