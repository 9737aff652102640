//! Totem by the book, without any speed: a core that is right, so that the simulator and the
//! checker can be tried on it. It shares nothing with the daemon's.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::base::buffer::HeapBuffer;
use crate::base::{DaemonId, Instant, RingId, Seq, Service};
use crate::sim::checker::trace::Place;
use crate::sim::core::{Channel, Core, Output, Placement, Setup, Transmit};

type Ids = BTreeSet<u32>;

#[derive(Clone, Debug)]
struct Message {
    sender: u32,
    service: Service,
    payload: Vec<u8>,
    /// The place in the old ring, of a message that is sent again in recovery.
    old: Option<(RingId, u64)>,
}

#[derive(Clone, Debug)]
struct Token {
    ring: RingId,
    hop: u64,
    seq: u64,
    aru: u64,
    owner: u32,
    /// Recovery is over.
    done: bool,
    /// Times in a row that the leader found nothing missing.
    complete: u64,
    wanted: Vec<u64>,
}

/// What a member brings along.
#[derive(Clone, Debug, PartialEq)]
struct Info {
    old: RingId,
    safe: u64,
    obligations: Ids,
}

#[derive(Clone, Debug)]
enum Packet {
    Data(RingId, u64, Message),
    Token(Token),
    Join { sender: u32, procs: Ids, fails: Ids, number: u64 },
    Commit { ring: RingId, hop: u64, members: Ids, infos: BTreeMap<u32, Info> },
    Here { ring: RingId, sender: u32 },
}

/// One ring's messages.
#[derive(Clone, Debug, Default)]
struct Store {
    messages: BTreeMap<u64, Message>,
    aru: u64,
    delivered: u64,
    /// Everybody has all up to here.
    safe: u64,
    /// Those up to here are there, or among the missing.
    heard: u64,
    missing: BTreeSet<u64>,
}

impl Store {
    /// There is a message `seq`.
    fn hear(&mut self, seq: u64) {
        self.missing.extend(self.heard + 1..=seq);
        self.heard = self.heard.max(seq);
    }

    fn insert(&mut self, seq: u64, message: Message) {
        if seq > self.aru {
            self.hear(seq);
            self.missing.remove(&seq);
            self.messages.entry(seq).or_insert(message);
        }
        while self.messages.contains_key(&(self.aru + 1)) {
            self.aru += 1;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Gather,
    Commit,
    Recovery,
    Operational,
}

pub(super) struct Model {
    me: u32,
    cluster: u64,
    timeout: Duration,
    window: usize,
    state: State,
    number: u64,
    /// The regular configuration.
    ring: Option<RingId>,
    members: Ids,
    store: Store,
    obligations: Ids,
    /// The ring that is being formed.
    next: Option<(RingId, Ids, BTreeMap<u32, Info>)>,
    next_store: Store,
    again: VecDeque<Message>,
    procs: Ids,
    fails: Ids,
    agreeing: Ids,
    hop: u64,
    last_aru: u64,
    sent_token: Option<(u32, Vec<u8>)>,
    join_due: Instant,
    consensus_due: Instant,
    loss_due: Instant,
    resend_due: Option<Instant>,
    here_due: Instant,
    /// A token to itself.
    own: Option<(Instant, Packet)>,
    pending: VecDeque<(Service, Vec<u8>)>,
    transmits: VecDeque<Transmit>,
    outputs: VecDeque<Output>,
    pub(super) fault: Fault,
}

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// Safe as soon as it is agreed.
    SafeTooEarly,
    /// Recovered messages are not sent again.
    NothingAgain,
    /// The transitional configuration comes before all that recovery brings.
    SignalTooEarly,
    /// The aru of the token is raised by whoever has more.
    AruRaised,
    /// Ends recovery before everybody has everything.
    DoneTooEarly,
    /// A token is taken twice.
    TokenTwice,
    /// The ring number does not grow.
    NumberStays,
}

impl Fault {
    /// All of them, each with a seed that shows it.
    pub(super) const ALL: [(Self, u64); 7] = [
        (Self::SafeTooEarly, 25),
        (Self::NothingAgain, 28),
        (Self::SignalTooEarly, 8),
        (Self::AruRaised, 39),
        (Self::DoneTooEarly, 74),
        (Self::TokenTwice, 2),
        (Self::NumberStays, 3),
    ];
}

fn ids(set: &Ids) -> Vec<DaemonId> {
    set.iter().map(|id| DaemonId::new(*id)).collect()
}

const NO_RING: RingId = RingId { number: 0, leader: DaemonId::new(0) };

impl Model {
    fn send(&mut self, to: Option<u32>, channel: Channel, packet: &Packet) {
        let bytes = encode(self.cluster, packet);
        self.send_bytes(to, channel, bytes);
    }

