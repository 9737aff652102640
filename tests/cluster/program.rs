//! A client program: it joins, sends and receives, and logs what it saw as events of a trace.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use madrigal::base;
use madrigal::base::{GroupName, PrivateGroup};
use madrigal::client::{Cause, Event, Multicast, MulticastError, Options, Service, Session, View};
use madrigal::sim::checker::trace::{Ask, Entry, Sent, SessionEvent, SessionLog, ViewCause};
use madrigal::sim::payload::content;
use madrigal::sim::rng::Rng;

use crate::crew::{Orders, Shared};

/// The group that every program is in as long as it lives.
pub(crate) const ALL: &str = "all";

/// Groups that programs join and leave.
const GROUPS: [&str; 3] = ["red", "green", "blue"];

const SERVICES: [Service; 6] = [
    Service::Reliable,
    Service::Fifo,
    Service::Causal,
    Service::Agreed,
    Service::Agreed,
    Service::Safe,
];

/// Own messages that may be on their way.
const OUTSTANDING_MAX: u32 = 32;

/// How long a program waits for events before it does something itself.
const PACE: Duration = Duration::from_millis(5);

/// Bytes before the filler of each message: its number, and 1 in the last one of a program.
const HEAD_BYTES: usize = 8;

/// How a program behaves while it is told to work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// In a thousand turns, so many joins and leaves.
    pub(crate) churn: u32,
    /// Most messages of one turn.
    pub(crate) burst: u64,
    /// In a hundred messages, so many of tens of kilobytes.
    pub(crate) large: u64,
}

impl Manner {
    pub(crate) const USUAL: Self = Self { churn: 30, burst: 3, large: 1 };
}

/// One program, which comes back with a new session where its daemon does.
pub(crate) struct Program {
    pub(crate) number: usize,
    pub(crate) socket: PathBuf,
    pub(crate) manner: Manner,
    pub(crate) random: Rng,
    pub(crate) shared: Arc<Shared>,
}

impl Program {
    /// Runs until it is told to end. What each of its sessions saw, and the last session: nobody
    /// shall see that it ends.
    pub(crate) fn run(mut self) -> (Vec<SessionLog>, Option<Session>) {
        let mut logs = Vec::new();
        loop {
            let Some((session, start)) = self.connect(logs.len()) else { return (logs, None) };
            let (log, session) = Life::new(&mut self, session, start).run();
            logs.push(log);
            if session.is_some() {
                return (logs, session);
            }
            self.shared.update(self.number, |seen| seen.session = None);
        }
    }

    /// A new session and the step at which it began, as soon as there is a daemon that accepts one;
    /// `None` if it is told to end.
    fn connect(&mut self, life: usize) -> Option<(Session, u64)> {
        let address = format!("unix:{}", self.socket.display());
        loop {
            if self.shared.orders(PACE).end {
                return None;
            }
            let options = Options::new().name(format!("p{}-{life}", self.number));
            let start = self.shared.step().0;
            if let Ok(mut session) = Session::connect(&address, &options) {
                session.outbox().set_nonblocking(true);
                return Some((session, start));
            }
        }
    }
}

/// The session is over.
struct Over;

/// One session of a program.
struct Life<'p> {
    program: &'p mut Program,
    session: Session,
    own: PrivateGroup,
    start: u64,
    entries: Vec<Entry<SessionEvent>>,
    sent: u32,
    /// Messages to all that have not come back.
    outstanding: u32,
    /// Members of the group of all.
    everybody: Vec<PrivateGroup>,
    joined: BTreeSet<GroupName>,
    finished: bool,
    last_turn: Instant,
}

impl<'p> Life<'p> {
    fn new(program: &'p mut Program, session: Session, start: u64) -> Self {
        let own = *session.private_group();
        program.shared.update(program.number, |seen| seen.begin(own));
        Self {
            program,
            session,
            own,
            start,
            entries: Vec::new(),
            sent: 0,
            outstanding: 0,
            everybody: Vec::new(),
            joined: BTreeSet::new(),
            finished: false,
            last_turn: Instant::now(),
        }
    }

    /// Runs until it is told to end, when the session is returned too, or the session is over.
    fn run(mut self) -> (SessionLog, Option<Session>) {
        let all = GroupName::new(ALL.as_bytes()).expect("a legal name");
        let mut going = self.ask(Ask::Join(all), |session| session.join(ALL));
        let mut told = false;
        while going.is_ok() && !told {
            let orders = self.program.shared.orders(Duration::ZERO);
            told = orders.end;
            if !told {
                going = self.receive().and_then(|()| self.act(&orders));
            }
        }
        if going.is_err() {
            self.log(SessionEvent::End);
        }
        let Self { own, start, entries, session, .. } = self;
        (
            SessionLog { session: own, watches: true, start, entries },
            going.is_ok().then_some(session),
        )
    }

