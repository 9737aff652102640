//! The sessions of one simulated daemon: what they ask for by lot, and what they wait for.

use std::collections::BTreeMap;

use crate::base::buffer::HeapBuffer;
use crate::base::limits::{BODY_BYTES_MAX, DESTINATIONS_MAX, GROUP_NAME_BYTES};
use crate::base::{DaemonName, GroupName, PrivateGroup, Request, Service, SessionId, SessionName};

use super::checker::trace::{Ask, SessionEvent};
use super::payload::{content, filler};
use super::reader::{Fate, Reader};
use super::rng::Rng;
use super::session::frame;

/// Messages that the sessions of one name may send in one life of their daemon. Their numbers ride
/// in the 16 bits that clients have for a message type, so that messages of no bytes have one too.
const NUMBERS_PER_LIFE: u32 = 2_000;

/// Lives of a daemon in which sessions may have the same names; later ones use others.
const LIVES_PER_NAME: u32 = 16;

const _: () = assert!(NUMBERS_PER_LIFE * LIVES_PER_NAME < 1 << 15);

/// The name of the simulated daemon with this number.
pub fn daemon_name(number: u32) -> DaemonName {
    DaemonName::new(format!("d{number}").as_bytes()).expect("a letter and a number are legal")
}

/// What the sessions of all daemons of a run are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Habits {
    /// Sessions of a daemon that come and go.
    pub sessions: usize,
    /// Sessions of a daemon that join one group of all, and stay.
    pub crowd: usize,
    /// Groups that any session uses.
    pub shared: u64,
    /// Groups of each daemon that its own sessions use.
    pub own: u64,
    /// How often a session uses another daemon's group, per mille.
    pub visits: u32,
    /// Joins and leaves among the requests, per mille.
    pub churn: u32,
    /// How often one of those that come and go stops reading for a while, per mille of bursts.
    pub naps: u32,
    /// Frames that may wait for it.
    pub waiting_max: usize,
}

impl Habits {
    /// Habits drawn by lot.
    pub fn random(rng: &mut Rng) -> Self {
        let crowd = if rng.chance(20) { rng.within(30..120) as usize } else { 0 };
        Self {
            sessions: *rng.pick(&[1, 2, 3, 6]),
            crowd,
            shared: rng.within(1..4),
            own: rng.below(3),
            visits: *rng.pick(&[0, 20, 200]),
            churn: *rng.pick(&[50, 200, 500]),
            naps: *rng.pick(&[0, 0, 5, 30]),
            waiting_max: *rng.pick(&[1, 10, 60]),
        }
    }
}

/// One session.
struct Session {
    address: PrivateGroup,
    /// Number of its name.
    name: usize,
    watches: bool,
    /// Its requests wait for the ring: it asks for nothing.
    held: bool,
    /// It has asked for its end.
    leaving: bool,
    /// The message to itself that is to show that all it asked for was carried out.
    echo: Echo,
    /// Of the crowd: has not joined yet.
    arriving: bool,
    /// It came by lot: it ends by lot too, and now and then it does not read.
    by_lot: bool,
    reader: Reader,
    /// Its daemon has thrown it out: it gets nothing more, and its end is on its way.
    thrown_out: bool,
}

