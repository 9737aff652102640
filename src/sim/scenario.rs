//! Runs drawn by lot: how many daemons, how tuned, what befalls them, and how it ends.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::base::limits::INCARNATION_MAX;
use crate::base::{DaemonId, Instant, RingId};

use super::checker::trace::{Ending, Trace};
use super::checker::{Violation, check};
use super::cluster::{Action, Cluster};
use super::core::{CLUSTERS, Core, Tuning};
use super::cover::Cover;
use super::network::Weather;
use super::rng::Rng;
use super::store::Shortage;
use super::timeline::Timeline;
use super::workload::Workload;

/// Names of the membership states, in which scenarios crash daemons.
pub const STATES: [&str; 4] = ["operational", "gather", "commit", "recovery"];

/// What a run is asked to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Daemons; by lot where there is none.
    pub daemons: Option<usize>,
    /// Virtual time of the faults; by lot where there is none.
    pub faults: Option<Duration>,
    /// Keep a timeline.
    pub timeline: bool,
}

/// A run that was made.
pub struct Run {
    /// What daemons saw.
    pub trace: Trace,
    /// How it came about.
    pub timeline: Timeline,
    /// What went wrong.
    pub verdict: Result<(), What>,
    /// What it met.
    pub cover: Cover,
    /// Virtual time of the whole run.
    pub time: Duration,
}

/// How a run went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It broke a property.
    Violation(Violation),
    /// The core gave up: an assertion of its own.
    Panic(String),
}

/// By fewer lives than this a clock is set back.
const SET_BACK_MAX: u64 = 500;

/// Longest time from the last fault to rest, in failure timeouts.
const SETTLE_TIMEOUTS: u32 = 200;

/// Longest time until all that was accepted is delivered, in failure timeouts.
const DRAIN_TIMEOUTS: u32 = 1_000;

/// How long a settled cluster is watched, under load and idle, in failure timeouts.
const WATCH_TIMEOUTS: u32 = 10;

/// Makes the run that belongs to `seed`.
pub fn run<C: Core>(seed: u64, options: &Options) -> Run {
    let mut rng = Rng::new(seed ^ 0x6d61_6472_6967_616c);
    let mut plan = Plan::random(&mut rng, options);
    if C::IS_OURS {
        // By a lot of its own: those that the model is known to fail with stay what they are.
        plan.doubts(&mut Rng::new(seed ^ 0x646f_7562_7473));
        plan.promises(&mut Rng::new(seed ^ 0x7072_6f6d_6973_6573));
    }
    let mut cluster: Cluster<C> = Cluster::new(plan.daemons, rng.bits(), plan.tuning.clone());
    if options.timeline {
        cluster.record();
    }
    // What was seen until a core gave up is wanted most of all.
    let made = catching(|| {
        plan.carry_out(&mut cluster);
        end(&mut cluster, &plan, &mut rng)
    });
    let (time, cover) = (cluster.now().since(Instant::ZERO), cluster.cover());
    let (ending, panic) = match made {
        Ok(ending) => (ending, Ok(())),
        Err(panic) => (Ending::default(), Err(panic)),
    };
    let (trace, timeline) = cluster.finish(ending);
    let judge = || catching(|| check(&trace).map_err(What::Violation))?;
    let verdict = panic.and_then(|()| judge());
    let cover = cover.with_trace(&trace);
    Run { trace, timeline, verdict, cover, time }
}

fn catching<T>(work: impl FnOnce() -> T) -> Result<T, What> {
    let text = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
    };
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| What::Panic(text(panic)))
}

/// What befalls the cluster until faults stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Machines.
    pub daemons: usize,
    /// How the daemons are tuned.
    pub tuning: Tuning,
    /// The last machine has a daemon with another configuration file.
    pub stranger: bool,
    /// The clients of each machine.
    pub workloads: Vec<Workload>,
    /// What happens when.
    pub actions: Vec<(Instant, Action)>,
    /// When faults stop.
    pub end: Instant,
    /// Nanoseconds that each daemon works on a datagram once faults have stopped. Where it is much,
    /// the daemons are busy all the time, and yet a token is never near its timeout.
    pub work_ns: u64,
    /// Daemons take time as real ones do, see [`Cluster::real_time`]. Where they do not, that is
    /// harsher.
    pub real_time: bool,
    /// The links that stay cut one way, for good.
    pub one_way: Vec<(usize, usize)>,
    /// From where to where tokens are refused, for good.
    pub rejected: Vec<(usize, usize)>,
}

