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

pub(super) fn options(setup: &Setup) -> options::Options {
    let tuning = &setup.tuning;
    let datagram_bytes = tuning.datagram_bytes.max(PEER_DATAGRAM_BYTES_MIN);
    options::Options {
        failure_timeout: tuning.failure_timeout,
        rest_interval: tuning.rest_interval,
        // The least that there may be: ten failure timeouts.
        forget_after: Duration::ZERO,
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
    const IS_OURS: bool = true;

    fn start(now: Instant, setup: &Setup) -> Self {
        let core = options::Setup {
            me: setup.daemon,
            daemons: setup.daemons.clone(),
            cluster: setup.cluster,
            incarnation: setup.clock,
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

    fn handle_dropped(&mut self, packets: u32) {
        self.order.handle_dropped(packets);
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

#[cfg(test)]
mod tests {
    use super::super::core::Tuning;
    use super::*;

    const STEP: Duration = Duration::from_micros(50);
    const STEPS: u32 = 4_000;

    fn core(daemon: u32) -> Ordering {
        let tuning = Tuning {
            failure_timeout: Duration::from_millis(20),
            rest_interval: Duration::from_millis(2),
            window_packets: 200,
            datagram_bytes: 1_432,
            state_part_bytes: 150,
            first_incarnation: 1,
            reorder_allowance: Duration::from_micros(300),
            notice_interval: Duration::from_micros(30),
        };
        let (daemon, daemons) = (DaemonId::new(daemon), vec![DaemonId::new(1), DaemonId::new(2)]);
        let (cluster, seed) = (CLUSTERS[0], daemon.get().into());
        let setup =
            Setup { daemon, daemons, cluster, seed, run: 1, incarnation: 0, clock: 1, tuning };
        Core::start(Instant::ZERO, &setup)
    }

    /// Of two daemons the first one sends all that it may, and the second one drops so many packets
    /// in each step, once there is a ring. Returns how many packets of data were sent by then, and
    /// how many bytes tokens of the second one said to be repeated, at most.
    fn run(drops: u32) -> (usize, u32) {
        let (mut cores, mut sent, mut repeated) = ([core(1), core(2)], 0, 0);
        for step in 0..STEPS {
            let now = Instant::ZERO + step * STEP;
            while cores[0].submit(now, Service::Agreed, &[7; 1_000]) {}
            let counts = step >= STEPS / 2;
            cores[1].handle_dropped(if counts { drops } else { 0 });
            for from in 0..2 {
                if cores[from].poll_timeout().is_some_and(|at| at <= now) {
                    cores[from].handle_timeout(now);
                }
                while cores[from].poll_output().is_some() {}
                let packets: Vec<_> = std::iter::from_fn(|| cores[from].poll_transmit()).collect();
                for Transmit { channel, bytes, .. } in packets {
                    match parse(CLUSTERS[0], bytes.as_ref()) {
                        Ok((_, Packet::Data(_))) if counts => sent += 1,
                        Ok((_, Packet::Token(token))) if from == 1 => {
                            repeated = repeated.max(token.header.repeated);
                        }
                        _ => {}
                    }
                    cores[1 - from].handle_packet(now, channel, &bytes);
                }
            }
        }
        (sent, repeated)
    }

    #[test]
    fn senders_slow_down_where_receive_buffers_run_over() {
        let (open, none) = run(0);
        assert_eq!(none, 0);
        let (closed, told) = run(1);
        assert!(told > 0);
        assert!(open > 4 * closed && closed > 0, "{open} packets, {closed} with drops");
    }
}
