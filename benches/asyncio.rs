//! The rows of benches/asyncio/rows.py on one loop of epicycle: `cargo bench --bench asyncio -- SECONDS ROW..`.
//!
//! Prints one JSON object per row: how many operations per second. `python3 benches/asyncio/run.py` runs both and makes a table.
//! What a row does is the same here and there, hop by hop: the same batches, the same queue of one place, a real server on the
//! same loop. Without a number of seconds (as `cargo test --benches` calls it) each row runs once. Owner-only: one loop, driven
//! by the main thread; one row has a second thread that posts.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use epicycle::future::gather;
use epicycle::streams::{ReadError, StreamReader, StreamWriter, open_connection, start_server};
use epicycle::sync::Queue;
use epicycle::{EventLoop, Promise, Runtime, spawn, yield_now};

const BATCH: usize = 10_000;
const TASKS: usize = 100;
const KIB: usize = 1024;

type Row = fn() -> Pin<Box<dyn Future<Output = usize>>>;

const ROWS: [(&str, Row); 10] = [
    ("call_soon", || Box::pin(call_soon())),
    ("yield", || Box::pin(yields())),
    ("spawn_join", || Box::pin(spawn_join())),
    ("queue", || Box::pin(queue())),
    ("timer", || Box::pin(timer())),
    ("threadsafe", || Box::pin(threadsafe())),
    ("threadsafe_foreign", || Box::pin(threadsafe_foreign())),
    ("echo", || Box::pin(echo(1))),
    ("echo_20", || Box::pin(echo(20))),
    ("echo_floor", || Box::pin(async { echo_floor() })),
];

/// [`BATCH`] callbacks, of which the last one ends the waiting.
async fn call_soon() -> usize {
    let event_loop = EventLoop::current();
    let done = event_loop.create_future();
    for _ in 0..BATCH - 1 {
        event_loop.call_soon(|| {});
    }
    let set = done.clone();
    event_loop.call_soon(move || set.set_result(()).expect("set once"));
    done.await.expect("set");
    BATCH
}

/// [`TASKS`] tasks that give way to each other.
async fn yields() -> usize {
    let give_way = || async {
        for _ in 0..BATCH / TASKS {
            yield_now().await;
        }
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| spawn(give_way())).collect();
    for task in tasks {
        task.await.expect("a task ends");
    }
    BATCH
}

/// Tasks that end at once, [`TASKS`] of them at a time.
async fn spawn_join() -> usize {
    for _ in 0..BATCH / TASKS {
        let tasks: Vec<_> = (0..TASKS).map(|_| spawn(async {})).collect();
        for task in tasks {
            task.await.expect("a task ends");
        }
    }
    BATCH
}

/// Items through a queue with one place.
async fn queue() -> usize {
    let items = std::sync::Arc::new(Queue::new(1));
    let puts = items.clone();
    let producer = spawn(async move {
        for item in 0..BATCH {
            puts.put(item).await.expect("open");
        }
    });
    for item in 0..BATCH {
        assert_eq!(items.get().await.expect("open"), item);
    }
    producer.await.expect("the producer ends");
    BATCH
}

/// Timers that are armed and cancelled at once.
async fn timer() -> usize {
    let event_loop = EventLoop::current();
    for _ in 0..BATCH / TASKS {
        for _ in 0..TASKS {
            event_loop.call_later(Duration::from_secs(60), || {}).cancel();
        }
        yield_now().await;
    }
    BATCH
}

/// As [`call_soon`], by the call that any thread may make, on the loop's own thread.
async fn threadsafe() -> usize {
    let event_loop = EventLoop::current();
    let handle = event_loop.handle();
    let done: Promise<()> = event_loop.create_future();
    for _ in 0..BATCH - 1 {
        handle.call_soon_threadsafe(|| {});
    }
    let set = done.clone();
    handle.call_soon_threadsafe(move || set.set_result(()).expect("set once"));
    done.await.expect("set");
    BATCH
}

/// The same from another thread, while the loop waits.
async fn threadsafe_foreign() -> usize {
    let event_loop = EventLoop::current();
    let handle = event_loop.handle();
    let done: Promise<()> = event_loop.create_future();
    let set = done.clone();
    let thread = std::thread::spawn(move || {
        for _ in 0..BATCH - 1 {
            handle.call_soon_threadsafe(|| {});
        }
        handle.call_soon_threadsafe(move || set.set_result(()).expect("set once"));
    });
    done.await.expect("set");
    thread.join().expect("the thread ends");
    BATCH
}

/// 1 KiB there and back through a stream server on the same loop.
async fn echo(connections: usize) -> usize {
    let rounds = 2_000 / connections;
    let server = start_server(serve, "127.0.0.1:0").await.expect("a server");
    let address = server.local_addrs()[0];
    let ask = || async move {
        let message = [b'x'; KIB];
        let (mut reader, writer) = open_connection(address).await.expect("a connection");
        for _ in 0..rounds {
            writer.write(&message).expect("open");
            writer.drain().await.expect("open");
            reader.readexactly(KIB).await.expect("an answer");
        }
        writer.close();
        writer.wait_closed().await.expect("closed");
    };
    gather((0..connections).map(|_| ask())).await.expect("clients end");
    server.close();
    server.wait_closed().await;
    rounds * connections
}

async fn serve(mut reader: StreamReader, writer: StreamWriter) {
    loop {
        match reader.readexactly(KIB).await {
            Ok(data) => writer.write(&data).expect("open"),
            Err(ReadError::Incomplete(_)) => return writer.close(),
            Err(error) => panic!("{error}"),
        }
        writer.drain().await.expect("open");
    }
}

/// What the kernel takes for the same bytes: two blocking sockets, four system calls a round trip, no loop at all.
fn echo_floor() -> usize {
    const ROUNDS: usize = 2_000;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let (mut server, _) = listener.accept().expect("a connection");
    client.set_nodelay(true).expect("an option");
    server.set_nodelay(true).expect("an option");
    let mut data = [b'x'; KIB];
    for _ in 0..ROUNDS {
        client.write_all(&data).expect("open");
        server.read_exact(&mut data).expect("open");
        server.write_all(&data).expect("open");
        client.read_exact(&mut data).expect("open");
    }
    ROUNDS
}

async fn measure(row: Row, limit: Option<Duration>) -> f64 {
    if limit.is_some() {
        row().await;
    }
    let (mut operations, begun) = (0, Instant::now());
    loop {
        operations += row().await;
        let took = begun.elapsed();
        if limit.is_none_or(|limit| took >= limit) {
            return operations as f64 / took.as_secs_f64();
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench").peekable();
    let limit = arguments.next_if(|first| first.parse::<f64>().is_ok());
    let limit = limit.map(|seconds| Duration::from_secs_f64(seconds.parse().expect("a number")));
    let mut names: Vec<String> = arguments.collect();
    if names.is_empty() {
        names = ROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    }
    for name in names {
        let Some((_, row)) = ROWS.iter().find(|(key, _)| *key == name) else {
            eprintln!("there is no row {name}");
            return ExitCode::FAILURE;
        };
        let rt = Runtime::builder().worker_threads(1).build().expect("a runtime");
        let rate = rt.block_on(measure(*row, limit));
        println!("{}", serde_json::json!({ "row": name, "per_second": rate }));
    }
    ExitCode::SUCCESS
}
