//! The core by itself, in a network that loses nothing: what it costs, and what it promises at
//! its edges. Under faults it is judged by the simulator, in `tests/simulation.rs`.

use std::collections::VecDeque;
use std::time::Duration;

use super::super::options::{Options, Setup};
use super::super::output::{Channel, Kind, Output, To, Transmit};
use super::{Order, SubmitError};
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::{Counter, DaemonId, Instant, Service, Store};
use crate::wire::header::PacketKind;

mod idle;
mod loss;

/// Time on the wire.
const TRIP: Duration = Duration::from_micros(25);

struct Net {
    now: Instant,
    orders: Vec<Order<Heap>>,
    wire: VecDeque<(Instant, usize, HeapBuffer)>,
    sent: Vec<(usize, Transmit<HeapBuffer>)>,
    delivered: Vec<Vec<(Service, Vec<u8>)>>,
    configurations: Vec<Vec<(Kind, Vec<u32>)>>,
    /// Packets that their receivers waited for.
    awaited: usize,
    /// A daemon that stands still, and what arrived there meanwhile.
    still: Option<(usize, Vec<HeapBuffer>)>,
    /// Whether a packet from one daemon to another, of that kind, does not arrive.
    loses: Option<Loses>,
}

type Loses = Box<dyn FnMut(usize, usize, u8) -> bool>;

fn setup(me: usize, daemons: usize, options: &Options) -> Setup {
    Setup {
        me: DaemonId::new(me as u32),
        daemons: (0..daemons as u32).map(DaemonId::new).collect(),
        cluster: 7,
        incarnation: 1,
        seed: me as u64,
        options: options.clone(),
    }
}

impl Net {
    fn new(daemons: usize, options: &Options) -> Self {
        Self::with(daemons, |_| options.clone())
    }

    /// A cluster whose daemons have options of their own.
    fn with(daemons: usize, options: impl Fn(usize) -> Options) -> Self {
        let now = Instant::ZERO;
        let start = |me| Order::new(&setup(me, daemons, &options(me)), now, &mut Heap);
        let mut net = Self {
            now,
            orders: (0..daemons).map(start).collect(),
            wire: VecDeque::new(),
            sent: Vec::new(),
            delivered: vec![Vec::new(); daemons],
            configurations: vec![Vec::new(); daemons],
            awaited: 0,
            still: None,
            loses: None,
        };
        (0..daemons).for_each(|me| net.drain(me));
        net
    }

    /// A cluster whose ring rests.
    fn resting(daemons: usize) -> Self {
        let mut net = Self::new(daemons, &Options::default());
        net.run(Duration::from_secs(1));
        let members: Vec<u32> = (0..daemons as u32).collect();
        for configurations in &net.configurations {
            assert_eq!(configurations.last(), Some(&(Kind::Regular, members.clone())));
        }
        net.sent.clear();
        net
    }

