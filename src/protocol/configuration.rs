//! The daemons of a cluster, and where the ids of group views come from.

use crate::base::{DaemonId, DaemonName, GroupId, RingId};

/// One daemon as the others know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Its numeric identity.
    pub id: DaemonId,
    /// Its name: the second part of its sessions' private groups.
    pub name: DaemonName,
}

/// Indices of views that are announced between two rings begin here.
const TRANSITIONAL_INDEX: i32 = 1 << 30;

/// A time in which views get ids of one series, the same at all daemons that share a table of
/// groups.
///
/// Each ring has a series, and so have those who move together from it to the next one. No id is
/// in two of them: rings differ, those who leave one ring in different directions have different
/// leaders, and both kinds count in different ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Index 0 of it.
    zero: GroupId,
    /// The greatest index that any group had that is no more. New groups count on from it, so that
    /// no id ever comes back. (Spread's do: its groups always start at 1.)
    used: i32,
}

impl Epoch {
    /// That of a ring.
    pub(crate) fn of_ring(ring: RingId) -> Self {
        let zero = GroupId { daemon: ring.leader.get().cast_signed(), time: time(ring), index: 0 };
        Self { zero, used: 0 }
    }

    /// That of those who left `ring` together, `leader` the first of them.
    pub(crate) fn behind_ring(ring: RingId, leader: DaemonId) -> Self {
        let daemon = leader.get().cast_signed();
        let zero = GroupId { daemon, time: time(ring), index: TRANSITIONAL_INDEX };
        Self { zero, used: TRANSITIONAL_INDEX }
    }

    /// Whether both are the same time.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.zero == other.zero
    }

    /// The id of the first view of those that a configuration change brings.
    pub(crate) fn first(&self) -> GroupId {
        GroupId { index: self.zero.index + 1, ..self.zero }
    }

    /// The id before that of a new group's first view.
    pub(crate) fn before_new(&self) -> GroupId {
        GroupId { index: self.used, ..self.zero }
    }

    /// The id that follows `id`. Within a ring a group keeps the series that it has; while daemons
    /// move from one to the next it takes one of theirs, because those who move elsewhere may go
    /// on from the same id.
    pub(crate) fn next(&self, id: GroupId, is_settled: bool) -> GroupId {
        let id = if is_settled || self.contains(id) { id } else { self.before_new() };
        GroupId { index: id.index.wrapping_add(1), ..id }
    }

    /// A group is no more whose last id is `id`.
    pub(crate) fn use_up(&mut self, id: GroupId) {
        if self.contains(id) {
            self.used = self.used.max(id.index);
        }
    }

    fn contains(&self, id: GroupId) -> bool {
        (id.daemon, id.time) == (self.zero.daemon, self.zero.time) && id.index >= self.zero.index
    }
}

/// What tells the rings of one leader apart in group ids, where Spread has Unix seconds: both
/// halves of the ring's number in one.
fn time(ring: RingId) -> i32 {
    let (high, low) = ((ring.number >> 32) as u32, ring.number as u32);
    (high ^ low).cast_signed()
}
