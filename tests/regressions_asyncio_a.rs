//! What a review of `sync` and `streams` with fresh eyes broke: a test for each finding, named after what was wrong.
//!
//! Each counts events; what used to hang is ended by the watchdog.

mod common;

use std::cell::Cell;
use std::cmp::Ordering;
use std::future::Future;
use std::io::{ErrorKind, Read};
use std::mem::ManuallyDrop;
use std::net::TcpStream as StdTcpStream;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::ptr;
use std::sync::{Arc, LazyLock, Weak};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::time::Duration;

use common::{CountWakes, Flavour, eventually_async, panics_with, with_timeout};
use epicycle::io::AsyncRead;
use epicycle::streams::{ServerOptions, StreamReader, StreamWriter, split, start_server};
use epicycle::sync::{PriorityQueue, Semaphore};
use epicycle::time::sleep;
use epicycle::{Runtime, yield_now};
use futures_lite::future;

const LOCAL: &str = "127.0.0.1:0";

// ---------------------------------------------------------------------------------------------------------- sync

thread_local! {
    static INCOMPARABLE: Cell<bool> = const { Cell::new(false) };
}

/// `f` panics in a comparison of `Touchy`s.
#[track_caller]
fn incomparable<R>(f: impl FnOnce() -> R) {
    INCOMPARABLE.set(true);
    panics_with("on purpose", f);
    INCOMPARABLE.set(false);
}

/// Looks at its queue when it is dropped.
struct Touchy(u8, Weak<PriorityQueue<Touchy>>);

impl Drop for Touchy {
    fn drop(&mut self) {
        self.1.upgrade().map(|queue| queue.qsize());
    }
}

impl PartialEq for Touchy {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Touchy {}

impl PartialOrd for Touchy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Touchy {
    fn cmp(&self, other: &Self) -> Ordering {
        assert!(!INCOMPARABLE.get(), "on purpose");
        self.0.cmp(&other.0)
    }
}

#[test]
fn a_put_whose_comparison_panicked_woke_no_getter() {
    with_timeout(|| {
        let queue = PriorityQueue::new(0);
        let (wakes, waker) = CountWakes::new();
        let mut cx = Context::from_waker(&waker);
        let (mut one, mut two) = (pin!(queue.get()), pin!(queue.get()));
        assert!(one.as_mut().poll(&mut cx).is_pending() && two.as_mut().poll(&mut cx).is_pending());
        queue.put_nowait(Touchy(1, Weak::new())).unwrap();
        incomparable(|| queue.put_nowait(Touchy(2, Weak::new())));
        assert_eq!((queue.qsize(), wakes.count()), (2, 2));
        assert!(one.as_mut().poll(&mut cx).is_ready() && two.as_mut().poll(&mut cx).is_ready());
    });
}

#[test]
fn a_get_whose_comparison_panicked_dropped_its_item_under_the_lock() {
    with_timeout(|| {
        let queue = Arc::new(PriorityQueue::new(0));
        let (wakes, waker) = CountWakes::new();
        let mut cx = Context::from_waker(&waker);
        let mut gets: Vec<_> = (0..5).map(|_| Box::pin(queue.get())).collect();
        assert!(gets.iter_mut().all(|get| get.as_mut().poll(&mut cx).is_pending()));
        for n in [3, 1, 2, 4] {
            queue.put_nowait(Touchy(n, Arc::downgrade(&queue))).unwrap();
        }
        assert_eq!(wakes.count(), 4);
        incomparable(|| gets[0].as_mut().poll(&mut cx));
        assert_eq!((queue.qsize(), wakes.count()), (4, 5), "nothing is lost, and the next one may have it");
        assert!(gets[1..].iter_mut().all(|get| get.as_mut().poll(&mut cx).is_ready()));
    });
}

static SEMAPHORE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(0));

/// Of a waker whose clones panic when they are dropped; making one gives the semaphore a permit.
static UNRULY: RawWakerVTable = RawWakerVTable::new(
    |_| {
        SEMAPHORE.add_permits(1).unwrap();
        RawWaker::new(ptr::null(), &UNRULY)
    },
    |_| (),
    |_| (),
    |_| panic!("in a waker's drop"),
);

#[test]
fn a_waker_that_panicked_when_dropped_cost_a_permit() {
    with_timeout(|| {
        // SAFETY: there is no data.
        let waker = ManuallyDrop::new(unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &UNRULY)) });
        let permit = match pin!(SEMAPHORE.acquire()).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(permit) => permit,
            Poll::Pending => panic!("a permit came while the waker was cloned"),
        };
        drop(permit);
        assert_eq!(SEMAPHORE.available_permits(), 1);
    });
}

