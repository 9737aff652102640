//! A trace of daemons, indexed for the checks: messages by number, logs cut into the time spent in
//! each configuration.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::{DaemonId, Instant, RingId, Service};

use super::hash::HashMap;
use super::trace::{Content, DaemonEvent, DaemonLog, Life, MessageId, Place, Ring, Trace};
use super::{Property, Violation};

/// A message, by its number in the history.
pub(super) struct Message {
    pub(super) id: MessageId,
    /// As accepted: content and step.
    pub(super) submitted: Option<(Content, u64)>,
    /// As placed: where and at which step.
    pub(super) init: Option<(Place, u64)>,
    /// A second acceptance or placing, at this step.
    pub(super) repeated: Option<u64>,
}

impl Message {
    /// The service asked for; of a message that nobody accepted, the weakest.
    pub(super) fn service(&self) -> Service {
        self.submitted.map_or(Service::Unreliable, |(content, _)| content.service)
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.service() >= Service::Agreed
    }

    pub(super) fn ring(&self) -> Option<RingId> {
        self.init.map(|(place, _)| place.ring)
    }
}

/// One delivery.
pub(super) struct Delivery {
    /// Number of the message.
    pub(super) message: usize,
    pub(super) content: Content,
    pub(super) place: Place,
    pub(super) step: u64,
}

/// The time that a daemon spent in a regular configuration and the transitional one behind it.
pub(super) struct Stay {
    pub(super) ring: RingId,
    pub(super) members: Vec<DaemonId>,
    /// When the regular configuration was installed.
    pub(super) step: u64,
    pub(super) at: Instant,
    /// Deliveries in the regular configuration: range in the log's.
    pub(super) regular: Range<usize>,
    pub(super) transitional: Option<Transitional>,
    /// The regular configuration installed next.
    pub(super) next: Option<RingId>,
}

impl Stay {
    /// Deliveries in the regular and the transitional configuration.
    pub(super) fn deliveries(&self) -> Range<usize> {
        let end = self.transitional.as_ref().map_or(self.regular.end, |t| t.deliveries.end);
        self.regular.start..end
    }

    /// Daemons that move on together with this one; none while it has not moved.
    pub(super) fn movers(&self) -> &[DaemonId] {
        self.transitional.as_ref().map_or(&[], |t| &t.members)
    }
}

/// A transitional configuration.
pub(super) struct Transitional {
    pub(super) members: Vec<DaemonId>,
    pub(super) step: u64,
    pub(super) deliveries: Range<usize>,
}

/// A daemon's life.
pub(super) struct Log {
    pub(super) life: Life,
    /// In the order of installation.
    pub(super) stays: Vec<Stay>,
    /// In order.
    pub(super) deliveries: Vec<Delivery>,
    /// Crash or stop.
    pub(super) ended: Option<u64>,
    /// Index of each message's first delivery, by the message's number; [`NEVER`] without one.
    positions: Vec<u32>,
}

const NEVER: u32 = u32::MAX;

impl Log {
    /// Index of the first delivery of `message`.
    pub(super) fn position(&self, message: usize) -> Option<usize> {
        let position = self.positions[message];
        (position != NEVER).then_some(position as usize)
    }

    /// Whether `message` was delivered in `stay`.
    pub(super) fn has(&self, stay: &Stay, message: usize) -> bool {
        self.position(message).is_some_and(|position| stay.deliveries().contains(&position))
    }
}

/// The whole trace.
pub(super) struct History<'a> {
    pub(super) trace: &'a Trace,
    pub(super) messages: Vec<Message>,
    pub(super) logs: Vec<Log>,
    /// Who stayed in a ring: log and index of the stay.
    pub(super) rings: BTreeMap<RingId, Vec<(usize, usize)>>,
    /// Logs of a daemon, in the order of its incarnations.
    pub(super) lives: BTreeMap<DaemonId, Vec<usize>>,
}

impl<'a> History<'a> {
    /// Indexes `trace`.
    ///
    /// # Errors
    ///
    /// D3 or D4 where a log has no sensible shape at all: a delivery outside any configuration, a
    /// transitional configuration that follows no regular one, or another transitional one.
    pub(super) fn new(trace: &'a Trace) -> Result<Self, Violation> {
        let mut messages = Messages::default();
        let mut logs = Vec::with_capacity(trace.daemons.len());
        for log in &trace.daemons {
            logs.push(cut(log, &mut messages)?);
        }
        let mut rings: BTreeMap<RingId, Vec<(usize, usize)>> = BTreeMap::new();
        let mut lives: BTreeMap<DaemonId, Vec<usize>> = BTreeMap::new();
        for (index, log) in logs.iter_mut().enumerate() {
            log.positions = vec![NEVER; messages.all.len()];
            for (position, delivery) in log.deliveries.iter().enumerate().rev() {
                log.positions[delivery.message] = position as u32;
            }
            lives.entry(log.life.daemon).or_default().push(index);
            for (at, stay) in log.stays.iter().enumerate() {
                rings.entry(stay.ring).or_default().push((index, at));
            }
        }
        for of_daemon in lives.values_mut() {
            of_daemon.sort_by_key(|&log| logs[log].life.incarnation);
        }
        Ok(Self { trace, messages: messages.all, logs, rings, lives })
    }

