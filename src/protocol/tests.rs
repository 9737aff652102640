use std::collections::BTreeMap;

use super::*;
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::limits::GROUP_NAME_BYTES;
use crate::base::{DaemonName, GroupName};
use crate::wire::session::frame::emit_hint;
use crate::wire::session::{ByteOrder, Cause, Frame, Header, Regular, kind};

/// What one session got, in readable form.
type Log = BTreeMap<SessionId, Vec<String>>;

struct Cluster {
    protocol: Protocol<Heap>,
    names: BTreeMap<SessionId, String>,
}

fn id(slot: u32) -> SessionId {
    SessionId::new(0, slot, 0)
}

fn group(name: &str) -> GroupName {
    GroupName::new(name.as_bytes()).unwrap()
}

impl Cluster {
    /// Sessions `a`, `b`, ... with slots 0, 1, ...; those in `silent` want no membership messages.
    fn new(sessions: &[&str], silent: &[&str]) -> Self {
        let name = DaemonName::new(b"d1").unwrap();
        let daemon = Daemon { id: DaemonId::from_name("d1"), name };
        let setup = Setup::alone(daemon, 1);
        let mut protocol = Protocol::new(&setup, Instant::ZERO, &mut Heap);
        let mut names = BTreeMap::new();
        for (slot, session) in (0..).zip(sessions) {
            let wanted = Some(SessionName::new(session.as_bytes()).unwrap());
            protocol.handle_connect(id(slot), wanted, !silent.contains(session)).unwrap();
            names.insert(id(slot), (*session).to_string());
        }
        Self { protocol, names }
    }

    fn request(&mut self, slot: u32, request: Request<HeapBuffer>) {
        self.protocol.handle_request(Instant::ZERO, id(slot), request, &mut Heap);
    }

    fn join(&mut self, slot: u32, name: &str) {
        self.request(slot, Request::Join(group(name)));
    }

    fn multicast(&mut self, slot: u32, self_discard: bool, to: &[&str], data: &str) {
        let sender = format!("#{}#d1", self.names[&id(slot)]);
        let frame = message(&sender, to, data);
        let frame = Heap.copy(&frame).unwrap();
        let destinations = to.len() as u8;
        let service = Service::Agreed;
        self.request(slot, Request::Multicast { service, self_discard, destinations, frame });
    }

    /// Everything delivered since the last call.
    fn take(&mut self) -> Log {
        let mut log = Log::new();
        while let Some(delivery) = self.protocol.poll_delivery() {
            match delivery {
                Delivery::Frame { frame, targets, sender: _ } => {
                    for &target in targets {
                        log.entry(target).or_default().push(describe(frame.as_ref()));
                    }
                }
                Delivery::Ended { session } => {
                    log.entry(session).or_default().push("ended".into());
                }
                Delivery::Hold { .. } | Delivery::Release { .. } => {
                    panic!("a daemon alone waits for nobody")
                }
            }
        }
        log
    }
}

fn message(sender: &str, to: &[&str], data: &str) -> Vec<u8> {
    let order = ByteOrder::Little;
    let mut name = [0; GROUP_NAME_BYTES];
    name[..sender.len()].copy_from_slice(sender.as_bytes());
    let header = Header {
        order,
        kind: kind::AGREED,
        name,
        destinations: to.len() as i32,
        hint: emit_hint(0, order),
        data_len: data.len() as i32,
    };
    let mut frame = vec![0; 48];
    header.emit(frame.first_chunk_mut().unwrap());
    for to in to {
        let mut field = [0; GROUP_NAME_BYTES];
        field[..to.len()].copy_from_slice(to.as_bytes());
        frame.extend_from_slice(&field);
    }
    frame.extend_from_slice(data.as_bytes());
    frame
}

