//! Readers and writers of connections (`epicycle::streams`).
//!
//! Reading is tested on sources in memory that come in pieces of our choosing, writing on socket pairs whose other end is a
//! task or a socket of the standard library. Threads: the test's own is inside `block_on`; others are named.

mod common;

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use common::{eventually_async, panics_with};
use epicycle::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt};
use epicycle::net::{TcpListener, TcpStream, UdpSocket, UnixStream};
use epicycle::streams::{
    IncompleteReadError, LimitOverrunError, OpenOptions, ReadError, Socket, StreamReader, StreamWriter,
    open_connection, split,
};
use epicycle::time::{sleep, timeout};
use epicycle::{EventLoop, Runtime, spawn, yield_now};
use futures_lite::StreamExt;
use futures_lite::future::poll_once;

const MS: Duration = Duration::from_millis(1);
const LOCAL: &str = "127.0.0.1:0";
const MIB: usize = 1 << 20;

type Streams = (StreamReader, StreamWriter);

/// Two ends of a Unix connection.
fn unix_pair() -> (Streams, Streams) {
    let (a, b) = UnixStream::pair().unwrap();
    (split(a), split(b))
}

async fn tcp_sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

async fn tcp_pair() -> (Streams, Streams) {
    let (a, b) = tcp_sockets().await;
    (split(a), split(b))
}

/// One end with streams, the other one bare.
async fn with_bare_peer() -> (Streams, TcpStream) {
    let (a, b) = tcp_sockets().await;
    (split(a), b)
}

/// Comes in these pieces, a turn apart, and then ends or fails.
struct Pieces {
    pieces: VecDeque<Vec<u8>>,
    waits: bool,
    error: Option<ErrorKind>,
}

impl Pieces {
    fn of<T: AsRef<[u8]>>(pieces: impl IntoIterator<Item = T>) -> Pieces {
        let pieces = pieces.into_iter().map(|piece| piece.as_ref().to_vec()).collect();
        Pieces { pieces, waits: true, error: None }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        self.waits = !self.waits;
        if !self.waits {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let Some(mut piece) = self.pieces.pop_front() else {
            return Poll::Ready(self.error.map_or(Ok(0), |kind| Err(kind.into())));
        };
        let count = piece.len().min(buf.len());
        buf[..count].copy_from_slice(&piece[..count]);
        if count < piece.len() {
            self.pieces.push_front(piece.split_off(count));
        }
        Poll::Ready(Ok(count))
    }
}

/// Has as many zeros as anybody wants, and counts them.
#[derive(Clone, Default)]
struct Zeros(Arc<AtomicUsize>);

impl AsyncRead for Zeros {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<std::io::Result<usize>> {
        self.0.fetch_add(buf.len(), SeqCst);
        buf.fill(0);
        Poll::Ready(Ok(buf.len()))
    }
}

/// Writes until the kernel has no more room, so that some is buffered.
fn stuff(writer: &StreamWriter) -> usize {
    let mut written = 0;
    while writer.write_buffer_size() == 0 {
        writer.write(&[7; 65536]).unwrap();
        written += 65536;
    }
    written
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[track_caller]
fn overrun<T: std::fmt::Debug>(result: Result<T, ReadError>) -> usize {
    match result {
        Err(ReadError::Overrun(LimitOverrunError { consumed })) => consumed,
        other => panic!("expected an overrun, not {other:?}"),
    }
}

#[track_caller]
fn incomplete<T: std::fmt::Debug>(result: Result<T, ReadError>) -> (Vec<u8>, Option<usize>) {
    match result {
        Err(ReadError::Incomplete(IncompleteReadError { partial, expected })) => (partial, expected),
        other => panic!("expected an early end, not {other:?}"),
    }
}

#[test]
fn n75_streams_and_their_futures_may_go_anywhere() {
    fn check<T: Send + Sync + Unpin + std::fmt::Debug>() {}
    check::<(StreamReader, StreamWriter, Socket, StreamReader<Vec<u8>>, OpenOptions)>();
    check::<epicycle::streams::Server>();
    fn check_error<T: std::error::Error + Send + Sync + 'static>() {}
    check_error::<ReadError>();
    check_error::<IncompleteReadError>();
    check_error::<LimitOverrunError>();
    #[allow(dead_code)]
    fn futures(reader: &'static mut StreamReader, writer: &'static StreamWriter) {
        fn check<T: Send>(_: T) {}
        check(open_connection("localhost:1"));
        check(epicycle::streams::start_server(async |_, _| (), LOCAL));
        check(epicycle::streams::start_unix_server(async |_, _| (), "path"));
        let both = || -> Streams { unimplemented!("only its type is wanted") };
        check(async move {
            let (reader, writer) = both();
            writer.reunite(reader).await
        });
        check(writer.drain());
        check(writer.wait_closed());
        check(async { reader.readuntil(["\r\n", "\n"]).await });
    }
}

common::flavours! {
    // ---------------------------------------------------------------------------------------------------- reading

    fn n70_read_gives_some_or_the_end(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::new(Pieces::of(["abc", "defg"]));
            assert_eq!(reader.read(0).await.unwrap(), b"");
            assert_eq!(reader.read(2).await.unwrap(), b"ab");
            assert_eq!(reader.read(100).await.unwrap(), b"c", "what is there is enough");
            assert_eq!(reader.read(0).await.unwrap(), b"");
            assert_eq!(reader.read(100).await.unwrap(), b"defg");
            assert_eq!(reader.read(100).await.unwrap(), b"");
            assert_eq!(reader.read(100).await.unwrap(), b"");
        });
    }

