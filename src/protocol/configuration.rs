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
/// Each ring has a series, and so have those who come into it together. No id is in two of them:
/// rings differ, those who come into one from different sides have different leaders, and both
/// kinds count in different ranges.
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

    /// That of those who come together into `ring`, `leader` the first of them.
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

    /// The id that follows `id`: one of this series, because others may have gone on from `id` with
    /// what was delivered to them alone before the ring ended.
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
        (id.daemon, id.time) == (self.zero.daemon, self.zero.time) && id.index >= self.zero.index
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

    fn ring(number: u64, leader: u32) -> RingId {
        RingId { number, leader: DaemonId::new(leader) }
    }

    #[test]
    fn nobody_counts_on_from_an_id_that_others_may_have_used() {
        // One daemon delivered the last join of the old ring, the other one never got it.
        let old = Epoch::of_ring(ring(7 << 20, 1));
        let common = old.next(old.before_new());
        let ahead = old.next(common);
        let behind = Epoch::of_ring(ring(8 << 20, 1)).next(common);
        assert_ne!(ahead, behind);
        // Who leads those who move on is the same, where they move is not.
        let one = Epoch::before_ring(ring(8 << 20, 1), DaemonId::new(2));
        let other = Epoch::before_ring(ring(9 << 20, 1), DaemonId::new(2));
        assert_ne!(one.next(common), other.next(common));
    }

    #[test]
    fn ids_of_groups_that_are_no_more_do_not_come_back() {
        let mut epoch = Epoch::of_ring(ring(7, 1));
        let last = epoch.next(epoch.next(epoch.before_new()));
        epoch.use_up(last);
        assert_eq!(epoch.next(epoch.before_new()).index, last.index + 1);
        epoch.use_up(GroupId { time: 0, index: 100, ..last });
        assert_eq!(epoch.before_new(), last);
    }

    #[test]
    fn rings_of_several_lives_have_different_times() {
        // The low bits of the number differ from life to life, the others count.
        let numbers = [1 << 20 | 5, 2 << 20 | 5, 1 << 20 | 6, (1 << 43) | 5, (1 << 43) | (1 << 20)];
        let mut times = numbers.map(|number| time(ring(number, 1)));
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
