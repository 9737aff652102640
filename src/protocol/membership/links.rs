//! What is known of the other daemons: which life, whether they were heard lately, and what they
//! said of themselves last.

use std::time::Duration;

use crate::base::{DaemonSet, Instant, Rank};
use crate::wire::join::Contact;

/// Each failure in a row makes it so many times longer until a daemon is tried again.
const DISTRUST_FACTOR: u32 = 4;

/// A daemon that could not be worked with is tried again after this time at last.
const DISTRUST_MAX: Duration = Duration::from_secs(600);

/// So often a daemon takes part in what began after it was said that nothing listens at it, until
/// that is believed no more. Once may be chance: the word may be about the time before its start.
const REFUSALS_DISPROVED: u32 = 2;

#[derive(Clone, Debug, Default)]
struct Link {
    incarnation: u64,
    serial: u64,
    heard_at: Option<Instant>,
    contact: Option<Contact>,
    /// This life of it said goodbye, or nothing listens where it was.
    is_gone: bool,
    /// Not to be worked with until then, for so long.
    distrusted: Option<(Instant, Duration)>,
    /// It was said that nothing listens at it, and it took part in nothing since.
    is_refused: bool,
    /// How often it did all the same.
    disproved: u32,
}

impl Link {
    fn believes_refusals(&self) -> bool {
        self.disproved < REFUSALS_DISPROVED
    }
}

/// All other daemons of the cluster.
pub(crate) struct Links {
    me: Rank,
    others: DaemonSet,
    started: Instant,
    links: Vec<Link>,
}

impl Links {
    pub(crate) fn new(me: Rank, everybody: DaemonSet, started: Instant) -> Self {
        let links = vec![Link::default(); everybody.len()];
        Self { me, others: everybody.without(DaemonSet::only(me)), started, links }
    }

    /// All daemons but this one.
    pub(crate) fn others(&self) -> DaemonSet {
        self.others
    }

    /// Takes what a daemon says of itself; `false` where it is out of date, or not to be believed.
    #[must_use]
    pub(crate) fn accept(&mut self, now: Instant, from: Rank, contact: &Contact) -> bool {
        let link = &mut self.links[from.index()];
        if (contact.incarnation, contact.serial) <= (link.incarnation, link.serial) {
            return false;
        }
        if contact.incarnation > link.incarnation {
            // A new life begins without the sins of the old one.
            *link = Link { incarnation: contact.incarnation, ..Link::default() };
        }
        link.serial = contact.serial;
        let is_distrusted = link.distrusted.is_some_and(|(until, _)| now < until);
        if link.is_gone || is_distrusted {
            return false;
        }
        link.heard_at = Some(now);
        link.contact = Some(*contact);
        true
    }

    /// A daemon took part in something that only it could. Whether it is found just now that what
    /// is said of it being unreachable proves nothing.
    #[must_use]
    pub(crate) fn alive(&mut self, now: Instant, rank: Rank) -> bool {
        let link = &mut self.links[rank.index()];
        link.heard_at = Some(now);
        if !std::mem::take(&mut link.is_refused) {
            return false;
        }
        link.disproved += 1;
        !link.believes_refusals()
    }

    /// A daemon says goodbye; `false` where it is another life, or known.
    pub(crate) fn goodbye(&mut self, rank: Rank, incarnation: u64) -> bool {
        let link = &mut self.links[rank.index()];
        if incarnation < link.incarnation || link.is_gone {
            return false;
        }
        link.incarnation = incarnation;
        link.is_gone = true;
        (link.heard_at, link.contact) = (None, None);
        true
    }

    /// It is said that nothing listens where this daemon was. `false` where that proves nothing: a
    /// firewall may refuse packets in the name of a life that goes on all the same.
    #[must_use]
    pub(crate) fn refused(&mut self, rank: Rank) -> bool {
        let link = &mut self.links[rank.index()];
        if !link.believes_refusals() {
            return false;
        }
        link.is_refused = true;
        self.lost(rank);
        true
    }

    /// This daemon is not waited for until it is heard again.
    pub(crate) fn lost(&mut self, rank: Rank) {
        let link = &mut self.links[rank.index()];
        (link.heard_at, link.contact) = (None, None);
    }

    /// A daemon could not be worked with although it is heard: leave it alone for a while, longer
    /// each time, or a link that works one way only would be tried for ever.
    pub(crate) fn distrust(&mut self, now: Instant, rank: Rank, first: Duration) {
        let link = &mut self.links[rank.index()];
        let wait = match link.distrusted {
            // It has done well for as long as it was left alone. Where packets to it are refused that
            // was because there were none.
            Some((until, wait)) if now.since(until) > wait && link.believes_refusals() => first,
            Some((_, wait)) => (wait * DISTRUST_FACTOR).min(DISTRUST_MAX),
            None => first,
        };
        link.distrusted = Some((now + wait, wait));
        (link.heard_at, link.contact) = (None, None);
    }

