//! What the kernel lets a daemon use: io_uring, memory, descriptors, its clock.

use madrigal::base::limits::{
    BYTES_CEILING, CHUNK_BYTES, CLIENT_FRAME_BYTES_MAX, DESCRIPTORS_RESERVED, SESSIONS_MAX,
};
use madrigal::config::{Config, DriverChoice, Idle};
use madrigal::mem::QueueSizes;

use super::Finding;
use crate::doctor::facts::{Facts, Uring};

/// Kernel that the io_uring driver needs.
const KERNEL_MIN: (u32, u32) = (6, 1);

/// Memory of the queues of one core, rounded up: 1,024 requests and 8,192 completions.
const URING_BYTES: u64 = 512 * 1024;

/// Mappings of the program itself, its threads and its pool, rounded up.
const MAPPINGS_RESERVED: u64 = 8 * 1024;

/// What the daemon asks the kernel for, for each listener.
const BACKLOG: u64 = 4096;

pub(super) fn uring(facts: &Facts, config: &Config) -> Finding {
    if config.cores.driver == DriverChoice::Mio {
        return Finding::fine("not used: cores.driver is \"mio\"");
    }
    let (missing, remedy) = match &facts.uring {
        Uring::Works { missing } if missing.is_empty() => return Finding::fine("works"),
        Uring::Works { missing } => {
            return Finding::fine(format!("works, without {}", missing.join(", ")));
        }
        Uring::Refused { missing, remedy } => (missing.clone(), remedy.clone()),
        Uring::NotTried => match expect_uring(facts) {
            Ok(finding) => return finding,
            Err(refusal) => refusal,
        },
    };
    if config.cores.driver == DriverChoice::IoUring {
        return Finding::stop(missing).mend(remedy);
    }
    Finding::warning(format!("{missing}; the daemon uses epoll instead")).mend(remedy)
}

/// Whether io_uring would work, as far as files tell; else what is missing, and the remedy.
fn expect_uring(facts: &Facts) -> Result<Finding, (String, String)> {
    let (kernel, process) = (&facts.kernel, &facts.process);
    let is_in = |group| process.groups.contains(&group);
    let is_privileged = process.may_admin || kernel.uring_group.is_some_and(is_in);
    let release = kernel.release.as_deref().unwrap_or("unknown");
    match (kernel.version(), kernel.uring_disabled) {
        (Some(version), _) if version < KERNEL_MIN => {
            let remedy = "use Linux 6.1 or later, or stay with epoll: cores.driver = \"mio\"";
            Err((format!("Linux {release} is too old for it"), remedy.to_owned()))
        }
        (_, Some(disabled @ 1..)) if disabled > 1 || !is_privileged => {
            let missing = format!("kernel.io_uring_disabled is {disabled}");
            Err((missing, "sysctl -w kernel.io_uring_disabled=0".to_owned()))
        }
        // A service manager's, which keeps other things away as a rule.
        _ if process.is_filtered == Some(true) && facts.container.is_none() => {
            let unknown = Finding::unknown("whether the seccomp filter of the process allows it");
            Ok(unknown.mend("the line `driver opened` in the daemon's log tells"))
        }
        _ if process.is_filtered == Some(true) => Err((
            "a seccomp filter is in force, and most container runtimes' forbid it".to_owned(),
            "docker run --security-opt seccomp=PROFILE with a profile that allows io_uring_setup, \
             io_uring_enter and io_uring_register"
                .to_owned(),
        )),
        (None, _) => Ok(Finding::unknown("which kernel it has")),
        (Some(_), _) => Ok(Finding::fine("nothing forbids it as far as files tell")),
    }
}

pub(super) fn locked(facts: &Facts, config: &Config) -> Finding {
    let needed = URING_BYTES * config.cores.count as u64;
    let is_needed = config.cores.driver != DriverChoice::Mio || config.memory.lock;
    if !is_needed || facts.process.may_lock {
        return Finding::fine("no limit applies");
    }
    let problem = match facts.process.locked_bytes {
        None => return Finding::unknown("its limit on locked memory"),
        Some(u64::MAX) => return Finding::fine("unlimited"),
        Some(bytes) if config.memory.lock => {
            format!("{} KiB, and memory.lock wants no limit", bytes / 1024)
        }
        Some(bytes) if bytes >= needed => return Finding::fine(format!("{} KiB", bytes / 1024)),
        Some(bytes) => {
            let (bytes, needed) = (bytes / 1024, needed / 1024);
            format!("{bytes} KiB, less than the {needed} KiB that io_uring may take")
        }
    };
    Finding::warning(problem)
        .mend("LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited")
}

