//! Rules that a run of the simulator meets too seldom to hold: one situation each.

use super::*;
use crate::base::event::GatherReason;
use crate::base::limits::RING_WINDOW_PACKETS;
use crate::base::{Event, Seq};
use crate::protocol::output::Output;

impl Daemon {
    /// As [`Daemon::gathering`], but second in the ring, so that another one leads it; the others
    /// have agreed on the ring.
    pub(super) fn second() -> Self {
        let mut daemon = Self::gathering_as(1);
        for index in [0, 2] {
            let join = daemon.join(index, ring_set());
            daemon.take(&join);
        }
        daemon.look();
        assert_eq!(daemon.order.state_name(), "gather");
        daemon
    }

    /// Lets it look at the joins that are here.
    pub(super) fn look(&mut self) {
        self.order.handle_timeout(self.now, &mut Heap);
    }

    /// The leader finds that all agree, on a ring of this number, with the second daemon in this
    /// life. Whether that one takes part.
    pub(super) fn is_committed(&mut self, number: u64, incarnation: u64) -> bool {
        let mut incarnations = List::default();
        [1, incarnation, 1].into_iter().for_each(|life| assert!(incarnations.push(life)));
        let ring = RingId { number, leader: id(0) };
        let commit = Commit { ring, members: ring_set(), incarnations };
        self.take(&commit.emit(from(0), &mut Heap).unwrap());
        self.order.state_name() == "commit"
    }

    /// Takes the join of a daemon that hears `joined` and proposes `proposal`.
    pub(super) fn take_join(&mut self, index: usize, joined: DaemonSet, proposal: DaemonSet) {
        let contact = self.contact(index, first_ring(index), DaemonSet::only(rank(index)));
        let join = Join { contact, joined, proposal, settled: true };
        self.take(&join.emit(from(index), &mut Heap).unwrap());
    }

    fn sent(&mut self) -> Vec<HeapBuffer> {
        std::iter::from_fn(|| self.order.poll_transmit()).map(|transmit| transmit.bytes).collect()
    }

    /// The daemons whose parts it sends next in an exchange are obliged to deliver, by their bits.
    fn obliged(&mut self) -> Option<DaemonSet> {
        self.sent().iter().find_map(|bytes| match parse(CLUSTER, bytes.as_ref()) {
            Ok((_, Packet::Exchange(exchange))) => Some(exchange.obliged),
            _ => None,
        })
    }

    /// A part of a message of daemon 1 at this place of the ring's order.
    fn part(&mut self, seq: u64, (first, last): (bool, bool), bytes: &[u8]) {
        let (ring, seq) = (self.ring, Seq::new(seq));
        let header =
            DataHeader { ring, seq, hop: 2, aru: Seq::ZERO, safe: Seq::ZERO, keeper: None };
        let part = Part { service: Service::Agreed, first, last, start: 0, len: bytes.len() };
        let size = 4 + bytes.len();
        let fill = |into: &mut [u8]| {
            let (head, rest) = into.split_at_mut(4);
            emit_part_header(&part, head);
            rest.copy_from_slice(bytes);
        };
        let packet = header.emit(from(1), &mut Heap, size, size, fill).unwrap();
        self.take(&packet);
    }

    fn delivered(&mut self) -> Vec<Vec<u8>> {
        let outputs = std::iter::from_fn(|| self.order.poll_output());
        let payloads = outputs.filter_map(|output| match output {
            Output::Deliver { payload, .. } => Some(payload.as_ref().to_vec()),
            Output::Placed { .. } | Output::Configuration { .. } => None,
        });
        payloads.collect()
    }
}

#[test]
fn a_commit_of_a_ring_that_is_no_later_than_the_own_one_is_stale() {
    let own = Daemon::second().order.ring().unwrap().number;
    for number in [0, own - 1, own] {
        let mut daemon = Daemon::second();
        assert!(!daemon.is_committed(number, 1), "{number}");
        assert!(daemon.is_committed(own + (1 << 20), 1));
    }
}

#[test]
fn a_commit_for_another_life_of_this_daemon_is_stale() {
    let number = first_ring(1).number + (1 << 20);
    for incarnation in [0, 2] {
        let mut daemon = Daemon::second();
        assert!(!daemon.is_committed(number, incarnation), "{incarnation}");
        assert!(daemon.is_committed(number, 1));
    }
}

#[test]
fn a_ring_is_later_than_all_that_its_daemons_know_of() {
    let known = 1 << 40;
    let mut daemon = Daemon::gathering();
    for index in 1..3 {
        let mut contact = daemon.contact(index, first_ring(index), DaemonSet::only(rank(index)));
        if index == 2 {
            contact.number_max = known;
        }
        let joined = DaemonSet::first_ranks(4);
        let join = Join { contact, joined, proposal: ring_set(), settled: true };
        daemon.take(&join.emit(from(index), &mut Heap).unwrap());
    }
    daemon.look();
    assert!(daemon.transmitted().unwrap().number > known);
}

