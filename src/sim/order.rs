//! The daemon's own ordering core, as the simulator drives it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::limits::PEER_DATAGRAM_BYTES_MIN;
use crate::base::{DaemonId, Instant, RingId, Seq, Service, Store};
use crate::protocol::options;
use crate::protocol::order::Order;
use crate::protocol::output::{self, Kind, To};
use crate::wire::header;
use crate::wire::packet::{Packet, parse};

use super::checker::trace::Place;
use super::core::{CLUSTERS, Channel, Core, Output, Placement, Setup, Transmit};
use super::store::{Memory, Shortage};

/// Enough of a message to know it by.
const HEAD_BYTES: usize = 16;

/// The ordering core of one daemon.
pub struct Ordering {
    order: Order<Memory>,
    memory: Memory,
    cluster: u64,
    /// Beginnings of the messages that have no place yet, in the order of submission.
    submitted: VecDeque<Vec<u8>>,
    ring: RingId,
    transmits: VecDeque<Transmit>,
    outputs: VecDeque<Output>,
}

/// The incarnation of this life.
pub(super) fn incarnation(setup: &Setup) -> u64 {
    setup.tuning.first_incarnation + u64::from(setup.incarnation)
}

pub(super) fn options(setup: &Setup) -> options::Options {
    let tuning = &setup.tuning;
    let datagram_bytes = tuning.datagram_bytes.max(PEER_DATAGRAM_BYTES_MIN);
    options::Options {
        failure_timeout: tuning.failure_timeout,
        rest_interval: tuning.rest_interval,
        token_repeat: (tuning.failure_timeout / 20).max(Duration::from_micros(300)),
        reorder_allowance: tuning.reorder_allowance,
        notice_interval: tuning.notice_interval,
        datagram_bytes,
        // Daemons need not have the same: a ring goes by the least.
        window_packets: tuning.window_packets as usize * (1 + setup.daemon.get() as usize % 3),
        global_window_bytes: datagram_bytes * tuning.window_packets as usize,
        personal_window_bytes: datagram_bytes * (tuning.window_packets as usize / 2).max(1),
        accelerated_window_bytes: datagram_bytes * (tuning.window_packets as usize / 4),
        backlog_bytes: 1 << 20,
        state_part_bytes: tuning.state_part_bytes,
        tells_places: true,
    }
}

impl Ordering {
    /// Takes everything that the core has to say, so that places can be told with the packets
    /// that bring them.
    fn drain(&mut self) {
        let from = self.transmits.len();
        while let Some(transmit) = self.order.poll_transmit() {
            self.transmits.push_back(carried(transmit));
        }
        let mut packets = None;
        while let Some(output) = self.order.poll_output() {
            self.output(output, from, &mut packets);
        }
    }

    /// Which packet of the order each datagram from the `from`th on is.
    fn packets(&self, from: usize) -> Vec<(RingId, Seq, usize)> {
        let sent = self.transmits.iter().enumerate().skip(from);
        sent.filter_map(|(at, transmit)| match parse(self.cluster, transmit.bytes.as_ref()) {
            Ok((_, Packet::Data(data))) => Some((data.header.ring, data.header.seq, at)),
            Ok(_) | Err(_) => None,
        })
        .collect()
    }

    fn output(
        &mut self,
        output: output::Output<HeapBuffer>,
        from: usize,
        packets: &mut Option<Vec<(RingId, Seq, usize)>>,
    ) {
        match output {
            output::Output::Placed { ring, place: at } => {
                let payload = self.submitted.pop_front().expect("what is placed was submitted");
                let placement = Placement { payload, place: place(ring, at) };
                let packets = packets.get_or_insert_with(|| self.packets(from));
                match packets.iter().find(|(r, seq, _)| (*r, *seq) == (ring, at.seq)) {
                    Some((.., sent)) => self.transmits[*sent].places.push(placement),
                    None => self.outputs.push_back(Output::Placed(placement)),
                }
            }
            output::Output::Deliver { place: at, service, payload, .. } => {
                let place = place(self.ring, at);
                self.outputs.push_back(Output::Message { payload, service, place });
            }
            output::Output::Configuration { kind: Kind::Regular, ring, members, .. } => {
                self.ring = ring;
                self.outputs.push_back(Output::Regular { ring, members });
            }
            output::Output::Configuration { kind: Kind::Transitional, members, .. } => {
                self.outputs.push_back(Output::Transitional { members });
            }
        }
    }
}

