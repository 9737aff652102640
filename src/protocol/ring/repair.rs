//! Missing packets: when they count as lost, who is asked, and how requests are answered.

use std::time::Duration;

use crate::base::limits::REPAIR_PACKETS_MAX;
use crate::base::{Buffer, Instant, Seq};
use crate::wire::token::Ranges;

use super::pace::Pace;
use super::window::{Stored, Window, push_seq};

/// Which missing packets are overdue: by time, never by the number of packets that overtook them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Overdue {
    /// What is missing up to here has been missing for the whole allowance.
    limit: Seq,
    /// What is missing up to here has been missing since then at least.
    watched: Option<(Instant, Seq)>,
    /// The last request outside of the token.
    asked: Option<Asked>,
    /// How often in a row.
    tries: u32,
}

/// A request for missing packets.
#[derive(Clone, Copy, Debug)]
struct Asked {
    at: Instant,
    /// What was there without a gap.
    aru: Seq,
    /// The next one follows after so long if it brings nothing.
    wait: Duration,
}

impl Asked {
    /// When to ask again.
    fn until(&self, aru: Seq, patience: Duration) -> Instant {
        self.at + if aru == self.aru { self.wait } else { patience }
    }
}

impl Overdue {
    /// Looks at the clock: `high` is the last place given away, `aru` what arrived without a gap.
    /// Returns whether anything is missing.
    pub(crate) fn observe(
        &mut self,
        now: Instant,
        aru: Seq,
        high: Seq,
        allowance: Duration,
    ) -> bool {
        if aru == high {
            *self = Self { limit: self.limit, ..Self::default() };
            return false;
        }
        if let Some((since, seq)) = self.watched
            && now >= since + allowance
        {
            self.limit = self.limit.max(seq);
            self.watched = None;
        }
        if self.watched.is_none() && high > self.limit {
            self.watched = Some((now, high));
        }
        true
    }

    /// What is missing up to here may be asked for.
    pub(crate) fn limit(&self) -> Seq {
        self.limit
    }

    /// When to look again, or to ask somebody outside of the token, who had `patience` to bring it.
    pub(crate) fn deadline(
        &self,
        aru: Seq,
        allowance: Duration,
        patience: Duration,
    ) -> Option<Instant> {
        let watch = self.watched.map(|(since, _)| since + allowance);
        let asked = self.asked.filter(|_| aru < self.limit);
        let ask = asked.map(|asked| asked.until(aru, patience));
        super::super::timer::earlier(watch, ask)
    }

    /// Whether to ask somebody outside of the token now. The first time only starts the clock, as
    /// the token comes by anyway; where a request brings nothing, the wait doubles up to `longest`.
    pub(crate) fn may_ask(
        &mut self,
        now: Instant,
        aru: Seq,
        patience: Duration,
        longest: Duration,
    ) -> Option<u32> {
        if aru >= self.limit {
            (self.asked, self.tries) = (None, 0);
            return None;
        }
        let Some(last) = self.asked else {
            self.asked = Some(Asked { at: now, aru, wait: patience });
            return None;
        };
        if now < last.until(aru, patience) {
            return None;
        }
        let in_vain = self.tries > 0 && aru == last.aru;
        let wait = if in_vain { (last.wait * 2).min(longest).max(patience) } else { patience };
        self.asked = Some(Asked { at: now, aru, wait });
        self.tries += 1;
        Some(self.tries)
    }
}

/// What is missing up to `limit`, as much as one request holds.
pub(crate) fn missing<B: Buffer>(window: &Window<B>, limit: Seq) -> Ranges {
    let mut ranges = Ranges::default();
    for seq in window.missing(limit).take(REPAIR_PACKETS_MAX) {
        if !push_seq(&mut ranges, seq) {
            break;
        }
    }
    ranges
}

