//! The numbers of a core, readable from any thread while the core goes on.
//!
//! A core counts in tallies of its own, plain memory, and publishes them once a turn: the data path
//! has no atomic operation per message. The atomics are std's: there is one writer, each number
//! stands for itself, and so there is no order for a model checker to look at.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

use crate::base::{Counter, Tally};

/// Every counter with its name for people and tools; `docs/counters.md` explains them.
pub const NAMES: [(Counter, &str); Counter::COUNT] = [
    (Counter::ConnectionsAccepted, "connections_accepted"),
    (Counter::RejectedQuota, "rejected_quota"),
    (Counter::RejectedName, "rejected_name"),
    (Counter::RejectedNotUnique, "rejected_not_unique"),
    (Counter::RejectedVersion, "rejected_version"),
    (Counter::RejectedAuth, "rejected_auth"),
    (Counter::HandshakesAbandoned, "handshakes_abandoned"),
    (Counter::AcceptsFailed, "accepts_failed"),
    (Counter::SessionsStarted, "sessions_started"),
    (Counter::SessionsEnded, "sessions_ended"),
    (Counter::SessionsViolated, "sessions_violated"),
    (Counter::SessionsSlow, "sessions_slow"),
    (Counter::FramesReceived, "frames_received"),
    (Counter::BytesReceived, "bytes_received"),
    (Counter::FramesDelivered, "frames_delivered"),
    (Counter::FramesShelved, "frames_shelved"),
    (Counter::AttachesRefused, "attaches_refused"),
    (Counter::BytesSent, "bytes_sent"),
    (Counter::JoinsIgnored, "joins_ignored"),
    (Counter::ReadsPaused, "reads_paused"),
    (Counter::PoolExhausted, "pool_exhausted"),
    (Counter::TurnsBusy, "turns_busy"),
    (Counter::Sleeps, "sleeps"),
    (Counter::PacketsSent, "packets_sent"),
    (Counter::PacketsReceived, "packets_received"),
    (Counter::PacketsDuplicate, "packets_duplicate"),
    (Counter::PacketsRepaired, "packets_repaired"),
    (Counter::RepairsRequested, "repairs_requested"),
    (Counter::PacketsRelayed, "packets_relayed"),
    (Counter::PacketsDropped, "packets_dropped"),
    (Counter::PacketsHeld, "packets_held"),
    (Counter::PacketsUnsent, "packets_unsent"),
    (Counter::PacketsSingly, "packets_singly"),
    (Counter::PacketsForeign, "packets_foreign"),
    (Counter::LifelinesRefused, "lifelines_refused"),
    (Counter::IdentitiesSent, "identities_sent"),
    (Counter::IdentitiesReceived, "identities_received"),
    (Counter::PacketsStale, "packets_stale"),
    (Counter::RefusalsIgnored, "refusals_ignored"),
    (Counter::Stalls, "stalls"),
    (Counter::TokenVisits, "token_visits"),
    (Counter::TokensRepeated, "tokens_repeated"),
    (Counter::TokensParked, "tokens_parked"),
    (Counter::TokensGranted, "tokens_granted"),
    (Counter::TokensHanded, "tokens_handed"),
    (Counter::MessagesOrdered, "messages_ordered"),
    (Counter::MessagesLocal, "messages_local"),
    (Counter::OrderedMalformed, "ordered_malformed"),
    (Counter::SessionsHeld, "sessions_held"),
    (Counter::GathersStarted, "gathers_started"),
    (Counter::ConfigurationsInstalled, "configurations_installed"),
];

// One line for each, in the order of the numbers.
const _: () = {
    let mut i = 0;
    while i < NAMES.len() {
        assert!(NAMES[i].0 as usize == i);
        i += 1;
    }
};

/// What one core has counted, as it last published it.
///
/// On cache lines of its own, so that readers disturb nothing else of the core.
#[derive(Debug)]
pub struct Counters(CachePadded<[AtomicU64; Counter::COUNT]>);

impl Default for Counters {
    fn default() -> Self {
        Self(CachePadded::new([const { AtomicU64::new(0) }; Counter::COUNT]))
    }
}

impl Counters {
    /// Makes the sums of `tallies` visible to other threads. Only the core itself may call this.
    pub fn publish(&self, tallies: &[&Tally]) {
        for ((counter, _), number) in NAMES.iter().zip(self.0.iter()) {
            let sum = tallies.iter().map(|tally| tally.get(*counter)).sum();
            // Relaxed: each number stands for itself, no reader concludes anything from its order.
            number.store(sum, Relaxed);
        }
    }

    /// The count that was published last.
    pub fn get(&self, counter: Counter) -> u64 {
        // Relaxed: as in `publish`.
        self.0[counter as usize].load(Relaxed)
    }
}

/// The counters of all cores together, one `name value` a line, in the order of [`NAMES`].
pub fn totals_text<'c>(cores: impl Iterator<Item = &'c Counters> + Clone) -> String {
    let mut text = String::new();
    for (counter, name) in NAMES {
        let total: u64 = cores.clone().map(|core| core.get(counter)).sum();
        writeln!(text, "{name} {total}").expect("a String takes all text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_are_the_sums_of_all_tallies() {
        let (mut sessions, mut protocol) = (Tally::default(), Tally::default());
        sessions.add(Counter::BytesSent, 5);
        protocol.add(Counter::BytesSent, 2);
        protocol.count(Counter::Sleeps);
        let counters = Counters::default();
        counters.publish(&[&sessions, &protocol]);
        assert_eq!(counters.get(Counter::BytesSent), 7);
        assert_eq!(counters.get(Counter::Sleeps), 1);
        assert_eq!(counters.get(Counter::TurnsBusy), 0);
        // Tallies only grow, and publishing again does not count twice.
        counters.publish(&[&sessions, &protocol]);
        assert_eq!(counters.get(Counter::BytesSent), 7);
    }

    #[test]
    fn text_has_a_line_for_each_counter_over_all_cores() {
        let cores = [Counters::default(), Counters::default()];
        let mut tally = Tally::default();
        tally.add(Counter::SessionsStarted, 3);
        cores[0].publish(&[&tally]);
        cores[1].publish(&[&tally]);
        let text = totals_text(cores.iter());
        assert!(text.contains("\nsessions_started 6\n"), "{text}");
        assert_eq!(text.lines().count(), Counter::COUNT);
    }

    #[test]
    fn every_counter_is_explained() {
        let page = include_str!("../../docs/counters.md");
        let explained: Vec<_> =
            page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(explained, NAMES.map(|(_, name)| name));
    }

    #[test]
    fn cores_share_no_cache_line() {
        assert!(align_of::<Counters>() >= 64);
    }
}
