//! The table of what each state does with each input, as a golden test: whoever changes a cell
//! changes it here too, and says why.

use std::fmt::Write;
use std::time::Duration;

use super::super::options::{Options, Setup};
use super::super::order::Order;
use super::super::output::{Channel, To};
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::{Counter, DaemonId, DaemonSet, Instant, Rank, RingId, Seq, Service, Store};
use crate::wire::commit::{Commit, Done, Exchange};
use crate::wire::data::{DataHeader, Part, emit_part_header};
use crate::wire::header::Envelope;
use crate::wire::join::{Contact, Goodbye, Join};
use crate::wire::list::List;
use crate::wire::packet::{Packet, parse};
use crate::wire::token::{
    Notice, Ranges, SeqRange, TokenHeader, TokenRequest, emit_repair_request,
};

mod rules;

const CLUSTER: u64 = 7;

fn rank(index: usize) -> Rank {
    Rank::new(index).unwrap()
}

fn from(index: usize) -> Envelope {
    Envelope { cluster: CLUSTER, sender: rank(index) }
}

fn id(index: usize) -> DaemonId {
    DaemonId::new(index as u32 + 1)
}

/// The ring that daemon `index` starts in.
fn first_ring(index: usize) -> RingId {
    RingId { number: (1 << 20) + index as u64, leader: id(index) }
}

/// Daemon 0 of four, of which 0 to 2 form a ring and 3 does not take part.
struct Daemon {
    order: Order<Heap>,
    now: Instant,
    serial: u64,
    /// The ring that is being formed, or is.
    ring: RingId,
}

fn ring_set() -> DaemonSet {
    DaemonSet::first_ranks(3)
}

impl Daemon {
    fn gathering() -> Self {
        Self::gathering_as(0)
    }

    /// The same as another of the four.
    fn gathering_as(index: usize) -> Self {
        let setup = Setup {
            me: id(index),
            daemons: (0..4).map(id).collect(),
            cluster: CLUSTER,
            incarnation: 1,
            seed: 0,
            options: Options::default(),
        };
        let order = Order::new(&setup, Instant::ZERO, &mut Heap);
        // Late enough that nobody who is silent is waited for.
        let now = Instant::ZERO + Duration::from_millis(400);
        Self { order, now, serial: 0, ring: first_ring(index) }
    }

    fn committing() -> Self {
        let mut daemon = Self::gathering();
        for index in 1..3 {
            let join = daemon.join(index, ring_set());
            daemon.take(&join);
        }
        // Joins that are here are looked at together.
        assert!(daemon.order.poll_timeout() <= Some(daemon.now));
        daemon.order.handle_timeout(daemon.now, &mut Heap);
        assert_eq!(daemon.order.state_name(), "commit");
        daemon.ring = daemon.transmitted().expect("the leader says what was agreed on");
        daemon
    }

    fn recovering() -> Self {
        let mut daemon = Self::committing();
        for index in 1..3 {
            let exchange = daemon.exchange(index);
            daemon.take(&exchange);
        }
        assert_eq!(daemon.order.state_name(), "recovery");
        daemon
    }

    fn operational() -> Self {
        let mut daemon = Self::recovering();
        for index in 1..3 {
            let done = daemon.done(index);
            daemon.take(&done);
        }
        assert_eq!(daemon.order.state_name(), "operational");
        daemon
    }

    /// The token rests with it.
    fn resting() -> Self {
        let mut daemon = Self::operational();
        let token = daemon.token(daemon.ring);
        daemon.take(&token);
        assert_eq!(daemon.order.tally().get(Counter::TokensParked), 1);
        while daemon.order.poll_transmit().is_some() {}
        daemon
    }

    fn stopped() -> Self {
        let mut daemon = Self::operational();
        daemon.order.handle_stop(daemon.now, &mut Heap);
        daemon
    }

    fn in_state(state: &str) -> Self {
        let mut daemon = match state {
            "installed" => Self::operational(),
            "resting" => Self::resting(),
            "gather" => Self::gathering(),
            "commit" => Self::committing(),
            "recovery" => Self::recovering(),
            "stopped" => Self::stopped(),
            past => Self::with_past(past),
        };
        while daemon.order.poll_transmit().is_some() {}
        while daemon.order.poll_output().is_some() {}
        daemon
    }

