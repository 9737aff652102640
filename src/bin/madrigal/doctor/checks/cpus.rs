//! Whether the threads of a daemon have CPUs, and whom they share them with.

use madrigal::config::{Config, Idle};

use super::Finding;
use crate::doctor::facts::Facts;
use crate::doctor::root::show_cpus;

/// Exit latency of an idle state from which on it costs more than the rest of a small message.
const IDLE_EXIT_US_MAX: u64 = 10;

/// Share of stolen time that shows in the tail of latencies.
const STOLEN_MAX: f64 = 0.01;

fn is_spinning(config: &Config) -> bool {
    config.cores.idle == Idle::Spin
}

/// A warning to a daemon that never sleeps, a note to others.
fn graded(config: &Config, found: String) -> Finding {
    if is_spinning(config) { Finding::warning(found) } else { Finding::note(found) }
}

pub(super) fn enough(facts: &Facts, config: &Config) -> Finding {
    let Some(usable) = &facts.cpus.usable else { return Finding::unknown("its CPUs") };
    let (cpus, threads) = (usable.len(), config.cores.count);
    let found = format!("{cpus} ({}), threads of the daemon: {threads}", show_cpus(usable));
    if is_spinning(config) && cpus <= threads {
        let mend = "cores.idle = \"adaptive\" in the configuration, or more CPUs";
        return Finding::warning(format!("{found}; none is left for clients")).mend(mend);
    }
    if cpus < threads {
        let mend = format!("cores.count = {} in the configuration", cpus.max(1));
        return Finding::warning(format!("{found}; they take turns")).mend(mend);
    }
    Finding::fine(found)
}

pub(super) fn pinning(facts: &Facts, config: &Config) -> Finding {
    let pinned = &config.cores.pin;
    let Some(usable) = &facts.cpus.usable else { return Finding::unknown("its CPUs") };
    let missing: Vec<_> = pinned.iter().filter(|cpu| !usable.contains(cpu)).copied().collect();
    if !missing.is_empty() {
        let found = format!(
            "cores.pin has CPU {}, the process may use {}",
            show_cpus(&missing),
            show_cpus(usable)
        );
        return Finding::stop(found).mend(format!(
            "cores.pin = [..] in the configuration with CPUs of {}, or AllowedCPUs= of the unit",
            show_cpus(usable)
        ));
    }
    if pinned.is_empty() && is_spinning(config) {
        return Finding::warning("the scheduler moves a thread that never sleeps")
            .mend("cores.pin = [N] in the configuration, a CPU for each core");
    }
    Finding::fine(match &pinned[..] {
        [] => "left to the scheduler".to_owned(),
        cpus => format!("to CPU {}", show_cpus(cpus)),
    })
}

pub(super) fn isolation(facts: &Facts, config: &Config) -> Finding {
    if !is_spinning(config) {
        return Finding::fine("not needed: the daemon sleeps when it has nothing to do");
    }
    let cpus = &facts.cpus;
    let shared: Vec<_> =
        config.cores.pin.iter().filter(|cpu| !cpus.isolated.contains(cpu)).copied().collect();
    if config.cores.pin.is_empty() || !shared.is_empty() {
        let which = if shared.is_empty() { "N".to_owned() } else { show_cpus(&shared) };
        return Finding::warning(match &cpus.isolated[..] {
            [] => "no CPU is isolated".to_owned(),
            isolated => format!("isolated is {}, not that of the daemon", show_cpus(isolated)),
        })
        .mend(format!("{}, and restart", kernel_arguments(&which)));
    }
    if config.cores.pin.iter().any(|cpu| !cpus.tickless.contains(cpu)) {
        let arguments = kernel_arguments(&show_cpus(&config.cores.pin));
        return Finding::note("isolated, but a timer ticks there")
            .mend(format!("{arguments}, and restart"));
    }
    Finding::fine("isolated, without timer ticks")
}