    fn drain(&mut self, me: usize) {
        while let Some(transmit) = self.orders[me].poll_transmit() {
            for to in 0..self.orders.len() {
                let is_meant = match transmit.to {
                    To::Multicast => to != me,
                    To::Daemon(daemon) => daemon.get() as usize == to,
                };
                let kind = transmit.bytes.as_ref()[3];
                let loses = self.loses.as_mut();
                if is_meant && !loses.is_some_and(|loses| loses(me, to, kind)) {
                    self.wire.push_back((self.now + TRIP, to, transmit.bytes.clone()));
                }
            }
            self.sent.push((me, transmit));
        }
        while let Some(output) = self.orders[me].poll_output() {
            match output {
                Output::Deliver { service, payload, .. } => {
                    self.delivered[me].push((service, payload.as_ref().to_vec()));
                }
                Output::Configuration { kind, members, .. } => {
                    let members = members.iter().map(|daemon| daemon.get()).collect();
                    self.configurations[me].push((kind, members));
                }
                Output::Placed { .. } => panic!("not asked for"),
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timers = self.awake().filter_map(|me| self.orders[me].poll_timeout()).min();
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let next = timers.into_iter().chain(arrival).min().unwrap_or(end).max(self.now);
            if next > end {
                break;
            }
            self.now = next;
            if arrival.is_some_and(|at| at <= next) {
                let (_, to, bytes) = self.wire.pop_front().unwrap();
                if let Some((_, arrived)) = self.still.as_mut().filter(|(me, _)| *me == to) {
                    arrived.push(bytes);
                    continue;
                }
                let received = |order: &Order<Heap>| order.tally().get(Counter::PacketsReceived);
                let awaited = self.orders[to].awaits(bytes.as_ref());
                let before = received(&self.orders[to]);
                self.orders[to].handle_packet(next, &bytes, &mut Heap);
                assert!(!awaited || received(&self.orders[to]) == before + 1);
                self.awaited += usize::from(awaited);
                self.drain(to);
                continue;
            }
            if timers.is_none() {
                break;
            }
            for me in self.awake().collect::<Vec<_>>() {
                if self.orders[me].poll_timeout().is_some_and(|at| at <= next) {
                    self.orders[me].handle_timeout(next, &mut Heap);
                    self.drain(me);
                }
            }
        }
        self.now = end;
    }

    fn awake(&self) -> impl Iterator<Item = usize> + use<> {
        let still = self.still.as_ref().map(|(me, _)| *me);
        (0..self.orders.len()).filter(move |me| Some(*me) != still)
    }

    fn submit(&mut self, me: usize, service: Service, payload: &[u8]) -> Result<(), SubmitError> {
        let payload = Heap.copy(payload).unwrap();
        let order = &mut self.orders[me];
        let result = order.handle_submit(self.now, service, payload, &mut Heap);
        // What is due at once is done behind all input.
        if order.poll_timeout().is_some_and(|at| at <= self.now) {
            order.handle_timeout(self.now, &mut Heap);
        }
        self.drain(me);
        result
    }

    /// Time until all have delivered `count` messages.
    fn wait(&mut self, count: usize) -> Duration {
        let start = self.now;
        while self.delivered.iter().any(|delivered| delivered.len() < count) {
            assert!(self.now.since(start) < Duration::from_secs(1));
            self.run(Duration::from_micros(1));
        }
        self.now.since(start)
    }

    fn count(&self, counter: Counter) -> u64 {
        self.orders.iter().map(|order| order.tally().get(counter)).sum()
    }
}

#[test]
fn a_cluster_of_one_needs_no_packet_and_no_timer() {
    let mut net = Net::new(1, &Options::default());
    for service in Service::ALL {
        assert_eq!(net.submit(0, service, b"m"), Ok(()));
    }
    let expected = Service::ALL.map(|service| (service, b"m".to_vec()));
    assert_eq!(net.delivered[0], expected);
    assert!(net.sent.is_empty());
    assert_eq!(net.orders[0].poll_timeout(), None);
    assert_eq!(net.orders[0].state_name(), "operational");
}

#[test]
fn a_lone_daemon_of_a_cluster_serves_after_the_failure_timeout() {
    let mut net = Net::new(1, &Options::default());
    let mut lone = Order::new(&setup(0, 3, &Options::default()), net.now, &mut Heap);
    std::mem::swap(&mut net.orders[0], &mut lone);
    net.drain(0);
    assert_eq!(net.submit(0, Service::Safe, b"m"), Ok(()));
    net.run(Duration::from_millis(290));
    assert!(net.delivered[0].is_empty());
    net.run(Duration::from_millis(20));
    assert_eq!(net.delivered[0].len(), 1);
    // It goes on in the ring of one that it began in.
    assert!(net.configurations[0].iter().all(|(kind, _)| *kind == Kind::Regular));
}

#[test]
fn the_holder_of_a_resting_token_sends_at_once() {
    let mut net = Net::resting(3);
    let holder = (0..3).find(|&me| {
        net.orders[me].tally().get(Counter::TokensParked) > 0 && {
            net.submit(me, Service::Agreed, b"m").unwrap();
            let is_here = !net.delivered[me].is_empty();
            if !is_here {
                net.wait(1);
                net.delivered.iter_mut().for_each(Vec::clear);
            }
            is_here
        }
    });
    assert!(holder.is_some(), "it rests somewhere");
    assert!(net.wait(1) <= TRIP + Duration::from_micros(1));
}

/// What the daemons of `turns` send one after the other, each once all have delivered what came
/// before it, and a trip later: how long each takes.
fn in_turns(net: &mut Net, turns: impl Iterator<Item = usize>) -> Vec<Duration> {
    let before = net.delivered[0].len();
    let sent = |(turn, me)| {
        net.submit(me, Service::Agreed, b"m").unwrap();
        let time = net.wait(before + turn + 1);
        net.run(TRIP);
        time
    };
    turns.enumerate().map(sent).collect()
}

const ONE_TRIP: Duration = Duration::from_nanos(TRIP.as_nanos() as u64 + 1_000);

#[test]
fn who_sends_alone_keeps_the_token() {
    let mut net = Net::resting(5);
    let times = in_turns(&mut net, std::iter::repeat_n(3, 40));
    assert!(times[1..].iter().all(|&time| time <= ONE_TRIP), "{times:?}");
    assert_eq!(net.count(Counter::TokensGranted), 1);
}

#[test]
fn of_two_who_send_in_turns_each_has_the_token_when_it_needs_it() {
    let mut net = Net::resting(5);
    let times = in_turns(&mut net, [1, 4].into_iter().cycle().take(40));
    assert!(times[2..].iter().all(|&time| time <= ONE_TRIP), "{times:?}");
    assert!(net.count(Counter::TokensHanded) >= 38);
    // A third one asks for it, and is answered.
    let third = in_turns(&mut net, [1, 4, 1, 2].into_iter());
    assert!(third[3] <= TRIP * 3 + Duration::from_micros(1), "{third:?}");
}

#[test]
fn where_three_send_the_token_goes_round() {
    let mut net = Net::resting(3);
    in_turns(&mut net, [0, 1, 2].into_iter().cycle().take(30));
    let handed = net.count(Counter::TokensHanded);
    assert!(handed <= 2, "{handed}");
}

#[test]
fn a_token_that_is_lost_when_it_is_handed_over_is_missed_by_who_needs_it() {
    let mut net = Net::resting(3);
    in_turns(&mut net, [0, 1].into_iter().cycle().take(10));
    net.submit(0, Service::Agreed, b"m").unwrap();
    let (data, token): (VecDeque<_>, VecDeque<_>) =
        net.wire.drain(..).partition(|(_, _, bytes)| bytes.as_ref()[3] == PacketKind::Data as u8);
    assert_eq!(token.len(), 1);
    net.wire = data;
    net.run(TRIP);
    net.submit(1, Service::Agreed, b"m").unwrap();
    // Its request, the token once more, its message.
    assert!(net.wait(12) <= TRIP * 3 + Duration::from_micros(1));
    assert_eq!(net.count(Counter::TokensRepeated), 1);
}

#[test]
fn who_dies_while_two_others_send_in_turns_is_missed() {
    let mut net = Net::resting(3);
    in_turns(&mut net, [0, 1].into_iter().cycle().take(4));
    net.still = Some((2, Vec::new()));
    // Twice the failure timeout, and not so much that the window is full.
    for turn in (0..2).cycle().take(1_200) {
        net.submit(turn, Service::Agreed, b"m").unwrap();
        net.run(TRIP * 20);
    }
    let last = [&net.configurations[0], &net.configurations[1]].map(|all| all.last().cloned());
    assert_eq!(last, [Some((Kind::Regular, vec![0, 1])), Some((Kind::Regular, vec![0, 1]))]);
}

#[test]
fn a_resting_token_is_asked_for_and_granted_in_three_trips() {
    let mut net = Net::resting(8);
    let mut slowest = Duration::ZERO;
    for turn in 0..8 {
        net.submit(turn * 3 % 8, Service::Agreed, b"m").unwrap();
        slowest = slowest.max(net.wait(turn + 1));
        net.run(Duration::from_millis(5));
    }
    assert!(slowest <= TRIP * 3 + Duration::from_micros(1), "{slowest:?}");
    let granted = net.count(Counter::TokensGranted);
    assert!(granted >= 7, "{granted}");
}

#[test]
fn safe_is_one_trip_behind_agreed() {
    let mut net = Net::resting(8);
    net.submit(3, Service::Agreed, b"m").unwrap();
    let agreed = net.wait(1);
    net.run(Duration::from_millis(5));
    net.submit(5, Service::Safe, b"m").unwrap();
    let safe = net.wait(2);
    assert!(safe <= agreed + TRIP + Duration::from_micros(1), "{agreed:?}, {safe:?}");
}

#[test]
fn who_knows_first_that_a_message_is_safe_still_says_that_it_has_it() {
    let mut net = Net::resting(3);
    let holder = (0..3).find(|&me| net.orders[me].tally().get(Counter::TokensParked) > 0);
    assert!(holder.is_some_and(|holder| holder < 2));
    net.still = Some((2, Vec::new()));
    net.submit(holder.unwrap(), Service::Safe, b"m").unwrap();
    net.run(TRIP * 3);
    // It takes the message together with the word of the others that they have it.
    for bytes in net.still.take().unwrap().1 {
        net.orders[2].handle_packet(net.now, &bytes, &mut Heap);
    }
    net.orders[2].handle_timeout(net.now, &mut Heap);
    net.drain(2);
    assert_eq!(net.delivered[2].len(), 1, "it knows that the message is safe");
    net.run(TRIP + Duration::from_micros(1));
    assert_eq!((net.delivered[0].len(), net.delivered[1].len()), (1, 1));
}

#[test]
fn large_messages_arrive_whole_and_in_order_among_small_ones() {
    let mut net = Net::resting(3);
    let mut expected = Vec::new();
    for (index, len) in [144_048, 0, 1, 1_372, 1_400, 1_000_000, 12].into_iter().enumerate() {
        let payload: Vec<u8> = (0..len).map(|at| (at * 7 + index) as u8).collect();
        net.submit(1, Service::ALL[index % 6], &payload).unwrap();
        expected.push((Service::ALL[index % 6], payload));
    }
    net.wait(expected.len());
    for delivered in &net.delivered {
        assert!(*delivered == expected);
    }
}

#[test]
fn a_turn_leaves_as_a_train_of_equal_packets() {
    let mut net = Net::resting(2);
    for _ in 0..100 {
        let payload = Heap.copy(&[1; 1_000]).unwrap();
        net.orders[0].handle_submit(net.now, Service::Agreed, payload, &mut Heap).unwrap();
    }
    net.wait(100);
    let data = net.sent.iter().filter(|(me, sent)| *me == 0 && sent.to == To::Multicast);
    let sizes: Vec<usize> = data.map(|(_, sent)| sent.bytes.as_ref().len()).collect();
    let full = sizes.iter().filter(|&&size| size == Options::default().datagram_bytes).count();
    assert!(full >= 65, "{sizes:?}");
}

#[test]
fn packets_are_awaited_in_their_order_and_once() {
    let mut net = Net::resting(2);
    let before = net.awaited;
    net.submit(0, Service::Agreed, &[1; 6_000]).unwrap();
    net.wait(1);
    let is_data = |it: &&(usize, Transmit<HeapBuffer>)| it.1.bytes.as_ref()[3] == 1;
    let data: Vec<_> = net.sent.iter().filter(is_data).map(|(_, it)| it.bytes.clone()).collect();
    assert!(data.len() >= 4);
    assert_eq!(net.awaited - before, data.len());
    let order = |net: &Net, packet: &[u8]| net.orders[1].awaits(packet);
    assert!(data.iter().all(|packet| !order(&net, packet.as_ref())));
    // In another ring nothing of this one is awaited, and what is damaged never.
    let fresh = Net::new(2, &Options::default());
    assert!(data.iter().all(|packet| !order(&fresh, packet.as_ref())));
    assert!(!order(&net, b"MG") && !order(&net, b""));
}

#[test]
fn whoever_submits_too_much_is_told_so_and_loses_nothing() {
    let options = Options { backlog_bytes: 10_000, ..Options::default() };
    let mut net = Net::new(2, &options);
    let mut accepted = 0;
    while net.submit(0, Service::Agreed, &[accepted as u8; 1_000]).is_ok() {
        accepted += 1;
    }
    assert!((9..=11).contains(&accepted), "{accepted}");
    assert!(!net.orders[0].is_ready());
    assert_eq!(net.submit(0, Service::Agreed, b"m"), Err(SubmitError::Busy));
    net.run(Duration::from_secs(1));
    assert!(net.orders[0].is_ready());
    assert_eq!(net.delivered[1].len(), accepted);
}

#[test]
fn what_goes_first_overtakes_what_waits_and_is_taken_however_much_that_is() {
    let options = Options { backlog_bytes: 10_000, ..Options::default() };
    let mut net = Net::new(2, &options);
    while net.submit(0, Service::Agreed, &[1; 1_000]).is_ok() {}
    let submit_first = |net: &mut Net, content: &[u8]| {
        let payload = Heap.copy(content).unwrap();
        net.orders[0].handle_submit_first(net.now, Service::Agreed, payload, &mut Heap)
    };
    assert_eq!(submit_first(&mut net, &[2; 9_900]), Ok(()));
    assert_eq!(submit_first(&mut net, &[3; 100]), Ok(()));
    assert_eq!(submit_first(&mut net, b"m"), Err(SubmitError::Busy));
    net.run(Duration::from_secs(1));
    let firsts: Vec<u8> = net.delivered[1].iter().map(|(_, content)| content[0]).collect();
    assert_eq!(firsts[..3], [2, 3, 1]);
    assert!(firsts[3..].iter().all(|&first| first == 1), "{firsts:?}");
}

#[test]
fn a_daemon_that_stops_is_missed_within_a_few_trips() {
    let mut net = Net::resting(3);
    net.orders[2].handle_stop(net.now, &mut Heap);
    net.drain(2);
    assert_eq!(net.orders[2].poll_timeout(), None);
    assert_eq!(net.submit(2, Service::Agreed, b"m"), Err(SubmitError::Stopped));
    net.run(Duration::from_millis(3));
    for me in [0, 1] {
        let last = net.configurations[me].iter().rev().take(2).cloned().collect::<Vec<_>>();
        assert_eq!(last, [(Kind::Regular, vec![0, 1]), (Kind::Transitional, vec![0, 1])]);
    }
}

#[test]
fn a_hundred_and_twenty_eight_daemons_form_one_ring_in_milliseconds() {
    let mut net = Net::new(128, &Options::default());
    net.run(Duration::from_millis(60));
    let everybody: Vec<u32> = (0..128).collect();
    for configurations in &net.configurations {
        assert_eq!(configurations.last(), Some(&(Kind::Regular, everybody.clone())));
        assert_eq!(configurations.len(), 3);
    }
}

/// A store that says no when it is told to.
#[derive(Default)]
struct Stingy {
    refuses: bool,
}

impl Store for Stingy {
    type Buffer = HeapBuffer;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        if self.refuses { None } else { Heap.store(len, fill) }
    }
}

