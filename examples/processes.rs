//! `cargo run --release --example processes`
//!
//! Child processes: a pipeline of three, a conversation with one, and one that takes too long and is ended. Ctrl-C, or
//! `kill`, ends whatever runs.
//!
//! *Invariant*: every child is waited for or killed. *Threads*: one task; children may be used on any loop. *Ordering*: none.

use std::io;
use std::time::Duration;

use epicycle::process::{Command, Stdio, shell};
use epicycle::signal::{SignalKind, ctrl_c, signal};
use epicycle::time::timeout;
use futures_lite::future::or;

fn main() -> io::Result<()> {
    epicycle::run(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let asked_to_end = async {
            terminate.recv().await?;
            println!("asked to end");
            Ok(())
        };
        let work = async {
            pipeline().await?;
            conversation().await?;
            too_long().await
        };
        // Whichever is first; the other one is dropped, and with it its child.
        or(or(work, asked_to_end), ctrl_c()).await
    })
}

/// `seq 1 1000 | grep 7 | wc -l`, without a shell.
async fn pipeline() -> io::Result<()> {
    let mut seq = Command::new("seq").args(["1", "1000"]).stdout(Stdio::piped()).spawn()?;
    let numbers = seq.stdout.take().expect("it is piped").into_stdio()?;
    let mut grep = Command::new("grep").arg("7").stdin(numbers).stdout(Stdio::piped()).spawn()?;
    let sevens = grep.stdout.take().expect("it is piped").into_stdio()?;
    let count = Command::new("wc").arg("-l").stdin(sevens).output().await?;
    seq.wait().await?;
    grep.wait().await?;
    println!("{} of 1000 numbers have a seven", String::from_utf8_lossy(&count.stdout).trim());
    Ok(())
}

/// Input and both outputs at once, more than the pipes hold.
async fn conversation() -> io::Result<()> {
    let mut child = shell("tee /dev/fd/2 | tr a-z A-Z")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let text = "every word comes back twice\n".repeat(10_000);
    let (loud, same) = child.communicate(&text).await?;
    println!("{} bytes sent, {} came back loud and {} as they were", text.len(), loud.len(), same.len());
    Ok(())
}

/// A time limit; then it is asked to end, and then it is killed.
async fn too_long() -> io::Result<()> {
    let mut child = shell("trap 'echo not me' TERM; echo begun; while :; do sleep 0.1; done")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let limit = Duration::from_millis(500);
    if timeout(limit, child.communicate("")).await.is_err() {
        child.terminate()?;
        if timeout(limit, child.communicate("")).await.is_err() {
            child.kill()?;
        }
    }
    let (said, _) = child.communicate("").await?;
    let code = child.returncode().unwrap_or_default();
    println!("it said {:?} and ended with {code}", String::from_utf8_lossy(&said));
    Ok(())
}
