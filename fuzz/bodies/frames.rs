//! Frames of an open session, with a daemon behind it and a client that watches.

use madrigal::base::buffer::Heap;
use madrigal::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use madrigal::base::{PrivateGroup, SessionId};
use madrigal::session::Auth;
use madrigal::wire::session::handshake::{HELLO_BYTES_MAX, emit_auth_choice};
use madrigal::wire::session::{AuthMethods, ByteOrder, Frame, Header, Hello, Name, Regular, kind};

use super::loopback::Loopback;

/// Group in which somebody else watches; that of most recorded conversations.
const WATCHED: &str = "g";

const WATCHER: &str = "fuzzwatch";

/// The first byte says how the rest is split; the sender of the first frame is the session.
pub(crate) fn frames(input: &[u8]) {
    let [step, bytes @ ..] = input else { return };
    parsers(bytes);
    let name = session_of(bytes);
    let whole = talk(&name, bytes.len().max(1), usize::MAX, bytes);
    let step = usize::from(*step) % 97 + 1;
    let split = talk(&name, step, step, bytes);
    // However it arrives, the same happens.
    assert_eq!(whole.watcher.escape_ascii().to_string(), split.watcher.escape_ascii().to_string());
    assert_eq!(whole.closed, split.closed);
    // But what waits for a session when it ends by itself is not written any more.
    assert!(split.own.starts_with(&whole.own) && (whole.closed || whole.own == split.own));
}

/// What the session, and the watcher, get for it.
struct Outputs {
    own: Vec<u8>,
    watcher: Vec<u8>,
    /// The session was over before its client closed.
    closed: bool,
}

fn talk(name: &str, step: usize, write_max: usize, bytes: &[u8]) -> Outputs {
    let allowed = AuthMethods { null: true, ip: false };
    let mut daemon = Loopback::new(Heap, Auth { allowed, ip_required: false });
    let watcher = open(&mut daemon, WATCHER);
    let id = open(&mut daemon, name);
    let mut out = Outputs { own: Vec::new(), watcher: Vec::new(), closed: false };
    let mut sink = |to: SessionId, bytes: &[u8]| {
        let output = if to == id { &mut out.own } else { &mut out.watcher };
        output.extend_from_slice(bytes);
    };
    let join = Header {
        order: ByteOrder::Little,
        kind: kind::JOIN,
        name: field(&format!("#{WATCHER}#localhost")),
        destinations: 1,
        hint: [0x80, 0, 0, 0x80],
        data_len: 0,
    };
    let mut frame = [0; FRAME_HEADER_BYTES + GROUP_NAME_BYTES];
    join.emit(frame.first_chunk_mut().expect("room for a header"));
    frame[FRAME_HEADER_BYTES..].copy_from_slice(&field(WATCHED));
    daemon.receive(watcher, &frame, &mut sink);
    daemon.write_max = write_max;
    for part in bytes.chunks(step) {
        daemon.receive(id, part, &mut sink);
    }
    let closed = !daemon.closed.is_empty();
    daemon.end(id, &mut sink);
    assert_eq!(daemon.closed, [id], "it is gone, and nobody else is");
    out.closed = closed;
    check(&out.own, None);
    check(&out.watcher, Some(name));
    out
}

fn open(daemon: &mut Loopback<Heap>, name: &str) -> SessionId {
    let id = daemon.accept(false);
    let mut hello = [0; HELLO_BYTES_MAX];
    let len = Hello::new(name.as_bytes(), true, false).emit(&mut hello);
    let mut answer = Vec::new();
    let mut sink = |_, bytes: &[u8]| answer.extend_from_slice(bytes);
    daemon.receive(id, &hello[..len], &mut sink);
    daemon.receive(id, &emit_auth_choice(&[b"NULL"]), &mut sink);
    assert!(answer.starts_with(b"\x05NULL \x01"), "{}", answer.escape_ascii());
    id
}

/// Output is whole frames, each as a client expects it. `other`: the only member of the watched
/// group besides the watcher, if it is one.
fn check(mut output: &[u8], other: Option<&str>) {
    let mut joined = false;
    while !output.is_empty() {
        let (frame, len) = Frame::parse(output).expect("legal").expect("whole");
        output = &output[len..];
        if frame.header.kind & kind::SERVICES != 0 {
            assert_eq!(frame.header.kind & kind::DAEMON_ONLY, 0);
            assert!(frame.name.to_private_group().is_ok(), "{:?}", frame.name);
            continue;
        }
        if frame.header.kind == kind::CAUSED_BY_LEAVE {
            assert_eq!((frame.names.len(), frame.data.len()), (0, 0));
            continue;
        }
        let view = Regular::parse(frame.header.order, frame.data).expect("a view");
        assert_eq!((view.sets().len(), view.own_set()), (1, 0));
        let mut changed = view.sets().flatten();
        let changed = changed.next().expect("who joined or went").to_private_group();
        let Some(other) = other else { continue };
        assert!(frame.name == WATCHED, "{:?}", frame.name);
        let changed = changed.expect("the name of a session").session;
        if frame.header.kind & kind::CAUSED_BY_JOIN != 0 {
            assert!(!joined);
            joined = changed.as_str() == other;
        } else {
            assert!(joined && changed.as_str() == other);
            joined = false;
        }
        assert_eq!(frame.names.len(), 1 + usize::from(joined));
    }
    assert!(!joined, "the watcher has not heard that it went");
}

/// The session that the bytes are of: recorded ones have many names.
fn session_of(bytes: &[u8]) -> String {
    let field = bytes.get(4..4 + GROUP_NAME_BYTES).and_then(<[u8]>::first_chunk);
    let private = field.and_then(|field| Name::new(field).to_private_group().ok());
    let is_ours = |private: &PrivateGroup| {
        private.daemon.as_bytes() == b"localhost" && private.session.as_str() != WATCHER
    };
    private.filter(is_ours).map_or("a".to_owned(), |private| private.session.to_string())
}

fn field(name: &str) -> [u8; GROUP_NAME_BYTES] {
    let mut field = [0; GROUP_NAME_BYTES];
    field[..name.len()].copy_from_slice(name.as_bytes());
    field
}

/// The parsers of a client on the bytes as they are.
fn parsers(bytes: &[u8]) {
    if let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() {
        let header = Header::parse(head);
        let mut again = [0; FRAME_HEADER_BYTES];
        header.emit(&mut again);
        assert_eq!(Header::parse(&again), header);
    }
    let mut rest = bytes;
    while let Ok(Some((frame, len))) = Frame::parse(rest) {
        assert!(len >= FRAME_HEADER_BYTES && len <= rest.len());
        if let Some(view) = Regular::parse(frame.header.order, frame.data) {
            assert!(view.own_set() < view.sets().len());
            let names = view.sets().map(|set| set.len()).sum::<usize>();
            assert!(names * GROUP_NAME_BYTES <= frame.data.len());
        }
        rest = &rest[len..];
    }
}
