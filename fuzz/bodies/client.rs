//! Any bytes as a client may get them from a daemon: each parser takes what it says and no more,
//! asks for more bytes instead of guessing, and does not change its mind when they come.

use madrigal::base::limits::DAEMON_FRAME_BYTES_MAX;
use madrigal::wire::session::{Accept, AuthList, Cause, Frame, Regular, Version, kind};

use super::reader::Reader;

/// Reads the input as the answers of a handshake, and as frames.
pub(crate) fn run(input: &[u8]) {
    let mut reader = Reader::new(input);
    let step = 1 + usize::from(reader.byte());
    let bytes = reader.bytes(input.len());
    let list = |bytes: &[u8]| AuthList::parse(bytes).map(|found| found.map(|(_, len)| len));
    steady(bytes, list);
    if let Ok(Some((list, _))) = AuthList::parse(bytes) {
        assert!(list.methods().all(|method| list.contains(method) && method.len() < 128));
    }
    for version in [Version::OLDEST, Version::WITH_PATCH, Version::SPOKEN] {
        let accept = |bytes: &[u8]| Accept::parse(bytes, version).map(|found| found.map(|a| a.1));
        steady(bytes, accept);
    }
    let whole = frames(bytes, bytes.len().max(1));
    assert_eq!(frames(bytes, step), whole, "a split changes the frames");
}

/// A parser must say the same of every beginning of `bytes`: "more", and then one answer.
fn steady<E: PartialEq + std::fmt::Debug>(
    bytes: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<usize>, E>,
) {
    let last = parse(bytes);
    for len in 0..bytes.len().min(200) {
        match parse(&bytes[..len]) {
            Ok(None) => {}
            Ok(Some(consumed)) => {
                assert!((1..=len).contains(&consumed));
                assert_eq!(last, Ok(Some(consumed)));
            }
            error => assert_eq!(error, last),
        }
    }
}

/// Where the frames of a stream end, when `step` bytes come at a time; and whether it broke.
fn frames(bytes: &[u8], step: usize) -> (Vec<usize>, bool) {
    let mut ends = Vec::new();
    let (mut start, mut end) = (0, 0);
    while end < bytes.len() {
        end = bytes.len().min(end + step);
        loop {
            let unread = &bytes[start..end];
            let known = Frame::len(unread);
            match Frame::parse(unread) {
                Err(error) => {
                    assert_eq!(known, Err(error));
                    return (ends, true);
                }
                Ok(None) => {
                    let missing = known.expect("no error of the whole frame");
                    assert!(missing.is_none_or(|len| unread.len() < len));
                    assert!(missing.is_none_or(|len| len <= DAEMON_FRAME_BYTES_MAX));
                    break;
                }
                Ok(Some((frame, len))) => {
                    assert!(known == Ok(Some(len)) && (1..=unread.len()).contains(&len));
                    check(&frame, len);
                    start += len;
                    ends.push(start);
                }
            }
        }
    }
    (ends, false)
}

/// The parts of a frame are as long as its header says.
fn check(frame: &Frame<'_>, len: usize) {
    let header = &frame.header;
    assert_eq!(frame.names.len(), header.destinations as usize);
    assert_eq!(frame.data.len(), header.data_len as usize);
    assert_eq!(frame.old_kind.is_some(), header.kind & kind::REJECT != 0);
    assert_eq!(header.frame_len(), Some(len));
    let mut emitted = [0; 48];
    header.emit(&mut emitted);
    assert_eq!(madrigal::wire::session::Header::parse(&emitted), *header);
    // Text of any bytes can be shown.
    let _ = (frame.name.to_string(), Cause::of(header.kind), kind::service(header.kind));
    if let Some(body) = Regular::parse(header.order, frame.data) {
        assert!(body.own_set() < body.sets().len());
        let mut names = 0;
        for set in body.sets() {
            names += set.len();
            assert!(set.clone().all(|name| name.as_bytes().len() <= 32));
        }
        assert!(body.sets().count() == body.sets().len() && names * 32 <= frame.data.len());
    }
}
