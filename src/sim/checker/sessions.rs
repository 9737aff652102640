//! A trace of sessions, indexed for the checks: logs cut into the time spent in each view of each
//! group.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{GroupId, GroupName, PrivateGroup};

use super::hash::HashMap;
use super::trace::{Content, Entry, Sent, SessionEvent, SessionLog, Trace, ViewCause};

/// A message as its sender sent it.
pub(super) struct Message<'a> {
    pub(super) content: Content,
    pub(super) destinations: &'a [GroupName],
    pub(super) self_discard: bool,
}

/// A view as one session got it.
pub(super) struct View<'a> {
    pub(super) id: GroupId,
    pub(super) cause: &'a ViewCause,
    pub(super) members: &'a [PrivateGroup],
    pub(super) step: u64,
    /// The session got the transitional signal in the view before.
    pub(super) signalled: bool,
    /// Messages to the group that it got until the next view, in order.
    pub(super) messages: Vec<Sent>,
    /// Its next view of the group in the same membership is the next one of the list.
    pub(super) continues: bool,
}

/// A session's log.
pub(super) struct Log<'a> {
    pub(super) session: PrivateGroup,
    pub(super) entries: &'a [Entry<SessionEvent>],
    /// Views of each group, in order.
    pub(super) views: BTreeMap<GroupName, Vec<View<'a>>>,
    /// It was thrown out.
    pub(super) killed: bool,
    /// It was thrown out, or ended in order.
    pub(super) ended: bool,
}

/// All sessions.
pub(super) struct Sessions<'a> {
    pub(super) trace: &'a Trace,
    pub(super) logs: Vec<Log<'a>>,
    pub(super) sent: HashMap<Sent, Message<'a>>,
}

impl<'a> Sessions<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        let mut sent = HashMap::default();
        for log in &trace.sessions {
            for entry in &log.entries {
                if let SessionEvent::Send { n, content, destinations, self_discard } = &entry.event
                {
                    let id = Sent { sender: log.session, n: *n };
                    let (content, self_discard) = (*content, *self_discard);
                    sent.insert(id, Message { content, destinations, self_discard });
                }
            }
        }
        Self { trace, logs: trace.sessions.iter().map(cut).collect(), sent }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.trace.ending.calm.is_some()
    }

    pub(super) fn log(&self, session: PrivateGroup) -> Option<&Log<'a>> {
        self.logs.iter().find(|log| log.session == session)
    }

    /// Whether `message` wants no copy for `session`.
    pub(super) fn is_discarded_by(&self, message: Sent, session: PrivateGroup) -> bool {
        message.sender == session && self.sent.get(&message).is_some_and(|m| m.self_discard)
    }
}

fn cut(from: &SessionLog) -> Log<'_> {
    let mut log = Log {
        session: from.session,
        entries: &from.entries,
        views: BTreeMap::new(),
        killed: false,
        ended: false,
    };
    let mut member: BTreeSet<GroupName> = BTreeSet::new();
    let mut signalled: BTreeSet<GroupName> = BTreeSet::new();
    for entry in &from.entries {
        match &entry.event {
            SessionEvent::Send { .. } | SessionEvent::Asked(_) => {}
            SessionEvent::Deliver { message, destinations, .. } => {
                let groups: BTreeSet<&GroupName> = destinations.iter().collect();
                for group in groups.into_iter().filter(|group| member.contains(*group)) {
                    let views = log.views.get_mut(group);
                    if let Some(view) = views.and_then(|views| views.last_mut()) {
                        view.messages.push(*message);
                    }
                }
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
                    signalled: signalled.remove(group),
                    messages: Vec::new(),
                    continues: false,
                };
                views.push(view);
            }
            SessionEvent::Transitional { group } => {
                signalled.insert(*group);
            }
            SessionEvent::Left { group } => {
                member.remove(group);
                signalled.remove(group);
            }
            SessionEvent::Killed => (log.killed, log.ended) = (true, true),
            SessionEvent::End => log.ended = true,
        }
    }
    log
}
