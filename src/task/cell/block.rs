//! The memory of cells: what a thread frees it keeps for the cells that it makes next.
//!
//! *Invariant.* A kept block is nobody's: it is in one list of one thread, its first word says which comes next, and its size is
//! that of the list. A thread keeps no more than `BOUND` bytes in all, and nothing once its exit destructors have begun; what is
//! not kept, or is too large or too strictly aligned for a list, goes to the allocator at once. Every block comes from the
//! allocator by itself, with the size of its list, so that any thread may keep or free it.
//!
//! *Threads.* Each has its own lists. *Ordering.* None: a block goes from thread to thread with its cell only.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::mem;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use crate::primitive::MODELLED;

/// How many bytes a thread keeps at most.
const BOUND: usize = 256 << 10;

/// The sizes of the lists: eight more than a multiple of this, since what glibc's allocator hands out is that long; with others
/// a cell would become larger for being kept.
const STEP: usize = 16;
const LISTS: usize = 17;
const ALIGN: usize = align_of::<u64>();

/// What tools that look for mistakes in the use of memory want to see, and the models: every block as the allocator's.
const KEEPS: bool = !MODELLED && !cfg!(miri);

thread_local! {
    // Without a destructor, unlike `END`: a plain access, to the thread's end.
    static KEPT: Kept = const {
        Kept { lists: [const { Cell::new(ptr::null_mut()) }; LISTS], bytes: Cell::new(0), stage: Cell::new(Stage::New) }
    };
    static END: End = const { End };
}

struct Kept {
    lists: [Cell<*mut Free>; LISTS],
    /// What is in them.
    bytes: Cell<usize>,
    stage: Cell<Stage>,
}

/// The beginning of a kept block.
struct Free {
    next: *mut Free,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was freed here yet.
    New,
    Keeps,
    /// The thread is ending: nothing is kept any more.
    Ended,
}

/// Empties the lists when the thread ends.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        KEPT.with(|kept| {
            kept.stage.set(Stage::Ended);
            kept.empty();
        });
    }
}

const fn size(list: usize) -> usize {
    list * STEP + 8
}

/// Which list is for a `T`.
const fn list<T>() -> Option<usize> {
    let list = (size_of::<T>() + 7) / STEP;
    if KEEPS && list < LISTS && align_of::<T>() <= ALIGN && size_of::<T>() >= size_of::<Free>() {
        Some(list)
    } else {
        None
    }
}

/// As the allocator is asked for it.
const fn layout<T>() -> Layout {
    match list::<T>() {
        Some(list) => match Layout::from_size_align(size(list), ALIGN) {
            Ok(layout) => layout,
            Err(_) => panic!("a small size and alignment"),
        },
        None => Layout::new::<T>(),
    }
}

impl Kept {
    #[inline]
    fn take(&self, list: usize) -> Option<NonNull<Free>> {
        let Some(block) = NonNull::new(self.lists[list].get()) else {
            self.note_miss();
            return None;
        };
        // SAFETY: it is in a list, so it is nobody's and begins with this.
        self.lists[list].set(unsafe { block.as_ref() }.next);
        self.bytes.set(self.bytes.get() - size(list));
        Some(block)
    }

    /// Makes room for what is in use now if all is taken up by what is not.
    #[inline]
    fn note_miss(&self) {
        if self.bytes.get() > BOUND / 2 {
            self.empty();
        }
    }

    /// True: it is kept.
    #[inline]
    fn put(&self, list: usize, block: NonNull<Free>) -> bool {
        let bytes = self.bytes.get() + size(list);
        if bytes > BOUND || self.stage.get() != Stage::Keeps && !self.begin() {
            return false;
        }
        // SAFETY: the caller of `give_back` has given it up; it is large enough, and aligned.
        unsafe { block.write(Free { next: self.lists[list].get() }) };
        self.lists[list].set(block.as_ptr());
        self.bytes.set(bytes);
        true
    }

    /// At the first block: sees to it that the thread's end is noticed. False if it has come.
    #[cold]
    #[inline(never)]
    fn begin(&self) -> bool {
        let begins = self.stage.get() == Stage::New && END.try_with(|_| ()).is_ok();
        self.stage.set(if begins { Stage::Keeps } else { Stage::Ended });
        begins
    }

    #[cold]
    #[inline(never)]
    fn empty(&self) {
        for (list, first) in self.lists.iter().enumerate() {
            let mut next = first.replace(ptr::null_mut());
            while let Some(block) = NonNull::new(next) {
                // SAFETY: as in `take`.
                next = unsafe { block.as_ref() }.next;
                let layout = Layout::from_size_align(size(list), ALIGN).expect("as in `layout`");
                // SAFETY: allocated with this layout, as the invariant says; out of its list.
                unsafe { dealloc(block.as_ptr().cast(), layout) };
            }
        }
        self.bytes.set(0);
    }
}

/// Memory for a `T`, not written yet.
#[inline]
fn take<T>() -> NonNull<T> {
    let kept = const { list::<T>() }.and_then(|list| KEPT.with(|kept| kept.take(list)));
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
    let kept = const { list::<T>() }.is_some_and(|list| KEPT.with(|kept| kept.put(list, block.cast())));
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
