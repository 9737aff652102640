//! The session for tokio: the same bytes, the same events.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use madrigal::client::tokio::Session;
use madrigal::client::{ConnectError, Event, Options, ReceiveError, Reject, Service, Transport};
use madrigal::wire::session::{Frame, kind};

use crate::receive::message;
use crate::replay::recordings;
use crate::{daemon, line::line};

fn data(event: &Event<'_>) -> Vec<u8> {
    let Event::Message(message) = event else { panic!("{event:?}") };
    message.data().to_vec()
}

async fn receive_all(session: &mut Session) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        match session.receive().await {
            Ok(event) => events.push(line(&event)),
            Err(ReceiveError::Closed) => return events,
            Err(error) => panic!("{error} after {events:#?}"),
        }
    }
}

#[tokio::test]
async fn recorded_daemons_are_understood_over_both_transports() {
    for (index, recording) in recordings().into_iter().enumerate() {
        let script = recording.clone();
        let piece = [usize::MAX, 100, 49][index % 3];
        let daemon = if index % 2 == 0 {
            daemon::unix(move |stream| script.play(stream, piece))
        } else {
            daemon::tcp("127.0.0.1", move |stream| script.play(stream, piece))
        };
        let mut session = Session::connect(&daemon.address, &recording.options()).await.unwrap();
        recording.check(&receive_all(&mut session).await);
        daemon.join();
    }
}

