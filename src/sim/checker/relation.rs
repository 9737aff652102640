//! "Before": a relation given by chains, which must have no cycle; and D10, where "before" means
//! causally.

use std::hash::Hash;

use crate::base::{RingId, Service};

use super::hash::HashMap;
use super::history::{History, Log, Stay};
use super::{Property, Verdict, Violation};

/// Chains of things, each before the next.
pub(super) struct Relation<T> {
    numbers: HashMap<T, usize>,
    /// Steps at which each thing was last seen.
    steps: Vec<u64>,
    edges: Vec<(u32, u32)>,
}

impl<T> Default for Relation<T> {
    fn default() -> Self {
        Self { numbers: HashMap::default(), steps: Vec::new(), edges: Vec::new() }
    }
}

/// One chain, as it is added.
pub(super) struct Chain<'a, T> {
    relation: &'a mut Relation<T>,
    last: Option<usize>,
}

impl<T: Eq + Hash> Relation<T> {
    pub(super) fn chain(&mut self) -> Chain<'_, T> {
        Chain { relation: self, last: None }
    }

    /// Whether all chains fit into one order.
    ///
    /// # Errors
    ///
    /// The step of a thing on a cycle, or behind one.
    pub(super) fn acyclic(self) -> Result<(), u64> {
        let count = self.steps.len();
        let mut before = vec![0_u32; count];
        // Those right behind a thing lie side by side, from its start to that of the next one.
        let mut starts = vec![0_u32; count + 1];
        for &(from, to) in &self.edges {
            before[to as usize] += 1;
            starts[from as usize] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut behind = vec![0_u32; self.edges.len()];
        for &(from, to) in &self.edges {
            let start = &mut starts[from as usize];
            *start -= 1;
            behind[*start as usize] = to;
        }
        let mut free: Vec<usize> = (0..count).filter(|&thing| before[thing] == 0).collect();
        let mut ordered = 0;
        while let Some(thing) = free.pop() {
            ordered += 1;
            for &to in &behind[starts[thing] as usize..starts[thing + 1] as usize] {
                let to = to as usize;
                before[to] -= 1;
                if before[to] == 0 {
                    free.push(to);
                }
            }
        }
        if ordered == count {
            return Ok(());
        }
        let stuck = (0..count).filter(|&thing| before[thing] > 0).map(|thing| self.steps[thing]);
        Err(stuck.min().unwrap_or(0))
    }
}

impl<T: Eq + Hash> Chain<'_, T> {
    pub(super) fn push(&mut self, thing: T, step: u64) {
        let next = self.relation.numbers.len();
        let number = *self.relation.numbers.entry(thing).or_insert(next);
        if number == next {
            self.relation.steps.push(step);
        }
        self.relation.steps[number] = step;
        if let Some(last) = self.last {
            self.relation.edges.push((last as u32, number as u32));
        }
        self.last = Some(number);
    }
}

/// What a daemon knows of each origin: how many of its causal messages are in the past.
type Past = Vec<u32>;

/// D10: who delivers a causal message has delivered those of its configuration that were causally
/// before it; in the transitional configuration those of daemons that do not move along may be
/// missing.
pub(super) fn d10_causal(history: &History<'_>) -> Verdict {
    let causal = Causal::new(history);
    let pasts = causal.pasts(history);
    for log in &history.logs {
        for stay in &log.stays {
            causal.judge(history, &pasts, log, stay)?;
        }
    }
    Ok(())
}

struct Causal {
    /// Causal and stronger messages of each log's life, in the order of acceptance.
    sent: Vec<Vec<usize>>,
    /// Log and index in `sent` of each message; `None` for the weaker ones.
    rank: Vec<Option<(usize, u32)>>,
}

