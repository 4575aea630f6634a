//! A shared value that is freed with its last reference, as std's `Arc`; but one thread at a time counts its references without
//! atomic operations.
//!
//! The count is kept in two parts. `local` is changed by the thread that holds the [`Bias`], with a plain load and store;
//! `shared` by all others, atomically. What counts is the sum. Either part may be less than nothing: a reference made here
//! may be given up there. So while there is a bias, `shared` contains [`BIAS`], which nobody can bring to zero; the bias's end
//! adds `local` to `shared` and takes `BIAS` out, in one step. Whoever brings `shared` to zero gave up the last reference.
//!
//! *Invariant.* `owner` is the thread that holds the bias, from after its beginning until before its end.
//!
//! *Threads.* References go anywhere; a [`Bias`] stays on its thread. *Ordering.* The end of a bias (Release) and the
//! beginning of the next (Acquire) meet in `shared`, so that two owners' uses of `local` are ordered whatever else happens between
//! them. For the value it is as with `Arc`: to give up a reference is a Release, and who frees has acquired them all.

use std::ops::Deref;
use std::ptr::{self, NonNull};

use super::atomic::{AtomicU64, Ordering};
use super::owner::Owner;
use super::{CachePadded, UnsafeCell};

/// What `shared` contains beside references while there is a bias.
const BIAS: u64 = 1 << 62;

/// Neither part of the count gets as far from zero as this. 64 bits on all platforms: the parts grow with the references that
/// change sides, not with those that exist, and a part that counted one each nanosecond would take 70 years.
const LIMIT: u64 = 1 << 61;

/// A counted reference to a `T`.
pub(crate) struct BiasedArc<T>(NonNull<Inner<T>>);

/// Three kinds of lines, each written by others: the value, which all read together with `owner`; the owner's; the others'.
#[repr(C)]
struct Inner<T> {
    owner: Owner,
    value: T,
    local: CachePadded<UnsafeCell<i64>>,
    shared: CachePadded<AtomicU64>,
}

// SAFETY: references on several threads share the value, and the last of them drops it, on any thread. The count's parts are
// atomic, but for `local`, which only the owner of the bias touches.
unsafe impl<T: Send + Sync> Send for BiasedArc<T> {}
// SAFETY: a shared reference to a `BiasedArc` can be cloned, so as above.
unsafe impl<T: Send + Sync> Sync for BiasedArc<T> {}

impl<T> BiasedArc<T> {
    pub(crate) fn new(value: T) -> Self {
        let inner = Box::new(Inner {
            owner: Owner::nobody(),
            value,
            local: CachePadded::new(UnsafeCell::new(0)),
            shared: CachePadded::new(AtomicU64::new(1)),
        });
        Self(NonNull::from(Box::leak(inner)))
    }

    #[inline]
    fn inner(&self) -> &Inner<T> {
        // SAFETY: made from a box, which is freed with the last reference; this is one.
        unsafe { self.0.as_ref() }
    }

    pub(crate) fn ptr_eq(this: &Self, other: &Self) -> bool {
        this.0 == other.0
    }

    /// Whether this thread holds the bias.
    #[inline]
    pub(crate) fn is_here(this: &Self) -> bool {
        this.inner().owner.is_here()
    }

    /// Has this thread count without atomic operations until the guard goes.
    ///
    /// # Panics
    /// If a thread does so already. Who knows by some order between threads that none does any more is not refused.
    pub(crate) fn bias(this: &Self) -> Bias<T> {
        let inner = this.inner();
        // Ordering: Acquire, pairs with the Release of the end of the bias before: `local` is as that left it. What others count
        // in between continues that release sequence.
        let taken = inner
            .shared
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |count| (count < LIMIT).then(|| count + BIAS));
        assert!(taken.is_ok(), "a count has two owners");
        // After the end of the owner before, which the above has acquired.
        inner.owner.begin();
        Bias(this.0)
    }
}

impl<T> Clone for BiasedArc<T> {
    #[inline]
    fn clone(&self) -> Self {
        let inner = self.inner();
        let too_many = if inner.owner.is_here() {
            inner.local.with_mut(|local| {
                // SAFETY: this thread holds the bias, so it alone touches `local`, here in no other place meanwhile.
                unsafe {
                    *local += 1;
                    *local >= LIMIT.cast_signed()
                }
            })
        } else {
            // Ordering: Relaxed: made from a reference, which is not given up meanwhile.
            inner.shared.fetch_add(1, Ordering::Relaxed) >= BIAS + LIMIT
        };
        if too_many {
            abort();
        }
        Self(self.0)
    }
}

