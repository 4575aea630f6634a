//! Readers and writers of a loop: level-triggered as in asyncio, replaced and cancelled by direction (S3-19, S3-25..27, N15, N16).
//!
//! A reader belongs to one loop and runs on that loop's thread only. Most tests drive a loop of their own by `run_once`,
//! so that "every turn" can be counted.

mod common;

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{DropProbe, Gate, Reports, eventually, eventually_async, with_timeout};
use epicycle::{EventLoop, Runtime, yield_now};

const MS: Duration = Duration::from_millis(1);

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    (ours, theirs)
}

/// A reader or writer that counts.
fn counting(count: &Rc<Cell<usize>>) -> impl FnMut() + 'static + use<> {
    let count = count.clone();
    move || count.set(count.get() + 1)
}

/// Drives `event_loop` for `turns` turns that do not wait for long.
fn turn(event_loop: &EventLoop, turns: usize) {
    for _ in 0..turns {
        event_loop.run_once(Some(5 * MS));
    }
}

/// Runs a test on a fresh loop, under the watchdog.
fn on_a_loop(test: impl FnOnce(&EventLoop)) {
    with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        test(&event_loop);
        event_loop.close();
    });
}

#[test]
fn s3_27_an_unread_byte_calls_the_reader_every_turn() {
    on_a_loop(|event_loop| {
        let ((ours, mut theirs), fired) = (pair(), Rc::new(Cell::new(0)));
        event_loop.add_reader(&ours, counting(&fired)).unwrap();
        turn(event_loop, 3);
        assert_eq!(fired.get(), 0, "nothing to read yet");
        theirs.write_all(b"x").unwrap();
        for n in 1..=5 {
            event_loop.run_once(None);
            assert_eq!(fired.get(), n, "5 of 5");
        }
        (&ours).read_exact(&mut [0; 1]).unwrap();
        // A call that was already queued may come; then there is silence.
        turn(event_loop, 1);
        let drained = fired.get();
        turn(event_loop, 5);
        assert_eq!(fired.get(), drained, "drained");
        theirs.write_all(b"y").unwrap();
        event_loop.run_once(None);
        assert_eq!(fired.get(), drained + 1, "and again");
    });
}

#[test]
fn s3_27_readiness_from_before_add_reader_counts() {
    on_a_loop(|event_loop| {
        let ((ours, mut theirs), fired) = (pair(), Rc::new(Cell::new(0)));
        theirs.write_all(b"x").unwrap();
        event_loop.add_reader(&ours, counting(&fired)).unwrap();
        event_loop.run_once(None);
        assert_eq!(fired.get(), 1);
    });
}

#[test]
fn s3_27_a_reader_that_takes_a_byte_a_time_is_called_for_each() {
    on_a_loop(|event_loop| {
        let ((ours, mut theirs), got) = (pair(), Rc::new(RefCell::new(Vec::new())));
        let (source, sink) = (ours.try_clone().unwrap(), got.clone());
        event_loop
            .add_reader(&ours, move || {
                let mut byte = [0; 1];
                if (&source).read(&mut byte).is_ok_and(|n| n == 1) {
                    sink.borrow_mut().push(byte[0])
                }
            })
            .unwrap();
        theirs.write_all(b"abc").unwrap();
        for _ in 0..3 {
            event_loop.run_once(None)
        }
        assert_eq!(*got.borrow(), b"abc", "one call per turn, none lost");
        turn(event_loop, 3);
        assert_eq!(*got.borrow(), b"abc");
    });
}

#[test]
fn s3_27_a_writer_is_called_every_turn_until_removed() {
    on_a_loop(|event_loop| {
        let ((ours, _theirs), fired) = (pair(), Rc::new(Cell::new(0)));
        event_loop.add_writer(&ours, counting(&fired)).unwrap();
        for n in 1..=5 {
            event_loop.run_once(None);
            assert_eq!(fired.get(), n);
        }
        assert!(event_loop.remove_writer(&ours));
        turn(event_loop, 3);
        assert_eq!(fired.get(), 5, "not once after removal");
    });
}

