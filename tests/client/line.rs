//! Events as the recorded programs printed what Spread's library gave them.

use madrigal::client::{Event, Name, Names};

const REJECT: u32 = 0x0040_0000;

/// The line for an event.
pub(crate) fn line(event: &Event<'_>) -> String {
    match event {
        Event::Message(message) => {
            let data = message.data();
            let head = Head {
                ret: data.len(),
                service: message.kind(),
                sender: message.sender(),
                message_type: message.message_type().into(),
                endian: message.endian_mismatch(),
            };
            format!("{} data={}", head.line(message.groups()), text(data))
        }
        Event::Rejected(rejected) => {
            let head = Head {
                ret: rejected.data().len(),
                service: rejected.kind() | REJECT,
                sender: rejected.sender(),
                message_type: rejected.message_type().into(),
                endian: false,
            };
            format!("{} data={}", head.line(rejected.groups()), text(rejected.data()))
        }
        Event::View(view) => view_line(view),
        Event::Transitional { group, group_id } => {
            let head =
                Head { ret: 12, service: 0x2000, sender: *group, message_type: -1, endian: false };
            let id = group_id;
            format!("{} gid={},{},{}", head.line(Names::new(&[])), id.daemon, id.time, id.index)
        }
        Event::SelfLeave { group } => {
            let head =
                Head { ret: 0, service: 0x200, sender: *group, message_type: -1, endian: false };
            head.line(Names::new(&[]))
        }
    }
}

fn view_line(view: &madrigal::client::View<'_>) -> String {
    use madrigal::client::Cause;
    let (service, changed) = match view.cause() {
        Cause::Join(member) => (0x1100, Some(member)),
        Cause::Leave(member) => (0x1200, Some(member)),
        Cause::Disconnect(member) => (0x1400, Some(member)),
        Cause::Network => (0x1800, None),
    };
    let in_sets: usize = view.vs_sets().map(|set| 4 + 32 * set.len()).sum();
    let head = Head {
        ret: 20 + in_sets,
        service,
        sender: view.group(),
        message_type: view.own_index().map_or(-1, |index| index as i32),
        endian: false,
    };
    let sets: Vec<String> = view.vs_sets().map(|set| format!("{{{}}}", join(set))).collect();
    let own = view.vs_sets().nth(view.own_vs_set_index()).unwrap();
    assert_eq!(join(own), join(view.own_vs_set()));
    let id = view.group_id();
    let mut line = format!(
        "{} gid={},{},{} nvs={} my={} {}",
        head.line(view.members()),
        id.daemon,
        id.time,
        id.index,
        sets.len(),
        view.own_vs_set_index(),
        sets.join(" "),
    );
    if let Some(member) = changed {
        line += &format!(" changed={member}");
    }
    line
}

struct Head<'a> {
    ret: usize,
    service: u32,
    sender: Name<'a>,
    message_type: i32,
    endian: bool,
}

impl Head<'_> {
    fn line(&self, groups: Names<'_>) -> String {
        let Self { ret, service, sender, message_type, endian } = self;
        let endian = i32::from(*endian);
        format!(
            "ret={ret} service=0x{service:08x} sender={sender} num_groups={} \
             mess_type={message_type} endian={endian} groups={}",
            groups.len(),
            join(groups)
        )
    }
}

fn join(names: Names<'_>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(",")
}

/// The programs printed data as a C string.
fn text(data: &[u8]) -> String {
    data.iter().take_while(|&&byte| byte != 0).map(|&byte| char::from(byte)).collect()
}
