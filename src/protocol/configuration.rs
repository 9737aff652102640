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

/// Views that are announced between two rings have indices below zero, beginning here.
const TRANSITIONAL_INDEX: i32 = i32::MIN;

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
    /// no id comes back within 2^31 changes. (Spread's do: its groups always start at 1.)
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
        // The end of a series is not the beginning of the other one.
        let index = if is_last(id) { self.zero.index } else { id.index };
        GroupId { index: index + 1, ..id }
    }

    /// A group is no more whose last id is `id`.
    pub(crate) fn use_up(&mut self, id: GroupId) {
        if self.contains(id) {
            self.used = if is_last(id) { self.zero.index } else { self.used.max(id.index) };
        }
    }

    fn contains(&self, id: GroupId) -> bool {
        let is_between = |id: GroupId| id.index < 0;
        let (zero, is_same) = (self.zero, is_between(id) == is_between(self.zero));
        (id.daemon, id.time) == (zero.daemon, zero.time) && is_same
    }
}

/// Whether no id of its series follows.
fn is_last(id: GroupId) -> bool {
    matches!(id.index, -1 | i32::MAX)
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

    #[test]
    fn a_series_at_its_end_begins_again_and_not_with_the_ids_of_the_other_one() {
        let ring = RingId { number: 7, leader: DaemonId::new(2) };
        let both = [Epoch::of_ring(ring), Epoch::before_ring(ring, ring.leader)];
        for (mut epoch, last) in both.into_iter().zip([i32::MAX, -1]) {
            let next = |epoch: &Epoch, index| epoch.next(GroupId { index, ..epoch.zero });
            assert_eq!(next(&epoch, last - 1).index, last);
            assert_eq!(next(&epoch, last), epoch.first());
            // Whoever comes and goes at the end gets one new id after the other.
            epoch.use_up(GroupId { index: last - 2, ..epoch.zero });
            let mut given = Vec::new();
            for _ in 0..3 {
                let view = epoch.next(epoch.before_new());
                let ended = epoch.next(view);
                epoch.use_up(ended);
                given.extend([view.index, ended.index]);
            }
            let first = epoch.zero.index + 1;
            assert_eq!(given, [last - 1, last, first, first + 1, first + 2, first + 3]);
        }
    }
}
