//! Daemons that are heard and have another configuration: each is told what this one's is, and
//! what it tells of its own is compared, so that both logs can name what differs.
//!
//! Anybody can send packets in anybody's name, so what one address can cause is bounded in time,
//! and so is the number of addresses.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::limits::{
    IDENTITY_GRACE, IDENTITY_SPEAK_INTERVAL, IDENTITY_TELL_INTERVAL, STRANGERS_MAX,
};
use crate::base::{Counter, Event, Instant, Rank, Store, Tally};
use crate::config::Identity;
use crate::wire::header::{self, Envelope, PacketKind};

/// Whoever sends packets of another cluster.
pub(super) struct Strangers<B> {
    identity: Identity,
    me: Rank,
    /// This daemon's own places, whose packets may come back by multicast.
    own: Vec<SocketAddr>,
    /// Where the other daemons of this cluster are.
    known: Vec<SocketAddr>,
    heard: Vec<Stranger>,
    answers: VecDeque<(SocketAddr, B)>,
    events: VecDeque<Event>,
    tally: Tally,
}

/// A sender of such packets.
struct Stranger {
    address: SocketAddr,
    /// It is where a daemon of this cluster is.
    is_known: bool,
    /// Since when it is heard without a long pause, and when it was heard last.
    heard: (Instant, Instant),
    spoken_at: Option<Instant>,
    /// When something was told of it last, and of which cluster it was.
    told: Option<(Instant, u64)>,
}

impl Stranger {
    fn hear(&mut self, now: Instant) {
        let (since, last) = self.heard;
        let is_over = now.since(last) >= IDENTITY_SPEAK_INTERVAL;
        self.heard = (if is_over { now } else { since }, now);
    }

    /// Whether something may be told of it, as one of `cluster`.
    fn may_tell(&self, now: Instant, cluster: u64) -> bool {
        self.told.is_none_or(|(at, known)| {
            let is_same = known == cluster;
            now.since(at) >= if is_same { IDENTITY_TELL_INTERVAL } else { IDENTITY_SPEAK_INTERVAL }
        })
    }

    /// Whether it is heard for so long that this is no matter of files that are just being changed.
    fn lasts(&self) -> bool {
        let (since, last) = self.heard;
        last.since(since) >= IDENTITY_GRACE
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        is_due(now, self.spoken_at, IDENTITY_SPEAK_INTERVAL)
            && is_due(now, self.told.map(|(at, _)| at), IDENTITY_TELL_INTERVAL)
    }
}

/// Whether something may be done again that was done last at `last`.
fn is_due(now: Instant, last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| now.since(last) >= interval)
}

impl<B> Strangers<B> {
    /// For the daemon of rank `me`, which receives at `own`; the others of its cluster at `known`.
    pub(super) fn new(
        identity: Identity,
        me: Rank,
        own: Vec<SocketAddr>,
        known: Vec<SocketAddr>,
    ) -> Self {
        Self {
            identity,
            me,
            own,
            known,
            heard: Vec::new(),
            answers: VecDeque::new(),
            events: VecDeque::new(),
            tally: Tally::new(),
        }
    }

    /// Goes over to another configuration.
    pub(super) fn replace(&mut self, new: Self) {
        let mut tally = std::mem::take(&mut self.tally);
        tally.absorb(&new.tally);
        *self = Self { tally, ..new };
    }

    /// Looks at a packet that came from `from`.
    pub(super) fn hear<S: Store<Buffer = B>>(
        &mut self,
        now: Instant,
        from: Option<SocketAddr>,
        packet: &[u8],
        store: &mut S,
    ) {
        // Of nearly all packets this is all that is looked at.
        let Some(cluster) = header::cluster(packet) else { return };
        if cluster != self.identity.hash
            && let Some(from) = from.filter(|from| !self.own.contains(from))
        {
            self.meet(now, from, cluster, packet, store);
        }
    }

