//! The news that nothing listens somewhere, true and false.

use std::time::Duration;

use crate::base::DaemonId;

use super::cluster::Cluster;
use super::core::Core;
use super::due::Happening;
use super::network::Route;

impl<C: Core> Cluster<C> {
    /// A machine that is up and has no daemon says so to those who send to it alone; so does one
    /// whose firewall rejects what they send.
    pub(super) fn refuse(&mut self, route: Route, receiver: DaemonId) {
        let gone = self.hosts[route.to].core.is_none() || self.network.rejects(route);
        let hears = self.network.hears(route.from, route.to);
        let both = hears && self.network.hears(route.to, route.from);
        if gone && both && !route.multicast && !self.rng.chance(200) {
            let at = self.now + Duration::from_nanos(self.network.weather.latency_ns.0 * 2);
            self.push(at, Happening::Unreachable { host: route.from, daemon: receiver });
        }
    }

    /// Tells the daemon on `host` that nothing listens at the one of `about`.
    pub(super) fn tell_refusal(&mut self, host: usize, about: usize) {
        let daemon = self.hosts[about].life.daemon;
        self.push(self.now, Happening::Unreachable { host, daemon });
    }
}