impl Causal {
    fn new(history: &History<'_>) -> Self {
        let mut sent = vec![Vec::new(); history.logs.len()];
        let origins: HashMap<_, _> =
            history.logs.iter().enumerate().map(|(index, log)| (log.life, index)).collect();
        for (number, message) in history.messages.iter().enumerate() {
            if message.service() >= Service::Causal
                && let Some(&origin) = origins.get(&message.id.origin)
            {
                sent[origin].push(number);
            }
        }
        let mut rank = vec![None; history.messages.len()];
        for (origin, sent) in sent.iter_mut().enumerate() {
            sent.sort_by_key(|&message| history.messages[message].id.n);
            for (at, &message) in sent.iter().enumerate() {
                rank[message] = Some((origin, at as u32));
            }
        }
        Self { sent, rank }
    }

    /// The causal past of each message at the moment it was accepted.
    fn pasts(&self, history: &History<'_>) -> Vec<Past> {
        let mut events: Vec<(u64, usize, usize, bool)> = Vec::new();
        for (origin, sent) in self.sent.iter().enumerate() {
            for &message in sent {
                let step = history.messages[message].submitted.map_or(0, |(_, step)| step);
                events.push((step, origin, message, true));
            }
        }
        for (at, log) in history.logs.iter().enumerate() {
            let causal = log.deliveries.iter().filter(|d| self.rank[d.message].is_some());
            events.extend(causal.map(|d| (d.step, at, d.message, false)));
        }
        events.sort_unstable();
        let mut known: Vec<Past> = vec![vec![0; history.logs.len()]; history.logs.len()];
        let mut pasts: Vec<Past> = vec![Vec::new(); history.messages.len()];
        for (_, at, message, is_send) in events {
            if is_send {
                pasts[message] = known[at].clone();
            } else {
                for (mine, theirs) in known[at].iter_mut().zip(&pasts[message]) {
                    *mine = (*mine).max(*theirs);
                }
            }
            if let Some((origin, rank)) = self.rank[message] {
                known[at][origin] = known[at][origin].max(rank + 1);
            }
        }
        pasts
    }

    fn judge(&self, history: &History<'_>, pasts: &[Past], log: &Log, stay: &Stay) -> Verdict {
        // For each origin, how far its messages of this ring have been looked at and found.
        let mut found = vec![0_u32; history.logs.len()];
        for (position, delivery) in stay.deliveries().zip(&log.deliveries[stay.deliveries()]) {
            if self.rank[delivery.message].is_none() {
                continue;
            }
            for (origin, &known) in pasts[delivery.message].iter().enumerate() {
                let in_transition = position >= stay.regular.end
                    && !stay.movers().contains(&history.logs[origin].life.daemon);
                while found[origin] < known && !in_transition {
                    let earlier = self.sent[origin][found[origin] as usize];
                    if !self.has_before(history, log, stay.ring, earlier, position) {
                        let (who, id) = (log.life, history.messages[delivery.message].id);
                        let earlier = history.messages[earlier].id;
                        let detail = format!("{who} delivers {id} without {earlier} before it");
                        return Err(Violation::new(Property::D10, Some(delivery.step), detail));
                    }
                    found[origin] += 1;
                }
            }
        }
        Ok(())
    }

    /// Whether `log` delivered `earlier` before `position`, if it is of `ring` at all.
    fn has_before(
        &self,
        history: &History<'_>,
        log: &Log,
        ring: RingId,
        earlier: usize,
        position: usize,
    ) -> bool {
        history.messages[earlier].ring() != Some(ring)
            || log.position(earlier).is_some_and(|earlier| earlier < position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_that_agree_have_no_cycle_and_others_do() {
        let mut relation = Relation::default();
        let mut one = relation.chain();
        one.push('a', 1);
        one.push('b', 2);
        let mut two = relation.chain();
        two.push('b', 3);
        two.push('c', 4);
        assert_eq!(Relation { ..relation }.acyclic(), Ok(()));

        let mut relation = Relation::default();
        for (from, to) in [('a', 'b'), ('b', 'c'), ('c', 'a')] {
            let mut chain = relation.chain();
            chain.push(from, 1);
            chain.push(to, 2);
        }
        assert!(relation.acyclic().is_err());
    }
}
