//! The side door of a live list: a thief completes what another loop listed, while that loop binds, lists or closes.
//!
//! *Property.* Whoever follows an entry finds a cell that is there; what has ended is reaped in the end; each future is dropped
//! once and each cell freed.
//! *Threads.* The birth loop and a thief. *Bound.* Two preemptions.
//! *Seeded bugs.* A thief does not return its key; entries are followed after the side door was opened again; a bind forgets to
//! reap; who gives up the last reference but one frees the cell.

use loom::sync::Arc;
use loom::thread;

use super::support::{Home, Hub, OnDrop, Tally, check, new_task};
use crate::task::{Kind, Task, launch};

/// A task nobody waits for, queued.
fn detach(hub: &Arc<Hub>, dropped: &Tally) {
    let guard = OnDrop(dropped.clone());
    let task = launch(async move { drop(guard) }, Home::of(hub), new_task(Kind::Task, false, true));
    drop(Task::<()>::new(task));
}

/// A thief's turn.
fn steal(hub: &Arc<Hub>) -> thread::JoinHandle<()> {
    let hub = hub.clone();
    thread::spawn(move || {
        hub.run_all();
    })
}

#[test]
fn a_thief_completes_while_the_list_is_read() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        detach(&hub, &dropped);
        let thief = steal(&hub);
        assert!(hub.list().infos().len() <= 1);
        thief.join().unwrap();
        assert!(hub.list().is_empty());
        assert_eq!((hub.list().count(), dropped.get(), hub.freed.get()), (0, 1, 1));
    });
}

#[test]
fn a_thief_completes_while_the_loop_binds() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        detach(&hub, &dropped);
        let thief = steal(&hub);
        detach(&hub, &dropped);
        hub.run_all();
        thief.join().unwrap();
        hub.run_all();
        assert_eq!(hub.list().infos().len(), 0);
        assert_eq!((dropped.get(), hub.freed.get()), (2, 2));
    });
}

#[test]
fn a_bind_reaps_what_was_returned() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        detach(&hub, &dropped);
        steal(&hub).join().unwrap();
        assert_eq!(hub.list().count(), 0);
        detach(&hub, &dropped);
        // The next task has the slot of the one before.
        assert_eq!((hub.list().count(), hub.list().slots()), (1, 1));
        hub.run_all();
        assert_eq!((dropped.get(), hub.freed.get()), (2, 2));
    });
}

#[test]
fn a_thief_completes_while_the_loop_closes() {
    check(|| {
        let (hub, dropped) = (Hub::new(), Tally::default());
        detach(&hub, &dropped);
        let thief = steal(&hub);
        hub.list().close();
        hub.list().cancel_all();
        thief.join().unwrap();
        hub.run_all();
        assert!(hub.list().is_empty());
        assert_eq!((dropped.get(), hub.freed.get()), (1, 1));
    });
}
