//! `cargo run --release --example seeds -- [workers | hello | mock-sleep | executor | by-hand | inputs | http]`
//!
//! The small programs of the documents that this crate began from, each an exercise about asyncio: three workers that sleep side
//! by side, two that greet, ten naps in a row, a queue before an executor; and what one of them left to its readers: a task made by
//! hand from a future and a loop, what can be awaited, and a selector under HTTP. Without an argument all of them run.
//!
//! *Invariant*: a program says the same lines in the same order as in asyncio, since it has one loop. *Threads*: the main one;
//! `executor` has one more for its jobs and `http` one that asks. *Ordering*: the engine's.

use std::cell::Cell;
use std::future::{Future, IntoFuture, ready};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use epicycle::future::{ReturnWhen, gather_tasks};
use epicycle::sync::Queue;
use epicycle::time::sleep;
use epicycle::{EventLoop, LoopHandle, Promise, Runtime, gather, run_in_executor, spawn, wait};

/// Where the lines go.
pub type Say = Arc<dyn Fn(String) + Send + Sync>;

// ---------------------------------------------------------------------------------------------------- three workers

/// Three workers that sleep 1, 2 and 3 units. They are done after 3, not after 6.
pub async fn workers(unit: Duration, say: Say) {
    let tasks: Vec<_> = (1..=3).map(|x| spawn(do_some_work(x, unit, say.clone()))).collect();
    let (done, pending) = wait(tasks, ReturnWhen::AllCompleted).await;
    assert_eq!((done.len(), pending.len()), (3, 0));
}

async fn do_some_work(x: u32, unit: Duration, say: Say) {
    say(format!("Waiting: {x}"));
    long_time_work(x, unit, say).await;
}

async fn long_time_work(x: u32, unit: Duration, say: Say) {
    say("long time work".into());
    sleep(x * unit).await;
    say("long time work End".into());
}

// ---------------------------------------------------------------------------------------------------- two greetings

/// Two that greet, sleep, and greet again: while one sleeps, the thread is the other's.
pub async fn two_hellos(unit: Duration, say: Say) {
    let tasks = [spawn(hello(unit, say.clone())), spawn(hello(unit, say))];
    let (done, _) = wait(tasks, ReturnWhen::AllCompleted).await;
    assert_eq!(done.len(), 2);
}

async fn hello(unit: Duration, say: Say) {
    say(format!("Hello world! ({:?})", thread::current().id()));
    sleep(unit).await;
    say(format!("Hello again! ({:?})", thread::current().id()));
}

// ---------------------------------------------------------------------------------------------------- ten naps

/// Ten sleeps in a row: each suspends the task, and its timer makes it ready again.
pub async fn mock_sleep(unit: Duration, say: Say) {
    for i in 0..10 {
        say(format!(">>>> run {i}"));
        sleep(unit).await;
    }
}

// ---------------------------------------------------------------------------------------------------- queue, executor

/// Numbers go through a queue to somebody who has them squared by the executor. Gives the squares.
pub async fn squares(say: Say) -> Vec<u64> {
    let numbers = Arc::new(Queue::new(1));
    let (puts, says) = (numbers.clone(), say.clone());
    let producer = async move {
        for number in 1..=3_u64 {
            puts.put(number).await.expect("nobody shuts the queue but this task");
            says(format!("put {number}"));
        }
        puts.shutdown(false);
        Vec::new()
    };
    let consumer = async move {
        let mut squares = Vec::new();
        // Waits while the queue is empty, and ends when it is shut down.
        while let Ok(number) = numbers.get().await {
            // On a thread of its own; the loop runs on meanwhile.
            let square = run_in_executor(move || number * number).await.expect("it does not overflow");
            say(format!("{number} squared is {square}"));
            squares.push(square);
        }
        squares
    };
    let both: [Pin<Box<dyn Future<Output = Vec<u64>> + Send>>; 2] = [Box::pin(producer), Box::pin(consumer)];
    gather(both).await.expect("neither panics").concat()
}

// ---------------------------------------------------------------------------------------------------- a task by hand

/// A task, made of what a loop offers to everybody: `call_soon` for the first step, and for each wake one more. What asyncio's
/// `Task` is made of: `_step`, `_wakeup`, and the future that holds the result.
pub struct ByHand<T> {
    future: Mutex<Option<Pin<Box<dyn Future<Output = T> + Send>>>>,
    result: Promise<T>,
    home: LoopHandle,
}

