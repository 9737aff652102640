//! One machine of a cluster: its receive buffers, and the daemon on it while one runs.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::buffer::HeapBuffer;
use crate::base::{DaemonId, Instant, OwnTime, RingId};
use crate::protocol::options::SALT_BITS;

use super::checker::trace::Life;
use super::core::{CLUSTERS, Channel, Core};
use super::rng::Rng;
use super::workload::Workload;

/// One machine with, while it runs, one daemon on it.
pub(super) struct Host<C> {
    pub(super) life: Life,
    pub(super) core: Option<C>,
    /// Index of its log in the trace.
    pub(super) log: usize,
    /// Each with the machine that sent it.
    pub(super) inbox: [VecDeque<(Option<usize>, HeapBuffer)>; 2],
    pub(super) inbox_bytes: [usize; 2],
    /// Datagrams that found no room since the last one that was taken.
    pub(super) dropped: u32,
    /// A `Work` is due.
    pub(super) working: bool,
    pub(super) paused_until: Instant,
    /// As its daemon takes it.
    pub(super) time: OwnTime,
    /// The moment of the `Timer` that is due.
    pub(super) armed: Option<Instant>,
    /// When that was asked for.
    pub(super) armed_at: Instant,
    /// Since when what is due waits for what has come.
    pub(super) late_since: Option<Instant>,
    pub(super) state: &'static str,
    pub(super) submitted: u32,
    /// Messages of its own that it has delivered.
    pub(super) returned: u32,
    pub(super) ring: Option<(RingId, Vec<DaemonId>)>,
    pub(super) workload: Workload,
    /// Counts changes of the workload, so that old ticks are known.
    pub(super) habit: u64,
    /// The identity of the cluster in its configuration file.
    pub(super) cluster: u64,
    /// Of all its lives.
    salts: Vec<u64>,
    /// What the clock showed at the start of the last life.
    clock: u64,
    /// And of all lives.
    clocks: Vec<u64>,
}

impl<C: Core> Host<C> {
    pub(super) fn new(daemon: DaemonId, first_incarnation: u64) -> Self {
        Self {
            life: Life { daemon, incarnation: 0 },
            core: None,
            log: usize::MAX,
            inbox: [VecDeque::new(), VecDeque::new()],
            inbox_bytes: [0; 2],
            dropped: 0,
            working: false,
            paused_until: Instant::ZERO,
            time: OwnTime::new(Instant::ZERO),
            armed: None,
            armed_at: Instant::ZERO,
            late_since: None,
            state: "",
            submitted: 0,
            returned: 0,
            ring: None,
            workload: Workload::silent(),
            habit: 0,
            cluster: CLUSTERS[0],
            salts: Vec::new(),
            clock: first_incarnation - 1,
            clocks: Vec::new(),
        }
    }

    /// What the clock shows as another life begins: not what it showed to one before, as real lives
    /// are not in one millisecond of two times.
    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        while self.clocks.contains(&self.clock) {
            self.clock += 1;
        }
        self.clocks.push(self.clock);
        self.clock
    }

    pub(super) fn set_back(&mut self, lives: u64) {
        self.clock = self.clock.saturating_sub(lives);
    }

    /// Draws the seed of another life, with a salt that no life before had, as `Setup` demands.
    /// Incarnations are one apart here, not the milliseconds between two starts: were salts just
    /// random, one run in some 50,000 would see a ring's id twice.
    pub(super) fn seed(&mut self, rng: &mut Rng) -> u64 {
        loop {
            let seed = rng.bits();
            let salt = seed & ((1 << SALT_BITS) - 1);
            if !self.salts.contains(&salt) {
                self.salts.push(salt);
                return seed;
            }
        }
    }

    /// Puts a datagram into a receive buffer of `room` bytes, if a daemon has it open.
    pub(super) fn receive(
        &mut self,
        from: Option<usize>,
        channel: Channel,
        bytes: HeapBuffer,
        room: usize,
    ) {
        if self.core.is_none() {
            return;
        }
        let held = &mut self.inbox_bytes[channel as usize];
        if *held + bytes.as_ref().len() <= room {
            *held += bytes.as_ref().len();
            self.inbox[channel as usize].push_back((from, bytes));
        } else {
            self.dropped += 1;
        }
    }

    /// The time of its daemon, which may stand still where that did not run for `stall`.
    pub(super) fn read(&mut self, clock: Instant, stall: Duration) -> Instant {
        self.time.read(clock, stall, || self.core.as_ref().and_then(Core::poll_timeout));
        self.time.now()
    }

    /// Whether something has come that was not taken yet.
    pub(super) fn is_behind(&self) -> bool {
        self.inbox.iter().any(|inbox| !inbox.is_empty())
    }

    /// The next datagram and its sender; of both sockets, `first`'s if there is one.
    pub(super) fn take(&mut self, first: Channel) -> Option<(Option<usize>, Channel, HeapBuffer)> {
        let second = match first {
            Channel::Data => Channel::Token,
            Channel::Token => Channel::Data,
        };
        let channel = [first, second]
            .into_iter()
            .find(|channel| !self.inbox[*channel as usize].is_empty())?;
        let (from, bytes) = self.inbox[channel as usize].pop_front()?;
        self.inbox_bytes[channel as usize] -= bytes.as_ref().len();
        Some((from, channel, bytes))
    }

    /// Forgets what the daemon had, once it is gone.
    pub(super) fn clear(&mut self) {
        self.inbox.iter_mut().for_each(VecDeque::clear);
        (self.inbox_bytes, self.dropped, self.late_since) = ([0; 2], 0, None);
        self.ring = None;
        self.state = "";
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::Ordering;
    use super::*;

    #[test]
    fn no_salt_comes_twice() {
        let (mut host, mut rng) = (Host::<Ordering>::new(DaemonId::new(1), 1), Rng::new(1));
        for _ in 0..5_000 {
            host.seed(&mut rng);
        }
        let mut salts = host.salts.clone();
        salts.sort_unstable();
        salts.dedup();
        assert_eq!(salts.len(), 5_000, "chance alone would draw about a dozen twice");
    }
}