fn describe(bytes: &[u8]) -> String {
    let (frame, len) = Frame::parse(bytes).unwrap().unwrap();
    assert_eq!(len, bytes.len());
    let name = |field: &[u8]| {
        let text = field.split(|&byte| byte == 0).next().unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    };
    let group = name(&frame.header.name);
    let members: Vec<_> = frame.names.iter().map(|field| name(field)).collect();
    let members = members.join(",");
    match Cause::of(frame.header.kind) {
        Some(cause) => {
            let body = Regular::parse(frame.header.order, frame.data).unwrap();
            format!("{cause:?} {group}.{} {members}", body.id.index)
        }
        None if frame.header.kind == kind::CAUSED_BY_LEAVE => format!("left {group}"),
        None => format!("{members}: {}", name(frame.data)),
    }
}

fn log<const N: usize>(entries: [(u32, &[&str]); N]) -> Log {
    let own = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    entries.into_iter().map(|(slot, texts)| (id(slot), own(texts))).collect()
}

#[test]
fn a_join_is_told_to_all_members_in_the_order_of_names() {
    let mut cluster = Cluster::new(&["b", "C", "a"], &[]);
    cluster.join(0, "g");
    cluster.join(1, "g");
    cluster.join(2, "g");
    assert_eq!(
        cluster.take(),
        log([
            (0, &["Join g.1 #b#d1", "Join g.2 #C#d1,#b#d1", "Join g.3 #C#d1,#a#d1,#b#d1"]),
            (1, &["Join g.2 #C#d1,#b#d1", "Join g.3 #C#d1,#a#d1,#b#d1"]),
            (2, &["Join g.3 #C#d1,#a#d1,#b#d1"]),
        ])
    );
}

#[test]
fn joining_twice_and_leaving_what_one_is_not_in_changes_nothing() {
    let mut cluster = Cluster::new(&["a", "b"], &[]);
    cluster.join(0, "g");
    cluster.take();
    cluster.join(0, "g");
    cluster.request(1, Request::Leave(group("g")));
    cluster.request(0, Request::Leave(group("nosuch")));
    assert_eq!(cluster.take(), Log::new());
    cluster.join(1, "g");
    assert_eq!(cluster.take()[&id(1)], ["Join g.2 #a#d1,#b#d1"]);
}

#[test]
fn who_wants_no_membership_messages_gets_none_and_is_listed() {
    let mut cluster = Cluster::new(&["a", "n"], &["n"]);
    cluster.join(1, "g");
    cluster.join(0, "g");
    cluster.multicast(0, false, &["g"], "m");
    cluster.request(1, Request::Leave(group("g")));
    assert_eq!(
        cluster.take(),
        log([(0, &["Join g.2 #a#d1,#n#d1", "g: m", "Leave g.3 #a#d1"]), (1, &["g: m"])])
    );
}

#[test]
fn a_leaver_is_told_so_and_gets_nothing_more() {
    let mut cluster = Cluster::new(&["a", "b"], &[]);
    cluster.join(0, "g");
    cluster.join(1, "g");
    cluster.take();
    cluster.request(0, Request::Leave(group("g")));
    cluster.multicast(0, false, &["g"], "m");
    assert_eq!(cluster.take(), log([(0, &["left g"]), (1, &["Leave g.3 #b#d1", "g: m"])]));
}

#[test]
fn a_disconnect_leaves_groups_in_the_order_of_their_names_and_frees_the_name() {
    let mut cluster = Cluster::new(&["a", "b"], &[]);
    for name in ["z", "g", "h"] {
        cluster.join(0, name);
        cluster.join(1, name);
    }
    cluster.take();
    cluster.request(0, Request::Disconnect);
    cluster.multicast(1, false, &["g", "#a#d1"], "m");
    let left = ["Disconnect g.3 #b#d1", "Disconnect h.3 #b#d1", "Disconnect z.3 #b#d1"];
    assert_eq!(
        cluster.take(),
        log([(0, &["ended"]), (1, &[left[0], left[1], left[2], "g,#a#d1: m"])])
    );
    let name = SessionName::new(b"a").ok();
    assert!(cluster.protocol.handle_connect(SessionId::new(0, 0, 1), name, true).is_ok());
    let taken = SessionName::new(b"b").ok();
    assert_eq!(cluster.protocol.handle_connect(id(2), taken, true), Err(NameTaken));
}

