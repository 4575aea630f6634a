//! `cargo run --release --example streams_echo -- --address 127.0.0.1:7000 --per-loop`
//!
//! An echo server of lines, as asyncio's tutorial has it: a handler with a reader and a writer for each client. Then,
//! elsewhere: `nc localhost 7000`. Ctrl-C stops accepting, lets clients finish for five seconds, and then ends them.
//!
//! With `--chunks` it sends back whatever comes, line or not, as `echo` does on bare sockets: to compare the two.
//!
//! *Invariant*: a handler owns its connection and shares nothing. *Threads*: handlers run on whichever loop is free.
//! *Ordering*: none.

use std::error::Error;
use std::io;
use std::time::Duration;

use epicycle::streams::{ReadError, ServerOptions, StreamReader, StreamWriter};
use epicycle::{Runtime, signal, timeout};

fn main() -> Result<(), Box<dyn Error>> {
    let Some(options) = Options::parse()? else {
        println!("streams_echo [--address HOST:PORT] [--workers N] [--per-loop] [--chunks]");
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
    let chunks = options.chunks;
    let handler = move |reader, writer| async move {
        match chunks {
            true => echo_chunks(reader, writer).await,
            false => echo_lines(reader, writer).await,
        }
    };
    let server = ServerOptions::new().per_loop(options.per_loop).start(handler, options.address.as_str()).await?;
    println!("listening on {:?}", server.local_addrs());
    signal::ctrl_c().await?;
    println!("goodbye to {} clients", server.client_count());
    server.close();
    if timeout(Duration::from_secs(5), server.wait_closed()).await.is_err() {
        server.abort_clients();
    }
    Ok(())
}

/// Until the client ends. A line that is too long is refused, and the next one is welcome.
async fn echo_lines(mut reader: StreamReader, writer: StreamWriter) -> Result<(), ReadError> {
    while let Some(line) = reader.each_line().next().await {
        match line {
            Ok(line) => writer.write(&line)?,
            Err(ReadError::Overrun(error)) => writer.write(format!("{error}\n").as_bytes())?,
            Err(error) => return Err(error),
        }
        writer.drain().await?;
    }
    Ok(())
}

async fn echo_chunks(mut reader: StreamReader, writer: StreamWriter) -> Result<(), ReadError> {
    loop {
        let chunk = reader.read(16 * 1024).await?;
        if chunk.is_empty() {
            return Ok(());
        }
        writer.write(&chunk)?;
        writer.drain().await?;
    }
}

struct Options {
    address: String,
    workers: Option<usize>,
    per_loop: bool,
    chunks: bool,
}

impl Options {
    /// The command line's options; `None` if it asks for help.
    fn parse() -> Result<Option<Options>, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options { address: "127.0.0.1:7000".into(), workers: None, per_loop: false, chunks: false };
        let mut arguments = lexopt::Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Short('a') | Long("address") => options.address = arguments.value()?.string()?,
                Short('w') | Long("workers") => options.workers = Some(arguments.value()?.parse()?),
                Long("per-loop") => options.per_loop = true,
                Long("chunks") => options.chunks = true,
                Short('h') | Long("help") => return Ok(None),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(Some(options))
    }
}
