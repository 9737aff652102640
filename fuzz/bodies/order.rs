//! The ordering cores of a small cluster, and somebody who sends them what no daemon would: their
//! own packets with fields changed, and bodies of any bytes, all under a right checksum.
//!
//! Whatever comes, no core panics, keeps more than its window and backlog, answers one packet with
//! a storm, or asks to be called again at once for ever. The order itself may break: a daemon that
//! lies is beyond what the protocol promises anything about.

use std::collections::VecDeque;
use std::time::Duration;

use madrigal::base::buffer::{Heap, HeapBuffer};
use madrigal::base::{DaemonId, DaemonSet, Instant, Rank, Seq, Service, Store};
use madrigal::protocol::options::{Options, Setup};
use madrigal::protocol::order::Order;
use madrigal::protocol::output::{Output, To};
use madrigal::wire::commit::{Done, Exchange};
use madrigal::wire::data::{DataHeader, Part, emit_part_header};
use madrigal::wire::header::{Envelope, PacketKind, open};
use madrigal::wire::join::Contact;
use madrigal::wire::packet::{Packet, parse};
use madrigal::wire::token::{Notice, Ranges, SeqRange, TokenHeader, emit_repair_request};

use super::reader::Reader;

const CLUSTER: u64 = 7;
const DAEMONS: usize = 4;

/// Datagrams on their way.
const QUEUED_MAX: usize = 512;

/// A window of packets, a backlog, and messages in parts.
const RETAINED_MAX: usize = 8 << 20;

/// One packet may be answered with a turn of the token, which the personal window bounds.
const ANSWER_MAX: usize = 128;

/// Where fields are wrong: at the ends of their ranges.
const ODD_NUMBERS: [u64; 12] =
    [0, 1, 2, 63, 127, 255, 8_191, 8_193, u32::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];

/// Where many fields of some packet begin.
const FIELDS: [usize; 18] = [0, 8, 12, 20, 21, 22, 24, 28, 30, 32, 36, 40, 44, 48, 56, 60, 68, 84];

/// How long time passes.
const PAUSES: [Duration; 6] = [
    Duration::from_micros(20),
    Duration::from_micros(400),
    Duration::from_millis(3),
    Duration::from_millis(30),
    Duration::from_millis(110),
    Duration::from_millis(400),
];

struct World {
    now: Instant,
    lives: u64,
    orders: Vec<Order<Heap>>,
    /// The last one is not started: its packets are made up alone.
    queued: VecDeque<(usize, HeapBuffer)>,
    /// The last packet of each kind of each daemon, to make wrong ones of.
    examples: Vec<((PacketKind, Rank), HeapBuffer)>,
    /// The states that were reached, for a test of the test.
    states: Vec<&'static str>,
}

fn rank(number: u8) -> Rank {
    Rank::new(usize::from(number) % DAEMONS).expect("it is below")
}

fn start(me: usize, life: u64, now: Instant) -> Order<Heap> {
    let setup = Setup {
        me: DaemonId::new(me as u32),
        daemons: (0..DAEMONS as u32).map(DaemonId::new).collect(),
        cluster: CLUSTER,
        incarnation: life,
        seed: life,
        options: Options {
            failure_timeout: Duration::from_millis(100),
            personal_window_bytes: 64 << 10,
            backlog_bytes: 256 << 10,
            ..Options::default()
        },
    };
    Order::new(&setup, now, &mut Heap)
}

impl World {
    fn new() -> Self {
        let now = Instant::from_nanos(1);
        let mut world = Self {
            now,
            lives: 1,
            orders: (0..DAEMONS - 1).map(|me| start(me, 1, now)).collect(),
            queued: VecDeque::new(),
            examples: Vec::new(),
            states: Vec::new(),
        };
        (0..DAEMONS - 1).for_each(|me| world.drain(me));
        world
    }

    /// Takes all that a core has to say, and looks at it.
    fn drain(&mut self, me: usize) {
        let mut sent = 0;
        while let Some(transmit) = self.orders[me].poll_transmit() {
            sent += 1;
            for to in 0..self.orders.len() {
                let is_meant = match transmit.to {
                    To::Multicast => to != me,
                    To::Daemon(daemon) => daemon == DaemonId::new(to as u32),
                };
                if is_meant && self.queued.len() < QUEUED_MAX {
                    self.queued.push_back((to, transmit.bytes.clone()));
                }
            }
            let (kind, sender, _) = open(CLUSTER, transmit.bytes.as_ref()).expect("it is ours");
            match self.examples.iter_mut().find(|(key, _)| *key == (kind, sender)) {
                Some((_, example)) => *example = transmit.bytes,
                None => self.examples.push(((kind, sender), transmit.bytes)),
            }
        }
        assert!(sent <= ANSWER_MAX, "{sent} packets for one input");
        while let Some(output) = self.orders[me].poll_output() {
            if let Output::Configuration { members, .. } = output {
                assert!(members.contains(&DaemonId::new(me as u32)));
            }
        }
        while self.orders[me].poll_event().is_some() {}
        let retained = self.orders[me].retained_bytes();
        assert!(retained <= RETAINED_MAX, "{retained} bytes are kept");
        let state = self.orders[me].state_name();
        if !self.states.contains(&state) {
            self.states.push(state);
        }
    }

