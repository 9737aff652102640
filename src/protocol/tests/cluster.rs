//! Groups across daemons: several of them in one thread, with a network that delivers at once or,
//! between components, not at all.

use std::collections::VecDeque;
use std::time::Duration;

use super::*;
use crate::base::DaemonName;
use crate::protocol::output::To;

const LATENCY: Duration = Duration::from_micros(50);

struct Lab {
    now: Instant,
    daemons: Vec<Protocol<Heap>>,
    /// Daemons with the same number hear each other.
    component: Vec<usize>,
    inbox: Vec<VecDeque<HeapBuffer>>,
    logs: Vec<Vec<String>>,
}

impl Lab {
    /// So many daemons, `d1` and on, each with one session of the same number, `s1` and on. They
    /// have found each other.
    fn new(count: usize) -> Self {
        let daemon = |index: usize| {
            let name = format!("d{}", index + 1);
            let id = DaemonId::new(index as u32 + 1);
            Daemon { id, name: DaemonName::new(name.as_bytes()).unwrap() }
        };
        let all: Vec<_> = (0..count).map(daemon).collect();
        let now = Instant::ZERO + Duration::from_secs(1);
        let start = |index: usize| {
            let me = all[index].id;
            let setup = Setup {
                daemons: all.clone(),
                me,
                cluster: 7,
                incarnation: 1 + index as u64,
                seed: index as u64,
                options: Options::default(),
            };
            let mut protocol = Protocol::new(&setup, now, &mut Heap);
            let name = SessionName::new(format!("s{}", index + 1).as_bytes()).ok();
            protocol.handle_connect(id(0), name, true).unwrap();
            protocol
        };
        let mut lab = Self {
            now,
            daemons: (0..count).map(start).collect(),
            component: vec![0; count],
            inbox: vec![VecDeque::new(); count],
            logs: vec![Vec::new(); count],
        };
        lab.run(Duration::from_secs(2));
        lab
    }

    /// Daemon `daemon` goes over to a cluster of these, with another identity.
    fn reload(&mut self, daemon: usize, cluster: u64, daemons: &[usize]) {
        let member = |number: &usize| {
            let name = DaemonName::new(format!("d{number}").as_bytes()).unwrap();
            Daemon { id: DaemonId::new(*number as u32), name }
        };
        let setup = Setup {
            daemons: daemons.iter().map(member).collect(),
            me: DaemonId::new(daemon as u32),
            cluster,
            incarnation: 1000 * cluster + daemon as u64,
            seed: cluster,
            options: Options::default(),
        };
        self.daemons[daemon - 1].handle_reload(self.now, setup, &mut Heap);
        self.drain(daemon - 1);
    }

    /// Cuts the network into these components, daemons by number.
    fn partition(&mut self, components: &[&[usize]]) {
        for (index, component) in components.iter().enumerate() {
            for daemon in *component {
                self.component[daemon - 1] = index;
            }
        }
        self.run(Duration::from_secs(2));
    }

    fn heal(&mut self) {
        self.component.fill(0);
        self.run(Duration::from_secs(3));
    }

    fn request(&mut self, daemon: usize, request: Request<HeapBuffer>) {
        let protocol = &mut self.daemons[daemon - 1];
        protocol.handle_request(self.now, id(0), request, &mut Heap);
        // What is due at once is done behind all input.
        if protocol.poll_timeout().is_some_and(|at| at <= self.now) {
            protocol.handle_timeout(self.now, &mut Heap);
        }
        self.drain(daemon - 1);
    }

    fn join(&mut self, daemon: usize, name: &str) {
        self.request(daemon, Request::Join(group(name)));
        self.run(Duration::from_millis(50));
    }

    fn multicast(&mut self, daemon: usize, to: &[&str], data: &str) {
        self.multicast_as(Service::Agreed, daemon, to, data);
    }