    fn with_past(past: &str) -> Self {
        let mut daemon = match past {
            "gather, all agree" => Self::second(),
            "gather, exchanges came" => {
                let mut daemon = Self::second();
                daemon.ring = ring_to_be();
                let exchanges = [0, 2].map(|index| daemon.exchange(index));
                exchanges.iter().for_each(|exchange| daemon.take(exchange));
                daemon
            }
            "commit, one is missing" => {
                let mut daemon = Self::committing();
                let exchange = daemon.exchange(2);
                daemon.take(&exchange);
                daemon
            }
            "recovery, one is missing" => {
                let mut daemon = Self::recovering();
                let done = daemon.done(2);
                daemon.take(&done);
                daemon
            }
            "gather from a ring" => {
                let mut daemon = Self::operational();
                daemon.input("goodbye");
                daemon
            }
            "commit from a ring" => Self::committing_again(),
            "recovery from a ring" => {
                let mut daemon = Self::committing_again();
                daemon.ring = daemon.transmitted().expect("it leads");
                let exchange = daemon.exchange(2);
                daemon.take(&exchange);
                daemon
            }
            other => panic!("no state {other}"),
        };
        let state = past.split([',', ' ']).next();
        assert_eq!(Some(daemon.order.state_name()), state);
        while daemon.order.poll_transmit().is_some() {}
        daemon
    }

    /// Of a ring of three one is gone, and the other two form the next.
    fn committing_again() -> Self {
        let mut daemon = Self::with_past("gather from a ring");
        let two = ring_set().without(DaemonSet::only(rank(1)));
        daemon.take_join(2, two, two);
        daemon.now = daemon.now + Options::default().failure_timeout;
        daemon.take_join(2, two, two);
        daemon.look();
        daemon
    }

    fn take(&mut self, packet: &HeapBuffer) {
        self.order.handle_packet(self.now, packet, &mut Heap);
    }

    /// The ring of the commit that was sent.
    fn transmitted(&mut self) -> Option<RingId> {
        let mut ring = None;
        while let Some(transmit) = self.order.poll_transmit() {
            if let Ok((_, Packet::Commit(commit))) = parse(CLUSTER, transmit.bytes.as_ref()) {
                ring = Some(commit.ring);
            }
        }
        ring
    }

    fn contact(&mut self, index: usize, ring: RingId, members: DaemonSet) -> Contact {
        self.serial += 1;
        Contact {
            incarnation: 1,
            serial: self.serial,
            ring,
            members,
            heard: DaemonSet::first_ranks(4),
            number_max: first_ring(index).number.max(ring.number),
        }
    }

    fn join(&mut self, index: usize, proposal: DaemonSet) -> HeapBuffer {
        let contact = self.contact(index, first_ring(index), DaemonSet::only(rank(index)));
        let joined = DaemonSet::first_ranks(4);
        Join { contact, joined, proposal, settled: true }.emit(from(index), &mut Heap).unwrap()
    }

    fn exchange(&self, index: usize) -> HeapBuffer {
        let exchange = Exchange {
            ring: self.ring,
            old_ring: first_ring(index),
            aru: Seq::ZERO,
            safe: Seq::ZERO,
            obliged: DaemonSet::EMPTY,
            seen: ring_set(),
            window: 8_192,
            held: &[],
        };
        exchange.emit(from(index), &mut Heap).unwrap()
    }

    fn done(&self, index: usize) -> HeapBuffer {
        let done = Done { ring: self.ring, seen: DaemonSet::only(rank(index)) };
        done.emit(from(index), &mut Heap).unwrap()
    }

    fn data(&self, ring: RingId) -> HeapBuffer {
        let (seq, safe) = (Seq::new(1), Seq::ZERO);
        let header = DataHeader { ring, seq, hop: 2, aru: seq, safe, keeper: None };
        let part = Part { service: Service::Agreed, first: true, last: true, start: 0, len: 0 };
        let fill = |into: &mut [u8]| emit_part_header(&part, into);
        header.emit(from(1), &mut Heap, 4, 4, fill).unwrap()
    }

    fn token(&self, ring: RingId) -> HeapBuffer {
        let header = TokenHeader {
            ring,
            hop: 4,
            to: rank(0),
            tour: 0,
            handed: false,
            seq: Seq::ZERO,
            flow: 0,
            repeated: 0,
        };
        header.emit([0; 3].into_iter(), &Ranges::default(), from(2), &mut Heap).unwrap()
    }