    fn deliver(&mut self, to: usize, datagram: &HeapBuffer) {
        self.orders[to].handle_packet(self.now, datagram, &mut Heap);
        self.drain(to);
    }

    /// The oldest datagrams arrive.
    fn arrive(&mut self, datagrams: usize) {
        for _ in 0..datagrams {
            let Some((to, datagram)) = self.queued.pop_front() else { break };
            self.deliver(to, &datagram);
        }
    }

    /// Time passes; deadlines are met.
    fn pass(&mut self, pause: Duration) {
        self.now = self.now + pause;
        for me in 0..self.orders.len() {
            let mut calls = 0;
            while self.orders[me].poll_timeout().is_some_and(|at| at <= self.now) {
                self.orders[me].handle_timeout(self.now, &mut Heap);
                self.drain(me);
                calls += 1;
                // From state to state, but not for ever.
                assert!(calls <= 10, "a deadline that does not pass: {calls} calls");
            }
        }
    }

    fn submit(&mut self, me: usize, script: &mut Reader<'_>) {
        let service = Service::ALL[usize::from(script.byte()) % Service::ALL.len()];
        let payload = Heap.copy(&vec![0; script.short()]).expect("the heap has no bound");
        let first = script.byte().is_multiple_of(8);
        let (now, order) = (self.now, &mut self.orders[me]);
        let _ = match first {
            true => order.handle_submit_first(now, service, payload, &mut Heap),
            false => order.handle_submit(now, service, payload, &mut Heap),
        };
        self.drain(me);
    }

    /// One of the last packets with fields changed.
    fn mutated(&self, script: &mut Reader<'_>) -> Option<HeapBuffer> {
        let index = usize::from(script.byte()) % self.examples.len().max(1);
        let (_, example) = self.examples.get(index)?;
        let (mut kind, mut sender, body) = open(CLUSTER, example.as_ref()).ok()?;
        let mut body = body.to_vec();
        for _ in 0..=script.byte() % 4 {
            let (what, place, which) = (script.byte(), script.byte(), script.byte());
            let at = match what & 16 {
                0 => usize::from(place),
                _ => FIELDS[usize::from(place) % FIELDS.len()],
            };
            let at = at % body.len().max(1);
            let number = ODD_NUMBERS[usize::from(which) % ODD_NUMBERS.len()];
            match what % 16 {
                0 => body.truncate(at),
                1 => body.extend_from_slice(&number.to_le_bytes()),
                2 => sender = rank(which),
                3 => kind = PacketKind::ALL[usize::from(which) % PacketKind::ALL.len()],
                4..8 => {
                    let width = [1, 2, 4, 8][usize::from(what % 4)];
                    for (into, byte) in body[at..].iter_mut().zip(&number.to_le_bytes()[..width]) {
                        *into = *byte;
                    }
                }
                _ => {
                    // A little more, or less.
                    if let Some(field) = body[at..].first_chunk_mut() {
                        let near = u64::from_le_bytes(*field).wrapping_add(u64::from(which));
                        *field = near.wrapping_sub(16).to_le_bytes();
                    }
                }
            }
        }
        seal(kind, sender, &body)
    }