impl Session {
    fn sees(&mut self, event: &SessionEvent) {
        if let SessionEvent::Deliver { message, .. } = event
            && message.sender == self.address
            && self.echo == Echo::Sent(message.n)
        {
            self.echo = Echo::None;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    None,
    Wanted,
    Sent(u32),
}

/// A name of sessions, one after the other.
struct Name {
    name: SessionName,
    /// Number of the next message.
    next: u32,
    in_use: bool,
}

/// The sessions of one daemon.
pub struct Clients {
    daemon: DaemonName,
    daemons: u32,
    number: u32,
    habits: Habits,
    rng: Rng,
    incarnation: u32,
    sessions: BTreeMap<SessionId, Session>,
    names: Vec<Name>,
    /// How often each slot was used.
    slots: Vec<u32>,
    /// Who asked last.
    last: Option<SessionId>,
}

/// A session that begins.
pub struct Newcomer {
    /// Its id.
    pub id: SessionId,
    /// Its name.
    pub name: SessionName,
    /// It wants membership messages.
    pub watches: bool,
}

impl Clients {
    /// No session yet, at the daemon with this `number`, one of `daemons`, in this life.
    pub fn new(number: u32, daemons: u32, incarnation: u32, habits: Habits, rng: Rng) -> Self {
        Self {
            daemon: daemon_name(number),
            daemons,
            number,
            habits,
            rng,
            incarnation,
            sessions: BTreeMap::new(),
            names: Vec::new(),
            slots: Vec::new(),
            last: None,
        }
    }

    /// A session that comes now, if one does.
    pub fn comes(&mut self) -> Option<Newcomer> {
        let crowd = self.habits.crowd;
        let count = self.sessions.len();
        let wanted = self.habits.sessions + crowd;
        let hurry = if count < crowd { 900 } else { 300 };
        if count >= wanted || !(count == 0 || self.rng.chance(hurry)) {
            return None;
        }
        let watches = if crowd > 0 { self.rng.chance(30) } else { self.rng.chance(850) };
        let newcomer = self.connect(watches);
        if let Some(session) = self.sessions.get_mut(&newcomer.id) {
            session.by_lot = true;
        }
        Some(newcomer)
    }

    /// A new session.
    pub fn connect(&mut self, watches: bool) -> Newcomer {
        let last = (self.incarnation % LIVES_PER_NAME + 1) * NUMBERS_PER_LIFE;
        // Names come again, so that who is gone and who came can be confused.
        let free = self.names.iter().position(|name| !name.in_use && name.next < last);
        let free = free.unwrap_or_else(|| {
            let epoch = self.incarnation / LIVES_PER_NAME;
            let name = format!("s{}e{epoch}", self.names.len());
            let name = SessionName::new(name.as_bytes()).expect("short and legal");
            self.names.push(Name { name, next: last - NUMBERS_PER_LIFE, in_use: false });
            self.names.len() - 1
        });
        self.names[free].in_use = true;
        let name = self.names[free].name;
        let id = self.slot();
        let address = PrivateGroup { session: name, daemon: self.daemon };
        let arriving = self.sessions.len() < self.habits.crowd;
        let session = Session {
            address,
            name: free,
            watches,
            held: false,
            leaving: false,
            echo: Echo::None,
            arriving,
            by_lot: false,
            reader: Reader::new(self.habits.waiting_max),
            thrown_out: false,
        };
        self.sessions.insert(id, session);
        Newcomer { id, name, watches }
    }

    fn slot(&mut self) -> SessionId {
        let taken = |slot: usize| self.sessions.keys().any(|id| id.slot() == slot);
        let slot = (0..).find(|slot| !taken(*slot)).expect("there are many slots");
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, 0);
        }
        self.slots[slot] += 1;
        SessionId::new((slot % 2) as u8, slot as u32, self.slots[slot])
    }

    /// The address of a session that is there.
    pub fn address(&self, id: SessionId) -> PrivateGroup {
        self.sessions.get(&id).expect("only of sessions that are there").address
    }

    /// Whether the session wants membership messages.
    pub fn watches(&self, id: SessionId) -> bool {
        self.sessions.get(&id).expect("only of sessions that are there").watches
    }

    /// Whether the session is to ask for nothing.
    pub fn is_held(&self, id: SessionId) -> bool {
        self.sessions.get(&id).is_some_and(|session| session.held)
    }

    /// The session called `name`, if it is there.
    pub fn find(&self, name: &str) -> Option<SessionId> {
        let mut all = self.sessions.iter();
        let found = all.find(|(_, session)| session.address.session.as_str() == name);
        found.map(|(id, _)| *id)
    }

