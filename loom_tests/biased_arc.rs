//! The biased reference count: its owner's plain counting, others' atomic one, and the bias's end.
//!
//! *Property.* The value is freed once, with the last reference, and after all that was done through any; two owners' counting, one
//! after the other, is ordered by the count itself.
//! *Threads.* An owner and another, or two owners one after the other, each with a part of the value for itself. *Bound.* Two
//! preemptions.
//! *Seeded bugs.* The bias's end forgets what its owner counted; it does not end for its thread; others can bring the count to
//! zero meanwhile; giving up a reference, the last one or not, orders nothing, nor does the end; the next owner does not acquire.

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

use super::support::{OnDrop, Tally, check};
use crate::primitive::BiasedArc;

/// A part for each thread, used by it without any order. Whoever frees must come after all of that, or loom complains.
struct Value {
    parts: [AtomicU32; 2],
    _freed: OnDrop,
}

impl Value {
    fn new() -> (BiasedArc<Self>, Tally) {
        let freed = Tally::default();
        let parts = [AtomicU32::new(0), AtomicU32::new(0)];
        (BiasedArc::new(Self { parts, _freed: OnDrop(freed.clone()) }), freed)
    }

    fn touch(&self, part: usize) {
        self.parts[part].store(1, Ordering::Relaxed);
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        self.parts.iter_mut().for_each(|part| part.with_mut(|_| ()));
    }
}

#[test]
fn made_here_and_given_up_there() {
    check(|| {
        let (own, freed) = Value::new();
        let bias = BiasedArc::bias(&own);
        let theirs = own.clone();
        let other = thread::spawn(move || {
            theirs.touch(1);
            drop(theirs.clone());
            theirs.touch(1);
        });
        drop(own.clone());
        own.touch(0);
        drop(bias);
        own.touch(0);
        drop(own);
        other.join().unwrap();
        assert_eq!(freed.get(), 1);
    });
}

#[test]
fn the_end_of_the_bias_may_be_the_end() {
    check(|| {
        let (own, freed) = Value::new();
        let bias = BiasedArc::bias(&own);
        let theirs = own.clone();
        let other = thread::spawn(move || theirs.touch(1));
        own.touch(0);
        drop(own);
        assert_eq!(freed.get(), 0, "the bias counts");
        drop(bias);
        other.join().unwrap();
        assert_eq!(freed.get(), 1);
    });
}

#[test]
fn made_there_and_given_up_here() {
    check(|| {
        let (own, freed) = Value::new();
        let bias = BiasedArc::bias(&own);
        let post = Arc::new(Mutex::new(None));
        let other = thread::spawn({
            let (theirs, post) = (own.clone(), post.clone());
            move || {
                *post.lock().unwrap() = Some(theirs.clone());
                theirs.touch(1);
            }
        });
        own.touch(0);
        drop(own);
        let posted = post.lock().unwrap().take();
        drop(posted);
        drop(bias);
        other.join().unwrap();
        drop(post.lock().unwrap().take());
        assert_eq!(freed.get(), 1);
    });
}

#[test]
fn another_owner() {
    check(|| {
        let (own, freed) = Value::new();
        // Says that the first has ended, and orders nothing.
        let ended = Arc::new(AtomicBool::new(false));
        let first = thread::spawn({
            let (own, ended) = (own.clone(), ended.clone());
            move || {
                let bias = BiasedArc::bias(&own);
                let kept = own.clone();
                drop(bias);
                ended.store(true, Ordering::Relaxed);
                kept.touch(1);
            }
        });
        if ended.load(Ordering::Relaxed) {
            // Sees that the count is without a bias, and orders nothing either.
            let kept = own.clone();
            let bias = BiasedArc::bias(&own);
            drop(kept);
            own.touch(0);
            drop(own);
            drop(bias);
        } else {
            drop(own);
        }
        first.join().unwrap();
        assert_eq!(freed.get(), 1);
    });
}
