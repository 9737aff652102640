//! CPUs: which there are, who else uses them, and how they save power.

use std::collections::BTreeMap;

use super::super::root::{Root, parse_cpus};
use super::field;

/// The CPUs of a host.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cpus {
    /// Those that the process may run on.
    pub(crate) usable: Option<Vec<usize>>,
    /// Those that the scheduler keeps others off.
    pub(crate) isolated: Vec<usize>,
    /// Those without a timer tick while one thread runs.
    pub(crate) tickless: Vec<usize>,
    /// Of each usable CPU, those that share its core, itself among them.
    pub(crate) siblings: BTreeMap<usize, Vec<usize>>,
    /// Of each usable CPU, what chooses its frequency; none where the hypervisor or firmware does.
    pub(crate) governors: BTreeMap<usize, String>,
    /// Microseconds that leaving the deepest idle state in use takes, and its name.
    pub(crate) deepest_idle: Option<(u64, String)>,
    /// CPUs' worth of time that the control group may use; none: no limit.
    pub(crate) quota: Option<f64>,
    /// Share of time, since boot, that the hypervisor gave to others while this host had work.
    pub(crate) stolen: Option<f64>,
    /// Interrupts that each CPU serves.
    pub(crate) interrupts: BTreeMap<usize, usize>,
}

impl Cpus {
    pub(super) fn read(root: &Root, status: &str, groups: &[String]) -> Self {
        let cpus = "sys/devices/system/cpu";
        let online = || root.cpus(&format!("{cpus}/online"));
        let usable = field(status, "Cpus_allowed_list:").and_then(parse_cpus).or_else(online);
        let each = usable.clone().unwrap_or_default();
        let siblings = |&cpu: &usize| {
            let path = format!("{cpus}/cpu{cpu}/topology/thread_siblings_list");
            Some((cpu, root.cpus(&path)?))
        };
        let governor = |&cpu: &usize| {
            Some((cpu, root.line(&format!("{cpus}/cpu{cpu}/cpufreq/scaling_governor"))?))
        };
        Self {
            isolated: root.cpus(&format!("{cpus}/isolated")).unwrap_or_default(),
            tickless: root.cpus(&format!("{cpus}/nohz_full")).unwrap_or_default(),
            siblings: each.iter().filter_map(siblings).collect(),
            governors: each.iter().filter_map(governor).collect(),
            deepest_idle: each.iter().filter_map(|&cpu| deepest_idle(root, cpu)).max(),
            quota: quota(root, groups),
            stolen: root.text("proc/stat").and_then(|text| stolen(&text)),
            interrupts: interrupts(root),
            usable,
        }
    }
}

/// The idle state of a CPU that takes longest to leave, of those that are not disabled.
fn deepest_idle(root: &Root, cpu: usize) -> Option<(u64, String)> {
    let directory = format!("sys/devices/system/cpu/cpu{cpu}/cpuidle");
    let of_state = |state: String| {
        let file = |name: &str| format!("{directory}/{state}/{name}");
        let is_enabled = root.number(&file("disable")).unwrap_or(0) == 0;
        let latency_us = root.number(&file("latency")).filter(|_| is_enabled)?;
        Some((latency_us, root.line(&file("name")).unwrap_or(state)))
    };
    let states = root.names(&directory).into_iter().filter(|name| name.starts_with("state"));
    states.filter_map(of_state).max()
}

/// The least that the control group and those above it may use.
fn quota(root: &Root, groups: &[String]) -> Option<f64> {
    let of_group = |group: &String| {
        let text = root.text(&format!("{group}/cpu.max"))?;
        let mut numbers = text.split_whitespace().map(str::parse::<u64>);
        let (quota, period) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        (period > 0).then(|| quota as f64 / period as f64)
    };
    groups.iter().filter_map(of_group).reduce(f64::min)
}

/// The eighth number of the first line, as a share of all that was not idle and itself.
fn stolen(stat: &str) -> Option<f64> {
    let all = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = all.take(8).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [user, nice, system, _idle, _waiting, hard, soft, stolen] = ticks[..] else { return None };
    let total: f64 =
        [user, nice, system, hard, soft, stolen].into_iter().map(|part| part as f64).sum();
    (total > 0.0).then(|| stolen as f64 / total)
}

fn interrupts(root: &Root) -> BTreeMap<usize, usize> {
    let mut interrupts = BTreeMap::new();
    for number in root.names("proc/irq") {
        let effective = root.cpus(&format!("proc/irq/{number}/effective_affinity_list"));
        let allowed = || root.cpus(&format!("proc/irq/{number}/smp_affinity_list"));
        for cpu in effective.filter(|cpus| !cpus.is_empty()).or_else(allowed).unwrap_or_default() {
            *interrupts.entry(cpu).or_insert(0) += 1;
        }
    }
    interrupts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::facts::Facts;
    use crate::doctor::tests::tree;

    #[test]
    fn power_and_topology_are_read() {
        let (_directory, root) = tree(&[
            ("proc/self/status", "Cpus_allowed_list:\t0-1\n"),
            ("sys/devices/system/cpu/isolated", "1\n"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state1/latency", "2\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/latency", "200\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state3/name", "C6\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state4/latency", "800\n"),
            ("sys/devices/system/cpu/cpu0/cpuidle/state4/disable", "1\n"),
            ("proc/irq/30/effective_affinity_list", "1\n"),
            ("proc/irq/31/smp_affinity_list", "0-1\n"),
        ]);
        let cpus = Facts::read(&root, "self").cpus;
        assert_eq!(cpus.usable, Some(vec![0, 1]));
        assert_eq!(cpus.isolated, [1]);
        assert_eq!(cpus.siblings[&0], [0, 1]);
        assert_eq!(cpus.governors[&1], "powersave");
        assert_eq!(cpus.deepest_idle, Some((200, "C6".to_owned())));
        assert_eq!(cpus.interrupts, BTreeMap::from([(0, 1), (1, 2)]));
    }

    #[test]
    fn least_quota_of_all_groups_counts() {
        let (_directory, root) = tree(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/cpu.max", "150000 100000\n"),
            ("sys/fs/cgroup/a/b/cpu.max", "max 100000\n"),
        ]);
        assert_eq!(Facts::read(&root, "self").cpus.quota, Some(1.5));
    }

    #[test]
    fn stolen_time_is_a_share_of_busy_time() {
        assert_eq!(stolen("cpu  50 0 25 900 10 0 0 25 0 0\ncpu0 1"), Some(0.25));
        for text in ["", "cpu 0 0 0 5 5 0 0 0", "cpu 1 2", "cpu a b c d e f g h"] {
            assert_eq!(stolen(text), None, "{text}");
        }
    }
}