    /// The next request by lot; sending, it is of this service and about this length. `None` where
    /// the session that would ask is held.
    pub fn asks(
        &mut self,
        service: Service,
        bytes: usize,
    ) -> Option<(SessionId, SessionEvent, Request<HeapBuffer>)> {
        let arriving = self.sessions.iter().find(|(_, session)| session.arriving);
        let at = match arriving {
            Some((&id, _)) => id,
            // One session often asks for several things in a row.
            None => match self.last.filter(|last| self.sessions.contains_key(last)) {
                Some(last) if self.rng.chance(700) => last,
                _ => {
                    let at = self.rng.index(self.sessions.len().max(1));
                    *self.sessions.keys().nth(at)?
                }
            },
        };
        self.last = Some(at);
        let session = self.sessions.get_mut(&at)?;
        // Those that are held may have had one more on its way.
        if session.leaving || (session.held && !self.rng.chance(20)) {
            return None;
        }
        session.echo = Echo::None;
        let used_up = self.names[session.name].next % NUMBERS_PER_LIFE == NUMBERS_PER_LIFE - 20;
        let ask = if std::mem::take(&mut session.arriving) {
            Ask::Join(group("crowd"))
        } else if used_up || (self.rng.chance(6) && session.by_lot) {
            session.leaving = true;
            Ask::Disconnect
        } else if self.rng.chance(self.habits.churn) {
            let group = self.group();
            if self.rng.chance(600) { Ask::Join(group) } else { Ask::Leave(group) }
        } else {
            let (event, request) = self.sends(at, service, bytes);
            return Some((at, event, request));
        };
        Some((at, SessionEvent::Asked(ask), request_of(ask)))
    }