    fn send_bytes(&mut self, to: Option<u32>, channel: Channel, bytes: Vec<u8>) {
        let (to, places) = (to.map(DaemonId::new), Vec::new());
        self.transmits.push_back(Transmit { to, channel, bytes: bytes.into(), places });
    }

    fn enter_gather(&mut self, now: Instant, more: &Ids) {
        self.state = State::Gather;
        self.next = None;
        self.procs = self.members.union(more).copied().collect();
        self.procs.insert(self.me);
        self.fails.clear();
        self.own = None;
        self.resend_due = None;
        self.propose(now);
    }

    fn propose(&mut self, now: Instant) {
        self.agreeing = BTreeSet::from([self.me]);
        self.consensus_due = now + self.timeout;
        self.say_join(now);
        self.decide(now);
    }

    fn say_join(&mut self, now: Instant) {
        self.join_due = now + self.timeout / 8;
        let (procs, fails) = (self.procs.clone(), self.fails.clone());
        let join = Packet::Join { sender: self.me, procs, fails, number: self.number };
        self.send(None, Channel::Data, &join);
    }

    fn alive(&self) -> Ids {
        self.procs.difference(&self.fails).copied().collect()
    }

    fn decide(&mut self, now: Instant) {
        let alive = self.alive();
        // Alone is a decision only after waiting for others.
        let waited = alive.len() > 1 || now >= self.consensus_due;
        if waited && alive.is_subset(&self.agreeing) && alive.first() == Some(&self.me) {
            if self.fault != Fault::NumberStays {
                self.number += 1;
            }
            let ring = RingId { number: self.number, leader: DaemonId::new(self.me) };
            let packet = Packet::Commit { ring, hop: 0, members: alive, infos: BTreeMap::new() };
            self.handle(now, packet);
        }
    }

    fn on_join(&mut self, now: Instant, sender: u32, procs: &Ids, fails: &Ids, number: u64) {
        if sender == self.me {
            return;
        }
        if self.state != State::Gather {
            let known = match &self.next {
                // Strangers have to wait until the ring is formed.
                Some((_, members, _)) if !members.contains(&sender) => return,
                Some((_, members, _)) => members,
                // They form their ring without us: joining in now would only undo ours.
                None if fails.contains(&self.me) && !self.members.contains(&sender) => return,
                None => &self.members,
            };
            if known.contains(&sender) && number < self.number {
                return;
            }
            self.enter_gather(now, &BTreeSet::from([sender]));
        }
        self.number = self.number.max(number);
        if *procs == self.procs && *fails == self.fails {
            self.agreeing.insert(sender);
            self.decide(now);
        } else {
            let stale = procs.is_subset(&self.procs) && fails.is_subset(&self.fails);
            if stale || self.fails.contains(&sender) {
                return;
            }
            self.procs.extend(procs);
            if fails.contains(&self.me) {
                self.fails.insert(sender);
            } else {
                self.fails.extend(fails);
            }
            self.propose(now);
        }
    }

    fn pass(&mut self, now: Instant, members: &Ids, packet: &Packet) {
        let next = members.range(self.me + 1..).next().or(members.first());
        let next = next.copied().unwrap_or(self.me);
        self.loss_due = now + self.timeout;
        if next == self.me {
            self.own = Some((now + Duration::from_micros(200), packet.clone()));
            return;
        }
        let bytes = encode(self.cluster, packet);
        self.sent_token = Some((next, bytes.clone()));
        self.resend_due = Some(now + self.timeout / 6);
        self.send_bytes(Some(next), Channel::Token, bytes);
    }