#[test]
fn s3_27_a_full_socket_calls_its_writer_only_when_there_is_room_again() {
    on_a_loop(|event_loop| {
        let ((mut ours, mut theirs), fired) = (pair(), Rc::new(Cell::new(0)));
        while ours.write(&[0; 4096]).is_ok() {}
        event_loop.add_writer(&ours, counting(&fired)).unwrap();
        turn(event_loop, 4);
        assert_eq!(fired.get(), 0);
        while theirs.read(&mut [0; 65536]).is_ok() {}
        event_loop.run_once(None);
        assert_eq!(fired.get(), 1);
    });
}

#[test]
fn s3_26_a_second_reader_replaces_the_first_and_drops_it() {
    on_a_loop(|event_loop| {
        let ((ours, mut theirs), probe) = (pair(), DropProbe::new());
        let (old, new) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (guard, count) = (probe.guard(), old.clone());
        event_loop
            .add_reader(&ours, move || {
                let _guard = &guard;
                count.set(count.get() + 1)
            })
            .unwrap();
        theirs.write_all(b"x").unwrap();
        event_loop.run_once(None);
        event_loop.add_reader(&ours, counting(&new)).unwrap();
        event_loop.run_once(None);
        event_loop.run_once(None);
        assert_eq!((old.get(), new.get()), (1, 2), "only the new one runs");
        assert_eq!(probe.count(), 1);
        assert!(event_loop.remove_reader(&ours), "there was one");
        assert!(!event_loop.remove_reader(&ours), "there is none");
        turn(event_loop, 2);
        assert_eq!(new.get(), 2);
    });
}