#[test]
fn each_session_gets_one_copy_however_often_it_is_meant() {
    let mut cluster = Cluster::new(&["a", "b", "c"], &[]);
    cluster.join(0, "g1");
    cluster.join(0, "g2");
    cluster.join(1, "g2");
    cluster.take();
    let to = ["g2", "nosuch", "#c#d1", "g1", "g2", "#x#d1", "#a#elsewhere", "#bad"];
    cluster.multicast(0, false, &to, "mixed");
    let got = format!("{}: mixed", to.join(","));
    assert_eq!(cluster.take(), log([(0, &[&got]), (1, &[&got]), (2, &[&got])]));
}

#[test]
fn self_discard_spares_the_sender_alone() {
    let mut cluster = Cluster::new(&["a", "b"], &[]);
    cluster.join(0, "g");
    cluster.join(1, "g");
    cluster.take();
    cluster.multicast(0, true, &["g"], "m");
    cluster.multicast(0, true, &["#a#d1"], "nobody");
    assert_eq!(cluster.take(), log([(1, &["g: m"])]));
}

#[test]
fn no_group_id_comes_back_when_a_group_is_made_again() {
    let mut cluster = Cluster::new(&["a"], &[]);
    cluster.join(0, "h");
    cluster.request(0, Request::Leave(group("h")));
    cluster.join(0, "h");
    cluster.join(0, "k");
    assert_eq!(
        cluster.take()[&id(0)],
        ["Join h.1 #a#d1", "left h", "Join h.3 #a#d1", "Join k.3 #a#d1"]
    );
}

/// A store that has room for so many buffers.
struct Small(usize);

impl Store for Small {
    type Buffer = HeapBuffer;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        self.0 = self.0.checked_sub(1)?;
        Heap.store(len, fill)
    }
}

#[test]
fn requests_wait_for_memory_and_then_take_effect_once_in_order() {
    let watched = [(id(1), Request::Join(group("g"))), (id(1), Request::Join(group("h")))];
    let requests = || {
        [
            (id(0), Request::Join(group("g"))),
            (id(0), Request::Join(group("h"))),
            (id(0), Request::Leave(group("h"))),
            (id(0), Request::Disconnect),
        ]
    };
    let run = |store: &mut Small, step: usize| {
        let name = DaemonName::new(b"d1").unwrap();
        let daemon = Daemon { id: DaemonId::from_name("d1"), name };
        let setup = Setup::alone(daemon, 1);
        let mut protocol = Protocol::<Small>::new(&setup, Instant::ZERO, store);
        for (slot, session) in [(0, "a"), (1, "b")] {
            let wanted = SessionName::new(session.as_bytes()).ok();
            protocol.handle_connect(id(slot), wanted, true).unwrap();
        }
        let mut got = Vec::new();
        let mut take = |protocol: &mut Protocol<Small>| {
            while let Some(delivery) = protocol.poll_delivery() {
                got.push(match delivery {
                    Delivery::Frame { frame, targets, .. } => {
                        format!("{} {targets:?}", describe(frame.as_ref()))
                    }
                    Delivery::Ended { session } => format!("ended {session:?}"),
                    Delivery::Hold { session } => format!("hold {session:?}"),
                    Delivery::Release { session } => format!("release {session:?}"),
                });
            }
        };
        let room = std::mem::replace(&mut store.0, 1000);
        for (session, request) in watched.clone() {
            protocol.handle_request(Instant::ZERO, session, request, store);
        }
        store.0 = room;
        for (session, request) in requests() {
            protocol.handle_request(Instant::ZERO, session, request, store);
            take(&mut protocol);
        }
        for _ in 0..20 {
            store.0 += step;
            protocol.handle_memory(Instant::ZERO, store);
            take(&mut protocol);
        }
        assert!(!protocol.is_blocked());
        got
    };
    let all = run(&mut Small(1000), 0);
    assert_eq!(all.len(), 8);
    for room in 0..8 {
        assert_eq!(run(&mut Small(room), 2), all, "room for {room} first");
    }
}

mod cluster;
