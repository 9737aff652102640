//! L1 and L3 as sessions see them: what they asked for was done, and the views at the end are what
//! follows from it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DaemonName, GroupName, PrivateGroup};

use super::hash::HashSet;
use super::sessions::{Log, Sessions, View};
use super::trace::{Ask, SessionEvent};
use super::{Property, Verdict, Violation};

/// What comes of all that a session asked for about one group.
#[derive(Clone, Copy, Default)]
struct Asked {
    is_member: bool,
    joins: usize,
    leaves: usize,
}

fn asked(log: &Log<'_>) -> BTreeMap<GroupName, Asked> {
    let mut groups: BTreeMap<GroupName, Asked> = BTreeMap::new();
    for entry in log.entries {
        match &entry.event {
            SessionEvent::Asked(Ask::Join(group)) => {
                let asked = groups.entry(*group).or_default();
                asked.joins += usize::from(!asked.is_member);
                asked.is_member = true;
            }
            SessionEvent::Asked(Ask::Leave(group)) => {
                let asked = groups.entry(*group).or_default();
                asked.leaves += usize::from(asked.is_member);
                asked.is_member = false;
            }
            SessionEvent::Asked(Ask::Disconnect)
            | SessionEvent::Send { .. }
            | SessionEvent::Deliver { .. }
            | SessionEvent::View { .. }
            | SessionEvent::Transitional { .. }
            | SessionEvent::Left { .. }
            | SessionEvent::Killed
            | SessionEvent::End => {}
        }
    }
    groups
}

fn fail(step: Option<u64>, property: Property, detail: String) -> Verdict {
    Err(Violation::new(property, step, detail))
}

/// L3: each join and each leave that meant something was answered once, and who asked for its end
/// has ended. Before the end of a run, none was answered that nobody asked for.
pub(super) fn l3_asked_and_done(sessions: &Sessions<'_>) -> Verdict {
    for log in sessions.logs.iter().filter(|log| log.watches && log.asks) {
        let who = log.session;
        let asked = asked(log);
        let mut lefts: BTreeMap<GroupName, usize> = BTreeMap::new();
        for entry in log.entries {
            if let SessionEvent::Left { group } = &entry.event {
                *lefts.entry(*group).or_default() += 1;
            }
        }
        let groups: BTreeSet<&GroupName> =
            asked.keys().chain(lefts.keys()).chain(log.views.keys()).collect();
        for group in groups {
            let Asked { joins, leaves, .. } = asked.get(group).copied().unwrap_or_default();
            let views = log.views.get(group).map_or(&[][..], Vec::as_slice);
            let arrivals = views.iter().filter(|view| view.arrives).count();
            let left = lefts.get(group).copied().unwrap_or_default();
            let must = sessions.is_settled() && !log.ended;
            if arrivals > joins || left > leaves || (must && (arrivals, left) != (joins, leaves)) {
                let detail = format!(
                    "{who} joined {group} {joins} times and left it {leaves} times, and was told \
                     of {arrivals} and {left}"
                );
                return fail(log.entries.last().map(|entry| entry.step), Property::L3, detail);
            }
        }
    }
    for log in sessions.live().filter(|_| sessions.is_settled()) {
        let asks = |event: &SessionEvent| *event == SessionEvent::Asked(Ask::Disconnect);
        if let Some(entry) = log.entries.iter().find(|entry| asks(&entry.event)) {
            let detail = format!("{} asked for its end and goes on", log.session);
            return fail(Some(entry.step), Property::L3, detail);
        }
    }
    Ok(())
}