    #[cold]
    fn meet<S: Store<Buffer = B>>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        cluster: u64,
        packet: &[u8],
        store: &mut S,
    ) {
        let Some(index) = self.find(now, from) else { return };
        let may_speak = is_due(now, self.heard[index].spoken_at, IDENTITY_SPEAK_INTERVAL);
        let may_tell = self.heard[index].may_tell(now, cluster);
        if !may_speak && !may_tell {
            return;
        }
        let Ok((kind, rank, body)) = header::open(cluster, packet) else { return };
        let is_identity = kind == PacketKind::Identity;
        let stranger = &mut self.heard[index];
        stranger.hear(now);
        // Who is not of this cluster has to look for it.
        let looks = stranger.is_known || matches!(kind, PacketKind::Join | PacketKind::Presence);
        // Who tells us has waited long enough.
        if may_speak && (is_identity || looks && stranger.lasts()) {
            self.heard[index].spoken_at = Some(now);
            self.speak(from, store);
        }
        // One that says nothing asks for ours.
        if may_tell && is_identity && !body.is_empty() {
            // Also where it makes no sense: that was looked at, too.
            self.heard[index].told = Some((now, cluster));
            self.tell(from, cluster, rank, body);
        }
    }

    /// What is known of the sender; none where there are too many of them.
    fn find(&mut self, now: Instant, from: SocketAddr) -> Option<usize> {
        if let Some(index) = self.heard.iter().position(|stranger| stranger.address == from) {
            return Some(index);
        }
        let is_known = self.known.contains(&from);
        let strangers = |heard: &[Stranger]| heard.iter().filter(|it| !it.is_known).count();
        if !is_known && strangers(&self.heard) >= STRANGERS_MAX {
            self.heard.retain(|stranger| stranger.is_known || !stranger.is_forgotten(now));
            if strangers(&self.heard) >= STRANGERS_MAX {
                return None;
            }
        }
        let stranger =
            Stranger { address: from, is_known, heard: (now, now), spoken_at: None, told: None };
        self.heard.push(stranger);
        Some(self.heard.len() - 1)
    }

    /// Lets `to` know what this daemon's cluster is.
    fn speak<S: Store<Buffer = B>>(&mut self, to: SocketAddr, store: &mut S) {
        let envelope = Envelope { cluster: self.identity.hash, sender: self.me };
        let body = self.identity.encode();
        let fill = |into: &mut [u8]| into.copy_from_slice(&body);
        let Some(packet) = envelope.seal(store, PacketKind::Identity, body.len(), fill) else {
            return self.tally.count(Counter::PoolExhausted);
        };
        self.tally.count(Counter::IdentitiesSent);
        self.answers.push_back((to, packet));
    }

    /// Compares what `from` says of its cluster.
    fn tell(&mut self, from: SocketAddr, cluster: u64, rank: Rank, body: &[u8]) {
        let Some(there) = Identity::parse(body).filter(|it| it.hash == cluster) else { return };
        let Some(daemon) = there.name(rank) else { return };
        self.tally.count(Counter::IdentitiesReceived);
        let differences = Identity::diff(&self.identity, &there);
        self.events.push_back(Event::ClusterDiffers { daemon, address: from, differences });
    }

    /// The next packet to send, and where to.
    pub(super) fn poll_answer(&mut self) -> Option<(SocketAddr, B)> {
        self.answers.pop_front()
    }

    /// The next thing to tell the operator.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::buffer::{Heap, HeapBuffer};
    use crate::base::limits::DAEMONS_MAX;
    use crate::config::{Config, Who};
    use crate::sim::rng::Rng;
    use std::path::Path;

    /// Of a cluster with these daemons.
    fn identity(daemons: &[&str]) -> Identity {
        let list = daemons.iter().map(|daemon| format!("\"{daemon}\"")).collect::<Vec<_>>();
        let text = format!("[cluster]\ndaemons = [{}]", list.join(", "));
        Config::parse(&text, Path::new("test.toml"), Who::Anyone).unwrap().cluster.identity()
    }

    fn here() -> Identity {
        identity(&["a 10.0.0.1", "b 10.0.0.2"])
    }

    fn there() -> Identity {
        identity(&["a 10.0.0.1", "b 10.0.0.2", "c 10.0.0.3"])
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn strangers() -> Strangers<HeapBuffer> {
        let (own, known) = (vec![at("10.0.0.1:4803")], vec![at("10.0.0.2:4803")]);
        Strangers::new(here(), Rank::new(0).unwrap(), own, known)
    }

    fn sealed(cluster: u64, kind: PacketKind, body: &[u8]) -> HeapBuffer {
        let envelope = Envelope { cluster, sender: Rank::new(2).unwrap() };
        let fill = |into: &mut [u8]| into.copy_from_slice(body);
        envelope.seal(&mut Heap, kind, body.len(), fill).unwrap()
    }

    fn second(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(1_000 + second)
    }

    /// How many answers a packet causes.
    fn answers(
        strangers: &mut Strangers<HeapBuffer>,
        now: Instant,
        from: &str,
        packet: &HeapBuffer,
    ) -> usize {
        strangers.hear(now, Some(at(from)), packet.as_ref(), &mut Heap);
        std::iter::from_fn(|| strangers.poll_answer()).count()
    }

    #[test]
    fn both_learn_what_differs_and_then_are_silent() {
        let mut a = strangers();
        let (own, known) = (vec![at("10.0.0.3:4803")], vec![at("10.0.0.1:4803")]);
        let mut c = Strangers::new(there(), Rank::new(2).unwrap(), own, known);
        let presence = sealed(there().hash, PacketKind::Presence, b"whatever");
        a.hear(second(0), Some(at("10.0.0.3:4803")), presence.as_ref(), &mut Heap);
        assert!(a.poll_answer().is_none(), "files may be about to be changed");
        a.hear(second(1), Some(at("10.0.0.3:4803")), presence.as_ref(), &mut Heap);
        let (to, packet) = a.poll_answer().unwrap();
        assert_eq!(to, at("10.0.0.3:4803"));
        c.hear(second(1), Some(at("10.0.0.1:4803")), packet.as_ref(), &mut Heap);
        let (to, packet) = c.poll_answer().unwrap();
        assert_eq!(to, at("10.0.0.1:4803"));
        a.hear(second(1), Some(at("10.0.0.3:4803")), packet.as_ref(), &mut Heap);
        assert!(a.poll_answer().is_none());
        for (one, name, says) in [(&mut a, "c", "none here, 10.0.0.3"), (&mut c, "a", "none there")]
        {
            let Some(Event::ClusterDiffers { daemon, differences, .. }) = one.poll_event() else {
                panic!("nothing was told")
            };
            assert_eq!(daemon.as_str(), name);
            assert_eq!(differences.len(), 1);
            assert!(differences[0].starts_with("daemon c: ") && differences[0].contains(says));
            assert!(one.poll_event().is_none());
            assert_eq!(one.tally().get(Counter::IdentitiesSent), 1);
            assert_eq!(one.tally().get(Counter::IdentitiesReceived), 1);
        }
    }

    #[test]
    fn who_asks_is_answered_at_once_and_what_it_says_then_is_told() {
        let mut a = strangers();
        let question = sealed(there().hash, PacketKind::Identity, b"");
        assert_eq!(answers(&mut a, second(0), "10.0.0.2:4803", &question), 1);
        assert!(a.poll_event().is_none());
        let says = sealed(there().hash, PacketKind::Identity, &there().encode());
        assert_eq!(answers(&mut a, second(0), "10.0.0.2:4803", &says), 0);
        assert!(matches!(a.poll_event(), Some(Event::ClusterDiffers { .. })));
    }

    #[test]
    fn an_address_is_answered_once_in_a_while() {
        let mut strangers = strangers();
        let join = sealed(7, PacketKind::Join, b"");
        let mut all = 0;
        for second_of_run in 0..30 {
            for _ in 0..100 {
                all += answers(&mut strangers, second(second_of_run), "10.9.9.9:5", &join);
            }
        }
        assert_eq!(all, 3);
    }

    #[test]
    fn an_identity_is_told_once_in_a_while() {
        let mut strangers = strangers();
        let packet = sealed(there().hash, PacketKind::Identity, &there().encode());
        for second_of_run in 0..120 {
            answers(&mut strangers, second(second_of_run), "10.0.0.2:4803", &packet);
        }
        assert_eq!(std::iter::from_fn(|| strangers.poll_event()).count(), 2);
        // It has another file now.
        let other = identity(&["b 10.0.0.2"]);
        let envelope = Envelope { cluster: other.hash, sender: Rank::new(0).unwrap() };
        let body = other.encode();
        let fill = |into: &mut [u8]| into.copy_from_slice(&body);
        let packet = envelope.seal(&mut Heap, PacketKind::Identity, body.len(), fill).unwrap();
        for second_of_run in 120..150 {
            answers(&mut strangers, second(second_of_run), "10.0.0.2:4803", &packet);
        }
        assert_eq!(std::iter::from_fn(|| strangers.poll_event()).count(), 1);
    }

    #[test]
    fn of_many_addresses_few_are_answered_and_those_of_the_cluster_always() {
        let mut strangers = strangers();
        let join = sealed(7, PacketKind::Join, b"");
        let crowd = |strangers: &mut Strangers<HeapBuffer>, now| {
            let port = |port: u16| format!("10.9.9.9:{port}");
            (1..2_000).map(|it| answers(strangers, now, &port(it), &join)).sum::<usize>()
        };
        // Each by itself, as they would push each other out.
        let port = |port: u16| format!("10.9.9.9:{port}");
        let mut all = 0;
        for number in 1..100 {
            for moment in [second(0), second(1), second(2)] {
                all += answers(&mut strangers, moment, &port(number), &join);
            }
        }
        assert_eq!(all, STRANGERS_MAX);
        assert_eq!(answers(&mut strangers, second(0), "10.0.0.2:4803", &join), 0);
        assert_eq!(answers(&mut strangers, second(1), "10.0.0.2:4803", &join), 1);
        assert!(strangers.heard.len() <= STRANGERS_MAX + 2 * DAEMONS_MAX);
        assert_eq!(crowd(&mut strangers, second(9)), 0);
        // A crowd of which each is heard once is none to talk to.
        assert_eq!(crowd(&mut strangers, second(60)), 0);
        assert!(strangers.heard.len() <= STRANGERS_MAX + 2 * DAEMONS_MAX);
    }

    #[test]
    fn only_who_looks_for_a_ring_or_belongs_to_it_is_answered() {
        // The second of two, the first of which began it.
        let answers = |strangers: &mut Strangers<HeapBuffer>, now, from, packet: &HeapBuffer| {
            answers(strangers, second(0), from, packet) + answers(strangers, now, from, packet)
        };
        for kind in PacketKind::ALL {
            let packet = sealed(7, kind, b"12345678");
            let looks =
                matches!(kind, PacketKind::Join | PacketKind::Presence | PacketKind::Identity);
            let stranger = answers(&mut strangers(), second(1), "10.9.9.9:5", &packet);
            assert_eq!(stranger, usize::from(looks), "{kind:?}");
            assert_eq!(answers(&mut strangers(), second(1), "10.0.0.2:4803", &packet), 1);
            // What comes back from the multicast group, and what is of this cluster.
            assert_eq!(answers(&mut strangers(), second(1), "10.0.0.1:4803", &packet), 0);
            let own = sealed(here().hash, kind, b"12345678");
            assert_eq!(answers(&mut strangers(), second(1), "10.9.9.9:5", &own), 0);
        }
    }

    /// Damaged ones, lies, and bytes of chance: nothing is answered or told that should not be.
    #[test]
    fn whatever_comes_does_no_harm() {
        let identity = there().encode();
        let mut random = Rng::new(3);
        for round in 0..4_000_u64 {
            let mut strangers = strangers();
            let mut body = identity.clone();
            for _ in 0..random.below(4) {
                let at = random.index(body.len());
                body[at] = random.bits() as u8;
            }
            body.truncate(if random.chance(200) { random.index(body.len()) } else { usize::MAX });
            // With the right checksum; mostly the hash is that of other bytes.
            let packet = sealed(there().hash, PacketKind::Identity, &body);
            let mut packet = packet.as_ref().to_vec();
            let is_damaged = random.chance(300);
            if is_damaged {
                let at = random.index(packet.len());
                packet[at] ^= 1 << random.below(8);
            }
            strangers.hear(second(round), Some(at("10.9.9.9:5")), &packet, &mut Heap);
            let (told, answered) = (strangers.poll_event(), strangers.poll_answer());
            assert_eq!(told.is_some(), !is_damaged && body == identity);
            assert_eq!(answered.is_some(), !is_damaged);
        }
    }
}
