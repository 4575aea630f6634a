//! The floor: an echo server that is nothing but a selector and a buffer, and a load generator of the same make.
//!
//! Both are one thread, edge-triggered, and answer each event with one read and one write. Servers under test and this
//! one are loaded by the same generator in a process of its own. Owner-only: each runs on the thread that calls it.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use super::http;
use super::jobs::{MESSAGE, Protocol};
use super::measure::{cpu_time, percentile};
use super::syscalls::{mark_begin, mark_end};

const LISTENER: Token = Token(usize::MAX);

/// Serves echo connections for ever, after telling its address.
pub fn serve(tell: impl FnOnce(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    tell(listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut conns = Slab::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept_all(&poll, &listener, &mut conns)?,
                Token(key) if conns.get_mut(key).is_some_and(|conn| !echo(conn)) => drop(conns.remove(key)),
                Token(_) => {}
            }
        }
    }
}

fn accept_all(poll: &Poll, listener: &TcpListener, conns: &mut Slab<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((conn, _)) => watch(poll, conns, conn)?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn watch(poll: &Poll, conns: &mut Slab<TcpStream>, conn: TcpStream) -> io::Result<()> {
    conn.set_nonblocking(true)?;
    conn.set_nodelay(true)?;
    let entry = conns.vacant_entry();
    poll.registry().register(&mut SourceFd(&conn.as_raw_fd()), Token(entry.key()), Interest::READABLE)?;
    entry.insert(conn);
    Ok(())
}

/// Answers one event; false when the connection is over. A read shorter than the buffer has emptied the socket.
fn echo(conn: &mut TcpStream) -> bool {
    let mut buf = [0; 1024];
    match conn.read(&mut buf) {
        Ok(0) => false,
        Ok(len) => conn.write_all(&buf[..len]).is_ok(),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

/// What the load generator found.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub requests: u64,
    pub p50_ns: f64,
    pub p99_ns: f64,
    pub p999_ns: f64,
    /// CPU time that this process, the server, spent meanwhile.
    pub server_cpu: Duration,
}

/// Starts the load generator in a process of its own and waits for its figures.
pub fn under_load(address: SocketAddr, protocol: Protocol, conns: usize, duration: Duration) -> io::Result<Load> {
    let mut generator = Command::new(std::env::current_exe()?)
        .args(["--load", &address.to_string(), "--conns", &conns.to_string()])
        .args(["--millis", &duration.as_millis().to_string()])
        .args(matches!(protocol, Protocol::Http).then_some("--http"))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(generator.stdout.take().expect("the pipe was asked for")).lines();
    let mut line = || lines.next().unwrap_or_else(|| Err(ErrorKind::UnexpectedEof.into()));
    line()?;
    let before = cpu_time();
    mark_begin();
    let figures = line()?;
    let figures: Vec<f64> = figures.split(' ').map(|word| word.parse().unwrap_or(f64::NAN)).collect();
    mark_end(figures[0] as u64);
    let server_cpu = cpu_time() - before;
    generator.wait()?;
    let [requests, p50_ns, p99_ns, p999_ns] = figures[..] else {
        return Err(io::Error::other("the load generator's answer makes no sense"));
    };
    Ok(Load { requests: requests as u64, p50_ns, p99_ns, p999_ns, server_cpu })
}

struct Asker {
    conn: TcpStream,
    asked: Instant,
    request: &'static [u8],
    /// Bytes of an answer; all are alike.
    wanted: usize,
    got: usize,
}

/// The load generator's main: every connection asks again as soon as it is answered.
pub fn generate(address: SocketAddr, protocol: Protocol, conns: usize, duration: Duration) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut askers = Vec::with_capacity(conns);
    for index in 0..conns {
        let asker = Asker::connect(address, protocol)?;
        poll.registry().register(&mut SourceFd(&asker.conn.as_raw_fd()), Token(index), Interest::READABLE)?;
        askers.push(asker);
    }
    for asker in &mut askers {
        asker.ask()?;
    }
    run(&mut poll, &mut askers, duration / 10)?;
    println!("go");
    let mut latencies = run(&mut poll, &mut askers, duration)?;
    latencies.sort_unstable();
    let at = |rank| percentile(&latencies, rank).unwrap_or(0);
    println!("{} {} {} {}", latencies.len(), at(0.5), at(0.99), at(0.999));
    Ok(())
}

fn run(poll: &mut Poll, askers: &mut [Asker], duration: Duration) -> io::Result<Vec<u64>> {
    let end = Instant::now() + duration;
    let mut events = Events::with_capacity(1024);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_millis(10)))?;
        for event in &events {
            let asker = &mut askers[event.token().0];
            if let Some(latency) = asker.receive()? {
                latencies.push(latency);
                asker.ask()?;
            }
        }
    }
    Ok(latencies)
}

impl Asker {
    /// Asks once, blocking: the server is then known to serve this connection, and how long its answers are.
    fn connect(address: SocketAddr, protocol: Protocol) -> io::Result<Asker> {
        let request: &[u8] = match protocol {
            Protocol::Echo => &[b'?'; MESSAGE],
            Protocol::Http => http::REQUEST,
        };
        let mut conn = TcpStream::connect(address)?;
        conn.set_nodelay(true)?;
        conn.write_all(request)?;
        let wanted = conn.read(&mut [0; 1024])?;
        conn.set_nonblocking(true)?;
        Ok(Asker { conn, asked: Instant::now(), request, wanted, got: 0 })
    }

    fn ask(&mut self) -> io::Result<()> {
        self.asked = Instant::now();
        self.got = 0;
        self.conn.write_all(self.request)
    }

    fn receive(&mut self) -> io::Result<Option<u64>> {
        match self.conn.read(&mut [0; 1024]) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.got += len;
                Ok((self.got == self.wanted).then(|| self.asked.elapsed().as_nanos() as u64))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}
