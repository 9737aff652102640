//! Daemons by their place in the configured order, and sets of them.

use super::limits::DAEMONS_MAX;

/// A daemon's place in the order of the configuration file, from 0; the same at every daemon of a
/// cluster, because the cluster's identity covers the list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(u8);

impl Rank {
    /// The place `index`; `None` where no cluster has so many daemons.
    pub const fn new(index: usize) -> Option<Self> {
        if index < DAEMONS_MAX { Some(Self(index as u8)) } else { None }
    }

    /// As an index into a list of all daemons.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Debug for Rank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A set of daemons of one cluster.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct DaemonSet(u128);

// One bit for each daemon that a cluster may have.
const _: () = assert!(DAEMONS_MAX <= 128);

impl DaemonSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);

    /// One bit for each rank, the lowest for rank 0.
    pub const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }

    /// One bit for each rank, the lowest for rank 0.
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Just `rank`.
    pub const fn only(rank: Rank) -> Self {
        Self(1 << rank.0)
    }

    /// The first `count` daemons of the configured order.
    pub const fn first_ranks(count: usize) -> Self {
        if count >= DAEMONS_MAX { Self(u128::MAX) } else { Self((1 << count) - 1) }
    }

    /// Whether `rank` is in it.
    pub const fn contains(self, rank: Rank) -> bool {
        self.0 >> rank.0 & 1 != 0
    }

    /// Whether all of `other` is in it.
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// Adds `rank`.
    pub const fn insert(&mut self, rank: Rank) {
        self.0 |= 1 << rank.0;
    }

    /// Takes `rank` out.
    pub const fn remove(&mut self, rank: Rank) {
        self.0 &= !(1 << rank.0);
    }

    /// With `rank` in it.
    #[must_use]
    pub const fn with(self, rank: Rank) -> Self {
        Self(self.0 | 1 << rank.0)
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in it and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// How many.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether nobody is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first in the configured order.
    pub const fn first(self) -> Option<Rank> {
        if self.0 == 0 { None } else { Some(Rank(self.0.trailing_zeros() as u8)) }
    }

    /// Who comes behind `rank` in ring order: the next higher one, or again the first.
    ///
    /// `None` where nobody is in it.
    pub const fn successor(self, rank: Rank) -> Option<Rank> {
        let behind = if rank.0 == 127 { 0 } else { self.0 >> (rank.0 + 1) << (rank.0 + 1) };
        if behind == 0 { self.first() } else { Self(behind).first() }
    }

    /// All of it in the configured order.
    pub fn iter(self) -> Ranks {
        Ranks { rest: self }
    }
}

/// Daemons of a set in the configured order.
#[derive(Clone, Debug)]
pub struct Ranks {
    rest: DaemonSet,
}

impl Iterator for Ranks {
    type Item = Rank;

    fn next(&mut self) -> Option<Rank> {
        let first = self.rest.first()?;
        self.rest.remove(first);
        Some(first)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.rest.len(), Some(self.rest.len()))
    }
}

impl ExactSizeIterator for Ranks {}

impl FromIterator<Rank> for DaemonSet {
    fn from_iter<I: IntoIterator<Item = Rank>>(ranks: I) -> Self {
        ranks.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl std::fmt::Debug for DaemonSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(indices: &[usize]) -> DaemonSet {
        indices.iter().map(|&index| Rank::new(index).unwrap()).collect()
    }

    #[test]
    fn sets_know_their_daemons_in_order() {
        let some = set(&[127, 3, 0]);
        assert_eq!(some.iter().map(Rank::index).collect::<Vec<_>>(), [0, 3, 127]);
        assert_eq!(some.len(), 3);
        assert!(some.contains_all(set(&[3])) && !some.contains_all(set(&[3, 4])));
        assert_eq!(some.without(set(&[0, 5])), set(&[3, 127]));
        assert_eq!(DaemonSet::first_ranks(2), set(&[0, 1]));
        assert_eq!(DaemonSet::first_ranks(128).len(), 128);
        assert_eq!(Rank::new(128), None);
    }

    #[test]
    fn the_ring_closes() {
        let ring = set(&[1, 5, 127]);
        let next = |index| ring.successor(Rank::new(index).unwrap()).unwrap().index();
        assert_eq!(
            [next(0), next(1), next(2), next(5), next(126), next(127)],
            [1, 5, 5, 127, 127, 1]
        );
        assert_eq!(DaemonSet::EMPTY.successor(Rank::new(0).unwrap()), None);
    }
}