    fn on_commit(
        &mut self,
        now: Instant,
        ring: RingId,
        hop: u64,
        members: Ids,
        mut infos: BTreeMap<u32, Info>,
    ) {
        if !members.contains(&self.me) || ring.number < self.number {
            return;
        }
        let all = infos.len() == members.len();
        match self.state {
            State::Gather if !all && members == self.alive() => {
                self.state = State::Commit;
                self.hop = 0;
                self.next = Some((ring, members.clone(), BTreeMap::new()));
                let old = self.ring.unwrap_or(NO_RING);
                let obligations = self.obligations.clone();
                infos.insert(self.me, Info { old, safe: self.store.safe, obligations });
            }
            State::Commit if all && hop > self.hop => {
                let Some(next) = self.next.as_mut().filter(|next| next.0 == ring) else { return };
                next.2.clone_from(&infos);
                self.enter_recovery();
            }
            State::Recovery if all && hop > self.hop && self.is_leader() && self.hop == 1 => {
                let Some((_, members, _)) = self.next.clone().filter(|next| next.0 == ring) else {
                    return;
                };
                self.hop = 2;
                let (done, complete, wanted) = (false, 0, Vec::new());
                let token =
                    Token { ring, hop: 100, seq: 0, aru: 0, owner: 0, done, complete, wanted };
                self.pass(now, &members, &Packet::Token(token));
                return;
            }
            _ => return,
        }
        self.number = ring.number;
        let packet = Packet::Commit { ring, hop: hop + 1, members: members.clone(), infos };
        self.pass(now, &members, &packet);
    }

    fn is_leader(&self) -> bool {
        self.next.as_ref().is_some_and(|next| next.0.leader.get() == self.me)
    }

    /// Those that come along from the old ring, and what they know.
    fn companions(&self) -> BTreeMap<u32, Info> {
        let (_, _, infos) = self.next.as_ref().expect("a ring is being formed");
        let old = self.ring.unwrap_or(NO_RING);
        infos
            .iter()
            .filter(|(id, info)| **id == self.me || (info.old == old && old != NO_RING))
            .map(|(id, info)| (*id, info.clone()))
            .collect()
    }

    fn enter_recovery(&mut self) {
        self.state = State::Recovery;
        self.hop = 1;
        self.next_store = Store::default();
        self.last_aru = 0;
        let companions = self.companions();
        let safe = companions.values().map(|info| info.safe).max().unwrap_or(0);
        self.store.safe = self.store.safe.max(safe);
        for info in companions.values() {
            self.obligations.extend(&info.obligations);
        }
        let ring = self.ring.unwrap_or(NO_RING);
        let mine = self.store.messages.range(safe + 1..);
        let again = |(seq, message): (&u64, &Message)| Message {
            old: Some((ring, *seq)),
            ..message.clone()
        };
        self.again = mine.map(again).collect();
        if self.fault == Fault::NothingAgain {
            self.again.clear();
        }
    }

    fn on_token(&mut self, now: Instant, mut token: Token) {
        let twice = self.fault == Fault::TokenTwice && token.hop == self.hop;
        if token.hop <= self.hop && !twice {
            return;
        }
        let recovering = self.state == State::Recovery;
        let (ring, members) = match (&self.next, self.ring) {
            (Some((ring, members, _)), _) if recovering => (*ring, members.clone()),
            (_, Some(ring)) if self.state == State::Operational => (ring, self.members.clone()),
            _ => return,
        };
        if token.ring != ring {
            return;
        }
        self.hop = token.hop;
        self.answer(&mut token, ring);
        if recovering && token.done {
            self.install(now);
        }
        let mut budget = self.window;
        while budget > 0 {
            let message = if self.state == State::Recovery {
                self.again.pop_front()
            } else {
                let pending = self.pending.pop_front();
                pending.map(|(service, payload)| Message {
                    sender: self.me,
                    service,
                    payload,
                    old: None,
                })
            };
            let Some(message) = message else { break };
            token.seq += 1;
            budget -= 1;
            self.place(ring, token.seq, message);
        }
        self.count(&mut token);
        token.hop += 1;
        self.pass(now, &members, &Packet::Token(token));
        self.deliver();
    }

    fn current(&mut self) -> &mut Store {
        if self.state == State::Recovery { &mut self.next_store } else { &mut self.store }
    }

    /// Sends what is asked for, and asks.
    fn answer(&mut self, token: &mut Token, ring: RingId) {
        let wanted = std::mem::take(&mut token.wanted);
        for seq in wanted {
            match self.current().messages.get(&seq).cloned() {
                Some(message) => self.send(None, Channel::Data, &Packet::Data(ring, seq, message)),
                None => token.wanted.push(seq),
            }
        }
        let store = self.current();
        store.hear(token.seq);
        let room = 30_usize.saturating_sub(token.wanted.len());
        token.wanted.extend(store.missing.range(..=token.seq).take(room));
        token.wanted.sort_unstable();
        token.wanted.dedup();
    }

