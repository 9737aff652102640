//! L1 to L5: what must happen once faults have stopped.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::{DaemonId, RingId};

use super::history::{History, Log};
use super::trace::{Ring, Trace};
use super::{Property, Verdict, Violation};

fn live<'a>(history: &'a History<'_>) -> impl Iterator<Item = &'a Log> {
    history.logs.iter().filter(|log| log.ended.is_none())
}

fn component(trace: &Trace, daemon: DaemonId) -> Option<&Vec<DaemonId>> {
    trace.ending.components.iter().find(|component| component.contains(&daemon))
}

/// L1: each component has one regular configuration with exactly its live daemons.
pub(super) fn l1_one_configuration(history: &History<'_>) -> Verdict {
    if !history.is_settled() {
        return Ok(());
    }
    let fail = |detail| Err(Violation::new(Property::L1, None, detail));
    for log in live(history) {
        let Some(component) = component(history.trace, log.life.daemon) else { continue };
        let mut component = component.clone();
        component.sort_unstable();
        let Some(last) = log.stays.last().filter(|last| last.transitional.is_none()) else {
            return fail(format!("{} has no regular configuration", log.life));
        };
        if last.members != component {
            let members: Vec<u32> = last.members.iter().map(|daemon| daemon.get()).collect();
            return fail(format!("{} ends in {} of {members:?}", log.life, Ring(last.ring)));
        }
        for &daemon in &component {
            let installed = history.installed(daemon, last.ring);
            if installed.is_none_or(|(_, stay)| stay.transitional.is_some()) {
                let ring = Ring(last.ring);
                return fail(format!("{} ends in {ring}, d{} does not", log.life, daemon.get()));
            }
        }
    }
    Ok(())
}

/// L2: once settled, no configuration changes any more, whatever the load.
pub(super) fn l2_no_change_without_fault(history: &History<'_>) -> Verdict {
    quiet(history, Property::L2, |trace, log| component(trace, log.life.daemon).is_some())
}

/// L4: daemons that hear each other only in part come to rest as well, in a split that the cut
/// links explain: between any two rings a link is cut, and within one none that was cut when it was
/// formed. (A ring from before may go on: others repeat what a daemon misses, and L3 sees to that.)
pub(super) fn l4_rest(history: &History<'_>) -> Verdict {
    quiet(history, Property::L4, |trace, log| component(trace, log.life.daemon).is_none())?;
    // Where it is not told which links are cut, nothing can be said of the split.
    if !history.is_settled() || history.trace.ending.cut.is_empty() {
        return Ok(());
    }
    let ending = &history.trace.ending;
    let calm = ending.calm.unwrap_or(ending.settled);
    // At first daemons go by what they had heard of each other before.
    let known = calm + ending.settled.since(calm) / 10;
    let mut young: BTreeSet<RingId> = BTreeSet::new();
    let apart = live(history).filter(|log| component(history.trace, log.life.daemon).is_none());
    let mut rings: BTreeMap<RingId, Vec<DaemonId>> = BTreeMap::new();
    for log in apart {
        let last = log.stays.last().filter(|last| last.transitional.is_none());
        let Some(last) = last else {
            let detail = format!("{} has no regular configuration", log.life);
            return Err(Violation::new(Property::L4, None, detail));
        };
        rings.entry(last.ring).or_default().push(log.life.daemon);
        if last.at > known {
            young.insert(last.ring);
        }
        let is_there = |daemon: &&DaemonId| {
            let theirs = history.installed(**daemon, last.ring);
            theirs.is_some_and(|(log, stay)| log.ended.is_none() && stay.transitional.is_none())
        };
        if let Some(daemon) = last.members.iter().find(|daemon| !is_there(daemon)) {
            let (who, ring, daemon) = (log.life, Ring(last.ring), daemon.get());
            let detail = format!("{who} ends in {ring}, d{daemon} does not");
            return Err(Violation::new(Property::L4, Some(last.step), detail));
        }
    }
    explained(&ending.cut, &rings, &young)
}

/// Whether the cut links are why daemons end in these rings.
fn explained(
    cut: &[(DaemonId, DaemonId)],
    rings: &BTreeMap<RingId, Vec<DaemonId>>,
    young: &BTreeSet<RingId>,
) -> Verdict {
    let fail = |detail| Err(Violation::new(Property::L4, None, detail));
    let is_cut = |from: &[DaemonId], to: &[DaemonId]| {
        cut.iter().any(|(one, other)| from.contains(one) && to.contains(other))
    };
    for (index, (&ring, members)) in rings.iter().enumerate() {
        if young.contains(&ring) && is_cut(members, members) {
            return fail(format!("some in {} do not hear each other", Ring(ring)));
        }
        for (&other, theirs) in rings.iter().skip(index + 1) {
            if !is_cut(members, theirs) && !is_cut(theirs, members) {
                return fail(format!("{} and {} hear each other", Ring(ring), Ring(other)));
            }
        }
    }
    Ok(())
}

fn quiet(
    history: &History<'_>,
    property: Property,
    counts: impl Fn(&Trace, &Log) -> bool,
) -> Verdict {
    if !history.is_settled() {
        return Ok(());
    }
    let settled = history.trace.ending.settled;
    for log in live(history).filter(|log| counts(history.trace, log)) {
        if let Some(late) = log.stays.iter().find(|stay| stay.at > settled) {
            let detail = format!("{} installs {} without a fault", log.life, Ring(late.ring));
            return Err(Violation::new(property, Some(late.step), detail));
        }
    }
    Ok(())
}

/// L3: a message that a live daemon accepted is delivered to it, and what is delivered in the last
/// configuration is delivered to all of it.
pub(super) fn l3_delivered(history: &History<'_>) -> Verdict {
    if !history.is_settled() {
        return Ok(());
    }
    let fail = |step, detail| Err(Violation::new(Property::L3, Some(step), detail));
    for (number, message) in history.messages.iter().enumerate() {
        let Some((_, step)) = message.submitted else { continue };
        let origin = live(history).find(|log| log.life == message.id.origin);
        if origin.is_some_and(|log| log.position(number).is_none()) {
            return fail(step, format!("{} accepted and not delivered", message.id));
        }
    }
    for log in live(history) {
        let Some(last) = log.stays.last() else { continue };
        for delivery in &log.deliveries[last.deliveries()] {
            for other in live(history) {
                let shares = other.stays.last().is_some_and(|theirs| theirs.ring == last.ring);
                if shares && other.position(delivery.message).is_none() {
                    let (p, q) = (log.life, other.life);
                    let id = history.messages[delivery.message].id;
                    return fail(delivery.step, format!("{p} delivered {id}, {q} did not"));
                }
            }
        }
    }
    Ok(())
}

/// Bytes that a core may keep when all is delivered: less than one message of the largest.
const RETAINED_MAX: usize = 64 * 1024;

/// L5: with all delivered, a core keeps next to nothing: after the faults, and again after the load
/// that follows.
pub(super) fn l5_memory(history: &History<'_>) -> Verdict {
    for &(daemon, at_rest, at_end) in &history.trace.ending.retained {
        if at_rest.max(at_end) > RETAINED_MAX {
            let daemon = daemon.get();
            let detail = format!("d{daemon} keeps {at_end} bytes, {at_rest} at rest");
            return Err(Violation::new(Property::L5, None, detail));
        }
    }
    Ok(())
}
