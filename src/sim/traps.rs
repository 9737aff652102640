//! What is to happen to daemons as soon as they are in some state, or have sent so much.

use std::time::Duration;

use super::cluster::Cluster;
use super::core::Core;
use super::due::Action;
use super::timeline::Note;

impl<C: Core> Cluster<C> {
    /// Does what is to happen in a certain state of the daemon on `host`, once it is there.
    pub(super) fn spring_traps(&mut self, host: usize) {
        let Some(core) = &self.hosts[host].core else { return };
        let state = core.state();
        if self.hosts[host].state == state {
            return;
        }
        let before = std::mem::replace(&mut self.hosts[host].state, state);
        self.cover.attempts_abandoned += u64::from(before == "recovery" && state == "gather");
        self.timeline.note(self.step, self.now, Some(host), || Note::State(state));
        let sprung = self.traps.iter().position(|trap| match trap {
            Action::CrashIn(whom, wanted) | Action::MuteIn(whom, wanted) => {
                *wanted == state && whom.is_none_or(|whom| whom == host)
            }
            Action::PartitionIn(_, wanted) => *wanted == state,
            _ => false,
        });
        match sprung.map(|index| self.traps.remove(index)) {
            Some(Action::PartitionIn(parts, _)) => self.act(Action::Partition(parts)),
            Some(Action::MuteIn(..)) => {
                for to in 0..self.hosts() {
                    self.act(Action::Link(host, to, false));
                }
            }
            // Not at once: somewhere in what the state begins with.
            Some(_) if self.rng.chance(300) => self.act(Action::Crash(host)),
            Some(_) => {
                let at = self.now + Duration::from_nanos(self.rng.below(300_000));
                self.schedule(at, Action::Crash(host));
            }
            None => {}
        }
    }

    /// Crashes the daemon on `host` that has sent so many datagrams in this turn, if it is to.
    pub(super) fn spring_amid(&mut self, host: usize, sent: usize) {
        let is_due = |trap: &Action| {
            let Action::CrashAmid(whom, wanted) = trap else { return false };
            *wanted == sent && whom.is_none_or(|whom| whom == host)
        };
        if let Some(index) = self.traps.iter().position(is_due) {
            self.traps.remove(index);
            self.cover.crashes_amid += 1;
            self.act(Action::Crash(host));
        }
    }
}
