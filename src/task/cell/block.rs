//! The memory of cells: what a thread frees it keeps for the cells that it makes next.
//!
//! Kept blocks of a size are in *stacks*. A thread has two of each size: one that it takes from and puts on, and one that is full, if
//! there is such. When both are full, one goes to the *depot* (`depot.rs`), where who has none finds it: so the blocks of a burst,
//! or of cells that one thread makes and another one frees, go round in hundreds at a time, and not each through the allocator.
//!
//! *Invariant.* A kept block is nobody's: it is on one stack, its first word says which comes next, and its size is that of the
//! stack. A thread keeps nothing once its exit destructors have begun; what is not kept, or is too large or too strictly
//! aligned for a stack, goes to the allocator at once. Every block comes from the allocator by itself, with the size of its
//! stack, so that any thread may keep or free it.
//!
//! *Threads.* Each has its own stacks. *Ordering.* A block goes from thread to thread with its cell, or by the depot's lock.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::depot;
use crate::primitive::MODELLED;

/// How many bytes a full stack has, or a little less.
pub(super) const STACK: usize = 16 << 10;

/// The sizes: eight more than a multiple of this, since what glibc's allocator hands out is that long; with others a cell would
/// become larger for being kept.
const STEP: usize = 16;
pub(super) const SIZES: usize = 17;
const ALIGN: usize = align_of::<u64>();

/// What the models want to see, and tools that look for mistakes in the use of memory: every block as the allocator's. For
/// sanitizers: `RUSTFLAGS="--cfg epicycle_sanitize -Zsanitizer=address"`.
const KEEPS: bool = !MODELLED && !cfg!(any(miri, epicycle_sanitize));

thread_local! {
    // Without a destructor, unlike `END`: a plain access, to the thread's end.
    static KEPT: Kept = const { Kept { sizes: [const { Stacks::none() }; SIZES], stage: Cell::new(Stage::New) } };
    static END: End = const { End };
}

struct Kept {
    sizes: [Stacks; SIZES],
    stage: Cell<Stage>,
}

struct Stacks {
    first: Cell<*mut Free>,
    /// How many more fit.
    room: Cell<usize>,
    full: Cell<*mut Free>,
}

impl Stacks {
    const fn none() -> Self {
        Self { first: Cell::new(ptr::null_mut()), room: Cell::new(0), full: Cell::new(ptr::null_mut()) }
    }
}

/// The beginning of a kept block.
pub(super) struct Free {
    next: *mut Free,
    /// Of the first block of a stack in the depot: the first of the next stack.
    pub(super) next_stack: *mut Free,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was kept here yet.
    New,
    Keeps,
    /// The thread is ending: nothing is kept any more.
    Ended,
}

/// Empties the stacks when the thread ends.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        KEPT.with(|kept| {
            kept.stage.set(Stage::Ended);
            for (size, stacks) in kept.sizes.iter().enumerate() {
                let full = NonNull::new(stacks.full.replace(ptr::null_mut()));
                // SAFETY: it was this thread's.
                full.into_iter().for_each(|stack| unsafe { depot::give(size, stack) });
                let rest = NonNull::new(stacks.first.replace(ptr::null_mut()));
                // SAFETY: as above.
                rest.into_iter().for_each(|stack| unsafe { free_stack(size, stack) });
                stacks.room.set(0);
            }
        });
    }
}

const fn bytes(size: usize) -> usize {
    size * STEP + 8
}

/// How many blocks a full stack has.
const fn capacity(size: usize) -> usize {
    STACK / bytes(size)
}

/// Which size is for a `T`.
const fn size<T>() -> Option<usize> {
    let size = (size_of::<T>() + 7) / STEP;
    if KEEPS && size < SIZES && align_of::<T>() <= ALIGN && size_of::<T>() >= size_of::<Free>() {
        Some(size)
    } else {
        None
    }
}

const fn layout_of(size: usize) -> Layout {
    match Layout::from_size_align(bytes(size), ALIGN) {
        Ok(layout) => layout,
        Err(_) => panic!("a small size and alignment"),
    }
}

/// As the allocator is asked for it.
const fn layout<T>() -> Layout {
    match size::<T>() {
        Some(size) => layout_of(size),
        None => Layout::new::<T>(),
    }
}

impl Kept {
    #[inline]
    fn take(&self, size: usize) -> Option<NonNull<Free>> {
        let stacks = &self.sizes[size];
        let block = NonNull::new(stacks.first.get()).or_else(|| self.refill(size))?;
        // SAFETY: it is on a stack, so it is nobody's and begins with this.
        stacks.first.set(unsafe { (*block.as_ptr()).next });
        stacks.room.set(stacks.room.get() + 1);
        Some(block)
    }

