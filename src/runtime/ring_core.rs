//! The ring core's state: the protocol layer, memory for its messages, and the other daemons.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use super::lifeline::Sign;
use super::network::{Arrival, Network, Plan, Sockets};
use super::ring_pool::RingPool;
use crate::base::limits::{RING_WINDOW_POOL_SHARE, STALLS_PER_TIMEOUT, TIMERS_LATE_MAX};
use crate::base::{
    Counter, DaemonId, DaemonName, Event, Instant, OwnTime, PrivateGroup, SessionId, Store, Tally,
};
use crate::config::Cluster;
use crate::mem::pool::Slice;
use crate::protocol::options::Options;
use crate::protocol::{Daemon, Delivery, Protocol, Setup};
use crate::session::Submission;
use crate::sys::clock::Clock;
use crate::sys::driver::{DatagramEvent, DatagramKey, Driver};

/// The protocol layer of the daemon with its buffer pool.
pub(super) struct RingCore {
    pub(super) me: DaemonName,
    /// That of the last setup.
    incarnation: u64,
    pool_bytes_max: usize,
    protocol: Protocol<RingPool>,
    pool: RingPool,
    /// Not yet with the driver.
    sockets: Option<Sockets>,
    network: Option<Network>,
    /// Where the other daemons are once the protocol layer has gone over to them.
    next_plan: Option<Plan>,
    time: OwnTime,
    /// For how long this process must not have run for its time to stand still.
    stall: Duration,
    /// How long that was in this turn, until it is told.
    stood: Option<Duration>,
    /// What had come by then has been taken.
    heard_until: Instant,
    /// Timers wait since then for packets that are there.
    late_since: Option<Instant>,
    /// Packets of data, and grants of the token, up to the last look.
    traffic: u64,
    tally: Tally,
}

/// The daemons of a cluster; without one it is this one alone.
fn daemons(cluster: &Cluster, me: DaemonName) -> Vec<Daemon> {
    match &cluster.daemons[..] {
        [] => vec![Daemon { id: DaemonId::from_name(me.as_str()), name: me }],
        all => all.iter().map(|daemon| Daemon { id: daemon.id, name: daemon.name }).collect(),
    }
}

/// What daemons are called.
pub(super) fn names(cluster: &Cluster, me: DaemonName) -> Vec<(DaemonId, DaemonName)> {
    daemons(cluster, me).iter().map(|daemon| (daemon.id, daemon.name)).collect()
}

/// What the protocol layer must know of a cluster. `incarnation`: see [`Setup::incarnation`].
pub(super) fn setup(
    cluster: &Cluster,
    me: DaemonName,
    incarnation: u64,
    pool_bytes_max: usize,
) -> Setup {
    let own = cluster.daemon(me).map_or_else(|| DaemonId::from_name(me.as_str()), |me| me.id);
    let ring = &cluster.ring;
    // A gap can only be filled where there is room beside all that came behind it.
    let window_packets = (pool_bytes_max / RING_WINDOW_POOL_SHARE / cluster.datagram_bytes).max(1);
    Setup {
        daemons: daemons(cluster, me),
        me: own,
        cluster: cluster.identity().hash,
        incarnation,
        seed: RandomState::new().hash_one(()),
        options: Options {
            failure_timeout: cluster.failure_timeout,
            rest_interval: ring.rest_interval,
            token_repeat: ring.token_repeat,
            reorder_allowance: ring.reorder_allowance,
            notice_interval: ring.notice_interval,
            datagram_bytes: cluster.datagram_bytes,
            global_window_bytes: ring.global_window_bytes,
            personal_window_bytes: ring.personal_window_bytes,
            accelerated_window_bytes: ring.accelerated_window_bytes,
            window_packets: ring.window_packets.min(window_packets),
            backlog_bytes: ring.backlog_bytes,
            ..Options::default()
        },
    }
}

/// What a submission brings at once.
pub(super) enum Answer {
    /// A name, or that it is taken.
    Named(Option<PrivateGroup>),
    /// Deliveries, sooner or later.
    Ordered,
}

