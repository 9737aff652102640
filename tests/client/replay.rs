//! Recorded daemons: what they sent must arrive as Spread's library understood it, and what we send
//! must be what that library sent.

use std::io::{Read, Write};
use std::time::Duration;

use madrigal::client::{Multicast, Options, ReceiveError, Session, Wait};
use madrigal::wire::session::frame::parse_hint;
use madrigal::wire::session::handshake::AUTH_CHOICE_BYTES;
use madrigal::wire::session::{Frame, Hello, Name, kind};

use crate::recorded::{self, What};
use crate::{daemon, line::line};

/// One recorded connection that became a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recording {
    pub(crate) place: String,
    pub(crate) hello: Vec<u8>,
    pub(crate) auth_list: Vec<u8>,
    pub(crate) accept: Vec<u8>,
    /// Frames of the daemon.
    pub(crate) frames: Vec<Vec<u8>>,
    /// Frames of the client.
    requests: Vec<Vec<u8>>,
    /// What Spread's library made of `frames`.
    received: Vec<String>,
}

impl Recording {
    pub(crate) fn options(&self) -> Options {
        let (hello, _) = Hello::parse(&self.hello).unwrap().unwrap();
        let name = String::from_utf8(hello.name.to_vec()).unwrap();
        Options::new()
            .name(name)
            .membership(hello.wants_membership())
            .priority(hello.priority() != 0)
    }

    /// Sends what the daemon sent, in pieces of `piece` bytes, then closes.
    pub(crate) fn play(&self, mut stream: impl Read + Write, piece: usize) {
        let hello = daemon::read_hello(&mut stream);
        // The recorded library says 5.0.1 or 4.4.0; all else must be equal.
        assert_eq!(hello[3..], self.hello[3..], "{}", self.place);
        write_pieces(&mut stream, &self.auth_list, piece);
        let mut choice = [0; AUTH_CHOICE_BYTES];
        stream.read_exact(&mut choice).unwrap();
        let mut rest = self.accept.clone();
        rest.extend(self.frames.concat());
        write_pieces(&mut stream, &rest, piece);
    }

    /// Compares the events of a session with what the recorded library understood.
    pub(crate) fn check(&self, events: &[String]) {
        assert_eq!(events.len(), self.frames.len(), "{}", self.place);
        let mut events = events.iter();
        for received in &self.received {
            let found = events.find(|event| *event == received);
            assert!(found.is_some(), "{}: {received} is missing", self.place);
        }
    }
}

fn write_pieces(stream: &mut impl Write, bytes: &[u8], piece: usize) {
    for piece in bytes.chunks(piece) {
        stream.write_all(piece).unwrap();
    }
}

/// The sessions of programs on Spread's C library, from all transcripts but those from 40 on: they
/// tell what programs on the flush library, a layer above, got to see.
pub(crate) fn recordings() -> Vec<Recording> {
    let mut all = Vec::new();
    for name in recorded::names().into_iter().filter(|name| name.as_str() < "40") {
        let mut sessions = std::collections::BTreeMap::<String, Recording>::new();
        for line in recorded::read(&name) {
            let session = sessions.entry(line.conn.clone()).or_default();
            session.place = format!("{name} {}", line.conn);
            match line.what {
                What::Bytes { from_daemon, kind, bytes, .. } => {
                    match (kind.as_str(), from_daemon) {
                        ("connect", _) => session.hello = bytes,
                        ("auth_list", _) => session.auth_list = bytes,
                        ("accept", _) => session.accept = bytes,
                        ("message", true) => session.frames.push(bytes),
                        ("message", false) => session.requests.push(bytes),
                        _ => {}
                    }
                }
                What::Received(line) => session.received.push(line),
                What::Call(_) | What::Note(_) | What::Other => {}
            }
        }
        // Raw programs (R, V), the Java library (J) and the flush library (F1 to F4) print
        // something else, or nothing.
        let library = |conn: &str| {
            let is_flush = conn.starts_with('F') && conn.len() > 1;
            !is_flush && !conn.starts_with(['R', 'V', 'J'])
        };
        let complete = |session: &Recording| !session.accept.is_empty();
        all.extend(
            sessions
                .into_iter()
                .filter(|(conn, session)| library(conn) && complete(session))
                .map(|(_, session)| understandable(session)),
        );
    }
    assert!(all.len() > 40, "{}", all.len());
    all
}

/// Drops what the recorded library did for reasons of its own.
fn understandable(mut session: Recording) -> Recording {
    // Its caller had no room; the same message comes again, or was given up by DROP_RECV.
    session.received.retain(|line| !line.starts_with("ret=-") && !line.starts_with("with "));
    for line in &mut session.received {
        // It leaves the group id in a transitional signal of a big-endian daemon as it is.
        *line = line.replace("gid=16777226,1300562795,50331648", "gid=167772161,1795392845,3");
    }
    session
}