    fn place(&mut self, ring: RingId, seq: u64, message: Message) {
        self.current().insert(seq, message.clone());
        let packet = Packet::Data(ring, seq, message.clone());
        self.send(None, Channel::Data, &packet);
        if message.old.is_none() {
            let place = Place { ring, seq: Seq::new(seq), index: 0 };
            let placement = Placement { payload: message.payload, place };
            self.transmits.back_mut().expect("just sent").places.push(placement);
        }
    }

    /// The token's aru, and what follows from it.
    fn count(&mut self, token: &mut Token) {
        let (me, fault) = (self.me, self.fault);
        let again = !self.again.is_empty();
        let mine = self.current().aru;
        if mine < token.aru || token.owner == me || token.owner == 0 || fault == Fault::AruRaised {
            token.aru = if fault == Fault::AruRaised { token.aru.max(mine) } else { mine };
            token.owner = if mine < token.seq { me } else { 0 };
        }
        let known = token.aru.min(self.last_aru);
        self.last_aru = token.aru;
        let store = self.current();
        store.safe = store.safe.max(known);
        if self.state != State::Recovery {
            return;
        }
        let early = fault == Fault::DoneTooEarly;
        if again && !early {
            token.complete = 0;
        } else if self.is_leader() {
            let all = token.aru == token.seq;
            token.complete = if all || early { token.complete + 1 } else { 0 };
            // One round for those who had something left, one for the aru to be true, one more.
            token.done = token.complete > if early { 1 } else { 3 };
        }
        if self.current().aru == token.seq {
            let companions: Vec<u32> = self.companions().into_keys().collect();
            self.obligations.extend(companions);
        }
    }

    fn say(&mut self, ring: RingId, seq: u64, message: &Message) {
        let place = Place { ring, seq: Seq::new(seq), index: 0 };
        let (payload, service) = (message.payload.clone(), message.service);
        self.outputs.push_back(Output::Message { payload: payload.into(), service, place });
    }

    /// Delivers what may be delivered in the regular configuration.
    fn deliver(&mut self) {
        let Some(ring) = self.ring else { return };
        if self.fault == Fault::SignalTooEarly && self.state == State::Recovery {
            return;
        }
        while let Some(message) = self.store.messages.get(&(self.store.delivered + 1)).cloned() {
            let seq = self.store.delivered + 1;
            let unsafe_yet = message.service == Service::Safe && seq > self.store.safe;
            if unsafe_yet && self.fault != Fault::SafeTooEarly {
                break;
            }
            self.store.delivered = seq;
            if message.old.is_none() {
                self.say(ring, seq, &message);
            }
        }
        if self.state == State::Operational {
            let keep = self.store.delivered.min(self.store.safe);
            self.store.messages = self.store.messages.split_off(&(keep + 1));
        }
    }

    fn install(&mut self, now: Instant) {
        let companions: Ids = self.companions().into_keys().collect();
        let (next, members, _) = self.next.take().expect("a ring is being formed");
        if let Some(ring) = self.ring {
            self.deliver();
            self.outputs.push_back(Output::Transitional { members: ids(&companions) });
            let mut expected = self.store.delivered + 1;
            let mut hole = false;
            for (seq, message) in self.store.messages.split_off(&expected) {
                hole = hole || seq != expected;
                expected = seq + 1;
                let sender = message.sender;
                let trusted = companions.contains(&sender) || self.obligations.contains(&sender);
                if message.old.is_none() && (!hole || trusted) {
                    self.say(ring, seq, &message);
                }
            }
        }
        self.outputs.push_back(Output::Regular { ring: next, members: ids(&members) });
        self.ring = Some(next);
        self.members = members;
        self.store = std::mem::take(&mut self.next_store);
        self.obligations.clear();
        self.state = State::Operational;
        self.here_due = now + self.timeout / 2;
    }

    fn on_data(&mut self, now: Instant, ring: RingId, seq: u64, message: Message) {
        if self.state == State::Recovery && self.next.as_ref().is_some_and(|n| n.0 == ring) {
            if let Some((old, old_seq)) = message.old
                && Some(old) == self.ring
            {
                self.store.insert(old_seq, Message { old: None, ..message.clone() });
            }
            self.next_store.insert(seq, message);
        } else if Some(ring) == self.ring && self.state != State::Recovery {
            self.store.insert(seq, message);
            if self.state == State::Operational {
                self.deliver();
            }
        } else if self.state == State::Operational
            && !self.members.contains(&message.sender)
            && ring.number >= self.number
        {
            self.enter_gather(now, &BTreeSet::from([message.sender]));
        }
    }