impl Plan {
    /// Draws a plan.
    pub fn random(rng: &mut Rng, options: &Options) -> Self {
        let daemons = options.daemons.unwrap_or_else(|| match rng.below(10) {
            0 => 1,
            1..=6 => rng.within(2..6) as usize,
            7 | 8 => rng.within(6..9) as usize,
            _ => rng.within(9..13) as usize,
        });
        let failure_timeout = Duration::from_millis(rng.within(5..60));
        let mut tuning = Tuning {
            failure_timeout,
            rest_interval: failure_timeout * rng.within(1..20) as u32 / 10,
            reorder_allowance: Duration::from_micros(*rng.pick(&[20, 300, 300, 3_000])),
            notice_interval: Duration::from_micros(*rng.pick(&[5, 30, 30, 1_000])),
            window_packets: *rng.pick(&[2, 5, 20, 200]),
            datagram_bytes: *rng.pick(&[600, 1_432, 8_900]),
            first_incarnation: if rng.chance(100) { INCARNATION_MAX - 1_000 } else { 1 },
            state_part_bytes: *rng.pick(&[100, 300, 64 * 1024]),
        };
        let length =
            options.faults.unwrap_or_else(|| tuning.failure_timeout * rng.within(4..60) as u32);
        let end = Instant::ZERO + length;
        let one_way = match rng.below(25) {
            0 if daemons > 1 => vec![(rng.index(daemons), rng.index(daemons))],
            _ => Vec::new(),
        };
        let work_ns = if rng.chance(200) { busy(daemons, &tuning) } else { Weather::FAIR.work_ns };
        if work_ns > Weather::FAIR.work_ns {
            // Notices alone would be more work than there is time for.
            let notices = Duration::from_nanos(8 * work_ns * daemons as u64);
            tuning.notice_interval = tuning.notice_interval.max(notices);
        }
        let mut plan = Self {
            daemons,
            tuning,
            work_ns,
            real_time: work_ns > Weather::FAIR.work_ns,
            stranger: daemons > 2 && rng.chance(50),
            workloads: workloads(rng, daemons),
            actions: Vec::new(),
            end,
            one_way,
            rejected: Vec::new(),
        };
        plan.starts(rng);
        let faults = rng.below(2 + length.as_nanos() as u64 / 20_000_000);
        for _ in 0..faults {
            let at = Instant::from_nanos(rng.below(length.as_nanos() as u64));
            plan.fault(rng, at);
        }
        plan
    }

    fn starts(&mut self, rng: &mut Rng) {
        let spread = *rng.pick(&[0, 1_000, 3_000_000, 100_000_000]);
        for host in 0..self.daemons {
            let at = Instant::from_nanos(rng.below(spread + 1));
            self.actions.push((at.min(self.end), Action::Start(host)));
        }
        if rng.chance(700) {
            let at = Instant::from_nanos(rng.below(50_000_000));
            self.actions.push((at.min(self.end), Action::Weather(Weather::random(rng))));
        }
    }

    /// Adds one fault, and what it brings with it.
    fn fault(&mut self, rng: &mut Rng, at: Instant) {
        let host = rng.index(self.daemons);
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        let soon =
            |rng: &mut Rng, range: u64| at + Duration::from_nanos(rng.below(range * timeout));
        match rng.below(18) {
            0 | 1 => {
                self.actions.push((at, Action::Crash(host)));
                let back = soon(rng, 3);
                self.actions.push((back, Action::Start(host)));
            }
            2 => {
                self.actions.push((at, Action::Stop(host)));
                let back = soon(rng, 6);
                self.actions.push((back, Action::Start(host)));
            }
            3 | 4 => {
                let whom = rng.chance(500).then_some(host);
                let state = STATES[rng.index(STATES.len())];
                self.trap(rng, at, Action::CrashIn(whom, state));
            }
            5 | 6 => {
                let parts = parts(rng, self.daemons);
                self.actions.push((at, Action::Partition(parts)));
                let back = soon(rng, 8);
                self.actions.push((back, Action::Heal));
            }
            7 => {
                let parts = parts(rng, self.daemons);
                self.actions
                    .push((at, Action::PartitionIn(parts, STATES[rng.index(STATES.len())])));
                let back = soon(rng, 8);
                self.actions.push((back, Action::Heal));
            }
            8 => {
                // Overlapping partitions: links cut and restored one by one, one way.
                for _ in 0..rng.within(1..6) {
                    let (from, to) = (rng.index(self.daemons), rng.index(self.daemons));
                    self.actions.push((at, Action::Link(from, to, false)));
                    let back = soon(rng, 8);
                    self.actions.push((back, Action::Link(from, to, true)));
                }
            }
            9 | 10 => {
                let long = rng.chance(15);
                let nanos = if long { 30_000_000_000 } else { rng.below(6 * timeout) };
                self.actions.push((at, Action::Pause(host, Duration::from_nanos(nanos))));
                if long && rng.chance(500) {
                    self.end = self.end.max(at + Duration::from_nanos(nanos));
                }
            }
            11 => self.actions.push((at, Action::Weather(Weather::random(rng)))),
            12 => {
                for _ in 0..rng.within(1..10) {
                    let when = soon(rng, 2);
                    self.actions.push((when, Action::Stale));
                }
            }
            13 => self.reload(rng, at),
            14 | 15 => self.shortage(rng, at),
            16 => {
                let whom = rng.chance(500).then_some(host);
                let sent = rng.within(1..7) as usize;
                self.trap(rng, at, Action::CrashAmid(whom, sent));
            }
            _ => self.actions.push((at, Action::Stranger)),
        }
    }

