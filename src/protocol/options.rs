//! What the ordering core must know at start, and how it may be tuned.

use std::time::Duration;

use crate::base::limits::{
    DAEMONS_MAX, INCARNATION_MAX, PEER_DATAGRAM_BYTES_MAX, PEER_DATAGRAM_BYTES_MIN,
    REST_MICROS_MAX, RING_WINDOW_PACKETS, STATE_PART_BYTES, STATE_PART_BYTES_MIN,
};
use crate::base::{DaemonId, DaemonSet, Rank};

/// Low bits of ring numbers that differ from life to life of a daemon. An earlier life may have
/// formed rings that nobody else knows of, with any number; this one must not form them again.
pub const SALT_BITS: u32 = 20;

/// What the ordering core must know at start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This daemon.
    pub me: DaemonId,
    /// All daemons of the cluster in the configured order, this one among them.
    pub daemons: Vec<DaemonId>,
    /// Identity of the cluster: a hash of all that its daemons must agree on. Packets with another
    /// one are dropped.
    pub cluster: u64,
    /// Which life of this daemon it is: greater than in all its lives before, at least 1 and below
    /// 2^43. Milliseconds of wall-clock time are.
    pub incarnation: u64,
    /// Keeps the rings that this life forms apart from those of others: its low [`SALT_BITS`] must
    /// differ from those of each earlier life whose rings may still be counted on, that is, where
    /// the clock behind `incarnation` may be set back. Random ones do, but for one in a million.
    pub seed: u64,
    /// Tuning.
    pub options: Options,
}

/// Tuning. All daemons of a cluster should have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A daemon that gives no sign for so long has failed: the floor, measured rounds may raise
    /// it. Default 300 ms. Lower finds dead hosts sooner and excludes paused ones sooner.
    pub failure_timeout: Duration,
    /// A ring with nothing to do sends its token round so often, to show that everybody is there:
    /// who fails meanwhile is found so much later, unless somebody has something to send. From
    /// 1 us to a minute. Default 600 ms.
    pub rest_interval: Duration,
    /// A daemon whose life is earlier than one that the others know, as its clock was set back, is
    /// let in when that was silent for so long; for ten failure timeouts, if they are longer.
    /// Default 10 s.
    pub forget_after: Duration,
    /// Wait at least so long for a sign that the token arrived before it is sent again. Default
    /// 500 us. Measured rounds may raise it.
    pub token_repeat: Duration,
    /// A packet may be late by so much before it counts as lost. Default 300 us.
    pub reorder_allowance: Duration,
    /// Shortest time between two notices of what was received. Default 30 us. Lower makes safe
    /// messages faster where nobody sends, for more small packets.
    pub notice_interval: Duration,
    /// Bytes of the largest UDP payload. Default 1,472: an Ethernet frame.
    pub datagram_bytes: usize,
    /// Bytes that all daemons together may send in one rotation of the token. Default 4 MiB.
    pub global_window_bytes: usize,
    /// Bytes that one daemon may send in one turn. Default 1 MiB.
    pub personal_window_bytes: usize,
    /// Bytes of a turn that may follow the token instead of preceding it. Default 256 KiB.
    pub accelerated_window_bytes: usize,
    /// Packets between the slowest daemon and the newest packet that this daemon can keep; a ring
    /// goes by the least of its daemons. Default and maximum 8,192.
    pub window_packets: usize,
    /// Bytes of messages that may wait for their turn before submitting is refused. Default 4 MiB.
    pub backlog_bytes: usize,
    /// Bytes after which a part of what daemons tell each other of their groups ends. Default
    /// 64 KiB.
    pub state_part_bytes: usize,
    /// Whether [`Output::Placed`](super::output::Output::Placed) is wanted, for a judge of runs.
    pub tells_places: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            failure_timeout: Duration::from_millis(300),
            rest_interval: Duration::from_millis(600),
            forget_after: Duration::from_secs(10),
            token_repeat: Duration::from_micros(500),
            reorder_allowance: Duration::from_micros(300),
            notice_interval: Duration::from_micros(30),
            datagram_bytes: 1_472,
            global_window_bytes: 4 << 20,
            personal_window_bytes: 1 << 20,
            accelerated_window_bytes: 256 << 10,
            window_packets: RING_WINDOW_PACKETS,
            backlog_bytes: 4 << 20,
            state_part_bytes: STATE_PART_BYTES,
            tells_places: false,
        }
    }
}

impl Setup {
    /// This daemon's place in the configured order.
    ///
    /// # Panics
    ///
    /// If it is not among the daemons, one is there twice, there are too many, or an option is out
    /// of its bounds: a configuration that was checked has none of these.
    pub(crate) fn check(&self) -> Rank {
        let mut sorted = self.daemons.clone();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "a daemon is there twice");
        assert!(self.daemons.len() <= DAEMONS_MAX);
        let options = &self.options;
        let datagrams = PEER_DATAGRAM_BYTES_MIN..=PEER_DATAGRAM_BYTES_MAX;
        assert!(datagrams.contains(&options.datagram_bytes));
        assert!((1..=RING_WINDOW_PACKETS).contains(&options.window_packets));
        assert!(!options.failure_timeout.is_zero());
        let rests = Duration::from_micros(1)..=Duration::from_micros(REST_MICROS_MAX.into());
        assert!(rests.contains(&options.rest_interval));
        assert!(options.state_part_bytes >= STATE_PART_BYTES_MIN);
        assert!((1..=INCARNATION_MAX).contains(&self.incarnation));
        let index = self.daemons.iter().position(|&daemon| daemon == self.me);
        Rank::new(index.expect("a daemon is in its own cluster")).expect("not too many")
    }

    /// Everybody.
    pub(crate) fn everybody(&self) -> DaemonSet {
        DaemonSet::first_ranks(self.daemons.len())
    }
}