pub(super) fn descriptors(facts: &Facts, config: &Config) -> Finding {
    let wanted = config.sessions.max as u64;
    let reserved = (DESCRIPTORS_RESERVED * config.cores.count) as u64;
    match facts.process.descriptors {
        None => Finding::unknown("its limit on descriptors"),
        Some(u64::MAX) => Finding::fine("unlimited"),
        Some(limit) if limit >= wanted + reserved => Finding::fine(limit.to_string()),
        Some(limit) => Finding::warning(format!(
            "{limit}, enough for {} sessions of the {wanted} in sessions.max",
            limit.saturating_sub(reserved)
        ))
        .mend(format!(
            "LimitNOFILE={0} in the systemd unit, or ulimit -n {0}",
            (wanted + reserved).next_power_of_two()
        )),
    }
}

pub(super) fn mappings(facts: &Facts, config: &Config) -> Finding {
    if config.listen.shared_memory.is_none() {
        return Finding::fine("not needed: listen.shared_memory is false");
    }
    let wanted = config.sessions.max as u64 + MAPPINGS_RESERVED;
    match facts.kernel.mappings_max {
        None => Finding::unknown("vm.max_map_count"),
        Some(most) if most >= wanted => Finding::fine(most.to_string()),
        Some(most) => Finding::warning(format!(
            "{most}, sessions.max is {}; those that find none use the Unix socket",
            config.sessions.max
        ))
        .mend(format!("sysctl -w vm.max_map_count={}", wanted.next_power_of_two())),
    }
}

pub(super) fn memory(facts: &Facts, config: &Config) -> Finding {
    let cores = config.cores.count as u64;
    let pools = (config.memory.pool_bytes_max as u64).saturating_mul(cores);
    let shared = shared_bytes(config);
    let mib = |bytes: u64| bytes >> 20;
    let Some(bytes) = facts.memory.bytes else {
        return Finding::unknown("how much memory it has");
    };
    if bytes < pools {
        return Finding::warning(format!(
            "{} MiB, less than the {} MiB that messages may take",
            mib(bytes),
            mib(pools)
        ))
        .mend(format!(
            "{} in the configuration, or more memory",
            smaller_pool(bytes / 2 / cores, config)
        ));
    }
    let found = format!(
        "{} MiB, messages may take {}, queues and shelves {}",
        mib(bytes),
        mib(pools),
        mib(shared)
    );
    // A bound that few ever come near: no reason to worry where all of it would be too much.
    match bytes - pools {
        left if left < shared => Finding::note(found).mend(less_shared(left, config)),
        _ => Finding::fine(found),
    }
}

/// The keys that make a pool so small, or as small as the daemon takes.
fn smaller_pool(bytes: u64, config: &Config) -> String {
    let is_alone = config.cluster.daemons.len() < 2;
    let ring = if is_alone { 0 } else { config.cluster.ring.bytes_min() };
    let pool = (bytes as usize).max(4 * CHUNK_BYTES).max(ring + CLIENT_FRAME_BYTES_MAX);
    // One slow session must leave room to the others, and to the ring.
    let session = (pool / 2).min(pool - ring);
    if config.sessions.bytes_max <= session {
        return format!("memory.pool_bytes_max = {pool}");
    }
    format!("memory.pool_bytes_max = {pool} and sessions.bytes_max = {session}")
}

/// The key by which sessions over shared memory take no more than that in all.
fn less_shared(bytes: u64, config: &Config) -> String {
    let each = bytes / session_cores(config);
    if each < queues(config).region_bytes() as u64 {
        return "listen.shared_memory = false: all clients use the Unix socket".to_owned();
    }
    format!("memory.shared_bytes_max = {each}: clients beyond it use the Unix socket")
}

