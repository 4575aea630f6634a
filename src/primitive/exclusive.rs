//! A value for one holder at a time, for a room above that decides who that is and may not write `unsafe`.
//!
//! *Invariant.* `held` stands while a [`Hold`] exists, and only the `Hold` touches the value. A second holder is refused, so that
//! a mistake in the room above is a panic there, never two references. *Threads.* Any. *Ordering.* `held` is taken with
//! Acquire and given back with Release: a holder sees what the one before it did.

// std's cell in both builds: loom's lends its pointer to a closure, while the references made here outlive the call.
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use super::atomic::{AtomicBool, Ordering};

#[derive(Debug)]
pub(crate) struct Exclusive<T: ?Sized> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: a shared `Exclusive` gives the value to one `Hold` at a time, so it moves it between threads, never shares it.
unsafe impl<T: ?Sized + Send> Sync for Exclusive<T> {}

impl<T> Exclusive<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    pub(crate) fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Exclusive<T> {
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }
}

/// References that keep what they point to alive and in its place, wherever they themselves are moved.
///
/// # Safety
/// That, for as long as the reference exists; and it hands out no `&mut`.
pub(crate) unsafe trait Anchored: Deref {}

// SAFETY: a borrow's target cannot move, end or be borrowed mutably while the borrow lives.
unsafe impl<M: ?Sized> Anchored for &M {}
// SAFETY: the target of an `Arc` lives in the heap until the last clone goes, and the `Arc` is not lent out.
unsafe impl<M: ?Sized> Anchored for Arc<M> {}

/// The value, for as long as this lives. Keeps `owner`, in which the value is.
pub(crate) struct Hold<P, T: ?Sized> {
    cell: NonNull<Exclusive<T>>,
    owner: P,
}

// SAFETY: to send a `Hold` is to send the owner's reference and the value.
unsafe impl<P: Send, T: ?Sized + Send> Send for Hold<P, T> {}
// SAFETY: to share a `Hold` is to share the owner's reference and, through `Deref`, the value.
unsafe impl<P: Sync, T: ?Sized + Sync> Sync for Hold<P, T> {}

impl<P: Anchored, T: ?Sized> Hold<P, T> {
    /// Takes the value that `find` finds in `owner`.
    ///
    /// # Panics
    /// If it is held.
    pub(crate) fn new(owner: P, find: impl for<'a> FnOnce(&'a P::Target) -> &'a Exclusive<T>) -> Self {
        let cell = find(&owner);
        // Ordering: Acquire, pairs with the Release in `drop` of the holder before.
        assert!(!cell.held.swap(true, Ordering::Acquire), "a value has two holders");
        Self { cell: NonNull::from(cell), owner }
    }
}

impl<P, T: ?Sized> Hold<P, T> {
    pub(crate) fn owner(&self) -> &P {
        &self.owner
    }
}

impl<P, T: ?Sized> Deref for Hold<P, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `cell` is within what `owner` keeps in place, and was found for any lifetime of that. `held` is ours, so this
        // `Hold` alone reaches the value, and its own borrow keeps `&T` and `&mut T` apart.
        unsafe { &*self.cell.as_ref().value.get() }
    }
}

impl<P, T: ?Sized> DerefMut for Hold<P, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`.
        unsafe { &mut *self.cell.as_ref().value.get() }
    }
}

impl<P, T: ?Sized> Drop for Hold<P, T> {
    fn drop(&mut self) {
        // SAFETY: `owner` is dropped after this.
        let cell = unsafe { self.cell.as_ref() };
        // Ordering: Release, pairs with the Acquire in `new` of the next holder.
        cell.held.store(false, Ordering::Release);
    }
}
