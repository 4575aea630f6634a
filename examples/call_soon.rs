//! `cargo run --release --example call_soon`
//!
//! An event loop without futures, tasks or runtime: callbacks, timers and readers, as in asyncio's low-level half. A thread
//! sends lines through a socket; the loop prints them as they come, prints a dot every 50 ms meanwhile, and stops at the
//! end of the stream.
//!
//! *Invariant*: every callback runs on the thread inside `run_forever`, one after the other. *Threads*: the loop is one
//! thread's own; its [`handle`](EventLoop::handle) is how others reach it. *Ordering*: the engine's, for that handle.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use epicycle::EventLoop;

fn main() -> io::Result<()> {
    let event_loop = EventLoop::new()?;

    // In the order of the calls, in the next turn; what a callback schedules runs in the turn after its own.
    event_loop.call_soon(|| println!("first"));
    event_loop.call_soon({
        let event_loop = event_loop.clone();
        move || {
            event_loop.call_soon(|| println!("fourth: scheduled by the second"));
            println!("second");
        }
    });
    event_loop.call_soon(|| println!("third"));
    event_loop.call_soon(|| unreachable!("cancelled in time")).cancel();

    // By time, whatever the order of the calls.
    let now = event_loop.time();
    event_loop.call_at(now + Duration::from_millis(40), || println!("after 40 ms"));
    event_loop.call_later(Duration::from_millis(20), || println!("after 20 ms"));
    let timer = event_loop.call_later(Duration::from_secs(3600), || unreachable!("cancelled in time"));
    println!("a timer for in {:?}, cancelled: {}", timer.when() - now, timer.cancel());

    dots(&event_loop);
    let (here, there) = UnixStream::pair()?;
    print_lines(&event_loop, here)?;
    let remote = event_loop.handle();
    let sender = thread::spawn(move || {
        remote.call_soon_threadsafe(|| println!("called by the other thread, run by the loop's"));
        send_lines(there)
    });

    event_loop.run_forever();
    event_loop.close();
    sender.join().expect("the sender does not panic")
}

/// Prints a dot, and again in 50 ms: a timer that arms its successor.
fn dots(event_loop: &EventLoop) {
    println!(".");
    let again = event_loop.clone();
    event_loop.call_later(Duration::from_millis(50), move || dots(&again));
}

/// Prints what comes from `stream` and stops the loop at its end.
fn print_lines(event_loop: &EventLoop, stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    // A reader belongs to a descriptor, so it is removed before that is closed. The callback keeps the socket: the same
    // one, not a clone with a descriptor of its own.
    let stream = Rc::new(stream);
    let this_loop = event_loop.clone();
    let reading = Rc::clone(&stream);
    // Called again, turn by turn, for as long as there is something to read: one read per call is enough.
    event_loop.add_reader(&*stream, move || {
        let mut buffer = [0; 64];
        match (&*reading).read(&mut buffer) {
            Ok(0) => {
                println!("the end");
                this_loop.remove_reader(&*reading);
                this_loop.stop();
            }
            Ok(length) => print!("{}", String::from_utf8_lossy(&buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("reading from a socket of our own: {error}"),
        }
    })
}

fn send_lines(mut stream: UnixStream) -> io::Result<()> {
    for number in 1..=3 {
        thread::sleep(Duration::from_millis(70));
        writeln!(stream, "line {number}")?;
    }
    Ok(())
}
