//! The network between daemons: who hears whom, what is lost, and when the rest arrives.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::Instant;
use crate::base::buffer::{Buffer, HeapBuffer};

use super::core::{Channel, KINDS};
use super::rng::Rng;

/// Old datagrams of each kind kept to be sent again.
const RECORDED_MAX: usize = 64;

/// Datagrams of a kind of which each is kept; of later ones a few, by lot.
const RECORDED_FIRST: u64 = 1_000;

/// What happens to datagrams, in per mille of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weather {
    /// Lost, whatever they are.
    pub drop: u32,
    /// Lost at one receiver of a multicast.
    pub drop_multicast: u32,
    /// Lost on the token's socket.
    pub drop_token: u32,
    /// Bursts that lose their tail: the rest of the datagrams that a daemon sends in one turn.
    pub drop_tail: u32,
    /// Arrive twice.
    pub duplicate: u32,
    /// Take an extra while, so that later ones overtake them.
    pub reorder: u32,
    /// Arrive with wrong bits.
    pub corrupt: u32,
    /// Arrive short.
    pub truncate: u32,
    /// Nanoseconds on the way: shortest, and the jitter on top.
    pub latency_ns: (u64, u64),
    /// Nanoseconds that everything but the token takes on top.
    pub data_late_ns: u64,
    /// Nanoseconds that a reordered datagram takes in addition, at most.
    pub reorder_ns: u64,
    /// Room of each receive buffer.
    pub buffer_bytes: usize,
    /// Nanoseconds that a daemon works on one datagram.
    pub work_ns: u64,
}

impl Weather {
    /// A quiet LAN: nothing is lost.
    pub const FAIR: Self = Self {
        drop: 0,
        drop_multicast: 0,
        drop_token: 0,
        drop_tail: 0,
        duplicate: 0,
        reorder: 0,
        corrupt: 0,
        truncate: 0,
        latency_ns: (20_000, 10_000),
        data_late_ns: 0,
        reorder_ns: 0,
        buffer_bytes: 4 << 20,
        work_ns: 1_000,
    };

    /// Weather of some kind: fair, bad in one way, or bad in several.
    pub fn random(rng: &mut Rng) -> Self {
        let mut weather = Self {
            latency_ns: (rng.within(5_000..100_000), rng.within(1..100_000)),
            reorder_ns: rng.within(50_000..5_000_000),
            work_ns: rng.within(200..5_000),
            ..Self::FAIR
        };
        for _ in 0..rng.below(4) {
            let often = *rng.pick(&[1, 5, 20, 100]);
            match rng.below(10) {
                0 => weather.drop = often,
                1 => weather.drop_multicast = often * 2,
                2 => weather.drop_token = often * 2,
                3 => weather.drop_tail = often,
                4 => weather.duplicate = often * 2,
                5 => weather.reorder = often * 2,
                6 => weather.corrupt = often,
                7 => weather.truncate = often,
                8 => weather.data_late_ns = rng.within(10_000..2_000_000),
                _ => weather.buffer_bytes = rng.within(4_000..60_000) as usize,
            }
        }
        weather
    }
}

/// One way that a datagram takes.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Index of the sender.
    pub from: usize,
    /// Index of the receiver.
    pub to: usize,
    /// Socket.
    pub channel: Channel,
    /// Whether it goes to others too.
    pub multicast: bool,
}

/// A datagram at its receiver's.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// When.
    pub at: Instant,
    /// With what content.
    pub bytes: HeapBuffer,
    /// Whether it is what was sent.
    pub intact: bool,
}

/// Old datagrams of one kind.
#[derive(Clone, Default)]
struct Recorded {
    /// How many there were.
    seen: u64,
    kept: VecDeque<(Channel, HeapBuffer)>,
}

/// The network.
pub struct Network {
    /// Weather from now on.
    pub weather: Weather,
    /// `links[from][to]`: whether `to` hears `from`.
    links: Vec<Vec<bool>>,
    /// From where to where tokens are refused.
    rejected: Vec<(usize, usize)>,
    /// Whose multicasts reach nobody.
    hushed: Vec<usize>,
    /// By kind, with how many there were: rare ones are not to drown in data.
    recorded: Vec<Recorded>,
    rng: Rng,
}

