//! What a session's bytes ask for, worked out naively from all of them: what arrives in pieces,
//! is held back, or waits for memory must come to the same.

use madrigal::base::event::Violation;
use madrigal::base::limits::FRAME_HEADER_BYTES;
use madrigal::base::{GroupName, PrivateGroup, Request};
use madrigal::wire::session::{ByteOrder, Header, RequestKind, check_request};

/// What comes next of a session.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A request for the protocol layer.
    Request(Request<Vec<u8>>),
    /// The client says goodbye.
    Kill,
    /// The client breaks the protocol.
    Violation(Violation),
}

/// Takes the next thing off `bytes`. `None`: there is not yet a whole one.
pub(crate) fn next(bytes: &mut Vec<u8>, own: &PrivateGroup) -> Option<Next> {
    loop {
        let header = Header::parse(bytes.first_chunk::<FRAME_HEADER_BYTES>()?);
        let kind = match check_request(&header, own) {
            Ok(kind) => kind,
            Err(violation) => return Some(Next::Violation(violation)),
        };
        let len = FRAME_HEADER_BYTES
            + usize::try_from(header.destinations).unwrap() * 32
            + usize::try_from(header.data_len).unwrap();
        if bytes.len() < len {
            return None;
        }
        let frame: Vec<u8> = bytes.drain(..len).collect();
        let group = || match header.destinations {
            0 => None,
            _ => GroupName::from_field(frame[FRAME_HEADER_BYTES..].first_chunk().unwrap()),
        };
        return Some(match kind {
            RequestKind::Kill => Next::Kill,
            RequestKind::Join => match group().filter(GroupName::is_joinable) {
                Some(group) => Next::Request(Request::Join(group)),
                None => continue,
            },
            RequestKind::Leave => match group() {
                Some(group) => Next::Request(Request::Leave(group)),
                None => continue,
            },
            RequestKind::Multicast { service, self_discard } => {
                let destinations = header.destinations as u8;
                let frame = little(&header, frame);
                Next::Request(Request::Multicast { service, self_discard, destinations, frame })
            }
        });
    }
}

/// The frame as receivers get it.
fn little(header: &Header, mut frame: Vec<u8>) -> Vec<u8> {
    let little = Header { order: ByteOrder::Little, ..*header };
    // Bytes behind the end of the sender's name are passed on too.
    little.emit(frame.first_chunk_mut().unwrap());
    frame
}