    /// Puts a full stack in the place of the empty one.
    #[inline(never)]
    fn refill(&self, size: usize) -> Option<NonNull<Free>> {
        let stacks = &self.sizes[size];
        let full = NonNull::new(stacks.full.replace(ptr::null_mut()));
        let full = full.or_else(|| (depot::has(size) && self.keeps()).then(|| depot::take(size)).flatten())?;
        stacks.first.set(full.as_ptr());
        stacks.room.set(0);
        Some(full)
    }

    /// True: it is kept.
    #[inline]
    fn put(&self, size: usize, block: NonNull<Free>) -> bool {
        let stacks = &self.sizes[size];
        if stacks.room.get() == 0 && !self.make_room(size) {
            return false;
        }
        // SAFETY: the caller of `give_back` has given it up; it is large enough, and aligned.
        unsafe { (&raw mut (*block.as_ptr()).next).write(stacks.first.get()) };
        stacks.first.set(block.as_ptr());
        stacks.room.set(stacks.room.get() - 1);
        true
    }

    /// Puts an empty stack in the place of the full one. False: nothing is kept.
    #[inline(never)]
    fn make_room(&self, size: usize) -> bool {
        let stacks = &self.sizes[size];
        if !self.keeps() {
            return false;
        }
        if stacks.room.get() == 0 {
            let full = stacks.first.replace(ptr::null_mut());
            stacks.room.set(capacity(size));
            let other = NonNull::new(stacks.full.replace(full));
            // SAFETY: it was this thread's.
            other.into_iter().for_each(|stack| unsafe { depot::give(size, stack) });
        }
        true
    }

    /// Whether anything is kept here; at the first time sees to it that the thread's end is noticed.
    fn keeps(&self) -> bool {
        if self.stage.get() == Stage::New {
            let begins = END.try_with(|_| ()).is_ok();
            self.stage.set(if begins { Stage::Keeps } else { Stage::Ended });
            if begins {
                self.sizes.iter().enumerate().for_each(|(size, stacks)| stacks.room.set(capacity(size)));
            }
        }
        self.stage.get() == Stage::Keeps
    }
}

/// Gives a stack's blocks to the allocator.
///
/// # Safety
/// It is the caller's, and of that size.
pub(super) unsafe fn free_stack(size: usize, first: NonNull<Free>) {
    let mut next = first.as_ptr();
    while let Some(block) = NonNull::new(next) {
        // SAFETY: the caller's word; and each was allocated with this layout, as the invariant says.
        unsafe {
            next = (*block.as_ptr()).next;
            dealloc(block.as_ptr().cast(), layout_of(size));
        }
    }
}

/// Memory for a `T`, not written yet.
#[inline]
fn take<T>() -> NonNull<T> {
    let kept = const { size::<T>() }.and_then(|size| KEPT.with(|kept| kept.take(size)));
    kept.map_or_else(new_block::<T>, NonNull::cast)
}

#[inline(never)]
fn new_block<T>() -> NonNull<T> {
    let layout = const { layout::<T>() };
    assert!(layout.size() > 0, "a cell has a header");
    // SAFETY: the layout is not empty.
    let block = unsafe { alloc(layout) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout)).cast()
}

/// # Safety
/// `block` came from `take::<T>`, what was in it is dropped or gone, and nobody uses it any more.
#[inline]
unsafe fn give_back<T>(block: NonNull<T>) {
    let kept = const { size::<T>() }.is_some_and(|size| KEPT.with(|kept| kept.put(size, block.cast())));
    if !kept {
        // SAFETY: as in `new_block`; the caller's word.
        unsafe { dealloc(block.as_ptr().cast(), const { layout::<T>() }) };
    }
}

/// A box whose memory is such a block.
pub(super) struct Block<T>(NonNull<T>);

impl<T> Block<T> {
    /// `make` is called when there is memory already, so that what it makes can be made in there.
    #[inline(always)]
    pub(super) fn new(make: impl FnOnce() -> T) -> Self {
        let block = take::<T>();
        // SAFETY: it is ours, and large and aligned enough for a T.
        unsafe { block.write(make()) };
        Self(block)
    }

    #[inline]
    pub(super) fn into_raw(self) -> NonNull<T> {
        let block = self.0;
        mem::forget(self);
        block
    }

    /// # Safety
    /// `block` came from `into_raw` of a `Block<T>`, and nobody else uses it.
    #[inline]
    pub(super) unsafe fn from_raw(block: NonNull<T>) -> Self {
        Self(block)
    }
}

impl<T> Deref for Block<T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: it is ours, and written.
        unsafe { self.0.as_ref() }
    }
}

impl<T> Drop for Block<T> {
    #[inline]
    fn drop(&mut self) {
        /// Even if a destructor panics.
        struct Memory<T>(NonNull<T>);
        impl<T> Drop for Memory<T> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: made below, of a block of our own, whose value has been dropped.
                unsafe { give_back(self.0) };
            }
        }
        let _memory = Memory(self.0);
        // SAFETY: it is ours, and nobody sees it afterwards.
        unsafe { self.0.drop_in_place() };
    }
}