    fn handle(&mut self, now: Instant, packet: Packet) {
        match packet {
            Packet::Data(ring, seq, message) => self.on_data(now, ring, seq, message),
            Packet::Token(token) => self.on_token(now, token),
            Packet::Join { sender, procs, fails, number } => {
                self.on_join(now, sender, &procs, &fails, number);
            }
            Packet::Commit { ring, hop, members, infos } => {
                self.on_commit(now, ring, hop, members, infos);
            }
            Packet::Here { ring, sender } => {
                let foreign = !self.members.contains(&sender) || ring.number > self.number;
                if self.state == State::Operational && foreign {
                    self.enter_gather(now, &BTreeSet::from([sender]));
                }
            }
        }
    }
}

impl Core for Model {
    fn start(now: Instant, setup: &Setup) -> Self {
        let mut model = Self {
            me: setup.daemon.get(),
            cluster: setup.cluster,
            timeout: setup.tuning.failure_timeout,
            window: setup.tuning.window_packets.min(30) as usize,
            state: State::Gather,
            // Without a disk, time alone says that no ring of an earlier life has the number.
            number: now.as_nanos() / 1_000,
            ring: None,
            members: BTreeSet::new(),
            store: Store::default(),
            obligations: BTreeSet::new(),
            next: None,
            next_store: Store::default(),
            again: VecDeque::new(),
            procs: BTreeSet::new(),
            fails: BTreeSet::new(),
            agreeing: BTreeSet::new(),
            hop: 0,
            last_aru: 0,
            sent_token: None,
            join_due: now,
            consensus_due: now,
            loss_due: now,
            resend_due: None,
            here_due: now,
            own: None,
            pending: VecDeque::new(),
            transmits: VecDeque::new(),
            outputs: VecDeque::new(),
            fault: super::deliberate_fault(),
        };
        model.enter_gather(now, &BTreeSet::new());
        model
    }

    fn submit(&mut self, _: Instant, service: Service, payload: &[u8]) -> bool {
        let room = self.pending.len() < 500;
        if room {
            self.pending.push_back((service, payload.to_vec()));
        }
        room
    }

    fn handle_packet(&mut self, now: Instant, _: Channel, bytes: &HeapBuffer) {
        if let Some(packet) = decode(bytes.as_ref()).filter(|(cluster, _)| *cluster == self.cluster)
        {
            self.handle(now, packet.1);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.own.as_ref().is_some_and(|(due, _)| *due <= now)
            && let Some((_, packet)) = self.own.take()
        {
            self.handle(now, packet);
        }
        match self.state {
            State::Gather => {
                if self.consensus_due <= now {
                    let silent: Vec<u32> =
                        self.alive().difference(&self.agreeing).copied().collect();
                    self.fails.extend(&silent);
                    self.decide(now);
                    if self.state == State::Gather {
                        self.propose(now);
                    }
                } else if self.join_due <= now {
                    self.say_join(now);
                }
            }
            State::Commit | State::Recovery | State::Operational => {
                if self.loss_due <= now {
                    self.enter_gather(now, &BTreeSet::new());
                } else if self.resend_due.is_some_and(|due| due <= now) {
                    self.resend_due = Some(now + self.timeout / 6);
                    if let Some((to, bytes)) = self.sent_token.clone() {
                        self.send_bytes(Some(to), Channel::Token, bytes);
                    }
                }
            }
        }
        if self.state == State::Operational && self.here_due <= now {
            self.here_due = now + self.timeout / 2;
            let here = Packet::Here { ring: self.ring.unwrap_or(NO_RING), sender: self.me };
            self.send(None, Channel::Data, &here);
        }
    }

    fn handle_unreachable(&mut self, _: Instant, _: DaemonId) {}

    fn handle_stop(&mut self, _: Instant) {}

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = self.own.as_ref().map(|(due, _)| *due);
        let due = match self.state {
            State::Gather => self.join_due.min(self.consensus_due),
            State::Commit | State::Recovery => self.loss_due,
            State::Operational => self.loss_due.min(self.here_due),
        };
        let resend = self.resend_due.filter(|_| self.state != State::Gather);
        [Some(due), own, resend].into_iter().flatten().min()
    }

