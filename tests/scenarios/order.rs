//! The ordering core alone.

use std::time::Duration;

use madrigal::base::limits::{DAEMONS_MAX, INCARNATION_MAX};
use madrigal::base::{DaemonId, Instant, Service};
use madrigal::protocol::options::Options;
use madrigal::sim::checker::trace::DaemonEvent;
use madrigal::sim::cluster::{Action, Cluster};
use madrigal::sim::core::{Core, Tuning};
use madrigal::sim::network::Weather;
use madrigal::sim::order::Ordering;
use madrigal::sim::scenario::STATES;
use madrigal::sim::store::Shortage;
use madrigal::wire::header::PacketKind;

use crate::lab::{FAILURE_TIMEOUT, Lab, cases, in_one_ring, millis, tuning};

type OrderLab = Lab<Ordering>;

#[test]
fn a_single_daemon_serves_itself() {
    let mut lab = OrderLab::formed(1);
    for service in Service::ALL {
        lab.submit(0, service);
    }
    lab.delivers(&[0], 6, millis(10));
    lab.judge();
}

#[test]
fn the_first_message_after_idle_is_not_late() {
    let mut lab = OrderLab::formed(3);
    for host in 0..3 {
        lab.cluster.run_for(Duration::from_secs(10));
        lab.submit(host, Service::Agreed);
        lab.delivers(&[0, 1, 2], host + 1, millis(2));
    }
    lab.judge();
}

#[test]
fn a_safe_message_waits_for_the_slowest_daemon() {
    let mut lab = OrderLab::formed(3);
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
    let mut lab = OrderLab::formed(4);
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
    for seed in 1..=cases(2, 20) {
        let mut lab = OrderLab::seeded(4, tuning(FAILURE_TIMEOUT), seed);
        lab.forms(vec![0, 1, 2, 3]);
        let ring = lab.ring(0);
        lab.load();
        lab.cluster.act(Action::Weather(Weather { drop_token: 20, ..Weather::FAIR }));
        lab.cluster.run_for(Duration::from_secs(2));
        assert_eq!(lab.rings(), [ring; 4], "{seed}");
        lab.judge();
    }
}

#[test]
fn a_suspended_machine_is_left_out_and_comes_back() {
    let mut lab = OrderLab::formed(3);
    lab.load();
    lab.cluster.act(Action::Pause(1, Duration::from_secs(30)));
    lab.forms(vec![0, 2]);
    lab.cluster.run_for(millis(100));
    lab.cluster.silence();
    lab.cluster.run_for(Duration::from_secs(31));
    lab.forms(vec![0, 1, 2]);
    lab.judge();
}

