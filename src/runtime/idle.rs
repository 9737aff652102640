//! What a core does between turns: go on at once, watch for work, or sleep.

use std::hint::spin_loop;
use std::thread::yield_now;
use std::time::Duration;

use crate::base::Instant;
use crate::config;
use crate::sys::clock::Clock;

/// How the next turn begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Without waiting.
    Go,
    /// After watching for work until this moment; `None`: however long it takes.
    Watch(Option<Instant>),
    /// Asleep until there is work.
    Sleep,
}

/// Looks between two clock reads while watching; also how often other threads get the processor.
const LOOKS: u32 = 32;

/// Rounds of looks for each time that a core which never sleeps gives others the processor: it is
/// meant to have one of its own, and each time costs as much as a message.
const ROUNDS_OF_SPIN: u32 = 64;

/// The idle strategy of one core.
pub(super) struct Idle {
    strategy: config::Idle,
    spin: Duration,
    /// When there was work last.
    worked_at: Instant,
}

impl Idle {
    pub(super) fn new(strategy: config::Idle, spin: Duration, now: Instant) -> Self {
        Self { strategy, spin, worked_at: now }
    }

    /// Decides how the next turn begins, after one at `now` that did so much.
    pub(super) fn plan(&mut self, now: Instant, work: usize) -> Plan {
        if work > 0 {
            self.worked_at = now;
        }
        match self.strategy {
            // The call that submits also waits: one system call a turn.
            config::Idle::Park => Plan::Sleep,
            config::Idle::Spin | config::Idle::Adaptive if work > 0 => Plan::Go,
            config::Idle::Spin => Plan::Watch(None),
            config::Idle::Adaptive if now.since(self.worked_at) < self.spin => {
                Plan::Watch(Some(self.worked_at + self.spin))
            }
            config::Idle::Adaptive => Plan::Sleep,
        }
    }

    /// Watches until `ready`, or until `end`.
    pub(super) fn watch(&self, clock: &Clock, end: Instant, mut ready: impl FnMut() -> bool) {
        let rounds = if self.strategy == config::Idle::Spin { ROUNDS_OF_SPIN } else { 1 };
        for round in 1_u32.. {
            for _ in 0..LOOKS {
                if ready() {
                    return;
                }
                spin_loop();
            }
            if clock.read() >= end {
                return;
            }
            // On a host with few processors the one that we wait for may need this one.
            if round.is_multiple_of(rounds) {
                yield_now();
            }
        }
    }
}