    fn repair_request(&self, ring: RingId) -> HeapBuffer {
        let mut missing = Ranges::default();
        assert!(missing.push(SeqRange { start: Seq::new(1), len: 1 }));
        emit_repair_request(ring, &missing, from(1), &mut Heap).unwrap()
    }

    fn presence(&mut self, index: usize, ring: RingId, members: DaemonSet) -> HeapBuffer {
        self.contact(index, ring, members).emit(from(index), &mut Heap).unwrap()
    }

    fn input(&mut self, name: &str) {
        let (ring, other) = (self.ring, RingId { number: 1, leader: id(2) });
        let packet = match name {
            "data of the ring" => self.data(ring),
            "data of another ring" => self.data(other),
            "token of the ring" => self.token(ring),
            "token of another ring" => self.token(other),
            "token request" => TokenRequest { ring }.emit(from(1), &mut Heap).unwrap(),
            "notice" => {
                let (aru, safe) = (Seq::ZERO, Seq::ZERO);
                let notice = Notice { ring, hop: 2, aru, safe, rest_micros: 0 };
                notice.emit(from(1), &mut Heap).unwrap()
            }
            "repair request" => self.repair_request(ring),
            "join said before the ring" => self.join(1, ring_set()),
            "join of one who left" => {
                let contact = self.contact(1, ring, ring_set());
                let (joined, proposal) = (ring_set(), ring_set());
                let join = Join { contact, joined, proposal, settled: false };
                join.emit(from(1), &mut Heap).unwrap()
            }
            "join of another" => self.join(3, DaemonSet::only(rank(3))),
            "presence in the ring" => self.presence(1, ring, ring_set()),
            "presence in a later ring" => {
                let later = RingId { number: ring.number + (1 << 20), leader: id(1) };
                self.presence(1, later, DaemonSet::only(rank(1)))
            }
            "presence of another" => self.presence(3, first_ring(3), DaemonSet::only(rank(3))),
            "commit" => {
                let ring = RingId { number: ring.number + (1 << 20), leader: id(0) };
                let mut incarnations = List::default();
                (0..3).for_each(|_| assert!(incarnations.push(1)));
                let commit = Commit { ring, members: ring_set(), incarnations };
                commit.emit(from(1), &mut Heap).unwrap()
            }
            "exchange" => self.exchange(1),
            "done" => self.done(1),
            "goodbye" => Goodbye { incarnation: 1 }.emit(from(1), &mut Heap).unwrap(),
            "goodbye of another" => Goodbye { incarnation: 1 }.emit(from(3), &mut Heap).unwrap(),
            "unreachable" => return self.order.handle_unreachable(self.now, id(1), &mut Heap),
            "doubt" => return self.order.handle_doubt(self.now, id(1), &mut Heap),
            "message" => {
                let payload = Heap.copy(b"m").unwrap();
                let _ = self.order.handle_submit(self.now, Service::Agreed, payload, &mut Heap);
                return;
            }
            "silence" => {
                self.now = self.now + Duration::from_secs(10);
                return self.order.handle_timeout(self.now, &mut Heap);
            }
            "data of the old ring" => self.data(self.order.ring().unwrap()),
            "commit of the leader" => {
                assert!(self.is_committed(ring_to_be().number, 1) || self.has_recovered());
                return;
            }
            "exchange before its commit" => {
                self.ring = ring_to_be();
                self.exchange(2)
            }
            other => panic!("no input {other}"),
        };
        self.take(&packet);
    }

    fn has_recovered(&self) -> bool {
        self.order.state_name() == "recovery"
    }
}

/// The ring that daemon 0 forms with the first three.
fn ring_to_be() -> RingId {
    RingId { number: first_ring(1).number + (1 << 20), leader: id(0) }
}

/// Operational before and behind the first round of the token, and the other four.
const STATES: [&str; 6] = ["installed", "resting", "gather", "commit", "recovery", "stopped"];