/// Every place that `ranges` name, as far as it can be there: a request may say anything.
pub(crate) fn places<B: Buffer>(
    ranges: Ranges,
    window: &Window<B>,
) -> impl Iterator<Item = Seq> + use<B> {
    let (first, last) = (window.base().get() + 1, window.high().get());
    let mut at = 0;
    let mut next = 0;
    std::iter::from_fn(move || {
        loop {
            let range = ranges.get(at)?;
            let end = range.start.get().saturating_add(u64::from(range.len) - 1).min(last);
            let seq = range.start.get().max(first).max(next);
            if seq <= end {
                next = seq + 1;
                return Some(Seq::new(seq));
            }
            (at, next) = (at + 1, 0);
        }
    })
}

/// Answers the token's list: `send` takes what is there, unless it was repeated a moment ago and
/// may be on its way. The rest stays on the list.
pub(crate) fn answer<B: Buffer>(
    list: &mut Ranges,
    window: &mut Window<B>,
    pace: &Pace,
    mut send: impl FnMut(&Stored<B>),
) {
    if list.is_empty() {
        return;
    }
    let mut left = REPAIR_PACKETS_MAX;
    let mut rest = Ranges::default();
    for seq in places(*list, window) {
        if left > 0
            && let Some(packet) = window.get_mut(seq)
        {
            // Whoever still misses what is not repeated puts it on the list again.
            if packet.repeats.next(pace) {
                send(packet);
                left -= 1;
            }
        } else if !push_seq(&mut rest, seq) {
            // No room: whoever misses it puts it on the list again.
            break;
        }
    }
    *list = rest;
}

/// Adds what is missing here to the token's list.
pub(crate) fn request<B: Buffer>(list: &mut Ranges, window: &Window<B>, limit: Seq) -> usize {
    if window.aru() >= limit {
        return 0;
    }
    let listed = *list;
    let is_listed = |seq: Seq| {
        let number = seq.get();
        let covers = |start: u64, len: u32| start <= number && number - start < u64::from(len);
        listed.iter().any(|range| covers(range.start.get(), range.len))
    };
    let mut added = 0;
    for seq in window.missing(limit).take(REPAIR_PACKETS_MAX) {
        if is_listed(seq) {
            continue;
        }
        if !push_seq(list, seq) {
            break;
        }
        added += 1;
    }
    added
}

#[cfg(test)]
mod tests {
    use super::super::pace::Repeats;
    use super::*;
    use crate::base::buffer::{Heap, HeapBuffer};
    use crate::base::{Rank, Store};
    use crate::wire::token::SeqRange;

    const ALLOWANCE: Duration = Duration::from_micros(300);

    fn at(micros: u64) -> Instant {
        Instant::from_nanos(micros * 1_000)
    }

    fn window(received: &[u64]) -> Window<HeapBuffer> {
        let mut window = Window::new();
        for &seq in received {
            let bytes = Heap.copy(&seq.to_le_bytes()).unwrap();
            let (origin, repeats) = (Rank::new(0).unwrap(), Repeats::default());
            let packet = Stored { bytes, origin, used: 0, is_safe: false, repeats };
            window.insert(Seq::new(seq), packet);
        }
        window
    }

    /// The places that are repeated.
    fn answered(list: &mut Ranges, window: &mut Window<HeapBuffer>, micros: u64) -> Vec<u64> {
        let pace = Pace { now: at(micros), first: ALLOWANCE, longest: ALLOWANCE * 8 };
        let mut sent = Vec::new();
        answer(list, window, &pace, |packet| {
            sent.push(u64::from_le_bytes(packet.bytes.as_ref().try_into().unwrap()));
        });
        sent
    }

