//! D1, D2, D3, D7: each daemon's deliveries on their own.

use super::history::History;
use super::trace::Ring;
use super::{Property, Verdict, Violation};

/// D1: a delivered message was accepted and placed exactly once, before; its content and its place
/// are what they were then.
pub(super) fn d1_no_creation(history: &History<'_>) -> Verdict {
    let fail = |step, detail| Err(Violation::new(Property::D1, Some(step), detail));
    for message in &history.messages {
        if let Some(step) = message.repeated {
            return fail(step, format!("{} is accepted or placed again", message.id));
        }
    }
    for log in &history.logs {
        for delivery in &log.deliveries {
            let message = &history.messages[delivery.message];
            let (who, id, step) = (log.life, message.id, delivery.step);
            let Some((content, _)) = message.submitted.filter(|(_, before)| *before < step) else {
                return fail(step, format!("{who} delivers {id}, which nobody sent"));
            };
            if content != delivery.content {
                return fail(step, format!("{who} delivers {id} with another content or service"));
            }
            let Some((place, _)) = message.init.filter(|(_, before)| *before < step) else {
                return fail(step, format!("{who} delivers {id}, which has no place yet"));
            };
            if place != delivery.place {
                let told = delivery.place;
                return fail(step, format!("{who} delivers {id} at {told}, but it is at {place}"));
            }
        }
    }
    Ok(())
}

/// D2: nothing is delivered twice in one life.
pub(super) fn d2_no_duplication(history: &History<'_>) -> Verdict {
    for log in &history.logs {
        for (position, delivery) in log.deliveries.iter().enumerate() {
            if log.position(delivery.message) != Some(position) {
                let id = history.messages[delivery.message].id;
                let detail = format!("{} delivers {id} twice", log.life);
                return Err(Violation::new(Property::D2, Some(delivery.step), detail));
            }
        }
    }
    Ok(())
}

/// D3: a message is delivered in the configuration that it was placed in, or in the transitional
/// one behind it.
pub(super) fn d3_same_configuration(history: &History<'_>) -> Verdict {
    for log in &history.logs {
        for stay in &log.stays {
            for delivery in &log.deliveries[stay.deliveries()] {
                let message = &history.messages[delivery.message];
                if let Some(ring) = message.ring().filter(|ring| *ring != stay.ring) {
                    let (who, here, sent) = (log.life, Ring(stay.ring), Ring(ring));
                    let detail = format!("{who} delivers {} of {sent} in {here}", message.id);
                    return Err(Violation::new(Property::D3, Some(delivery.step), detail));
                }
            }
        }
    }
    Ok(())
}

/// D7: a daemon delivers its own messages before it leaves the configuration they were placed in.
pub(super) fn d7_self_delivery(history: &History<'_>) -> Verdict {
    for (number, message) in history.messages.iter().enumerate() {
        let Some((place, _)) = message.init else { continue };
        let Some((log, stay)) = history.installed(message.id.origin.daemon, place.ring) else {
            continue;
        };
        if log.life == message.id.origin && stay.next.is_some() && !log.has(stay, number) {
            let ring = Ring(place.ring);
            let detail = format!("{} leaves {ring} without its own {}", log.life, message.id);
            let left = stay.transitional.as_ref().map(|transitional| transitional.step);
            return Err(Violation::new(Property::D7, left, detail));
        }
    }
    Ok(())
}
