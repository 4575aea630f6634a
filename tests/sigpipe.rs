//! A write to a connection that the peer has closed is an error and no signal, whatever the process does with that.
//!
//! One test, since signals are the process's.

mod common;

use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use epicycle::Runtime;
use epicycle::net::{TcpListener, TcpStream, UnixStream};

#[test]
fn b61_writing_to_nobody_raises_no_signal() {
    common::with_timeout(|| {
        let raised = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGPIPE, raised.clone()).unwrap();
        Runtime::builder().worker_threads(1).build().unwrap().block_on(async {
            let (a, b) = UnixStream::pair().unwrap();
            drop(b);
            assert_eq!(a.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(a.try_write_vectored(&[IoSlice::new(b"x")]).unwrap_err().kind(), ErrorKind::BrokenPipe);

            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let a = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            a.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(a.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert_eq!(a.try_write_vectored(&[IoSlice::new(b"x")]).unwrap_err().kind(), ErrorKind::BrokenPipe);
        });
        assert!(!raised.load(SeqCst));
    });
}