#[test]
fn a_stopped_daemon_is_missed_at_once_and_so_is_a_crashed_one() {
    for action in [Action::Stop(1), Action::Crash(1)] {
        let mut lab = OrderLab::formed(3);
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
fn a_daemon_that_starts_while_another_one_is_down_holds_up_nobody() {
    let mut lab = OrderLab::formed(4);
    lab.cluster.act(Action::Stop(3));
    lab.cluster.act(Action::Crash(2));
    lab.forms(vec![0, 1]);
    lab.cluster.run_for(FAILURE_TIMEOUT * 5);
    lab.cluster.act(Action::Start(2));
    let time = lab.forms(vec![0, 1, 2]);
    assert!(time < FAILURE_TIMEOUT / 4, "{time:?}");
    lab.judge();
}

#[test]
fn the_second_of_three_daemons_does_not_wait_for_the_third() {
    let mut lab = OrderLab::seeded(3, tuning(FAILURE_TIMEOUT), 1);
    lab.cluster.act(Action::Crash(1));
    lab.cluster.act(Action::Crash(2));
    lab.cluster.run_for(FAILURE_TIMEOUT * 10);
    lab.cluster.act(Action::Start(1));
    let time = lab.forms(vec![0, 1]);
    assert!(time < FAILURE_TIMEOUT / 4, "{time:?}");
    lab.judge();
}

#[test]
fn forty_daemons_start_at_once() {
    let mut lab = OrderLab::formed(40);
    lab.submit(39, Service::Safe);
    lab.delivers(&(0..40).collect::<Vec<_>>(), 1, millis(100));
    lab.judge();
}

#[test]
fn three_parts_merge_at_once() {
    let mut lab = OrderLab::formed(6);
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
            let mut lab = OrderLab::formed(4);
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
        let mut lab = OrderLab::formed(6);
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
    let mut lab = OrderLab::starting(3, tuning(timeout));
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
fn data_that_comes_long_after_the_failure_timeout_is_lost_to_nobody() {
    let timeout = Options::default().failure_timeout;
    let mut lab = OrderLab::starting(3, tuning(timeout));
    assert!(lab.cluster.run_while(millis(10), timeout * 20, |c| in_one_ring(c, &[0, 1, 2])));
    let late = Weather { data_late_ns: 900_000_000, ..Weather::FAIR };
    lab.cluster.act(Action::Weather(late));
    for round in 1..=5 {
        for host in 0..3 {
            lab.submit(host, Service::Agreed);
        }
        // Whatever rings they are in meanwhile: each has its own messages.
        lab.delivers(&[0, 1, 2], round, Duration::from_secs(10));
    }
    lab.cluster.act(Action::Weather(Weather::FAIR));
    // Nobody is expelled for good.
    let bound = Duration::from_secs(10);
    assert!(lab.cluster.run_while(millis(10), bound, |c| in_one_ring(c, &[0, 1, 2])));
    let before = [0, 1, 2].map(|host| lab.delivered(host));
    lab.submit(0, Service::Safe);
    for (host, before) in before.into_iter().enumerate() {
        lab.delivers(&[host], before + 1, millis(100));
    }
    lab.judge();
}

#[test]
fn a_daemon_may_crash_with_half_of_its_turn_sent() {
    for sent in 1..=cases(3, 8) as usize {
        for whom in 0..4 {
            let mut lab = OrderLab::formed(4);
            lab.load();
            lab.cluster.run_for(millis(20));
            lab.cluster.act(Action::CrashAmid(Some(whom), sent));
            lab.cluster.run_for(FAILURE_TIMEOUT * 3);
            let crashed = lab.cluster.cover().crashes_amid;
            assert!(crashed == 1 || sent > 3, "no turn of {sent} datagrams came");
            lab.cluster.act(Action::Start(whom));
            lab.judge();
        }
    }
}

#[test]
fn daemons_without_memory_stay_in_their_ring_and_go_on_when_there_is_some() {
    let mut lab = OrderLab::formed(3);
    let ring = lab.ring(0);
    lab.load();
    for host in [0, 1, 2, 0, 1, 2] {
        let out = Shortage { ample: 500, spare: 1_000 };
        lab.cluster.act(Action::Memory(host, out));
        lab.cluster.run_for(FAILURE_TIMEOUT * 5);
        let before = lab.delivered(host);
        lab.cluster.act(Action::Memory(host, Shortage::default()));
        lab.cluster.run_for(FAILURE_TIMEOUT);
        assert!(lab.delivered(host) > before + 5);
    }
    let cover = lab.cluster.cover();
    assert!(cover.data_refused > 0 && cover.deliveries_refused > 0, "{cover:?}");
    assert_eq!(lab.rings(), [ring; 3]);
    lab.judge();
}

#[test]
fn the_lost_tail_of_the_last_burst_is_repaired() {
    let mut lab = OrderLab::formed(3);
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
        let mut lab = OrderLab::formed(daemons);
        lab.cluster.act(Action::Link(0, 1, false));
        lab.load();
        lab.cluster.run_for(FAILURE_TIMEOUT * cases(25, 100) as u32);
        // The rings at the end part 0 and 1, and nobody else: L4 looks at any such split.
        let rings = lab.rings();
        assert_ne!(rings[0], rings[1]);
        assert!(rings[2..].iter().all(|ring| rings[..2].contains(ring)), "{rings:?}");
        lab.cut = vec![(0, 1)];
        lab.judge();
    }
}

/// A ring goes on when a link within it is cut, as others repeat what is missed there; but nobody
/// could be let into it, for ever.
#[test]
fn a_link_cut_within_a_ring_keeps_nobody_out() {
    for daemons in [5, 8] {
        let mut lab = OrderLab::formed(daemons);
        lab.cluster.act(Action::Crash(0));
        let others: Vec<usize> = (1..daemons).collect();
        lab.forms(others.clone());
        lab.cluster.act(Action::Link(3, 1, false));
        lab.cluster.run_for(FAILURE_TIMEOUT * 10);
        assert!(in_one_ring(&lab.cluster, &others), "the ring goes on");
        lab.cluster.act(Action::Start(0));
        let most: Vec<usize> = (0..daemons).filter(|&host| host != 3).collect();
        lab.forms(most);
        lab.cut = vec![(3, 1)];
        lab.judge();
    }
}

#[test]
fn a_rejected_token_port_ends_in_rest() {
    for (daemons, to) in [(2, 1), (3, 1), (3, 2), (5, 3)] {
        let mut lab = OrderLab::formed(daemons);
        lab.cluster.act(Action::Reject(0, to, true));
        lab.load();
        lab.cluster.run_for(FAILURE_TIMEOUT * cases(25, 100) as u32);
        let told = configurations(&lab, 0).len();
        assert!(told < 60, "{told} configurations");
        lab.rejects = true;
        lab.judge();
    }
}

#[test]
fn a_daemon_whose_clock_was_set_back_is_let_in() {
    for action in [Action::Crash(1), Action::Stop(1)] {
        let tuning = Tuning { first_incarnation: 1_000, ..tuning(FAILURE_TIMEOUT) };
        let mut lab = OrderLab::seeded(3, tuning, 1);
        lab.forms(vec![0, 1, 2]);
        lab.load();
        lab.cluster.act(Action::SetBack(1, 500));
        lab.cluster.act(action);
        lab.cluster.run_for(millis(5));
        lab.cluster.act(Action::Start(1));
        // It is not known from old packets of its earlier life at first.
        lab.cluster.run_for(FAILURE_TIMEOUT * 8);
        assert!(in_one_ring(&lab.cluster, &[0, 2]));
        let time = lab.forms(vec![0, 1, 2]);
        assert!(time < FAILURE_TIMEOUT * 5, "{time:?}");
        lab.judge();
    }
}

#[test]
fn old_packets_and_noise_change_nothing() {
    let mut lab = OrderLab::formed(3);
    lab.load();
    lab.cluster.act(Action::Partition(vec![0, 0, 1]));
    lab.cluster.run_for(FAILURE_TIMEOUT * 5);
    lab.cluster.act(Action::Heal);
    lab.forms(vec![0, 1, 2]);
    let rings = lab.rings();
    for _ in 0..500 {
        lab.cluster.act(Action::Stale);
        lab.cluster.act(Action::Stranger);
        lab.cluster.run_for(Duration::from_micros(300));
    }
    assert_eq!(lab.rings(), rings);
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
    let parts = vec![vec![0, 1], vec![2]];
    let mut lab = Lab { cluster, parts, cut: Vec::new(), rejects: false };
    lab.forms(vec![0, 1]);
    lab.forms(vec![2]);
    lab.cluster.run_for(FAILURE_TIMEOUT * 10);
    assert!(in_one_ring(&lab.cluster, &[0, 1]) && in_one_ring(&lab.cluster, &[2]));
    lab.judge();
}

#[test]
fn agreed_messages_are_on_one_side_of_the_signal() {
    // The cut comes at every moment of some rounds of a loaded ring.
    for moment in 0..cases(4, 60) {
        let mut lab = OrderLab::formed(4);
        lab.load();
        lab.cluster.run_until(Instant::ZERO + millis(400) + Duration::from_micros(moment * 17));
        lab.cluster.act(Action::Partition(vec![0, 0, 0, 1]));
        lab.cluster.run_for(FAILURE_TIMEOUT * 5);
        lab.cluster.act(Action::Heal);
        lab.judge();
    }
}

#[test]
fn the_aru_moves_on_while_the_token_rotates() {
    let mut lab = OrderLab::formed(4);
    let ring = lab.ring(0);
    lab.load();
    lab.cluster.act(Action::Weather(Weather { drop_multicast: 50, ..Weather::FAIR }));
    let mut before = 0;
    for _ in 0..40 {
        lab.cluster.run_for(millis(25));
        for host in 0..4 {
            // What everybody has is let go of: nothing may hold back the aru.
            let kept = lab.cluster.core(host).unwrap().retained();
            assert!(kept < 200_000, "{kept} bytes");
        }
        let now = lab.delivered(3);
        assert!(now > before, "nothing was delivered in 25 ms");
        before = now;
    }
    assert_eq!(lab.rings(), [ring; 4]);
    lab.judge();
}

#[test]
fn what_was_received_of_the_old_ring_counts_for_nothing_in_the_new_one() {
    // Daemons that miss different messages of a ring form the next one, over and over.
    for seed in 0..cases(3, 30) {
        let mut lab = OrderLab::seeded(5, tuning(FAILURE_TIMEOUT), seed);
        lab.forms((0..5).collect());
        lab.load();
        for round in 0..6 {
            lab.cluster.act(Action::Weather(Weather { drop_multicast: 300, ..Weather::FAIR }));
            lab.cluster.run_for(millis(10 + round));
            lab.cluster.act(Action::Crash(round as usize % 5));
            lab.cluster.run_for(FAILURE_TIMEOUT);
            lab.cluster.act(Action::Weather(Weather::FAIR));
            lab.cluster.act(Action::Start(round as usize % 5));
            lab.forms((0..5).collect());
        }
        lab.judge();
    }
}

#[test]
fn a_message_that_arrives_after_it_was_listed_as_missing_is_delivered_once() {
    let mut filled = 0;
    for seed in 0..cases(6, 60) {
        let mut lab = OrderLab::seeded(4, tuning(FAILURE_TIMEOUT), seed);
        lab.forms((0..4).collect());
        lab.load();
        // A third of all data comes up to 30 ms late: in the midst of recovery.
        let late = Weather { reorder: 330, reorder_ns: 30_000_000, ..Weather::FAIR };
        lab.cluster.act(Action::Weather(late));
        lab.cluster.run_for(millis(30));
        lab.cluster.act(Action::Crash(3));
        lab.cluster.run_for(FAILURE_TIMEOUT * 3);
        filled += lab.cluster.cover().holes_filled_late;
        lab.judge();
    }
    assert!(filled > 0, "nothing that was listed as missing came by itself");
}

/// What forms rings, and the token.
const FORMING: [PacketKind; 5] = [
    PacketKind::Join,
    PacketKind::Commit,
    PacketKind::Exchange,
    PacketKind::Done,
    PacketKind::Token,
];

/// Sends an old packet of each kind of [`FORMING`] to all; how many daemons looked for others then.
fn replay_forming(lab: &mut OrderLab) -> usize {
    let gathering = (0..4).filter(|host| lab.cluster.state(*host) == "gather").count();
    for kind in FORMING {
        lab.cluster.act(Action::StaleOf(kind as usize));
    }
    lab.cluster.run_for(Duration::from_micros(100));
    gathering
}

#[test]
fn stale_packets_of_former_rings_form_no_ring() {
    let mut lab = OrderLab::formed(4);
    lab.load();
    let mut gathering = 0;
    for round in 0..8 {
        lab.cluster.act(Action::Partition(vec![0, 0, 1, 1]));
        let gathers = |cluster: &Cluster<Ordering>| (0..4).any(|h| cluster.state(h) == "gather");
        assert!(lab.cluster.run_while(Duration::from_micros(20), FAILURE_TIMEOUT * 5, gathers));
        for _ in 0..300 {
            gathering += replay_forming(&mut lab);
        }
        lab.cluster.act(Action::Heal);
        // Now and then right away, else once they have met.
        for _ in 0..20 * (round % 3) {
            gathering += replay_forming(&mut lab);
        }
        lab.forms(vec![0, 1, 2, 3]);
    }
    assert!(gathering > 8, "{gathering} times only a daemon that looked for others got some");
    for kind in FORMING {
        assert!(lab.cluster.network.recall_of(kind as usize).is_some(), "no {kind:?} was kept");
    }
    let ring = lab.ring(0);
    for _ in 0..3_000 {
        lab.cluster.act(Action::Stale);
        lab.cluster.run_for(Duration::from_micros(100));
    }
    assert_eq!(lab.rings(), [ring; 4]);
    lab.judge();
}

#[test]
fn incarnations_near_their_end_are_like_others() {
    let first_incarnation = INCARNATION_MAX - 10;
    let tuning = Tuning { first_incarnation, ..tuning(FAILURE_TIMEOUT) };
    let mut lab = OrderLab::starting(3, tuning);
    lab.forms(vec![0, 1, 2]);
    lab.load();
    for host in [0, 1, 2, 0, 1, 2] {
        lab.cluster.act(Action::Crash(host));
        lab.cluster.run_for(FAILURE_TIMEOUT * 2);
        lab.cluster.act(Action::Start(host));
        lab.forms(vec![0, 1, 2]);
    }
    lab.judge();
}

#[test]
fn any_daemon_that_has_a_missing_message_repairs_it() {
    let mut lab = OrderLab::formed(4);
    // One cannot hear the origin at all: it gets the message from another.
    lab.cluster.act(Action::Link(0, 3, false));
    lab.submit(0, Service::Agreed);
    lab.delivers(&[0, 1, 2], 1, millis(5));
    lab.delivers(&[3], 1, FAILURE_TIMEOUT / 3);
    lab.judge();
}

#[test]
fn an_agreed_message_takes_one_rotation_and_a_safe_one_no_further() {
    // 20 to 30 us a hop, and no rest: each daemon has something to send all the time.
    let mut lab = OrderLab::formed(4);
    lab.submit(1, Service::Agreed);
    let agreed = lab.delivers(&[0, 1, 2, 3], 1, millis(5));
    lab.cluster.run_for(millis(50));
    lab.submit(1, Service::Safe);
    let safe = lab.delivers(&[0, 1, 2, 3], 2, millis(5));
    // Not after two further rotations of four hops, as by the book.
    assert!(safe < agreed + Duration::from_micros(4 * 30), "{agreed:?} and {safe:?}");
    lab.judge();
}

/// The configurations of the daemon on `host`, transitional ones with a T before them.
fn configurations(lab: &OrderLab, host: usize) -> Vec<String> {
    let list = |members: &[DaemonId]| {
        members.iter().map(|daemon| daemon.get().to_string()).collect::<Vec<_>>().join(",")
    };
    let told = lab.events(host).filter_map(|event| match event {
        DaemonEvent::Regular { members, .. } => Some(list(members)),
        DaemonEvent::Transitional { members } => Some(format!("T {}", list(members))),
        _ => None,
    });
    told.collect()
}

#[test]
fn q_and_r_lose_p_and_meet_s_and_t() {
    // The figure of the paper on extended virtual synchrony: p, q, r are together, and s, t.
    let mut lab = OrderLab::starting(5, tuning(FAILURE_TIMEOUT));
    lab.cluster.act(Action::Partition(vec![0, 0, 0, 1, 1]));
    lab.forms(vec![0, 1, 2]);
    lab.forms(vec![3, 4]);
    lab.load();
    lab.cluster.run_for(millis(30));
    lab.cluster.act(Action::Partition(vec![0, 1, 1, 1, 1]));
    lab.forms(vec![1, 2, 3, 4]);
    lab.forms(vec![0]);
    let last = |host: usize| {
        let all = configurations(&lab, host);
        all[all.len() - 3..].join(" | ")
    };
    assert_eq!(last(0), "1,2,3 | T 1 | 1");
    for host in [1, 2] {
        let told = last(host);
        // They may have met before or after they missed p.
        assert!(told.ends_with("T 2,3 | 2,3,4,5"), "{told}");
    }
    for host in [3, 4] {
        assert_eq!(last(host), "4,5 | T 4,5 | 2,3,4,5");
    }
    lab.cluster.act(Action::Heal);
    lab.judge();
}

#[test]
fn parts_are_one_ring_when_either_shows_itself_for_the_first_time() {
    let mut lab = OrderLab::formed(5);
    for phase in 0..10 {
        lab.cluster.act(Action::Partition(vec![0, 0, 0, 1, 1]));
        lab.forms(vec![0, 1, 2]);
        lab.forms(vec![3, 4]);
        lab.cluster.run_for(FAILURE_TIMEOUT * 3 + FAILURE_TIMEOUT * phase / 20);
        lab.cluster.act(Action::Heal);
        let time = lab.forms((0..5).collect());
        // Each daemon shows itself each half timeout; what follows takes a few trips.
        assert!(time <= FAILURE_TIMEOUT / 2 + millis(5), "{time:?}");
    }
    lab.judge();
}

#[test]
fn a_safe_message_that_the_lost_daemon_may_lack_comes_behind_the_signal() {
    let mut lab = OrderLab::formed(3);
    // d3 hears nothing any more; whether it has the message nobody will know.
    lab.cluster.act(Action::Partition(vec![0, 0, 1]));
    lab.submit(0, Service::Safe);
    lab.forms(vec![0, 1]);
    for host in [0, 1] {
        let events: Vec<_> = lab.events(host).collect();
        let signal =
            events.iter().rposition(|e| matches!(e, DaemonEvent::Transitional { .. })).unwrap();
        let message = events.iter().position(|e| matches!(e, DaemonEvent::Deliver { .. })).unwrap();
        assert!(signal < message);
    }
    lab.cluster.act(Action::Heal);
    lab.judge();
}

#[test]
fn what_nobody_who_moves_on_has_is_lost_with_its_daemon() {
    let mut lab = OrderLab::formed(3);
    // d1 places two messages; the others hear the second one alone, and d1 is gone.
    lab.cluster.act(Action::Weather(Weather { drop_multicast: 1_000, ..Weather::FAIR }));
    lab.submit(0, Service::Agreed);
    lab.cluster.run_for(Duration::from_micros(200));
    lab.cluster.act(Action::Crash(0));
    lab.cluster.act(Action::Weather(Weather::FAIR));
    lab.forms(vec![1, 2]);
    lab.submit(1, Service::Agreed);
    lab.delivers(&[1, 2], 1, millis(50));
    lab.cluster.run_for(millis(100));
    assert_eq!([1, 2].map(|host| lab.delivered(host)), [1, 1]);
    lab.judge();
}

#[test]
fn as_many_daemons_as_there_may_be_form_one_ring() {
    let daemons = cases(24, DAEMONS_MAX as u64) as usize;
    let mut lab = OrderLab::starting(daemons, tuning(FAILURE_TIMEOUT * 3));
    lab.forms((0..daemons).collect());
    lab.judge();
}
