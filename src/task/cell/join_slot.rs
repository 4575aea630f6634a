//! The join slot and the output, as their one owner reaches them.
//!
//! *Invariant.* There is one [`Join`] of a cell at most. *Threads.* Any; `&mut` makes it one at a time. *Ordering.*
//! `state.rs`: `COMPLETE` hands the output over, `JOIN_WAKER` the slot.

use std::marker::PhantomData;
use std::ptr;
use std::task::{Context, Poll};

use super::super::join::JoinError;
use super::super::state::DropJoin;
use super::super::{Event, FutureId, is_observed, try_id};
use super::{Header, RawTask, catch};

/// The sole right to a cell's join slot and output: what a `Task<T>` is made of.
pub(in crate::task) struct Join<T> {
    task: RawTask,
    output: PhantomData<fn() -> T>,
}

// SAFETY: whoever owns it may take the output, on whatever thread it is, so it goes where the output may go.
unsafe impl<T: Send> Send for Join<T> {}
// SAFETY: through a shared reference only the state word is reached, never the output.
unsafe impl<T> Sync for Join<T> {}

impl<T> Join<T> {
    /// Takes over the reference that `spawn_cell` returned; `T` is the output of the future it was given.
    pub(in crate::task) fn new(task: RawTask) -> Self {
        Self { task, output: PhantomData }
    }

    pub(in crate::task) fn raw(&self) -> RawTask {
        self.task
    }

    /// The output, if complete; else the context's waker will be woken.
    pub(in crate::task) fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<T, JoinError>> {
        let Header { state, vtable, .. } = self.task.header();
        let now = state.load();
        let owns_slot = !now.is_complete() && (!now.has_join_waker() || state.unset_join_waker());
        if owns_slot {
            // SAFETY: rule 3: JOIN_WAKER is unset and `&mut self` is the only Join.
            let old = unsafe { (vtable.take_join_waker)(self.task) };
            let waker = match old {
                Some(old) if old.will_wake(cx.waker()) => old,
                _ => cx.waker().clone(),
            };
            // SAFETY: as above.
            unsafe { (vtable.set_join_waker)(self.task, waker) };
            if is_observed() {
                // Before it can be woken.
                self.tell_blocking();
            }
            if state.set_join_waker() {
                return Poll::Pending;
            }
            // Completed meanwhile without seeing the waker: the slot is still ours.
            // SAFETY: as above.
            drop(unsafe { (vtable.take_join_waker)(self.task) });
        }
        if is_observed() && (owns_slot || now.has_join_waker()) {
            self.tell_resumed();
        }
        let mut output = None::<Result<T, JoinError>>;
        // SAFETY: complete, so rule 2 gives us the output, whose type is T by `new`.
        unsafe { (vtable.take_output)(self.task, ptr::from_mut(&mut output).cast()) };
        Poll::Ready(output.expect("a Task was awaited again after it gave its output"))
    }
}

impl<T> Join<T> {
    /// Looks at the value where it is; `None` if there is none, or not yet, or not any more.
    pub(in crate::task) fn look<R>(&mut self, look: impl FnOnce(&T) -> R) -> Option<R> {
        let Header { state, vtable, .. } = self.task.header();
        if !state.load().is_complete() {
            return None;
        }
        let (mut look, mut seen) = (Some(look), None);
        // SAFETY: complete, so rule 2 gives us the output; by `&mut self` nobody takes it meanwhile.
        unsafe {
            (vtable.show_value)(self.task, &mut |value: *const ()| {
                // The value's type is T by `new`, and it stays there during the call.
                seen = look.take().map(|look| look(&*value.cast::<T>()));
            });
        }
        seen
    }
}

impl<T> Join<T> {
    fn id(&self) -> FutureId {
        FutureId::of_task(self.task.header().id())
    }

    #[cold]
    fn tell_blocking(&self) {
        self.task.tell(|| Event::Blocking { task: try_id(), future: self.id() });
        self.task.tell(|| Event::WakerRegistered { task: try_id(), future: self.id() });
    }

    #[cold]
    fn tell_resumed(&self) {
        self.task.tell(|| Event::FutureResumed { task: try_id(), future: self.id() });
    }
}

impl<T> Drop for Join<T> {
    fn drop(&mut self) {
        let Header { state, vtable, .. } = self.task.header();
        match state.drop_join() {
            DropJoin::Detached => return,
            DropJoin::DetachedWithWaker => {
                // SAFETY: rule 3: the slot is ours again.
                let waker = unsafe { (vtable.take_join_waker)(self.task) };
                if let Err(payload) = catch(|| drop(waker)) {
                    // SAFETY: the table's own.
                    unsafe { (vtable.report)(self.task, "Exception in a waker", payload) };
                }
            }
            // SAFETY: rule 2: the output is ours.
            DropJoin::Complete => unsafe { (vtable.drop_output)(self.task) },
        }
        self.task.drop_ref();
    }
}
