//! A trace of sessions, indexed for the checks: logs cut into the time spent in each view of each
//! group.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DaemonId, DaemonName, GroupId, GroupName, Instant, PrivateGroup};

use super::hash::HashMap;
use super::trace::{Content, Entry, Sent, SessionEvent, SessionLog, Trace, ViewCause};

/// A message.
pub(super) struct Message<'a> {
    pub(super) id: Sent,
    /// As its sender sent it; `None` where nobody did.
    pub(super) sent: Option<Sending<'a>>,
}

/// A message as its sender sent it.
#[derive(Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) content: Content,
    pub(super) destinations: &'a [GroupName],
    pub(super) self_discard: bool,
    pub(super) step: u64,
}

/// A view as one session got it.
pub(super) struct View<'a> {
    pub(super) id: GroupId,
    pub(super) cause: &'a ViewCause,
    pub(super) members: &'a [PrivateGroup],
    pub(super) step: u64,
    pub(super) at: Instant,
    /// How many transitional signals the session got in the view before.
    pub(super) signals: usize,
    /// So many of its messages came before the first signal in it; all where there was none.
    pub(super) certain: usize,
    /// Numbers of the messages to the group that it got until the next view, in order.
    pub(super) messages: Vec<usize>,
    /// Its next view of the group in the same membership is the next one of the list.
    pub(super) continues: bool,
    /// The first of a membership.
    pub(super) arrives: bool,
}

/// A session's log.
pub(super) struct Log<'a> {
    pub(super) session: PrivateGroup,
    /// It wants membership messages.
    pub(super) watches: bool,
    /// The step at which it began.
    pub(super) start: u64,
    pub(super) entries: &'a [Entry<SessionEvent>],
    /// Of each entry that sends or delivers a message, its number; of others nothing of use.
    numbers: Vec<usize>,
    /// Views of each group, in order.
    pub(super) views: BTreeMap<GroupName, Vec<View<'a>>>,
    /// It was thrown out.
    pub(super) killed: bool,
    /// It was thrown out, or ended in order.
    pub(super) ended: bool,
    /// What it asks for is in the log: not so in the hand-made traces of some properties.
    pub(super) asks: bool,
    /// Groups that it was told to be in, at the end.
    pub(super) members_of: BTreeSet<GroupName>,
    /// Signals of groups that no view followed.
    pub(super) signals: BTreeMap<GroupName, usize>,
}

impl View<'_> {
    /// The session got the transitional signal in the view before.
    pub(super) fn is_signalled(&self) -> bool {
        self.signals > 0
    }
}

impl<'a> Log<'a> {
    /// Each entry, with the number of the message that it sends or delivers, if it does.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, &'a Entry<SessionEvent>)> {
        self.numbers.iter().copied().zip(self.entries)
    }

    fn deliver(
        &mut self,
        message: usize,
        destinations: &[GroupName],
        member: &BTreeSet<GroupName>,
    ) {
        for (at, group) in destinations.iter().enumerate() {
            if member.contains(group)
                && !destinations[..at].contains(group)
                && let Some(view) = self.views.get_mut(group).and_then(|views| views.last_mut())
            {
                view.messages.push(message);
            }
        }
    }
}

/// All sessions.
pub(super) struct Sessions<'a> {
    pub(super) trace: &'a Trace,
    pub(super) logs: Vec<Log<'a>>,
    /// By number.
    pub(super) messages: Vec<Message<'a>>,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        let mut messages = Messages::default();
        let logs = trace.sessions.iter().map(|log| cut(log, &mut messages)).collect();
        Self { trace, logs, messages: messages.all }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.trace.ending.calm.is_some()
    }

    /// The sessions that had not ended at the end.
    pub(super) fn live(&self) -> impl Iterator<Item = &Log<'a>> {
        self.logs.iter().filter(|log| !log.ended)
    }

    /// The name that the daemon with this id has in all runs.
    pub(super) fn daemon_name(daemon: DaemonId) -> DaemonName {
        let name = format!("d{}", daemon.get());
        DaemonName::new(name.as_bytes()).expect("a letter and a number are legal")
    }

    /// Whether the daemons of both sessions end in one component.
    pub(super) fn are_together(&self, one: PrivateGroup, other: PrivateGroup) -> bool {
        let mut components = self.trace.ending.components.iter();
        let has = |component: &[DaemonId], session: PrivateGroup| {
            component.iter().any(|daemon| Self::daemon_name(*daemon) == session.daemon)
        };
        one.daemon == other.daemon || components.any(|c| has(c, one) && has(c, other))
    }

    /// Whether `message` wants no copy for `session`.
    pub(super) fn is_discarded_by(&self, message: usize, session: PrivateGroup) -> bool {
        let Message { id, sent } = &self.messages[message];
        sent.is_some_and(|sent| sent.self_discard) && id.sender == session
    }
}

#[derive(Default)]
struct Messages<'a> {
    all: Vec<Message<'a>>,
    numbers: HashMap<Sent, usize>,
}

impl Messages<'_> {
    fn number(&mut self, id: Sent) -> usize {
        *self.numbers.entry(id).or_insert_with(|| {
            self.all.push(Message { id, sent: None });
            self.all.len() - 1
        })
    }
}

fn cut<'a>(from: &'a SessionLog, messages: &mut Messages<'a>) -> Log<'a> {
    let mut log = Log {
        session: from.session,
        watches: from.watches,
        start: from.start,
        entries: &from.entries,
        numbers: Vec::with_capacity(from.entries.len()),
        views: BTreeMap::new(),
        killed: false,
        ended: false,
        asks: false,
        members_of: BTreeSet::new(),
        signals: BTreeMap::new(),
    };
    let mut member: BTreeSet<GroupName> = BTreeSet::new();
    for entry in &from.entries {
        let mut number = 0;
        match &entry.event {
            SessionEvent::Send { n, content, destinations, self_discard } => {
                number = messages.number(Sent { sender: log.session, n: *n });
                let (content, self_discard, step) = (*content, *self_discard, entry.step);
                let sending = Sending { content, destinations, self_discard, step };
                messages.all[number].sent = Some(sending);
            }
            SessionEvent::Asked(_) => log.asks = true,
            SessionEvent::Deliver { message, destinations, .. } => {
                number = messages.number(*message);
                log.deliver(number, destinations, &member);
            }
            SessionEvent::View { group, id, cause, members } => {
                let views = log.views.entry(*group).or_default();
                let was_member = !member.insert(*group);
                if let Some(last) = views.last_mut() {
                    last.continues = was_member;
                }
                let view = View {
                    id: *id,
                    cause,
                    members,
                    step: entry.step,
                    at: entry.at,
                    signals: log.signals.remove(group).unwrap_or_default(),
                    certain: usize::MAX,
                    messages: Vec::new(),
                    continues: false,
                    arrives: !was_member,
                };
                views.push(view);
            }
            SessionEvent::Transitional { group } => {
                *log.signals.entry(*group).or_default() += 1;
                let view = log.views.get_mut(group).and_then(|views| views.last_mut());
                if let Some(view) = view {
                    view.certain = view.certain.min(view.messages.len());
                }
            }
            SessionEvent::Left { group } => {
                member.remove(group);
                log.signals.remove(group);
            }
            SessionEvent::Killed => (log.killed, log.ended) = (true, true),
            SessionEvent::End => log.ended = true,
        }
        log.numbers.push(number);
    }
    log.members_of = member;
    log
}
