//! A cluster that a scenario plays with, judged at its end.

use std::time::Duration;

use madrigal::base::{DaemonId, RingId, Service};
use madrigal::sim::checker::check;
use madrigal::sim::checker::trace::{
    Ask, DaemonEvent, Ending, Entry, Sent, SessionEvent, ViewCause,
};
use madrigal::sim::cluster::{Action, Cluster};
use madrigal::sim::core::{Core, Tuning};
use madrigal::sim::group::Grouped;
use madrigal::sim::order::Ordering;
use madrigal::sim::workload::Workload;

pub(crate) const FAILURE_TIMEOUT: Duration = Duration::from_millis(100);

/// A cluster that is judged at the end of its scenario.
pub(crate) struct Lab<C> {
    pub(crate) cluster: Cluster<C>,
    /// Machines whose daemons are expected to be in rings of their own at the end; one ring of all
    /// where neither these nor cut links say otherwise.
    pub(crate) parts: Vec<Vec<usize>>,
    /// Links that stay cut one way: from, to.
    pub(crate) cut: Vec<(usize, usize)>,
    /// A token port stays rejected: daemons are to come to rest, in whatever rings.
    pub(crate) rejects: bool,
}

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How often to repeat a scenario with variations: builds without optimisation are slow. Where
/// seeds are asked for, it is the full number.
pub(crate) fn cases(few: u64, all: u64) -> u64 {
    if std::env::var_os("MADRIGAL_SEEDS").is_some() { all } else { few }
}

pub(crate) fn tuning(failure_timeout: Duration) -> Tuning {
    Tuning {
        failure_timeout,
        rest_interval: failure_timeout / 10,
        reorder_allowance: Duration::from_micros(300),
        notice_interval: Duration::from_micros(30),
        window_packets: 50,
        datagram_bytes: 1_432,
        state_part_bytes: 150,
        first_incarnation: 1,
    }
}

pub(crate) fn id(host: usize) -> DaemonId {
    DaemonId::new(host as u32 + 1)
}

impl<C: Core> Lab<C> {
    /// `daemons` daemons that start at once; those that the test waits for.
    pub(crate) fn starting(daemons: usize, tuning: Tuning) -> Self {
        Self::seeded(daemons, tuning, 1)
    }

    /// The same, by another lot.
    pub(crate) fn seeded(daemons: usize, tuning: Tuning, seed: u64) -> Self {
        let mut cluster = Cluster::new(daemons, seed, tuning);
        for host in 0..daemons {
            cluster.act(Action::Start(host));
        }
        Self { cluster, parts: Vec::new(), cut: Vec::new(), rejects: false }
    }

    /// `daemons` daemons in one ring.
    pub(crate) fn formed(daemons: usize) -> Self {
        let mut lab = Self::starting(daemons, tuning(FAILURE_TIMEOUT));
        lab.forms((0..daemons).collect());
        lab
    }

    /// Waits until the daemons on `hosts` are in one ring of their own; for how long.
    pub(crate) fn forms(&mut self, hosts: Vec<usize>) -> Duration {
        let start = self.cluster.now();
        let bound = FAILURE_TIMEOUT * 50;
        let formed =
            self.cluster.run_while(millis(1), bound, |cluster| in_one_ring(cluster, &hosts));
        let states: Vec<_> = hosts.iter().map(|host| self.cluster.state(*host)).collect();
        assert!(formed, "{hosts:?} do not form a ring: {states:?}");
        self.cluster.now().since(start)
    }

    pub(crate) fn ring(&self, host: usize) -> RingId {
        self.cluster.ring(host).expect("in a regular configuration").0
    }

    pub(crate) fn rings(&self) -> Vec<RingId> {
        (0..self.cluster.hosts()).map(|host| self.ring(host)).collect()
    }

    /// How many messages the daemon on `host` has delivered in this life.
    pub(crate) fn delivered(&self, host: usize) -> usize {
        let is_delivery = |event: &&DaemonEvent| matches!(event, DaemonEvent::Deliver { .. });
        self.events(host).filter(is_delivery).count()
    }