#[test]
fn without_memory_nothing_is_lost_and_with_it_things_go_on() {
    let mut store = Stingy::default();
    let options = Options::default();
    let start = |me, store: &mut Stingy| Order::new(&setup(me, 2, &options), Instant::ZERO, store);
    let mut orders: Vec<Order<Stingy>> = vec![start(0, &mut store), start(1, &mut store)];
    let mut wire: VecDeque<(usize, HeapBuffer)> = VecDeque::new();
    let mut delivered = [0; 2];
    let mut submitted = 0;
    for step in 0..40_000_u64 {
        let now = Instant::from_nanos(step * 25_000);
        // Out of memory for half of the time.
        store.refuses = step % 400 > 200;
        if step > 20_000 && step % 1_000 == 0 {
            let payload = Heap.copy(&vec![1; 20_000]).unwrap();
            let taken = orders[0].handle_submit(now, Service::Safe, payload, &mut store);
            submitted += usize::from(taken.is_ok());
        }
        for _ in 0..wire.len() {
            let (to, bytes) = wire.pop_front().unwrap();
            orders[to].handle_packet(now, &bytes, &mut store);
        }
        for me in 0..2 {
            if orders[me].poll_timeout().is_some_and(|at| at <= now) {
                orders[me].handle_timeout(now, &mut store);
            }
            while let Some(transmit) = orders[me].poll_transmit() {
                wire.push_back((1 - me, transmit.bytes));
            }
            while let Some(output) = orders[me].poll_output() {
                delivered[me] += usize::from(matches!(output, Output::Deliver { .. }));
            }
        }
    }
    assert_eq!(submitted, 19);
    assert_eq!(delivered, [19; 2]);
}
