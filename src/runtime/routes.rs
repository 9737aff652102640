//! Where packets to all go: to the group of the own segment, and to others by unicast.
//!
//! Data, which is nearly everything under load, crosses to another segment once: the first daemon
//! of the ring there is its relay, and sends it on. All else goes to each daemon itself: it is what
//! rings are formed by, so it must not depend on one. Daemons of a ring agree on who relays, and
//! where they do not, as a ring comes or goes, packets are missed and repeated like any others.

use std::net::SocketAddr;

use crate::base::{DaemonSet, Rank, RingId};
use crate::sys::datagram::Destination;

/// Where a daemon is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) segment: usize,
    /// Where it takes data.
    pub(super) data: SocketAddr,
}

/// The ways of one daemon.
pub(super) struct Routes {
    me: Rank,
    /// All daemons of the cluster by rank.
    spots: Vec<Spot>,
    /// Where the own segment meets.
    group: Option<SocketAddr>,
    /// Whom data goes to, and for whom this daemon is the relay. None before there is a ring.
    ring: Option<(RingId, Ways)>,
    everybody: Vec<Destination>,
}

#[derive(Default)]
struct Ways {
    data: Vec<Destination>,
    /// Nothing where it is no relay.
    relayed: Vec<Destination>,
}

impl Routes {
    pub(super) fn new(me: Rank, spots: Vec<Spot>, group: Option<SocketAddr>) -> Self {
        let mut this = Self { me, spots, group, ring: None, everybody: Vec::new() };
        let all = DaemonSet::first_ranks(this.spots.len());
        let others = all.iter().filter(|&rank| this.segment(rank) != this.segment(me));
        let beyond: Vec<Destination> = others.map(|rank| this.data(rank)).collect();
        this.everybody = this.nearby(all);
        this.everybody.extend(beyond);
        this
    }

    /// Goes over to another ring. `false`: it is the same.
    pub(super) fn follow(&mut self, ring: RingId, members: DaemonSet) -> bool {
        let is_new = self.ring.as_ref().is_none_or(|(current, _)| *current != ring);
        if is_new {
            self.ring = Some((ring, self.ways(members)));
        }
        is_new
    }

    /// Whom packets to all go to.
    pub(super) fn to_all(&self, is_data: bool) -> &[Destination] {
        match &self.ring {
            Some((_, ways)) if is_data => &ways.data,
            _ => &self.everybody,
        }
    }

    /// Whom data goes to that came from another segment for this daemon to relay.
    pub(super) fn relayed(&self) -> &[Destination] {
        self.ring.as_ref().map_or(&[], |(_, ways)| &ways.relayed)
    }

    /// Whether this daemon has to relay what it gets from there.
    pub(super) fn relays(&self, from: SocketAddr) -> bool {
        let own = self.segment(self.me);
        let is_there = |spot: &Spot| spot.data == from && Some(spot.segment) != own;
        !self.relayed().is_empty() && self.spots.iter().any(is_there)
    }

    fn segment(&self, rank: Rank) -> Option<usize> {
        self.spots.get(rank.index()).map(|spot| spot.segment)
    }

    fn data(&self, rank: Rank) -> Destination {
        self.spots[rank.index()].data.into()
    }

    /// Those of `members` in the own segment, but this one.
    fn nearby(&self, members: DaemonSet) -> Vec<Destination> {
        let own = self.segment(self.me);
        let others = members.iter().filter(|&rank| rank != self.me && self.segment(rank) == own);
        match self.group {
            Some(group) => others.take(1).map(|_| group.into()).collect(),
            None => others.map(|rank| self.data(rank)).collect(),
        }
    }

