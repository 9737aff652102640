//! How much may be sent in one turn: windows in bytes, and what losses make of them.

use super::super::options::Options;

/// Packets that may always be sent in a turn, so that nobody starves.
const PACKETS_MIN: usize = 1;

/// The window opens by so many packets in each round without a loss.
const OPEN_PACKETS: usize = 8;

/// Nobody's window closes below so many packets.
const CLOSED_PACKETS: usize = 4;

/// Where more than this share of what was sent in a rotation had to be repeated, receivers are
/// overrun: what chance takes on a bad link is less.
const REPEATED_SHARE: usize = 16;

/// A daemon whose receive buffers ran over adds at least this share of what was sent in a rotation
/// to what was repeated: by chance nothing is dropped there, and of a train only one is counted.
const OVERRUN_SHARE: usize = REPEATED_SHARE / 2;

/// Bytes of packets that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// For the first time.
    pub(crate) new: usize,
    /// Again.
    pub(crate) repeated: usize,
}

impl Traffic {
    fn total(self) -> usize {
        self.new.saturating_add(self.repeated)
    }
}

/// Flow control of one ring at this daemon.
pub(crate) struct Flow {
    packet_bytes: usize,
    /// What all daemons may send in one rotation now: each sees the same repetitions, and has the
    /// same.
    global: Adaptive,
    /// What this daemon may send in one turn now.
    personal: Adaptive,
    accelerated_packets: usize,
    /// What it sent in its last turn.
    last: Traffic,
    lost: bool,
}

/// A window in bytes that grows by steps, and halves at a loss.
struct Adaptive {
    bytes: usize,
    step: usize,
    least: usize,
    most: usize,
}

impl Adaptive {
    fn adapt(&mut self, lost: bool) {
        let bytes = if lost { self.bytes / 2 } else { self.bytes + self.step };
        self.bytes = bytes.max(self.least).min(self.most);
    }
}

impl Flow {
    pub(crate) fn new(options: &Options, daemons: usize) -> Self {
        let packet_bytes = options.datagram_bytes;
        let global_bytes = options.global_window_bytes;
        let adaptive = |bytes: usize, most: usize, daemons: usize| Adaptive {
            bytes: bytes.min(most),
            step: OPEN_PACKETS * packet_bytes * daemons,
            least: CLOSED_PACKETS * packet_bytes * daemons,
            most,
        };
        // Alone against all others a daemon still gets a fair part of the rotation.
        let personal_bytes_max = options.personal_window_bytes.max(packet_bytes);
        let start = (global_bytes / daemons).max(16 * packet_bytes);
        Self {
            packet_bytes,
            global: adaptive(global_bytes, global_bytes, daemons),
            personal: adaptive(start, personal_bytes_max, 1),
            accelerated_packets: options.accelerated_window_bytes / packet_bytes,
            last: Traffic::default(),
            lost: false,
        }
    }

    /// Packets that may be sent in this turn, when all together sent `rotation` in the last one
    /// and `open_packets` places are free in the receive windows.
    pub(crate) fn budget(&mut self, rotation: Traffic, open_packets: usize) -> usize {
        let others = rotation.total().saturating_sub(self.last.total());
        let free = self.global.bytes.saturating_sub(others);
        let packets = self.personal.bytes.min(free) / self.packet_bytes;
        packets.max(PACKETS_MIN).min(open_packets)
    }

    /// Packets of a turn that follow the token.
    pub(crate) fn accelerated_packets(&self) -> usize {
        self.accelerated_packets
    }

    /// Ends a turn in which `turn` was sent; returns what was sent in the last rotation.
    pub(crate) fn record(&mut self, rotation: Traffic, turn: Traffic) -> Traffic {
        self.global.adapt(rotation.repeated > rotation.new / REPEATED_SHARE);
        self.personal.adapt(std::mem::take(&mut self.lost));
        let last = std::mem::replace(&mut self.last, turn);
        Traffic {
            new: rotation.new.saturating_sub(last.new) + turn.new,
            repeated: rotation.repeated.saturating_sub(last.repeated) + turn.repeated,
        }
    }

    /// Somebody missed packets of this daemon.
    pub(crate) fn lost(&mut self) {
        self.lost = true;
    }

