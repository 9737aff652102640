//! D8, D13, D16: daemons that move together delivered the same.

use std::ops::Range;

use crate::base::Service;

use super::history::{History, Log, Stay};
use super::trace::Ring;
use super::{Property, Verdict, Violation};

/// D8: those that move together delivered the same causal, agreed and safe messages.
pub(super) fn d8_failure_atomicity(history: &History<'_>) -> Verdict {
    let strong = |service| service >= Service::Causal;
    same_sets(history, Property::D8, strong, Stay::deliveries)
}

/// D16: and the same unreliable, reliable and FIFO ones: what is missing is repaired, whatever the
/// service.
pub(super) fn d16_reliable_is_complete(history: &History<'_>) -> Verdict {
    let weak = |service| service < Service::Causal;
    same_sets(history, Property::D16, weak, Stay::deliveries)
}

/// D13: a message comes before the transitional configuration at all of those that move together,
/// or at none of them.
pub(super) fn d13_same_side(history: &History<'_>) -> Verdict {
    same_sets(history, Property::D13, |_| true, |stay| stay.regular.clone())
}

fn same_sets(
    history: &History<'_>,
    property: Property,
    counts: impl Fn(Service) -> bool,
    part: impl Fn(&Stay) -> Range<usize>,
) -> Verdict {
    for movers in history.moves() {
        let (first, stay) = movers[0];
        let reference = numbers(history, first, part(stay), &counts);
        for (log, stay) in &movers[1..] {
            let here = numbers(history, log, part(stay), &counts);
            if let Some(message) = first_difference(&reference, &here) {
                let (p, q, ring) = (first.life, log.life, Ring(stay.ring));
                let id = history.messages[message].id;
                let detail = format!("{p} and {q} move on from {ring} together, one without {id}");
                let step = stay.transitional.as_ref().map(|transitional| transitional.step);
                return Err(Violation::new(property, step, detail));
            }
        }
    }
    Ok(())
}

fn numbers(
    history: &History<'_>,
    log: &Log,
    part: Range<usize>,
    counts: impl Fn(Service) -> bool,
) -> Vec<usize> {
    let delivered = log.deliveries[part].iter().map(|delivery| delivery.message);
    let mut numbers: Vec<usize> =
        delivered.filter(|&message| counts(history.messages[message].service())).collect();
    numbers.sort_unstable();
    numbers
}

/// The first that only one of two sorted lists has.
fn first_difference(a: &[usize], b: &[usize]) -> Option<usize> {
    let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    match (a.get(same), b.get(same)) {
        (Some(a), Some(b)) => Some(*a.min(b)),
        (a, b) => a.or(b).copied(),
    }
}