    fn ways(&self, members: DaemonSet) -> Ways {
        // A ring of another configuration than this one's is one of this daemon alone.
        let members = members.intersection(DaemonSet::first_ranks(self.spots.len()));
        let own = self.segment(self.me);
        let first_of = |segment| members.iter().find(|&rank| self.segment(rank) == Some(segment));
        let segments = 0..=self.spots.iter().map(|spot| spot.segment).max().unwrap_or(0);
        let beyond = segments.filter(|&segment| Some(segment) != own).filter_map(first_of);
        let relays: Vec<Destination> = beyond.map(|rank| self.data(rank)).collect();
        let nearby = self.nearby(members);
        let is_relay = own.and_then(first_of) == Some(self.me) && !relays.is_empty();
        let relayed = if is_relay { nearby.clone() } else { Vec::new() };
        Ways { data: nearby.into_iter().chain(relays).collect(), relayed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::DaemonId;

    const GROUP: &str = "239.77.0.1:4803";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn rank(index: usize) -> Rank {
        Rank::new(index).unwrap()
    }

    fn set(ranks: &[usize]) -> DaemonSet {
        ranks.iter().map(|&index| rank(index)).collect()
    }

    fn ring(number: u64) -> RingId {
        RingId { number, leader: DaemonId::new(1) }
    }

    fn place(index: usize) -> SocketAddr {
        at(&format!("10.0.0.{index}:4803"))
    }

    /// Of daemons 0 and 1 in one segment, 2, 3 and 4 in the next, and 5 alone.
    fn routes(me: usize, group: Option<&str>) -> Routes {
        let segments = [0, 0, 1, 1, 1, 2].into_iter().enumerate();
        let spots = segments.map(|(index, segment)| Spot { segment, data: place(index) });
        Routes::new(rank(me), spots.collect(), group.map(at))
    }

    fn addresses(destinations: &[Destination]) -> Vec<SocketAddr> {
        destinations.iter().map(|it| it.address().unwrap()).collect()
    }

    #[test]
    fn before_there_is_a_ring_everybody_gets_a_copy() {
        let routes = routes(3, Some(GROUP));
        let all = [at(GROUP), place(0), place(1), place(5)];
        assert_eq!(addresses(routes.to_all(false)), all);
        assert_eq!(addresses(routes.to_all(true)), all);
        assert!(!routes.relays(place(0)));
    }

    #[test]
    fn data_crosses_to_each_segment_once() {
        let mut routes = routes(3, Some(GROUP));
        routes.follow(ring(1), set(&[0, 1, 2, 3, 4, 5]));
        assert_eq!(addresses(routes.to_all(true)), [at(GROUP), place(0), place(5)]);
        assert_eq!(routes.to_all(false).len(), 4);
        // Daemon 2 is the relay of the segment.
        assert!(!routes.relays(place(0)));
        routes.follow(ring(2), set(&[1, 3, 4]));
        assert_eq!(addresses(routes.to_all(true)), [at(GROUP), place(1)]);
        assert_eq!(addresses(routes.relayed()), [at(GROUP)]);
        assert!(routes.relays(place(0)) && routes.relays(place(5)));
        assert!(!routes.relays(place(4)) && !routes.relays(at("10.9.9.9:4803")));
        // The same ring: nothing new is computed.
        routes.follow(ring(2), set(&[0, 1, 2, 3, 4, 5]));
        assert!(routes.relays(place(0)));
    }

    #[test]
    fn a_relay_without_a_group_sends_copies_to_its_segment() {
        let mut routes = routes(2, None);
        routes.follow(ring(1), set(&[0, 2, 3, 4]));
        assert_eq!(addresses(routes.to_all(true)), [place(3), place(4), place(0)]);
        assert_eq!(addresses(routes.relayed()), [place(3), place(4)]);
        assert_eq!(addresses(routes.to_all(false)).len(), 5);
    }

    #[test]
    fn who_is_alone_in_its_segment_or_in_the_ring_relays_nothing() {
        let mut routes = routes(5, Some(GROUP));
        routes.follow(ring(1), set(&[0, 1, 2, 3, 4, 5]));
        assert_eq!(addresses(routes.to_all(true)), [place(0), place(2)]);
        assert!(!routes.relays(place(0)));
        routes.follow(ring(2), set(&[5]));
        assert!(routes.to_all(true).is_empty());
        // A rank that is not configured here is of a ring that is over.
        routes.follow(ring(3), set(&[5, 9]));
        assert!(routes.to_all(true).is_empty());
    }

    /// Every member gets each packet from exactly one other: its sender, or its segment's relay.
    #[test]
    fn each_member_gets_one_copy() {
        for group in [None, Some(GROUP)] {
            for bits in 1..1_u128 << 6 {
                let members = DaemonSet::from_bits(bits);
                let mut all: Vec<Routes> = (0..6).map(|me| routes(me, group)).collect();
                all.iter_mut().for_each(|routes| assert!(routes.follow(ring(1), members)));
                for sender in members.iter() {
                    let mut copies = [0; 6];
                    let mut get = |near: Rank, destinations: &[Destination]| {
                        for to in addresses(destinations) {
                            let gets = |other: &Rank| {
                                let spot = |rank: Rank| all[0].spots[rank.index()];
                                let meets = to == at(GROUP)
                                    && spot(*other).segment == spot(near).segment
                                    && *other != near;
                                meets || spot(*other).data == to
                            };
                            members.iter().filter(gets).for_each(|to| copies[to.index()] += 1);
                        }
                    };
                    get(sender, all[sender.index()].to_all(true));
                    for relay in members.iter() {
                        if all[relay.index()].relays(place(sender.index())) {
                            get(relay, all[relay.index()].relayed());
                        }
                    }
                    let expected = |it: Rank| u32::from(members.contains(it) && it != sender);
                    assert_eq!(copies, [0, 1, 2, 3, 4, 5].map(|it| expected(rank(it))));
                }
            }
        }
    }
}