/// Cores that have sessions: where there are several, the first has none.
fn session_cores(config: &Config) -> u64 {
    config.cores.count.saturating_sub(1).max(1) as u64
}

/// The queues that a session gets which says nothing of their size.
fn queues(config: &Config) -> QueueSizes {
    let bytes = config.memory.session_queue_bytes;
    QueueSizes { submission_bytes: bytes, delivery_bytes: bytes }
}

/// What sessions over shared memory may take, up to the bound.
fn shared_bytes(config: &Config) -> u64 {
    if config.listen.shared_memory.is_none() {
        return 0;
    }
    queue_bytes(config).saturating_add(shelf_bytes(config)).min(shared_bound(config))
}

/// The queues of as many sessions as there may be.
fn queue_bytes(config: &Config) -> u64 {
    (config.sessions.max as u64).saturating_mul(queues(config).region_bytes() as u64)
}

/// The shelves of one user.
fn shelf_bytes(config: &Config) -> u64 {
    2 * config.memory.shelf_bytes as u64 * session_cores(config)
}

fn shared_bound(config: &Config) -> u64 {
    (config.memory.shared_bytes_max as u64).saturating_mul(session_cores(config))
}

pub(super) fn shared_memory(_: &Facts, config: &Config) -> Finding {
    if config.listen.shared_memory.is_none() {
        return Finding::fine("not used: listen.shared_memory is false");
    }
    let (bound, shelves) = (shared_bound(config), shelf_bytes(config));
    let wanted = queue_bytes(config).saturating_add(shelves);
    if bound >= wanted {
        return Finding::fine(format!("{} MiB, enough for all sessions", bound >> 20));
    }
    let enough = bound.saturating_sub(shelves) / queues(config).region_bytes() as u64;
    let found = format!("{} MiB, enough for {enough} sessions", bound >> 20);
    // Who leaves the number of sessions as it is does not expect so many.
    if config.sessions.max <= SESSIONS_MAX {
        return Finding::fine(found);
    }
    let each = wanted.div_ceil(session_cores(config)).min(BYTES_CEILING as u64);
    Finding::warning(format!("{found} of the {} in sessions.max", config.sessions.max)).mend(
        format!("memory.shared_bytes_max = {each}, or smaller queues: memory.session_queue_bytes"),
    )
}

pub(super) fn huge_pages(facts: &Facts, config: &Config) -> Finding {
    let memory = &facts.memory;
    let (Some(enabled), defrag) = (&memory.huge_pages, memory.huge_pages_defrag.as_deref()) else {
        return Finding::fine("not in this kernel");
    };
    if enabled != "always" {
        return Finding::fine(format!("made only where asked for ({enabled})"));
    }
    let mend = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
    let found =
        format!("made everywhere (enabled: always, defrag: {})", defrag.unwrap_or("unknown"));
    if config.cores.idle == Idle::Spin {
        Finding::warning(found).mend(mend)
    } else {
        Finding::note(found).mend(mend)
    }
}

pub(super) fn backlog(facts: &Facts, config: &Config) -> Finding {
    let wanted = BACKLOG.min(config.sessions.max as u64);
    match facts.kernel.somaxconn {
        None => Finding::unknown("net.core.somaxconn"),
        Some(most) if most >= wanted => Finding::fine(most.to_string()),
        Some(most) => Finding::warning(format!("{most} clients at most, {wanted} may come"))
            .mend(format!("sysctl -w net.core.somaxconn={wanted}")),
    }
}

/// Clocks that a process reads without a system call.
const FAST_CLOCKS: [&str; 4] =
    ["tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page"];

