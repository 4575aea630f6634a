//! What the three queues have in common: room, items, who waits for either, and how much work is unfinished.
//!
//! *Invariant.* A getter that was chosen stands for one item that is there, a putter for one free place; nobody waits while
//! there are more of those than of the chosen. Only the nowait forms look at nothing but the items, so a chosen one may find
//! its item or place gone: it then waits again, in its old place. *Threads.* Any. *Ordering.* The lock's: who gets an item sees
//! what was done before it was put.

use std::marker::PhantomData;
use std::mem;
use std::panic::resume_unwind;

use super::store::Store;
use super::{GetNowaitError, PutNowaitError, QueueShutDown};
use crate::primitive::Mutex;
use crate::sync::lot::{Lot, Wakers};
use crate::sync::wait::{Need, Wait};
use crate::task::catch;

#[derive(Debug)]
pub(super) struct Core<S> {
    state: Mutex<State<S>>,
    /// 0: no limit.
    maxsize: usize,
}

#[derive(Debug)]
pub(super) struct State<S> {
    store: S,
    capacity: usize,
    unfinished: usize,
    shut_down: bool,
    getters: Lot<(), ()>,
    putters: Lot<(), ()>,
    joiners: Lot<(), ()>,
}

impl<S: Store> State<S> {
    /// Whether there is an item that is nobody's yet.
    fn has_item(&self) -> bool {
        self.store.len() > self.getters.chosen()
    }

    /// Whether there is a place that is nobody's yet.
    fn has_room(&self) -> bool {
        self.store.len().saturating_add(self.putters.chosen()) < self.capacity
    }

    fn is_full(&self) -> bool {
        self.store.len() >= self.capacity
    }

    fn push(&mut self, item: S::Item, wakers: &mut Wakers) {
        self.unfinished += 1;
        self.settled(wakers, |store| store.push(item));
    }

    fn pop(&mut self, wakers: &mut Wakers) -> Option<S::Item> {
        self.settled(wakers, S::pop)
    }

    /// Lets in who can have something after `change`, also if that panics, as a comparison may.
    fn settled<R>(&mut self, wakers: &mut Wakers, change: impl FnOnce(&mut S) -> R) -> R {
        let changed = catch(|| change(&mut self.store));
        self.settle(wakers);
        changed.unwrap_or_else(|payload| resume_unwind(payload))
    }

    /// Chooses as many as there are items and places for, which is at most one of each after one change.
    fn settle(&mut self, wakers: &mut Wakers) {
        while self.has_item()
            && let Some(waker) = self.getters.choose(())
        {
            wakers.push(waker);
        }
        while self.has_room()
            && let Some(waker) = self.putters.choose(())
        {
            wakers.push(waker);
        }
    }

    /// Notes that work is done; false if there was none left to do.
    fn finish(&mut self, count: usize, wakers: &mut Wakers) -> bool {
        let Some(left) = self.unfinished.checked_sub(count) else { return false };
        self.unfinished = left;
        if left == 0 {
            choose_all(&mut self.joiners, wakers);
        }
        true
    }
}

fn choose_all(lot: &mut Lot<(), ()>, wakers: &mut Wakers) {
    while let Some(waker) = lot.choose(()) {
        wakers.push(waker);
    }
}

impl<S: Store> Core<S> {
    pub(super) fn new(maxsize: usize) -> Self {
        let state = State {
            store: S::default(),
            capacity: if maxsize == 0 { usize::MAX } else { maxsize },
            unfinished: 0,
            shut_down: false,
            getters: Lot::new(),
            putters: Lot::new(),
            joiners: Lot::new(),
        };
        Self { state: Mutex::new(state), maxsize }
    }

