//! What clients do: who submits how much, how often, how large, with which service.

use std::time::Duration;

use crate::base::Service;

use super::payload::HEAD_BYTES;
use super::rng::Rng;

/// The habits of one daemon's clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Mean gap between bursts; none at all where it is zero.
    pub gap: Duration,
    /// Messages of a burst, at most.
    pub burst: u32,
    /// Services drawn from, each as often as it stands here.
    pub services: Vec<Service>,
    /// Largest message.
    pub bytes_max: usize,
    /// Bursts in a thousand that are followed by a long pause.
    pub idle: u32,
}

impl Workload {
    /// Nobody says anything.
    pub fn silent() -> Self {
        let services = vec![Service::Agreed];
        Self { gap: Duration::ZERO, burst: 1, services, bytes_max: HEAD_BYTES, idle: 0 }
    }

    /// Habits drawn by lot.
    pub fn random(rng: &mut Rng) -> Self {
        let services = match rng.below(4) {
            0 => vec![Service::Agreed],
            1 => vec![Service::Safe, Service::Agreed],
            _ => Service::ALL.to_vec(),
        };
        Self {
            gap: Duration::from_micros(rng.within(100..8_000)),
            burst: *rng.pick(&[1, 1, 4, 30]),
            services,
            bytes_max: *rng.pick(&[64, 200, 3_000, 20_000]),
            idle: *rng.pick(&[0, 20, 200]),
        }
    }

    /// How long until the next burst; `None` where there is none.
    pub fn next_gap(&self, rng: &mut Rng) -> Option<Duration> {
        if self.gap.is_zero() {
            return None;
        }
        let gap = rng.below(2 * self.gap.as_nanos() as u64 + 1);
        let pause = if rng.chance(self.idle) { 30 } else { 1 };
        Some(Duration::from_nanos(gap.max(1) * pause))
    }

    /// Service and length of each message of a burst.
    pub fn burst(&self, rng: &mut Rng) -> Vec<(Service, usize)> {
        (0..=rng.below(u64::from(self.burst)))
            .map(|_| {
                // Mostly small.
                let len = match rng.below(20) {
                    0 => rng.index(self.bytes_max + 1),
                    1 => self.bytes_max,
                    _ => rng.index(self.bytes_max.min(100) + 1),
                };
                (*rng.pick(&self.services), len.max(HEAD_BYTES))
            })
            .collect()
    }
}
