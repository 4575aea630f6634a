//! [`Barrier`]: to meet before going on.
//!
//! *Invariant.* A round is let go when enough have come and all of the round before have left; who comes meanwhile waits in the
//! same line and belongs to the next round. *Threads.* Any. *Ordering.* The lock's: who goes on sees what all of its round did
//! before they came.

use std::error::Error;
use std::fmt;

use super::blocking;
use super::lot::{Lot, Wakers};
use super::wait::{Need, Wait};
use crate::primitive::Mutex;

/// Lets a fixed number of tasks or threads wait for each other, over and over. asyncio's `Barrier`.
///
/// The last one to arrive lets all go. Who comes again before all of a round have left waits until they have.
///
/// The counterpart of `asyncio.Barrier` and `tokio::sync::Barrier`. Where it differs from asyncio's: positions are given out
/// when the round is complete, so that they are distinct even if somebody gave up in between; and who was let go stays let go,
/// whatever happens to the barrier before it runs.
///
/// # Examples
///
/// ```
/// use epicycle::sync::Barrier;
/// use std::sync::Arc;
///
/// epicycle::run(async {
///     let barrier = Arc::new(Barrier::new(3));
///     let tasks: Vec<_> = (0..3)
///         .map(|_| {
///             let barrier = barrier.clone();
///             epicycle::spawn(async move { barrier.wait().await.unwrap() })
///         })
///         .collect();
///     let mut positions = Vec::new();
///     for task in tasks {
///         positions.push(task.await.unwrap());
///     }
///     positions.sort();
///     assert_eq!(positions, [0, 1, 2]);
/// });
/// ```
pub struct Barrier {
    state: Mutex<State>,
    parties: usize,
}

struct State {
    parties: usize,
    broken: bool,
    lot: Lot<(), Result<usize, BrokenBarrierError>>,
}

impl State {
    /// Lets a round go, if it is complete but for `arriving` who are not in the line, and the last one has left.
    fn open(&mut self, arriving: usize, wakers: &mut Wakers) -> bool {
        let complete = self.lot.chosen() == 0 && self.lot.waiting() + arriving >= self.parties;
        if complete {
            for position in 0..self.parties - arriving {
                self.lot.choose(Ok(position)).into_iter().for_each(|waker| wakers.push(waker));
            }
        }
        complete
    }
}

impl Barrier {
    /// A barrier for `parties` at a time.
    ///
    /// # Panics
    ///
    /// If `parties` is 0.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Barrier::new(2).parties(), 2);
    /// ```
    #[track_caller]
    pub fn new(parties: usize) -> Self {
        assert!(parties > 0, "a Barrier needs at least one party: nobody could let a round of none go");
        Self { state: Mutex::new(State { parties, broken: false, lot: Lot::new() }), parties }
    }

    /// Waits until all have come; its position among them, from 0 for the first to `parties() - 1` for the last.
    ///
    /// The last one goes on without letting other tasks run.
    ///
    /// # Errors
    ///
    /// [`BrokenBarrierError`] if the barrier is broken, or is broken or reset while this waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes this one out of the round, which then needs another.
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// assert_eq!(epicycle::sync::Barrier::new(1).wait().await, Ok(0));
    /// # });
    /// ```
    pub async fn wait(&self) -> Result<usize, BrokenBarrierError> {
        Wait::new(&self.state, Round).await
    }

    /// Blocks the thread until all have come.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Panics
    ///
    /// On a thread that drives an event loop: there, use [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Barrier::new(1).blocking_wait(), Ok(0));
    /// ```
    #[track_caller]
    pub fn blocking_wait(&self) -> Result<usize, BrokenBarrierError> {
        blocking::block_on("Barrier::blocking_wait", "wait().await", self.wait())
    }

    /// Starts afresh: all who wait get a [`BrokenBarrierError`], and a broken barrier is whole again.
    ///
    /// # Examples
    ///
    /// ```
    /// let barrier = epicycle::sync::Barrier::new(2);
    /// barrier.abort();
    /// barrier.reset();
    /// assert!(!barrier.is_broken());
    /// ```
    pub fn reset(&self) {
        self.turn_away(false);
    }

    /// Breaks the barrier: all who wait, and all who come before a [`reset`](Self::reset), get a [`BrokenBarrierError`].
    ///
    /// # Examples
    ///
    /// ```
    /// # epicycle::run(async {
    /// let barrier = epicycle::sync::Barrier::new(2);
    /// barrier.abort();
    /// assert!(barrier.wait().await.is_err());
    /// # });
    /// ```
    pub fn abort(&self) {
        self.turn_away(true);
    }

    fn turn_away(&self, broken: bool) {
        let mut wakers = Wakers::default();
        {
            let mut state = self.state.lock();
            state.broken = broken;
            while let Some(waker) = state.lot.choose(Err(BrokenBarrierError(()))) {
                wakers.push(waker);
            }
        }
        wakers.wake();
    }

    /// How many make a round.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Barrier::new(2).parties(), 2);
    /// ```
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many of the current round have come; 0 while the last round leaves.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(epicycle::sync::Barrier::new(2).waiting(), 0);
    /// ```
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        let state = self.state.lock();
        if state.lot.chosen() == 0 { state.lot.waiting() } else { 0 }
    }

    /// Whether it was broken with [`abort`](Self::abort).
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!epicycle::sync::Barrier::new(2).is_broken());
    /// ```
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish()
    }
}

/// The need for a round to be complete.
struct Round;

impl Need for Round {
    type State = State;
    type Request = ();
    type Grant = Result<usize, BrokenBarrierError>;
    type Output = Result<usize, BrokenBarrierError>;

    const NAME: &'static str = "barrier";

    fn lot(state: &mut State) -> &mut Lot<(), Self::Grant> {
        &mut state.lot
    }

    fn request(&self) {}

    fn arrive(&mut self, state: &mut State, wakers: &mut Wakers) -> Option<Self::Output> {
        if state.broken {
            return Some(Err(BrokenBarrierError(())));
        }
        state.open(1, wakers).then(|| Ok(state.parties - 1))
    }

    fn collect(&mut self, state: &mut State, grant: Self::Grant, wakers: &mut Wakers) -> Self::Output {
        // It may have been the last of its round to leave, and the next one complete.
        state.open(0, wakers);
        grant
    }

    fn abandon(&mut self, state: &mut State, _: Option<Self::Grant>, wakers: &mut Wakers) {
        state.open(0, wakers);
    }
}

/// A [`Barrier`] is broken, or was reset while somebody waited. asyncio's `BrokenBarrierError`.
///
/// # Examples
///
/// ```
/// # epicycle::run(async {
/// let barrier = epicycle::sync::Barrier::new(2);
/// barrier.abort();
/// assert_eq!(barrier.wait().await.unwrap_err().to_string(), "Barrier aborted or reset");
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokenBarrierError(());

impl fmt::Display for BrokenBarrierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Barrier aborted or reset")
    }
}

impl Error for BrokenBarrierError {}
