//! Sessions of a simulated daemon: what they ask for by lot, and what the frames that they get mean
//! to the checker.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::base::{
    DaemonName, GroupName, Instant, PrivateGroup, Request, Service, SessionId, SessionName,
};
use crate::wire::session::frame::{emit_hint, parse_hint};
use crate::wire::session::{ByteOrder, Cause, Frame, Header, Regular, kind};

use super::checker::trace::{Entry, Sent, SessionEvent, SessionLog, ViewCause};
use super::payload::content;
use super::rng::Rng;

/// Messages that one session may send in a run: their numbers ride in the 16 bits that clients have
/// for a message type, so that messages of no bytes have one too.
pub const MESSAGES_MAX: u32 = 1 << 15;

/// What one session has seen so far.
pub struct Client {
    /// Its address.
    pub session: PrivateGroup,
    log: Vec<Entry<SessionEvent>>,
    sent: u32,
    ended: bool,
}

/// The sessions of one daemon.
pub struct Clients {
    daemon: DaemonName,
    by_id: BTreeMap<SessionId, Client>,
    started: u32,
}

impl Clients {
    /// No session yet.
    pub fn new(daemon: DaemonName) -> Self {
        Self { daemon, by_id: BTreeMap::new(), started: 0 }
    }

    /// A new session, with a name that no other has in this run.
    ///
    /// # Panics
    ///
    /// After ten thousand.
    pub fn start(&mut self) -> (SessionId, SessionName) {
        let name = format!("s{}", self.started);
        let name = SessionName::new(name.as_bytes()).expect("a letter and four digits are legal");
        let id = SessionId::new(0, self.started, 0);
        let session = PrivateGroup { session: name, daemon: self.daemon };
        self.started += 1;
        self.by_id.insert(id, Client { session, log: Vec::new(), sent: 0, ended: false });
        (id, name)
    }

    /// Sessions that have not ended.
    pub fn live(&self) -> Vec<SessionId> {
        self.by_id.iter().filter(|(_, client)| !client.ended).map(|(id, _)| *id).collect()
    }

    /// The session's address.
    pub fn address(&self, id: SessionId) -> PrivateGroup {
        self.by_id[&id].session
    }

    /// A request of session `id` by lot, and noted if it sends. `groups` and `others` are what it
    /// may join and write to.
    pub fn request(
        &mut self,
        id: SessionId,
        rng: &mut Rng,
        groups: &[GroupName],
        others: &[PrivateGroup],
        step: &mut u64,
        now: Instant,
    ) -> Request<Rc<[u8]>> {
        let Some(client) = self.by_id.get_mut(&id) else { return Request::Disconnect };
        match rng.below(20) {
            0..=3 => Request::Join(*rng.pick(groups)),
            4 | 5 => Request::Leave(*rng.pick(groups)),
            6 if rng.chance(100) => {
                client.ended = true;
                Request::Disconnect
            }
            _ => client.multicast(rng, groups, others, step, now),
        }
    }

    /// Session `id` gets a frame.
    pub fn deliver(&mut self, id: SessionId, frame: &[u8], step: &mut u64, now: Instant) {
        if let Some(client) = self.by_id.get_mut(&id) {
            client.push(event(frame), step, now);
        }
    }

    /// Session `id` is over.
    pub fn end(&mut self, id: SessionId, event: SessionEvent, step: &mut u64, now: Instant) {
        if let Some(client) = self.by_id.get_mut(&id) {
            client.ended = true;
            client.push(event, step, now);
        }
    }

    /// All that the sessions saw.
    pub fn into_logs(self) -> impl Iterator<Item = SessionLog> {
        self.by_id
            .into_values()
            .map(|client| SessionLog { session: client.session, entries: client.log })
    }
}

impl Client {
    fn push(&mut self, event: SessionEvent, step: &mut u64, at: Instant) {
        *step += 1;
        self.log.push(Entry { step: *step, at, event });
    }

    fn multicast(
        &mut self,
        rng: &mut Rng,
        groups: &[GroupName],
        others: &[PrivateGroup],
        step: &mut u64,
        now: Instant,
    ) -> Request<Rc<[u8]>> {
        let count = *rng.pick(&[1, 1, 1, 2, 3]);
        let destinations: Vec<GroupName> = (0..count)
            .map(|_| if rng.chance(200) { rng.pick(others).to_name() } else { *rng.pick(groups) })
            .collect();
        let service = *rng.pick(&Service::ALL);
        let self_discard = rng.chance(200);
        let len = if rng.chance(100) { rng.index(5_000) } else { rng.index(40) };
        let data: Vec<u8> = (0..len).map(|_| rng.bits() as u8).collect();
        let n = self.sent;
        assert!(n < MESSAGES_MAX, "numbers are used up");
        self.sent += 1;
        let bytes = frame(&self.session, n, service, &destinations, &data);
        let content = content(service, &data);
        let sent = SessionEvent::Send { n, content, destinations, self_discard };
        self.push(sent, step, now);
        let destinations = count as u8;
        Request::Multicast { service, self_discard, destinations, frame: bytes.into() }
    }
}