    fn ranges(of: &[(u64, u32)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(start, len) in of {
            assert!(ranges.push(SeqRange { start: Seq::new(start), len }));
        }
        ranges
    }

    #[test]
    fn a_gap_is_overdue_after_the_allowance_however_many_packets_overtook_it() {
        let mut overdue = Overdue::default();
        let _ = overdue.observe(at(0), Seq::new(1), Seq::new(1_000), ALLOWANCE);
        let _ = overdue.observe(at(299), Seq::new(1), Seq::new(5_000), ALLOWANCE);
        assert_eq!(overdue.limit(), Seq::ZERO);
        let _ = overdue.observe(at(300), Seq::new(1), Seq::new(5_000), ALLOWANCE);
        assert_eq!(overdue.limit(), Seq::new(1_000));
        let _ = overdue.observe(at(600), Seq::new(1), Seq::new(5_000), ALLOWANCE);
        assert_eq!(overdue.limit(), Seq::new(5_000));
    }

    #[test]
    fn others_are_asked_only_when_the_token_had_time_to_bring_it() {
        let mut overdue = Overdue::default();
        let (aru, patience) = (Seq::new(1), Duration::from_micros(100));
        let longest = patience * 4;
        let _ = overdue.observe(at(0), aru, Seq::new(5), ALLOWANCE);
        let _ = overdue.observe(at(300), aru, Seq::new(5), ALLOWANCE);
        assert_eq!(overdue.may_ask(at(300), aru, patience, longest), None);
        assert_eq!(overdue.deadline(aru, ALLOWANCE, patience), Some(at(400)));
        assert_eq!(overdue.may_ask(at(400), aru, patience, longest), Some(1));
        assert_eq!(overdue.may_ask(at(500), aru, patience, longest), Some(2));
        // The first one brought nothing. If this one brings something, the next follows at once.
        assert_eq!(overdue.may_ask(at(600), aru, patience, longest), None);
        assert_eq!(overdue.deadline(aru, ALLOWANCE, patience), Some(at(700)));
        assert_eq!(overdue.deadline(Seq::new(3), ALLOWANCE, patience), Some(at(600)));
        assert_eq!(overdue.may_ask(at(700), aru, patience, longest), Some(3));
        assert_eq!(overdue.may_ask(at(1_100), aru, patience, longest), Some(4));
        assert_eq!(overdue.deadline(aru, ALLOWANCE, patience), Some(at(1_500)));
        assert_eq!(overdue.may_ask(at(1_500), Seq::new(5), patience, longest), None);
        assert_eq!(overdue.deadline(Seq::new(5), ALLOWANCE, patience), None);
    }

    #[test]
    fn a_list_is_answered_by_who_has_it_and_the_rest_stays() {
        let mut window = window(&[1, 2, 3, 5]);
        let mut list = ranges(&[(2, 4), (9, 2)]);
        assert_eq!(answered(&mut list, &mut window, 0), [2, 3, 5]);
        assert_eq!(list, ranges(&[(4, 1)]));
    }

    #[test]
    fn what_was_just_repeated_is_taken_off_the_list() {
        let mut window = window(&[1, 2, 3, 5]);
        assert_eq!(answered(&mut ranges(&[(2, 1)]), &mut window, 0), [2]);
        let mut list = ranges(&[(2, 3)]);
        assert_eq!(answered(&mut list, &mut window, 299), [3]);
        assert_eq!(list, ranges(&[(4, 1)]));
        assert_eq!(answered(&mut ranges(&[(2, 2)]), &mut window, 300), [2]);
    }

    #[test]
    fn absurd_ranges_cost_nothing() {
        let window = window(&[1, 2]);
        let list = ranges(&[(1, u32::MAX), (u64::MAX - 1, u32::MAX), (7, 1)]);
        assert_eq!(places(list, &window).map(Seq::get).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_is_listed_is_not_listed_again() {
        let window = window(&[1, 4, 7]);
        let mut list = ranges(&[(3, 1)]);
        assert_eq!(request(&mut list, &window, Seq::new(6)), 3);
        assert_eq!(list, ranges(&[(3, 1), (2, 1), (5, 2)]));
    }
}
