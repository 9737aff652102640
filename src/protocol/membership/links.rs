//! What is known of the other daemons: which life, whether they were heard lately, and what they
//! said of themselves last.

use std::time::Duration;

use crate::base::{DaemonSet, Instant, Rank};
use crate::wire::join::Contact;

use super::super::timer::Timing;

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
    /// This life showed itself then, whether or not it was to be believed.
    seen_at: Option<Instant>,
    contact: Option<Contact>,
    /// This life of it said goodbye.
    gone_at: Option<Instant>,
    /// It was told that an earlier life shows itself.
    is_told: bool,
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

/// What follows from what a daemon says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Heard {
    /// It is taken.
    Taken,
    /// It is out of date, or not to be believed.
    Stale,
    /// The same; and its life is earlier than one that is silent, which is to be told.
    EarlierLife,
}

/// All other daemons of the cluster.
pub(crate) struct Links {
    me: Rank,
    timing: Timing,
    others: DaemonSet,
    started: Instant,
    links: Vec<Link>,
}

impl Links {
    pub(crate) fn new(me: Rank, everybody: DaemonSet, timing: Timing, started: Instant) -> Self {
        let links = vec![Link::default(); everybody.len()];
        Self { me, timing, others: everybody.without(DaemonSet::only(me)), started, links }
    }

    /// All daemons but this one.
    pub(crate) fn others(&self) -> DaemonSet {
        self.others
    }