    /// Whether one may ask of the end of this run what must happen eventually.
    pub(super) fn is_settled(&self) -> bool {
        self.trace.ending.calm.is_some()
    }

    /// Groups of stays that moved from one regular configuration to the same next one together,
    /// according to each of them.
    pub(super) fn moves(&self) -> Vec<Vec<(&Log, &Stay)>> {
        type Movers<'a> = Vec<(&'a Log, &'a Stay)>;
        let mut moves: BTreeMap<(RingId, RingId, &[DaemonId]), Movers<'_>> = BTreeMap::new();
        for log in &self.logs {
            for stay in &log.stays {
                if let Some(next) = stay.next {
                    moves.entry((stay.ring, next, stay.movers())).or_default().push((log, stay));
                }
            }
        }
        moves.into_values().filter(|movers| movers.len() > 1).collect()
    }

    /// Whether `daemon` crashed or stopped at or after `step`.
    pub(super) fn ended_since(&self, daemon: DaemonId, step: u64) -> bool {
        let lives = self.lives.get(&daemon);
        // A daemon without any log never ran: it is as good as crashed.
        lives.is_none_or(|lives| {
            lives.iter().any(|&log| self.logs[log].ended.is_some_and(|ended| ended >= step))
        })
    }

    /// The life of `daemon` that installed `ring`, and its stay there.
    pub(super) fn installed(&self, daemon: DaemonId, ring: RingId) -> Option<(&Log, &Stay)> {
        let stays = self.rings.get(&ring)?;
        let &(log, stay) = stays.iter().find(|(log, _)| self.logs[*log].life.daemon == daemon)?;
        Some((&self.logs[log], &self.logs[log].stays[stay]))
    }
}

#[derive(Default)]
struct Messages {
    all: Vec<Message>,
    numbers: HashMap<MessageId, usize>,
}

impl Messages {
    fn number(&mut self, id: MessageId) -> usize {
        *self.numbers.entry(id).or_insert_with(|| {
            self.all.push(Message { id, submitted: None, init: None, repeated: None });
            self.all.len() - 1
        })
    }

    fn get(&mut self, id: MessageId) -> &mut Message {
        let number = self.number(id);
        &mut self.all[number]
    }
}

fn cut(from: &DaemonLog, messages: &mut Messages) -> Result<Log, Violation> {
    let mut log = Log {
        life: from.life,
        stays: Vec::new(),
        deliveries: Vec::new(),
        ended: None,
        positions: Vec::new(),
    };
    for entry in &from.entries {
        let step = entry.step;
        match &entry.event {
            DaemonEvent::Submit { message, content } => {
                let message = messages.get(*message);
                if message.submitted.replace((*content, step)).is_some() {
                    message.repeated = Some(step);
                }
            }
            DaemonEvent::Init { message, place } => {
                let message = messages.get(*message);
                if message.init.replace((*place, step)).is_some() {
                    message.repeated = Some(step);
                }
            }
            DaemonEvent::Deliver { message, content, place } => {
                let message = messages.number(*message);
                log.deliver(Delivery { message, content: *content, place: *place, step })?;
            }
            DaemonEvent::Regular { ring, members } => {
                log.install(*ring, members, step, entry.at)?;
            }
            DaemonEvent::Transitional { members } => log.move_on(members, step)?,
            DaemonEvent::Crash | DaemonEvent::Stop => log.ended = Some(step),
        }
    }
    Ok(log)
}

impl Log {
    fn deliver(&mut self, delivery: Delivery) -> Result<(), Violation> {
        let Some(stay) = self.stays.last_mut() else {
            let detail = format!("{} delivers before its first configuration", self.life);
            return Err(Violation::new(Property::D3, Some(delivery.step), detail));
        };
        self.deliveries.push(delivery);
        match &mut stay.transitional {
            Some(transitional) => transitional.deliveries.end += 1,
            None => stay.regular.end += 1,
        }
        Ok(())
    }

    fn install(
        &mut self,
        ring: RingId,
        members: &[DaemonId],
        step: u64,
        at: Instant,
    ) -> Result<(), Violation> {
        if let Some(last) = self.stays.last_mut() {
            if last.transitional.is_none() {
                let ring = Ring(ring);
                let detail = format!("{} installs {ring} with no transitional one", self.life);
                return Err(Violation::new(Property::D4, Some(step), detail));
            }
            last.next = Some(ring);
        }
        let mut members = members.to_vec();
        members.sort_unstable();
        let end = self.deliveries.len();
        let regular = end..end;
        self.stays.push(Stay { ring, members, step, at, regular, transitional: None, next: None });
        Ok(())
    }

    fn move_on(&mut self, members: &[DaemonId], step: u64) -> Result<(), Violation> {
        let end = self.deliveries.len();
        let mut members = members.to_vec();
        members.sort_unstable();
        match self.stays.last_mut() {
            Some(stay) if stay.transitional.is_none() => {
                stay.transitional = Some(Transitional { members, step, deliveries: end..end });
                Ok(())
            }
            Some(_) | None => {
                let detail = format!("{}: transitional configuration behind no regular", self.life);
                Err(Violation::new(Property::D4, Some(step), detail))
            }
        }
    }
}