/// The datagram as the simulated network has it.
pub(super) fn carried(transmit: output::Transmit<HeapBuffer>) -> Transmit {
    let to = match transmit.to {
        To::Multicast => None,
        To::Daemon(daemon) => Some(daemon),
    };
    let channel = match transmit.channel {
        output::Channel::Data => Channel::Data,
        output::Channel::Token => Channel::Token,
    };
    Transmit { to, channel, bytes: transmit.bytes, places: Vec::new() }
}

/// The place as the checker has it.
pub(super) fn place(ring: RingId, place: output::Place) -> Place {
    Place { ring, seq: place.seq, index: u32::from(place.index) }
}

impl Core for Ordering {
    fn start(now: Instant, setup: &Setup) -> Self {
        let core = options::Setup {
            me: setup.daemon,
            daemons: setup.daemons.clone(),
            cluster: setup.cluster,
            incarnation: incarnation(setup),
            seed: setup.seed,
            options: options(setup),
        };
        let mut memory = Memory::new(setup.seed);
        let order = Order::new(&core, now, &mut memory);
        let ring = order.ring().expect("a daemon starts in a ring of its own");
        let mut this = Self {
            order,
            memory,
            cluster: setup.cluster,
            submitted: VecDeque::new(),
            ring,
            transmits: VecDeque::new(),
            outputs: VecDeque::new(),
        };
        this.drain();
        this
    }

    fn submit(&mut self, now: Instant, service: Service, payload: &[u8]) -> bool {
        let buffer = Heap.copy(payload).expect("the heap has no bound");
        if !self.order.is_ready() {
            return false;
        }
        self.submitted.push_back(payload[..payload.len().min(HEAD_BYTES)].to_vec());
        let taken = self.order.handle_submit(now, service, buffer, &mut self.memory).is_ok();
        if !taken {
            self.submitted.pop_back();
        }
        self.drain();
        taken
    }

    fn handle_packet(&mut self, now: Instant, _: Channel, bytes: &HeapBuffer) {
        let awaited = || self.order.awaits(bytes.as_ref());
        if !header::is_data(bytes.as_ref()) || self.memory.takes_data(awaited) {
            self.order.handle_packet(now, bytes, &mut self.memory);
        }
        self.drain();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.order.handle_timeout(now, &mut self.memory);
        self.drain();
    }

    fn handle_unreachable(&mut self, now: Instant, daemon: DaemonId) {
        self.order.handle_unreachable(now, daemon, &mut self.memory);
        self.drain();
    }

    fn handle_stop(&mut self, now: Instant) {
        self.order.handle_stop(now, &mut self.memory);
        self.drain();
    }

    fn set_memory(&mut self, shortage: Shortage) {
        self.memory.set(shortage);
    }

    fn refused(&self) -> (u64, u64) {
        self.memory.refused()
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.order.poll_timeout()
    }

    fn state(&self) -> &'static str {
        self.order.state_name()
    }

    fn retained(&self) -> usize {
        self.order.retained_bytes()
    }

    fn is_packet(_: Channel, bytes: &[u8]) -> bool {
        CLUSTERS.iter().any(|cluster| parse(*cluster, bytes).is_ok())
    }

    fn kind(_: Channel, bytes: &[u8]) -> usize {
        // Its own packets alone are asked about.
        header::kind(bytes).map_or(0, |kind| kind as usize)
    }
}
