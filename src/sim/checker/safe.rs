//! D14, D15: what a safe message promises about the others.

use crate::base::{DaemonId, Service};

use super::history::{Delivery, History, Stay};
use super::trace::{Life, Ring};
use super::{Property, Verdict, Violation};

/// D14: a safe message delivered in a regular configuration is delivered by each of its daemons
/// that does not crash.
pub(super) fn d14_safe_in_regular(history: &History<'_>) -> Verdict {
    for log in &history.logs {
        let mut before = 0;
        for stay in &log.stays {
            for delivery in safe(history, &log.deliveries[stay.regular.clone()]) {
                for &daemon in &stay.members {
                    let promise = Promise { property: Property::D14, by: log.life, before };
                    promise.kept(history, stay, delivery, daemon)?;
                }
            }
            before = stay.step;
        }
    }
    Ok(())
}

/// D15: one delivered in a transitional configuration is delivered by each daemon of that one that
/// does not crash.
pub(super) fn d15_safe_in_transitional(history: &History<'_>) -> Verdict {
    for log in &history.logs {
        for stay in &log.stays {
            let Some(transitional) = &stay.transitional else { continue };
            for delivery in safe(history, &log.deliveries[transitional.deliveries.clone()]) {
                for &daemon in &transitional.members {
                    let (property, before) = (Property::D15, stay.step);
                    let promise = Promise { property, by: log.life, before };
                    promise.kept(history, stay, delivery, daemon)?;
                }
            }
        }
    }
    Ok(())
}

fn safe<'a>(
    history: &'a History<'_>,
    deliveries: &'a [Delivery],
) -> impl Iterator<Item = &'a Delivery> {
    deliveries.iter().filter(|d| history.messages[d.message].service() == Service::Safe)
}

struct Promise {
    property: Property,
    by: Life,
    /// A daemon that crashed since this step may have been on its way into the configuration.
    before: u64,
}

impl Promise {
    fn kept(
        &self,
        history: &History<'_>,
        stay: &Stay,
        delivery: &Delivery,
        daemon: DaemonId,
    ) -> Verdict {
        let broken = match history.installed(daemon, stay.ring) {
            Some((log, theirs)) => {
                let moved_on = theirs.next.is_some();
                let stays = log.ended.is_none() && history.is_settled();
                (moved_on || stays) && !log.has(theirs, delivery.message)
            }
            None => history.is_settled() && !history.ended_since(daemon, self.before),
        };
        if !broken {
            return Ok(());
        }
        let (by, id) = (self.by, history.messages[delivery.message].id);
        let (ring, daemon) = (Ring(stay.ring), daemon.get());
        let detail = format!("{by} delivers safe {id} in {ring}, d{daemon} never does");
        Err(Violation::new(self.property, Some(delivery.step), detail))
    }
}