impl<T> Drop for BiasedArc<T> {
    #[inline]
    fn drop(&mut self) {
        let inner = self.inner();
        if inner.owner.is_here() {
            // Never the last: the bias counts as a reference.
            // SAFETY: as in `clone`.
            inner.local.with_mut(|local| unsafe { *local -= 1 });
        } else {
            // Ordering: AcqRel: Release hands our accesses to whoever frees, Acquire sees those of all others.
            if inner.shared.fetch_sub(1, Ordering::AcqRel) == 1 {
                // SAFETY: no reference is left, and no bias.
                unsafe { free(self.0) }
            }
        }
    }
}

impl<T> Deref for BiasedArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.inner().value
    }
}

/// As std's `Arc`: it would end in a use after free.
#[cold]
fn abort() -> ! {
    eprintln!("epicycle: a reference count is about to wrap; aborting");
    std::process::abort();
}

/// # Safety
/// There is neither a reference nor a bias, and the caller has acquired what those did who had them.
#[cold]
#[inline(never)]
unsafe fn free<T>(inner: NonNull<Inner<T>>) {
    // SAFETY: made from a box in `new`; nobody else has it, by the caller's word.
    drop(unsafe { Box::from_raw(inner.as_ptr()) });
}

/// As long as it lives, its thread counts the references without atomic operations. Counts as a reference itself. If it is
/// forgotten, the value is never freed.
pub(crate) struct Bias<T>(NonNull<Inner<T>>);

impl<T> Drop for Bias<T> {
    fn drop(&mut self) {
        // SAFETY: alive: the bias counts as a reference, until the last step below.
        let inner = unsafe { self.0.as_ref() };
        // To this thread the bias has ended here; for the next owner see `bias`.
        inner.owner.end();
        // SAFETY: the guard does not leave its thread, and there is one at a time.
        let local = inner.local.with_mut(|local| unsafe { ptr::replace(local, 0) });
        let change = local.cast_unsigned().wrapping_sub(BIAS);
        // Ordering: AcqRel, as for giving up a reference; the Release also pairs with the Acquire in `bias`.
        if inner.shared.fetch_add(change, Ordering::AcqRel).wrapping_add(change) == 0 {
            // SAFETY: no reference is left, and the bias has ended.
            unsafe { free(self.0) }
        }
    }
}

#[cfg(all(test, not(epicycle_loom)))]
mod tests {
    use std::cell::RefCell;
    use std::mem::{offset_of, size_of};
    use std::sync::atomic::AtomicUsize as Counter;
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;

    /// Counts its drop.
    struct Value(Arc<Counter>);

    impl Drop for Value {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn value() -> (BiasedArc<Value>, impl Fn() -> usize) {
        let drops = Arc::new(Counter::new(0));
        (BiasedArc::new(Value(drops.clone())), move || drops.load(Ordering::Relaxed))
    }

    fn elsewhere<R: Send>(f: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| scope.spawn(f).join()).unwrap()
    }

    #[test]
    fn who_writes_what_writes_it_on_lines_of_its_own() {
        assert_eq!(size_of::<Option<BiasedArc<u8>>>(), size_of::<usize>());
        let line = |offset: usize| offset / align_of::<CachePadded<u8>>();
        let lines = [
            line(offset_of!(Inner<u8>, value)),
            line(offset_of!(Inner<u8>, local)),
            line(offset_of!(Inner<u8>, shared)),
        ];
        assert!(lines[0] != lines[1] && lines[1] != lines[2] && lines[0] != lines[2], "{lines:?}");
        assert_eq!(line(offset_of!(Inner<u8>, owner)), lines[0]);
    }

    #[test]
    fn without_a_bias_it_is_an_arc() {
        let (own, drops) = value();
        let other = own.clone();
        elsewhere(move || drop((other.clone(), other)));
        assert_eq!(drops(), 0);
        drop(own);
        assert_eq!(drops(), 1);
    }