impl<T: Send + 'static> ByHand<T> {
    /// Schedules the first step, and gives the promise of the result.
    pub fn spawn(event_loop: &EventLoop, future: impl Future<Output = T> + Send + 'static) -> Promise<T> {
        let result = event_loop.create_future();
        let future = Mutex::new(Some(Box::pin(future) as Pin<Box<_>>));
        let task = Arc::new(ByHand { future, result: result.clone(), home: event_loop.handle() });
        event_loop.call_soon(move || task.step());
        result
    }

    /// Runs the future to its next suspension. Always on the loop's thread.
    fn step(self: Arc<Self>) {
        let Some(mut future) = self.future.lock().expect("no step panicked").take() else {
            return; // A wake that came after the end.
        };
        let wakeup = Waker::from(self.clone());
        match future.as_mut().poll(&mut Context::from_waker(&wakeup)) {
            // Whoever is waited for has `wakeup` now.
            Poll::Pending => *self.future.lock().expect("no step panicked") = Some(future),
            // If everybody who wanted the result is gone or has cancelled it, there is nobody to tell.
            Poll::Ready(value) => drop(self.result.set_result(value)),
        }
    }
}

impl<T: Send + 'static> Wake for ByHand<T> {
    /// Never runs the task: it schedules a step.
    fn wake(self: Arc<Self>) {
        let home = self.home.clone();
        home.call_soon_threadsafe(move || self.step());
    }
}

/// A sleep, by hand: a future, and a timer that sets it.
pub fn nap(event_loop: &EventLoop, delay: Duration) -> Promise<()> {
    let woken = event_loop.create_future();
    let set = woken.clone();
    // An error says that the nap was cancelled meanwhile: then there is nothing to set.
    event_loop.call_later(delay, move || _ = set.set_result(()));
    woken
}

/// Two tasks by hand; one waits for a nap, the other for the one.
pub fn by_hand(unit: Duration, say: Say) -> u32 {
    let event_loop = EventLoop::new().expect("a loop");
    let pause = nap(&event_loop, unit);
    let (one, two) = (say.clone(), say);
    let first = ByHand::spawn(&event_loop, async move {
        one("the first waits for a nap".into());
        pause.await.expect("the nap is not cancelled");
        one("the first goes on".into());
        20
    });
    let second = ByHand::spawn(&event_loop, async move {
        two("the second waits for the first".into());
        let value = first.await.expect("the first ends");
        two("the second goes on".into());
        value + 1
    });
    let result = event_loop.run_until_complete(second).expect("nobody stops the loop");
    event_loop.close();
    result.expect("the second ends")
}

// ---------------------------------------------------------------------------------------------------- what can be awaited

/// Whatever becomes a future can be spawned, awaited and gathered: asyncio's `ensure_future`, decided by the compiler.
pub struct Order(pub u32);

impl IntoFuture for Order {
    type Output = u32;
    type IntoFuture = std::future::Ready<u32>;

    fn into_future(self) -> Self::IntoFuture {
        ready(self.0)
    }
}

/// One of each kind: an async block, a boxed future, something with `__await__`, a promise, a task. Gives their values.
pub async fn inputs() -> Vec<u32> {
    let boxed: Pin<Box<dyn Future<Output = u32> + Send>> = Box::pin(ready(2));
    let promise = Promise::new();
    promise.set_result(4).expect("it is pending");
    let values = gather([spawn(async { 1 }), spawn(boxed)]).await.expect("no panic");
    let [Ok(first), Ok(second)] = values[..] else { panic!("neither fails") };
    let third = epicycle::timeout(Duration::from_secs(60), Order(3)).await.expect("in time");
    let fourth = promise.await.expect("it is set");
    // A task is taken as it is, not wrapped in another one.
    let task = spawn(async { 5 });
    let number = task.id();
    let (mut done, _) = wait([task], ReturnWhen::AllCompleted).await;
    assert_eq!(done[0].id(), number);
    let fifth = gather_tasks(done.drain(..)).await.expect("no panic")[0];
    vec![first, second, third, fourth, fifth]
}

// ---------------------------------------------------------------------------------------------------- a selector under HTTP

