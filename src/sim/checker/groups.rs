//! G4, G6 to G9, G11 to G13: messages of sessions.

use std::collections::BTreeSet;

use crate::base::{GroupId, GroupName, PrivateGroup, Service};

use super::hash::HashMap;
use super::relation::Relation;
use super::sessions::{Log, Sessions, View};
use super::trace::{Content, Sent, SessionEvent, ViewCause};
use super::{Property, Verdict, Violation};

fn fail(property: Property, step: u64, detail: String) -> Verdict {
    Err(Violation::new(property, Some(step), detail))
}

/// A delivery as a log has it.
struct Got<'a> {
    /// Number of the message.
    number: usize,
    message: Sent,
    content: Content,
    destinations: &'a [GroupName],
    step: u64,
}

fn deliveries<'a>(log: &Log<'a>) -> impl Iterator<Item = Got<'a>> {
    log.numbered().filter_map(|(number, entry)| match &entry.event {
        SessionEvent::Deliver { message, content, destinations } => {
            let (message, content) = (*message, *content);
            Some(Got { number, message, content, destinations, step: entry.step })
        }
        SessionEvent::Send { .. }
        | SessionEvent::View { .. }
        | SessionEvent::Transitional { .. }
        | SessionEvent::Left { .. }
        | SessionEvent::Asked(_)
        | SessionEvent::Killed
        | SessionEvent::End => None,
    })
}