impl RingCore {
    /// `sockets`: where there are other daemons.
    pub(super) fn new(
        cluster: &Cluster,
        me: DaemonName,
        sockets: Option<Sockets>,
        now: Instant,
        pool_bytes_max: usize,
    ) -> Self {
        let mut pool = RingPool::new(pool_bytes_max);
        let incarnation = Clock.wall_millis();
        let setup = setup(cluster, me, incarnation, pool_bytes_max);
        let protocol = Protocol::new(&setup, now, &mut pool);
        Self {
            me,
            incarnation,
            pool_bytes_max,
            protocol,
            pool,
            sockets,
            network: None,
            next_plan: None,
            time: OwnTime::new(now),
            stall: cluster.failure_timeout / STALLS_PER_TIMEOUT,
            stood: None,
            heard_until: now,
            late_since: None,
            traffic: 0,
            tally: Tally::new(),
        }
    }

    /// Goes over to another cluster while clients stay.
    pub(super) fn reload(&mut self, cluster: &Cluster) {
        self.next_plan = Plan::new(cluster, self.me);
        self.stall = cluster.failure_timeout / STALLS_PER_TIMEOUT;
        // The clock may have been set back.
        self.incarnation = Clock.wall_millis().max(self.incarnation + 1);
        let setup = setup(cluster, self.me, self.incarnation, self.pool_bytes_max);
        self.protocol.handle_reload(self.time.now(), setup, &mut self.pool);
    }

    /// Work begins.
    pub(super) fn open(&mut self, driver: &mut Driver) {
        self.network =
            self.sockets.take().map(|sockets| Network::new(self.time.now(), sockets, driver));
    }

    /// Whether data of other daemons is to be dropped, to be repeated later: the sessions' cores
    /// have not taken what came before.
    pub(super) fn hold_data(&mut self, held: bool) {
        if let Some(network) = &mut self.network {
            network.hold_data(held);
        }
    }

    /// Takes what has come from other daemons.
    pub(super) fn receive(&mut self, socket: DatagramKey, event: DatagramEvent<'_>) {
        let Some(network) = &mut self.network else { return };
        let (protocol, tally, now) = (&mut self.protocol, &mut self.tally, self.time.now());
        network.receive(now, socket, event, &mut self.pool, |arrival, pool| match arrival {
            Arrival::Packet(packet) => protocol.handle_packet(now, &packet, pool),
            // Daemons send more than this one can take.
            Arrival::Held => protocol.handle_dropped(1),
            Arrival::Scarce(packet) => {
                let stored = if protocol.awaits(packet) { pool.copy(packet) } else { None };
                match stored {
                    Some(packet) => protocol.handle_packet(now, &packet, pool),
                    None => tally.count(Counter::PoolExhausted),
                }
            }
            Arrival::Dropped(packets) => protocol.handle_dropped(packets),
            Arrival::Refusal(daemon) => protocol.handle_unreachable(now, daemon, pool),
        });
    }

    /// Sends what there is for other daemons. Returns how many packets that was.
    pub(super) fn transmit(&mut self, driver: &mut Driver) -> usize {
        let protocol = &mut self.protocol;
        let Some(network) = &mut self.network else { return 0 };
        if let Some((ring, members)) = protocol.ring() {
            network.follow(self.time.now(), ring, members);
        }
        let sent = network.transmit(driver, || protocol.poll_transmit());
        if !protocol.is_reloading()
            && let Some(plan) = self.next_plan.take()
        {
            network.set_daemons(self.time.now(), &plan);
        }
        sent
    }

    /// Says goodbye to the other daemons.
    pub(super) fn stop(&mut self, driver: &mut Driver) {
        self.protocol.handle_stop(self.time.now(), &mut self.pool);
        self.transmit(driver);
    }