    /// What the daemon on `host` did in this life.
    pub(crate) fn events(&self, host: usize) -> impl Iterator<Item = &DaemonEvent> {
        let mut logs = self.cluster.trace().daemons.iter();
        let log = logs.rfind(|log| log.life.daemon == id(host)).expect("it was started");
        log.entries.iter().map(|entry| &entry.event)
    }

    /// Waits until the daemons on `hosts` have delivered `count` messages; for how long.
    pub(crate) fn delivers(&mut self, hosts: &[usize], count: usize, bound: Duration) -> Duration {
        let start = self.cluster.now();
        let mut counts: Vec<usize> = Vec::new();
        while self.cluster.now().since(start) <= bound {
            counts = hosts.iter().map(|host| self.delivered(*host)).collect();
            if counts.iter().all(|delivered| *delivered >= count) {
                return self.cluster.now().since(start);
            }
            self.cluster.run_for(Duration::from_micros(50));
        }
        panic!("{counts:?} delivered, {count} expected within {bound:?}");
    }

    pub(crate) fn load(&mut self) {
        for host in 0..self.cluster.hosts() {
            let services = Service::ALL.to_vec();
            let gap = millis(3);
            let workload = Workload { gap, burst: 5, services, bytes_max: 3_000, idle: 0 };
            self.cluster.set_workload(host, workload);
        }
    }

    /// Ends the load and the run; all that happened must be right.
    pub(crate) fn judge(mut self) {
        if self.is_whole() {
            self.cluster.calm();
        }
        self.cluster.silence();
        let calm = Some(self.cluster.now());
        let live: Vec<usize> =
            (0..self.cluster.hosts()).filter(|host| self.cluster.core(*host).is_some()).collect();
        if self.is_whole() {
            self.forms(live.clone());
        }
        self.cluster.run_for(FAILURE_TIMEOUT * 5);
        let settled = self.cluster.now();
        let at_rest = self.retained();
        self.cluster.run_for(FAILURE_TIMEOUT * 20);
        let retained = at_rest.into_iter().zip(self.retained());
        let retained = retained.map(|((daemon, rest), (_, end))| (daemon, rest, end)).collect();
        let ids = |hosts: &[usize]| hosts.iter().map(|host| id(*host)).collect();
        let mut components: Vec<Vec<DaemonId>> = self.parts.iter().map(|part| ids(part)).collect();
        if self.is_whole() {
            components.push(ids(&live));
        }
        let cut = self.cut.iter().map(|&(from, to)| (id(from), id(to))).collect();
        let ending = Ending { calm, settled, components, cut, retained };
        let (trace, timeline) = self.cluster.finish(ending);
        assert_eq!(check(&trace), Ok(()), "{}", timeline.render(&trace));
    }

    fn is_whole(&self) -> bool {
        self.parts.is_empty() && self.cut.is_empty() && !self.rejects
    }

    fn retained(&self) -> Vec<(DaemonId, usize)> {
        let hosts = 0..self.cluster.hosts();
        let live = hosts.filter_map(|host| Some((id(host), self.cluster.core(host)?.retained())));
        live.collect()
    }
}

impl Lab<Ordering> {
    pub(crate) fn submit(&mut self, host: usize, service: Service) {
        assert!(self.cluster.submit(host, service, 100), "accepted");
    }
}

impl Lab<Grouped> {
    /// A new session on `host`; its name.
    pub(crate) fn connect(&mut self, host: usize) -> String {
        self.cluster.with(host, Grouped::connects).expect("a daemon runs")
    }

    pub(crate) fn ask(&mut self, host: usize, session: &str, ask: Ask) {
        let asked = self.cluster.with(host, |core, now| core.asks(now, session, ask));
        asked.expect("a daemon runs");
    }

    /// One new session on each of `hosts`, all of them members of `group`, one after the other.
    pub(crate) fn members(&mut self, hosts: &[usize], group: &str) -> Vec<(usize, String)> {
        let mut members = Vec::new();
        for &host in hosts {
            let session = self.connect(host);
            self.ask(host, &session, Ask::Join(self::group(group)));
            members.push((host, session));
            self.cluster.run_for(millis(20));
        }
        members
    }