/// The command that isolates CPUs from the next start of the kernel on.
fn kernel_arguments(cpus: &str) -> String {
    format!(
        "grubby --update-kernel=ALL --args=\"isolcpus={cpus} nohz_full={cpus}\" (Debian: \
         GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub)"
    )
}

pub(super) fn core_sharing(facts: &Facts, config: &Config) -> Finding {
    if !is_spinning(config) {
        return Finding::fine("not looked at: it matters to a daemon that never sleeps");
    }
    let siblings = |cpu: &usize| facts.cpus.siblings.get(cpu).cloned().unwrap_or_default();
    let mut others = config.cores.pin.iter().map(siblings).collect::<Vec<_>>().concat();
    others.retain(|cpu| !config.cores.pin.contains(cpu));
    others.sort_unstable();
    others.dedup();
    if others.is_empty() {
        return Finding::fine("none");
    }
    let found = format!("CPU {} shares a core with the daemon's", show_cpus(&others));
    let (first, more) = (others[0], if others.len() > 1 { " and so on" } else { "" });
    Finding::note(found).mend(format!(
        "echo 0 > /sys/devices/system/cpu/cpu{first}/online{more}, or keep work off it"
    ))
}

pub(super) fn interrupts(facts: &Facts, config: &Config) -> Finding {
    let all = &facts.cpus.interrupts;
    if !is_spinning(config) {
        return Finding::fine("not looked at: they matter to a daemon that never sleeps");
    }
    if all.is_empty() {
        return Finding::unknown("which CPUs serve interrupts");
    }
    let of = |cpu: &usize| all.get(cpu).copied().unwrap_or(0);
    let count: usize = config.cores.pin.iter().map(of).sum();
    if count == 0 {
        return Finding::fine("none on the daemon's CPUs");
    }
    // Those that only follow their CPU cannot be moved, so a few may stay.
    Finding::note(format!("{count} may be served on CPU {}", show_cpus(&config.cores.pin)))
        .mend(move_interrupts(facts, config))
}

/// The command that has interrupts served elsewhere.
fn move_interrupts(facts: &Facts, config: &Config) -> String {
    let mut others = facts.cpus.usable.clone().unwrap_or_default();
    others.retain(|cpu| !config.cores.pin.contains(cpu));
    let others = if others.is_empty() { "OTHERS".to_owned() } else { show_cpus(&others) };
    format!(
        "systemctl stop irqbalance; for irq in /proc/irq/*/smp_affinity_list; do echo {others} > \
         $irq; done (some refuse: they belong to a CPU)"
    )
}

pub(super) fn quota(facts: &Facts, config: &Config) -> Finding {
    let Some(quota) = facts.cpus.quota else { return Finding::fine("none") };
    let found = format!("{quota:.2} CPUs of time");
    let mend = "CPUQuota= empty in the unit, docker run without --cpus, or no CPU limit of the pod";
    if is_spinning(config) && quota < config.cores.count as f64 + 0.5 {
        return Finding::warning(format!("{found}, which spinning alone uses up")).mend(mend);
    }
    if quota < config.cores.count as f64 {
        return Finding::warning(format!("{found}, less than a CPU for each thread")).mend(mend);
    }
    Finding::note(found).mend(mend)
}

pub(super) fn governor(facts: &Facts, config: &Config) -> Finding {
    let slow: Vec<_> =
        facts.cpus.governors.iter().filter(|(_, name)| *name != "performance").collect();
    match slow.first() {
        None if facts.cpus.governors.is_empty() => Finding::fine("left to hypervisor or firmware"),
        None => Finding::fine("performance"),
        Some((cpu, name)) => {
            graded(config, format!("{name} on {} CPUs, CPU {cpu} first", slow.len()))
                .mend("cpupower frequency-set -g performance")
        }
    }
}

