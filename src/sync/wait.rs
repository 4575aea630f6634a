//! One visit to a primitive: from asking for something to having it, as a future and for a plain thread.
//!
//! *Invariant.* A [`Wait`] that is dropped leaves its lot, and hands back what it was granted and did not collect. *Threads.* Any;
//! it may move between polls. *Ordering.* The primitive's lock. Under it no user code runs: wakers are cloned before, woken and
//! dropped after. Instruments are told what is waited for, before it can come and outside of the lock.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use super::lot::{Key, Left, Lot, Wakers, discard};
use crate::event_loop::poll_proceed;
use crate::primitive::Mutex;
use crate::scheduler::tell;
use crate::task::{Event, FutureId, is_observed, try_id};

/// What somebody may wait for, and how it is had. All methods run under the primitive's lock.
pub(super) trait Need {
    type State;
    /// What choosing has to know of a waiter.
    type Request;
    /// What a waiter is given by being chosen.
    type Grant;
    type Output;

    /// How an instrument is told of it.
    const NAME: &'static str;

    fn lot(state: &mut Self::State) -> &mut Lot<Self::Request, Self::Grant>;

    fn request(&self) -> Self::Request;

    /// What can be had without waiting. Called again, by who goes on asking, only after `None`.
    fn arrive(&mut self, state: &mut Self::State, wakers: &mut Wakers) -> Option<Self::Output>;

    /// Whether one who was chosen finds what it came for. If not it waits again, and its grant is void.
    fn is_there(&self, _: &Self::State) -> bool {
        true
    }

    /// What one has who was chosen. It has left the lot.
    fn collect(&mut self, state: &mut Self::State, grant: Self::Grant, wakers: &mut Wakers) -> Self::Output;

    /// Somebody left without having collected.
    fn abandon(&mut self, state: &mut Self::State, grant: Option<Self::Grant>, wakers: &mut Wakers);
}

/// The future of a visit.
#[must_use = "futures do nothing unless they are polled"]
pub(super) struct Wait<'a, N: Need> {
    state: &'a Mutex<N::State>,
    need: N,
    key: Option<Key>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// The cooperative budget is to be asked: once a visit, before it.
    New,
    Asking,
    Over,
}

/// How far a look under the lock got.
enum Step<T> {
    /// Without having waited.
    Done(T),
    Given(T),
    Waiting,
    /// To wait, a waker has to be left, which is cloned outside the lock.
    NeedsWaker,
}

impl<'a, N: Need> Wait<'a, N> {
    pub(super) fn new(state: &'a Mutex<N::State>, need: N) -> Self {
        Self { state, need, key: None, stage: Stage::New }
    }

    /// One that does not ask the cooperative budget: its first poll enters the lot for certain.
    pub(super) fn unbudgeted(state: &'a Mutex<N::State>, need: N) -> Self {
        Self { state, need, key: None, stage: Stage::Asking }
    }

    fn id(&self) -> FutureId {
        FutureId::at(N::NAME, self.state)
    }

    #[cold]
    fn tell_blocking(&self, registers: bool) {
        tell(|| Event::Blocking { task: try_id(), future: self.id() });
        if registers {
            tell(|| Event::WakerRegistered { task: try_id(), future: self.id() });
        }
    }

    fn step(
        &mut self,
        state: &mut N::State,
        current: &Waker,
        spare: &mut Option<Waker>,
        wakers: &mut Wakers,
    ) -> Step<N::Output> {
        let Some(key) = &self.key else {
            if let Some(output) = self.need.arrive(state, wakers) {
                // It may have come while a waker was cloned, which was told as waiting.
                return if spare.is_none() { Step::Done(output) } else { Step::Given(output) };
            }
            let Some(waker) = spare.take() else { return Step::NeedsWaker };
            self.key = Some(N::lot(state).enter(self.need.request(), waker));
            return Step::Waiting;
        };
        if !N::lot(state).is_chosen(key) {
            if N::lot(state).will_wake(key, current) {
                return Step::Waiting;
            }
            let Some(waker) = spare.take() else { return Step::NeedsWaker };
            *spare = Some(N::lot(state).rewake(key, waker));
            return Step::Waiting;
        }
        if !self.need.is_there(state) {
            let Some(waker) = spare.take() else { return Step::NeedsWaker };
            N::lot(state).wait_again(key, waker);
            return Step::Waiting;
        }
        let key = self.key.take().expect("looked at above");
        match N::lot(state).leave(key) {
            Left::Chosen(grant) => Step::Given(self.need.collect(state, grant, wakers)),
            Left::Waiting(_) => unreachable!("it was chosen above"),
        }
    }
}

// Nothing in it is pinned: a value that is on its way into a queue is moved there.
impl<N: Need> Unpin for Wait<'_, N> {}

impl<N: Need> Future for Wait<'_, N> {
    type Output = N::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<N::Output> {
        let this = self.get_mut();
        match this.stage {
            Stage::New => {
                ready!(poll_proceed(cx));
                this.stage = Stage::Asking;
            }
            Stage::Asking => (),
            // It would begin again, and take something that nobody asked for.
            Stage::Over => panic!("a future was polled after it had completed"),
        }
        let (mut spare, mut asked) = (None, false);
        loop {
            let mut wakers = Wakers::default();
            let step = {
                let mut state = this.state.lock();
                this.step(&mut state, cx.waker(), &mut spare, &mut wakers)
            };
            wakers.wake();
            let polled = match step {
                Step::Done(output) => {
                    this.stage = Stage::Over;
                    Poll::Ready(output)
                }
                Step::Given(output) => {
                    this.stage = Stage::Over;
                    tell(|| Event::FutureResumed { task: try_id(), future: this.id() });
                    Poll::Ready(output)
                }
                Step::Waiting => {
                    // With a waker of its own it has been told.
                    if !asked && is_observed() {
                        this.tell_blocking(false);
                    }
                    Poll::Pending
                }
                Step::NeedsWaker => {
                    if is_observed() {
                        this.tell_blocking(true);
                    }
                    asked = true;
                    spare = Some(cx.waker().clone());
                    continue;
                }
            };
            spare.into_iter().for_each(discard);
            return polled;
        }
    }
}

impl<N: Need> Drop for Wait<'_, N> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut wakers = Wakers::default();
        let left = {
            let mut state = self.state.lock();
            let (waker, grant) = match N::lot(&mut state).leave(key) {
                Left::Waiting(waker) => (Some(waker), None),
                Left::Chosen(grant) => (None, Some(grant)),
            };
            self.need.abandon(&mut state, grant, &mut wakers);
            waker
        };
        wakers.wake();
        left.into_iter().for_each(discard);
    }
}