    fn multicast_as(&mut self, service: Service, daemon: usize, to: &[&str], data: &str) {
        let frame = message(&format!("#s{daemon}#d{daemon}"), to, data);
        let frame = Heap.copy(&frame).unwrap();
        let (self_discard, destinations) = (false, to.len() as u8);
        self.request(daemon, Request::Multicast { service, self_discard, destinations, frame });
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let mut idle = true;
            for to in 0..self.daemons.len() {
                for packet in std::mem::take(&mut self.inbox[to]) {
                    idle = false;
                    self.daemons[to].handle_packet(self.now, &packet, &mut Heap);
                    self.drain(to);
                }
            }
            let next = self.daemons.iter().filter_map(Protocol::poll_timeout).min();
            self.now = match next {
                Some(next) if idle => next.max(self.now + LATENCY).min(end),
                Some(_) | None => self.now + LATENCY,
            };
            for index in 0..self.daemons.len() {
                if self.daemons[index].poll_timeout().is_some_and(|at| at <= self.now) {
                    self.daemons[index].handle_timeout(self.now, &mut Heap);
                    self.drain(index);
                }
            }
        }
    }

    fn drain(&mut self, from: usize) {
        while let Some(transmit) = self.daemons[from].poll_transmit() {
            for to in 0..self.daemons.len() {
                let is_meant = match transmit.to {
                    To::Multicast => to != from,
                    To::Daemon(daemon) => daemon == DaemonId::new(to as u32 + 1),
                };
                if is_meant && self.component[to] == self.component[from] {
                    self.inbox[to].push_back(transmit.bytes.clone());
                }
            }
        }
        while let Some(delivery) = self.daemons[from].poll_delivery() {
            self.logs[from].push(match delivery {
                Delivery::Frame { frame, .. } => tell(frame.as_ref()),
                Delivery::Ended { .. } => "ended".into(),
                Delivery::Hold { .. } => "hold".into(),
                Delivery::Release { .. } => "release".into(),
            });
        }
    }

    /// What the session of each daemon got since the last call.
    fn take(&mut self) -> Vec<Vec<String>> {
        let empty = vec![Vec::new(); self.logs.len()];
        std::mem::replace(&mut self.logs, empty)
    }
}

/// As [`describe`], with the sets of a network view.
fn tell(bytes: &[u8]) -> String {
    let (frame, _) = Frame::parse(bytes).unwrap().unwrap();
    let text = |field: &[u8]| {
        let text = field.split(|&byte| byte == 0).next().unwrap();
        String::from_utf8(text.to_vec()).unwrap()
    };
    let members: Vec<_> = frame.names.iter().map(|field| text(field)).collect();
    let short = |name: &str| name.split('#').nth(1).unwrap_or_default().to_owned();
    match Cause::of(frame.header.kind) {
        Some(Cause::Network) => {
            let body = Regular::parse(frame.header.order, frame.data).unwrap();
            let sets = body.sets().map(|set| {
                let names = set.map(|name| short(&String::from_utf8_lossy(name.as_bytes())));
                names.collect::<Vec<_>>().join("+")
            });
            let sets: Vec<_> = sets.collect();
            let members: Vec<_> = members.iter().map(|name| short(name)).collect();
            let (members, own) = (members.join("+"), body.own_set());
            format!(
                "network {} {members} of {} own {own}",
                text(&frame.header.name),
                sets.join(" ")
            )
        }
        Some(cause) => {
            let members: Vec<_> = members.iter().map(|name| short(name)).collect();
            format!("{cause:?} {} {}", text(&frame.header.name), members.join("+"))
        }
        None if frame.header.kind == kind::TRANSITIONAL => {
            format!("signal {}", text(&frame.header.name))
        }
        None if frame.header.kind == kind::CAUSED_BY_LEAVE => {
            format!("left {}", text(&frame.header.name))
        }
        None => text(frame.data),
    }
}

#[test]
fn members_of_several_daemons_see_one_order() {
    let mut lab = Lab::new(3);
    for daemon in 1..=3 {
        lab.join(daemon, "g");
    }
    let logs = lab.take();
    assert_eq!(logs[0], ["Join g s1", "Join g s1+s2", "Join g s1+s2+s3"]);
    assert_eq!(logs[2], ["Join g s1+s2+s3"]);
    for round in 0..5 {
        for daemon in 1..=3 {
            lab.multicast(daemon, &["g"], &format!("{daemon}.{round}"));
        }
    }
    lab.run(Duration::from_millis(50));
    let logs = lab.take();
    assert_eq!(logs[0].len(), 15);
    assert_eq!((&logs[0], &logs[0]), (&logs[1], &logs[2]));
    lab.request(2, Request::Leave(group("g")));
    lab.run(Duration::from_millis(50));
    lab.request(3, Request::Disconnect);
    lab.run(Duration::from_millis(50));
    let logs = lab.take();
    assert_eq!(logs[0], ["Leave g s1+s3", "Disconnect g s1"]);
    assert_eq!(logs[1], ["left g"]);
    assert_eq!(logs[2], ["Leave g s1+s3", "ended"]);
}