#[test]
fn s3_26_each_direction_keeps_its_own() {
    on_a_loop(|event_loop| {
        let ((ours, mut theirs), reads, writes) = (pair(), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        event_loop.add_writer(&ours, counting(&writes)).unwrap();
        event_loop.add_reader(&ours, counting(&reads)).unwrap();
        theirs.write_all(b"x").unwrap();
        event_loop.run_once(None);
        assert_eq!((reads.get(), writes.get()), (1, 1));
        event_loop.add_reader(&ours, counting(&reads)).unwrap();
        event_loop.run_once(None);
        assert_eq!((reads.get(), writes.get()), (2, 2), "the writer survives the reader's replacement");
        assert!(event_loop.remove_reader(&ours));
        event_loop.run_once(None);
        assert_eq!((reads.get(), writes.get()), (2, 3), "and its removal");
        event_loop.add_reader(&ours, counting(&reads)).unwrap();
        assert!(event_loop.remove_writer(&ours));
        event_loop.run_once(None);
        assert_eq!((reads.get(), writes.get()), (3, 3), "and the other way round");
        assert!(!event_loop.remove_writer(&ours) && event_loop.remove_reader(&ours));
    });
}

#[test]
fn s3_19_read_comes_before_write_of_one_descriptor() {
    on_a_loop(|event_loop| {
        let ((ours, mut theirs), log) = (pair(), Rc::new(RefCell::new(Vec::new())));
        let (reader, writer) = (log.clone(), log.clone());
        event_loop.add_writer(&ours, move || writer.borrow_mut().push('w')).unwrap();
        event_loop.add_reader(&ours, move || reader.borrow_mut().push('r')).unwrap();
        theirs.write_all(b"x").unwrap();
        for _ in 0..3 {
            event_loop.run_once(None)
        }
        assert_eq!(*log.borrow(), ['r', 'w', 'r', 'w', 'r', 'w']);
    });
}

#[test]
fn s3_19_a_reader_removed_in_the_same_turn_does_not_run() {
    on_a_loop(|event_loop| {
        // Both are ready and queued; whichever runs first removes the other.
        let (pairs, fired) = (Rc::new([pair(), pair()]), Rc::new(Cell::new(0)));
        for i in 0..2 {
            let (fired, inner, others) = (fired.clone(), event_loop.clone(), pairs.clone());
            event_loop
                .add_reader(&pairs[i].0, move || {
                    fired.set(fired.get() + 1);
                    assert!(inner.remove_reader(&others[1 - i].0));
                })
                .unwrap();
        }
        for (_, theirs) in pairs.iter() {
            { theirs }.write_all(b"x").unwrap()
        }
        event_loop.run_once(None);
        assert_eq!(fired.get(), 1, "the second was cancelled before its turn came");
        turn(event_loop, 2);
        assert_eq!(fired.get(), 3, "the first lives on");
    });
}

#[test]
fn s3_26_a_reader_may_remove_or_replace_itself() {
    on_a_loop(|event_loop| {
        let (sockets, probe) = (Rc::new(pair()), DropProbe::new());
        let (first, second) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (inner, own, guard) = (event_loop.clone(), sockets.clone(), probe.guard());
        let (count, successor) = (first.clone(), second.clone());
        event_loop
            .add_reader(&sockets.0, move || {
                let _guard = &guard;
                count.set(count.get() + 1);
                let (successor, event_loop, this) = (successor.clone(), inner.clone(), own.clone());
                inner
                    .add_reader(&own.0, move || {
                        successor.set(successor.get() + 1);
                        assert!(event_loop.remove_reader(&this.0));
                        assert!(!event_loop.remove_reader(&this.0));
                    })
                    .unwrap();
                assert_eq!(count.get(), 1, "it is alive while it runs, though replaced");
            })
            .unwrap();
        { &sockets.1 }.write_all(b"x").unwrap();
        turn(event_loop, 6);
        assert_eq!((first.get(), second.get(), probe.count()), (1, 1, 1));
    });
}

#[test]
fn s3_25_a_panicking_reader_stays_and_the_loop_lives() {
    with_timeout(|| {
        let reports = Reports::new();
        let rt = Runtime::builder().worker_threads(1).exception_handler(reports.handler()).build().unwrap();
        let (ours, mut theirs) = pair();
        let fired = Rc::new(Cell::new(0));
        rt.block_on(async {
            let count = fired.clone();
            EventLoop::current()
                .add_reader(&ours, move || {
                    count.set(count.get() + 1);
                    assert!(count.get() != 1, "in a reader");
                })
                .unwrap();
            theirs.write_all(b"x").unwrap();
            eventually_async("called again after its panic", || fired.get() >= 3).await;
            assert!(EventLoop::current().remove_reader(&ours));
        });
        assert_eq!(reports.of_panic("in a reader"), 1);
    });
}

#[test]
fn s3_27_the_peers_end_is_a_readiness() {
    on_a_loop(|event_loop| {
        let ((ours, theirs), reads, writes) = (pair(), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        event_loop.add_reader(&ours, counting(&reads)).unwrap();
        drop(theirs);
        for n in 1..=3 {
            event_loop.run_once(None);
            assert_eq!(reads.get(), n, "end of file is level-triggered too");
        }
        assert!(event_loop.remove_reader(&ours));
        event_loop.add_writer(&ours, counting(&writes)).unwrap();
        event_loop.run_once(None);
        assert_eq!(writes.get(), 1, "a broken pipe is for the writer to find");
    });
}

#[test]
fn s3_25_any_kind_of_pollable_descriptor_works() {
    on_a_loop(|event_loop| {
        let fired = Rc::new(Cell::new(0));
        // A pipe.
        let (reader, mut writer) = std::io::pipe().unwrap();
        event_loop.add_reader(&reader, counting(&fired)).unwrap();
        writer.write_all(b"x").unwrap();
        event_loop.run_once(None);
        assert_eq!(fired.get(), 1);
        assert!(event_loop.remove_reader(&reader));
        // A datagram socket.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        event_loop.add_reader(&socket, counting(&fired)).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", socket.local_addr().unwrap()).unwrap();
        event_loop.run_once(None);
        assert_eq!(fired.get(), 2);
        assert!(event_loop.remove_reader(&socket));
        // A listener and what it accepts.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        event_loop.add_reader(&listener, counting(&fired)).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        event_loop.run_once(None);
        assert_eq!(fired.get(), 3);
        assert!(event_loop.remove_reader(&listener));
        let (server, _) = listener.accept().unwrap();
        event_loop.add_reader(&server, counting(&fired)).unwrap();
        client.write_all(b"x").unwrap();
        event_loop.run_once(None);
        assert_eq!(fired.get(), 4);
        assert!(event_loop.remove_reader(&server));
    });
}

#[test]
fn s3_25_what_cannot_be_polled_is_an_error() {
    on_a_loop(|event_loop| {
        let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(event_loop.add_reader(&file, || ()).is_err(), "a regular file");
        assert!(event_loop.add_writer(&file, || ()).is_err());
        assert!(!event_loop.remove_reader(&file) && !event_loop.remove_writer(&file));
        // Not a descriptor at all: what a closed one is to the system.
        assert!(event_loop.add_reader(rustix::fs::CWD, || ()).is_err());
        assert!(!event_loop.remove_reader(rustix::fs::CWD));
    });
}

#[test]
fn s3_25_a_refused_reader_is_dropped() {
    on_a_loop(|event_loop| {
        let (probe, file) = (DropProbe::new(), std::fs::File::open(std::env::current_exe().unwrap()).unwrap());
        let guard = probe.guard();
        assert!(
            event_loop
                .add_reader(&file, move || {
                    let _guard = &guard;
                })
                .is_err()
        );
        assert_eq!(probe.count(), 1);
    });
}

/// A copy of `socket` under a number of our choice, so that a closed number can be given to a successor.
fn under_number(socket: &UnixStream, number: i32) -> OwnedFd {
    let copy = rustix::io::fcntl_dupfd_cloexec(socket, number).unwrap();
    assert_eq!(copy.as_raw_fd(), number, "the number was free");
    copy
}

/// A socket that was watched under `number`, which is closed now, while the copy that is returned keeps the socket alive; and its
/// peer.
fn closed_with_a_copy(event_loop: &EventLoop, number: i32, fired: &Rc<Cell<usize>>) -> (UnixStream, UnixStream) {
    let (ours, theirs) = pair();
    let first = under_number(&ours, number);
    event_loop.add_reader(&first, counting(fired)).unwrap();
    drop(first);
    (ours, theirs)
}

#[test]
fn s3_26_a_closed_descriptors_reader_never_fires_for_its_successor() {
    on_a_loop(|event_loop| {
        const NUMBER: i32 = 871;
        let (old, new) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (ours, theirs) = pair();
        let first = under_number(&ours, NUMBER);
        drop(ours);
        event_loop.add_reader(&first, counting(&old)).unwrap();
        event_loop.add_writer(&first, || ()).unwrap();
        drop((first, theirs)); // closed without remove_reader
        let (ours, mut theirs) = pair();
        let second = under_number(&ours, NUMBER);
        drop(ours);
        theirs.write_all(b"x").unwrap();
        turn(event_loop, 3);
        assert_eq!(old.get(), 0, "the registration died with its descriptor");
        // The next add on that number works.
        event_loop.add_reader(&second, counting(&new)).unwrap();
        for n in 1..=3 {
            event_loop.run_once(None);
            assert_eq!((old.get(), new.get()), (0, n));
        }
        assert!(event_loop.remove_reader(&second));
        turn(event_loop, 2);
        assert_eq!((old.get(), new.get()), (0, 3));
    });
}

#[test]
fn s3_26_a_closed_descriptors_number_can_be_removed_and_used_again() {
    on_a_loop(|event_loop| {
        const NUMBER: i32 = 873;
        let fired = Rc::new(Cell::new(0));
        for _ in 0..20 {
            let (ours, _theirs) = pair();
            let first = under_number(&ours, NUMBER);
            drop(ours);
            event_loop.add_reader(&first, || ()).unwrap();
            drop(first);
            let (ours, mut theirs) = pair();
            let second = under_number(&ours, NUMBER);
            drop(ours);
            event_loop.remove_reader(&second); // its own or its predecessor's: no error, no panic
            assert!(!event_loop.remove_reader(&second));
            let before = fired.get();
            event_loop.add_reader(&second, counting(&fired)).unwrap();
            theirs.write_all(b"x").unwrap();
            event_loop.run_once(None);
            assert_eq!(fired.get(), before + 1);
            assert!(event_loop.remove_reader(&second));
        }
    });
}

#[test]
fn s3_26_a_closed_descriptor_that_lives_on_elsewhere_does_not_mislead_the_loop() {
    on_a_loop(|event_loop| {
        // The number is closed, but a copy keeps the socket alive: the kernel still reports it under the old key.
        const NUMBER: i32 = 875;
        let (old, new) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (ours, mut theirs) = closed_with_a_copy(event_loop, NUMBER, &old);
        let (other, mut peer) = pair();
        let second = under_number(&other, NUMBER);
        event_loop.add_reader(&second, counting(&new)).unwrap();
        peer.write_all(b"x").unwrap();
        event_loop.run_once(None);
        assert_eq!((old.get(), new.get()), (0, 1));
        theirs.write_all(b"x").unwrap(); // an event of the survivor
        turn(event_loop, 3);
        assert_eq!(old.get(), 0);
        assert!(event_loop.remove_reader(&second));
        let after = new.get();
        turn(event_loop, 3);
        assert_eq!((old.get(), new.get()), (0, after));
        drop(ours);
    });
}

#[test]
fn s3_26_r37_what_is_reported_of_a_closed_descriptor_does_not_keep_the_loop_awake() {
    on_a_loop(|event_loop| {
        const NUMBER: i32 = 877;
        let (old, new) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        let (ours, mut theirs) = closed_with_a_copy(event_loop, NUMBER, &old);
        let (other, mut peer) = pair();
        let second = under_number(&other, NUMBER);
        // Readable through the copy, under a number that is another's by now.
        theirs.write_all(b"x").unwrap();
        turn(event_loop, 3);
        assert_eq!(old.get(), 0, "its number is a stranger's");
        event_loop.add_reader(&second, counting(&new)).unwrap();
        peer.write_all(b"x").unwrap();
        event_loop.run_once(None);
        assert!(event_loop.remove_reader(&second));
        assert_eq!((old.get(), new.get()), (0, 1));
        // Nothing is watched any more, and still there is something to be read through the copy.
        let waits = |times: u32| {
            let began = std::time::Instant::now();
            (0..times).for_each(|_| event_loop.run_once(Some(5 * MS)));
            began.elapsed()
        };
        assert!(waits(20) >= 60 * MS, "the loop does not rest");
        drop(ours);
    });
}

#[test]
fn n16_a_descriptor_of_a_transport_cannot_be_added() {
    with_timeout(|| {
        let rt = Runtime::builder().worker_threads(1).build().unwrap();
        rt.block_on(async {
            let (ours, mut theirs) = common::socket_pair();
            let error = EventLoop::current().add_reader(&ours, || ()).expect_err("the stream has it registered");
            assert!(!error.to_string().is_empty());
            // And the stream is none the worse.
            theirs.write_all(b"x").unwrap();
            let mut ours = ours;
            assert_eq!(epicycle::io::AsyncReadExt::read(&mut ours, &mut [0; 4]).await.unwrap(), 1);
        });
    });
}

#[test]
fn s3_20_many_ready_readers_each_run_once_a_turn() {
    on_a_loop(|event_loop| {
        const PAIRS: usize = 150;
        let pairs: Vec<_> = (0..PAIRS).map(|_| pair()).collect();
        let counts: Vec<_> = pairs
            .iter()
            .map(|(ours, theirs)| {
                let count = Rc::new(Cell::new(0));
                event_loop.add_reader(ours, counting(&count)).unwrap();
                { theirs }.write_all(b"x").unwrap();
                count
            })
            .collect();
        let turns = common::Turns::start(event_loop);
        for _ in 0..10 {
            event_loop.run_once(None)
        }
        for count in &counts {
            assert!(
                count.get() <= turns.count() && count.get() >= turns.count() - 2,
                "{} calls in {} turns",
                count.get(),
                turns.count()
            );
        }
    });
}

#[test]
fn c04_a_replaced_reader_that_is_queued_does_not_run() {
    on_a_loop(|event_loop| {
        // A callback, queued before the I/O, replaces the reader whose event comes in the same turn.
        let (sockets, old, new) = (Rc::new(pair()), Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
        event_loop.add_reader(&sockets.0, counting(&old)).unwrap();
        { &sockets.1 }.write_all(b"x").unwrap();
        let (inner, own, successor) = (event_loop.clone(), sockets.clone(), new.clone());
        event_loop.call_soon(move || inner.add_reader(&own.0, counting(&successor)).unwrap());
        event_loop.run_once(None);
        assert_eq!(old.get(), 0, "cancelled while it was queued");
        event_loop.run_once(None);
        assert_eq!((old.get(), new.get()), (0, 1));
    });
}

common::flavours! {
    fn c04_readers_run_on_their_loops_own_thread(rt: Runtime) {
        // One reader on each loop, all fed from outside, while the loops also get stuck one after the other.
        let stop = Arc::new(AtomicUsize::new(0));
        let wrong = Arc::new(AtomicUsize::new(0));
        let calls: Vec<_> = rt.loops().iter().map(|_| Arc::new(AtomicUsize::new(0))).collect();
        rt.block_on(async {
            let mut tasks = Vec::new();
            let mut feeders = Vec::new();
            for (event_loop, calls) in rt.loops().iter().zip(&calls) {
                let (ours, theirs) = pair();
                let (calls, wrong, stop) = (calls.clone(), wrong.clone(), stop.clone());
                tasks.push(event_loop.spawn_local(move || async move {
                    let home = thread::current().id();
                    let source = ours.try_clone().unwrap();
                    EventLoop::current().add_reader(&ours, move || {
                        if thread::current().id() != home { wrong.fetch_add(1, SeqCst); }
                        let n = (&source).read(&mut [0; 16]).unwrap_or(0);
                        calls.fetch_add(n, SeqCst);
                        thread::sleep(MS); // stuck for a while: an adopter may look at the selector, never run this
                    }).unwrap();
                    while stop.load(SeqCst) == 0 { epicycle::time::sleep(2 * MS).await }
                    assert!(EventLoop::current().remove_reader(&ours));
                }));
                feeders.push(theirs);
            }
            for round in 1..=20 {
                for feeder in &feeders { { feeder }.write_all(b"x").unwrap() }
                eventually_async("every reader got its byte", || calls.iter().all(|calls| calls.load(SeqCst) >= round)).await;
            }
            stop.store(1, SeqCst);
            for task in tasks { task.await.unwrap() }
        });
        assert_eq!(wrong.load(SeqCst), 0);
    }

    fn c04_readers_of_a_stuck_loop_wait_for_it_and_are_not_lost(rt: Runtime) {
        let Some(last) = rt.loops().get(1) else { return };
        let (ours, mut theirs) = pair();
        let (armed, gate, threads) = (Gate::new(), Gate::new(), Arc::new(Mutex::new(Vec::new())));
        let _open = gate.open_on_drop();
        let (ready, release, log) = (armed.clone(), gate.clone(), threads.clone());
        let home = Arc::new(Mutex::new(None));
        let slot = home.clone();
        last.spawn_local(move || async move {
            *slot.lock().unwrap() = Some(thread::current().id());
            let source = ours.try_clone().unwrap();
            EventLoop::current().add_reader(&ours, move || {
                let _ = (&source).read(&mut [0; 16]);
                log.lock().unwrap().push(thread::current().id());
            }).unwrap();
            yield_now().await;
            ready.open();
            release.wait(); // the whole thread
            std::future::pending::<()>().await;
            drop(ours);
        });
        armed.wait();
        theirs.write_all(b"x").unwrap();
        thread::sleep(50 * MS); // the others adopt the stuck loop and poll its selector meanwhile
        assert!(threads.lock().unwrap().is_empty(), "a reader runs on its own loop only");
        gate.open();
        eventually("the reader runs after all", || !threads.lock().unwrap().is_empty());
        assert_eq!(threads.lock().unwrap()[0], home.lock().unwrap().unwrap());
    }

    fn s0_11_readers_are_served_while_the_loop_sleeps(rt: Runtime) {
        rt.block_on(async {
            let ((ours, mut theirs), got) = (pair(), Rc::new(Cell::new(0)));
            let (source, count) = (ours.try_clone().unwrap(), got.clone());
            EventLoop::current().add_reader(&ours, move || count.set(count.get() + (&source).read(&mut [0; 1]).unwrap_or(0))).unwrap();
            let writer = thread::spawn(move || { for _ in 0..20 { thread::sleep(MS); theirs.write_all(b"x").unwrap() } theirs });
            // Pending until the reader has it all; nothing else wakes the loop.
            eventually_async("twenty bytes", || got.get() == 20).await;
            writer.join().unwrap();
            assert!(EventLoop::current().remove_reader(&ours));
        });
    }
}
