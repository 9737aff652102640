//! From the bytes of a session to its requests, one frame at a time.

use crate::base::event::Violation;
use crate::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use crate::base::{GroupName, PrivateGroup, Request, Store};
use crate::wire::session::{Header, RequestKind, check_request, to_little};

/// What the bytes at hand begin with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<B> {
    /// Not yet a whole frame; what is there of it is in order.
    Incomplete,
    /// A frame of `len` bytes and what it asks for.
    Request {
        /// Bytes of the frame.
        len: usize,
        /// What it asks for.
        request: Request<B>,
    },
    /// A frame of `len` bytes that asks for nothing that can be done.
    Ignored {
        /// Bytes of the frame.
        len: usize,
    },
    /// The store has no room for the message: try again later.
    NoMemory,
    /// The session broke the protocol.
    Violation(Violation),
}

/// Reads one frame of the session called `own`.
///
/// The header is checked as soon as it is there: a frame that lies about its length is found out
/// before anybody waits for its body.
pub(crate) fn parse<S: Store>(
    bytes: &[u8],
    own: &PrivateGroup,
    store: &mut S,
) -> Parsed<S::Buffer> {
    let Some(head) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Parsed::Incomplete };
    let header = Header::parse(head);
    let kind = match check_request(&header, own) {
        Ok(kind) => kind,
        Err(violation) => return Parsed::Violation(violation),
    };
    let len = header.frame_len().expect("a checked header has lengths");
    let Some(frame) = bytes.get(..len) else { return Parsed::Incomplete };
    let request = match kind {
        RequestKind::Multicast { service, self_discard } => {
            let stored = store.store(len, |into| {
                into.copy_from_slice(frame);
                to_little(into);
            });
            let Some(frame) = stored else { return Parsed::NoMemory };
            // A checked header has at most 100.
            let destinations = header.destinations as u8;
            Request::Multicast { service, self_discard, destinations, frame }
        }
        RequestKind::Join => match first_group(&header, frame).filter(GroupName::is_joinable) {
            Some(group) => Request::Join(group),
            None => return Parsed::Ignored { len },
        },
        RequestKind::Leave => match first_group(&header, frame) {
            Some(group) => Request::Leave(group),
            None => return Parsed::Ignored { len },
        },
        RequestKind::Kill => Request::Disconnect,
    };
    Parsed::Request { len, request }
}

/// The group of a join or leave: only the first destination counts.
fn first_group(header: &Header, frame: &[u8]) -> Option<GroupName> {
    if header.destinations == 0 {
        return None;
    }
    let field = frame[FRAME_HEADER_BYTES..].first_chunk::<GROUP_NAME_BYTES>()?;
    GroupName::from_field(field)
}