const INPUTS: [&str; 22] = [
    "data of the ring",
    "data of another ring",
    "token of the ring",
    "token of another ring",
    "token request",
    "notice",
    "repair request",
    "join said before the ring",
    "join of one who left",
    "join of another",
    "presence in the ring",
    "presence in a later ring",
    "presence of another",
    "commit",
    "exchange",
    "done",
    "goodbye",
    "goodbye of another",
    "unreachable",
    "doubt",
    "message",
    "silence",
];

/// Cells that need more of a past: what the daemon went through, and what comes then.
const LATER: [(&str, &str); 8] = [
    ("gather, all agree", "exchange before its commit"),
    ("gather, all agree", "commit of the leader"),
    ("gather, exchanges came", "commit of the leader"),
    ("commit, one is missing", "exchange"),
    ("recovery, one is missing", "done"),
    ("gather from a ring", "data of the old ring"),
    ("commit from a ring", "data of the old ring"),
    ("recovery from a ring", "data of the old ring"),
];

/// What the state does: stays (`.`), drops the packet as stale (`-`), or goes to another.
fn reaction(state: &str, input: &str) -> String {
    let mut daemon = Daemon::in_state(state);
    let before = daemon.order.state_name();
    let stale = daemon.order.tally().get(Counter::PacketsStale);
    daemon.input(input);
    let tally = daemon.order.tally();
    assert_eq!(tally.get(Counter::PacketsForeign), 0, "{input}");
    match daemon.order.state_name() {
        next if next != before => next.to_owned(),
        _ if tally.get(Counter::PacketsStale) > stale => "-".to_owned(),
        _ => ".".to_owned(),
    }
}

#[test]
fn every_state_does_with_every_input_what_the_table_says() {
    let mut table = format!("{:26}", "");
    for state in STATES {
        write!(table, "{state:12}").unwrap();
    }
    for input in INPUTS {
        write!(table, "\n{input:26}").unwrap();
        for state in STATES {
            write!(table, "{:12}", reaction(state, input)).unwrap();
        }
    }
    table.push('\n');
    for (past, input) in LATER {
        write!(table, "\n{past:26}{input:28}{}", reaction(past, input)).unwrap();
    }
    let lines = table.lines().map(str::trim_end);
    let table = lines.collect::<Vec<_>>().join("\n");
    assert_eq!(table, include_str!("table.txt").trim_end(), "\n{table}");
}

#[test]
fn of_those_who_ask_together_the_first_in_ring_order_gets_the_token() {
    let mut daemon = Daemon::resting();
    for index in [2, 1] {
        let request = TokenRequest { ring: daemon.ring };
        daemon.take(&request.emit(from(index), &mut Heap).unwrap());
    }
    assert!(daemon.order.poll_timeout() <= Some(daemon.now));
    daemon.order.handle_timeout(daemon.now, &mut Heap);
    let sent = daemon.order.poll_transmit().map(|transmit| (transmit.channel, transmit.to));
    assert_eq!(sent, Some((Channel::Token, To::Daemon(id(1)))));
}

/// Packets that no daemon of ours sends, although all is well with their form.
mod lies {
    use super::*;
    use crate::base::limits::{
        INCARNATION_MAX, RING_NUMBER_CLAIM_MAX, RING_NUMBER_MAX, RING_WINDOW_PACKETS,
    };

    impl Daemon {
        fn data_at(&self, seq: u64) -> HeapBuffer {
            let (ring, seq) = (self.ring, Seq::new(seq));
            let header =
                DataHeader { ring, seq, hop: 2, aru: Seq::ZERO, safe: Seq::ZERO, keeper: None };
            let part = Part { service: Service::Agreed, first: true, last: true, start: 0, len: 0 };
            let fill = |into: &mut [u8]| emit_part_header(&part, into);
            header.emit(from(1), &mut Heap, 4, 4, fill).unwrap()
        }

        pub(super) fn token_with(&self, hop: u64, seq: u64) -> HeapBuffer {
            let (ring, to, seq) = (self.ring, rank(0), Seq::new(seq));
            let (handed, flow, repeated) = (false, 0, 0);
            let header = TokenHeader { ring, hop, to, tour: 3, handed, seq, flow, repeated };
            let lags = std::iter::repeat_n(0, 3);
            header.emit(lags, &Ranges::default(), from(2), &mut Heap).unwrap()
        }

        fn visits(&self) -> u64 {
            self.order.tally().get(Counter::TokenVisits)
        }