/// All events up to the end of the stream, as lines.
fn receive_all(session: &mut Session) -> Vec<String> {
    let mut events = Vec::new();
    loop {
        match session.receive() {
            Ok(event) => events.push(line(&event)),
            Err(ReceiveError::Closed) => return events,
            Err(error) => panic!("{error} after {events:#?}"),
        }
    }
}

#[test]
fn recorded_daemons_are_understood_as_spreads_library_does() {
    let mut events = 0;
    for recording in recordings() {
        let script = recording.clone();
        let daemon = daemon::unix(move |stream| script.play(stream, usize::MAX));
        let mut session = Session::connect(&daemon.address, &recording.options()).unwrap();
        let found = receive_all(&mut session);
        recording.check(&found);
        events += recording.received.len();
        daemon.join();
    }
    assert!(events > 250, "{events}");
}

#[test]
fn pieces_of_any_size_make_no_difference() {
    for recording in recordings() {
        let bytes: usize = recording.frames.iter().map(Vec::len).sum();
        for piece in [1, 7, 47, 48, 49, 4096] {
            if bytes / piece > 20_000 {
                continue;
            }
            let script = recording.clone();
            let daemon = daemon::unix(move |stream| script.play(stream, piece));
            let mut session = Session::connect(&daemon.address, &recording.options()).unwrap();
            recording.check(&receive_all(&mut session));
            daemon.join();
        }
    }
}

#[test]
fn tcp_and_every_way_to_wait_make_no_difference() {
    for wait in [Wait::Park, Wait::Spin, Wait::Adaptive(Duration::from_micros(20))] {
        for recording in recordings().into_iter().skip(8).take(12) {
            let script = recording.clone();
            let daemon = daemon::tcp("127.0.0.1", move |stream| script.play(stream, 100));
            let options = recording.options().wait(wait);
            let mut session = Session::connect(&daemon.address, &options).unwrap();
            recording.check(&receive_all(&mut session));
            daemon.join();
        }
    }
}

/// A KILL carries uninitialised memory behind the name in Spread's library.
fn clear_behind_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let (frame, _) = Frame::parse(&bytes).unwrap().unwrap();
    if frame.header.kind == kind::KILL {
        let start = bytes.len() - 32;
        let len = Name::new(&frame.names[0]).as_bytes().len();
        bytes[start + len..].fill(0);
    }
    bytes
}

/// Makes the request that the frame is; `false` if our library refuses to, or has no way.
fn repeat(session: &mut Session, bytes: &[u8]) -> bool {
    let (frame, _) = Frame::parse(bytes).unwrap().unwrap();
    let groups: Vec<&str> =
        frame.names.iter().map(|name| Name::new(name).to_str().unwrap()).collect();
    let kind = frame.header.kind;
    match kind {
        kind::JOIN => session.join(groups[0]).is_ok(),
        kind::LEAVE => session.leave(groups[0]).is_ok(),
        _ if (kind & kind::SERVICES).count_ones() != 1 => false,
        _ => {
            let multicast = Multicast::new(kind::service(kind).unwrap())
                .message_type(parse_hint(frame.header.hint).0)
                .self_discard(kind & kind::SELF_DISCARD != 0)
                .type_bits(kind & !(kind::SERVICES | kind::SELF_DISCARD));
            session.outbox().multicast_with(&multicast, &groups, frame.data).is_ok()
        }
    }
}

#[test]
fn requests_are_the_bytes_that_spreads_library_sends() {
    let mut requests = 0;
    for recording in recordings() {
        let script = recording.clone();
        let daemon = daemon::unix(move |mut stream| {
            let quiet = Recording { frames: Vec::new(), ..script };
            quiet.play(&mut stream, usize::MAX);
            daemon::read_to_end(stream)
        });
        let mut session = Session::connect(&daemon.address, &recording.options()).unwrap();
        let mut expected = Vec::new();
        for request in &recording.requests {
            let request = clear_behind_nul(request.clone());
            let (frame, _) = Frame::parse(&request).unwrap().unwrap();
            if frame.header.kind == kind::KILL {
                continue;
            }
            if repeat(&mut session, &request) {
                expected.extend(request);
                requests += 1;
            }
        }
        session.disconnect().unwrap();
        let mut sent = daemon.join();
        let kill = sent.split_off(sent.len() - 80);
        assert!(sent == expected, "{}", recording.place);
        let last = recording.requests.last().cloned().map(clear_behind_nul);
        if let Some(request) = last.filter(|last| last[2] == 4) {
            assert_eq!(kill, request, "{}", recording.place);
        }
    }
    assert!(requests > 100, "{requests}");
}
