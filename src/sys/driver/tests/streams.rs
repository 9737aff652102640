//! Accepting, receiving, sending, closing.

use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;

use super::*;
use crate::base::limits::{RECEIVE_BYTES, SEND_PIECES_MAX};

/// Reads all that comes until the end, on a thread of its own.
fn read_in_background<R: Read + Send + 'static>(mut from: R) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

on_both_drivers! {
    fn accepts_tcp_and_unix(choice) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut rig = open(choice);
        let unix = rig.driver.listen(Listener::unix(&path, 0o600).unwrap());
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = tcp.address().unwrap();
        let tcp = rig.driver.listen(tcp);
        assert_ne!(unix, tcp);

        let client = UnixStream::connect(&path).unwrap();
        assert_eq!(rig.next_accepted().peer(), crate::sys::Peer::Unix);
        drop(client);

        let client = TcpStream::connect(address).unwrap();
        let accepted = rig.next_accepted();
        assert_eq!(accepted.peer(), crate::sys::Peer::Tcp(client.local_addr().unwrap()));
        let socket = socket2::SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert!(socket.nonblocking().unwrap());
        let flags = rustix::io::fcntl_getfd(accepted.as_fd()).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }

    fn unlisten_stops_accepting(choice) {
        let mut rig = open(choice);
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.address().unwrap();
        let listener = rig.driver.listen(listener);
        rig.settle();
        rig.driver.unlisten(listener);
        rig.settle();
        assert!(TcpStream::connect(address).is_err());
        assert!(rig.accepted.is_empty());
    }

    fn thousands_of_connections_at_once(choice) {
        const CLIENTS: usize = 2_000;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let mut rig = open(choice);
        rig.driver.listen(Listener::unix(&path, 0o600).unwrap());
        let mut clients: Vec<_> =
            (0..CLIENTS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        rig.until("accepts", |rig| rig.accepted.len() == CLIENTS);
        let streams: Vec<_> =
            rig.accepted.drain(..).map(|stream| rig.driver.attach(stream)).collect();
        for (index, client) in clients.iter_mut().enumerate() {
            client.write_all(&(index as u32).to_be_bytes()).unwrap();
        }
        rig.until("receives", |rig| {
            rig.seen.values().filter(|seen| seen.received.len() == 4).count() == CLIENTS
        });
        let mut seen: Vec<_> = streams.iter().map(|key| rig.seen[key].received.clone()).collect();
        seen.sort();
        let sent: Vec<_> = (0..CLIENTS).map(|i| (i as u32).to_be_bytes().to_vec()).collect();
        assert_eq!(seen, sent);
        for stream in streams {
            rig.driver.close(stream);
        }
        rig.settle();
        for mut client in clients {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        }
    }

    fn bytes_arrive_in_order_however_split(choice) {
        let mut rig = open(choice);
        let sent = pattern(1_000_000, 7);
        for tcp in [false, true] {
            let (stream, writer): (_, Box<dyn Write + Send>) = if tcp {
                let (stream, theirs) = rig.attach_tcp();
                (stream, Box::new(theirs))
            } else {
                let (stream, theirs) = rig.attach_pair();
                (stream, Box::new(theirs))
            };
            let bytes = sent.clone();
            let writer = std::thread::spawn(move || {
                let mut writer = writer;
                let mut rest = bytes.as_slice();
                let mut len = 1;
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(len.min(rest.len()));
                    writer.write_all(now).unwrap();
                    rest = later;
                    len = len * 3 % 70_001 + 1;
                }
            });
            rig.until("all bytes and the end", |rig| rig.seen(stream).ended.is_some());
            writer.join().unwrap();
            assert_eq!(rig.seen(stream).ended, Some(None));
            assert!(rig.seen(stream).received == sent);
        }
    }

    fn large_sends_arrive_whole(choice) {
        let mut rig = open(choice);
        let bytes = pattern(1_000_000, 3);
        let (unix, theirs) = rig.attach_pair();
        let unix_reader = read_in_background(theirs);
        let (tcp, theirs) = rig.attach_tcp();
        let tcp_reader = read_in_background(theirs);
        for stream in [unix, tcp] {
            rig.send(stream, &bytes);
            assert!(rig.driver.sending(stream));
        }
        rig.until("sends", |rig| {
            [unix, tcp].iter().all(|stream| rig.seen(*stream).sent == [bytes.len()])
        });
        for stream in [unix, tcp] {
            assert!(!rig.driver.sending(stream));
            rig.driver.close(stream);
        }
        rig.settle();
        assert!(unix_reader.join().unwrap() == bytes);
        assert!(tcp_reader.join().unwrap() == bytes);
    }

    fn many_pieces_are_one_run_of_bytes(choice) {
        let mut rig = open(choice);
        let (stream, theirs) = rig.attach_pair();
        let reader = read_in_background(theirs);
        // Each longer than the one before, the first empty; too much for the socket's buffer.
        let pieces: Vec<_> = (0..SEND_PIECES_MAX).map(|n| pattern(n * 200, n as u32)).collect();
        let whole = pieces.concat();
        let slices: Vec<_> = pieces.iter().map(|piece| slice(piece)).collect();
        for round in 1..=3 {
            rig.driver.send(stream, slices.iter());
            rig.until("send", |rig| rig.seen(stream).sent.len() == round);
            assert_eq!(rig.seen(stream).sent[round - 1], whole.len());
        }
        rig.driver.close(stream);
        rig.settle();
        assert!(reader.join().unwrap() == whole.repeat(3));
    }

    fn empty_piece_sends_nothing(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_pair();
        rig.send(stream, b"");
        rig.until("sent", |rig| rig.seen(stream).sent == [0]);
        rig.send(stream, b"x");
        rig.until("sent", |rig| rig.seen(stream).sent == [0, 1]);
        let mut bytes = [0; 1];
        theirs.read_exact(&mut bytes).unwrap();
    }

    fn second_send_is_our_own_mistake(choice) {
        let mut rig = open(choice);
        let (stream, _theirs) = rig.attach_pair();
        rig.send(stream, b"one");
        let second = std::panic::AssertUnwindSafe(|| rig.send(stream, b"two"));
        assert!(std::panic::catch_unwind(second).is_err());
    }

    fn send_waits_for_a_receiver_that_does_not_read(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_pair();
        let bytes = pattern(2_000_000, 9);
        rig.send(stream, &bytes);
        rig.settle();
        assert!(rig.seen(stream).sent.is_empty());
        assert!(rig.driver.sending(stream));
        let mut read = vec![0; bytes.len()];
        let mut at = 0;
        while at < read.len() {
            at += theirs.read(&mut read[at..]).unwrap();
            rig.turn(Wait::No);
        }
        rig.until("sent", |rig| rig.seen(stream).sent == [bytes.len()]);
        assert!(read == bytes);
    }

    fn half_closed_stream_can_still_be_sent_to(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_tcp();
        theirs.write_all(b"question").unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        rig.until("end", |rig| rig.seen(stream).ended.is_some());
        assert_eq!(rig.seen(stream).ended, Some(None));
        assert_eq!(rig.seen(stream).received, b"question");
        rig.send(stream, b"answer");
        rig.until("sent", |rig| rig.seen(stream).sent == [6]);
        rig.driver.close(stream);
        rig.settle();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
    }

    fn reset_ends_the_stream_with_an_error(choice) {
        let mut rig = open(choice);
        let (stream, theirs) = rig.attach_tcp();
        rig.settle();
        socket2::SockRef::from(&theirs).set_linger(Some(Duration::ZERO)).unwrap();
        drop(theirs);
        rig.until("end", |rig| rig.seen(stream).ended.is_some());
        assert_eq!(rig.seen(stream).ended, Some(Some(io::ErrorKind::ConnectionReset)));
        rig.send(stream, b"too late");
        rig.until("failure", |rig| rig.seen(stream).send_failed.is_some());
        assert!(!rig.driver.sending(stream));
    }

    fn broken_stream_fails_the_send_and_raises_no_signal(choice) {
        let mut rig = open(choice);
        let (stream, theirs) = rig.attach_pair();
        drop(theirs);
        rig.send(stream, b"hello");
        rig.until("failure", |rig| rig.seen(stream).send_failed.is_some());
        assert_eq!(rig.seen(stream).send_failed, Some(io::ErrorKind::BrokenPipe));
        rig.until("end", |rig| rig.seen(stream).ended.is_some());
    }

    fn nothing_is_reported_after_close(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_pair();
        theirs.write_all(b"unread").unwrap();
        rig.driver.turn(Wait::No).unwrap(); // the events stay in the driver
        rig.send(stream, &pattern(2_000_000, 1));
        rig.driver.close(stream);
        assert!(!rig.driver.sending(stream));
        rig.settle();
        let mut read = Vec::new();
        let _ = theirs.read_to_end(&mut read);
        assert!(read.len() < 2_000_000);
        rig.settle();
        assert!(rig.seen.is_empty(), "{:?}", rig.seen);
        // The slot, the send's memory and the receive buffer are good again.
        let (stream, mut theirs) = rig.attach_pair();
        theirs.write_all(b"hello").unwrap();
        rig.send(stream, b"hello too");
        rig.until("receive", |rig| rig.seen(stream).received == b"hello");
    }

    fn reported_sends_survive_close(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_tcp();
        theirs.write_all(b"never read by the driver's owner").unwrap();
        rig.driver.pause(stream);
        rig.send(stream, b"last words");
        rig.until("sent", |rig| rig.seen(stream).sent == [10]);
        rig.driver.close(stream);
        rig.settle();
        let mut read = Vec::new();
        theirs.read_to_end(&mut read).unwrap(); // no reset
        assert_eq!(read, b"last words");
    }

    fn paused_stream_loses_nothing(choice) {
        let mut rig = open(choice);
        let (stream, mut theirs) = rig.attach_pair();
        let (other, mut other_theirs) = rig.attach_pair();
        let mut sent = Vec::new();
        for round in 0..20_u32 {
            rig.driver.pause(stream);
            if round % 3 == 0 {
                // Changed its mind before the turn.
                rig.driver.resume(stream);
                rig.driver.pause(stream);
            }
            rig.settle();
            let before = rig.seen(stream).received.len();
            let bytes = pattern(10_000 + round as usize, round);
            theirs.write_all(&bytes).unwrap();
            sent.extend_from_slice(&bytes);
            other_theirs.write_all(b"x").unwrap();
            let count = round as usize + 1;
            rig.until("other stream", |rig| rig.seen(other).received.len() == count);
            assert_eq!(rig.seen(stream).received.len(), before, "received while paused");
            rig.driver.resume(stream);
            let all = sent.len();
            rig.until("the rest", |rig| rig.seen(stream).received.len() == all);
        }
        assert!(rig.seen(stream).received == sent);
    }

    fn few_buffers_serve_many_streams(choice) {
        let mut rig = open_with(choice, &Options { receive_buffers: 2, entries: 8 });
        let mut pairs: Vec<_> = (0..50).map(|_| rig.attach_pair()).collect();
        rig.settle();
        for round in 1..=5_usize {
            for (index, (_, theirs)) in pairs.iter_mut().enumerate() {
                theirs.write_all(&pattern(1_000, (index * round) as u32)).unwrap();
            }
            rig.until("everybody's bytes", |rig| {
                pairs.iter().all(|(key, _)| rig.seen(*key).received.len() == round * 1_000)
            });
        }
        for (index, (key, _)) in pairs.iter().enumerate() {
            let sent: Vec<_> =
                (1..=5).flat_map(|round| pattern(1_000, (index * round) as u32)).collect();
            assert!(rig.seen[key].received == sent);
        }
        if choice == Choice::IoUring {
            assert!(rig.driver.counts().buffers_exhausted > 0);
            assert!(rig.driver.counts().enters_early > 0);
        }
    }

    fn completions_may_overflow(choice) {
        // Far more streams than completions fit, all ready at once.
        let mut rig = open_with(choice, &Options { receive_buffers: 4096, entries: 2 });
        let mut pairs: Vec<_> = (0..500).map(|_| rig.attach_pair()).collect();
        rig.driver.turn(Wait::No).unwrap();
        for (_, theirs) in &mut pairs {
            theirs.write_all(b"x").unwrap();
        }
        rig.until("all", |rig| pairs.iter().all(|(key, _)| rig.seen(*key).received == b"x"));
        if choice == Choice::IoUring {
            assert!(rig.driver.counts().cq_overflows > 0);
        }
    }

    fn busy_stream_does_not_starve_the_others(choice) {
        let mut rig = open(choice);
        let (busy, mut theirs) = rig.attach_tcp();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let flood = std::thread::spawn(move || {
            let bytes = vec![1; 4 * RECEIVE_BYTES];
            while !stopping.load(Relaxed) {
                let _ = theirs.write(&bytes);
            }
        });
        rig.until("flood", |rig| rig.seen(busy).receives > 10);
        let (quiet, mut theirs) = rig.attach_pair();
        for round in 1..=50 {
            theirs.write_all(b"x").unwrap();
            rig.until("quiet stream", |rig| rig.seen(quiet).received.len() == round);
            rig.seen(busy).received.clear();
        }
        stop.store(true, Relaxed);
        rig.driver.close(busy);
        rig.settle();
        flood.join().unwrap();
    }
}
