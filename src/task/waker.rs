//! The waker of a cell: one pointer and one static table for every type of task.
//!
//! *Invariant.* An owned waker is one counted reference; waking never runs user code. *Threads.* Any, thread-exit
//! destructors included. *Ordering.* `state.rs`.

use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;
use std::task::{RawWaker, RawWakerVTable, Waker};

use super::cell::{Header, RawTask};
use super::id;

static VTABLE: RawWakerVTable = RawWakerVTable::new(clone, wake, wake_by_ref, drop_waker);

/// A waker that borrows the runner's right to the cell and so counts no reference.
pub(super) struct WakerRef(ManuallyDrop<Waker>);

impl Deref for WakerRef {
    type Target = Waker;
    fn deref(&self) -> &Waker {
        &self.0
    }
}

#[inline]
pub(super) fn waker_ref(task: RawTask) -> WakerRef {
    // SAFETY: the table's functions keep RawWaker's contract for a pointer to a live cell; being in ManuallyDrop, this
    // waker gives up no reference, and the caller keeps the cell alive as long as it uses it.
    WakerRef(ManuallyDrop::new(unsafe { Waker::new(task.as_ptr().cast_const().cast(), &VTABLE) }))
}

/// A waker that counts a reference of its own.
pub(super) fn waker(task: RawTask) -> Waker {
    (*waker_ref(task)).clone()
}

/// The first waker of a cell of which nobody else knows yet.
#[inline]
pub(super) fn first_waker(task: RawTask) -> Waker {
    task.header().state.add_first_ref();
    ManuallyDrop::into_inner(waker_ref(task).0)
}

/// Whether it is a cell's: then cloning and dropping it only counts.
fn is_cell_waker(waker: &Waker) -> bool {
    std::ptr::eq(waker.vtable(), &raw const VTABLE)
}

/// The index of the loop that the waker's cell is pinned to; `None` if it is pinned to none, or no cell's.
pub(crate) fn only_loop(waker: &Waker) -> Option<usize> {
    // SAFETY: a cell's waker keeps the cell that its pointer points to.
    is_cell_waker(waker).then(|| unsafe { task(waker.data()) }.only_loop()).flatten()
}

/// Whether it is that of the task that this thread is inside, or of a cell that is pinned to the loop `index`.
#[inline]
pub(crate) fn is_own_waker(waker: &Waker, index: usize) -> bool {
    // SAFETY: as in `only_loop`.
    is_cell_waker(waker) && (id::is_current(unsafe { task(waker.data()) }) || only_loop(waker) == Some(index))
}

/// # Safety
/// `data` is the pointer of a waker made here, so it points to a live cell.
unsafe fn task(data: *const ()) -> RawTask {
    // SAFETY: made from a NonNull in `waker_ref`; the caller says that the cell is alive.
    unsafe { RawTask::from_ptr(NonNull::new_unchecked(data.cast_mut().cast::<Header>())) }
}

unsafe fn clone(data: *const ()) -> RawWaker {
    // SAFETY: called through the table only, with its own data.
    unsafe { task(data) }.add_ref();
    RawWaker::new(data, &VTABLE)
}

unsafe fn wake(data: *const ()) {
    // SAFETY: as in `clone`; the waker's reference is given to `wake_by_val`.
    unsafe { task(data).wake_by_val() }
}

unsafe fn wake_by_ref(data: *const ()) {
    // SAFETY: as in `clone`.
    unsafe { task(data) }.wake_by_ref();
}

unsafe fn drop_waker(data: *const ()) {
    // SAFETY: as in `clone`; the waker's reference is given up.
    unsafe { task(data).drop_ref() }
}