    /// Some daemon will crash, and whichever it is comes back.
    fn trap(&mut self, rng: &mut Rng, at: Instant, trap: Action) {
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        self.actions.push((at, trap));
        for host in 0..self.daemons {
            let back = at + Duration::from_nanos(rng.below(6 * timeout));
            self.actions.push((back, Action::Start(host)));
        }
    }

    /// Some daemons, or all, have no memory for a while.
    fn shortage(&mut self, rng: &mut Rng, at: Instant) {
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        let often = *rng.pick(&[200, 1_000]);
        for host in 0..self.daemons {
            if rng.chance(often) {
                self.actions.push((at, Action::Memory(host, Shortage::random(rng))));
                let back = at + Duration::from_nanos(rng.below(10 * timeout));
                self.actions.push((back, Action::Memory(host, Shortage::default())));
            }
        }
    }

    /// Another configuration file; not all daemons get it at once, or at all.
    fn reload(&mut self, rng: &mut Rng, at: Instant) {
        let cluster = *rng.pick(&CLUSTERS);
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        for host in 0..self.daemons {
            if rng.chance(900) {
                let when = at + Duration::from_nanos(rng.below(timeout));
                self.actions.push((when, Action::Reload(host, cluster)));
            }
        }
    }

    /// Adds news that nothing listens where a daemon is alive, now and then because of a firewall;
    /// and clocks that are set back.
    fn doubts(&mut self, rng: &mut Rng) {
        if self.daemons < 2 {
            return;
        }
        let end = self.end.since(Instant::ZERO).as_nanos() as u64;
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        let moment = |rng: &mut Rng| Instant::from_nanos(rng.below(end));
        let count = if rng.chance(200) { rng.within(1..6) } else { 0 };
        for _ in 0..count {
            let (host, about) = (rng.index(self.daemons), rng.index(self.daemons));
            self.actions.push((moment(rng), Action::Refuse(host, about)));
        }
        if rng.chance(100) {
            let (from, to) = (rng.index(self.daemons), rng.index(self.daemons));
            let at = moment(rng);
            self.actions.push((at, Action::Reject(from, to, true)));
            let back = at + Duration::from_nanos(rng.below(20 * timeout));
            self.actions.push((back, Action::Reject(from, to, false)));
        }
        if rng.chance(200) {
            let at = moment(rng);
            self.set_back(rng, at);
        }
        if rng.chance(20) {
            self.rejected.push((rng.index(self.daemons), rng.index(self.daemons)));
        }
        self.real_time |= rng.chance(500);
    }

    /// Adds, to some runs, daemons that are gone with what the others miss. One of these hears that
    /// all have recovered, and is not heard any more: what it delivers behind the gap, they owe.
    fn promises(&mut self, rng: &mut Rng) {
        let count = if rng.chance(500) { rng.within(1..5) } else { 0 };
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        let end = self.end.since(Instant::ZERO).as_nanos() as u64;
        for _ in 0..count {
            let host = rng.index(self.daemons);
            let at = Instant::from_nanos(rng.below(end));
            let gone = at + Duration::from_nanos(rng.below(timeout));
            let back = gone + Duration::from_nanos(rng.within(timeout..8 * timeout));
            self.actions.extend([
                (at, Action::Hush(host, true)),
                (gone, Action::Crash(host)),
                (gone, Action::Hush(host, false)),
                (gone, Action::MuteIn(None, "recovery")),
                (back, Action::Heal),
                (back, Action::Start(host)),
            ]);
        }
    }