    fn n70_read_to_end_takes_all(rt: Runtime) {
        rt.block_on(async {
            let text = pattern(300_000);
            let mut reader = StreamReader::with_limit(1, Pieces::of(text.chunks(7001)));
            assert_eq!(reader.readexactly(3).await.unwrap(), text[..3]);
            assert_eq!(reader.read_to_end().await.unwrap(), text[3..]);
            assert!(reader.at_eof());
            assert_eq!(reader.read_to_end().await.unwrap(), b"");
        });
    }

    fn n71_readexactly_reads_exactly(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::new(Pieces::of(["ab", "cd", "ef"]));
            assert_eq!(reader.readexactly(0).await.unwrap(), b"");
            assert_eq!(reader.readexactly(3).await.unwrap(), b"abc");
            assert_eq!(incomplete(reader.readexactly(4).await), (b"def".to_vec(), Some(4)));
            assert_eq!(incomplete(reader.readexactly(4).await), (b"".to_vec(), Some(4)));
            assert_eq!(reader.readexactly(0).await.unwrap(), b"");
        });
    }

    fn n72_readuntil_includes_the_separator(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::new(Pieces::of(["one;two;;th", "ree"]));
            assert_eq!(reader.readuntil(b';').await.unwrap(), b"one;");
            assert_eq!(reader.readuntil(";").await.unwrap(), b"two;");
            assert_eq!(reader.readuntil(b";").await.unwrap(), b";");
            assert_eq!(incomplete(reader.readuntil(b';').await), (b"three".to_vec(), None));
            assert_eq!(incomplete(reader.readuntil(b';').await), (b"".to_vec(), None));
        });
    }

    fn n72_an_empty_separator_is_an_error(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::new(Pieces::of(["text"]));
            let none: [&str; 0] = [];
            for result in [
                reader.readuntil("").await,
                reader.readuntil(none).await,
                reader.readuntil(["x", ""]).await,
            ] {
                let Err(ReadError::Io(error)) = result else { panic!("{result:?}") };
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
            }
            assert_eq!(reader.read(4).await.unwrap(), b"text", "nothing is lost");
        });
    }

    fn n72_a_separator_is_found_across_all_borders(rt: Runtime) {
        // Every way to cut the text in three, against a search in the whole of it.
        let cases: [(&[&str], &str); 6] = [
            (&["\r\n\r\n"], "a\r\n\r\r\n\r\nrest"),
            (&["\n"], "ab\ncd\n"),
            (&["abab"], "aababab!"),
            (&["END", "\n"], "some ENEND more\n"),
            (&["A", "long A"], "a long A then"),
            (&["xyz", "yz", "z!"], "wxyz!"),
        ];
        rt.block_on(async {
            for (separators, text) in cases {
                let ends = separators.iter().filter_map(|separator| text.find(separator).map(|at| at + separator.len()));
                let end = ends.min().expect("each text has a separator");
                for first in 0..=text.len() {
                    for second in first..=text.len() {
                        let pieces = [&text[..first], &text[first..second], &text[second..]];
                        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty());
                        let mut reader = StreamReader::new(Pieces::of(pieces));
                        let found = reader.readuntil(separators).await.unwrap();
                        assert_eq!(found, text.as_bytes()[..end], "{text:?} at {first}, {second}");
                        assert_eq!(reader.read_to_end().await.unwrap(), text.as_bytes()[end..]);
                    }
                }
            }
        });
    }

    fn n72_of_several_separators_the_shortest_match_counts(rt: Runtime) {
        rt.block_on(async {
            for bytes in 1..=20 {
                let text = b"abc--def-----ghi";
                let mut reader = StreamReader::new(Pieces::of(text.chunks(bytes)));
                assert_eq!(reader.readuntil(["-----", "--"]).await.unwrap(), b"abc--");
                assert_eq!(reader.readuntil(["-----", "---"]).await.unwrap(), b"def---");
            }
            // The separators may be of many types.
            let mut reader = StreamReader::new(Pieces::of(["a.b.c.d.e.f.g.h."]));
            let (bytes, text) = (vec![b'.'], String::from("."));
            assert_eq!(reader.readuntil(&bytes).await.unwrap(), b"a.");
            assert_eq!(reader.readuntil(&text).await.unwrap(), b"b.");
            assert_eq!(reader.readuntil(&[&b"."[..], b"!!"]).await.unwrap(), b"c.");
            assert_eq!(reader.readuntil(&["."][..]).await.unwrap(), b"d.");
            assert_eq!(reader.readuntil([text.clone(), text]).await.unwrap(), b"e.");
            assert_eq!(reader.readuntil([bytes]).await.unwrap(), b"f.");
        });
    }

    fn n73_over_the_limit_the_data_is_kept(rt: Runtime) {
        rt.block_on(async {
            // No separator yet.
            let mut reader = StreamReader::with_limit(5, Pieces::of(["0123456789"; 3]));
            let consumed = overrun(reader.readuntil(b"!!").await);
            assert!((6..=10).contains(&consumed), "{consumed}");
            assert_eq!(reader.readexactly(30).await.unwrap(), b"0123456789".repeat(3));
            // A separator, too far away. Once more, the same.
            let mut reader = StreamReader::with_limit(3, Pieces::of(["ab", "cd!!"]));
            assert_eq!(overrun(reader.readuntil("!!").await), 4);
            assert_eq!(overrun(reader.readuntil("!!").await), 4);
            assert_eq!(reader.readexactly(4).await.unwrap(), b"abcd");
            assert_eq!(reader.readuntil("!!").await.unwrap(), b"!!");
            // Exactly at the limit.
            let mut reader = StreamReader::with_limit(3, Pieces::of(["abc!!"]));
            assert_eq!(reader.readuntil("!!").await.unwrap(), b"abc!!");
        });
    }

    fn n73_readline_over_the_limit_discards(rt: Runtime) {
        rt.block_on(async {
            // Through the newline, which has come.
            let mut reader = StreamReader::with_limit(4, Pieces::of(["12345\nb\n", "x\n"]));
            assert_eq!(overrun(reader.readline().await), 5);
            assert_eq!(reader.readline().await.unwrap(), b"b\n");
            assert_eq!(reader.readline().await.unwrap(), b"x\n");
            let mut reader = StreamReader::with_limit(4, Pieces::of(["a\n", "bbbbb\n", "c\n"]));
            assert_eq!(reader.readline().await.unwrap(), b"a\n");
            overrun(reader.readline().await);
            // All there is, for no newline has come.
            let mut reader = StreamReader::with_limit(2, Pieces::of(["aa", "aa", "aa\nb\n"]));
            overrun(reader.readline().await);
            assert!(reader.buffered().is_empty());
            while reader.readline().await.is_err() {}
            assert_eq!(reader.readline().await.unwrap(), b"b\n");
            assert_eq!(reader.readline().await.unwrap(), b"");
        });
    }

    fn n73_the_default_limit_is_64_kib(rt: Runtime) {
        rt.block_on(async {
            let line = |length: usize| [vec![b'x'; length], b"\n".to_vec()].concat();
            let mut reader = StreamReader::new(Pieces::of([line(65536), line(65537), line(1)]));
            assert_eq!(reader.limit(), 65536);
            assert_eq!(reader.readline().await.unwrap().len(), 65537);
            overrun(reader.readline().await);
            panics_with("at least one byte", || StreamReader::with_limit(0, &b""[..]));
            let error = std::io::Error::from(ReadError::from(LimitOverrunError { consumed: 1 }));
            assert_eq!(error.kind(), ErrorKind::InvalidData);
            assert!(error.get_ref().unwrap().is::<LimitOverrunError>());
        });
    }

    fn n74_at_eof_is_the_end_and_nothing_left(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::new(Pieces::of(["ab"]));
            assert!(!reader.at_eof());
            assert_eq!(reader.readexactly(1).await.unwrap(), b"a");
            assert!(!reader.at_eof());
            let (part, _) = incomplete(reader.readuntil("!").await);
            assert!(part == b"b" && reader.at_eof());
            let mut reader = StreamReader::new(&b""[..]);
            assert!(!reader.at_eof(), "nobody has looked");
            assert_eq!(reader.readline().await.unwrap(), b"");
            assert!(reader.at_eof());
        });
    }

    fn n75_a_dropped_read_loses_nothing(rt: Runtime) {
        rt.block_on(async {
            let text = b"one\ntwo\nthree\n";
            let mut reader = StreamReader::new(Pieces::of(text.chunks(1)));
            let mut lines: Vec<Vec<u8>> = Vec::new();
            while lines.len() < 3 {
                // Polled once and dropped, again and again: each poll gets one byte at most.
                if let Some(line) = poll_once(pin!(reader.readline())).await {
                    lines.push(line.unwrap());
                }
            }
            assert_eq!(lines.concat(), text);
            let mut reader = StreamReader::new(Pieces::of(text.chunks(1)));
            while poll_once(pin!(reader.readexactly(14))).await.is_none() {}
        });
    }

    fn n76_no_more_is_read_than_is_asked_for(rt: Runtime) {
        rt.block_on(async {
            for limit in [1, 5, 100, 4096, 65536, MIB] {
                let source = Zeros::default();
                let mut reader = StreamReader::with_limit(limit, source.clone());
                let held = |taken: usize| source.0.load(SeqCst) - taken;
                yield_now().await;
                assert_eq!(held(0), 0, "nobody has asked");
                for taken in 1..200 {
                    reader.read(1).await.unwrap();
                    assert!(held(taken) <= limit, "limit {limit}: {} too many", held(taken));
                }
                // Waiting for a separator goes on to twice the limit at most.
                overrun(reader.readuntil("!").await);
                assert!(held(199) <= 2 * limit, "limit {limit}: {} bytes", held(199));
                // Asking for more than the limit cannot deadlock.
                let taken = 2 * limit + 300_000;
                assert_eq!(reader.readexactly(taken).await.unwrap().len(), taken);
                assert!(held(199 + taken) <= limit.max(65536));
            }
        });
    }

    fn n76_a_slow_reader_holds_back_the_writer(rt: Runtime) {
        rt.block_on(async {
            let (client, (_, writer)) = tcp_pair().await;
            let (mut reader, _client) = (StreamReader::with_limit(16, client.0), client.1);
            writer.set_write_buffer_limits(0, 0);
            let sent = Arc::new(AtomicUsize::new(0));
            let counting = sent.clone();
            let sending = spawn(async move {
                loop {
                    writer.write(&[1; 65536]).unwrap();
                    writer.drain().await.unwrap();
                    counting.fetch_add(65536, SeqCst);
                }
            });
            assert_eq!(reader.read(1).await.unwrap(), [1]);
            // It stands still when the kernel's buffers are full.
            let mut before = usize::MAX;
            eventually_async("the writer is held back", || {
                let now = sent.load(SeqCst);
                std::mem::replace(&mut before, now) == now && now > 0
            })
            .await;
            sleep(20 * MS).await;
            let before = sent.load(SeqCst);
            reader.readexactly(before + MIB).await.unwrap();
            assert!(sent.load(SeqCst) > before);
            sending.cancel();
        });
    }

    fn n76_ten_megabytes_with_tiny_limits(rt: Runtime) {
        rt.block_on(async {
            let text = pattern(10 * MIB);
            let (a, b) = tcp_sockets().await;
            let options = OpenOptions::new().limit(3).write_buffer_limits(10, 2);
            let ((mut reader, _a), (_b, writer)) = (options.split(a), options.split(b));
            let expected = text.clone();
            let sending = spawn(async move {
                for piece in text.chunks(10_007) {
                    writer.write(piece).unwrap();
                    writer.drain().await.unwrap();
                }
                writer.close();
                writer.wait_closed().await.unwrap();
            });
            let mut at = 0;
            for wanted in [1, 2, 3, 100, 65536, 3 * MIB, 100_000, 5 * MIB] {
                assert!(reader.readexactly(wanted).await.unwrap() == expected[at..at + wanted]);
                at += wanted;
            }
            assert!(reader.read_to_end().await.unwrap() == expected[at..]);
            sending.await.unwrap();
        });
    }

    fn lines_are_a_stream(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::with_limit(4, Pieces::of(["one\ntw", "o\n", "toolong\n", "end"]));
            let lines: Vec<_> = reader.each_line().map(Result::ok).collect().await;
            assert_eq!(lines[..2], [Some(b"one\n".to_vec()), Some(b"two\n".to_vec())]);
            assert_eq!(lines[2], None);
            assert_eq!(lines.last().unwrap().as_deref(), Some(&b"end"[..]));
            assert!(reader.at_eof());
        });
    }

    fn a_reader_is_an_async_read_and_buf_read(rt: Runtime) {
        rt.block_on(async {
            let text = pattern(200_000);
            let mut reader = StreamReader::new(Pieces::of(text.chunks(30_000)));
            let mut start = Vec::new();
            AsyncBufReadExt::read_until(&mut reader, 100, &mut start).await.unwrap();
            assert_eq!(start, text[..101]);
            assert_eq!(reader.fill_buf().await.unwrap()[0], 101);
            let mut small = [0; 10];
            AsyncReadExt::read_exact(&mut reader, &mut small).await.unwrap();
            let mut rest = Vec::new();
            AsyncReadExt::read_to_end(&mut reader, &mut rest).await.unwrap();
            assert!([&start[..], &small, &rest].concat() == text && reader.at_eof());
            assert_eq!(AsyncReadExt::read(&mut reader, &mut small).await.unwrap(), 0);
        });
    }

    fn errors_of_the_source_are_told(rt: Runtime) {
        rt.block_on(async {
            let source = || Pieces { error: Some(ErrorKind::ConnectionReset), ..Pieces::of(["some"]) };
            assert_eq!(StreamReader::new(source()).read_to_end().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            let mut reader = StreamReader::new(source());
            let error = std::io::Error::from(reader.readline().await.unwrap_err());
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert_eq!(reader.read(9).await.unwrap(), b"some", "what had come is still there");
            assert!(matches!(reader.readexactly(1).await, Err(ReadError::Io(_))));
            assert!(!reader.at_eof());
        });
    }

    fn c11_a_reader_with_many_lines_lets_others_run(rt: Runtime) {
        rt.block_on(async {
            let mut reader = StreamReader::new(Pieces::of(["\n".repeat(8000)]));
            reader.readline().await.unwrap();
            let turns = Arc::new(AtomicUsize::new(0));
            let counting = turns.clone();
            let other = epicycle::spawn_local(async move {
                loop {
                    counting.fetch_add(1, SeqCst);
                    yield_now().await;
                }
            });
            for _ in 0..7000 {
                assert_eq!(reader.readline().await.unwrap(), b"\n");
            }
            assert!(turns.load(SeqCst) >= 20, "{turns:?}");
            other.cancel();
        });
    }

    // ---------------------------------------------------------------------------------------------------- writing

    fn writes_go_out_without_a_drain(rt: Runtime) {
        rt.block_on(async {
            let ((_ours, writer), (mut reader, _theirs)) = tcp_pair().await;
            let text = pattern(10 * MIB);
            // Far more than the kernel takes; nobody waits for it, nobody even keeps the writer.
            text.chunks(100_003).for_each(|piece| writer.write(piece).unwrap());
            assert!(writer.write_buffer_size() > 0);
            drop(writer);
            assert!(reader.read_to_end().await.unwrap() == text);
        });
    }

    fn writes_of_clones_do_not_mix(rt: Runtime) {
        const WRITERS: usize = 6;
        const LINES: usize = 400;
        rt.block_on(async {
            let ((_ours, writer), (mut reader, _theirs)) = tcp_pair().await;
            let writing: Vec<_> = (0..WRITERS)
                .map(|n| {
                    let writer = writer.clone();
                    spawn(async move {
                        for line in 0..LINES {
                            let text = format!("{n} {line} {}\n", "x".repeat(line * 7 % 3000));
                            if line % 2 == 0 {
                                writer.write(text.as_bytes()).unwrap();
                            } else {
                                writer.writelines(text.split_inclusive(' ')).unwrap();
                            }
                            if line % 10 == 0 {
                                writer.drain().await.unwrap();
                            }
                        }
                    })
                })
                .collect();
            drop(writer);
            let mut next = [0; WRITERS];
            while let Some(line) = reader.each_line().next().await {
                let line = String::from_utf8(line.unwrap()).unwrap();
                let parts: Vec<&str> = line.trim_end_matches('\n').split(' ').collect();
                let [n, number, rest] = parts[..] else { panic!("{line:?}") };
                let n: usize = n.parse().unwrap();
                assert_eq!(number.parse(), Ok(next[n]), "{line:?}");
                assert_eq!(rest.len(), next[n] * 7 % 3000);
                next[n] += 1;
            }
            assert_eq!(next, [LINES; WRITERS]);
            for task in writing {
                task.await.unwrap();
            }
        });
    }

    fn a_write_does_not_overtake_what_is_buffered(rt: Runtime) {
        rt.block_on(async {
            for _ in 0..20 {
                let (ours, mut theirs) = UnixStream::pair().unwrap();
                let (_ours, writer) = split(ours);
                let mut length = stuff(&writer);
                // Now there is room again, but nobody had time to send what was there first.
                let mut some = vec![0; 65536];
                while let Ok(read) = theirs.try_read(&mut some) {
                    length -= read;
                }
                writer.write(b"last").unwrap();
                drop(writer);
                let mut rest = Vec::new();
                AsyncReadExt::read_to_end(&mut theirs, &mut rest).await.unwrap();
                assert_eq!(rest.len(), length + 4);
                assert!(rest.ends_with(b"last") && rest[..length].iter().all(|byte| *byte == 7));
            }
        });
    }

    fn n77_drain_waits_above_the_high_water_mark(rt: Runtime) {
        rt.block_on(async {
            let ((_ours, writer), mut peer) = with_bare_peer().await;
            assert_eq!(writer.write_buffer_limits(), (65536, 16384));
            stuff(&writer);
            writer.set_write_buffer_limits(100_000, 50_000);
            // At the mark it does not wait.
            let missing = 100_000_usize.saturating_sub(writer.write_buffer_size());
            writer.write(&vec![0; missing]).unwrap();
            assert_eq!(poll_once(pin!(writer.drain())).await.map(|drained| drained.is_ok()), Some(true));
            writer.write(&[0; 2]).unwrap();
            let drains: Vec<_> = (0..5)
                .map(|_| {
                    let writer = writer.clone();
                    spawn(async move {
                        writer.drain().await.unwrap();
                        writer.write_buffer_size()
                    })
                })
                .collect();
            assert!(timeout(20 * MS, writer.drain()).await.is_err());
            assert!(drains.iter().all(|drain| !drain.done()));
            // The peer reads it all, and everybody goes on.
            drop(writer);
            let reading = spawn(async move {
                let mut all = Vec::new();
                AsyncReadExt::read_to_end(&mut peer, &mut all).await.unwrap();
                all.len()
            });
            for drain in drains {
                assert!(drain.await.unwrap() <= 50_000);
            }
            assert!(reading.await.unwrap() > 100_000);
        });
    }

    fn n77_marks_may_be_moved_while_waiting(rt: Runtime) {
        rt.block_on(async {
            let ((_ours, writer), _peer) = with_bare_peer().await;
            stuff(&writer);
            writer.set_write_buffer_limits(0, 0);
            let mut drain = pin!(writer.drain());
            assert!(poll_once(drain.as_mut()).await.is_none());
            writer.set_write_buffer_limits(MIB, MIB / 2);
            drain.await.unwrap();
            panics_with("must not be above", || writer.set_write_buffer_limits(1, 2));
        });
    }

    fn n77_a_waker_that_panics_harms_nobody_else(flavour: common::Flavour) {
        struct Bad;
        impl Wake for Bad {
            fn wake(self: Arc<Self>) {
                panic!("bad waker");
            }
        }
        let _ = flavour;
        let reports = common::Reports::new();
        let rt = common::builder!().exception_handler(reports.handler()).build().unwrap();
        rt.block_on(async {
            let ((_ours, writer), (mut reader, _theirs)) = unix_pair();
            stuff(&writer);
            writer.set_write_buffer_limits(0, 0);
            let waiting = writer.clone();
            let mut first = pin!(waiting.drain());
            assert!(first.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::new(Bad)))).is_pending());
            let other = writer.clone();
            let second = spawn(async move { other.drain().await.unwrap() });
            yield_now().await;
            writer.write_eof();
            drop(writer);
            reader.read_to_end().await.unwrap();
            second.await.unwrap();
            assert!(reports.all().iter().all(|report| report.to_string().contains("bad waker")), "{:?}", reports.all());
            assert!(!reports.all().is_empty());
        });
    }

    fn n77_drain_tells_of_the_loss(rt: Runtime) {
        rt.block_on(async {
            // Found by the flusher, while several drains wait.
            let ((_ours, writer), peer) = with_bare_peer().await;
            stuff(&writer);
            writer.set_write_buffer_limits(0, 0);
            let drains: Vec<_> = (0..3)
                .map(|_| {
                    let writer = writer.clone();
                    spawn(async move { writer.drain().await.unwrap_err().kind() })
                })
                .collect();
            peer.set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            for drain in drains {
                let kind = drain.await.unwrap();
                assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
            }
            assert!(writer.drain().await.is_err() && writer.write(b"x").is_err());
            assert_eq!(writer.write_buffer_size(), 0);

            // Found by a write that goes straight to the kernel.
            let ((mut reader, writer), peer) = with_bare_peer().await;
            peer.set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            eventually_async("a write fails", || writer.write(b"x").is_err()).await;
            assert!(writer.is_closing());
            assert!(writer.wait_closed().await.is_err() && writer.drain().await.is_err());
            assert!(reader.read(1).await.is_err(), "for the reader, too, it is no orderly end");

            // Found by the reader.
            let ((mut reader, writer), peer) = with_bare_peer().await;
            writer.drain().await.unwrap();
            peer.set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            assert_eq!(reader.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(writer.drain().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
            assert_eq!(reader.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset, "it stays");
        });
    }

    fn n78_close_flushes(rt: Runtime) {
        rt.block_on(async {
            let ((mut ours, writer), (mut reader, _theirs)) = tcp_pair().await;
            let length = stuff(&writer);
            writer.close();
            assert!(writer.is_closing());
            assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
            assert!(poll_once(pin!(writer.wait_closed())).await.is_none(), "not all has been sent");
            let waiting: Vec<_> = (0..3)
                .map(|_| {
                    let writer = writer.clone();
                    spawn(async move { writer.wait_closed().await })
                })
                .collect();
            assert_eq!(reader.read_to_end().await.unwrap().len(), length);
            for wait in waiting {
                wait.await.unwrap().unwrap();
            }
            writer.wait_closed().await.unwrap();
            assert_eq!(ours.read(1).await.unwrap(), b"", "the reader of this side is at its end, too");
            assert_eq!(writer.drain().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            writer.close();
            writer.abort();
            writer.write_eof();
            writer.wait_closed().await.unwrap();
        });
    }

    fn n78_close_wakes_the_reader_of_this_side(rt: Runtime) {
        rt.block_on(async {
            for ((mut reader, writer), _peer) in [unix_pair(), tcp_pair().await] {
                let reading = spawn(async move { reader.readline().await.unwrap() });
                yield_now().await;
                writer.close();
                assert_eq!(reading.await.unwrap(), b"");
                writer.wait_closed().await.unwrap();
            }
        });
    }

    fn n78_abort_discards(rt: Runtime) {
        rt.block_on(async {
            let ((mut ours, writer), mut peer) = with_bare_peer().await;
            stuff(&writer);
            let waiting = writer.clone();
            waiting.set_write_buffer_limits(0, 0);
            let drain = spawn(async move { waiting.drain().await });
            let reading = spawn(async move { ours.read(1).await.unwrap() });
            yield_now().await;
            writer.abort();
            assert_eq!(writer.write_buffer_size(), 0);
            writer.wait_closed().await.unwrap();
            assert!(drain.await.unwrap().is_err());
            assert_eq!(reading.await.unwrap(), b"");
            // The descriptor is still open, and still the peer knows.
            let error = loop {
                match AsyncReadExt::read(&mut peer, &mut [0; 65536]).await {
                    Ok(0) => panic!("the peer took it for the end"),
                    Ok(_) => {}
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
            assert!(writer.write(b"x").is_err() && writer.is_closing());
            drop(writer);
        });
    }

    fn n78_a_unix_connection_is_aborted(rt: Runtime) {
        rt.block_on(async {
            let ((mut ours, writer), (mut reader, _theirs)) = unix_pair();
            let length = stuff(&writer);
            writer.abort();
            assert_eq!(ours.read(1).await.unwrap(), b"");
            assert!(reader.read_to_end().await.unwrap().len() < length);
        });
    }

    fn n78_nothing_is_left_of_a_connection(rt: Runtime) {
        let handle = rt.handle();
        let sources = || handle.metrics().loops.iter().map(|each| each.sources).sum::<usize>();
        rt.block_on(async {
            let (tasks, registered) = (handle.all_tasks().len(), sources());
            for ((ours, writer), (theirs, peer)) in [unix_pair(), tcp_pair().await, unix_pair(), tcp_pair().await] {
                // The task that sends ends when the connection is aborted, while both ends are still held.
                stuff(&writer);
                assert_eq!(handle.all_tasks().len(), tasks + 1);
                writer.abort();
                eventually_async("the flusher ends", || handle.all_tasks().len() == tasks).await;
                drop((ours, writer, theirs, peer));
            }
            for ((ours, writer), (theirs, peer)) in [unix_pair(), tcp_pair().await] {
                // It goes on when they are not held any more, until the peer is gone, too.
                stuff(&writer);
                drop((ours, writer));
                assert_eq!(handle.all_tasks().len(), tasks + 1);
                drop((theirs, peer));
                eventually_async("the flusher ends", || handle.all_tasks().len() == tasks).await;
            }
            eventually_async("all sockets are deregistered", || sources() == registered).await;
        });
    }

    fn n78_a_connection_is_lost_once(rt: Runtime) {
        rt.block_on(async {
            let ((mut reader, writer), peer) = with_bare_peer().await;
            let waiting: Vec<_> = (0..4)
                .map(|_| {
                    let writer = writer.clone();
                    spawn(async move { writer.wait_closed().await.unwrap_err().kind() })
                })
                .collect();
            peer.set_linger(Some(Duration::ZERO)).unwrap();
            drop(peer);
            assert_eq!(reader.read(1).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            // The first reason stays, whatever comes later.
            writer.close();
            writer.abort();
            for wait in waiting {
                assert_eq!(wait.await.unwrap(), ErrorKind::ConnectionReset);
            }
            assert_eq!(writer.wait_closed().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        });
    }

    fn n78_nothing_is_written_after_write_eof(rt: Runtime) {
        rt.block_on(async {
            for ((mut answers, writer), (mut reader, theirs)) in [unix_pair(), tcp_pair().await] {
                let length = stuff(&writer);
                writer.write_eof();
                let error = writer.write(b"x").unwrap_err();
                assert_eq!((error.kind(), error.to_string().contains("write_eof")), (ErrorKind::BrokenPipe, true));
                assert!(writer.clone().writelines(["x"]).is_err());
                assert!(!writer.is_closing());
                assert_eq!(reader.read_to_end().await.unwrap().len(), length);
                // The other direction goes on.
                theirs.write(b"answer\n").unwrap();
                assert_eq!(answers.readline().await.unwrap(), b"answer\n");
                writer.write_eof();
                writer.close();
                writer.wait_closed().await.unwrap();
            }
        });
    }

    fn the_last_writer_ends_writing_when_dropped(rt: Runtime) {
        rt.block_on(async {
            let ((mut answers, writer), (mut reader, theirs)) = unix_pair();
            let clone = writer.clone();
            drop(writer);
            clone.write(b"still here").unwrap();
            drop(clone);
            assert_eq!(reader.read_to_end().await.unwrap(), b"still here");
            theirs.write(b"answer").unwrap();
            assert_eq!(answers.readexactly(6).await.unwrap(), b"answer");
            drop(answers);
            eventually_async("the peer finds it gone", || theirs.write(b"x").is_err()).await;
        });
    }

    fn a_writer_is_an_async_write(rt: Runtime) {
        rt.block_on(async {
            let ((mut answers, mut writer), (mut reader, mut theirs)) = tcp_pair().await;
            // An echo made of the traits alone, with 10 MB in both directions.
            let echo = spawn(async move {
                epicycle::io::copy(&mut reader, &mut theirs).await.unwrap();
                AsyncWriteExt::close(&mut theirs).await.unwrap();
            });
            let text = pattern(10 * MIB);
            let sent = text.clone();
            let sending = spawn(async move {
                writer.write_all(&sent).await.unwrap();
                assert!(writer.write_buffer_size() <= 65536 + 65536, "it took no more than it should");
                let parts = [std::io::IoSlice::new(b""), std::io::IoSlice::new(&sent)];
                assert_eq!(writer.write_vectored(&parts).await.unwrap(), 65536);
                let parts = [std::io::IoSlice::new(&sent[65536..70000]), std::io::IoSlice::new(&sent[70000..75000])];
                assert_eq!(writer.write_vectored(&parts).await.unwrap(), 75000 - 65536);
                writer.flush().await.unwrap();
                assert_eq!(writer.write_buffer_size(), 0);
                AsyncWriteExt::close(&mut writer).await.unwrap();
                assert!(writer.write_all(b"x").await.is_err());
            });
            let echoed = answers.read_to_end().await.unwrap();
            assert!(echoed[..text.len()] == text && echoed[text.len()..] == text[..75000]);
            sending.await.unwrap();
            echo.await.unwrap();
        });
    }

    fn any_thread_may_write(rt: Runtime) {
        rt.block_on(async {
            let ((_ours, writer), (mut reader, _theirs)) = unix_pair();
            let thread = std::thread::Builder::new().name("foreign".into());
            let thread = thread.spawn(move || (0..400).for_each(|_| writer.write(&[3; 10_000]).unwrap())).unwrap();
            assert_eq!(reader.read_to_end().await.unwrap().len(), 4_000_000);
            thread.join().unwrap();
        });
    }

    fn what_is_buffered_when_the_runtime_ends_is_lost(flavour: common::Flavour) {
        let rt = common::builder!().build().unwrap();
        let _ = flavour;
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let (mut reader, writer) = rt.block_on(async { split(UnixStream::from_std(ours).unwrap()) });
        let waiting = writer.clone();
        rt.spawn(async move {
            stuff(&waiting);
            waiting.set_write_buffer_limits(0, 0);
            waiting.drain().await.unwrap();
            pending::<()>().await;
        });
        rt.block_on(eventually_async("something is buffered", || writer.write_buffer_size() > 0));
        drop(rt);
        // An error, and no hang, for whoever still has an end.
        let other = Runtime::builder().worker_threads(1).build().unwrap();
        other.block_on(async {
            assert!(writer.drain().await.is_err());
            assert!(writer.write(b"x").is_err());
            assert!(writer.wait_closed().await.is_err());
            assert!(reader.read(1).await.is_err());
        });
        drop((reader, writer));
        assert!(theirs.read_to_end(&mut Vec::new()).unwrap() > 0);
    }

    fn reuniting_gives_the_socket_and_the_rest(rt: Runtime) {
        rt.block_on(async {
            let ((mut reader, writer), (mut theirs, peer)) = tcp_pair().await;
            peer.write(b"line\nrest").unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"line\n");
            let length = stuff(&writer);
            let reading = spawn(async move { theirs.readexactly(length + 4).await.unwrap() });
            let (socket, rest) = writer.reunite(reader).await.unwrap();
            assert_eq!(rest, b"rest");
            let Socket::Tcp(mut stream) = socket else { panic!() };
            stream.write_all(b"bare").await.unwrap();
            assert!(reading.await.unwrap().ends_with(b"bare"));

            let ((reader, writer), (other, _peer)) = unix_pair();
            assert_eq!(writer.reunite(other).await.unwrap_err().kind(), ErrorKind::InvalidInput);
            drop(reader);
            let ((reader, writer), _peer) = unix_pair();
            let _clone = writer.clone();
            assert_eq!(writer.reunite(reader).await.unwrap_err().kind(), ErrorKind::InvalidInput);
        });
    }

    // ------------------------------------------------------------------------------------------------- connecting

    fn s4_07_tcp_udp_and_unix_are_in_the_core(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let addr = listener.local_addr().unwrap();
            let (mut reader, writer) = open_connection(("127.0.0.1", addr.port())).await.unwrap();
            let (_, peer) = split(listener.accept().await.unwrap().0);
            assert_eq!(writer.peer_addr().unwrap(), addr);
            assert_eq!(writer.local_addr().unwrap(), peer.peer_addr().unwrap());
            let Socket::Tcp(stream) = writer.socket() else { panic!() };
            assert!(stream.nodelay().unwrap());
            peer.writelines([&b"one "[..], b"line\n"]).unwrap();
            assert_eq!(reader.readline().await.unwrap(), b"one line\n");
            drop((peer, listener));
            assert_eq!(reader.readline().await.unwrap(), b"");
            assert_eq!(writer.peer_addr().unwrap(), addr, "known also after the end");

            let ((_, unix), _peer) = unix_pair();
            assert_eq!(unix.peer_addr().unwrap_err().kind(), ErrorKind::Unsupported);
            assert_eq!(unix.local_addr().unwrap_err().kind(), ErrorKind::Unsupported);

            // A datagram endpoint with a remote address is a connected socket.
            let (server, client) = (UdpSocket::bind(LOCAL).await.unwrap(), UdpSocket::bind(LOCAL).await.unwrap());
            client.connect(server.local_addr().unwrap()).await.unwrap();
            client.send(b"ping").await.unwrap();
            let (length, from) = server.recv_from(&mut [0; 8]).await.unwrap();
            assert_eq!((length, from), (4, client.local_addr().unwrap()));
        });
    }

    fn n16_a_streams_descriptor_cannot_be_watched(rt: Runtime) {
        rt.block_on(async {
            let ((_reader, writer), _peer) = unix_pair();
            let event_loop = EventLoop::current();
            let error = event_loop.add_reader(writer.socket(), || ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            assert!(event_loop.add_writer(writer.socket(), || ()).is_err());
            writer.write(b"and it is none the worse").unwrap();
        });
    }

    fn happy_eyeballs_pass_over_a_silent_address(rt: Runtime) {
        rt.block_on(async {
            let (_held, silent) = silent_address();
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let good = listener.local_addr().unwrap();
            let options = OpenOptions::new().happy_eyeballs_delay(Some(5 * MS));
            let (_, writer) = options.open([silent, silent, good]).await.unwrap();
            assert_eq!(writer.peer_addr().unwrap(), good);
            // One after the other, it waits for the silent one.
            let options = options.happy_eyeballs_delay(None);
            assert!(timeout(50 * MS, options.open([silent, good])).await.is_err());
        });
    }

    fn happy_eyeballs_go_on_at_once_after_a_failure(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let good = listener.local_addr().unwrap();
            let (_held, refusing) = refusing_address();
            for delay in [None, Some(Duration::from_secs(3600))] {
                let options = OpenOptions::new().happy_eyeballs_delay(delay);
                let (_, writer) = options.open([refusing, refusing, good]).await.unwrap();
                assert_eq!(writer.peer_addr().unwrap(), good);
                let error = options.open([refusing, refusing]).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                let none: Vec<SocketAddr> = Vec::new();
                assert_eq!(options.open(none).await.unwrap_err().kind(), ErrorKind::InvalidInput);
            }
            // Different errors are told together.
            let elsewhere: SocketAddr = "255.255.255.255:1".parse().unwrap();
            let error = OpenOptions::new().open([elsewhere, refusing]).await.unwrap_err();
            assert!(error.to_string().contains("255.255.255.255:1"), "{error}");
            assert!(error.to_string().contains(&refusing.to_string()), "{error}");
        });
    }

    fn a_connection_may_have_a_local_address(rt: Runtime) {
        rt.block_on(async {
            let listener = TcpListener::bind(LOCAL).await.unwrap();
            let good = listener.local_addr().unwrap();
            let options = OpenOptions::new().local_addr("127.0.0.1:0".parse::<SocketAddr>().unwrap());
            // An address of another family is passed over.
            let (_, writer) = options.open(["[::1]:1".parse().unwrap(), good]).await.unwrap();
            assert!(writer.local_addr().unwrap().is_ipv4());
            let error = options.open("[::1]:1").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        });
    }
}

/// Where nobody listens, and nobody else can as long as the socket is there.
fn refusing_address() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&LOCAL.parse::<SocketAddr>().unwrap().into()).unwrap();
    let addr = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, addr)
}

/// An address that does not answer: a listener whose backlog is full drops what knocks.
fn silent_address() -> (Vec<socket2::Socket>, SocketAddr) {
    let (listener, addr) = refusing_address();
    listener.listen(0).unwrap();
    let mut held = vec![listener];
    for _ in 0..4 {
        let client = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&addr.into());
        held.push(client);
    }
    (held, addr)
}

#[test]
fn streams_need_a_runtime() {
    let rt = Runtime::builder().worker_threads(1).build().unwrap();
    let (stream, _peer) = rt.block_on(async { UnixStream::pair().unwrap() });
    panics_with("there is no epicycle runtime here", || split(stream));
}

#[test]
fn a_loop_without_a_runtime_serves_streams() {
    common::with_timeout(|| {
        let event_loop = EventLoop::new().unwrap();
        let done = event_loop.run_until_complete(async {
            let ((_ours, writer), (mut reader, _theirs)) = unix_pair();
            let length = stuff(&writer);
            writer.close();
            let read = reader.read_to_end().await.unwrap().len();
            writer.wait_closed().await.unwrap();
            poll_fn(|_| Poll::Ready(())).await;
            read == length
        });
        assert_eq!(done.ok(), Some(true));
    });
}
