//! G1, G2, G3, G5, G10: views of groups.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DaemonName, GroupId, GroupName, PrivateGroup};

use super::hash::{HashMap, HashSet};
use super::sessions::{Log, Sessions, View};
use super::trace::ViewCause;
use super::{Property, Verdict, Violation};

fn all_views<'a, 'b>(
    sessions: &'a Sessions<'b>,
) -> impl Iterator<Item = (&'a Log<'b>, &'a GroupName, &'a View<'b>)> {
    sessions.logs.iter().flat_map(|log| {
        log.views.iter().flat_map(move |(group, views)| views.iter().map(move |v| (log, group, v)))
    })
}

fn fail(property: Property, view: &View<'_>, detail: String) -> Verdict {
    Err(Violation::new(property, Some(view.step), detail))
}

/// What the cause of a view says, whoever received it.
#[derive(PartialEq, Eq)]
enum Told<'a> {
    Changed(u8, PrivateGroup),
    Network(BTreeSet<BTreeSet<&'a PrivateGroup>>),
}

fn told(cause: &ViewCause) -> Told<'_> {
    match cause {
        ViewCause::Join(changed) => Told::Changed(0, *changed),
        ViewCause::Leave(changed) => Told::Changed(1, *changed),
        ViewCause::Disconnect(changed) => Told::Changed(2, *changed),
        ViewCause::Network { sets, own: _ } => {
            Told::Network(sets.iter().map(|set| set.iter().collect()).collect())
        }
    }
}

/// G1: one view id of a group has one list of members, in one order, and one cause.
pub(super) fn g1_same_view(sessions: &Sessions<'_>) -> Verdict {
    let mut first: HashMap<(&GroupName, GroupId), (&Log<'_>, &View<'_>)> = HashMap::default();
    for (log, group, view) in all_views(sessions) {
        let (other, theirs) = *first.entry((group, view.id)).or_insert((log, view));
        let same_cause = || theirs.cause == view.cause || told(theirs.cause) == told(view.cause);
        if theirs.members != view.members || !same_cause() {
            let (p, q) = (other.session, log.session);
            let detail = format!("{p} and {q} got different views {:?} of {group}", view.id);
            return fail(Property::G1, view, detail);
        }
    }
    Ok(())
}

/// G2: who gets a view is in it.
pub(super) fn g2_receiver_is_member(sessions: &Sessions<'_>) -> Verdict {
    for (log, group, view) in all_views(sessions) {
        if !view.members.contains(&log.session) {
            let detail = format!("{} got a view of {group} without itself", log.session);
            return fail(Property::G2, view, detail);
        }
    }
    Ok(())
}

/// G3: the id of a view of a group never comes back: nobody gets it twice, nor does a later session
/// of the same name. (One that came back with other members would be seen by G1.)
pub(super) fn g3_ids_never_return(sessions: &Sessions<'_>) -> Verdict {
    let mut seen: HashMap<(PrivateGroup, &GroupName), HashSet<GroupId>> = HashMap::default();
    for log in &sessions.logs {
        for (group, views) in &log.views {
            let seen = seen.entry((log.session, group)).or_default();
            if let Some(view) = views.iter().find(|view| !seen.insert(view.id)) {
                let id = view.id;
                let detail = format!("{} got view {id:?} of {group} twice", log.session);
                return fail(Property::G3, view, detail);
            }
        }
    }
    Ok(())
}

/// G5: a view after a join, leave or disconnect differs by the one who did; after a network change
/// by whole daemons.
pub(super) fn g5_views_differ_by_their_cause(sessions: &Sessions<'_>) -> Verdict {
    for log in &sessions.logs {
        for (group, views) in &log.views {
            for pair in views.windows(2).filter(|pair| pair[0].continues) {
                let (before, now) = (set(pair[0].members), set(pair[1].members));
                let right = match pair[1].cause {
                    ViewCause::Join(changed) => {
                        !before.contains(changed) && now == with(&before, changed)
                    }
                    ViewCause::Leave(changed) | ViewCause::Disconnect(changed) => {
                        !now.contains(changed) && before == with(&now, changed)
                    }
                    ViewCause::Network { sets, own } => {
                        whole_daemons(&before, &sets[*own], &now, pair[1].is_signalled())
                    }
                };
                if !right {
                    let detail = format!("{}: view of {group} is not as told", log.session);
                    return fail(Property::G5, &pair[1], detail);
                }
            }
            if let Some(ViewCause::Join(changed)) = views.first().map(|view| view.cause)
                && *changed != log.session
            {
                let who = log.session;
                let detail = format!("{who}'s first view of {group} is {changed}'s join");
                return fail(Property::G5, &views[0], detail);
            }
        }
    }
    Ok(())
}

fn set(members: &[PrivateGroup]) -> BTreeSet<PrivateGroup> {
    members.iter().copied().collect()
}

fn with(members: &BTreeSet<PrivateGroup>, one: &PrivateGroup) -> BTreeSet<PrivateGroup> {
    let mut members = members.clone();
    members.insert(*one);
    members
}

/// Whether the receiver's own set is made of whole daemons of the view before, and the rest of
/// other daemons.
///
/// Behind a transitional signal a join, leave or disconnect that was on its way is told as a
/// network change too, so there one member may differ.
fn whole_daemons(
    before: &BTreeSet<PrivateGroup>,
    own: &[PrivateGroup],
    now: &BTreeSet<PrivateGroup>,
    signalled: bool,
) -> bool {
    let own: BTreeSet<PrivateGroup> = own.iter().copied().collect();
    let daemons: BTreeSet<DaemonName> = own.iter().map(|member| member.daemon).collect();
    let kept: BTreeSet<PrivateGroup> =
        before.iter().filter(|member| daemons.contains(&member.daemon)).copied().collect();
    let torn = kept.symmetric_difference(&own).count();
    let strangers = now.difference(&own).filter(|m| daemons.contains(&m.daemon)).count();
    torn + strangers <= usize::from(signalled)
}

