//! From one configuration to another while clients stay: what changes, and what cannot.

use super::cluster::{Cluster, ClusterDaemon, Segment};
use super::{Config, Problem};

/// What a daemon that runs with one configuration has to do to run with another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What changes while clients stay, a sentence each. The daemons of the cluster form a new
    /// ring, which members of groups see as a network change.
    pub live: Vec<String>,
    /// What needs a restart, a sentence each. If there is anything, nothing may change.
    pub restart: Vec<String>,
}

impl Plan {
    /// Whether both configurations are the same.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.restart.is_empty()
    }
}

/// Compares the configuration `old`, with which this daemon runs, with `new`.
pub fn plan(old: &Config, new: &Config) -> Plan {
    let mut plan = Plan::default();
    let mine = |config: &Config| config.cluster.daemon(config.daemon).cloned();
    plan.own(&old.cluster, &new.cluster, mine(old).as_ref(), mine(new).as_ref());
    plan.keys(old, new);
    if plan.restart.is_empty() {
        plan.others(&old.cluster, &new.cluster, mine(new).as_ref());
    }
    plan
}

/// What is to be said of `new`, as at a start, that was not to be said of `old`.
pub fn news(old: &Config, new: &Config) -> Vec<String> {
    // The same may have moved to another line.
    let known = |note: &&Problem| old.notes.iter().any(|it| it.message == note.message);
    let notes = new.notes.iter().filter(|note| !known(note)).map(Problem::brief);
    let before = old.warnings();
    let warnings = new.warnings().into_iter().filter(|warning| !before.contains(warning));
    notes.chain(warnings).collect()
}

impl Plan {
    /// This daemon's own place: its sockets are open there.
    fn own(
        &mut self,
        old: &Cluster,
        new: &Cluster,
        was: Option<&ClusterDaemon>,
        is: Option<&ClusterDaemon>,
    ) {
        let (was, is) = match (was, is) {
            (None, None) => return,
            (None, Some(_)) => return self.restart.push("this daemon comes into a cluster".into()),
            (Some(_), None) => return self.restart.push("this daemon leaves its cluster".into()),
            (Some(was), Some(is)) => (was, is),
        };
        let (before, after) = (old.segment(was), new.segment(is));
        let group = |segment: &Segment| {
            segment.multicast.map_or_else(|| "none".to_owned(), |group| group.to_string())
        };
        for (what, old, new) in [
            ("address", was.address.to_string(), is.address.to_string()),
            ("interface", old.scope.to_string(), new.scope.to_string()),
            ("id", was.id.get().to_string(), is.id.get().to_string()),
            ("port", before.port.to_string(), after.port.to_string()),
            ("multicast group", group(before), group(after)),
            ("number of hops", before.hops.to_string(), after.hops.to_string()),
            ("receive_bytes", old.receive_bytes.to_string(), new.receive_bytes.to_string()),
        ] {
            if old != new {
                self.restart.push(format!("the {what} of this daemon changes from {old} to {new}"));
            }
        }
    }