    /// A join, leave or disconnect that somebody decided on.
    pub fn ask(&mut self, id: SessionId, ask: Ask) -> (SessionEvent, Request<HeapBuffer>) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.leaving |= ask == Ask::Disconnect;
        }
        (SessionEvent::Asked(ask), request_of(ask))
    }

    fn group(&mut self) -> GroupName {
        let Habits { shared, own, visits, crowd, .. } = self.habits;
        if crowd > 0 && self.rng.chance(200) {
            return group("crowd");
        }
        if own > 0 && self.rng.chance(500) {
            let visiting = self.rng.chance(visits);
            let whose =
                if visiting { self.rng.below(self.daemons.into()) + 1 } else { self.number.into() };
            return group(&format!("d{whose}-{}", self.rng.below(own)));
        }
        group(&format!("g{}", self.rng.below(shared)))
    }

    fn sends(
        &mut self,
        id: SessionId,
        service: Service,
        bytes: usize,
    ) -> (SessionEvent, Request<HeapBuffer>) {
        let count = match self.rng.below(500) {
            0 => 0,
            1 => DESTINATIONS_MAX,
            2..=99 => self.rng.within(2..5) as usize,
            _ => 1,
        };
        let destinations: Vec<GroupName> = (0..count)
            .map(|_| if self.rng.chance(150) { self.somebody() } else { self.group() })
            .collect();
        let bytes = match self.rng.below(2_000) {
            0 => BODY_BYTES_MAX,
            1 | 2 => 100_000,
            _ => bytes,
        };
        let bytes = bytes.min(BODY_BYTES_MAX - GROUP_NAME_BYTES * count);
        let self_discard = self.rng.chance(200);
        self.send(id, service, self_discard, destinations, bytes)
    }

    /// The address of some session: of this daemon, or of another where it may not exist.
    fn somebody(&mut self) -> GroupName {
        let near = self.rng.index(self.sessions.len().max(1));
        let far = self.rng.chance(400);
        match self.sessions.values().nth(near) {
            Some(session) if !far => session.address.to_name(),
            Some(_) | None => {
                let name = format!("s{}e0", self.rng.below(6));
                let session = SessionName::new(name.as_bytes()).expect("short and legal");
                let daemon = daemon_name(self.rng.below(self.daemons.into()) as u32 + 1);
                PrivateGroup { session, daemon }.to_name()
            }
        }
    }

    /// The next message of session `id`.
    pub fn send(
        &mut self,
        id: SessionId,
        service: Service,
        self_discard: bool,
        destinations: Vec<GroupName>,
        bytes: usize,
    ) -> (SessionEvent, Request<HeapBuffer>) {
        let session = &self.sessions[&id];
        let next = &mut self.names[session.name].next;
        let n = *next;
        *next += 1;
        let data = filler(n, bytes);
        let frame = frame(&session.address, n, service, self_discard, &destinations, &data).into();
        let count = destinations.len() as u8;
        let content = content(service, &data);
        let sent = SessionEvent::Send { n, content, destinations, self_discard };
        (sent, Request::Multicast { service, self_discard, destinations: count, frame })
    }

    /// Lets each session ask for an echo: when it comes back, all that it asked for was done.
    pub fn want_echoes(&mut self) {
        let all = self.sessions.values_mut().filter(|session| !session.leaving);
        all.for_each(|session| session.echo = Echo::Wanted);
    }

    /// The next message that a session sends to itself.
    pub fn echo(&mut self) -> Option<(SessionId, SessionEvent, Request<HeapBuffer>)> {
        let mut all = self.sessions.iter_mut();
        let (&id, session) = all.find(|(_, s)| s.echo == Echo::Wanted && !s.held)?;
        let own = session.address.to_name();
        let (event, request) = self.send(id, Service::Agreed, false, vec![own], 0);
        if let (SessionEvent::Send { n, .. }, Some(session)) = (&event, self.sessions.get_mut(&id))
        {
            session.echo = Echo::Sent(*n);
        }
        Some((id, event, request))
    }

    /// Now and then one that reads stops, and one that does not reads some of what waits, or all
    /// and goes on: what they read.
    pub fn nap(&mut self) -> Vec<(PrivateGroup, SessionEvent)> {
        let mut read = Vec::new();
        if self.habits.naps == 0 || self.sessions.is_empty() {
            return read;
        }
        let at = self.rng.index(self.sessions.len());
        if self.rng.chance(self.habits.naps)
            && let Some(session) = self.sessions.values_mut().nth(at)
            && session.by_lot
        {
            session.reader.stall();
        }
        let napping = self.sessions.values_mut().filter(|session| session.reader.is_stalled());
        for session in napping.filter(|session| !session.leaving) {
            let events = match self.rng.below(20) {
                0 => session.reader.wake(),
                1 => session.reader.read_some(&mut self.rng),
                _ => continue,
            };
            events.iter().for_each(|event| session.sees(event));
            read.extend(events.into_iter().map(|event| (session.address, event)));
        }
        read
    }

    /// All read again: what they read.
    pub fn wake(&mut self) -> Vec<(PrivateGroup, SessionEvent)> {
        let mut read = Vec::new();
        for session in self.sessions.values_mut().filter(|session| !session.leaving) {
            let events = session.reader.wake();
            events.iter().for_each(|event| session.sees(event));
            read.extend(events.into_iter().map(|event| (session.address, event)));
        }
        read
    }

    /// A frame of so many `bytes` is there for session `id`. What it sees of that now, if anything:
    /// the frame, or that it is thrown out, and then its end is to be asked for.
    ///
    /// # Panics
    ///
    /// If there is no such session: a finding.
    pub fn gets<'a>(
        &mut self,
        id: SessionId,
        event: &'a SessionEvent,
        bytes: usize,
    ) -> Option<&'a SessionEvent> {
        let session = self.sessions.get_mut(&id).expect("frames are for sessions that are there");
        // What waits for one who has asked for its end is let go of, as the session layer does.
        if session.thrown_out || (session.leaving && session.reader.is_stalled()) {
            return None;
        }
        match session.reader.take(event, bytes) {
            Fate::Read => {
                session.sees(event);
                Some(event)
            }
            Fate::Waits => None,
            Fate::TooMany => {
                (session.thrown_out, session.leaving, session.echo) = (true, true, Echo::None);
                Some(&SessionEvent::Killed)
            }
        }
    }

    /// Session `id` is to ask for nothing, or may again.
    pub fn hold(&mut self, id: SessionId, held: bool) {
        let session = self.sessions.get_mut(&id).expect("who is held is there");
        assert_ne!(session.held, held, "{} is held or released twice", session.address);
        session.held = held;
    }

    /// Session `id` is over. Its address, if it did not know.
    ///
    /// # Panics
    ///
    /// If it never asked for that.
    pub fn ends(&mut self, id: SessionId) -> Option<PrivateGroup> {
        let session = self.sessions.remove(&id).expect("who ends was there");
        assert!(session.leaving, "{} ends and did not want to", session.address);
        self.names[session.name].in_use = false;
        (!session.thrown_out).then_some(session.address)
    }

    /// Whether all that was asked for was done.
    pub fn is_drained(&self) -> bool {
        let done = |session: &Session| session.echo == Echo::None && !session.leaving;
        self.sessions.values().all(done)
    }
}

/// The group called `name`.
pub(super) fn group(name: &str) -> GroupName {
    GroupName::new(name.as_bytes()).expect("short and legal")
}

fn request_of(ask: Ask) -> Request<HeapBuffer> {
    match ask {
        Ask::Join(group) => Request::Join(group),
        Ask::Leave(group) => Request::Leave(group),
        Ask::Disconnect => Request::Disconnect,
    }
}