    fn log(&mut self, event: SessionEvent) {
        let now = self.program.shared.step();
        self.log_at(now, event);
    }

    /// What is asked for counts from before it is asked for: this thread may stand still between
    /// a request and its entry, while the request has its effects.
    fn log_at(&mut self, (step, at): (u64, base::Instant), event: SessionEvent) {
        self.entries.push(Entry { step, at, event });
    }

    /// Takes what is there, and waits a little if that is nothing.
    fn receive(&mut self) -> Result<(), Over> {
        let mut event = match self.session.receive_timeout(PACE) {
            Ok(event) => event.map(|event| meaning(&event)),
            Err(_) => return Err(Over),
        };
        while let Some((got, is_last)) = event.take() {
            self.take(&got, is_last);
            self.log(got);
            event = match self.session.try_receive() {
                Ok(event) => event.map(|event| meaning(&event)),
                Err(_) => return Err(Over),
            };
        }
        Ok(())
    }

    fn take(&mut self, got: &SessionEvent, is_last: bool) {
        match got {
            SessionEvent::Deliver { message, .. } => {
                let sender = message.sender;
                if sender == self.own {
                    self.outstanding = self.outstanding.saturating_sub(1);
                }
                self.program.shared.update(self.program.number, |seen| {
                    seen.delivered += 1;
                    if is_last {
                        seen.last.insert(sender);
                    }
                });
            }
            SessionEvent::View { group, members, cause, .. } => {
                self.joined.insert(*group);
                if group.as_bytes() == ALL.as_bytes() {
                    self.everybody.clone_from(members);
                    let at = Instant::now();
                    let network = matches!(cause, ViewCause::Network { .. });
                    // Who was elsewhere has not got the last message: once more, then.
                    self.finished &= !network;
                    self.program.shared.update(self.program.number, |seen| {
                        seen.members.clone_from(members);
                        seen.viewed = at;
                        seen.network_views += usize::from(network);
                    });
                }
            }
            SessionEvent::Left { group } => {
                self.joined.remove(group);
            }
            SessionEvent::Asked(_)
            | SessionEvent::Send { .. }
            | SessionEvent::Transitional { .. }
            | SessionEvent::Killed
            | SessionEvent::End => {}
        }
    }

    /// Makes a request, and logs it; what cannot be queued is not asked for.
    fn ask(
        &mut self,
        what: Ask,
        request: impl FnOnce(&mut Session) -> Result<(), MulticastError>,
    ) -> Result<(), Over> {
        let now = self.program.shared.step();
        let asked = request(&mut self.session);
        if self.is_done(asked)? {
            self.log_at(now, SessionEvent::Asked(what));
        }
        Ok(())
    }

    /// Whether a request was taken.
    fn is_done(&self, request: Result<(), MulticastError>) -> Result<bool, Over> {
        match request {
            Ok(()) => Ok(true),
            Err(MulticastError::WouldBlock) => Ok(false),
            Err(MulticastError::Closed | MulticastError::Io(_)) => Err(Over),
            Err(error) => panic!("{} asks for what is no request: {error}", self.own),
        }
    }

    /// Does what it is told to, once in a while.
    fn act(&mut self, orders: &Orders) -> Result<(), Over> {
        let flushed = self.session.outbox().flush();
        if !self.is_done(flushed)? || self.last_turn.elapsed() < PACE {
            return Ok(());
        }
        self.last_turn = Instant::now();
        if orders.finish && !self.finished && !self.everybody.is_empty() {
            self.finished = true;
            return self.send(Service::Agreed, vec![ALL.to_owned()], false, HEAD_BYTES);
        }
        if !orders.work || self.outstanding >= OUTSTANDING_MAX {
            return Ok(());
        }
        let manner = self.program.manner;
        if self.program.random.chance(manner.churn) {
            self.churn()?;
        }
        for _ in 0..=self.program.random.below(manner.burst) {
            self.send_something()?;
        }
        Ok(())
    }