    fn state(&self) -> &'static str {
        match self.state {
            State::Gather => "gather",
            State::Commit => "commit",
            State::Recovery => "recovery",
            State::Operational => "operational",
        }
    }

    fn retained(&self) -> usize {
        self.store.messages.values().map(|message| message.payload.len()).sum()
    }

    fn is_packet(_: Channel, bytes: &[u8]) -> bool {
        decode(bytes).is_some()
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn ring(&mut self, ring: RingId) -> &mut Self {
        self.put(ring.number).put(u64::from(ring.leader.get()))
    }

    fn ids(&mut self, ids: &Ids) -> &mut Self {
        self.put(ids.len() as u64);
        for id in ids {
            self.put(u64::from(*id));
        }
        self
    }
}

fn encode(cluster: u64, packet: &Packet) -> Vec<u8> {
    let mut w = Writer(Vec::new());
    w.put(cluster);
    match packet {
        Packet::Data(ring, seq, message) => {
            w.put(0).ring(*ring).put(*seq).put(u64::from(message.sender));
            let (old, old_seq) = message.old.unwrap_or((NO_RING, 0));
            w.put(message.service as u64).ring(old).put(old_seq);
            w.0.extend_from_slice(&message.payload);
        }
        Packet::Token(t) => {
            w.put(1).ring(t.ring).put(t.hop).put(t.seq).put(t.aru).put(u64::from(t.owner));
            w.put(u64::from(t.done)).put(t.complete).put(t.wanted.len() as u64);
            for seq in &t.wanted {
                w.put(*seq);
            }
        }
        Packet::Join { sender, procs, fails, number } => {
            w.put(2).put(u64::from(*sender)).ids(procs).ids(fails).put(*number);
        }
        Packet::Commit { ring, hop, members, infos } => {
            w.put(3).ring(*ring).put(*hop).ids(members).put(infos.len() as u64);
            for (id, info) in infos {
                w.put(u64::from(*id)).ring(info.old).put(info.safe).ids(&info.obligations);
            }
        }
        Packet::Here { ring, sender } => {
            w.put(4).ring(*ring).put(u64::from(*sender));
        }
    }
    w.0
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn get(&mut self) -> Option<u64> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*word))
    }

    fn id(&mut self) -> Option<u32> {
        u32::try_from(self.get()?).ok()
    }

    fn ring(&mut self) -> Option<RingId> {
        Some(RingId { number: self.get()?, leader: DaemonId::new(self.id()?) })
    }

    fn ids(&mut self) -> Option<Ids> {
        (0..self.get()?).map(|_| self.id()).collect()
    }
}

fn decode(bytes: &[u8]) -> Option<(u64, Packet)> {
    let mut r = Reader(bytes);
    let cluster = r.get()?;
    let packet = match r.get()? {
        0 => {
            let (ring, seq, sender) = (r.ring()?, r.get()?, r.id()?);
            let service = *Service::ALL.get(usize::try_from(r.get()?).ok()?)?;
            let old = (r.ring()?, r.get()?);
            let (old, payload) = ((old.0 != NO_RING).then_some(old), r.0.to_vec());
            Packet::Data(ring, seq, Message { sender, service, payload, old })
        }
        1 => {
            let (ring, hop, seq, aru, owner) = (r.ring()?, r.get()?, r.get()?, r.get()?, r.id()?);
            let (done, complete) = (r.get()? != 0, r.get()?);
            let wanted = (0..r.get()?).map(|_| r.get()).collect::<Option<Vec<u64>>>()?;
            Packet::Token(Token { ring, hop, seq, aru, owner, done, complete, wanted })
        }
        2 => {
            let (sender, procs, fails, number) = (r.id()?, r.ids()?, r.ids()?, r.get()?);
            Packet::Join { sender, procs, fails, number }
        }
        3 => {
            let (ring, hop, members) = (r.ring()?, r.get()?, r.ids()?);
            let info = |r: &mut Reader<'_>| {
                let (id, old, safe, obligations) = (r.id()?, r.ring()?, r.get()?, r.ids()?);
                Some((id, Info { old, safe, obligations }))
            };
            let infos = (0..r.get()?).map(|_| info(&mut r)).collect::<Option<BTreeMap<_, _>>>()?;
            Packet::Commit { ring, hop, members, infos }
        }
        4 => Packet::Here { ring: r.ring()?, sender: r.id()? },
        _ => return None,
    };
    Some((cluster, packet))
}
