//! The biased mutex: its owner's plain stores against others' revocation.
//!
//! *Property.* One guard at a time; each sees what those before it did; nobody waits for ever.
//! *Threads.* The owner and another, or two owners one after the other. *Bound.* Two preemptions.
//! *Seeded bugs.* Either fence missing; the other does not wait for the owner; the owner's release missing, as it unlocks or as
//! it backs off; the owner does not look whether it was revoked; another makes it biased again.

use loom::sync::Arc;
use loom::thread;

use super::support::check;
use crate::primitive::BiasedMutex;

/// Adds one `times` times; returns what it saw last.
fn add(mutex: &BiasedMutex<u32>, times: usize) -> u32 {
    for _ in 1..times {
        *mutex.lock() += 1;
    }
    let mut guard = mutex.lock();
    *guard += 1;
    *guard
}

/// Another thread that adds one, once.
fn add_elsewhere(mutex: &Arc<BiasedMutex<u32>>) -> thread::JoinHandle<u32> {
    let mutex = mutex.clone();
    thread::spawn(move || add(&mutex, 1))
}

#[test]
fn one_guard_at_a_time() {
    check(|| {
        let mutex = Arc::new(BiasedMutex::new(0));
        mutex.take_over();
        let other = add_elsewhere(&mutex);
        let seen = add(&mutex, 2);
        let seen = seen.max(other.join().unwrap());
        assert_eq!(seen, 3);
        assert_eq!(*mutex.lock(), 3);
    });
}

#[test]
fn biased_again_and_revoked_again() {
    check(|| {
        let mutex = Arc::new(BiasedMutex::new(0));
        mutex.take_over();
        // Revoked, so that the owner's first lock is slow and its second biased.
        add_elsewhere(&mutex).join().unwrap();
        let other = add_elsewhere(&mutex);
        add(&mutex, 2);
        other.join().unwrap();
        assert_eq!(*mutex.lock(), 4);
    });
}

#[test]
fn another_owner() {
    check(|| {
        let mutex = Arc::new(BiasedMutex::new(0));
        mutex.take_over();
        let other = add_elsewhere(&mutex);
        add(&mutex, 1);
        mutex.give_up();
        let next = thread::spawn({
            let mutex = mutex.clone();
            move || {
                mutex.take_over();
                add(&mutex, 1);
                mutex.give_up();
            }
        });
        add(&mutex, 1);
        other.join().unwrap();
        next.join().unwrap();
        assert_eq!(*mutex.lock(), 4);
    });
}
