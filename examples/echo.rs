//! `cargo run --release --example echo -- --address 127.0.0.1:7000 --per-loop`
//!
//! A TCP server that sends back what it gets: one task per connection, on all CPUs. Then, elsewhere:
//! `nc localhost 7000`. Ctrl-C ends it.
//!
//! With `--per-loop` each loop has a listening socket of its own (`SO_REUSEPORT`): the kernel spreads new connections over
//! the loops, and each connection's events arrive at the loop that accepted it. Without, one loop accepts for all, and the
//! others come by their share of the work by stealing it.
//!
//! *Invariant*: a connection's task owns its socket and shares nothing. *Threads*: tasks are `Send` and run on whichever
//! loop is free. *Ordering*: none.

use std::error::Error;
use std::io;
use std::time::Duration;

use epicycle::io::{AsyncReadExt, AsyncWriteExt};
use epicycle::net::{TcpListener, TcpStream};
use epicycle::{Runtime, RuntimeHandle, signal, time};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::parse()? else {
        println!("echo [--address HOST:PORT] [--workers N] [--per-loop]");
        return Ok(());
    };
    let mut builder = Runtime::builder();
    if let Some(workers) = options.workers {
        builder = builder.worker_threads(workers);
    }
    builder.build()?.block_on(serve(&options))?;
    Ok(())
}

async fn serve(options: &Options) -> io::Result<()> {
    let mut listeners = Vec::new();
    if options.per_loop {
        let parts = TcpListener::bind_per_loop(options.address.as_str()).await?;
        for (part, home) in parts.into_iter().zip(RuntimeHandle::current().loops()) {
            // Built there, so that the socket lives there; the task that accepts from it may be stolen.
            let listening = home.spawn_local(move || async move { part.listen() });
            listeners.push(listening.await.map_err(io::Error::other)??);
        }
    } else {
        listeners.push(TcpListener::bind(options.address.as_str()).await?);
    }
    println!("listening on {} with {} sockets", listeners[0].local_addr()?, listeners.len());
    for listener in listeners {
        epicycle::spawn(accept(listener));
    }
    // The runtime ends with this future, and all tasks with the runtime.
    signal::ctrl_c().await
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                epicycle::spawn(echo(stream));
            }
            Err(error) => {
                eprintln!("accepting pauses for a second: {error}");
                time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Until the client closes or resets; neither is our trouble.
async fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            length => stream.write_all(&buffer[..length]).await?,
        }
    }
}

struct Options {
    address: String,
    workers: Option<usize>,
    per_loop: bool,
}

impl Options {
    /// The command line's options; `None` if it asks for help.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options { address: "127.0.0.1:7000".into(), workers: None, per_loop: false };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('a') | Long("address") => options.address = arguments.value()?.string()?,
                Short('w') | Long("workers") => options.workers = Some(arguments.value()?.parse()?),
                Long("per-loop") => options.per_loop = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}