#[test]
fn a_partition_is_signalled_and_a_merge_brings_sets_together() {
    let mut lab = Lab::new(3);
    for daemon in 1..=3 {
        lab.join(daemon, "g");
    }
    lab.join(1, "own");
    lab.take();
    lab.partition(&[&[1, 2], &[3]]);
    let logs = lab.take();
    let lost = ["signal g", "network g s1+s2 of s1+s2 own 0"];
    assert_eq!(logs[0], lost);
    assert_eq!(logs[1], lost);
    assert_eq!(logs[2], ["signal g", "network g s3 of s3 own 0"]);
    lab.heal();
    let logs = lab.take();
    // No signal, and nothing for the group that nobody else is in.
    assert_eq!(logs[0], ["network g s1+s2+s3 of s1+s2 s3 own 0"]);
    assert_eq!(logs[1], logs[0]);
    assert_eq!(logs[2], ["network g s1+s2+s3 of s1+s2 s3 own 1"]);
}

#[test]
fn who_comes_back_learns_of_groups_that_changed_elsewhere() {
    let mut lab = Lab::new(3);
    lab.partition(&[&[1, 2], &[3]]);
    lab.join(1, "g");
    lab.take();
    lab.heal();
    assert_eq!(lab.take(), vec![Vec::<String>::new(); 3]);
    lab.join(3, "g");
    let logs = lab.take();
    assert_eq!(logs[0], ["Join g s1+s3"]);
    assert_eq!(logs[2], ["Join g s1+s3"]);
}

#[test]
fn local_messages_do_not_wait_for_the_ring() {
    let mut lab = Lab::new(2);
    lab.join(1, "here");
    lab.join(1, "both");
    lab.join(2, "both");
    lab.take();
    lab.component = vec![0, 1];
    // The ring is gone, which nobody knows yet: nothing can be ordered.
    lab.multicast(1, &["here"], "local");
    assert_eq!(lab.take()[0], ["local"]);
    lab.multicast_as(Service::Safe, 1, &["both"], "wide");
    // It comes behind what the session asked for before.
    lab.multicast(1, &["here"], "behind");
    assert_eq!(lab.take()[0], Vec::<String>::new());
    lab.run(Duration::from_secs(2));
    let network = "network both s1 of s1 own 0";
    assert_eq!(lab.take()[0], ["signal both", "wide", network, "behind"]);
}

#[test]
fn a_group_turns_global_and_local_again() {
    let mut lab = Lab::new(2);
    lab.join(1, "g");
    lab.join(2, "g");
    lab.multicast(1, &["g"], "to both");
    lab.run(Duration::from_millis(50));
    lab.request(2, Request::Leave(group("g")));
    lab.run(Duration::from_millis(50));
    let ordered = lab.daemons[0].tallies()[0].get(Counter::MessagesLocal);
    lab.multicast(1, &["g"], "to one");
    assert_eq!(lab.daemons[0].tallies()[0].get(Counter::MessagesLocal), ordered + 1);
    let logs = lab.take();
    let both = "Join g s1+s2";
    assert_eq!(logs[0], ["Join g s1", both, "to both", "Leave g s1", "to one"]);
    assert_eq!(logs[1], [both, "to both", "left g"]);
}

#[test]
fn a_group_with_many_members_is_told_whole() {
    let mut lab = Lab::new(2);
    lab.partition(&[&[1], &[2]]);
    let many = 9_000;
    for slot in 1..=many {
        let session = id(slot);
        let name = SessionName::new(format!("m{slot}").as_bytes()).ok();
        lab.daemons[0].handle_connect(session, name, false).unwrap();
        let join = Request::Join(group("g"));
        lab.daemons[0].handle_request(lab.now, session, join, &mut Heap);
        lab.drain(0);
    }
    lab.join(2, "g");
    lab.take();
    lab.heal();
    let logs = lab.take();
    assert_eq!(logs[1].len(), 1);
    let members = logs[1][0].split(' ').nth(2).unwrap().split('+').count();
    assert_eq!(members, many as usize + 1);
}