    /// Receive buffers of this daemon ran over by `packets` since its last turn. Returns how many
    /// bytes more it is to say that it repeated: this is how all others learn of it, and close
    /// their windows.
    pub(crate) fn overrun(&mut self, packets: usize, rotation: Traffic, sent: usize) -> usize {
        if packets == 0 {
            return 0;
        }
        self.lost = true;
        let dropped = packets.saturating_mul(self.packet_bytes);
        dropped.min(self.global.most).max((rotation.new + sent) / OVERRUN_SHARE)
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

    fn new(bytes: usize) -> Traffic {
        Traffic { new: bytes, repeated: 0 }
    }

    #[test]
    fn others_of_the_rotation_leave_less_but_never_nothing() {
        let mut flow = flow();
        assert_eq!(flow.budget(new(0), 1_000), 50);
        assert_eq!(flow.budget(new(126_000), 1_000), 10);
        assert_eq!(flow.budget(Traffic { new: 0, repeated: 126_000 }, 1_000), 10);
        assert_eq!(flow.budget(new(1_000_000), 1_000), 1);
        assert_eq!(flow.budget(new(0), 3), 3);
        assert_eq!(flow.budget(new(0), 0), 0);
    }

    #[test]
    fn a_loss_halves_and_rounds_without_one_open_again() {
        let mut flow = flow();
        flow.lost();
        assert_eq!(flow.record(new(0), new(0)), new(0));
        assert_eq!(flow.budget(new(0), 1_000), 25);
        for _ in 0..100 {
            flow.record(new(0), new(0));
        }
        assert_eq!(flow.budget(new(0), 1_000), 50);
        for _ in 0..100 {
            flow.lost();
            flow.record(new(0), new(0));
        }
        assert_eq!(flow.budget(new(0), 1_000), 4);
    }

    #[test]
    fn a_buffer_that_runs_over_closes_the_windows_of_all_for_one_rotation() {
        let (mut slow, mut fast) = (flow(), flow());
        let sent = new(70_000);
        let mut rotation = fast.record(new(0), sent);
        let repeated = slow.overrun(1, rotation, 0);
        assert_eq!(repeated, 8_750);
        rotation = slow.record(rotation, Traffic { new: 0, repeated });
        assert_eq!(slow.budget(new(0), 1_000), 25, "its own, at once");
        rotation = fast.record(rotation, sent);
        assert_eq!(fast.global.bytes, 70_000);
        rotation = slow.record(rotation, new(0));
        assert_eq!((slow.global.bytes, rotation.repeated), (70_000, 0));
        fast.record(rotation, sent);
        assert!(fast.global.bytes > 70_000);
        assert_eq!(slow.overrun(0, rotation, 0), 0);
        // Nobody can make the sums overflow.
        assert_eq!(slow.overrun(usize::MAX, rotation, 0), 140_000);
    }

    #[test]
    fn own_turns_count_once_in_the_rotation() {
        let mut flow = flow();
        let turn = Traffic { new: 14_000, repeated: 2_800 };
        assert_eq!(flow.record(new(0), turn), turn);
        let rotation = Traffic { new: 14_000 + 7_000, repeated: 2_800 + 1_400 };
        let rest = Traffic { new: 8_400, repeated: 1_400 };
        assert_eq!(flow.record(rotation, new(1_400)), rest);
    }

    #[test]
    fn what_has_to_be_repeated_closes_the_window_of_all_and_a_rare_loss_does_not() {
        let mut flow = flow();
        let others = Traffic { new: 32_000, repeated: 2_000 };
        flow.record(others, new(0));
        assert_eq!(flow.global.bytes, 140_000);
        flow.record(Traffic { repeated: 2_001, ..others }, new(0));
        assert_eq!(flow.global.bytes, 70_000);
        assert_eq!(flow.budget(new(56_000), 1_000), 10);
        for _ in 0..10 {
            flow.record(Traffic { new: 0, repeated: 1_400 }, new(0));
        }
        assert_eq!(flow.global.bytes, 2 * 4 * 1_400);
        for _ in 0..10 {
            flow.record(new(0), new(0));
        }
        assert_eq!(flow.global.bytes, 140_000);
    }
}