// ------------------------------------------------------------------------------------------------------- servers

async fn greet(mut reader: StreamReader, writer: StreamWriter) -> std::io::Result<()> {
    writer.write(b"hello\n")?;
    reader.read(1).await.map(drop)
}

/// That `count` clients, one after the other, are greeted.
fn check_greetings<S: Read>(count: usize, mut connect: impl FnMut() -> S) {
    for _ in 0..count {
        let mut hello = [0; 6];
        connect().read_exact(&mut hello).expect("the server greets");
        assert_eq!(&hello, b"hello\n");
    }
}

fn tcp_client(addr: std::net::SocketAddr) -> StdTcpStream {
    let client = StdTcpStream::connect(addr).unwrap();
    client.set_read_timeout(Some(common::PATIENCE / 3)).unwrap();
    client
}

/// How many bytes of memory the process has; nothing is known where there is no `/proc`.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).map_or(0, |pages| pages.parse::<usize>().unwrap() * 4096)
}

common::flavours! {
    fn a_server_per_loop_left_a_quarter_of_its_clients_waiting_after_block_on(flavour: Flavour) {
        let rt = common::builder!().build().unwrap();
        let server = rt.block_on(ServerOptions::new().per_loop(true).start(greet, LOCAL)).unwrap();
        if flavour.loops() > 1 {
            let addr = server.local_addrs()[0];
            check_greetings(40, || tcp_client(addr));
            server.close();
            future::block_on(server.wait_closed());
        }
    }

    fn a_server_per_loop_that_was_started_while_loop_0_was_absent(flavour: Flavour) {
        if flavour.loops() > 1 {
            let rt = common::builder!().build().unwrap();
            let start = rt.spawn(async { ServerOptions::new().per_loop(true).start(greet, LOCAL).await });
            let server = future::block_on(start).unwrap().unwrap();
            let addr = server.local_addrs()[0];
            check_greetings(40, || tcp_client(addr));
            server.close();
            future::block_on(server.wait_closed());
        }
    }

    fn a_unix_server_was_pinned_by_per_loop(flavour: Flavour) {
        let path: PathBuf = std::env::temp_dir().join(format!("epicycle-rev-a-{}-{flavour:?}", std::process::id()));
        let rt = common::builder!().build().unwrap();
        let _server = rt.block_on(ServerOptions::new().per_loop(true).start_unix(greet, &path)).unwrap();
        if flavour.loops() > 1 {
            check_greetings(3, || {
                let client = StdUnixStream::connect(&path).unwrap();
                client.set_read_timeout(Some(common::PATIENCE / 3)).unwrap();
                client
            });
        }
    }

    fn a_server_outlived_its_runtime(rt: Runtime) {
        let server = rt.block_on(start_server(greet, LOCAL)).unwrap();
        drop(rt);
        let addr = server.local_addrs()[0];
        let error = StdTcpStream::connect(addr).expect_err("nobody will ever accept");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(!server.is_serving());
        server.close();
        future::block_on(server.wait_closed());
    }

    fn dropping_serve_forever_before_its_first_poll_did_not_close(rt: Runtime) {
        rt.block_on(async {
            let server = start_server(greet, LOCAL).await.unwrap();
            drop(server.serve_forever());
            assert!(!server.is_serving());
        });
    }

    // --------------------------------------------------------------------------------------------------- streams

    fn what_had_been_buffered_was_kept_in_memory(rt: Runtime) {
        const SIZE: usize = 64 << 20;
        rt.block_on(async {
            let (ours, theirs) = epicycle::net::UnixStream::pair().unwrap();
            let ((_incoming, writer), (mut reader, _theirs)) = (split(ours), split(theirs));
            let before = resident();
            writer.write(&vec![1; SIZE]).unwrap();
            // The first part is on its way before the second comes: they are two buffers.
            for _ in 0..10 {
                yield_now().await;
            }
            sleep(Duration::from_millis(20)).await;
            writer.write(b"more").unwrap();
            let mut left = SIZE + 4;
            while left > 0 {
                left -= reader.read(left).await.unwrap().len();
            }
            let most = before + SIZE / 2;
            eventually_async("the memory is given back", || resident() < most).await;
        });
    }

    fn reading_nothing_waited_for_something(rt: Runtime) {
        rt.block_on(async {
            struct Silent;
            impl AsyncRead for Silent {
                fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<std::io::Result<usize>> {
                    Poll::Pending
                }
            }
            let mut reader = StreamReader::new(Silent);
            let read = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut reader).poll_read(cx, &mut []))).await;
            assert!(matches!(read, Poll::Ready(Ok(0))));
        });
    }
}