/// G10: the sets of a network view divide its members; those in one set got the same sets and the
/// same messages since the view before; who lost members got the transitional signal before, once,
/// and nobody else did.
pub(super) fn g10_sets(sessions: &Sessions<'_>) -> Verdict {
    for (log, group, view) in all_views(sessions) {
        if let ViewCause::Network { sets, own } = view.cause {
            divides(log, group, view, sets, *own)?;
        }
    }
    for log in &sessions.logs {
        for (group, views) in &log.views {
            for pair in views.windows(2).filter(|pair| pair[0].continues) {
                signalled(log, group, &pair[0], &pair[1])?;
            }
        }
        let lives = sessions.is_settled() && !log.ended;
        if let Some(group) = log.signals.keys().next().filter(|_| lives) {
            let detail = format!("{} got a signal of {group} and no view behind it", log.session);
            return Err(Violation::new(Property::G10, None, detail));
        }
    }
    same_messages(sessions)
}

fn divides(
    log: &Log<'_>,
    group: &GroupName,
    view: &View<'_>,
    sets: &[Vec<PrivateGroup>],
    own: usize,
) -> Verdict {
    let mut all: Vec<PrivateGroup> = sets.iter().flatten().copied().collect();
    all.sort_unstable();
    let mut members = view.members.to_vec();
    members.sort_unstable();
    let who = log.session;
    if all != members {
        return fail(Property::G10, view, format!("{who}: sets of {group} do not divide it"));
    }
    if !sets.get(own).is_some_and(|set| set.contains(&who)) {
        return fail(Property::G10, view, format!("{who} is not in its own set of {group}"));
    }
    Ok(())
}

fn signalled(log: &Log<'_>, group: &GroupName, before: &View<'_>, now: &View<'_>) -> Verdict {
    let who = log.session;
    let ViewCause::Network { sets, own } = now.cause else {
        if now.is_signalled() {
            let detail = format!("{who}: a view of {group} behind the signal is no network view");
            return fail(Property::G10, now, detail);
        }
        return Ok(());
    };
    let lost = before.members.iter().any(|member| !sets[*own].contains(member));
    if lost && !now.is_signalled() {
        let detail = format!("{who} lost members of {group} without the transitional signal");
        return fail(Property::G10, now, detail);
    }
    // A view within the transitional period (client protocol, 11.4) may have been without those
    // that were lost already; another signal follows it in any case.
    // Who joined in it got its first view as one of these.
    let began_in_it = before.arrives && matches!(before.cause, ViewCause::Network { .. });
    let goes_on = before.is_signalled() || began_in_it;
    if now.signals > usize::from(lost || goes_on) {
        let detail = format!("{who} got a signal of {group} and lost nobody");
        return fail(Property::G10, now, detail);
    }
    Ok(())
}

/// Whoever went from one view to the same next one, and in one set, got the same messages.
fn same_messages(sessions: &Sessions<'_>) -> Verdict {
    type Move<'a> = (&'a GroupName, GroupId, GroupId);
    let mut moves: BTreeMap<Move<'_>, Vec<(&Log<'_>, &View<'_>, &View<'_>)>> = BTreeMap::new();
    for log in &sessions.logs {
        for (group, views) in &log.views {
            for pair in views.windows(2).filter(|pair| pair[0].continues) {
                let key = (group, pair[0].id, pair[1].id);
                moves.entry(key).or_default().push((log, &pair[0], &pair[1]));
            }
        }
    }
    for ((group, ..), movers) in moves {
        for &(first, _, now) in &movers {
            let together = |log: &Log<'_>| match now.cause {
                ViewCause::Network { sets, own } => sets[*own].contains(&log.session),
                ViewCause::Join(_) | ViewCause::Leave(_) | ViewCause::Disconnect(_) => true,
            };
            let company = || movers.iter().filter(|(log, ..)| together(log));
            let p = first.session;
            let set = own_set(now);
            if let Some((other, _, next)) = company().find(|(.., n)| own_set(n) != set) {
                let q = other.session;
                let detail = format!("{p} and {q} are in one set of {group} and differ on it");
                return fail(Property::G10, next, detail);
            }
            let all: BTreeSet<usize> =
                company().flat_map(|(_, before, _)| &before.messages).copied().collect();
            for (log, before, next) in company() {
                let got: BTreeSet<usize> = before.messages.iter().copied().collect();
                let missing =
                    all.difference(&got).find(|m| !sessions.is_discarded_by(**m, log.session));
                if let Some(message) = missing {
                    let (who, message) = (log.session, sessions.messages[*message].id);
                    let detail = format!("{who} moves on in {group} without {message:?}");
                    return fail(Property::G10, next, detail);
                }
            }
            // All in its company have the same: they need no look of their own.
            if company().count() == movers.len() {
                break;
            }
        }
    }
    Ok(())
}

fn own_set(view: &View<'_>) -> Option<BTreeSet<PrivateGroup>> {
    match view.cause {
        ViewCause::Network { sets, own } => Some(set(&sets[*own])),
        ViewCause::Join(_) | ViewCause::Leave(_) | ViewCause::Disconnect(_) => None,
    }
}
