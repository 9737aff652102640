//! Daemons of the cluster that are not in the ring: why they are not, as far as that can be told,
//! so that a daemon that stays alone says more than nothing.
//!
//! Once in a while each of them gets a packet by unicast that asks who it is. Where the files name
//! different multicast groups, this is how the daemons hear of each other (`strangers.rs`); where
//! multicast does not pass, this is how it shows. Nothing is sent, and nobody is woken, while all
//! daemons are in the ring. The protocol layer takes no part in it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::limits::{ASK_AFTER, ASK_INTERVAL, UNHEARD_GRACE};
use crate::base::{DaemonId, DaemonSet, Event, Instant, Rank};

/// One of the others.
#[derive(Clone, Debug)]
pub(super) struct Other {
    pub(super) id: DaemonId,
    pub(super) rank: Rank,
    /// Where it receives, and sends from.
    pub(super) place: [SocketAddr; 2],
    /// The group where it and this daemon should meet.
    pub(super) group: Option<SocketAddr>,
}

/// The other daemons that are not in the ring.
pub(super) struct Unheard {
    others: Vec<Known>,
    /// What is heard less often than that is not heard.
    patience: Duration,
    /// When there is something to do; `None` while all are in the ring.
    due: Option<Instant>,
    questions: VecDeque<SocketAddr>,
    events: VecDeque<Event>,
}

struct Known {
    other: Other,
    /// A packet came from there, in this life of this daemon.
    was_heard: bool,
    was_told: bool,
    /// Where it is in none of this daemon's rings.
    absence: Option<Absence>,
}

struct Absence {
    since: Instant,
    ask_at: Instant,
    /// When packets of this cluster came last, by multicast and by unicast.
    multicast_at: Option<Instant>,
    unicast_at: Option<Instant>,
    was_told: bool,
    /// When and where something came from that is no packet of this version, and no packet since.
    foreign: Option<(Instant, SocketAddr)>,
    was_foreign_told: bool,
}

/// What came, as far as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A packet of this cluster.
    Ours,
    /// A packet of another cluster, or of one with another configuration.
    Another,
    /// No packet of this version.
    Foreign,
}

impl Absence {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            // Daemons that just start, or merge, need not ask.
            ask_at: now + ASK_AFTER,
            multicast_at: None,
            unicast_at: None,
            was_told: false,
            foreign: None,
            was_foreign_told: false,
        }
    }

    /// A packet of this cluster came.
    fn hear(&mut self, now: Instant, by_multicast: bool) {
        let heard = if by_multicast { &mut self.multicast_at } else { &mut self.unicast_at };
        *heard = Some(now);
    }
}

impl Unheard {
    /// `failure_timeout`: daemons that look for others show themselves twice as often, at least.
    pub(super) fn new(now: Instant, others: Vec<Other>, failure_timeout: Duration) -> Self {
        let known = |other| Known {
            other,
            was_heard: false,
            was_told: false,
            absence: Some(Absence::new(now)),
        };
        let mut this = Self {
            others: others.into_iter().map(known).collect(),
            patience: UNHEARD_GRACE.max(2 * failure_timeout),
            due: None,
            questions: VecDeque::new(),
            events: VecDeque::new(),
        };
        this.arm();
        this
    }

    /// These are in the ring now.
    pub(super) fn follow(&mut self, now: Instant, members: DaemonSet) {
        for known in &mut self.others {
            if members.contains(known.other.rank) {
                (known.was_heard, known.absence) = (true, None);
            } else {
                known.absence.get_or_insert_with(|| Absence::new(now));
            }
        }
        self.arm();
    }

    /// Something came from `from`.
    pub(super) fn hear(&mut self, now: Instant, from: SocketAddr, by_multicast: bool, sort: Sort) {
        if self.due.is_none() {
            return;
        }
        for known in &mut self.others {
            let Some(absence) = &mut known.absence else { continue };
            if sort == Sort::Foreign {
                // Spread sends from a port that the kernel chose.
                if known.other.place[0].ip() == from.ip() {
                    absence.foreign = Some((now, from));
                }
            } else if known.other.place.contains(&from) {
                (known.was_heard, absence.foreign) = (true, None);
                if sort == Sort::Ours {
                    absence.hear(now, by_multicast);
                }
            }
        }
    }

