//! D4, D5, D6: configurations, without their messages.

use std::collections::BTreeMap;

use crate::base::{DaemonId, RingId};

use super::history::{History, Log, Stay};
use super::trace::Ring;
use super::{Property, Verdict, Violation};

/// D4: a daemon is in each configuration that it installs; an id has one list of members; ids grow
/// at each daemon and never come back; a transitional configuration is part of the old and of the
/// new one. (That the kinds alternate is seen when the history is built.)
pub(super) fn d4_configurations_are_sane(history: &History<'_>) -> Verdict {
    for log in &history.logs {
        for (index, stay) in log.stays.iter().enumerate() {
            let next = log.stays.get(index + 1);
            sane_stay(log, stay, next)?;
        }
    }
    let fail = |step, detail| Err(Violation::new(Property::D4, Some(step), detail));
    for (&ring, stays) in &history.rings {
        let (first, at) = stays[0];
        let members = &history.logs[first].stays[at].members;
        let mut seen: BTreeMap<DaemonId, usize> = BTreeMap::new();
        for &(log, at) in stays {
            let (life, stay) = (history.logs[log].life, &history.logs[log].stays[at]);
            if stay.members != *members {
                let (ring, other) = (Ring(ring), history.logs[first].life);
                return fail(stay.step, format!("{life} and {other} differ on who is in {ring}"));
            }
            if seen.insert(life.daemon, log).is_some() {
                return fail(stay.step, format!("{life} installs {} a second time", Ring(ring)));
            }
        }
    }
    Ok(())
}

fn sane_stay(log: &Log, stay: &Stay, next: Option<&Stay>) -> Verdict {
    let fail = |step, detail| Err(Violation::new(Property::D4, Some(step), detail));
    let (who, ring) = (log.life, Ring(stay.ring));
    if !stay.members.contains(&who.daemon) {
        return fail(stay.step, format!("{who} installs {ring} and is not in it"));
    }
    if stay.members.windows(2).any(|pair| pair[0] == pair[1]) {
        return fail(stay.step, format!("{ring} at {who} has a daemon twice"));
    }
    if let Some(next) = next.filter(|next| next.ring <= stay.ring) {
        return fail(next.step, format!("{who} installs {} behind {ring}", Ring(next.ring)));
    }
    let Some(transitional) = &stay.transitional else { return Ok(()) };
    let step = transitional.step;
    if !transitional.members.contains(&who.daemon) {
        return fail(step, format!("{who} is not in its transitional configuration of {ring}"));
    }
    if !transitional.members.iter().all(|member| stay.members.contains(member)) {
        return fail(step, format!("{who} has one in transition who was not in {ring}"));
    }
    if next.is_some_and(|next| !transitional.members.iter().all(|m| next.members.contains(m))) {
        return fail(step, format!("{who} has one in transition from {ring} who does not arrive"));
    }
    Ok(())
}

/// D5: two that went from the same configuration to the same next one, one of them in the other's
/// transitional configuration, had the same transitional configuration.
pub(super) fn d5_movers_agree(history: &History<'_>) -> Verdict {
    let mut moves: BTreeMap<(RingId, RingId), Vec<(&Log, &Stay)>> = BTreeMap::new();
    for log in &history.logs {
        for stay in &log.stays {
            if let Some(next) = stay.next {
                moves.entry((stay.ring, next)).or_default().push((log, stay));
            }
        }
    }
    for ((from, to), movers) in moves {
        for (log, stay) in &movers {
            let others = movers.iter().filter(|(q, _)| stay.movers().contains(&q.life.daemon));
            for (other, theirs) in others {
                if theirs.movers() != stay.movers() {
                    let (p, q, from, to) = (log.life, other.life, Ring(from), Ring(to));
                    let detail = format!("{p} and {q} differ on who moves from {from} to {to}");
                    let step = stay.transitional.as_ref().map(|transitional| transitional.step);
                    return Err(Violation::new(Property::D5, step, detail));
                }
            }
        }
    }
    Ok(())
}

/// D6: who installs a configuration is followed by all its daemons, or they crash, or it goes on to
/// a configuration without them. Of a life that ended, the configurations that it had moved on from
/// are decided.
pub(super) fn d6_installed_by_all(history: &History<'_>) -> Verdict {
    if !history.is_settled() {
        return Ok(());
    }
    for log in &history.logs {
        let mut before = 0;
        for (index, stay) in log.stays.iter().enumerate() {
            let is_decided = log.ended.is_none() || stay.transitional.is_some();
            for &daemon in stay.members.iter().filter(|_| is_decided) {
                if history.installed(daemon, stay.ring).is_some()
                    || history.ended_since(daemon, before)
                    || goes_on_without(log, index, daemon)
                {
                    continue;
                }
                let (who, ring) = (log.life, Ring(stay.ring));
                let detail =
                    format!("{who} installs {ring} with d{}, which never does", daemon.get());
                return Err(Violation::new(Property::D6, Some(stay.step), detail));
            }
            before = stay.step;
        }
    }
    Ok(())
}

fn goes_on_without(log: &Log, stay: usize, daemon: DaemonId) -> bool {
    let left = |stay: &Stay| stay.transitional.is_some() && !stay.movers().contains(&daemon);
    left(&log.stays[stay])
        || log.stays[stay + 1..].iter().any(|stay| !stay.members.contains(&daemon) || left(stay))
}