impl Network {
    /// A network where everybody hears everybody.
    pub fn new(daemons: usize, weather: Weather, rng: Rng) -> Self {
        let links = vec![vec![true; daemons]; daemons];
        let recorded = vec![Recorded::default(); KINDS];
        Self { weather, links, rejected: Vec::new(), hushed: Vec::new(), recorded, rng }
    }

    /// Lets everybody hear everybody.
    pub fn heal(&mut self) {
        self.links.iter_mut().flatten().for_each(|link| *link = true);
        self.rejected.clear();
        self.hushed.clear();
    }

    /// Cuts the network into parts: `part[i]` is the one of daemon `i`.
    pub fn partition(&mut self, part: &[usize]) {
        for (from, links) in self.links.iter_mut().enumerate() {
            for (to, link) in links.iter_mut().enumerate() {
                *link = part[from] == part[to];
            }
        }
    }

    /// Makes or cuts one direction of a link.
    pub fn set_link(&mut self, from: usize, to: usize, up: bool) {
        self.links[from][to] = up;
    }

    /// Has tokens from one machine to another refused, or takes them.
    pub fn set_rejected(&mut self, from: usize, to: usize, is_rejected: bool) {
        self.rejected.retain(|link| *link != (from, to));
        if is_rejected {
            self.rejected.push((from, to));
        }
    }

    /// Loses what `host` sends to all, or no more.
    pub fn set_hushed(&mut self, host: usize, is_hushed: bool) {
        self.hushed.retain(|hushed| *hushed != host);
        if is_hushed {
            self.hushed.push(host);
        }
    }

    /// Whether what takes this way is refused.
    pub fn rejects(&self, route: Route) -> bool {
        route.channel == Channel::Token && self.rejected.contains(&(route.from, route.to))
    }

    /// Whether `to` hears `from`.
    pub fn hears(&self, from: usize, to: usize) -> bool {
        self.links[from][to]
    }

    /// Whether a burst loses its rest now.
    pub fn cuts_tail(&mut self) -> bool {
        self.rng.chance(self.weather.drop_tail)
    }

    /// What becomes of a datagram.
    pub fn carry(&mut self, now: Instant, route: Route, bytes: &HeapBuffer) -> Vec<Arrival> {
        let weather = &self.weather;
        if !self.links[route.from][route.to] || self.rejects(route) {
            return Vec::new();
        }
        let lost = self.rng.chance(weather.drop)
            || (route.multicast && self.hushed.contains(&route.from))
            || (route.multicast && self.rng.chance(weather.drop_multicast))
            || (route.channel == Channel::Token && self.rng.chance(weather.drop_token));
        if lost {
            return Vec::new();
        }
        let copies = 1 + usize::from(self.rng.chance(weather.duplicate));
        (0..copies).map(|_| self.arrival(now, route.channel, bytes)).collect()
    }

    fn arrival(&mut self, now: Instant, channel: Channel, bytes: &HeapBuffer) -> Arrival {
        let weather = &self.weather;
        let rng = &mut self.rng;
        let mut nanos = weather.latency_ns.0 + rng.below(weather.latency_ns.1.max(1));
        if channel == Channel::Data {
            nanos += weather.data_late_ns;
        }
        if rng.chance(weather.reorder) {
            nanos += rng.below(weather.reorder_ns.max(1));
        }
        let at = now + Duration::from_nanos(nanos);
        let mut intact = true;
        let mut bytes = bytes.clone();
        if rng.chance(weather.corrupt) && !bytes.as_ref().is_empty() {
            let mut wrong = bytes.as_ref().to_vec();
            for _ in 0..rng.within(1..4) {
                wrong[rng.index(bytes.as_ref().len())] ^= 1 << rng.below(8);
            }
            intact = wrong == bytes.as_ref();
            bytes = wrong.into();
        }
        if rng.chance(weather.truncate) && !bytes.as_ref().is_empty() {
            bytes.truncate(rng.index(bytes.as_ref().len()));
            intact = false;
        }
        Arrival { at, bytes, intact }
    }