/// Serves HTTP until `requests` have been answered, with nothing but callbacks of a selector: `add_reader` on the listener, on
/// each connection, and `add_writer` for the answer. Calls `listening` with its address first.
pub fn http(requests: usize, listening: impl FnOnce(SocketAddr), say: Say) -> io::Result<()> {
    let event_loop = EventLoop::new()?;
    let listener = Rc::new(TcpListener::bind("127.0.0.1:0")?);
    listener.set_nonblocking(true)?;
    listening(listener.local_addr()?);
    let left = Rc::new(Cell::new(requests));
    let accepts = event_loop.clone();
    let accept = {
        let listener = listener.clone();
        move || {
            // The selector is level-triggered: whoever is not accepted now is told of again.
            if let Ok((connection, _)) = listener.accept() {
                answer(&accepts, connection, left.clone(), say.clone()).expect("a connection can be watched");
            }
        }
    };
    event_loop.add_reader(&*listener, accept)?;
    event_loop.run_forever();
    event_loop.remove_reader(&*listener);
    event_loop.close();
    Ok(())
}

fn answer(event_loop: &EventLoop, connection: TcpStream, left: Rc<Cell<usize>>, say: Say) -> io::Result<()> {
    connection.set_nonblocking(true)?;
    let connection = Rc::new(connection);
    let (reading, reads) = (connection.clone(), event_loop.clone());
    let mut request = Vec::new();
    event_loop.add_reader(&*connection, move || {
        let mut part = [0; 1024];
        match (&*reading).read(&mut part) {
            Ok(0) => _ = reads.remove_reader(&*reading),
            Ok(n) => request.extend_from_slice(&part[..n]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => _ = reads.remove_reader(&*reading),
        }
        if !request.ends_with(b"\r\n\r\n") {
            return;
        }
        reads.remove_reader(&*reading);
        let first_line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
        say(first_line.clone());
        let body = format!("you asked: {first_line}\n");
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        send(&reads, reading.clone(), head + &body, left.clone());
    })
}

/// Writes as the socket has room; then lets go of it, and so closes it; stops the loop after the last answer.
fn send(event_loop: &EventLoop, connection: Rc<TcpStream>, text: String, left: Rc<Cell<usize>>) {
    let (writing, writes, mut sent) = (connection.clone(), event_loop.clone(), 0);
    let write = move || {
        match (&*writing).write(&text.as_bytes()[sent..]) {
            Ok(n) => sent += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => sent = text.len(),
        }
        if sent == text.len() {
            // It goes before the descriptor is closed.
            writes.remove_writer(&*writing);
            left.set(left.get() - 1);
            if left.get() == 0 {
                writes.stop();
            }
        }
    };
    event_loop.add_writer(&*connection, write).expect("a connection can be watched");
}

/// Asks for `path`, blocking, and gives the whole answer.
pub fn ask(address: SocketAddr, path: &str) -> io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

// ----------------------------------------------------------------------------------------------------

#[allow(dead_code)] // The tests have these programs in a module.
fn main() -> io::Result<()> {
    let unit = Duration::from_millis(100);
    let say = || -> Say { Arc::new(|line| println!("{line}")) };
    let rt = Runtime::builder().worker_threads(1).build()?;
    let mut programs: Vec<String> = std::env::args().skip(1).collect();
    if programs.is_empty() {
        programs = "workers hello mock-sleep executor by-hand inputs http".split(' ').map(str::to_owned).collect();
    }
    for program in programs {
        println!("== {program}");
        match &*program {
            "workers" => rt.block_on(workers(unit, say())),
            "hello" => rt.block_on(two_hellos(unit, say())),
            "mock-sleep" => rt.block_on(mock_sleep(unit, say())),
            "executor" => println!("{:?}", rt.block_on(squares(say()))),
            "by-hand" => println!("{}", by_hand(unit, say())),
            "inputs" => println!("{:?}", rt.block_on(inputs())),
            "http" => {
                let (told, address) = mpsc::channel();
                let client = thread::spawn(move || ask(address.recv().expect("an address"), "/"));
                http(1, |address| told.send(address).expect("a client"), say())?;
                print!("{}", client.join().expect("the client ends")?);
            }
            _ => return Err(io::Error::other("no such program; see the first line of the source")),
        }
    }
    Ok(())
}