    /// A daemon starts again with a clock that was set back.
    fn set_back(&mut self, rng: &mut Rng, at: Instant) {
        let timeout = self.tuning.failure_timeout.as_nanos() as u64;
        let host = rng.index(self.daemons);
        self.tuning.first_incarnation = self.tuning.first_incarnation.max(SET_BACK_MAX);
        self.actions.push((at, Action::SetBack(host, rng.within(2..SET_BACK_MAX))));
        let end = if rng.chance(500) { Action::Crash(host) } else { Action::Stop(host) };
        self.actions.push((at, end));
        let back = at + Duration::from_nanos(rng.below(3 * timeout));
        self.actions.push((back, Action::Start(host)));
    }

    /// Whether some hear each other only in part, for good.
    fn is_partial(&self) -> bool {
        !self.one_way.is_empty() || !self.rejected.is_empty()
    }

    /// Lets it all happen.
    pub fn carry_out<C: Core>(&self, cluster: &mut Cluster<C>) {
        if self.stranger {
            cluster.set_stranger(self.daemons - 1);
        }
        cluster.real_time = self.real_time;
        for (at, action) in &self.actions {
            if *at <= self.end {
                cluster.schedule(*at, action.clone());
            }
        }
        load(cluster, self);
        cluster.run_until(self.end);
    }
}

/// Longest work on a datagram once faults have stopped: with much more, the load of some runs is
/// more than their daemons can do, and nothing is promised of when it is done.
const BUSY_NS_MAX: u64 = 10_000;

/// Work on a datagram of which a rotation of the token with all that it may bring takes at most a
/// quarter of the failure timeout, so that a busy daemon is one that works, and no failed one.
fn busy(daemons: usize, tuning: &Tuning) -> u64 {
    // What three windows of a ring bring, and a few packets of membership from each.
    let packets = 3 * tuning.window_packets as u64 + 10 * daemons as u64;
    (tuning.failure_timeout.as_nanos() as u64 / 4 / packets).min(BUSY_NS_MAX)
}

fn workloads(rng: &mut Rng, daemons: usize) -> Vec<Workload> {
    let common = Workload::random(rng);
    (0..daemons)
        .map(|_| match rng.below(4) {
            0 => Workload::silent(),
            1 => Workload::random(rng),
            _ => common.clone(),
        })
        .collect()
}

/// Two to four parts, by lot.
fn parts(rng: &mut Rng, daemons: usize) -> Vec<usize> {
    let count = rng.within(2..5) as usize;
    (0..daemons).map(|_| rng.index(count)).collect()
}

/// Ends the faults and watches what comes of it.
fn end<C: Core>(cluster: &mut Cluster<C>, plan: &Plan, rng: &mut Rng) -> Ending {
    cluster.calm();
    cluster.act(Action::Weather(Weather { work_ns: plan.work_ns, ..Weather::FAIR }));
    for &(from, to) in &plan.one_way {
        cluster.network.set_link(from, to, false);
    }
    for &(from, to) in &plan.rejected {
        cluster.network.set_rejected(from, to, true);
    }
    // Some of the dead stay dead; one at least lives.
    for host in 0..cluster.hosts() {
        cluster.act(Action::Reload(host, CLUSTERS[0]));
        if host == 0 || rng.chance(800) {
            cluster.act(Action::Start(host));
        }
    }
    let calm = cluster.now();
    let components = components(cluster, plan);
    let timeout = plan.tuning.failure_timeout;
    let formed = |cluster: &Cluster<C>| components.iter().all(|part| is_formed(cluster, part));
    let bound = timeout * SETTLE_TIMEOUTS;
    // Daemons may be about to leave the ring that they are still in.
    let mut on_time = cluster.run_while(timeout, bound, formed);
    cluster.run_for(timeout * 2);
    while on_time && !formed(cluster) && cluster.now() < calm + bound {
        on_time = cluster.run_while(timeout, bound, formed);
        cluster.run_for(timeout * 2);
    }
    if on_time && plan.is_partial() {
        // Who hears another in part takes all the time there is. An idle ring uses links that a
        // busy one does not, so there is some of both.
        cluster.silence();
        cluster.run_until(calm + bound / 2);
        load(cluster, plan);
        cluster.run_until(calm + bound);
    }
    cluster.run_for(timeout);
    let mut ending = watch(cluster, plan, timeout);
    for _ in 1..ONE_WAY_WATCHES {
        let rings = rings(cluster);
        if !plan.is_partial() || rings == ending.1 {
            break;
        }
        // Only a token that goes to whom it was not the turn of uses some links, which may be late;
        // and each time the daemon that cannot be passed it is left alone for four times as long.
        ending = watch(cluster, plan, timeout);
    }
    let (ending, _) = ending;
    // Whose token ports are rejected may be in one ring or not, as the token goes.
    let is_told = plan.rejected.is_empty();
    let real = plan.one_way.iter().filter(|(from, to)| is_told && from != to);
    let cut = real.map(|&(from, to)| (daemon(from), daemon(to))).collect();
    Ending { calm: Some(calm), components, cut, ..ending }
}