/// G4: a session gets data exactly while it is a member of a destination, or is one itself; and
/// nothing after its end.
pub(super) fn g4_data_while_member(sessions: &Sessions<'_>) -> Verdict {
    for log in sessions.logs.iter().filter(|log| log.watches) {
        let who = log.session;
        let own = who.to_name();
        let mut member: BTreeSet<GroupName> = BTreeSet::new();
        let mut ended = false;
        for entry in log.entries {
            match &entry.event {
                SessionEvent::View { group, .. } => {
                    member.insert(*group);
                }
                SessionEvent::Left { group } => {
                    member.remove(group);
                }
                SessionEvent::Deliver { message, destinations, .. } => {
                    let meant = destinations.iter().any(|d| *d == own || member.contains(d));
                    if !meant || ended {
                        let detail = format!("{who} got {message:?} and is no member");
                        return fail(Property::G4, entry.step, detail);
                    }
                }
                SessionEvent::Transitional { group } => {
                    if !member.contains(group) {
                        let detail = format!("{who} got a signal of {group} and is no member");
                        return fail(Property::G4, entry.step, detail);
                    }
                }
                SessionEvent::Killed | SessionEvent::End => ended = true,
                SessionEvent::Send { .. } | SessionEvent::Asked(_) => {}
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Thing<'a> {
    Message(usize),
    View(&'a GroupName, GroupId),
}

/// G6: all sessions' orders of messages, of any service, and of views, of all groups, fit into one.
pub(super) fn g6_one_order(sessions: &Sessions<'_>) -> Verdict {
    let mut relation = Relation::default();
    for log in &sessions.logs {
        let mut chain = relation.chain();
        for (number, entry) in log.numbered() {
            match &entry.event {
                SessionEvent::Deliver { .. } => {
                    chain.push(Thing::Message(number), entry.step);
                }
                SessionEvent::View { group, id, .. } => {
                    chain.push(Thing::View(group, *id), entry.step);
                }
                SessionEvent::Send { .. }
                | SessionEvent::Transitional { .. }
                | SessionEvent::Left { .. }
                | SessionEvent::Asked(_)
                | SessionEvent::Killed
                | SessionEvent::End => {}
            }
        }
    }
    relation.acyclic().or_else(|step| {
        fail(Property::G6, step, "the sessions' orders do not fit into one".to_owned())
    })
}

/// G7: a message comes once to a session, with the content and the destinations that it was sent
/// with, in the same order.
pub(super) fn g7_once_and_as_sent(sessions: &Sessions<'_>) -> Verdict {
    // The last log that got each message.
    let mut seen = vec![usize::MAX; sessions.messages.len()];
    for (index, log) in sessions.logs.iter().enumerate() {
        let who = log.session;
        for got in deliveries(log) {
            let message = got.message;
            let Some(sent) = sessions.messages[got.number].sent else {
                return fail(Property::G7, got.step, format!("{who} got {message:?}, never sent"));
            };
            if sent.content != got.content || sent.destinations != got.destinations {
                return fail(Property::G7, got.step, format!("{who} got {message:?} changed"));
            }
            if std::mem::replace(&mut seen[got.number], index) == index {
                return fail(Property::G7, got.step, format!("{who} got {message:?} twice"));
            }
        }
    }
    Ok(())
}

/// G8: who asked for no copy of its message gets none. (That the others get theirs: G10.)
pub(super) fn g8_self_discard(sessions: &Sessions<'_>) -> Verdict {
    for log in &sessions.logs {
        for got in deliveries(log) {
            if sessions.is_discarded_by(got.number, log.session) {
                let (who, message) = (log.session, got.message);
                let detail = format!("{who} got its {message:?} and wanted no copy");
                return fail(Property::G8, got.step, detail);
            }
        }
    }
    Ok(())
}

/// G9: a message to a private group alone reaches that session alone, and does reach it where both
/// live on one daemon till the end, or it was sent when all had come to rest. (That any session may
/// send to any group: no check forbids it.)
pub(super) fn g9_private_reaches_one(sessions: &Sessions<'_>) -> Verdict {
    let mut reached = vec![false; sessions.messages.len()];
    for log in &sessions.logs {
        let own = log.session.to_name();
        for got in deliveries(log) {
            if let [only] = got.destinations {
                if only.is_private() && *only != own {
                    let (who, message) = (log.session, got.message);
                    let detail = format!("{who} got {message:?} for {only}");
                    return fail(Property::G9, got.step, detail);
                }
                reached[got.number] = true;
            }
        }
    }
    if !sessions.is_settled() {
        return Ok(());
    }
    let live: HashMap<PrivateGroup, &Log<'_>> =
        sessions.live().map(|log| (log.session, log)).collect();
    let settled = sessions.trace.ending.settled;
    for log in live.values() {
        for (number, entry) in log.numbered() {
            let SessionEvent::Send { destinations, self_discard, .. } = &entry.event else {
                continue;
            };
            let [only] = destinations.as_slice() else { continue };
            let Ok(target) = PrivateGroup::parse(only.as_bytes()) else { continue };
            let discarded = *self_discard && target == log.session;
            let there = live.get(&target).is_some_and(|log| log.start < entry.step);
            let near = sessions.are_together(log.session, target);
            let near = near && (target.daemon == log.session.daemon || entry.at > settled);
            if there && near && !discarded && !reached[number] {
                let message = sessions.messages[number].id;
                return fail(Property::G9, entry.step, format!("{message:?} never came to {only}"));
            }
        }
    }
    Ok(())
}

/// G11: what a session saw that was thrown out is, in its last view of each group, the beginning of
/// what the others saw there; and each of them sees it go once. On other daemons that is so up to
/// the transitional signal: behind it they may have gone separate ways.
pub(super) fn g11_killed_saw_a_prefix(sessions: &Sessions<'_>) -> Verdict {
    let killed = || sessions.logs.iter().filter(|log| log.killed);
    let lasts = |log: &'_ Log<'_>| -> Vec<(GroupName, GroupId)> {
        let lasts = log.views.iter().filter_map(|(group, views)| Some((*group, views.last()?.id)));
        lasts.collect()
    };
    // Who got the last views of those that were thrown out, each of them once.
    let mut shared: HashMap<(GroupName, GroupId), Vec<(&Log<'_>, &View<'_>)>> =
        killed().flat_map(lasts).map(|last| (last, Vec::new())).collect();
    if shared.is_empty() {
        return Ok(());
    }
    for log in &sessions.logs {
        for (group, views) in &log.views {
            for view in views {
                let Some(all) = shared.get_mut(&(*group, view.id)) else { continue };
                if all.last().is_none_or(|(before, _)| !std::ptr::eq(*before, log)) {
                    all.push((log, view));
                }
            }
        }
    }
    for killed in killed() {
        for (group, last) in killed.views.iter().filter_map(|(g, views)| Some((g, views.last()?))) {
            for &(other, theirs) in &shared[&(*group, last.id)] {
                if other.session != killed.session {
                    is_prefix(sessions, (killed, last), (other, theirs), group)?;
                }
            }
        }
    }
    each_goes_once(sessions)
}

/// Whether what a session got in its last view is the beginning of what another one got in it.
fn is_prefix(
    sessions: &Sessions<'_>,
    (killed, last): (&Log<'_>, &View<'_>),
    (other, theirs): (&Log<'_>, &View<'_>),
    group: &GroupName,
) -> Verdict {
    let pair = [killed.session, other.session];
    let is_near = killed.session.daemon == other.session.daemon;
    let part = |view: &View<'_>| {
        let end = if is_near { usize::MAX } else { view.certain };
        let end = end.min(view.messages.len());
        ordered(sessions, &view.messages[..end], pair)
    };
    let (mine, all) = (part(last), part(theirs));
    let common = mine.len().min(all.len());
    let is_all = theirs.continues && (is_near || theirs.certain == usize::MAX);
    if mine[..common] != all[..common] || (mine.len() > all.len() && is_all) {
        let (p, q) = (killed.session, other.session);
        let detail = format!("{p}, thrown out, saw no prefix of {q}'s {group}");
        return fail(Property::G11, last.step, detail);
    }
    Ok(())
}

fn ordered(sessions: &Sessions<'_>, messages: &[usize], pair: [PrivateGroup; 2]) -> Vec<usize> {
    messages
        .iter()
        .filter(|m| !pair.iter().any(|who| sessions.is_discarded_by(**m, *who)))
        .copied()
        .collect()
}

/// A session that was thrown out is seen to go once from each group, in each life of its name, and
/// is in none when all have come to rest.
fn each_goes_once(sessions: &Sessions<'_>) -> Verdict {
    /// Sessions with one name.
    #[derive(Default)]
    struct Lives {
        count: usize,
        live: usize,
        killed: usize,
    }
    let mut lives: HashMap<PrivateGroup, Lives> = HashMap::default();
    for log in &sessions.logs {
        let lives = lives.entry(log.session).or_default();
        lives.count += 1;
        lives.live += usize::from(!log.ended);
        lives.killed += usize::from(log.killed);
    }
    let killed = |name: &PrivateGroup| lives.get(name).filter(|lives| lives.killed > 0);
    for log in &sessions.logs {
        for (group, views) in &log.views {
            let mut goings: HashMap<PrivateGroup, usize> = HashMap::default();
            for view in views {
                let ViewCause::Disconnect(gone) = view.cause else { continue };
                let Some(lives) = killed(gone) else { continue };
                let count = goings.entry(*gone).or_default();
                *count += 1;
                if *count > lives.count {
                    let detail = format!("{} sees {gone} go from {group} twice", log.session);
                    return fail(Property::G11, view.step, detail);
                }
            }
            let stays = sessions.is_settled() && !log.ended && log.members_of.contains(group);
            let Some(last) = views.last().filter(|_| stays) else { continue };
            let is_gone = |name: &&PrivateGroup| killed(name).is_some_and(|lives| lives.live == 0);
            if let Some(gone) = last.members.iter().find(is_gone) {
                let detail = format!("{} never sees {gone} go from {group}", log.session);
                return fail(Property::G11, last.step, detail);
            }
        }
    }
    Ok(())
}

/// G12: whatever path messages took, they come in the order of their sender, and behind those that
/// it had seen when it sent them.
pub(super) fn g12_sender_order(sessions: &Sessions<'_>) -> Verdict {
    for log in &sessions.logs {
        let mut newest: HashMap<PrivateGroup, u32> = HashMap::default();
        for got in deliveries(log) {
            let Sent { sender, n } = got.message;
            if newest.insert(sender, n).is_some_and(|newest| newest >= n) {
                let detail = format!("{} got message {n} of {sender} too late", log.session);
                return fail(Property::G12, got.step, detail);
            }
        }
    }
    let mut relation = Relation::default();
    for log in &sessions.logs {
        let causal = |content: &Content| content.service >= Service::Causal;
        let mut got = relation.chain();
        for (number, entry) in log.numbered() {
            if let SessionEvent::Deliver { content, .. } = &entry.event
                && causal(content)
            {
                got.push(number, entry.step);
            }
        }
        // Each message that it sent is behind all that it had got and sent by then.
        let mut known: Vec<usize> = Vec::new();
        for (number, entry) in log.numbered() {
            match &entry.event {
                SessionEvent::Deliver { content, .. } if causal(content) => known.push(number),
                SessionEvent::Send { content, .. } if causal(content) => {
                    for before in known.drain(..) {
                        let mut chain = relation.chain();
                        chain.push(before, entry.step);
                        chain.push(number, entry.step);
                    }
                    known.push(number);
                }
                _ => {}
            }
        }
    }
    relation.acyclic().or_else(|step| {
        fail(Property::G12, step, "sessions got messages against their causes".to_owned())
    })
}

/// G13: a message is on the same side of a view of its group at all who got both.
pub(super) fn g13_same_side_of_views(sessions: &Sessions<'_>) -> Verdict {
    type InView<'a> = (GroupId, &'a Log<'a>);
    let mut first: HashMap<(&GroupName, usize), Vec<InView<'_>>> = HashMap::default();
    for log in &sessions.logs {
        for (group, views) in &log.views {
            for view in views {
                for &message in &view.messages {
                    let seen = first.entry((group, message)).or_default();
                    for (id, other) in seen.iter() {
                        let both = [(log, *id), (*other, view.id)];
                        let met = |(log, id): (&Log<'_>, GroupId)| {
                            log.views[group].iter().any(|view| view.id == id)
                        };
                        if *id != view.id && both.into_iter().all(met) {
                            let (p, q) = (other.session, log.session);
                            let message = sessions.messages[message].id;
                            let detail = format!(
                                "{p} and {q} got {message:?} in different views of {group}"
                            );
                            return fail(Property::G13, view.step, detail);
                        }
                    }
                    seen.push((view.id, log));
                }
            }
        }
    }
    Ok(())
}