    pub(crate) fn send(&mut self, host: usize, session: &str, service: Service, groups: &[&str]) {
        self.send_bytes(host, session, service, groups, 10);
    }

    pub(crate) fn send_bytes(
        &mut self,
        host: usize,
        session: &str,
        service: Service,
        groups: &[&str],
        bytes: usize,
    ) {
        let sent =
            self.cluster.with(host, |core, now| core.sends(now, session, service, groups, bytes));
        sent.expect("a daemon runs");
    }

    /// How many members each view had that the session called `name` on `host` got.
    pub(crate) fn view_sizes(&self, host: usize, name: &str) -> Vec<usize> {
        let entries = self.session(host, name).iter();
        let sizes = entries.filter_map(|entry| match &entry.event {
            SessionEvent::View { members, .. } => Some(members.len()),
            SessionEvent::Asked(_)
            | SessionEvent::Send { .. }
            | SessionEvent::Deliver { .. }
            | SessionEvent::Transitional { .. }
            | SessionEvent::Left { .. }
            | SessionEvent::Killed
            | SessionEvent::End => None,
        });
        sizes.collect()
    }

    fn session(&self, host: usize, name: &str) -> &[Entry<SessionEvent>] {
        let daemon = format!("d{}", host + 1);
        let mut logs = self.cluster.trace().sessions.iter();
        let is_it = |session: &madrigal::base::PrivateGroup| {
            session.session.as_str() == name && session.daemon.as_str() == daemon
        };
        &logs.rfind(|log| is_it(&log.session)).expect("it was connected").entries
    }

    /// What the session called `name` on `host` got from entry `from` on, as text; and how many
    /// entries its log has.
    pub(crate) fn got(&self, host: usize, name: &str, from: usize) -> (Vec<String>, usize) {
        let log = self.session(host, name);
        let entries = log.iter().skip(from).filter_map(|entry| tell(&entry.event));
        (entries.collect(), log.len())
    }
}

pub(crate) fn group(name: &str) -> madrigal::base::GroupName {
    madrigal::base::GroupName::new(name.as_bytes()).expect("short")
}

fn names(sessions: &[madrigal::base::PrivateGroup]) -> String {
    let names = sessions
        .iter()
        .map(|session| format!("{}@{}", session.session.as_str(), session.daemon.as_str()));
    names.collect::<Vec<_>>().join("+").replace("e0@", "@")
}

fn tell(event: &SessionEvent) -> Option<String> {
    Some(match event {
        SessionEvent::Asked(_) | SessionEvent::Send { .. } => return None,
        SessionEvent::Deliver { message: Sent { sender, n }, .. } => {
            format!("{}:{}", names(&[*sender]), n % 2_000)
        }
        SessionEvent::View { group, cause, members, .. } => {
            let why = match cause {
                ViewCause::Join(who) => format!("{} joined", names(&[*who])),
                ViewCause::Leave(who) => format!("{} left", names(&[*who])),
                ViewCause::Disconnect(who) => format!("{} ended", names(&[*who])),
                ViewCause::Network { sets, .. } => {
                    let sets: Vec<String> = sets.iter().map(|set| names(set)).collect();
                    format!("network {}", sets.join(" "))
                }
            };
            format!("view {group} {}: {why}", names(members))
        }
        SessionEvent::Transitional { group } => format!("signal {group}"),
        SessionEvent::Left { group } => format!("left {group}"),
        SessionEvent::Killed => "killed".to_owned(),
        SessionEvent::End => "end".to_owned(),
    })
}

pub(crate) fn in_one_ring<C: Core>(cluster: &Cluster<C>, hosts: &[usize]) -> bool {
    let wanted: Vec<DaemonId> = hosts.iter().map(|host| id(*host)).collect();
    let mut rings = hosts.iter().map(|host| cluster.ring(*host));
    let Some(Some((ring, members))) = rings.next() else { return false };
    let mut members = members.to_vec();
    members.sort_unstable();
    members == wanted && rings.all(|other| other.is_some_and(|(other, _)| other == ring))
}