    fn churn(&mut self) -> Result<(), Over> {
        let name = *self.program.random.pick(&GROUPS);
        let group = GroupName::new(name.as_bytes()).expect("a legal name");
        if self.joined.contains(&group) {
            self.ask(Ask::Leave(group), |session| session.leave(name))
        } else {
            self.ask(Ask::Join(group), |session| session.join(name))
        }
    }

    fn send_something(&mut self) -> Result<(), Over> {
        let random = &mut self.program.random;
        let service = *random.pick(&SERVICES);
        let self_discard = random.chance(50);
        let destinations = match random.below(10) {
            0 if !self.everybody.is_empty() => vec![random.pick(&self.everybody).to_string()],
            1 => vec!["nobody".to_owned(), (*random.pick(&GROUPS)).to_owned()],
            2 | 3 => (0..3).map(|_| (*random.pick(&GROUPS)).to_owned()).collect(),
            4 | 5 => vec![(*random.pick(&GROUPS)).to_owned()],
            _ => vec![ALL.to_owned()],
        };
        let bytes = match random.below(100) {
            lot if lot < self.program.manner.large => random.within(8_000..60_000),
            lot if lot < 10 => random.within(500..3_000),
            _ => random.within(HEAD_BYTES as u64..200),
        };
        self.send(service, destinations, self_discard, bytes as usize)
    }

    fn send(
        &mut self,
        service: Service,
        destinations: Vec<String>,
        self_discard: bool,
        bytes: usize,
    ) -> Result<(), Over> {
        let n = self.sent;
        let mut data = Vec::with_capacity(bytes.max(HEAD_BYTES));
        data.extend_from_slice(&n.to_le_bytes());
        data.extend_from_slice(&u32::from(self.finished).to_le_bytes());
        while data.len() < bytes {
            data.push((n as usize + data.len()) as u8);
        }
        let how = Multicast::new(service).self_discard(self_discard);
        let groups: Vec<&str> = destinations.iter().map(String::as_str).collect();
        let now = self.program.shared.step();
        let sent = self.session.outbox().multicast_with(&how, &groups, &data);
        if !self.is_done(sent)? {
            return Ok(());
        }
        self.sent += 1;
        if groups.contains(&ALL) && !self_discard {
            self.outstanding += 1;
        }
        let name = |group: &String| match PrivateGroup::parse(group.as_bytes()) {
            Ok(private) => private.to_name(),
            Err(_) => GroupName::new(group.as_bytes()).expect("a legal name"),
        };
        let sent = SessionEvent::Send {
            n,
            content: content(service, &data),
            destinations: destinations.iter().map(name).collect(),
            self_discard,
        };
        self.log_at(now, sent);
        Ok(())
    }
}

/// What an event means to the checker, and whether it is a program's last message.
fn meaning(event: &Event<'_>) -> (SessionEvent, bool) {
    let group = |name: madrigal::client::Name<'_>| name.to_group().expect("a name with a NUL");
    match event {
        Event::Message(message) => {
            let word = |at: usize| message.data().get(at..at + 4)?.try_into().ok();
            let word = |at| u32::from_le_bytes(word(at).expect("messages have a head"));
            let sender = member(message.sender());
            let event = SessionEvent::Deliver {
                message: Sent { sender, n: word(0) },
                content: content(message.service(), message.data()),
                destinations: message.groups().map(group).collect(),
            };
            (event, word(4) == 1)
        }
        Event::View(view) => (meaning_of_view(view), false),
        Event::Transitional { group: name, .. } => {
            (SessionEvent::Transitional { group: group(*name) }, false)
        }
        Event::SelfLeave { group: name } => (SessionEvent::Left { group: group(*name) }, false),
        Event::Rejected(rejected) => panic!("a daemon rejects {rejected:?}"),
    }
}

fn meaning_of_view(view: &View<'_>) -> SessionEvent {
    let cause = match view.cause() {
        Cause::Join(name) => ViewCause::Join(member(name)),
        Cause::Leave(name) => ViewCause::Leave(member(name)),
        Cause::Disconnect(name) => ViewCause::Disconnect(member(name)),
        Cause::Network => ViewCause::Network {
            sets: view.vs_sets().map(|set| set.map(member).collect()).collect(),
            own: view.own_vs_set_index(),
        },
    };
    SessionEvent::View {
        group: view.group().to_group().expect("a name with a NUL"),
        id: view.group_id(),
        cause,
        members: view.members().map(member).collect(),
    }
}

fn member(name: madrigal::client::Name<'_>) -> base::PrivateGroup {
    name.to_private_group().expect("members have private groups")
}