#[test]
fn who_goes_over_to_another_cluster_says_goodbye() {
    let mut lab = Lab::new(3);
    for daemon in 1..=3 {
        lab.join(daemon, "g");
    }
    lab.take();
    lab.reload(1, 8, &[1, 3]);
    // Far less than the failure timeout.
    lab.run(Duration::from_millis(50));
    let logs = lab.take();
    for daemon in [2, 3] {
        let last = logs[daemon - 1].last().unwrap();
        assert!(last.starts_with("network g s2+s3 of s2+s3 "), "{last}");
    }
}

#[test]
fn a_reload_keeps_sessions_and_what_they_sent() {
    let mut lab = Lab::new(3);
    for daemon in 1..=3 {
        lab.join(daemon, "g");
    }
    lab.take();
    // Daemon 2 is taken out, with a message on its way; 3 moves up in the order.
    lab.multicast_as(Service::Safe, 1, &["g"], "on its way");
    for daemon in [1, 3] {
        lab.reload(daemon, 8, &[1, 3]);
        assert!(!lab.daemons[daemon - 1].is_reloading());
    }
    lab.run(Duration::from_secs(3));
    let logs = lab.take();
    let alone = |name: &str| format!("network g {name} of {name} own 0");
    assert_eq!(logs[0][..2], ["signal g".to_owned(), "on its way".to_owned()]);
    assert_eq!(logs[0][2..], [alone("s1"), "network g s1+s3 of s1 s3 own 0".to_owned()]);
    assert_eq!(logs[2].last().unwrap(), "network g s1+s3 of s1 s3 own 1");
    assert_eq!(logs[1].last().unwrap(), &alone("s2"));
    lab.multicast(3, &["g"], "afterwards");
    lab.run(Duration::from_millis(50));
    let logs = lab.take();
    assert_eq!((logs[0].clone(), logs[2].clone()), (vec!["afterwards".into()], logs[0].clone()));
    assert_eq!(logs[1], Vec::<String>::new());
}

#[test]
fn a_join_behind_the_signal_is_told_as_a_network_view_with_the_newcomer_apart() {
    let mut lab = Lab::new(2);
    lab.join(1, "g");
    lab.join(2, "g");
    let newcomer = SessionName::new(b"new").ok();
    lab.daemons[0].handle_connect(id(1), newcomer, true).unwrap();
    lab.take();
    // Both have a place in the old ring; but nobody else gets them, so they come behind the signal.
    lab.component = vec![0, 1];
    let frame = Heap.copy(&message("#s1#d1", &["g"], "safe")).unwrap();
    let (service, self_discard, destinations) = (Service::Safe, false, 1);
    let safe = Request::Multicast { service, self_discard, destinations, frame };
    // In one turn, so that one visit of the token places both.
    lab.daemons[0].handle_request(lab.now, id(0), safe, &mut Heap);
    lab.daemons[0].handle_request(lab.now, id(1), Request::Join(group("g")), &mut Heap);
    lab.daemons[0].handle_timeout(lab.now, &mut Heap);
    lab.drain(0);
    lab.run(Duration::from_secs(2));
    let logs = lab.take();
    let apart = "network g new+s1+s2 of s1 s2 new own";
    let (newcomer, member) = (format!("{apart} 2"), format!("{apart} 0"));
    let last = "network g new+s1 of new+s1 own 0";
    assert_eq!(logs[0], ["signal g", "safe", &newcomer, &member, "signal g", last]);
}

#[test]
fn a_session_that_waits_for_the_ring_is_held_and_let_go_again() {
    let mut lab = Lab::new(2);
    lab.join(1, "g");
    lab.join(2, "g");
    lab.take();
    lab.component = vec![0, 1];
    // More than may wait for a place, and then for that.
    let filler = "\0".repeat(100_000);
    let messages: Vec<_> = (0..100).map(|number| number.to_string()).collect();
    for message in &messages {
        lab.multicast(1, &["g"], &format!("{message}{filler}"));
    }
    // The token was here, and took one along.
    assert_eq!(lab.take()[0], ["0", "hold"]);
    let retained = |lab: &Lab| lab.daemons[0].retained_bytes();
    assert!(retained(&lab) >= 99 * filler.len(), "what waits for a place counts");
    lab.run(Duration::from_secs(2));
    assert!(retained(&lab) < filler.len());
    let told = lab.take().swap_remove(0);
    let release = told.iter().position(|line| line == "release").expect("it is let go");
    let delivered = |lines: &[String]| lines.iter().filter(|line| messages.contains(line)).count();
    assert_eq!(delivered(&told), messages.len() - 1);
    assert!(delivered(&told[..release]) > 0, "it was held for a reason");
}