    /// When a daemon was last heard. One that never was counts from the start of this one.
    pub(crate) fn heard_at(&self, rank: Rank) -> Option<Instant> {
        let link = &self.links[rank.index()];
        let never = link.incarnation == 0 && link.distrusted.is_none();
        link.heard_at.or(never.then_some(self.started))
    }

    /// What a daemon said of itself last, within `window`.
    pub(crate) fn contact(&self, now: Instant, window: Duration, rank: Rank) -> Option<&Contact> {
        let link = &self.links[rank.index()];
        let heard_at = link.heard_at?;
        link.contact.as_ref().filter(|_| now.since(heard_at) < window)
    }

    /// This daemon, and whom it heard within `window`.
    pub(crate) fn heard(&self, now: Instant, window: Duration) -> DaemonSet {
        let is_heard = |rank: &Rank| self.contact(now, window, *rank).is_some();
        self.others.iter().filter(is_heard).collect::<DaemonSet>().with(self.me)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{DaemonId, RingId};

    const SECOND: Duration = Duration::from_secs(1);

    fn rank(index: usize) -> Rank {
        Rank::new(index).unwrap()
    }

    fn at(seconds: u32) -> Instant {
        Instant::ZERO + SECOND * seconds
    }

    fn contact(incarnation: u64, serial: u64) -> Contact {
        let ring = RingId { number: 1, leader: DaemonId::new(1) };
        let (members, heard) = (DaemonSet::EMPTY, DaemonSet::EMPTY);
        Contact { incarnation, serial, ring, members, heard, number_max: 1 }
    }

    fn links() -> Links {
        Links::new(rank(0), DaemonSet::first_ranks(3), at(0))
    }

    #[test]
    fn old_words_and_old_lives_are_not_heard() {
        let mut links = links();
        assert!(links.accept(at(1), rank(1), &contact(5, 2)));
        assert!(!links.accept(at(1), rank(1), &contact(5, 2)));
        assert!(!links.accept(at(1), rank(1), &contact(4, 9)));
        assert!(links.accept(at(1), rank(1), &contact(6, 1)));
        assert_eq!(links.heard(at(1), SECOND).len(), 2);
        assert_eq!(links.heard(at(3), SECOND).len(), 1);
    }

    #[test]
    fn a_life_that_said_goodbye_stays_gone_and_the_next_one_comes() {
        let mut links = links();
        assert!(links.accept(at(1), rank(1), &contact(5, 2)));
        assert!(!links.goodbye(rank(1), 4));
        assert!(links.goodbye(rank(1), 5));
        assert!(!links.goodbye(rank(1), 5));
        assert!(!links.accept(at(1), rank(1), &contact(5, 3)));
        assert!(links.accept(at(1), rank(1), &contact(6, 1)));
    }

    #[test]
    fn refusals_about_a_life_that_goes_on_all_the_same_are_believed_twice() {
        let mut links = links();
        assert!(links.accept(at(1), rank(1), &contact(5, 1)));
        for is_found in [false, true] {
            // More of them come while the ring is left.
            assert!(links.refused(rank(1)) && links.refused(rank(1)));
            assert_eq!(links.heard_at(rank(1)), None);
            assert_eq!(links.alive(at(1), rank(1)), is_found);
            assert!(!links.alive(at(1), rank(1)));
        }
        assert!(!links.refused(rank(1)));
        assert!(links.heard_at(rank(1)).is_some());
        assert!(links.accept(at(1), rank(1), &contact(6, 1)));
        assert!(links.refused(rank(1)), "the next life is another one");
    }

    #[test]
    fn a_word_that_was_under_way_when_its_daemon_died_disproves_nothing() {
        let mut links = links();
        for serial in 1..9 {
            assert!(links.refused(rank(1)));
            assert!(links.accept(at(1), rank(1), &contact(5, serial)));
        }
        assert!(links.refused(rank(1)));
    }

    #[test]
    fn distrust_where_packets_are_refused_only_grows() {
        let mut links = links();
        assert!(links.accept(at(0), rank(1), &contact(5, 1)));
        for _ in 0..REFUSALS_DISPROVED {
            assert!(links.refused(rank(1)));
            let _ = links.alive(at(0), rank(1));
        }
        links.distrust(at(0), rank(1), SECOND);
        links.distrust(at(100), rank(1), SECOND);
        assert!(!links.accept(at(103), rank(1), &contact(5, 2)));
        assert!(links.accept(at(104), rank(1), &contact(5, 3)));
    }

    #[test]
    fn distrust_grows_and_is_forgotten() {
        let mut links = links();
        let can_talk =
            |links: &mut Links, serial: u64, now| links.accept(now, rank(1), &contact(1, serial));
        assert!(can_talk(&mut links, 1, at(0)));
        links.distrust(at(0), rank(1), SECOND);
        assert!(!can_talk(&mut links, 2, at(0)));
        assert!(can_talk(&mut links, 3, at(1)));
        links.distrust(at(1), rank(1), SECOND);
        assert!(!can_talk(&mut links, 4, at(4)));
        assert!(can_talk(&mut links, 5, at(5)));
        links.distrust(at(100), rank(1), SECOND);
        assert!(can_talk(&mut links, 6, at(101)));
    }
}