    /// Everything that has a key of its own, and the access file: the tuning changes, all else
    /// needs a restart.
    fn keys(&mut self, old: &Config, new: &Config) {
        if old.auth.access_ip == new.auth.access_ip && old.auth.access != new.auth.access {
            self.restart.push("the access file has other rules".to_owned());
        }
        // Their daemons and segments are looked at one by one; sockets have their room already.
        let others = ["daemons", "segments", "multicast", "port", "hops", "receive_bytes"]
            .map(|key| format!("cluster.{key}"));
        let (old, new) = (old.values(), new.values());
        let value = |of: &[(&'static str, String)], name: &str| {
            let found = of.iter().find(|(it, _)| *it == name);
            found.map_or_else(|| "none".to_owned(), |(_, value)| value.clone())
        };
        let added = new.iter().filter(|(name, _)| old.iter().all(|(it, _)| it != name));
        for (name, _) in old.iter().chain(added) {
            let (was, is) = (value(&old, name), value(&new, name));
            if was == is || others.iter().any(|it| it == name) {
                continue;
            }
            let change = format!("`{name}` changes from {was} to {is}");
            if name.starts_with("cluster.") || name.starts_with("ring.") {
                self.live.push(change);
            } else {
                self.restart.push(change);
            }
        }
    }

    /// The daemons that come, go, or are found elsewhere.
    fn others(&mut self, old: &Cluster, new: &Cluster, me: Option<&ClusterDaemon>) {
        for daemon in &old.daemons {
            if new.daemon(daemon.name).is_none() {
                self.live.push(format!("daemon {daemon} goes"));
            }
        }
        for daemon in &new.daemons {
            let is_me = me.is_some_and(|me| me.name == daemon.name);
            let Some(was) = old.daemon(daemon.name) else {
                self.live.push(format!("daemon {daemon} comes"));
                continue;
            };
            let place = |cluster: &Cluster, it: &ClusterDaemon| {
                let group = cluster.segment(it).group();
                (cluster.data(it), it.id, group)
            };
            if !is_me && place(old, was) != place(new, daemon) {
                let (from, to) = (old.data(was), new.data(daemon));
                self.live.push(format!(
                    "daemon {} changes its place, id or segment, from {from} to {to}",
                    daemon.name
                ));
            }
        }
        let common = |one: &Cluster, other: &Cluster| -> Vec<_> {
            let names = one.daemons.iter().map(|daemon| daemon.name);
            names.filter(|&name| other.daemon(name).is_some()).collect()
        };
        if common(old, new) != common(new, old) {
            self.live.push("the order of the daemons changes".to_owned());
        }
        if self.live.is_empty() && old.identity() != new.identity() {
            self.live.push("the segments of the cluster change".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::parse_as;
    use super::super::{AccessList, Who};
    use super::*;
    use crate::base::DaemonName;

    const THREE: &str = "[cluster]\ndaemons = [\"a 10.0.0.1\", \"b 10.0.0.2\", \"c 10.0.0.3\"]\n";

    fn config(text: &str) -> Config {
        let who = Who::Named(DaemonName::new(b"a").unwrap());
        parse_as(text, Path::new("madrigal.toml"), who).unwrap()
    }

    fn plan_to(text: &str) -> Plan {
        plan(&config(THREE), &config(text))
    }

    #[test]
    fn same_configuration_changes_nothing() {
        assert!(plan_to(THREE).is_empty());
        assert!(plan_to(&format!("# a comment\n{THREE}")).is_empty());
    }

    #[test]
    fn daemons_come_and_go_live() {
        let plan = plan_to("[cluster]\ndaemons = [\"d 10.0.0.4\", \"a 10.0.0.1\", \"b 10.0.0.9\"]");
        assert_eq!(plan.restart, [""; 0]);
        assert_eq!(
            plan.live,
            [
                "daemon c 10.0.0.3 goes",
                "daemon d 10.0.0.4 comes",
                "daemon b changes its place, id or segment, from 10.0.0.2:4803 to 10.0.0.9:4803",
            ]
        );
        let plan = plan_to("[cluster]\ndaemons = [\"b 10.0.0.2\", \"a 10.0.0.1\", \"c 10.0.0.3\"]");
        assert_eq!(plan.live, ["the order of the daemons changes"]);
    }

    #[test]
    fn tuning_changes_live() {
        let plan =
            plan_to(&format!("{THREE}failure_timeout_ms = 500\n[ring]\nwindow_packets = 100\n"));
        assert_eq!(plan.restart, [""; 0]);
        assert_eq!(
            plan.live,
            [
                "`cluster.failure_timeout_ms` changes from 300 to 500",
                "`ring.window_packets` changes from 8192 to 100",
            ]
        );
    }

    #[test]
    fn open_sockets_need_a_restart() {
        for (text, why) in [
            (
                THREE.replace("10.0.0.1", "10.0.0.7"),
                "the address of this daemon changes from 10.0.0.1",
            ),
            (format!("{THREE}multicast = \"none\""), "the multicast group of this daemon changes"),
            (
                format!("{THREE}port = 4900\n[listen]\nport = 4803"),
                "the port of this daemon changes",
            ),
            (format!("{THREE}hops = 2"), "the number of hops of this daemon changes from 1 to 2"),
            (format!("{THREE}receive_bytes = 65536"), "the receive_bytes of this daemon changes"),
            (format!("{THREE}[sessions]\nmax = 5"), "`sessions.max` changes from 16384 to 5"),
            (format!("{THREE}[listen]\nunix = false"), "`listen.unix` changes from true to false"),
            (String::new(), "this daemon leaves its cluster"),
        ] {
            let plan = plan_to(&text);
            assert!(plan.restart[0].starts_with(why), "{text}: {plan:?}");
        }
        let alone = Config { daemon: config(THREE).daemon, ..Config::default() };
        assert_eq!(plan(&alone, &config(THREE)).restart[0], "this daemon comes into a cluster");
    }

    #[test]
    fn rules_of_the_access_file_need_a_restart() {
        let text = "[auth]\nallowed = [\"IP\"]\naccess_ip = \"clients\"";
        let old = parse_as(text, Path::new("etc/test.toml"), Who::Anyone).unwrap();
        let mut new = old.clone();
        new.auth.access = AccessList::parse("unix\n").unwrap();
        assert_eq!(plan(&old, &new).restart, ["the access file has other rules"]);
        assert!(plan(&old, &old).is_empty());
    }

    #[test]
    fn what_is_noted_anew_is_news() {
        let config = |text: &str| {
            let text = format!("{text}\nSpread_Segment 10.0.0.255 {{ a 10.0.0.2 }}");
            parse_as(&text, Path::new("spread.conf"), Who::Local).unwrap()
        };
        let old = config("DaemonUser = spread");
        let new = config("\nDaemonUser = spread\nAllowedAuthMethods = \"NULL XY\"");
        let said = "spread.conf:3: method XY has no effect: there are NULL and IP alone";
        assert_eq!(news(&old, &new), [said]);
        assert_eq!(news(&new, &old), [""; 0]);
    }

    #[test]
    fn nothing_is_said_to_come_where_a_restart_is_needed() {
        let plan = plan_to("[cluster]\nhops = 3\ndaemons = [\"a 10.0.0.1\"]");
        assert!(plan.live.is_empty() && plan.restart.len() == 1, "{plan:?}");
    }
}
