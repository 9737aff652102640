//! The handshake: what a connection says before it is a session.

use madrigal::base::buffer::Heap;
use madrigal::session::Auth;
use madrigal::wire::session::handshake::{AUTH_CHOICE_BYTES, HELLO_BYTES_MAX, parse_auth_choice};
use madrigal::wire::session::{Accept, AuthList, AuthMethods, Hello, Reject, Version};

use super::loopback::Loopback;

/// The first byte chooses the setting, the second how the rest is split.
pub(crate) fn handshake(input: &[u8]) {
    let [setting, step, bytes @ ..] = input else { return };
    parsers(bytes);
    let (whole, whole_closed) = talk(*setting, bytes.len().max(1), usize::MAX, bytes);
    let step = usize::from(*step) % 97 + 1;
    let (split, split_closed) = talk(*setting, step, step, bytes);
    // However it arrives, the answer is the same; but what waits for a session when it ends by
    // itself is not written any more.
    assert_eq!(whole_closed, split_closed);
    let (said, also) = (whole.escape_ascii(), split.escape_ascii());
    assert!(split.starts_with(&whole) && (whole_closed || whole == split), "{said}, {also}");
}

/// What the daemon answers, and whether it closed before the client did.
fn talk(setting: u8, step: usize, write_max: usize, bytes: &[u8]) -> (Vec<u8>, bool) {
    let bit = |bit: u8| setting >> bit & 1 == 1;
    let allowed = AuthMethods { null: bit(0), ip: bit(1) };
    let mut daemon = Loopback::new(Heap, Auth { allowed, ip_required: bit(2) });
    daemon.write_max = write_max;
    let id = daemon.accept(bit(3));
    let mut answer = Vec::new();
    let mut sink = |_, bytes: &[u8]| answer.extend_from_slice(bytes);
    for part in bytes.chunks(step) {
        daemon.receive(id, part, &mut sink);
    }
    let closed = !daemon.closed.is_empty();
    assert_eq!(closed, daemon.is_empty());
    daemon.end(id, &mut sink);
    assert!(daemon.is_empty(), "nobody is left");
    assert_eq!(daemon.closed, [id], "closed once");
    understood(bytes, &answer);
    (answer, closed)
}

/// A client that waits for the answer can read it.
fn understood(bytes: &[u8], answer: &[u8]) {
    let Ok(Some((hello, _))) = Hello::parse(bytes) else {
        return assert!(answer.len() <= 1, "a reject at most");
    };
    let version = hello.version;
    let mut rest = answer;
    if version.has_auth() && rest.first().is_some_and(|&first| first < 0x80) {
        let (list, len) = AuthList::parse(rest).expect("a list").expect("whole");
        assert!(list.methods().count() <= 2);
        rest = &rest[len..];
    }
    let [first, ..] = rest else { return };
    if Reject::from_byte(*first).is_some() {
        return assert_eq!(rest.len(), 1, "nothing behind a reject");
    }
    let (accept, len) = Accept::parse(rest, version).expect("an accept").expect("whole");
    assert!(hello.name.is_empty() || accept.group.session.as_bytes() == hello.name);
    // Behind it come frames.
    assert!(rest.len() == len || rest.len() >= len + 48);
}

/// The parsers of both sides on the bytes as they are.
fn parsers(bytes: &[u8]) {
    if let Ok(Some((hello, len))) = Hello::parse(bytes) {
        assert!(len <= bytes.len());
        let mut again = [0; HELLO_BYTES_MAX];
        let emitted = hello.emit(&mut again);
        assert_eq!(Hello::parse(&again[..emitted]), Ok(Some((hello, emitted))));
    }
    if let Some(choice) = bytes.first_chunk::<AUTH_CHOICE_BYTES>() {
        assert!(parse_auth_choice(choice).count() <= 3);
    }
    if let Ok(Some((list, len))) = AuthList::parse(bytes) {
        assert!(len <= bytes.len() && list.methods().all(|method| method.len() < len));
    }
    for client in [Version::SPOKEN, Version::new(3, 14, 0), Version::new(3, 15, 0)] {
        if let Ok(Some((accept, len))) = Accept::parse(bytes, client) {
            assert!(len <= bytes.len() && accept.group.to_name().is_private());
        }
    }
}