    pub(super) fn put(&self, item: S::Item) -> Wait<'_, Putting<S>> {
        Wait::new(&self.state, Putting { item: Some(item) })
    }

    pub(super) fn get(&self) -> Wait<'_, Getting<S>> {
        Wait::new(&self.state, Getting(PhantomData))
    }

    pub(super) fn join(&self) -> Wait<'_, Joining<S>> {
        Wait::new(&self.state, Joining(PhantomData))
    }

    pub(super) fn put_nowait(&self, item: S::Item) -> Result<(), PutNowaitError<S::Item>> {
        self.with(|state, wakers| {
            if state.shut_down {
                return Err(PutNowaitError::ShutDown(item));
            }
            if state.is_full() {
                return Err(PutNowaitError::QueueFull(item));
            }
            state.push(item, wakers);
            Ok(())
        })
    }

    pub(super) fn get_nowait(&self) -> Result<S::Item, GetNowaitError> {
        self.with(|state, wakers| match state.pop(wakers) {
            Some(item) => Ok(item),
            None if state.shut_down => Err(GetNowaitError::ShutDown),
            None => Err(GetNowaitError::QueueEmpty),
        })
    }

    /// False if there was nothing to be done.
    pub(super) fn task_done(&self) -> bool {
        self.with(|state, wakers| state.finish(1, wakers))
    }

    pub(super) fn shut_down(&self, immediate: bool) {
        let drained = self.with(|state, wakers| {
            state.shut_down = true;
            let mut drained = S::default();
            if immediate {
                mem::swap(&mut drained, &mut state.store);
                let count = drained.len().min(state.unfinished);
                state.finish(count, wakers);
            }
            // All look again, and find items or the end.
            choose_all(&mut state.getters, wakers);
            choose_all(&mut state.putters, wakers);
            drained
        });
        drop(drained);
    }

    pub(super) fn is_shut_down(&self) -> bool {
        self.state.lock().shut_down
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().store.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.state.lock().is_full()
    }

    pub(super) fn maxsize(&self) -> usize {
        self.maxsize
    }

    /// Does something under the lock, and wakes afterwards.
    fn with<R>(&self, change: impl FnOnce(&mut State<S>, &mut Wakers) -> R) -> R {
        let mut wakers = Wakers::default();
        let result = change(&mut self.state.lock(), &mut wakers);
        wakers.wake();
        result
    }
}

/// The need for a place to put an item into.
pub(super) struct Putting<S: Store> {
    item: Option<S::Item>,
}

impl<S: Store> Putting<S> {
    fn put(&mut self, state: &mut State<S>, wakers: &mut Wakers) -> Result<(), QueueShutDown<S::Item>> {
        let item = self.item.take().expect("an item is put once");
        if state.shut_down {
            return Err(QueueShutDown(item));
        }
        state.push(item, wakers);
        Ok(())
    }
}

impl<S: Store> Need for Putting<S> {
    type State = State<S>;
    type Request = ();
    type Grant = ();
    type Output = Result<(), QueueShutDown<S::Item>>;

    const NAME: &'static str = "queue.put";

    fn lot(state: &mut State<S>) -> &mut Lot<(), ()> {
        &mut state.putters
    }

    fn request(&self) {}

    fn arrive(&mut self, state: &mut State<S>, wakers: &mut Wakers) -> Option<Self::Output> {
        (state.shut_down || state.has_room()).then(|| self.put(state, wakers))
    }

    fn is_there(&self, state: &State<S>) -> bool {
        state.shut_down || !state.is_full()
    }

    fn collect(&mut self, state: &mut State<S>, (): (), wakers: &mut Wakers) -> Self::Output {
        self.put(state, wakers)
    }

    fn abandon(&mut self, state: &mut State<S>, _: Option<()>, wakers: &mut Wakers) {
        state.settle(wakers);
    }
}

/// The need for an item.
pub(super) struct Getting<S>(PhantomData<fn(S)>);

impl<S: Store> Need for Getting<S> {
    type State = State<S>;
    type Request = ();
    type Grant = ();
    type Output = Result<S::Item, QueueShutDown>;

    const NAME: &'static str = "queue.get";

    fn lot(state: &mut State<S>) -> &mut Lot<(), ()> {
        &mut state.getters
    }

    fn request(&self) {}

    fn arrive(&mut self, state: &mut State<S>, wakers: &mut Wakers) -> Option<Self::Output> {
        (state.shut_down || state.has_item()).then(|| state.pop(wakers).ok_or(QueueShutDown(())))
    }

    fn is_there(&self, state: &State<S>) -> bool {
        state.shut_down || state.store.len() > 0
    }

    fn collect(&mut self, state: &mut State<S>, (): (), wakers: &mut Wakers) -> Self::Output {
        state.pop(wakers).ok_or(QueueShutDown(()))
    }

    fn abandon(&mut self, state: &mut State<S>, _: Option<()>, wakers: &mut Wakers) {
        state.settle(wakers);
    }
}

/// The need for all work to be done.
pub(super) struct Joining<S>(PhantomData<fn(S)>);

impl<S: Store> Need for Joining<S> {
    type State = State<S>;
    type Request = ();
    type Grant = ();
    type Output = ();

    const NAME: &'static str = "queue.join";

    fn lot(state: &mut State<S>) -> &mut Lot<(), ()> {
        &mut state.joiners
    }

    fn request(&self) {}

    fn arrive(&mut self, state: &mut State<S>, _: &mut Wakers) -> Option<()> {
        (state.unfinished == 0).then_some(())
    }

    fn collect(&mut self, _: &mut State<S>, (): (), _: &mut Wakers) {}

    fn abandon(&mut self, _: &mut State<S>, _: Option<()>, _: &mut Wakers) {}
}
