//! Events as text for people, and as JSON for machines.

use madrigal::base::GroupId;
use madrigal::client::{Cause, Event, Message, Name, Names, Rejected, Request, View};
use serde_json::{Value, json};

/// Data as text that a terminal can be given: control characters are escaped, further lines are
/// indented.
pub(crate) fn show_data(data: &[u8]) -> String {
    let text = String::from_utf8_lossy(data);
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\n    "),
            '\t' => shown.push('\t'),
            other if other.is_control() => shown.extend(other.escape_default()),
            other => shown.push(other),
        }
    }
    shown
}

/// One event for people.
pub(crate) fn show_event(event: &Event<'_>) -> String {
    match event {
        Event::Message(message) => show_message(message),
        Event::View(view) => show_view(view),
        Event::Transitional { group, group_id } => {
            let id = show_id(*group_id);
            format!("{group}: view {id} ends, daemons were lost (transitional signal)")
        }
        Event::SelfLeave { group } => format!("{group}: left"),
        Event::Rejected(rejected) => show_rejected(rejected),
    }
}

fn show_message(message: &Message<'_>) -> String {
    let groups = show_names(message.groups());
    let mut how = message.service().to_string();
    if message.message_type() != 0 {
        how.push_str(&format!(", type {}", message.message_type()));
    }
    if message.endian_mismatch() {
        how.push_str(", other byte order");
    }
    let data = show_data(message.data());
    format!("{} -> {groups} [{how}]: {data}", message.sender())
}

fn show_view(view: &View<'_>) -> String {
    let cause = match view.cause() {
        Cause::Join(member) => format!("{member} joined"),
        Cause::Leave(member) => format!("{member} left"),
        Cause::Disconnect(member) => format!("{member} disconnected"),
        Cause::Network => "daemons were lost or found".to_owned(),
    };
    let (group, id) = (view.group(), show_id(view.group_id()));
    let members = view.members();
    let count = match members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    };
    let mut text = format!("{group}: view {id}, {cause}; {count}: {}", show_names(members));
    if view.cause() == Cause::Network {
        for (index, set) in view.vs_sets().enumerate() {
            let own = if index == view.own_vs_set_index() { " (with us)" } else { "" };
            text.push_str(&format!("\n    came together{own}: {}", show_names(set)));
        }
    }
    text
}

fn show_rejected(rejected: &Rejected<'_>) -> String {
    let what = match rejected.request() {
        Some(Request::Multicast(service)) => format!("{service} message"),
        Some(Request::Join) => "join".to_owned(),
        Some(Request::Leave) => "leave".to_owned(),
        None => format!("request of type 0x{:08x}", rejected.kind()),
    };
    format!("rejected by the daemon: {what} to {}", show_names(rejected.groups()))
}

fn show_names(names: Names<'_>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
}

fn show_id(id: GroupId) -> String {
    format!("{}.{}.{}", id.daemon.cast_unsigned(), id.time.cast_unsigned(), id.index)
}

/// One event for machines.
pub(crate) fn event_json(event: &Event<'_>) -> Value {
    match event {
        Event::Message(message) => message_json(message),
        Event::View(view) => view_json(view),
        Event::Transitional { group, group_id } => json!({
            "event": "transitional",
            "group": name_json(*group),
            "group_id": id_json(*group_id),
        }),
        Event::SelfLeave { group } => json!({ "event": "self_leave", "group": name_json(*group) }),
        Event::Rejected(rejected) => {
            let request = match rejected.request() {
                Some(Request::Multicast(_)) => "multicast",
                Some(Request::Join) => "join",
                Some(Request::Leave) => "leave",
                None => "unknown",
            };
            let mut object = json!({
                "event": "rejected",
                "request": request,
                "groups": names_json(rejected.groups()),
                "type": rejected.message_type(),
            });
            put_data(&mut object, rejected.data());
            object
        }
    }
}

fn message_json(message: &Message<'_>) -> Value {
    let mut object = json!({
        "event": "message",
        "sender": name_json(message.sender()),
        "groups": names_json(message.groups()),
        "service": message.service().as_str(),
        "type": message.message_type(),
        "self_discard": message.self_discard(),
        "endian_mismatch": message.endian_mismatch(),
    });
    put_data(&mut object, message.data());
    object
}

fn view_json(view: &View<'_>) -> Value {
    let (cause, member) = match view.cause() {
        Cause::Join(member) => ("join", Some(member)),
        Cause::Leave(member) => ("leave", Some(member)),
        Cause::Disconnect(member) => ("disconnect", Some(member)),
        Cause::Network => ("network", None),
    };
    json!({
        "event": "view",
        "group": name_json(view.group()),
        "group_id": id_json(view.group_id()),
        "cause": cause,
        "changed": member.map(name_json),
        "members": names_json(view.members()),
        "own_index": view.own_index(),
        "vs_sets": view.vs_sets().map(names_json).collect::<Vec<_>>(),
        "own_vs_set": view.own_vs_set_index(),
    })
}

/// Text as it is, other bytes as hexadecimal digits under another key.
fn put_data(object: &mut Value, data: &[u8]) {
    match std::str::from_utf8(data) {
        Ok(text) => object["data"] = json!(text),
        Err(_) => {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            object["data_hex"] = json!(hex);
        }
    }
}

fn name_json(name: Name<'_>) -> Value {
    json!(name.to_string())
}

fn names_json(names: Names<'_>) -> Value {
    names.map(name_json).collect()
}

fn id_json(id: GroupId) -> Value {
    json!([id.daemon.cast_unsigned(), id.time.cast_unsigned(), id.index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_given_control_characters() {
        assert_eq!(show_data(b"a\x1b[2Jb\r"), "a\\u{1b}[2Jb\\r");
        assert_eq!(show_data(b"one\ntwo\n"), "one\n    two");
        assert_eq!(show_data("tab\tand \u{e4}".as_bytes()), "tab\tand \u{e4}");
        assert_eq!(show_data(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn daemons_in_group_ids_look_as_in_the_configuration() {
        let daemon = 2_936_722_999_u32;
        let id = GroupId { daemon: daemon.cast_signed(), time: -1, index: -7 };
        assert_eq!(show_id(id), "2936722999.4294967295.-7");
        assert_eq!(id_json(id), json!([daemon, u32::MAX, -7]));
    }

    #[test]
    fn data_that_is_no_text_is_hexadecimal_in_json() {
        let mut object = json!({});
        put_data(&mut object, b"\x00\xff");
        assert_eq!(object, json!({ "data_hex": "00ff" }));
        let mut object = json!({});
        put_data(&mut object, "\u{e4}\n".as_bytes());
        assert_eq!(object, json!({ "data": "\u{e4}\n" }));
    }
}
