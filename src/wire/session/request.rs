//! What a client asks for, and what it may not.

use crate::base::event::Violation;
use crate::base::limits::{BODY_BYTES_MAX, DESTINATIONS_MAX, GROUP_NAME_BYTES};
use crate::base::{PrivateGroup, Service};

use super::frame::{Header, MARK_BYTE};
use super::kind;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Deliver the frame to its destinations.
    Multicast {
        /// Asked for by the sender.
        service: Service,
        /// Whether the sender gets no copy.
        self_discard: bool,
    },
    /// Make the session a member of the group in the first name field.
    Join,
    /// End its membership in the group in the first name field.
    Leave,
    /// End the session.
    Kill,
}

/// Checks what a session sent before anything behind the header is looked at.
///
/// `own` is the session. Behind an `Ok`, [`Header::body_len`] is at most
/// [`BODY_BYTES_MAX`] and there are at most [`DESTINATIONS_MAX`] name fields, possibly none.
///
/// # Errors
///
/// The first check that fails; the session is to be dropped.
pub fn check_request(header: &Header, own: &PrivateGroup) -> Result<RequestKind, Violation> {
    let request = request_kind(header.kind)?;
    check_sender(&header.name, own)?;
    let destinations = usize::try_from(header.destinations).ok();
    if destinations.is_none_or(|count| count > DESTINATIONS_MAX) {
        return Err(Violation::Destinations { found: header.destinations });
    }
    // The lowest byte without the mark and the highest without it: the same two in both orders.
    if (header.hint[0] | header.hint[3]) & !MARK_BYTE != 0 {
        return Err(Violation::Hint { hint: header.order.u32(header.hint) });
    }
    if header.body_len().is_none_or(|len| len > BODY_BYTES_MAX) {
        return Err(Violation::DataLength { found: header.data_len });
    }
    Ok(request)
}

fn request_kind(kind: u32) -> Result<RequestKind, Violation> {
    let requests = kind & kind::REQUESTS;
    if !requests.is_power_of_two() {
        return Err(Violation::NotOneRequest { kind });
    }
    // Half a byte-order mark comes from no client; passed on, it would be read as a whole one.
    if kind & (kind::DAEMON_ONLY | kind::MARK) != 0 {
        return Err(Violation::DaemonOnly { kind });
    }
    Ok(match kind::service(requests) {
        Some(service) => {
            RequestKind::Multicast { service, self_discard: kind & kind::SELF_DISCARD != 0 }
        }
        None if requests == kind::JOIN => RequestKind::Join,
        None if requests == kind::LEAVE => RequestKind::Leave,
        None => RequestKind::Kill,
    })
}

fn check_sender(field: &[u8; GROUP_NAME_BYTES], own: &PrivateGroup) -> Result<(), Violation> {
    if own.is_named_by(field) {
        return Ok(());
    }
    let text = field[..GROUP_NAME_BYTES - 1].split(|&byte| byte == 0).next().unwrap_or_default();
    match PrivateGroup::parse(text) {
        Ok(found) => Err(Violation::SenderForeign { found }),
        Err(error) => Err(Violation::SenderIllegal(error)),
    }
}
