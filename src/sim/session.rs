//! Frames of sessions: those that they send, and what those that they get mean to the checker.

use crate::base::{GroupName, PrivateGroup, Service};
use crate::wire::session::frame::{emit_hint, parse_hint};
use crate::wire::session::{ByteOrder, Cause, Frame, Header, Regular, kind};

use super::checker::trace::{Sent, SessionEvent, ViewCause};
use super::payload::content;

/// The frame of a session's message.
pub(super) fn frame(
    sender: &PrivateGroup,
    n: u32,
    service: Service,
    self_discard: bool,
    destinations: &[GroupName],
    data: &[u8],
) -> Vec<u8> {
    let order = ByteOrder::Little;
    let discard = if self_discard { kind::SELF_DISCARD } else { 0 };
    let header = Header {
        order,
        kind: kind::of(service) | discard,
        name: *sender.to_name().as_field(),
        destinations: destinations.len() as i32,
        hint: emit_hint(n as i16, order),
        data_len: data.len() as i32,
    };
    let mut frame = vec![0; crate::base::limits::FRAME_HEADER_BYTES];
    header.emit(frame.first_chunk_mut().expect("it has just that length"));
    for destination in destinations {
        frame.extend_from_slice(destination.as_field());
    }
    frame.extend_from_slice(data);
    frame
}

/// What a frame means to the session that gets it.
///
/// # Panics
///
/// If the daemon sends what no client would understand: a finding of its own.
pub(super) fn event(bytes: &[u8]) -> SessionEvent {
    let parsed = Frame::parse(bytes).expect("a daemon's frames can be read");
    let (frame, len) = parsed.expect("a daemon's frames are whole");
    assert_eq!(len, bytes.len(), "a frame has its length");
    let names = || frame.names.iter().map(|field| GroupName::from_field(field).expect("a NUL"));
    let title = GroupName::from_field(&frame.header.name).expect("a NUL");
    let member = |name: GroupName| PrivateGroup::parse(name.as_bytes()).expect("a member");
    if let Some(service) = kind::service(frame.header.kind) {
        let (n, _) = parse_hint(frame.header.hint);
        return SessionEvent::Deliver {
            message: Sent { sender: member(title), n: n as u32 },
            content: content(service, frame.data),
            destinations: names().collect(),
        };
    }
    if frame.header.kind == kind::TRANSITIONAL {
        return SessionEvent::Transitional { group: title };
    }
    let Some(cause) = Cause::of(frame.header.kind) else {
        assert_eq!(frame.header.kind, kind::CAUSED_BY_LEAVE, "nothing else is left");
        return SessionEvent::Left { group: title };
    };
    let body = Regular::parse(frame.header.order, frame.data).expect("a view's body");
    let sets: Vec<Vec<PrivateGroup>> = body
        .sets()
        .map(|set| set.map(|name| name.to_private_group().expect("a member")).collect())
        .collect();
    let cause = match cause {
        Cause::Join => ViewCause::Join(sets[0][0]),
        Cause::Leave => ViewCause::Leave(sets[0][0]),
        Cause::Disconnect => ViewCause::Disconnect(sets[0][0]),
        Cause::Network => ViewCause::Network { sets, own: body.own_set() },
    };
    let members = names().map(member).collect();
    SessionEvent::View { group: title, id: body.id, cause, members }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::GroupId;
    use crate::wire::session::membership::{emit_self_leave, emit_transitional};

    #[test]
    fn frames_mean_what_they_say() {
        let sender = PrivateGroup::parse(b"#s1#d1").unwrap();
        let group = GroupName::new(b"g").unwrap();
        let bytes = frame(&sender, 300, Service::Safe, true, &[group, sender.to_name()], b"");
        let message = Sent { sender, n: 300 };
        let destinations = vec![group, sender.to_name()];
        let content = content(Service::Safe, b"");
        assert_eq!(event(&bytes), SessionEvent::Deliver { message, content, destinations });
        assert_eq!(event(&emit_self_leave(&group)), SessionEvent::Left { group });
        let id = GroupId { daemon: 1, time: 2, index: 3 };
        assert_eq!(event(&emit_transitional(&group, id)), SessionEvent::Transitional { group });
    }
}