        fn is_passed(&mut self) -> bool {
            let sent = std::iter::from_fn(|| self.order.poll_transmit());
            sent.filter(|transmit| transmit.channel == Channel::Token).count() > 0
        }
    }

    #[test]
    fn a_token_that_would_give_places_again_is_stale() {
        let mut daemon = Daemon::operational();
        daemon.input("message");
        daemon.take(&daemon.data_at(1));
        let visits = daemon.visits();
        daemon.take(&daemon.token_with(4, 0));
        assert_eq!(daemon.visits(), visits);
        daemon.take(&daemon.token_with(4, 1));
        assert_eq!(daemon.visits(), visits + 1);
    }

    #[test]
    fn while_the_token_rests_here_nobody_else_gives_places() {
        let mut daemon = Daemon::resting();
        daemon.take(&daemon.data_at(1));
        assert_eq!(daemon.order.retained_bytes(), 0);
        daemon.input("message");
        daemon.order.handle_timeout(daemon.now, &mut Heap);
        assert_eq!(daemon.order.tally().get(Counter::PacketsSent), 1);
    }

    #[test]
    fn while_the_token_rests_here_there_is_no_other() {
        let mut daemon = Daemon::resting();
        let visits = daemon.visits();
        daemon.input("message");
        daemon.take(&daemon.token_with(5, 0));
        assert_eq!(daemon.visits(), visits);
        daemon.input("message");
        daemon.order.handle_timeout(daemon.now, &mut Heap);
        assert_eq!(daemon.order.tally().get(Counter::PacketsSent), 1);
    }

    #[test]
    fn a_token_that_is_further_than_any_window_is_stale() {
        let mut daemon = Daemon::operational();
        let visits = daemon.visits();
        for seq in [RING_WINDOW_PACKETS as u64 + 1, u64::MAX] {
            daemon.take(&daemon.token_with(4, seq));
        }
        assert_eq!(daemon.visits(), visits);
        daemon.take(&daemon.token_with(4, RING_WINDOW_PACKETS as u64));
        assert_eq!(daemon.visits(), visits + 1);
    }

    #[test]
    fn a_token_that_cannot_be_passed_on_is_stale() {
        let mut daemon = Daemon::operational();
        let visits = daemon.visits();
        daemon.take(&daemon.token_with(u64::MAX, 0));
        assert_eq!(daemon.visits(), visits);
    }

    #[test]
    fn a_token_that_comes_again_is_answered_though_places_were_given_since() {
        let mut daemon = Daemon::operational();
        daemon.input("message");
        daemon.take(&daemon.token_with(4, 0));
        assert!(daemon.is_passed());
        daemon.take(&daemon.token_with(4, 0));
        let answer = daemon.order.poll_transmit().map(|transmit| transmit.to);
        assert_eq!(answer, Some(To::Daemon(id(2))));
    }

    #[test]
    fn data_beyond_the_window_is_not_kept() {
        let mut daemon = Daemon::operational();
        daemon.take(&daemon.data_at(RING_WINDOW_PACKETS as u64 + 1));
        daemon.take(&daemon.data_at(u64::MAX));
        assert_eq!(daemon.order.retained_bytes(), 0);
        daemon.take(&daemon.data_at(RING_WINDOW_PACKETS as u64));
        assert!(daemon.order.retained_bytes() > 0);
        // What is kept has to fit the exchange.
        daemon.input("goodbye");
        daemon.input("silence");
        while daemon.order.state_name() == "gather" {
            daemon.input("silence");
        }
        assert_eq!(daemon.order.state_name(), "operational");
    }

    #[test]
    fn parts_of_a_message_that_never_ends_are_let_go_of() {
        const PARTS: usize = 16_000;
        let mut daemon = Daemon::operational();
        let mut retained_max = 0;
        for seq in 1..=40 {
            let (ring, seq, hop) = (daemon.ring, Seq::new(seq), 2);
            let header = DataHeader { ring, seq, hop, aru: seq, safe: seq, keeper: None };
            let bytes = 4 * PARTS;
            let packet = header.emit(from(1), &mut Heap, bytes, bytes, |into| {
                for (at, into) in into.chunks_mut(4).enumerate() {
                    let first = at == 0 && seq == Seq::new(1);
                    let service = Service::Agreed;
                    let part = Part { service, first, last: false, start: 0, len: 0 };
                    emit_part_header(&part, into);
                }
            });
            daemon.take(&packet.unwrap());
            retained_max = retained_max.max(daemon.order.retained_bytes());
        }
        // Had it all been kept, its parts alone would cost more.
        assert!(retained_max > 3_000_000, "{retained_max}");
        assert!(daemon.order.retained_bytes() < 40 * 4 * PARTS + 1_000_000);
    }