/// So many times daemons with a link that is cut one way are watched, until nothing changes.
const ONE_WAY_WATCHES: usize = 6;

/// The ring of each daemon.
type Rings = Vec<Option<RingId>>;

fn rings<C: Core>(cluster: &Cluster<C>) -> Rings {
    (0..cluster.hosts()).map(|host| cluster.ring(host).map(|(ring, _)| ring)).collect()
}

/// Watches daemons at rest, under load, and at rest again; and the rings that they began in.
fn watch<C: Core>(cluster: &mut Cluster<C>, plan: &Plan, timeout: Duration) -> (Ending, Rings) {
    let (settled, rings) = (cluster.now(), rings(cluster));
    cluster.silence();
    cluster.run_while(timeout, timeout * DRAIN_TIMEOUTS, Cluster::is_drained);
    cluster.run_for(timeout * WATCH_TIMEOUTS);
    let at_rest = retained(cluster);
    load(cluster, plan);
    cluster.run_for(timeout * WATCH_TIMEOUTS);
    cluster.silence();
    cluster.run_while(timeout, timeout * DRAIN_TIMEOUTS, Cluster::is_drained);
    cluster.run_for(timeout * WATCH_TIMEOUTS);
    let at_end = retained(cluster);
    let retained = at_rest.into_iter().zip(at_end);
    let retained = retained.map(|((daemon, rest), (_, end))| (daemon, rest, end)).collect();
    (Ending { settled, retained, ..Ending::default() }, rings)
}

fn load<C: Core>(cluster: &mut Cluster<C>, plan: &Plan) {
    for (host, workload) in plan.workloads.iter().enumerate() {
        cluster.set_workload(host, workload.clone());
    }
}

fn daemon(host: usize) -> DaemonId {
    DaemonId::new(host as u32 + 1)
}

fn retained<C: Core>(cluster: &Cluster<C>) -> Vec<(DaemonId, usize)> {
    let live = (0..cluster.hosts()).filter_map(|host| Some((daemon(host), cluster.core(host)?)));
    live.map(|(daemon, core)| (daemon, core.retained())).collect()
}

/// Live daemons that hear each other; the stranger is alone, and where links stay cut nothing is
/// said of the others.
fn components<C: Core>(cluster: &Cluster<C>, plan: &Plan) -> Vec<Vec<DaemonId>> {
    let live = |host: &usize| cluster.core(*host).is_some();
    let stranger = plan.stranger.then_some(plan.daemons - 1);
    let main = (0..cluster.hosts()).filter(live).filter(|host| Some(*host) != stranger);
    let mut components = vec![main.map(daemon).collect()];
    let mut partial = plan.one_way.iter().chain(&plan.rejected);
    if partial.any(|(from, to)| from != to) {
        components.clear();
    }
    components.extend(stranger.filter(live).map(|host| vec![daemon(host)]));
    components
}

fn is_formed<C: Core>(cluster: &Cluster<C>, component: &[DaemonId]) -> bool {
    let host = |daemon: &DaemonId| daemon.get() as usize - 1;
    if component.iter().any(|daemon| cluster.state(host(daemon)) != STATES[0]) {
        return false;
    }
    let mut rings = component.iter().map(|daemon| cluster.ring(host(daemon)));
    let Some(Some((ring, members))) = rings.next() else { return false };
    let mut members = members.to_vec();
    members.sort_unstable();
    members == component && rings.all(|other| other.is_some_and(|(other, _)| other == ring))
}