    /// Takes what a daemon says of itself. `is_ours`: it is in the ring, so there is a later life.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        from: Rank,
        contact: &Contact,
        is_ours: bool,
    ) -> Heard {
        let Timing { hearing, forgetting, .. } = self.timing;
        let link = &mut self.links[from.index()];
        if contact.incarnation < link.incarnation && !is_ours {
            let is_silent = |time| link.seen_at.is_none_or(|seen_at| now.since(seen_at) >= time);
            if is_silent(forgetting) {
                // Its clock was set back before it started again, or the later life was a lie.
                *link = Link::default();
            } else if is_silent(hearing) && !link.is_told {
                link.is_told = true;
                return Heard::EarlierLife;
            }
        }
        if (contact.incarnation, contact.serial) <= (link.incarnation, link.serial) {
            return Heard::Stale;
        }
        if contact.incarnation > link.incarnation {
            // A new life begins without the sins of the old one.
            *link = Link { incarnation: contact.incarnation, ..Link::default() };
        }
        (link.serial, link.seen_at) = (contact.serial, Some(now));
        // Who still speaks after so long never said it.
        link.gone_at = link.gone_at.filter(|&gone_at| now.since(gone_at) < forgetting);
        let is_distrusted = link.distrusted.is_some_and(|(until, _)| now < until);
        if link.gone_at.is_some() || is_distrusted {
            return Heard::Stale;
        }
        link.heard_at = Some(now);
        link.contact = Some(*contact);
        Heard::Taken
    }

    /// These daemons were in a ring with this one until now.
    pub(crate) fn were_here(&mut self, now: Instant, ring: DaemonSet) {
        ring.iter().for_each(|rank| self.links[rank.index()].seen_at = Some(now));
    }

    /// A daemon took part in something that only it could. Whether it is found just now that what
    /// is said of it being unreachable proves nothing.
    #[must_use]
    pub(crate) fn alive(&mut self, now: Instant, rank: Rank) -> bool {
        let link = &mut self.links[rank.index()];
        (link.heard_at, link.seen_at) = (Some(now), Some(now));
        if !std::mem::take(&mut link.is_refused) {
            return false;
        }
        let believed = link.believes_refusals();
        link.disproved = link.disproved.saturating_add(1);
        believed && !link.believes_refusals()
    }

    /// A daemon says goodbye; `false` where it is another life, or known.
    pub(crate) fn goodbye(&mut self, now: Instant, rank: Rank, incarnation: u64) -> bool {
        let link = &mut self.links[rank.index()];
        if incarnation < link.incarnation || link.gone_at.is_some() {
            return false;
        }
        link.incarnation = incarnation;
        (link.gone_at, link.seen_at) = (Some(now), Some(now));
        (link.heard_at, link.contact) = (None, None);
        true
    }

    /// It is said that nothing listens where this daemon was. `false` where that proves nothing: a
    /// firewall may refuse packets in the name of a life that goes on all the same.
    #[must_use]
    pub(crate) fn refused(&mut self, rank: Rank) -> bool {
        let link = &mut self.links[rank.index()];
        link.is_refused = true;
        if !link.believes_refusals() {
            return false;
        }
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
            // It has done well for as long as it was left alone. Where packets to it are refused
            // that was because there were none.
            Some((until, wait)) if now.since(until) > wait && link.believes_refusals() => first,
            Some((_, wait)) => (wait * DISTRUST_FACTOR).min(DISTRUST_MAX),
            None => first,
        };
        link.distrusted = Some((now + wait, wait));
        link.is_refused = false;
        (link.heard_at, link.contact) = (None, None);
    }

    /// A ring ends in which this daemon was passed the token: was that refused, although it is
    /// there, it cannot be worked with. Who else misses the token first may have ended the ring.
    pub(crate) fn doubt(&mut self, now: Instant, rank: Rank, first: Duration) {
        let link = &self.links[rank.index()];
        if link.is_refused && !link.believes_refusals() {
            self.distrust(now, rank, first);
        }
    }

    /// Whether this daemon ever heard that one.
    pub(crate) fn was_heard(&self, rank: Rank) -> bool {
        self.links[rank.index()].incarnation > 0
    }

    /// When a daemon was last heard. One that never was counts from the start of this one.
    pub(crate) fn heard_at(&self, rank: Rank) -> Option<Instant> {
        let link = &self.links[rank.index()];
        let never = !self.was_heard(rank) && link.distrusted.is_none();
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
    use super::super::super::options::Options;
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
        let timing = Timing::new(&Options::default(), 3);
        Links::new(rank(0), DaemonSet::first_ranks(3), timing, at(0))
    }

    /// Whether daemon 1, which is not in the ring, is believed.
    fn takes(links: &mut Links, now: Instant, contact: &Contact) -> bool {
        links.accept(now, rank(1), contact, false) == Heard::Taken
    }

    #[test]
    fn old_words_and_old_lives_are_not_heard() {
        let mut links = links();
        assert!(takes(&mut links, at(1), &contact(5, 2)));
        assert!(!takes(&mut links, at(1), &contact(5, 2)));
        assert!(!takes(&mut links, at(1), &contact(4, 9)));
        assert!(takes(&mut links, at(1), &contact(6, 1)));
        assert_eq!(links.heard(at(1), SECOND).len(), 2);
        assert_eq!(links.heard(at(3), SECOND).len(), 1);
    }

    #[test]
    fn a_life_that_said_goodbye_stays_gone_and_the_next_one_comes() {
        let mut links = links();
        assert!(takes(&mut links, at(1), &contact(5, 2)));
        assert!(!links.goodbye(at(1), rank(1), 4));
        assert!(links.goodbye(at(1), rank(1), 5));
        assert!(!links.goodbye(at(1), rank(1), 5));
        assert!(!takes(&mut links, at(1), &contact(5, 3)));
        assert!(takes(&mut links, at(1), &contact(6, 1)));
    }

    #[test]
    fn refusals_about_a_life_that_goes_on_all_the_same_are_believed_twice() {
        let mut links = links();
        assert!(takes(&mut links, at(1), &contact(5, 1)));
        for is_found in [false, true] {
            // More of them come while the ring is left.
            assert!(links.refused(rank(1)) && links.refused(rank(1)));
            assert_eq!(links.heard_at(rank(1)), None);
            assert_eq!(links.alive(at(1), rank(1)), is_found);
            assert!(!links.alive(at(1), rank(1)));
        }
        assert!(!links.refused(rank(1)));
        assert!(links.heard_at(rank(1)).is_some());
        links.doubt(at(1), rank(1), SECOND);
        assert_eq!(links.heard_at(rank(1)), None);
        // It is told once.
        assert!(!links.refused(rank(1)) && !links.alive(at(1), rank(1)));
        assert!(takes(&mut links, at(1), &contact(6, 1)));
        assert!(links.refused(rank(1)), "the next life is another one");
    }

    #[test]
    fn a_word_that_was_under_way_when_its_daemon_died_disproves_nothing() {
        let mut links = links();
        for serial in 1..9 {
            assert!(links.refused(rank(1)));
            assert!(takes(&mut links, at(1), &contact(5, serial)));
        }
        assert!(links.refused(rank(1)));
    }

    #[test]
    fn distrust_where_packets_are_refused_only_grows() {
        let mut links = links();
        assert!(takes(&mut links, at(0), &contact(5, 1)));
        for _ in 0..REFUSALS_DISPROVED {
            assert!(links.refused(rank(1)));
            let _ = links.alive(at(0), rank(1));
        }
        links.distrust(at(0), rank(1), SECOND);
        links.distrust(at(100), rank(1), SECOND);
        assert!(!takes(&mut links, at(103), &contact(5, 2)));
        assert!(takes(&mut links, at(104), &contact(5, 3)));
    }

    #[test]
    fn an_earlier_life_is_told_of_once_and_let_in_when_the_later_one_was_silent_for_long() {
        let mut links = links();
        let mut accept =
            |seconds, contact, is_ours| links.accept(at(seconds), rank(1), &contact, is_ours);
        assert_eq!(accept(1, contact(5, 2), false), Heard::Taken);
        // That may just have been on its way.
        assert_eq!(accept(1, contact(4, 1), false), Heard::Stale);
        assert_eq!(accept(3, contact(4, 2), false), Heard::EarlierLife);
        assert_eq!(accept(10, contact(4, 3), false), Heard::Stale);
        assert_eq!(accept(11, contact(4, 4), true), Heard::Stale, "the later one is in the ring");
        assert_eq!(accept(11, contact(5, 2), false), Heard::Stale, "the same one has said that");
        assert_eq!(accept(11, contact(4, 5), false), Heard::Taken);
        assert_eq!(accept(12, contact(5, 3), false), Heard::Taken, "the later one is there again");
        assert_eq!(accept(12, contact(4, 6), false), Heard::Stale);
    }

    #[test]
    fn a_life_that_is_known_by_the_ring_alone_is_not_forgotten_as_soon_as_that_ends() {
        let mut links = links();
        assert!(takes(&mut links, at(1), &contact(5, 2)));
        links.were_here(at(100), DaemonSet::first_ranks(2));
        assert!(!takes(&mut links, at(109), &contact(4, 1)));
        assert!(takes(&mut links, at(110), &contact(4, 2)));
    }

    #[test]
    fn a_goodbye_in_the_name_of_one_who_stays_counts_for_so_long_only() {
        for life in [5, 6] {
            let mut links = links();
            assert!(takes(&mut links, at(1), &contact(5, 2)));
            assert!(links.goodbye(at(1), rank(1), life));
            assert!(!takes(&mut links, at(10), &contact(5, 3)));
            assert!(takes(&mut links, at(11), &contact(5, 4)));
        }
    }

    #[test]
    fn distrust_grows_and_is_forgotten() {
        let mut links = links();
        let can_talk = |links: &mut Links, serial: u64, now| takes(links, now, &contact(1, serial));
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