pub(super) fn clock(facts: &Facts, _: &Config) -> Finding {
    let Some(clock) = &facts.kernel.clock else { return Finding::unknown("which clock it uses") };
    if FAST_CLOCKS.contains(&clock.as_str()) {
        return Finding::fine(clock);
    }
    let found = format!("{clock}, which takes a system call to read");
    let faster = FAST_CLOCKS.iter().find(|fast| facts.kernel.clocks.iter().any(|it| it == *fast));
    Finding::warning(found).mend(match faster {
        Some(fast) => format!(
            "echo {fast} > /sys/devices/system/clocksource/clocksource0/current_clocksource"
        ),
        None => "dmesg | grep -i -e tsc -e clocksource tells why there is no faster one; \
                 tsc=reliable on the kernel's command line overrules it"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{self, Fine, Note, Stop, Warning};
    use super::*;
    use crate::doctor::facts::{Kernel, Memory, Process};

    fn config(text: &str) -> Config {
        let path = std::path::Path::new("test.toml");
        Config::parse(text, path, madrigal::config::Who::Anyone).unwrap()
    }

    /// Verdict and advice of a check.
    fn told(finding: &Finding) -> (Verdict, &str) {
        (finding.verdict, finding.mend.as_deref().unwrap_or_default())
    }

    fn with_kernel(kernel: Kernel) -> Facts {
        Facts { kernel, ..Facts::default() }
    }

    fn with_process(process: Process) -> Facts {
        Facts { process, ..Facts::default() }
    }

    #[test]
    fn refused_uring_matters_as_much_as_the_configuration_needs_it() {
        let refused = Facts {
            uring: Uring::Refused { missing: "m".to_owned(), remedy: "r".to_owned() },
            ..Facts::default()
        };
        assert_eq!(told(&uring(&refused, &config(""))), (Warning, "r"));
        let needed = config("cores.driver = \"io_uring\"");
        assert_eq!(told(&uring(&refused, &needed)), (Stop, "r"));
        assert_eq!(told(&uring(&refused, &config("cores.driver = \"mio\""))), (Fine, ""));
        let works = Facts { uring: Uring::Works { missing: vec![] }, ..Facts::default() };
        assert_eq!(told(&uring(&works, &needed)), (Fine, ""));
    }

    #[test]
    fn uring_is_expected_from_files_where_it_cannot_be_tried() {
        let of = |release: &str, disabled| Kernel {
            release: Some(release.to_owned()),
            uring_disabled: Some(disabled),
            ..Kernel::default()
        };
        for (kernel, verdict, mend) in [
            (of("6.8.0", 0), Fine, ""),
            (of("5.15.0-91-generic", 0), Warning, "Linux 6.1"),
            (of("6.8.0", 2), Warning, "sysctl -w kernel.io_uring_disabled=0"),
            (Kernel::default(), Note, ""),
        ] {
            let finding = uring(&with_kernel(kernel.clone()), &config(""));
            assert_eq!(finding.verdict, verdict, "{kernel:?}");
            assert!(told(&finding).1.contains(mend), "{finding:?}");
        }
        let mut filtered = with_kernel(of("6.8.0", 0));
        filtered.process.is_filtered = Some(true);
        // As RestrictAddressFamilies= of the daemon's own unit is one.
        let finding = uring(&filtered, &config("cores.driver = \"io_uring\""));
        assert_eq!(finding.verdict, Note);
        assert!(told(&finding).1.contains("driver opened"), "{finding:?}");
        filtered.container = Some("Docker");
        let finding = uring(&filtered, &config(""));
        assert!(told(&finding).1.contains("seccomp=PROFILE"), "{finding:?}");
    }

    #[test]
    fn uring_for_the_privileged_is_for_those_who_are() {
        let of = |disabled, process| {
            let mut facts = with_process(process);
            facts.kernel.release = Some("6.8.0".to_owned());
            (facts.kernel.uring_disabled, facts.kernel.uring_group) = (Some(disabled), Some(7));
            uring(&facts, &config("")).verdict
        };
        let admin = Process { may_admin: true, ..Process::default() };
        let member = Process { groups: vec![1, 7], ..Process::default() };
        let other = Process { groups: vec![1], ..Process::default() };
        assert_eq!((of(1, admin.clone()), of(1, member), of(1, other)), (Fine, Fine, Warning));
        assert_eq!(of(2, admin), Warning);
    }

    #[test]
    fn locked_memory_must_hold_the_queues_of_all_cores() {
        let of = |bytes, may_lock| {
            with_process(Process { locked_bytes: bytes, may_lock, ..Process::default() })
        };
        let one = config("");
        assert_eq!(locked(&of(Some(64 << 10), false), &one).verdict, Warning);
        assert_eq!(locked(&of(Some(64 << 10), true), &one).verdict, Fine);
        assert_eq!(locked(&of(Some(1 << 20), false), &one).verdict, Fine);
        assert_eq!(locked(&of(Some(1 << 20), false), &config("cores.count = 4")).verdict, Warning);
        assert_eq!(locked(&of(Some(u64::MAX), false), &one).found, "unlimited");
        assert_eq!(locked(&of(None, false), &one).verdict, Note);
        assert_eq!(locked(&of(None, false), &config("cores.driver = \"mio\"")).verdict, Fine);
        let all = config("cores.driver = \"mio\"\nmemory.lock = true");
        assert_eq!(locked(&of(Some(1 << 30), false), &all).verdict, Warning);
        assert_eq!(locked(&of(Some(u64::MAX), false), &all).verdict, Fine);
        assert_eq!(locked(&of(Some(1 << 30), true), &all).verdict, Fine);
    }

    #[test]
    fn descriptors_must_do_for_all_sessions() {
        let of = |limit| with_process(Process { descriptors: limit, ..Process::default() });
        let config = config("sessions.max = 1000");
        assert_eq!(descriptors(&of(Some(1016)), &config).verdict, Fine);
        let finding = descriptors(&of(Some(1015)), &config);
        assert_eq!(finding.verdict, Warning);
        assert!(finding.found.contains("999 sessions"), "{finding:?}");
        assert!(told(&finding).1.contains("LimitNOFILE=1024"), "{finding:?}");
        assert_eq!(descriptors(&of(Some(0)), &config).verdict, Warning);
        assert_eq!(descriptors(&of(Some(u64::MAX)), &config).verdict, Fine);
        assert_eq!(descriptors(&of(None), &config).verdict, Note);
    }

    #[test]
    fn mappings_must_do_for_all_sessions() {
        let of = |mappings_max| with_kernel(Kernel { mappings_max, ..Kernel::default() });
        assert_eq!(mappings(&of(Some(65_530)), &config("")).verdict, Fine);
        let many = config("sessions.max = 100000");
        let finding = mappings(&of(Some(65_530)), &many);
        assert_eq!(told(&finding), (Warning, "sysctl -w vm.max_map_count=131072"));
        let sockets = config("sessions.max = 100000\nlisten.shared_memory = false");
        assert_eq!(mappings(&of(Some(65_530)), &sockets).verdict, Fine);
        assert_eq!(mappings(&of(None), &many).verdict, Note);
    }

    #[test]
    fn memory_must_hold_the_pools() {
        let of =
            |bytes| Facts { memory: Memory { bytes, ..Memory::default() }, ..Facts::default() };
        assert_eq!(memory(&of(Some(4 << 30)), &config("")).verdict, Fine);
        assert_eq!(memory(&of(Some(512 << 20)), &config("cores.count = 3")).verdict, Warning);
        assert_eq!(memory(&of(None), &config("")).verdict, Note);
    }

    #[test]
    fn memory_is_better_enough_for_queues_and_shelves_too() {
        let small = Facts {
            memory: Memory { bytes: Some(512 << 20), ..Memory::default() },
            ..Facts::default()
        };
        let finding = memory(&small, &config(""));
        assert_eq!(finding.found, "512 MiB, messages may take 256, queues and shelves 2048");
        let mend = "memory.shared_bytes_max = 268435456: clients beyond it use the Unix socket";
        assert_eq!(told(&finding), (Note, mend));
        let few = config("sessions.max = 100");
        assert_eq!(
            memory(&small, &few).found,
            "512 MiB, messages may take 256, queues and shelves 58"
        );
        assert_eq!(memory(&small, &few).verdict, Fine);
        assert_eq!(memory(&small, &config("listen.shared_memory = false")).verdict, Fine);
    }

    #[test]
    fn memory_that_is_advised_is_memory_that_the_daemon_takes() {
        let cluster = "daemon.name = \"a\"\ncluster.daemons = [\"a 10.0.0.1\", \"b 10.0.0.2\"]\n";
        let large = "memory.session_queue_bytes = 67108864\n";
        for base in ["", "cores.count = 3\n", cluster, large] {
            for bytes in (64..=900).step_by(8).flat_map(|mib| [mib << 20, (mib << 20) + 6144]) {
                let mut facts = Facts::default();
                facts.memory.bytes = Some(bytes);
                let mut text = base.to_owned();
                // A smaller pool, then fewer sessions over shared memory, then nothing.
                for _ in 0..2 {
                    let mend = memory(&facts, &config(&text)).mend.unwrap_or_default();
                    let keys = mend.split(" in the configuration").next().unwrap_or_default();
                    let keys = keys.split(": ").next().unwrap_or_default();
                    text += &format!("{}\n", keys.replace(" and ", "\n"));
                }
                assert_eq!(memory(&facts, &config(&text)).verdict, Fine, "{bytes}: {text}");
            }
        }
    }

    #[test]
    fn many_sessions_need_memory_to_share() {
        let told = |text: &str| shared_memory(&Facts::default(), &config(text));
        assert_eq!(told("").found, "2048 MiB, enough for 4048 sessions");
        assert_eq!((told("").verdict, told("sessions.max = 4000").verdict), (Fine, Fine));
        let many = "sessions.max = 100000\ncores.count = 3\nmemory.session_queue_bytes = 65536\n";
        let finding = told(many);
        assert_eq!(
            finding.found,
            "4096 MiB, enough for 31650 sessions of the 100000 in sessions.max"
        );
        let mend = "memory.shared_bytes_max = 6766788608";
        assert_eq!(finding.verdict, Warning);
        assert!(finding.mend.unwrap().starts_with(mend));
        assert_eq!(told(&format!("{many}{mend}")).verdict, Fine);
        assert_eq!(told(&format!("{many}listen.shared_memory = false")).verdict, Fine);
        let preset = told(include_str!("../../../../../tuning/many-sessions.toml"));
        assert_eq!(preset.found, "4096 MiB, enough for all sessions");
        let absurd = "sessions.max = 1048576\nmemory.session_queue_bytes = 67108864\n";
        let mend = told(absurd).mend.unwrap();
        config(&format!("{absurd}{}", mend.split(", ").next().unwrap()));
    }

    #[test]
    fn huge_pages_everywhere_matter_most_to_a_daemon_that_spins() {
        let of = |enabled: Option<&str>| Facts {
            memory: Memory { huge_pages: enabled.map(str::to_owned), ..Memory::default() },
            ..Facts::default()
        };
        let spin = config("cores.idle = \"spin\"");
        assert_eq!(huge_pages(&of(Some("always")), &spin).verdict, Warning);
        assert_eq!(huge_pages(&of(Some("always")), &config("")).verdict, Note);
        assert_eq!(huge_pages(&of(Some("madvise")), &spin).verdict, Fine);
        assert_eq!(huge_pages(&of(None), &spin).verdict, Fine);
    }

    #[test]
    fn backlog_is_what_may_come_at_once() {
        let of = |somaxconn| with_kernel(Kernel { somaxconn, ..Kernel::default() });
        assert_eq!(backlog(&of(Some(4096)), &config("")).verdict, Fine);
        let finding = backlog(&of(Some(128)), &config(""));
        assert_eq!(told(&finding), (Warning, "sysctl -w net.core.somaxconn=4096"));
        assert_eq!(backlog(&of(Some(128)), &config("sessions.max = 100")).verdict, Fine);
        assert_eq!(backlog(&of(None), &config("")).verdict, Note);
    }

    #[test]
    fn clock_is_read_without_a_system_call() {
        let of = |clock: &str, clocks: &[&str]| {
            with_kernel(Kernel {
                clock: Some(clock.to_owned()),
                clocks: clocks.iter().map(|&clock| clock.to_owned()).collect(),
                ..Kernel::default()
            })
        };
        assert_eq!(clock(&of("tsc", &[]), &config("")).verdict, Fine);
        let finding = clock(&of("hpet", &["hpet", "tsc"]), &config(""));
        assert_eq!(finding.verdict, Warning);
        assert!(told(&finding).1.starts_with("echo tsc > "), "{finding:?}");
        let finding = clock(&of("hpet", &["hpet"]), &config(""));
        assert!(told(&finding).1.contains("tsc=reliable"), "{finding:?}");
        assert_eq!(clock(&Facts::default(), &config("")).verdict, Note);
    }
}