    /// Keeps a datagram of some kind, now and then, to be sent again much later.
    pub fn record(&mut self, kind: usize, channel: Channel, bytes: &HeapBuffer) {
        let recorded = &mut self.recorded[kind];
        recorded.seen += 1;
        if recorded.seen < RECORDED_FIRST || self.rng.chance(50) {
            if recorded.kept.len() == RECORDED_MAX {
                recorded.kept.swap_remove_back(self.rng.index(RECORDED_MAX));
            }
            recorded.kept.push_back((channel, bytes.clone()));
        }
    }

    /// An old datagram, if one was kept: of each kind as often.
    pub fn recall(&mut self) -> Option<(Channel, HeapBuffer)> {
        let kinds: Vec<usize> = (0..KINDS).filter(|kind| self.has_kept(*kind)).collect();
        let kind = *kinds.get(self.rng.index(kinds.len().max(1)))?;
        self.recall_of(kind)
    }

    /// An old datagram of this kind, if one was kept.
    pub fn recall_of(&mut self, kind: usize) -> Option<(Channel, HeapBuffer)> {
        let kept = &self.recorded[kind].kept;
        let which = self.rng.index(kept.len().max(1));
        kept.get(which).cloned()
    }

    fn has_kept(&self, kind: usize) -> bool {
        !self.recorded[kind].kept.is_empty()
    }

    /// A datagram of a stranger: noise.
    pub fn stranger(&mut self) -> (Channel, HeapBuffer) {
        let channel = *self.rng.pick(&[Channel::Data, Channel::Token]);
        let len = self.rng.index(200);
        let bytes: Vec<u8> = (0..len).map(|_| self.rng.bits() as u8).collect();
        (channel, bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(weather: Weather) -> Network {
        Network::new(3, weather, Rng::new(1))
    }

    fn carried(network: &mut Network, channel: Channel, multicast: bool) -> Vec<Arrival> {
        let bytes: HeapBuffer = vec![7; 100].into();
        let route = Route { from: 0, to: 1, channel, multicast };
        (0..1_000).flat_map(|_| network.carry(Instant::ZERO, route, &bytes)).collect()
    }

    #[test]
    fn fair_weather_loses_nothing() {
        let arrivals = carried(&mut network(Weather::FAIR), Channel::Data, true);
        assert_eq!(arrivals.len(), 1_000);
        assert!(
            arrivals.iter().all(|arrival| arrival.intact && arrival.bytes.as_ref().len() == 100)
        );
    }

    #[test]
    fn each_kind_of_loss_hits_what_it_names() {
        let tokens = Weather { drop_token: 1_000, ..Weather::FAIR };
        assert!(carried(&mut network(tokens.clone()), Channel::Token, false).is_empty());
        assert_eq!(carried(&mut network(tokens), Channel::Data, false).len(), 1_000);
        let multicasts = Weather { drop_multicast: 1_000, ..Weather::FAIR };
        assert!(carried(&mut network(multicasts.clone()), Channel::Data, true).is_empty());
        assert_eq!(carried(&mut network(multicasts), Channel::Data, false).len(), 1_000);
        let mut hushed = network(Weather::FAIR);
        hushed.set_hushed(0, true);
        assert!(carried(&mut hushed, Channel::Data, true).is_empty());
        assert_eq!(carried(&mut hushed, Channel::Token, false).len(), 1_000);
        hushed.set_hushed(0, false);
        assert_eq!(carried(&mut hushed, Channel::Data, true).len(), 1_000);
        let twice = Weather { duplicate: 1_000, ..Weather::FAIR };
        assert_eq!(carried(&mut network(twice), Channel::Data, false).len(), 2_000);
        let wrong = Weather { corrupt: 1_000, truncate: 500, ..Weather::FAIR };
        let arrivals = carried(&mut network(wrong), Channel::Data, false);
        assert!(arrivals.iter().filter(|arrival| !arrival.intact).count() > 900);
        assert!(arrivals.iter().any(|arrival| arrival.bytes.as_ref().len() < 100));
    }

    #[test]
    fn links_are_cut_one_way_and_by_parts() {
        let mut network = network(Weather::FAIR);
        network.set_link(0, 1, false);
        assert!(carried(&mut network, Channel::Data, false).is_empty());
        assert!(network.hears(1, 0));
        network.partition(&[0, 0, 1]);
        assert!(network.hears(0, 1) && !network.hears(0, 2) && !network.hears(2, 1));
        network.heal();
        assert!(network.hears(0, 2));
    }
}
