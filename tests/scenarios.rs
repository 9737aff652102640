//! What befell others, and what a reader of the Totem papers would ask, as runs with a name.

use std::time::Duration;

use madrigal::base::{DaemonId, Instant, RingId, Service};
use madrigal::sim::checker::check;
use madrigal::sim::checker::trace::{DaemonEvent, Ending};
use madrigal::sim::cluster::{Action, Cluster};
use madrigal::sim::core::Tuning;
use madrigal::sim::network::Weather;
use madrigal::sim::order::Ordering;
use madrigal::sim::scenario::STATES;
use madrigal::sim::workload::Workload;

const FAILURE_TIMEOUT: Duration = Duration::from_millis(100);

/// A cluster that is judged at the end of its scenario.
struct Lab {
    cluster: Cluster<Ordering>,
    /// Machines whose daemons are not expected to be in one ring at the end.
    apart: bool,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn tuning(failure_timeout: Duration) -> Tuning {
    Tuning { failure_timeout, window_packets: 50, datagram_bytes: 1_432, state_part_bytes: 150 }
}

impl Lab {
    /// `daemons` daemons that start at once; those that the test waits for.
    fn starting(daemons: usize, failure_timeout: Duration) -> Self {
        let tuning = tuning(failure_timeout);
        let mut cluster = Cluster::new(daemons, 1, tuning);
        for host in 0..daemons {
            cluster.act(Action::Start(host));
        }
        Self { cluster, apart: false }
    }

    /// `daemons` daemons in one ring.
    fn formed(daemons: usize) -> Self {
        let mut lab = Self::starting(daemons, FAILURE_TIMEOUT);
        lab.forms((0..daemons).collect());
        lab
    }

    /// Waits until the daemons on `hosts` are in one ring of their own.
    fn forms(&mut self, hosts: Vec<usize>) {
        let bound = FAILURE_TIMEOUT * 50;
        let formed =
            self.cluster.run_while(millis(1), bound, |cluster| in_one_ring(cluster, &hosts));
        let states: Vec<_> = hosts.iter().map(|host| self.cluster.state(*host)).collect();
        assert!(formed, "{hosts:?} do not form a ring: {states:?}");
    }

    fn ring(&self, host: usize) -> RingId {
        self.cluster.ring(host).expect("in a regular configuration").0
    }

    fn submit(&mut self, host: usize, service: Service) {
        assert!(self.cluster.submit(host, service, 100), "accepted");
    }

    /// How many messages the daemon on `host` has delivered in this life.
    fn delivered(&self, host: usize) -> usize {
        let mut logs = self.cluster.trace().daemons.iter();
        let log = logs.rfind(|log| log.life.daemon == DaemonId::new(host as u32 + 1)).unwrap();
        let is_delivery = |event: &DaemonEvent| matches!(event, DaemonEvent::Deliver { .. });
        log.entries.iter().filter(|entry| is_delivery(&entry.event)).count()
    }