/// Who is a member of a group at the end, its views of it since it came, and which of the lists of
/// what sessions got is its own.
type Member<'a> = (&'a Log<'a>, &'a [View<'a>], usize);

/// L3: a message reaches every session that is a member from before it was sent until the end, if
/// both live on one daemon, or it was sent when all had come to rest and its sender's daemon knew
/// of the member: what only that daemon's sessions are to get is ordered there, and at once.
pub(super) fn l3_reaches_members(sessions: &Sessions<'_>) -> Verdict {
    if !sessions.is_settled() {
        return Ok(());
    }
    let settled = sessions.trace.ending.settled;
    let mut members: BTreeMap<GroupName, Vec<Member<'_>>> = BTreeMap::new();
    let mut got: Vec<HashSet<usize>> = Vec::new();
    for log in sessions.live().filter(|log| log.watches) {
        let own = log.views.iter().filter(|(group, _)| log.members_of.contains(*group));
        for (group, views) in own {
            if let Some(since) = views.iter().rposition(|view| view.arrives) {
                members.entry(*group).or_default().push((log, &views[since..], got.len()));
            }
        }
        let messages = log.numbered().filter_map(|(number, entry)| match &entry.event {
            SessionEvent::Deliver { .. } => Some(number),
            _ => None,
        });
        got.push(messages.collect());
    }
    for log in sessions.live() {
        for (number, entry) in log.numbered() {
            let SessionEvent::Send { destinations, self_discard, .. } = &entry.event else {
                continue;
            };
            for group in destinations {
                let members = members.get(group).map_or(&[][..], Vec::as_slice);
                let before = members.iter().filter(|(_, since, _)| since[0].step < entry.step);
                for (to, since, index) in before {
                    let is_discarded = *self_discard && to.session == log.session;
                    if got[*index].contains(&number) || is_discarded {
                        continue;
                    }
                    let is_near = to.session.daemon == log.session.daemon;
                    let is_known = || {
                        // Not from a view of an earlier membership of the same session.
                        let views = log.views.get(group).map_or(&[][..], Vec::as_slice);
                        let mut seen = views.iter().filter(|view| view.step < entry.step);
                        seen.any(|view| since.iter().any(|since| since.id == view.id))
                    };
                    let in_time =
                        is_near || (entry.at > settled && (since[0].at <= settled || is_known()));
                    if in_time && sessions.are_together(log.session, to.session) {
                        let message = sessions.messages[number].id;
                        let detail = format!("{message:?} to {group} never came to {}", to.session);
                        return fail(Some(entry.step), Property::L3, detail);
                    }
                }
            }
        }
    }
    Ok(())
}

/// L1: at the end all members of a group have one view of it, which has those of their component
/// who are members by what they asked for, and nobody else.
pub(super) fn l1_views_at_the_end(sessions: &Sessions<'_>) -> Verdict {
    if !sessions.is_settled() {
        return Ok(());
    }
    for component in &sessions.trace.ending.components {
        let daemons: BTreeSet<DaemonName> =
            component.iter().map(|daemon| Sessions::daemon_name(*daemon)).collect();
        let here: Vec<&Log<'_>> =
            sessions.live().filter(|log| daemons.contains(&log.session.daemon)).collect();
        let mut members: BTreeMap<GroupName, BTreeSet<PrivateGroup>> = BTreeMap::new();
        for log in here.iter().filter(|log| log.asks) {
            for (group, _) in asked(log).iter().filter(|(_, asked)| asked.is_member) {
                members.entry(*group).or_default().insert(log.session);
            }
        }
        let mut ids = BTreeMap::new();
        for log in here.iter().filter(|log| log.watches && log.asks) {
            for (group, views) in log.views.iter().filter(|(g, _)| log.members_of.contains(*g)) {
                let Some(last) = views.last() else { continue };
                let told: BTreeSet<PrivateGroup> = last.members.iter().copied().collect();
                let who = log.session;
                if members.get(group) != Some(&told) {
                    let detail = format!("{who} ends in a view of {group} with wrong members");
                    return fail(Some(last.step), Property::L1, detail);
                }
                if *ids.entry(group).or_insert(last.id) != last.id {
                    let detail = format!("{who} and others end in different views of {group}");
                    return fail(Some(last.step), Property::L1, detail);
                }
            }
        }
    }
    Ok(())
}
