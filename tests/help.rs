//! C12: the help that a stuck loop was given ends when it moves again, also if its helper never gets to see that.
//!
//! One test, since what is counted is the process's.
#![cfg(target_os = "linux")]

mod common;

use std::future::pending;
use std::io::Write;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use epicycle::Runtime;

/// How many selectors are in others' as those of loops that are helped: the kernel shows their token.
fn helped() -> usize {
    let token = format!("data: {:16x}", usize::MAX - 4);
    let infos = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    infos
        .filter_map(|info| std::fs::read_to_string(info.path()).ok())
        .map(|text| text.lines().filter(|line| line.starts_with("tfd:") && line.contains(&token)).count())
        .sum()
}

#[test]
fn c12_r48_help_ends_when_the_loop_moves_again() {
    common::with_timeout(|| {
        let rt = Runtime::builder().worker_threads(4).build().unwrap();
        let (send_peer, peer) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        drop(rt.loops()[1].spawn_local(move || async move {
            let (_ours, theirs) = common::socket_pair();
            send_peer.send(theirs).unwrap();
            let _ = ended.recv(); // stuck
            pending::<()>().await
        }));
        let mut peer = peer.recv().unwrap();
        common::eventually("the stuck loop is helped", || helped() > 0);
        end.send(()).unwrap();
        // Events that nobody waits for: the loop itself harvests them, mostly before its helper.
        common::eventually("the help ends", || {
            let _ = peer.write_all(b"x");
            thread::sleep(Duration::from_millis(1));
            helped() == 0
        });
    });
}