/// The frame of a session's message.
fn frame(
    sender: &PrivateGroup,
    n: u32,
    service: Service,
    destinations: &[GroupName],
    data: &[u8],
) -> Vec<u8> {
    let order = ByteOrder::Little;
    let header = Header {
        order,
        kind: kind::of(service),
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
fn event(bytes: &[u8]) -> SessionEvent {
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
    use crate::base::buffer::Heap;
    use crate::base::{DaemonId, GroupId};
    use crate::protocol::{Daemon, Delivery, Protocol, Setup};
    use crate::sim::checker::check;
    use crate::sim::checker::trace::Trace;
    use crate::wire::session::membership::{emit_self_leave, emit_transitional};

    #[test]
    fn frames_mean_what_they_say() {
        let sender = PrivateGroup::parse(b"#s1#d1").unwrap();
        let group = GroupName::new(b"g").unwrap();
        let bytes = frame(&sender, 300, Service::Safe, &[group, sender.to_name()], b"");
        let message = Sent { sender, n: 300 };
        let destinations = vec![group, sender.to_name()];
        let content = content(Service::Safe, b"");
        assert_eq!(event(&bytes), SessionEvent::Deliver { message, content, destinations });
        assert_eq!(event(&emit_self_leave(&group)), SessionEvent::Left { group });
        let id = GroupId { daemon: 1, time: 2, index: 3 };
        assert_eq!(event(&emit_transitional(&group, id)), SessionEvent::Transitional { group });
    }

    /// A run of the groups of one daemon alone.
    fn run(seed: u64) -> Trace {
        let mut rng = Rng::new(seed);
        let name = DaemonName::new(b"d1").unwrap();
        let daemon = Daemon { id: DaemonId::from_name("d1"), name };
        let mut protocol = Protocol::new(&Setup::alone(daemon, 1), Instant::ZERO, &mut Heap);
        let mut clients = Clients::new(name);
        let groups = ["g", "h", "k"].map(|name| GroupName::new(name.as_bytes()).unwrap());
        let (mut step, now) = (0, Instant::ZERO);
        for _ in 0..400 {
            if clients.live().len() < 2 || rng.chance(20) {
                let (id, name) = clients.start();
                protocol.handle_connect(id, Some(name), true).unwrap();
            }
            let live = clients.live();
            let others: Vec<PrivateGroup> = live.iter().map(|id| clients.address(*id)).collect();
            let id = *rng.pick(&live);
            let request = clients.request(id, &mut rng, &groups, &others, &mut step, now);
            protocol.handle_request(now, id, carried(request), &mut Heap);
            while let Some(delivery) = protocol.poll_delivery() {
                match delivery {
                    Delivery::Frame { frame, targets, .. } => {
                        for &target in targets {
                            clients.deliver(target, frame.as_ref(), &mut step, now);
                        }
                    }
                    Delivery::Ended { session } => {
                        clients.end(session, SessionEvent::End, &mut step, now);
                    }
                    Delivery::Hold { .. } | Delivery::Release { .. } => {
                        panic!("a daemon alone waits for nobody")
                    }
                }
            }
        }
        let mut trace = Trace { sessions: clients.into_logs().collect(), ..Trace::default() };
        trace.ending.calm = Some(now);
        trace
    }

    /// The request with its frame in the store of `Heap`.
    fn carried(request: Request<Rc<[u8]>>) -> Request<<Heap as crate::base::Store>::Buffer> {
        use crate::base::Store;
        match request {
            Request::Multicast { service, self_discard, destinations, frame } => {
                let frame = Heap.copy(&frame).unwrap();
                Request::Multicast { service, self_discard, destinations, frame }
            }
            Request::Join(group) => Request::Join(group),
            Request::Leave(group) => Request::Leave(group),
            Request::Disconnect => Request::Disconnect,
        }
    }

    #[test]
    fn groups_of_one_daemon_keep_every_promise() {
        for seed in 0..60 {
            let trace = run(seed);
            let events: usize = trace.sessions.iter().map(|log| log.entries.len()).sum();
            assert!(events > 400, "{seed}: {events}");
            assert_eq!(check(&trace), Ok(()), "seed {seed}");
        }
    }
}