pub(super) fn idle_states(facts: &Facts, config: &Config) -> Finding {
    match &facts.cpus.deepest_idle {
        None => Finding::fine("left to hypervisor or firmware"),
        Some((exit_us, name)) if *exit_us <= IDLE_EXIT_US_MAX => {
            Finding::fine(format!("{name}, {exit_us} us to leave"))
        }
        // The daemon's own CPU never sleeps then, but those of its clients do.
        Some((exit_us, name)) => graded(config, format!("{name}, {exit_us} us to leave")).mend(
            format!("cpupower idle-set -D {IDLE_EXIT_US_MAX}, undone by cpupower idle-set -E"),
        ),
    }
}

pub(super) fn stolen(facts: &Facts, config: &Config) -> Finding {
    let Some(hypervisor) = &facts.hypervisor else { return Finding::fine("not a virtual machine") };
    match facts.cpus.stolen {
        Some(share) if share > STOLEN_MAX => {
            let found = format!("{:.1} % since boot ({hypervisor})", share * 100.0);
            graded(config, found)
                .mend("a machine of its own, or CPUs that the hypervisor dedicates")
        }
        Some(share) => Finding::fine(format!("{:.1} % since boot ({hypervisor})", share * 100.0)),
        None => Finding::unknown("how much time its hypervisor takes"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Verdict::{Fine, Note, Stop, Warning};
    use super::*;
    use crate::doctor::facts::Cpus;

    fn config(text: &str) -> Config {
        let path = std::path::Path::new("test.toml");
        Config::parse(text, path, madrigal::config::Who::Anyone).unwrap()
    }

    fn spin() -> Config {
        config("cores.idle = \"spin\"\ncores.pin = [1]")
    }

    fn with(cpus: Cpus) -> Facts {
        Facts { cpus, ..Facts::default() }
    }

    fn usable(cpus: &[usize]) -> Facts {
        with(Cpus { usable: Some(cpus.to_vec()), ..Cpus::default() })
    }

    #[test]
    fn spinning_leaves_a_cpu_to_clients() {
        assert_eq!(enough(&usable(&[0, 1]), &spin()).verdict, Fine);
        assert_eq!(enough(&usable(&[1]), &spin()).verdict, Warning);
        assert_eq!(enough(&usable(&[0]), &config("")).verdict, Fine);
        assert_eq!(enough(&usable(&[0]), &config("cores.count = 2")).verdict, Warning);
        assert_eq!(enough(&Facts::default(), &config("")).verdict, Note);
    }

    #[test]
    fn daemon_does_not_start_on_cpus_it_may_not_use() {
        let finding = pinning(&usable(&[0]), &spin());
        assert_eq!(finding.verdict, Stop);
        assert!(finding.mend.unwrap().contains("with CPUs of 0"));
        assert_eq!(pinning(&usable(&[0, 1]), &spin()).verdict, Fine);
        assert_eq!(pinning(&usable(&[0, 1]), &config("")).verdict, Fine);
        let unpinned = config("cores.idle = \"spin\"");
        assert_eq!(pinning(&usable(&[0, 1]), &unpinned).verdict, Warning);
        assert_eq!(pinning(&Facts::default(), &spin()).verdict, Note);
    }

    #[test]
    fn isolation_matters_to_a_daemon_that_spins() {
        let of = |isolated: &[usize], tickless: &[usize]| {
            with(Cpus {
                isolated: isolated.to_vec(),
                tickless: tickless.to_vec(),
                ..Cpus::default()
            })
        };
        assert_eq!(isolation(&of(&[], &[]), &config("")).verdict, Fine);
        let finding = isolation(&of(&[], &[]), &spin());
        assert_eq!(finding.verdict, Warning);
        assert!(finding.mend.unwrap().contains("isolcpus=1 "));
        assert_eq!(isolation(&of(&[2], &[2]), &spin()).verdict, Warning);
        assert_eq!(isolation(&of(&[1], &[]), &spin()).verdict, Note);
        assert_eq!(isolation(&of(&[1, 2], &[1, 2]), &spin()).verdict, Fine);
    }

    #[test]
    fn siblings_of_the_daemons_core_are_named() {
        let facts = with(Cpus { siblings: BTreeMap::from([(1, vec![1, 5])]), ..Cpus::default() });
        let finding = core_sharing(&facts, &spin());
        assert_eq!(finding.verdict, Note);
        assert!(finding.mend.unwrap().contains("cpu5/online"));
        assert_eq!(core_sharing(&facts, &config("")).verdict, Fine);
        assert_eq!(core_sharing(&Facts::default(), &spin()).verdict, Fine);
    }

    #[test]
    fn interrupts_on_the_daemons_cpu_are_counted() {
        let of = |interrupts: &[(usize, usize)]| {
            with(Cpus { interrupts: interrupts.iter().copied().collect(), ..Cpus::default() })
        };
        assert_eq!(interrupts(&of(&[(0, 9)]), &spin()).verdict, Fine);
        assert!(interrupts(&of(&[(0, 9), (1, 3)]), &spin()).found.starts_with("3 may"));
        let facts = Facts {
            cpus: Cpus { usable: Some(vec![0, 1, 2]), ..of(&[(1, 3)]).cpus },
            ..Facts::default()
        };
        assert!(interrupts(&facts, &spin()).mend.unwrap().contains("echo 0,2 >"));
        assert_eq!(interrupts(&of(&[]), &spin()).verdict, Note);
        assert_eq!(interrupts(&of(&[(1, 3)]), &config("")).verdict, Fine);
    }

    #[test]
    fn quota_must_hold_what_spinning_uses() {
        let of = |quota| with(Cpus { quota, ..Cpus::default() });
        assert_eq!(quota(&of(None), &spin()).verdict, Fine);
        assert_eq!(quota(&of(Some(1.0)), &spin()).verdict, Warning);
        assert_eq!(quota(&of(Some(2.0)), &spin()).verdict, Note);
        assert_eq!(quota(&of(Some(0.5)), &config("")).verdict, Warning);
        assert_eq!(quota(&of(Some(1.0)), &config("")).verdict, Note);
    }

    #[test]
    fn saving_power_matters_most_to_a_daemon_that_spins() {
        let saving = with(Cpus {
            governors: BTreeMap::from([(0, "performance".to_owned()), (1, "powersave".to_owned())]),
            deepest_idle: Some((200, "C6".to_owned())),
            ..Cpus::default()
        });
        for check in [governor, idle_states] {
            assert_eq!(check(&saving, &spin()).verdict, Warning);
            assert_eq!(check(&saving, &config("")).verdict, Note);
            assert!(check(&saving, &spin()).mend.unwrap().starts_with("cpupower"));
            assert_eq!(check(&Facts::default(), &spin()).verdict, Fine);
        }
        let awake = with(Cpus {
            governors: BTreeMap::from([(0, "performance".to_owned())]),
            deepest_idle: Some((2, "C1".to_owned())),
            ..Cpus::default()
        });
        assert_eq!(governor(&awake, &spin()).found, "performance");
        assert_eq!(idle_states(&awake, &spin()).verdict, Fine);
    }

    #[test]
    fn stolen_time_is_told_of_guests_alone() {
        let of = |stolen, hypervisor: Option<&str>| Facts {
            hypervisor: hypervisor.map(str::to_owned),
            ..with(Cpus { stolen, ..Cpus::default() })
        };
        assert_eq!(stolen(&of(Some(0.5), None), &spin()).verdict, Fine);
        assert_eq!(stolen(&of(Some(0.005), Some("KVM")), &spin()).verdict, Fine);
        assert_eq!(stolen(&of(Some(0.05), Some("KVM")), &spin()).verdict, Warning);
        assert_eq!(stolen(&of(Some(0.05), Some("KVM")), &config("")).verdict, Note);
        assert_eq!(stolen(&of(None, Some("KVM")), &spin()).verdict, Note);
    }
}