    #[test]
    fn an_exchange_beyond_all_numbers_is_not_a_packet() {
        let mut daemon = Daemon::committing();
        let exchange = Exchange {
            ring: daemon.ring,
            old_ring: first_ring(0),
            aru: Seq::new(u64::MAX - 3),
            safe: Seq::ZERO,
            obliged: DaemonSet::EMPTY,
            seen: ring_set(),
            window: 8_192,
            held: &[0, 1],
        };
        daemon.take(&exchange.emit(from(1), &mut Heap).unwrap());
        assert_eq!(daemon.order.tally().get(Counter::PacketsForeign), 1);
    }

    #[test]
    fn daemons_that_are_not_configured_are_not_named() {
        let mut daemon = Daemon::operational();
        let members = DaemonSet::only(rank(3)).with(rank(4));
        let presence = daemon.presence(3, first_ring(3), members);
        daemon.take(&presence);
        assert_eq!(daemon.order.tally().get(Counter::PacketsForeign), 1);
    }

    #[test]
    fn a_commit_of_no_life_or_of_a_ring_beyond_what_can_follow_is_not_a_packet() {
        let legal = first_ring(0).number + (1 << 20);
        for (number, life) in [(RING_NUMBER_MAX + 1, 1), (legal, 0), (legal, INCARNATION_MAX + 1)] {
            let mut daemon = Daemon::gathering();
            let (ring, members) = (RingId { number, leader: id(1) }, DaemonSet::only(rank(1)));
            let mut incarnations = List::default();
            assert!(incarnations.push(life));
            let commit = Commit { ring, members, incarnations };
            daemon.take(&commit.emit(from(1), &mut Heap).unwrap());
            assert_eq!(daemon.order.tally().get(Counter::PacketsForeign), 1, "{number} {life}");
        }
    }

    /// Takes joins of two others that agree, one of which has seen this number; the number of the
    /// ring that it forms with them.
    fn leads_after(number_max: u64) -> Option<u64> {
        let mut daemon = Daemon::gathering();
        for index in 1..3 {
            let members = DaemonSet::only(rank(index));
            let mut contact = daemon.contact(index, first_ring(index), members);
            contact.number_max = if index == 2 { number_max } else { contact.number_max };
            let joined = DaemonSet::first_ranks(4);
            let join = Join { contact, joined, proposal: ring_set(), settled: true };
            daemon.take(&join.emit(from(index), &mut Heap).unwrap());
        }
        daemon.order.handle_timeout(daemon.now, &mut Heap);
        daemon.transmitted().map(|ring| ring.number)
    }

    #[test]
    fn no_daemon_is_led_so_far_that_its_own_words_are_no_packets() {
        let led = leads_after(RING_NUMBER_CLAIM_MAX).expect("a ring");
        assert!(led > RING_NUMBER_CLAIM_MAX && led <= RING_NUMBER_MAX);
        // All that follow go on from there.
        assert!(Daemon::second().is_committed(led, 1));
        for lie in [RING_NUMBER_CLAIM_MAX + 1, RING_NUMBER_MAX] {
            assert_eq!(leads_after(lie), None, "{lie}");
            assert!(!Daemon::second().is_committed(lie + (2 << 20), 1), "{lie}");
        }
    }

    #[test]
    fn no_life_and_no_ring_is_beyond_what_can_follow() {
        for (incarnation, number_max) in [(0, 1), (1 << 43, 1), (1, u64::MAX - (1 << 20))] {
            let mut daemon = Daemon::gathering();
            let contact = Contact {
                incarnation,
                number_max,
                ..daemon.contact(1, first_ring(1), DaemonSet::only(rank(1)))
            };
            daemon.take(&contact.emit(from(1), &mut Heap).unwrap());
            assert_eq!(daemon.order.tally().get(Counter::PacketsForeign), 1);
        }
    }
}