    /// Waits until the daemons on `hosts` have delivered `count` messages; for how long.
    fn delivers(&mut self, hosts: &[usize], count: usize, bound: Duration) -> Duration {
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

    fn load(&mut self) {
        for host in 0..self.cluster.hosts() {
            let services = Service::ALL.to_vec();
            let gap = millis(3);
            let workload = Workload { gap, burst: 5, services, bytes_max: 3_000, idle: 0 };
            self.cluster.set_workload(host, workload);
        }
    }

    /// Ends the load and the run; all that happened must be right.
    fn judge(mut self) {
        for host in 0..self.cluster.hosts() {
            self.cluster.set_workload(host, Workload::silent());
        }
        if !self.apart {
            self.cluster.calm();
        }
        let calm = Some(self.cluster.now());
        let live: Vec<usize> =
            (0..self.cluster.hosts()).filter(|host| self.cluster.core(*host).is_some()).collect();
        if !self.apart {
            self.forms(live.clone());
        }
        self.cluster.run_for(FAILURE_TIMEOUT * 5);
        let settled = self.cluster.now();
        self.cluster.run_for(FAILURE_TIMEOUT * 20);
        let daemons = live.iter().map(|host| DaemonId::new(*host as u32 + 1)).collect();
        let components = if self.apart { Vec::new() } else { vec![daemons] };
        let (trace, _) =
            self.cluster.finish(Ending { calm, settled, components, retained: Vec::new() });
        assert_eq!(check(&trace), Ok(()));
    }
}

fn in_one_ring(cluster: &Cluster<Ordering>, hosts: &[usize]) -> bool {
    let wanted: Vec<DaemonId> = hosts.iter().map(|host| DaemonId::new(*host as u32 + 1)).collect();
    let mut rings = hosts.iter().map(|host| cluster.ring(*host));
    let Some(Some((ring, members))) = rings.next() else { return false };
    let mut members = members.to_vec();
    members.sort_unstable();
    members == wanted && rings.all(|other| other.is_some_and(|(other, _)| other == ring))
}

#[test]
fn a_single_daemon_serves_itself() {
    let mut lab = Lab::formed(1);
    for service in Service::ALL {
        lab.submit(0, service);
    }
    lab.delivers(&[0], 6, millis(10));
    lab.judge();
}

#[test]
fn the_first_message_after_idle_is_not_late() {
    let mut lab = Lab::formed(3);
    for host in 0..3 {
        lab.cluster.run_for(Duration::from_secs(10));
        lab.submit(host, Service::Agreed);
        lab.delivers(&[0, 1, 2], host + 1, millis(2));
    }
    lab.judge();
}

#[test]
fn a_safe_message_waits_for_the_slowest_daemon() {
    let mut lab = Lab::formed(3);
    lab.cluster.act(Action::Pause(2, millis(30)));
    lab.submit(0, Service::Safe);
    lab.submit(0, Service::Agreed);
    lab.cluster.run_for(millis(25));
    assert_eq!([0, 1, 2].map(|host| lab.delivered(host)), [0; 3]);
    lab.delivers(&[0, 1, 2], 2, millis(50));
    lab.judge();
}

#[test]
fn a_pause_below_the_timeout_splits_nothing() {
    let mut lab = Lab::formed(4);
    let ring = lab.ring(0);
    lab.load();
    for host in 0..4 {
        lab.cluster.run_for(millis(50));
        lab.cluster.act(Action::Pause(host, FAILURE_TIMEOUT / 2));
        lab.cluster.run_for(FAILURE_TIMEOUT);
    }
    assert_eq!([0, 1, 2, 3].map(|host| lab.ring(host)), [ring; 4]);
    lab.judge();
}

#[test]
fn a_lost_token_costs_no_failure_timeout() {
    let mut lab = Lab::formed(4);
    let ring = lab.ring(0);
    lab.load();
    lab.cluster.act(Action::Weather(Weather { drop_token: 20, ..Weather::FAIR }));
    lab.cluster.run_for(Duration::from_secs(2));
    assert_eq!([0, 1, 2, 3].map(|host| lab.ring(host)), [ring; 4]);
    lab.judge();
}

#[test]
fn a_suspended_machine_is_left_out_and_comes_back() {
    let mut lab = Lab::formed(3);
    lab.load();
    lab.cluster.act(Action::Pause(1, Duration::from_secs(30)));
    lab.forms(vec![0, 2]);
    lab.cluster.run_for(Duration::from_secs(31));
    lab.forms(vec![0, 1, 2]);
    lab.judge();
}

#[test]
fn a_stopped_daemon_is_missed_at_once_and_so_is_a_crashed_one() {
    for action in [Action::Stop(1), Action::Crash(1)] {
        let mut lab = Lab::formed(3);
        lab.load();
        lab.cluster.run_for(millis(20));
        lab.cluster.act(action);
        let start = lab.cluster.now();
        lab.forms(vec![0, 2]);
        assert!(lab.cluster.now().since(start) < FAILURE_TIMEOUT);
        lab.judge();
    }
}

#[test]
fn forty_daemons_start_at_once() {
    let mut lab = Lab::formed(40);
    lab.submit(39, Service::Safe);
    lab.delivers(&(0..40).collect::<Vec<_>>(), 1, millis(100));
    lab.judge();
}

#[test]
fn three_parts_merge_at_once() {
    let mut lab = Lab::formed(6);
    lab.load();
    lab.cluster.act(Action::Partition(vec![0, 1, 2, 0, 1, 2]));
    lab.cluster.run_for(FAILURE_TIMEOUT * 5);
    for part in 0..3 {
        lab.forms(vec![part, part + 3]);
    }
    lab.cluster.act(Action::Heal);
    lab.forms((0..6).collect());
    lab.judge();
}

#[test]
fn a_daemon_may_crash_in_any_state() {
    for state in STATES {
        for whom in 0..4 {
            let mut lab = Lab::formed(4);
            lab.load();
            lab.cluster.run_for(millis(20));
            lab.cluster.act(Action::CrashIn(Some(whom), state));
            lab.cluster.act(Action::Crash((whom + 1) % 4));
            lab.cluster.run_for(FAILURE_TIMEOUT * 3);
            for host in 0..4 {
                lab.cluster.act(Action::Start(host));
            }
            lab.judge();
        }
    }
}

#[test]
fn failures_may_cascade_in_recovery() {
    for last in 1..4 {
        let mut lab = Lab::formed(6);
        lab.load();
        lab.cluster.run_for(millis(20));
        for _ in 0..last {
            lab.cluster.act(Action::CrashIn(None, "recovery"));
        }
        lab.cluster.act(Action::PartitionIn(vec![0, 1, 0, 1, 0, 1], "recovery"));
        lab.cluster.act(Action::Crash(5));
        lab.cluster.run_for(FAILURE_TIMEOUT * 5);
        lab.cluster.act(Action::Heal);
        lab.judge();
    }
}

#[test]
fn data_that_comes_long_after_its_token_expels_nobody() {
    let timeout = Duration::from_secs(3);
    let mut lab = Lab::starting(3, timeout);
    assert!(lab.cluster.run_while(millis(10), timeout * 20, |c| in_one_ring(c, &[0, 1, 2])));
    let ring = lab.ring(0);
    let late = Weather { data_late_ns: 900_000_000, ..Weather::FAIR };
    lab.cluster.act(Action::Weather(late));
    for host in 0..3 {
        lab.submit(host, Service::Agreed);
    }
    lab.delivers(&[0, 1, 2], 3, Duration::from_secs(10));
    lab.cluster.run_for(Duration::from_secs(10));
    assert_eq!([0, 1, 2].map(|host| lab.ring(host)), [ring; 3]);
    lab.cluster.act(Action::Weather(Weather::FAIR));
    lab.judge();
}

#[test]
fn the_lost_tail_of_the_last_burst_is_repaired() {
    let mut lab = Lab::formed(3);
    let ring = lab.ring(0);
    for round in 1..=10 {
        lab.cluster.act(Action::Weather(Weather { drop_multicast: 700, ..Weather::FAIR }));
        for _ in 0..5 {
            lab.submit(round % 3, Service::Safe);
        }
        lab.cluster.run_for(millis(2));
        lab.cluster.act(Action::Weather(Weather::FAIR));
        lab.delivers(&[0, 1, 2], round * 5, FAILURE_TIMEOUT / 2);
    }
    assert_eq!([0, 1, 2].map(|host| lab.ring(host)), [ring; 3]);
    lab.judge();
}

#[test]
fn a_pair_that_hears_one_way_comes_to_rest() {
    for daemons in [2, 3, 5] {
        let mut lab = Lab::formed(daemons);
        lab.cluster.act(Action::Link(0, 1, false));
        lab.load();
        lab.cluster.run_for(FAILURE_TIMEOUT * 100);
        lab.apart = true;
        lab.judge();
    }
}

#[test]
fn old_packets_and_noise_change_nothing() {
    let mut lab = Lab::formed(3);
    lab.load();
    lab.cluster.act(Action::Partition(vec![0, 0, 1]));
    lab.cluster.run_for(FAILURE_TIMEOUT * 5);
    lab.cluster.act(Action::Heal);
    lab.forms(vec![0, 1, 2]);
    for _ in 0..500 {
        lab.cluster.act(Action::Stale);
        lab.cluster.act(Action::Stranger);
        lab.cluster.run_for(Duration::from_micros(300));
    }
    lab.judge();
}

#[test]
fn a_stranger_is_left_alone() {
    let tuning = tuning(FAILURE_TIMEOUT);
    let mut cluster: Cluster<Ordering> = Cluster::new(3, 1, tuning);
    cluster.set_stranger(2);
    for host in 0..3 {
        cluster.act(Action::Start(host));
    }
    let mut lab = Lab { cluster, apart: true };
    lab.forms(vec![0, 1]);
    lab.forms(vec![2]);
    lab.cluster.run_for(FAILURE_TIMEOUT * 10);
    assert!(in_one_ring(&lab.cluster, &[0, 1]) && in_one_ring(&lab.cluster, &[2]));
    lab.judge();
}

#[test]
fn agreed_messages_are_on_one_side_of_the_signal() {
    // The cut comes at every moment of some rounds of a loaded ring.
    for moment in 0..40 {
        let mut lab = Lab::formed(4);
        lab.load();
        lab.cluster.run_until(Instant::ZERO + millis(400) + Duration::from_micros(moment * 17));
        lab.cluster.act(Action::Partition(vec![0, 0, 0, 1]));
        lab.cluster.run_for(FAILURE_TIMEOUT * 5);
        lab.cluster.act(Action::Heal);
        lab.judge();
    }
}
