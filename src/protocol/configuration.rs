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
/// Each ring has a series, and so have those who move to it together. No id is in two of them:
/// rings differ, those who come to one ring from different ones have different leaders, and both
/// kinds count in different ranges. (Those who leave one ring are no good to name a series: one
/// that is thought to move along may move elsewhere, and lead those as well.)
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

    /// That of those who move to `ring` together, `leader` the first of them.
    pub(crate) fn before_ring(ring: RingId, leader: DaemonId) -> Self {
        let daemon = leader.get().cast_signed();
        let zero = GroupId { daemon, time: time(ring), index: TRANSITIONAL_INDEX };
        Self { zero, used: TRANSITIONAL_INDEX }
    }

    /// The id of the first view of those that a configuration change brings.
    pub(crate) fn first(&self) -> GroupId {
        GroupId { index: self.zero.index + 1, ..self.zero }
    }

    /// The id before that of a new group's first view.
    pub(crate) fn before_new(&self) -> GroupId {
        GroupId { index: self.used, ..self.zero }
    }

    /// The id that follows `id`, of this series: a group that has an older one, because no change
    /// of the configuration concerned it, may be elsewhere too and go on from there.
    pub(crate) fn next(&self, id: GroupId) -> GroupId {
        let id = if self.contains(id) { id } else { self.before_new() };
        GroupId { index: id.index.wrapping_add(1), ..id }
    }

    /// A group is no more whose last id is `id`.
    pub(crate) fn use_up(&mut self, id: GroupId) {
        if self.contains(id) {
            self.used = self.used.max(id.index);
        }
    }

    fn contains(&self, id: GroupId) -> bool {
        let is_between = |id: GroupId| id.index >= TRANSITIONAL_INDEX;
        let (zero, is_same) = (self.zero, is_between(id) == is_between(self.zero));
        (id.daemon, id.time) == (zero.daemon, zero.time) && is_same
    }
}

/// What tells the rings of one leader apart in group ids, where Spread has Unix seconds: both
/// halves of the ring's number in one.
fn time(ring: RingId) -> i32 {
    let (high, low) = ((ring.number >> 32) as u32, ring.number as u32);
    (high ^ low).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_go_separate_ways_never_give_out_the_same_id() {
        let leader = DaemonId::new(2);
        let ring = |number| RingId { number, leader };
        // A daemon that others take along may go elsewhere itself, and lead both.
        let (here, there) =
            (Epoch::before_ring(ring(7), leader), Epoch::before_ring(ring(9), leader));
        let settled = [Epoch::of_ring(ring(7)), Epoch::of_ring(ring(9))];
        // A group that no change concerned has an id of long ago, wherever it is.
        let old = Epoch::of_ring(ring(3)).first();
        let all = [here, there, settled[0], settled[1]];
        let mut ids: Vec<GroupId> = all.iter().map(|epoch| epoch.next(old)).collect();
        ids.extend(all.iter().map(|epoch| epoch.next(epoch.next(old))));
        ids.push(old);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 9);
    }
}
