//! G4 of sessions that want no membership messages: what they are members of is known from what
//! they asked for, and from the views of others at the same daemon, which has one order for all.

use std::collections::BTreeMap;

use crate::base::{DaemonName, GroupId, GroupName, PrivateGroup};

use super::hash::{HashMap, HashSet};
use super::sessions::{Log, Sessions, View};
use super::trace::{Ask, SessionEvent};
use super::{Property, Verdict, Violation};

/// A session without membership messages.
struct Quiet<'a> {
    log: &'a Log<'a>,
    /// Groups that it ever asked to be in.
    asked: HashSet<&'a GroupName>,
    /// By the number of the message: it got it.
    got: Vec<bool>,
}

impl Quiet<'_> {
    /// Whether one of these but `group` may mean it.
    fn is_meant_beside(&self, group: &GroupName, destinations: &[GroupName]) -> bool {
        let own = self.log.session.to_name();
        let mut others = destinations.iter().filter(|other| *other != group);
        others.any(|other| *other == own || self.asked.contains(other))
    }
}

/// G4: a session without membership messages, too, gets data exactly while it is a member.
pub(super) fn g4_quiet_members(sessions: &Sessions<'_>) -> Verdict {
    let mut quiet: HashMap<DaemonName, BTreeMap<PrivateGroup, Vec<Quiet<'_>>>> = HashMap::default();
    for log in sessions.logs.iter().filter(|log| !log.watches && log.asks) {
        let one = asked_before_it_came(sessions, log)?;
        let names = quiet.entry(log.session.daemon).or_default();
        names.entry(log.session).or_default().push(one);
    }
    let mut seen: HashSet<(DaemonName, &GroupName, GroupId)> = HashSet::default();
    for log in sessions.logs.iter().filter(|log| log.watches) {
        let Some(names) = quiet.get(&log.session.daemon) else { continue };
        for (group, views) in &log.views {
            for view in views {
                // Who saw the view to its end saw all that others see in it.
                let is_whole = view.continues || !log.ended;
                if is_whole && seen.insert((log.session.daemon, group, view.id)) {
                    as_the_view_says(sessions, group, view, names)?;
                }
            }
        }
    }
    Ok(())
}

/// Whatever it got, it had asked to be a member of a destination, or is one, and had not ended.
fn asked_before_it_came<'a>(
    sessions: &Sessions<'_>,
    log: &'a Log<'_>,
) -> Result<Quiet<'a>, Violation> {
    let own = log.session.to_name();
    let mut asked: HashSet<&GroupName> = HashSet::default();
    let mut got = vec![false; sessions.messages.len()];
    let mut ended = false;
    for (number, entry) in log.numbered() {
        match &entry.event {
            SessionEvent::Asked(Ask::Join(group)) => {
                asked.insert(group);
            }
            SessionEvent::Deliver { message, destinations, .. } => {
                let meant = destinations.iter().any(|d| *d == own || asked.contains(d));
                if !meant || ended {
                    let detail = format!("{} got {message:?} and is no member", log.session);
                    return Err(Violation::new(Property::G4, Some(entry.step), detail));
                }
                got[number] = true;
            }
            SessionEvent::Killed | SessionEvent::End => ended = true,
            SessionEvent::Asked(Ask::Leave(_) | Ask::Disconnect)
            | SessionEvent::Send { .. }
            | SessionEvent::View { .. }
            | SessionEvent::Transitional { .. }
            | SessionEvent::Left { .. } => {}
        }
    }
    Ok(Quiet { log, asked, got })
}

/// Of the messages in a view, quiet sessions of the daemon got those that they are to get: who is
/// in the view all, the others none but for another destination.
fn as_the_view_says(
    sessions: &Sessions<'_>,
    group: &GroupName,
    view: &View<'_>,
    names: &BTreeMap<PrivateGroup, Vec<Quiet<'_>>>,
) -> Verdict {
    let fail = |detail| Err(Violation::new(Property::G4, Some(view.step), detail));
    for (name, all) in names {
        let is_member = view.members.contains(name);
        for one in all {
            if is_member && (one.log.ended || !sessions.is_settled()) {
                continue;
            }
            for &number in &view.messages {
                let message = &sessions.messages[number];
                let Some(sent) = message.sent else { continue };
                let wants = !(sent.self_discard && message.id.sender == *name);
                // An earlier session of the name may have been the member at an earlier time.
                if is_member && wants && !one.got[number] && sent.step > one.log.start {
                    return fail(format!("{name} in {group} never got {:?}", message.id));
                }
                if !is_member && one.got[number] && !one.is_meant_beside(group, sent.destinations) {
                    return fail(format!("{name}, not in {group}, got {:?}", message.id));
                }
            }
        }
    }
    Ok(())
}