#[tokio::test]
async fn dropped_receive_loses_nothing() {
    let daemon = daemon::unix(|mut stream| {
        daemon::accept(&mut stream);
        for number in 0..50 {
            // Two writes for each frame, so that receives are dropped in mid-frame too.
            let frame = message(&[number]);
            let (first, second) = frame.split_at(number.into());
            stream.write_all(first).unwrap();
            stream.write_all(second).unwrap();
        }
    });
    let mut session = Session::connect(&daemon.address, &Options::new()).await.unwrap();
    let mut expected = 0;
    loop {
        let event = tokio::select! {
            biased;
            event = session.receive() => event,
            () = tokio::task::yield_now() => continue,
        };
        match event {
            Ok(event) => assert_eq!(data(&event), [expected]),
            Err(ReceiveError::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        expected += 1;
    }
    assert_eq!(expected, 50);
    daemon.join();
}

#[tokio::test]
async fn sends_wait_for_a_daemon_that_reads_late() {
    let (go, wait) = std::sync::mpsc::channel();
    let daemon = daemon::unix(move |mut stream| {
        daemon::accept(&mut stream);
        wait.recv().unwrap();
        daemon::read_to_end(stream)
    });
    let session = Session::connect(&daemon.address, &Options::new()).await.unwrap();
    let (mut outbox, _inbox) = session.split();
    outbox.join("g").await.unwrap();
    let mut sent = 0;
    let flood = async {
        loop {
            outbox.multicast(Service::Agreed, &["g"], 0, &[7; 50_000]).await.unwrap();
            sent += 1;
        }
    };
    // It comes to a stop, because the daemon does not read.
    tokio::time::timeout(Duration::from_millis(100), flood).await.unwrap_err();
    go.send(()).unwrap();
    outbox.queue(Service::Agreed, &["g"], 0, b"last").await.unwrap();
    outbox.disconnect().await.unwrap();
    let bytes = daemon.join();
    let mut rest = &bytes[..];
    let mut kinds = Vec::new();
    while let Some((frame, len)) = Frame::parse(rest).unwrap() {
        kinds.push(frame.header.kind);
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    assert_eq!((kinds[0], kinds[kinds.len() - 1]), (kind::JOIN, kind::KILL));
    // The one whose call was dropped was sent as a whole.
    let messages = kinds.iter().filter(|&&kind| kind == kind::AGREED).count();
    assert_eq!(messages, sent + 2);
}

/// Runs `work` beside another task on one thread, and says whether that one had its turn.
async fn lets_others_run(work: impl Future<Output = ()>) -> bool {
    let other = tokio::spawn(async {});
    work.await;
    other.is_finished()
}

#[tokio::test]
async fn receiving_what_is_there_lets_other_tasks_run() {
    let daemon = daemon::unix(|mut stream| {
        daemon::accept(&mut stream);
        let frames: Vec<_> = (0..1000_u16).map(|number| message(&number.to_le_bytes())).collect();
        stream.write_all(&frames.concat()).unwrap();
    });
    let mut session = Session::connect(&daemon.address, &Options::new()).await.unwrap();
    daemon.join();
    let receive = async {
        for number in 0..1000_u16 {
            assert_eq!(data(&session.receive().await.unwrap()), number.to_le_bytes());
        }
    };
    assert!(lets_others_run(receive).await);
}

#[tokio::test]
async fn sending_without_waiting_lets_other_tasks_run() {
    let daemon = daemon::unix(|mut stream| {
        daemon::accept(&mut stream);
        daemon::read_to_end(stream)
    });
    let session = Session::connect(&daemon.address, &Options::new()).await.unwrap();
    let (mut outbox, _inbox) = session.split();
    // Less than the batch, and less than the socket holds.
    let queue = async {
        for _ in 0..500 {
            outbox.queue(Service::Agreed, &["g"], 0, b"").await.unwrap();
        }
    };
    assert!(lets_others_run(queue).await);
    outbox.flush().await.unwrap();
    let multicast = async {
        for _ in 0..200 {
            outbox.multicast(Service::Agreed, &["g"], 0, b"").await.unwrap();
        }
    };
    assert!(lets_others_run(multicast).await);
    outbox.disconnect().await.unwrap();
    daemon.join();
}

#[tokio::test]
async fn calls_may_move_between_threads() {
    fn movable<T: Send>(_: &T) {}
    let daemon = daemon::unix(|mut stream| daemon::accept(&mut stream));
    let options = Options::new();
    let connect = Session::connect(&daemon.address, &options);
    movable(&connect);
    let mut session = connect.await.unwrap();
    movable(&session);
    movable(&session.receive());
    movable(&session.multicast(Service::Agreed, &["g"], 0, b""));
    daemon.join();
}

#[tokio::test]
async fn rejects_are_told() {
    for reject in Reject::ALL {
        let daemon = daemon::unix(move |mut stream| {
            daemon::read_hello(&mut stream);
            stream.write_all(&[reject.to_byte()]).unwrap();
        });
        let error = Session::connect(&daemon.address, &Options::new()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Rejected(found) if found == reject), "{error}");
        daemon.join();
    }
}

#[tokio::test]
async fn nobody_there_is_told() {
    let error = Session::connect("unix:/nonexistent/daemon", &Options::new()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}

/// Where a daemon's two sockets would be, and listeners with no room left.
fn full(directory: &Path) -> [(PathBuf, socket2::Socket, UnixStream); 2] {
    ["daemon", "daemon.shm"].map(|name| {
        let path = directory.join(name);
        let listener = daemon::deaf(&path);
        let first = UnixStream::connect(&path).unwrap();
        (path, listener, first)
    })
}

#[tokio::test]
async fn full_backlog_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let [(path, listener, _), (_, door, _)] = full(directory.path());
    let address = format!("unix:{}", path.display());
    for (transport, listener) in [(Transport::Socket, listener), (Transport::SharedMemory, door)] {
        let options = Options::new().transport(transport).connect_timeout(Duration::MAX);
        let mut connecting = pin!(Session::connect(&address, &options));
        tokio::time::timeout(Duration::from_millis(20), &mut connecting).await.unwrap_err();
        // Both are let in and turned away.
        let accepting = std::thread::spawn(move || {
            for _ in 0..2 {
                drop(listener.accept().unwrap());
            }
        });
        let error = connecting.await.unwrap_err();
        assert!(matches!(error, ConnectError::Closed), "{error}");
        accepting.join().unwrap();
    }
}

#[tokio::test]
async fn full_backlog_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let sockets = full(directory.path());
    let address = format!("unix:{}", sockets[0].0.display());
    for transport in [Transport::Socket, Transport::SharedMemory] {
        let options = Options::new().transport(transport).connect_timeout(Duration::from_millis(5));
        let error = Session::connect(&address, &options).await.unwrap_err();
        assert!(matches!(error, ConnectError::TimedOut), "{error}");
    }
}
