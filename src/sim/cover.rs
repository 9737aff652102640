//! What runs met, counted: tests ask it, so that runs in which nothing happens are noticed.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::RingId;

use super::checker::trace::{DaemonEvent, DaemonLog, Place, Trace};
use super::core::Core;

/// How often runs met what is rare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// Data that had no room.
    pub data_refused: u64,
    /// Deliveries, and what becomes one, that had no room.
    pub deliveries_refused: u64,
    /// Daemons crashed in the midst of what they had to send.
    pub crashes_amid: u64,
    /// Recoveries from which a daemon went back to look for others.
    pub attempts_abandoned: u64,
    /// Packets of daemons that were gone, which filled a hole in the midst of recovery.
    pub holes_filled_late: u64,
    /// Messages delivered in a transitional configuration behind one that is lost.
    pub behind_gaps: u64,
}

impl Cover {
    /// With what this core counted.
    pub(super) fn with<C: Core>(self, core: &C) -> Self {
        let (data, deliveries) = core.refused();
        Self {
            data_refused: self.data_refused + data,
            deliveries_refused: self.deliveries_refused + deliveries,
            ..self
        }
    }

    /// With what a trace tells.
    pub(super) fn with_trace(self, trace: &Trace) -> Self {
        let mut placed: BTreeMap<RingId, BTreeSet<Place>> = BTreeMap::new();
        for entry in trace.daemons.iter().flat_map(|log| &log.entries) {
            if let DaemonEvent::Init { place, .. } = &entry.event {
                placed.entry(place.ring).or_default().insert(*place);
            }
        }
        let behind_gaps = trace.daemons.iter().map(|log| behind_gaps(log, &placed)).sum();
        Self { behind_gaps, ..self }
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.data_refused += other.data_refused;
        self.deliveries_refused += other.deliveries_refused;
        self.crashes_amid += other.crashes_amid;
        self.attempts_abandoned += other.attempts_abandoned;
        self.holes_filled_late += other.holes_filled_late;
        self.behind_gaps += other.behind_gaps;
    }
}

/// Messages of a daemon that came in a transitional configuration, and another that has its place
/// before them did not.
fn behind_gaps(log: &DaemonLog, placed: &BTreeMap<RingId, BTreeSet<Place>>) -> u64 {
    let (mut count, mut in_transition) = (0, false);
    let mut last: Option<Place> = None;
    for entry in &log.entries {
        match &entry.event {
            DaemonEvent::Regular { .. } => (in_transition, last) = (false, None),
            DaemonEvent::Transitional { .. } => in_transition = true,
            DaemonEvent::Deliver { place, .. } => {
                let all = placed.get(&place.ring).filter(|_| in_transition);
                let before = all.and_then(|all| all.range(..*place).next_back());
                count += u64::from(before.is_some() && before != last.as_ref());
                last = Some(*place);
            }
            DaemonEvent::Submit { .. }
            | DaemonEvent::Init { .. }
            | DaemonEvent::Crash
            | DaemonEvent::Stop => {}
        }
    }
    count
}
