//! How much may be sent in one turn: windows in bytes, and what losses make of them.

use super::super::options::Options;

/// Packets that may always be sent in a turn, so that nobody starves.
const PACKETS_MIN: usize = 1;

/// The window opens by so many packets in each round without a loss.
const OPEN_PACKETS: usize = 8;

/// Flow control of one ring at this daemon.
pub(crate) struct Flow {
    packet_bytes: usize,
    global_bytes: usize,
    personal_bytes_max: usize,
    accelerated_packets: usize,
    /// What this daemon may send in one turn now: grows by steps, halves at a loss.
    personal_bytes: usize,
    /// What it sent in its last turn.
    sent_bytes: usize,
    lost: bool,
}

impl Flow {
    pub(crate) fn new(options: &Options, daemons: usize) -> Self {
        let packet_bytes = options.datagram_bytes;
        // Alone against all others a daemon still gets a fair part of the rotation.
        let personal_bytes_max = options.personal_window_bytes.max(packet_bytes);
        let start = (options.global_window_bytes / daemons).max(16 * packet_bytes);
        Self {
            packet_bytes,
            global_bytes: options.global_window_bytes,
            personal_bytes_max,
            accelerated_packets: options.accelerated_window_bytes / packet_bytes,
            personal_bytes: start.min(personal_bytes_max),
            sent_bytes: 0,
            lost: false,
        }
    }

    /// Packets that may be sent in this turn, when `flow_bytes` were sent in the last rotation
    /// and `open_packets` places are free in the receive windows.
    pub(crate) fn budget(&mut self, flow_bytes: usize, open_packets: usize) -> usize {
        let others = flow_bytes.saturating_sub(self.sent_bytes);
        let free = self.global_bytes.saturating_sub(others);
        let packets = self.personal_bytes.min(free) / self.packet_bytes;
        packets.max(PACKETS_MIN).min(open_packets)
    }

    /// Packets of a turn that follow the token.
    pub(crate) fn accelerated_packets(&self) -> usize {
        self.accelerated_packets
    }

    /// Ends a turn in which so much was sent; returns what was sent in the last rotation.
    pub(crate) fn record(&mut self, flow_bytes: usize, sent_bytes: usize) -> usize {
        let flow_bytes = flow_bytes.saturating_sub(self.sent_bytes) + sent_bytes;
        self.sent_bytes = sent_bytes;
        self.personal_bytes = if std::mem::take(&mut self.lost) {
            (self.personal_bytes / 2).max(4 * self.packet_bytes).min(self.personal_bytes_max)
        } else {
            (self.personal_bytes + OPEN_PACKETS * self.packet_bytes).min(self.personal_bytes_max)
        };
        flow_bytes
    }

    /// Somebody missed packets of this daemon, or a receive buffer ran over.
    pub(crate) fn lost(&mut self) {
        self.lost = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let options = Options {
            datagram_bytes: 1_400,
            global_window_bytes: 140_000,
            personal_window_bytes: 70_000,
            ..Options::default()
        };
        Flow::new(&options, 2)
    }

    #[test]
    fn others_of_the_rotation_leave_less_but_never_nothing() {
        let mut flow = flow();
        assert_eq!(flow.budget(0, 1_000), 50);
        assert_eq!(flow.budget(126_000, 1_000), 10);
        assert_eq!(flow.budget(1_000_000, 1_000), 1);
        assert_eq!(flow.budget(0, 3), 3);
        assert_eq!(flow.budget(0, 0), 0);
    }

    #[test]
    fn a_loss_halves_and_rounds_without_one_open_again() {
        let mut flow = flow();
        flow.lost();
        assert_eq!(flow.record(0, 0), 0);
        assert_eq!(flow.budget(0, 1_000), 25);
        for _ in 0..100 {
            flow.record(0, 0);
        }
        assert_eq!(flow.budget(0, 1_000), 50);
        for _ in 0..100 {
            flow.lost();
            flow.record(0, 0);
        }
        assert_eq!(flow.budget(0, 1_000), 4);
    }

    #[test]
    fn own_turns_count_once_in_the_rotation() {
        let mut flow = flow();
        assert_eq!(flow.record(0, 14_000), 14_000);
        assert_eq!(flow.record(14_000 + 7_000, 1_400), 8_400);
    }
}