    /// A packet of the ring or the attempt that `me` is in, of which every number may be wrong.
    fn lie(&self, me: usize, script: &mut Reader<'_>) -> Option<HeapBuffer> {
        let ring = self.orders[me].ring()?;
        let envelope = Envelope { cluster: CLUSTER, sender: rank(script.byte()) };
        let mut number = || match script.byte() {
            small @ 0..128 => u64::from(small % 32),
            index => ODD_NUMBERS[usize::from(index) % ODD_NUMBERS.len()],
        };
        let mut attempts =
            self.examples.iter().filter(|((kind, _), _)| *kind == PacketKind::Commit);
        let attempt = attempts.next_back().and_then(|(_, bytes)| {
            match parse(CLUSTER, bytes.as_ref()).ok()?.1 {
                Packet::Commit(commit) => Some(commit.ring),
                _ => None,
            }
        });
        let (kind, hop) = (number(), number());
        let (seq, aru, safe) = (Seq::new(number()), Seq::new(number()), Seq::new(number()));
        let set = DaemonSet::from_bits(u128::from(number()) | 0b111);
        let mut missing = Ranges::default();
        for _ in 0..kind / 8 % 4 {
            let range = SeqRange { start: Seq::new(number()), len: number() as u32 };
            assert!(missing.push(range));
        }
        match kind % 8 {
            0 => {
                let part =
                    Part { service: Service::Safe, first: true, last: true, start: 0, len: 0 };
                let keeper = Rank::new(hop as usize % (2 * DAEMONS));
                let header = DataHeader { ring, seq, hop, aru, safe, keeper };
                header.emit(envelope, &mut Heap, 4, 4, |into| emit_part_header(&part, into))
            }
            1 | 2 => {
                let (to, tour, flow) = (rank(me as u8), aru.get() as u8, safe.get() as u32);
                let handed = number() % 2 == 0;
                let repeated = number() as u32;
                let header = TokenHeader { ring, hop, to, tour, handed, seq, flow, repeated };
                let lags = std::iter::repeat_n(number() as u32, DAEMONS - 1);
                header.emit(lags, &missing, envelope, &mut Heap)
            }
            3 => {
                let rest_micros = u32::from(script.byte() % 2) * 1_000;
                Notice { ring, hop, aru, safe, rest_micros }.emit(envelope, &mut Heap)
            }
            4 => emit_repair_request(ring, &missing, envelope, &mut Heap),
            5 => {
                let (obliged, seen, old_ring) = (set, set, ring);
                let window = number() as u16 % 8_192 + 1;
                let held = &[0xff; 9][..usize::from(script.byte() % 4) * 3];
                let ring = attempt?;
                Exchange { ring, old_ring, aru, safe, obliged, seen, window, held }
                    .emit(envelope, &mut Heap)
            }
            6 => Done { ring: attempt?, seen: set }.emit(envelope, &mut Heap),
            _ => {
                let (serial, number_max) = (hop, seq.get());
                let incarnation = self.lives;
                let (members, heard) = (set, set);
                let contact = Contact { incarnation, serial, ring, members, heard, number_max };
                contact.emit(envelope, &mut Heap)
            }
        }
    }

    fn step(&mut self, script: &mut Reader<'_>) {
        let code = script.byte();
        let me = usize::from(code >> 4) % self.orders.len();
        match code % 16 {
            0..=3 => self.arrive(usize::from(script.byte()) + 1),
            4..=6 => self.pass(PAUSES[usize::from(script.byte()) % PAUSES.len()]),
            7 | 8 => self.submit(me, script),
            9 | 10 => {
                if let Some(packet) = self.lie(me, script) {
                    self.deliver(me, &packet);
                }
            }
            11 | 12 => {
                if let Some(packet) = self.mutated(script) {
                    self.deliver(me, &packet);
                }
            }
            13 => {
                let kind = PacketKind::ALL[usize::from(script.byte()) % PacketKind::ALL.len()];
                let sender = rank(script.byte());
                let len = usize::from(script.byte());
                if let Some(packet) = seal(kind, sender, script.bytes(len)) {
                    self.deliver(me, &packet);
                }
            }
            14 => {
                let gone = DaemonId::new(u32::from(script.byte() % 8));
                self.orders[me].handle_unreachable(self.now, gone, &mut Heap);
                self.drain(me);
            }
            _ => match script.byte() % 4 {
                0 => {
                    self.orders[me].handle_stop(self.now, &mut Heap);
                    self.drain(me);
                    self.lives += 1;
                    self.orders[me] = start(me, self.lives, self.now);
                    self.drain(me);
                }
                1 => self.queued.clear(),
                _ => {
                    // A part is lost.
                    let kept = usize::from(script.byte());
                    self.queued.truncate(kept);
                }
            },
        }
    }
}

fn seal(kind: PacketKind, sender: Rank, body: &[u8]) -> Option<HeapBuffer> {
    let envelope = Envelope { cluster: CLUSTER, sender };
    envelope.seal(&mut Heap, kind, body.len(), |into| into.copy_from_slice(body))
}

/// Runs a script; returns the states that were reached.
pub(crate) fn states(input: &[u8]) -> Vec<&'static str> {
    let mut script = Reader::new(input);
    let mut world = World::new();
    while !script.is_empty() {
        world.step(&mut script);
    }
    // What the lies have done passes, whatever it was.
    for _ in 0..40 {
        world.arrive(QUEUED_MAX);
        world.pass(Duration::from_millis(20));
    }
    world.states
}

/// Runs a script.
pub(crate) fn run(input: &[u8]) {
    states(input);
}
