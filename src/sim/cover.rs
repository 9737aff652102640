//! What runs met, counted: tests ask it, so that runs in which nothing happens are noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::base::{DaemonId, RingId};

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
    /// Messages delivered there, anywhere behind a gap, of daemons that do not move along: somebody
    /// who may have delivered them in an attempt that failed was promised them.
    pub promised: u64,
}

impl Cover {
    /// Each with its name.
    pub fn counts(&self) -> [(&'static str, u64); 7] {
        [
            ("data refused", self.data_refused),
            ("deliveries refused", self.deliveries_refused),
            ("crashes amid a turn", self.crashes_amid),
            ("attempts abandoned", self.attempts_abandoned),
            ("holes filled late", self.holes_filled_late),
            ("deliveries behind gaps", self.behind_gaps),
            ("of daemons that were left", self.promised),
        ]
    }

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
        let mut cover = self;
        for log in &trace.daemons {
            let (behind_gaps, promised) = behind_gaps(log, &placed);
            cover.behind_gaps += behind_gaps;
            cover.promised += promised;
        }
        cover
    }

    /// Adds another's.
    pub fn add(&mut self, other: Self) {
        self.data_refused += other.data_refused;
        self.deliveries_refused += other.deliveries_refused;
        self.crashes_amid += other.crashes_amid;
        self.attempts_abandoned += other.attempts_abandoned;
        self.holes_filled_late += other.holes_filled_late;
        self.behind_gaps += other.behind_gaps;
        self.promised += other.promised;
    }
}

impl fmt::Display for Cover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts().map(|(name, count)| format!("{name}: {count}"));
        f.write_str(&counts.join(", "))
    }
}

/// Messages of a daemon that came in a transitional configuration, and another that has its place
/// before them did not; and how many of them are of daemons that are not in it.
fn behind_gaps(log: &DaemonLog, placed: &BTreeMap<RingId, BTreeSet<Place>>) -> (u64, u64) {
    let (mut count, mut promised) = (0, 0);
    let mut movers: Option<&[DaemonId]> = None;
    let mut last: Option<Place> = None;
    let mut has_gap = false;
    for entry in &log.entries {
        match &entry.event {
            DaemonEvent::Regular { .. } => (movers, last, has_gap) = (None, None, false),
            DaemonEvent::Transitional { members } => movers = Some(members),
            DaemonEvent::Deliver { place, message, .. } => {
                if let Some(movers) = movers {
                    let all = placed.get(&place.ring);
                    let before = all.and_then(|all| all.range(..*place).next_back());
                    let is_gap = before.is_some() && before != last.as_ref();
                    has_gap |= is_gap;
                    count += u64::from(is_gap);
                    promised += u64::from(has_gap && !movers.contains(&message.origin.daemon));
                }
                last = Some(*place);
            }
            DaemonEvent::Submit { .. }
            | DaemonEvent::Init { .. }
            | DaemonEvent::Crash
            | DaemonEvent::Stop => {}
        }
    }
    (count, promised)
}