    #[test]
    fn references_change_sides() {
        for end_first in [false, true] {
            let (own, drops) = value();
            let bias = BiasedArc::bias(&own);
            assert!(BiasedArc::is_here(&own) && !elsewhere(|| BiasedArc::is_here(&own)));
            // More of each than there are on either side at the end.
            let made_here: Vec<_> = (0..5).map(|_| own.clone()).collect();
            let made_there = elsewhere(|| {
                drop(made_here);
                (0..7).map(|_| own.clone()).collect::<Vec<_>>()
            });
            drop(made_there);
            if end_first {
                drop(bias);
                assert!(!BiasedArc::is_here(&own));
                assert_eq!(drops(), 0);
                drop(own);
            } else {
                drop(own);
                assert_eq!(drops(), 0);
                drop(bias);
            }
            assert_eq!(drops(), 1);
        }
    }

    #[test]
    fn the_last_reference_may_go_elsewhere_and_after_the_bias() {
        let (own, drops) = value();
        let bias = BiasedArc::bias(&own);
        let last = own.clone();
        drop((own, bias));
        assert_eq!(drops(), 0);
        elsewhere(move || drop(last));
        assert_eq!(drops(), 1);
    }

    #[test]
    fn a_thread_has_several_and_a_count_several_owners() {
        let ((first, first_drops), (second, second_drops)) = (value(), value());
        for _ in 0..3 {
            let outer = BiasedArc::bias(&first);
            let inner = BiasedArc::bias(&second);
            let kept = (first.clone(), second.clone());
            // In the order of their beginning, too.
            drop(outer);
            drop(inner);
            elsewhere(|| {
                let _bias = BiasedArc::bias(&second);
                drop(kept);
                drop(second.clone());
            });
        }
        drop(first);
        assert_eq!((first_drops(), second_drops()), (1, 0));
        drop(second);
        assert_eq!(second_drops(), 1);
    }

    #[test]
    #[should_panic(expected = "two owners")]
    fn a_second_owner_is_refused() {
        let (own, _) = value();
        let _bias = BiasedArc::bias(&own);
        if let Err(payload) = thread::scope(|scope| scope.spawn(|| drop(BiasedArc::bias(&own))).join()) {
            std::panic::resume_unwind(payload);
        }
    }

    #[test]
    fn a_refused_owner_changes_nothing() {
        let (own, drops) = value();
        let bias = BiasedArc::bias(&own);
        let again = std::panic::AssertUnwindSafe(|| drop(BiasedArc::bias(&own)));
        assert!(std::panic::catch_unwind(again).is_err());
        drop(own);
        assert_eq!(drops(), 0);
        drop(bias);
        assert_eq!(drops(), 1);
    }

    #[test]
    fn a_forgotten_bias_keeps_the_value() {
        let (own, drops) = value();
        let other = own.clone();
        elsewhere(|| std::mem::forget(BiasedArc::bias(&own)));
        drop(other);
        drop(own);
        assert_eq!(drops(), 0);
    }

    #[test]
    fn a_bias_may_end_in_an_exit_destructor() {
        thread_local! {
            static KEPT: RefCell<Option<(BiasedArc<Value>, Bias<Value>)>> = const { RefCell::new(None) };
        }
        let (own, drops) = value();
        elsewhere(|| {
            let (kept, bias) = (own.clone(), BiasedArc::bias(&own));
            KEPT.set(Some((kept.clone(), bias)));
        });
        assert_eq!(drops(), 0);
        drop(own);
        assert_eq!(drops(), 1);
    }

    #[test]
    fn many_of_many_sides() {
        const TIMES: usize = 20_000;
        let (own, drops) = value();
        let (give, take) = mpsc::channel::<BiasedArc<Value>>();
        let (give_back, take_back) = mpsc::channel();
        let other = thread::spawn(move || {
            for (n, given) in take.into_iter().enumerate() {
                if n % 3 == 0 {
                    give_back.send(given.clone()).unwrap();
                }
            }
        });
        for _ in 0..4 {
            let bias = BiasedArc::bias(&own);
            for n in 0..TIMES / 4 {
                give.send(own.clone()).unwrap();
                drop(take_back.try_recv());
                if n % 7 == 0 {
                    drop(own.clone());
                }
            }
            drop(bias);
        }
        drop(give);
        drop(own);
        other.join().unwrap();
        drop(take_back);
        assert_eq!(drops(), 1);
    }
}