    /// Tells what the clock shows, for everything until the next turn. The driver was asked what
    /// has come after the last call.
    pub(super) fn begin_turn(&mut self, clock: Instant) {
        self.heard_until = self.time.now();
        self.stood = self.time.read(clock, self.stall, || self.protocol.poll_timeout());
        self.tally.add(Counter::Stalls, self.stood.is_some().into());
        let now = self.time.now();
        let Some(network) = &mut self.network else { return };
        network.fire(now);
        while let Some(sign) = network.poll_lifeline() {
            match sign {
                Sign::Ended(daemon) => {
                    self.protocol.handle_unreachable(now, daemon, &mut self.pool);
                }
                Sign::Doubted(daemon) => self.protocol.handle_doubt(now, daemon, &mut self.pool),
            }
        }
    }

    pub(super) fn submit(&mut self, id: SessionId, submission: Submission<Slice>) -> Answer {
        match submission {
            Submission::Connect { name, wants_membership } => {
                Answer::Named(self.protocol.handle_connect(id, name, wants_membership).ok())
            }
            Submission::Request(request) => {
                self.protocol.handle_request(self.time.now(), id, request, &mut self.pool);
                Answer::Ordered
            }
        }
    }

    /// When there is something to do next, as the clock shows it.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let of_network = self.network.as_ref().and_then(Network::next_timer);
        let next = self.protocol.poll_timeout().into_iter().chain(of_network).min();
        next.map(|at| self.time.on_clock(at))
    }

    /// Lets the protocol layer do what is due, once all packets have been taken that had come by
    /// then: this process may be late, and the others must not pay for it.
    /// `is_behind`: some that are there may not have been taken.
    pub(super) fn fire_timers(&mut self, is_behind: bool) {
        let now = self.time.now();
        let next = self.protocol.poll_timeout();
        if next == Some(now) {
            // What the input of this turn asked for, to be done behind all of it.
            return self.protocol.handle_timeout(now, &mut self.pool);
        }
        if next.is_none_or(|at| at > self.heard_until) {
            self.late_since = None;
            return;
        }
        let since = *self.late_since.get_or_insert(now);
        if !is_behind || now.since(since) >= TIMERS_LATE_MAX {
            self.late_since = None;
            self.protocol.handle_timeout(now, &mut self.pool);
        }
    }

    /// Tries again what waits for memory.
    pub(super) fn retry(&mut self) {
        if self.protocol.is_blocked() {
            self.protocol.handle_memory(self.time.now(), &mut self.pool);
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.protocol.is_blocked()
    }

    pub(super) fn poll_delivery(&mut self) -> Option<Delivery<'_, Slice>> {
        self.protocol.poll_delivery()
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        let of_time = self.stood.take().map(|time| Event::Stood { time });
        of_time
            .or_else(|| self.network.as_mut().and_then(Network::poll_event))
            .or_else(|| self.protocol.poll_event())
    }

    /// Whether memory was lacking since the last call, also for what came from other daemons.
    pub(super) fn take_lack(&mut self) -> bool {
        self.pool.take_lack()
    }

    /// Whether messages went through the ring since the last call, or are about to: all else that
    /// daemons tell each other is upkeep, behind which nothing else is to be expected soon.
    pub(super) fn take_traffic(&mut self) -> bool {
        let [_, order] = self.protocol.tallies();
        let counters = [Counter::PacketsSent, Counter::PacketsReceived, Counter::TokensGranted];
        let traffic = counters.iter().map(|&counter| order.get(counter)).sum();
        std::mem::replace(&mut self.traffic, traffic) != traffic
    }

    pub(super) fn tallies(&self) -> [&Tally; 5] {
        const NOTHING: &Tally = &Tally::new();
        let [groups, order] = self.protocol.tallies();
        let [network, strangers] = self.network.as_ref().map_or([NOTHING; 2], Network::tallies);
        [groups, order, network, strangers, &self.tally]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn incarnations_grow_even_where_the_clock_was_set_back() {
        let Config { cluster, daemon, .. } = Config::default();
        let mut core = RingCore::new(&cluster, daemon, None, Clock.read(), 1 << 20);
        let first = core.incarnation;
        core.reload(&cluster);
        assert!(core.incarnation > first);
        let later = Clock.wall_millis() + 3_600_000;
        core.incarnation = later;
        core.reload(&cluster);
        assert_eq!(core.incarnation, later + 1);
    }
}
