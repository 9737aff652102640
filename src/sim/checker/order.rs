//! D9, D11, D12: the order of deliveries.

use std::collections::BTreeMap;

use crate::base::{RingId, Service};

use super::hash::HashMap;
use super::history::{Delivery, History, Log, Stay};
use super::relation::Relation;
use super::trace::{Life, Place};
use super::{Property, Verdict, Violation};

/// D9: messages of one origin, FIFO and stronger, come in the order in which it accepted them, and
/// in one configuration without a gap where the origin is still there.
pub(super) fn d9_fifo(history: &History<'_>) -> Verdict {
    let sent = fifo_messages(history);
    for log in &history.logs {
        let mut newest: HashMap<Life, u32> = HashMap::default();
        for stay in &log.stays {
            let mut next: HashMap<Life, usize> = HashMap::default();
            for (position, delivery) in positions(log, stay) {
                let message = &history.messages[delivery.message];
                if message.service() < Service::Fifo {
                    continue;
                }
                let (id, origin) = (message.id, message.id.origin);
                let fail = |what: &str| {
                    let detail = format!("{} delivers {id} {what}", log.life);
                    Err(Violation::new(Property::D9, Some(delivery.step), detail))
                };
                if newest.insert(origin, id.n).is_some_and(|newest| newest >= id.n) {
                    return fail("behind a later one of the same origin");
                }
                let in_ring = &sent[&(origin, stay.ring)];
                let at = in_ring.partition_point(|&n| n < id.n);
                let expected = next.insert(origin, at + 1).unwrap_or(0);
                let may_skip = stay.transitional.is_some()
                    && position >= stay.regular.end
                    && !stay.movers().contains(&origin.daemon);
                if at > expected && !may_skip {
                    return fail("without an earlier one of the same origin");
                }
            }
        }
    }
    Ok(())
}

/// Counters of the FIFO and stronger messages that each origin placed in each ring, ascending.
fn fifo_messages(history: &History<'_>) -> HashMap<(Life, RingId), Vec<u32>> {
    let mut sent: HashMap<(Life, RingId), Vec<u32>> = HashMap::default();
    for message in history.messages.iter().filter(|message| message.service() >= Service::Fifo) {
        if let Some(ring) = message.ring() {
            sent.entry((message.id.origin, ring)).or_default().push(message.id.n);
        }
    }
    for counters in sent.values_mut() {
        counters.sort_unstable();
    }
    sent
}

fn positions<'a>(log: &'a Log, stay: &Stay) -> impl Iterator<Item = (usize, &'a Delivery)> {
    stay.deliveries().zip(&log.deliveries[stay.deliveries()])
}

/// D11: all daemons' orders of messages and of configurations fit into one, and each log follows
/// the places, whatever the services: a weaker one gives up guarantees, not the order.
pub(super) fn d11_agreed_order(history: &History<'_>) -> Verdict {
    #[derive(Clone, Copy, PartialEq, Eq, Hash)]
    enum Thing {
        Message(usize),
        Regular(RingId),
        Transitional(RingId, Option<RingId>, Life),
    }
    let mut relation = Relation::default();
    for log in &history.logs {
        let mut chain = relation.chain();
        let mut newest: Option<Place> = None;
        for stay in &log.stays {
            chain.push(Thing::Regular(stay.ring), stay.step);
            for (position, delivery) in positions(log, stay) {
                if let Some(transitional) =
                    stay.transitional.as_ref().filter(|_| position == stay.regular.end)
                {
                    // Those that move together share it; others have one of their own.
                    let owner = shared_owner(history, stay, log);
                    chain.push(Thing::Transitional(stay.ring, stay.next, owner), transitional.step);
                }
                if newest.is_some_and(|newest| newest >= delivery.place) {
                    let (id, place) = (history.messages[delivery.message].id, delivery.place);
                    let detail = format!("{} delivers {id} at {place} too late", log.life);
                    return Err(Violation::new(Property::D11, Some(delivery.step), detail));
                }
                newest = Some(delivery.place);
                // Of the weaker ones the places say it all, which D1 has found to be the same
                // everywhere; they are many.
                if history.messages[delivery.message].is_agreed() {
                    chain.push(Thing::Message(delivery.message), delivery.step);
                }
            }
        }
    }
    relation.acyclic().map_err(|step| {
        let detail = "the daemons' orders do not fit into one".to_owned();
        Violation::new(Property::D11, Some(step), detail)
    })
}

/// The life that stands for all those that share the transitional configuration of `stay`.
fn shared_owner(history: &History<'_>, stay: &Stay, log: &Log) -> Life {
    let Some(next) = stay.next else { return log.life };
    let sharing = stay.movers().iter().find_map(|&daemon| {
        let (log, theirs) = history.installed(daemon, stay.ring)?;
        (theirs.next == Some(next)).then_some(log.life)
    });
    sharing.unwrap_or(log.life)
}

/// D12: nothing is delivered while an earlier message of its configuration is missing, so that a
/// safe one which is not safe yet holds back what follows; in the transitional configuration only
/// messages of daemons that do not move along may be missing.
pub(super) fn d12_no_gaps(history: &History<'_>) -> Verdict {
    let orders = orders(history);
    for log in &history.logs {
        for stay in &log.stays {
            let Some(order) = orders.get(&stay.ring) else { continue };
            let mut expected = 0;
            for (position, delivery) in positions(log, stay) {
                let at = order.partition_point(|(place, _)| *place < delivery.place);
                let regular = position < stay.regular.end;
                for &(place, missing) in &order[expected.min(at)..at] {
                    let missing = history.messages[missing].id;
                    if regular || stay.movers().contains(&missing.origin.daemon) {
                        let (who, id) = (log.life, history.messages[delivery.message].id);
                        let detail = format!("{who} delivers {id} without {missing} at {place}");
                        return Err(Violation::new(Property::D12, Some(delivery.step), detail));
                    }
                }
                expected = at + 1;
            }
        }
    }
    Ok(())
}

/// The messages of each ring in their order.
fn orders(history: &History<'_>) -> BTreeMap<RingId, Vec<(Place, usize)>> {
    let mut orders: BTreeMap<RingId, Vec<(Place, usize)>> = BTreeMap::new();
    for (number, message) in history.messages.iter().enumerate() {
        if let Some((place, _)) = message.init {
            orders.entry(place.ring).or_default().push((place, number));
        }
    }
    for order in orders.values_mut() {
        order.sort_unstable();
    }
    orders
}