#[test]
fn a_link_of_which_one_way_is_seen_is_waited_for() {
    let mut daemon = Daemon::gathering();
    let two = DaemonSet::first_ranks(2);
    let say = |daemon: &mut Daemon| {
        daemon.take_join(1, two, two);
        // It has not heard from this daemon yet.
        daemon.take_join(2, DaemonSet::only(rank(2)), DaemonSet::only(rank(2)));
        daemon.look();
    };
    say(&mut daemon);
    assert_eq!(daemon.order.state_name(), "gather", "2 may be about to hear it");
    daemon.now = daemon.now + Options::default().failure_timeout;
    say(&mut daemon);
    assert_eq!(daemon.order.state_name(), "commit", "it does not");
}

#[test]
fn who_is_not_in_an_attempt_has_no_say_in_it() {
    for mut daemon in [Daemon::committing(), Daemon::recovering()] {
        let state = daemon.order.state_name();
        let stale = daemon.order.tally().get(Counter::PacketsStale);
        for packet in [daemon.exchange(3), daemon.done(3)] {
            daemon.take(&packet);
        }
        assert_eq!(daemon.order.state_name(), state);
        assert_eq!(daemon.order.tally().get(Counter::PacketsStale), stale + 2, "{state}");
    }
}

#[test]
fn the_first_word_of_a_daemon_in_an_attempt_counts() {
    let mut daemon = Daemon::committing();
    let first = daemon.exchange(1);
    daemon.take(&first);
    // Later it comes from the same ring, and has packets of it.
    let exchange = Exchange {
        ring: daemon.ring,
        old_ring: first_ring(0),
        aru: Seq::new(5),
        safe: Seq::ZERO,
        obliged: DaemonSet::EMPTY,
        seen: ring_set(),
        window: 8_192,
        held: &[],
    };
    daemon.take(&exchange.emit(from(1), &mut Heap).unwrap());
    let last = daemon.exchange(2);
    daemon.take(&last);
    for index in 1..3 {
        let done = daemon.done(index);
        daemon.take(&done);
    }
    assert_eq!(daemon.order.state_name(), "operational");
}

#[test]
fn what_was_promised_in_a_failed_attempt_still_holds_in_the_next() {
    let mut daemon = Daemon::recovering();
    daemon.sent();
    // All it needs was there: others may deliver what it has, and go on without it knowing.
    daemon.input("goodbye");
    assert_eq!(daemon.order.state_name(), "gather");
    let two = DaemonSet::first_ranks(3).without(DaemonSet::only(rank(1)));
    daemon.take_join(2, two, two);
    daemon.now = daemon.now + Options::default().failure_timeout;
    daemon.take_join(2, two, two);
    daemon.look();
    assert_eq!(daemon.order.state_name(), "commit");
    assert_eq!(daemon.obliged(), Some(DaemonSet::only(rank(0))));
}

#[test]
fn a_daemon_that_starts_again_has_left_the_ring() {
    let mut daemon = Daemon::operational();
    while daemon.order.poll_event().is_some() {}
    let ring = first_ring(1);
    let mut contact = daemon.contact(1, ring, DaemonSet::only(rank(1)));
    (contact.incarnation, contact.number_max) = (2, ring.number);
    daemon.take(&contact.emit(from(1), &mut Heap).unwrap());
    assert_eq!(daemon.order.state_name(), "gather");
    let events: Vec<_> = std::iter::from_fn(|| daemon.order.poll_event()).collect();
    let left = GatherReason::Left(id(1));
    let is_left =
        |event: &Event| matches!(event, Event::GatherStarted { reason, .. } if *reason == left);
    assert!(events.iter().any(is_left), "{events:?}");
}

#[test]
fn a_new_message_does_not_continue_one_that_was_broken_off() {
    let mut daemon = Daemon::operational();
    daemon.delivered();
    daemon.part(1, (true, false), b"broken ");
    daemon.part(2, (true, false), b"who");
    daemon.part(3, (false, true), b"le");
    assert_eq!(daemon.delivered(), [b"whole"]);
}

#[test]
fn a_goodbye_of_an_earlier_life_is_stale() {
    for (life, state) in [(1, "commit"), (2, "gather")] {
        let mut daemon = Daemon::gathering();
        for index in 1..3 {
            let members = DaemonSet::only(rank(index));
            let mut contact = daemon.contact(index, first_ring(index), members);
            contact.incarnation = 2;
            let joined = DaemonSet::first_ranks(4);
            let join = Join { contact, joined, proposal: ring_set(), settled: true };
            daemon.take(&join.emit(from(index), &mut Heap).unwrap());
        }
        daemon.take(&Goodbye { incarnation: life }.emit(from(1), &mut Heap).unwrap());
        daemon.look();
        assert_eq!(daemon.order.state_name(), state, "{life}");
    }
}

#[test]
fn nothing_gets_a_place_beyond_the_window_of_the_slowest() {
    // The others have nothing of it, so all of it has to be kept.
    for (seq, sent) in [(RING_WINDOW_PACKETS as u64, 0), (RING_WINDOW_PACKETS as u64 - 1, 1)] {
        let mut daemon = Daemon::operational();
        daemon.input("message");
        daemon.take(&daemon.token_with(4, seq));
        assert_eq!(daemon.order.tally().get(Counter::PacketsSent), sent, "{seq}");
    }
}