    /// When [`Unheard::fire`] has something to do.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.due
    }

    /// Does what is due.
    pub(super) fn fire(&mut self, now: Instant) {
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        for known in &mut self.others {
            let Some(absence) = &mut known.absence else { continue };
            if absence.ask_at <= now {
                absence.ask_at = now + ASK_INTERVAL;
                self.questions.push_back(known.other.place[0]);
            }
            self.events.extend(known.judge(now, self.patience));
        }
        self.arm();
    }

    fn arm(&mut self) {
        // What is told is told when something is asked: that is soon enough.
        let absences = self.others.iter().filter_map(|known| known.absence.as_ref());
        self.due = absences.map(|absence| absence.ask_at).min();
    }

    /// Where to ask next.
    pub(super) fn poll_question(&mut self) -> Option<SocketAddr> {
        self.questions.pop_front()
    }

    /// The next thing to tell the operator.
    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

impl Known {
    /// What there is to tell of it, once.
    fn judge(&mut self, now: Instant, patience: Duration) -> Option<Event> {
        let absence = self.absence.as_mut()?;
        if now.since(absence.since) < patience {
            return None;
        }
        let (daemon, address) = (self.other.id, self.other.place[0]);
        if let Some((at, from)) = absence.foreign
            && now.since(at) < patience
        {
            let is_new = !std::mem::replace(&mut absence.was_foreign_told, true);
            return is_new.then_some(Event::DaemonForeign { daemon, address, from });
        }
        if !self.was_heard {
            let is_new = !std::mem::replace(&mut self.was_told, true);
            return is_new.then_some(Event::DaemonUnheard { daemon, address });
        }
        let group = self.other.group?;
        let is_heard = |at: Option<Instant>| at.is_some_and(|at| now.since(at) < patience);
        if absence.was_told || !is_heard(absence.unicast_at) || is_heard(absence.multicast_at) {
            return None;
        }
        absence.was_told = true;
        Some(Event::MulticastUnheard { daemon, address, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(300);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn place(rank: usize) -> SocketAddr {
        at(&format!("10.0.0.{rank}:4803"))
    }

    /// The others of daemon 0 of three; the last one is in another segment.
    fn unheard() -> Unheard {
        let other = |rank: usize| Other {
            id: DaemonId::new(rank as u32),
            rank: Rank::new(rank).unwrap(),
            place: [place(rank), at(&format!("10.0.0.{rank}:4804"))],
            group: (rank == 1).then(|| at("239.77.68.71:4803")),
        };
        Unheard::new(second(0), vec![other(1), other(2)], TIMEOUT)
    }

    fn second(second: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(1_000 + second)
    }

    fn set(ranks: &[usize]) -> DaemonSet {
        ranks.iter().map(|&rank| Rank::new(rank).unwrap()).collect()
    }

    /// Lets the seconds pass, each of which begins with `each`; returns who was asked, and events.
    fn pass(
        unheard: &mut Unheard,
        seconds: std::ops::Range<u64>,
        each: impl Fn(&mut Unheard, Instant),
    ) -> (Vec<SocketAddr>, Vec<Event>) {
        let (mut asked, mut told) = (Vec::new(), Vec::new());
        for now in seconds.map(second) {
            each(unheard, now);
            unheard.fire(now);
            asked.extend(std::iter::from_fn(|| unheard.poll_question()));
            told.extend(std::iter::from_fn(|| unheard.poll_event()));
        }
        (asked, told)
    }

    #[test]
    fn who_is_not_heard_is_asked_for_ever_and_told_of_once() {
        let (asked, told) = pass(&mut unheard(), 0..60, |_, _| {});
        assert_eq!(asked.iter().filter(|&&to| to == place(1)).count(), 20);
        assert_eq!(asked.len(), 40);
        let unheard = |rank| Event::DaemonUnheard {
            daemon: DaemonId::new(rank),
            address: place(rank as usize),
        };
        assert_eq!(told, [unheard(1), unheard(2)]);
    }

    #[test]
    fn while_all_are_there_nothing_happens() {
        let mut unheard = unheard();
        unheard.follow(second(0), set(&[0, 1, 2]));
        assert_eq!(unheard.next_timer(), None);
        assert_eq!(pass(&mut unheard, 0..60, |_, _| {}), (vec![], vec![]));
        // One goes; its operator knows, so that it is silent is no news.
        unheard.follow(second(60), set(&[0, 2]));
        let (asked, told) = pass(&mut unheard, 60..70, |_, _| {});
        assert_eq!((asked, told), (vec![place(1); 3], vec![]));
    }

    #[test]
    fn who_is_heard_by_unicast_alone_is_told_of_once_an_absence() {
        let mut unheard = unheard();
        let unicast = |unheard: &mut Unheard, now| {
            unheard.hear(now, place(1), false, Sort::Ours);
            unheard.hear(now, place(2), false, Sort::Ours);
        };
        let (_, told) = pass(&mut unheard, 0..60, unicast);
        let event = Event::MulticastUnheard {
            daemon: DaemonId::new(1),
            address: place(1),
            group: at("239.77.68.71:4803"),
        };
        assert_eq!(told, [event]);
        unheard.follow(second(60), set(&[0, 1, 2]));
        unheard.follow(second(61), set(&[0, 2]));
        assert_eq!(pass(&mut unheard, 61..120, unicast).1.len(), 1);
    }

    #[test]
    fn who_is_heard_by_multicast_or_is_of_another_cluster_is_no_matter_of_multicast() {
        let both = |unheard: &mut Unheard, now| {
            unheard.hear(now, place(1), false, Sort::Ours);
            unheard.hear(now, place(1), true, Sort::Ours);
            unheard.hear(now, place(2), false, Sort::Another);
            unheard.hear(now, at("10.9.9.9:4803"), false, Sort::Ours);
        };
        assert_eq!(pass(&mut unheard(), 0..60, both).1, []);
        let other = |unheard: &mut Unheard, now| {
            unheard.hear(now, place(1), false, Sort::Another);
            unheard.hear(now, place(2), true, Sort::Another);
        };
        assert_eq!(pass(&mut unheard(), 0..60, other).1, []);
    }

    #[test]
    fn what_is_no_packet_is_told_of_once_an_absence_and_is_forgotten_when_one_comes() {
        let mut unheard = unheard();
        let from = at("10.0.0.1:40404");
        let foreign = |unheard: &mut Unheard, now| {
            unheard.hear(now, from, true, Sort::Foreign);
            unheard.hear(now, place(2), false, Sort::Foreign);
            unheard.hear(now, place(2), false, Sort::Another);
        };
        let daemon = DaemonId::new(1);
        let once = [Event::DaemonForeign { daemon, address: place(1), from }];
        assert_eq!(pass(&mut unheard, 0..60, foreign).1, once);
        // It comes back, and as another version after that.
        unheard.follow(second(60), set(&[0, 1, 2]));
        unheard.follow(second(61), set(&[0, 2]));
        assert_eq!(pass(&mut unheard, 61..120, foreign).1, once);
    }

    #[test]
    fn one_thing_that_is_no_packet_does_not_hide_that_a_daemon_is_not_heard() {
        let mut unheard = unheard();
        unheard.hear(second(0), place(1), false, Sort::Foreign);
        let (_, told) = pass(&mut unheard, 0..60, |_, _| {});
        let daemons = told.iter().map(|event| match event {
            Event::DaemonUnheard { daemon, .. } => daemon.get(),
            other => panic!("{other:?}"),
        });
        assert!(daemons.eq([1, 2]), "{told:?}");
    }
}
