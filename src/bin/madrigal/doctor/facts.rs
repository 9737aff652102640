//! What a host is like, as its `/proc` and `/sys` tell it.
//!
//! A file that is missing or says something unexpected makes a fact unknown, never an error.

mod cpus;
mod network;

use madrigal::base::limits::{RECEIVE_BUFFERS, RING_ENTRIES};
use madrigal::sys::driver::{Choice, Driver, OpenError, Options};

pub(crate) use cpus::Cpus;
pub(crate) use network::{Interface, Network};

use super::root::Root;

/// What the checks look at. `Default` is a host of which nothing is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) kernel: Kernel,
    pub(crate) uring: Uring,
    pub(crate) process: Process,
    pub(crate) memory: Memory,
    pub(crate) cpus: Cpus,
    pub(crate) network: Network,
    /// The container or virtual machine that this is, as far as it shows.
    pub(crate) container: Option<&'static str>,
    pub(crate) hypervisor: Option<String>,
}

/// Settings of the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kernel {
    pub(crate) release: Option<String>,
    /// 0: everybody may use io_uring, 1: the privileged, 2: nobody.
    pub(crate) uring_disabled: Option<u64>,
    /// The group whose processes count as privileged there.
    pub(crate) uring_group: Option<u64>,
    pub(crate) somaxconn: Option<u64>,
    /// Pieces of memory that a process may have mapped.
    pub(crate) mappings_max: Option<u64>,
    pub(crate) clock: Option<String>,
    pub(crate) clocks: Vec<String>,
}

/// Whether io_uring can be used.
#[derive(Clone, Debug, Default)]
pub(crate) enum Uring {
    /// Nobody asked the kernel: these are another host's files, or it would tell us something else
    /// than the process.
    #[default]
    NotTried,
    /// The driver was opened; these optional features are missing.
    Works { missing: Vec<&'static str> },
    /// The driver could not be opened.
    Refused { missing: String, remedy: String },
}

/// What a process may do: this one, or the daemon that was named.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    /// Hard limit, to which the daemon raises the soft one; `u64::MAX` for none.
    pub(crate) descriptors: Option<u64>,
    /// Soft limit; `u64::MAX` for none.
    pub(crate) locked_bytes: Option<u64>,
    pub(crate) is_filtered: Option<bool>,
    /// Those that count when it does something.
    pub(crate) groups: Vec<u64>,
    pub(crate) may_admin: bool,
    pub(crate) may_lock: bool,
    pub(crate) may_admin_net: bool,
}

/// Memory of the host, or of the control group that this is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    pub(crate) bytes: Option<u64>,
    pub(crate) huge_pages: Option<String>,
    pub(crate) huge_pages_defrag: Option<String>,
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

impl Facts {
    /// Looks at the host below `root`, and at `process` there: `self` or a process id.
    pub(crate) fn read(root: &Root, process: &str) -> Self {
        let status = root.text(&format!("proc/{process}/status")).unwrap_or_default();
        let own = root.text("proc/self/status").unwrap_or_default();
        let groups = control_groups(root, process);
        let may_try = root.is_this_host() && have_same_rights(&own, &status);
        Self {
            kernel: kernel(root),
            uring: if may_try { try_uring() } else { Uring::NotTried },
            process: read_process(root, process, &status),
            memory: memory(root, &groups),
            cpus: Cpus::read(root, &status, &groups),
            network: Network::read(root),
            container: container(root, process),
            hypervisor: hypervisor(root),
        }
    }
}

fn kernel(root: &Root) -> Kernel {
    let clocks = "sys/devices/system/clocksource/clocksource0";
    let available = root.line(&format!("{clocks}/available_clocksource")).unwrap_or_default();
    Kernel {
        release: root.line("proc/sys/kernel/osrelease"),
        uring_disabled: root.number("proc/sys/kernel/io_uring_disabled"),
        uring_group: root.number("proc/sys/kernel/io_uring_group"),
        somaxconn: root.number("proc/sys/net/core/somaxconn"),
        mappings_max: root.number("proc/sys/vm/max_map_count"),
        clock: root.line(&format!("{clocks}/current_clocksource")),
        clocks: available.split_whitespace().map(str::to_owned).collect(),
    }
}

impl Kernel {
    /// Version and patch level, as in 6.1.
    pub(crate) fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.as_deref()?.split(|c: char| !c.is_ascii_digit());
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// Whether two processes, of which these are the `status` files, may do the same.
fn have_same_rights(one: &str, other: &str) -> bool {
    let lines = ["Uid:", "Gid:", "Groups:", "CapEff:", "Seccomp:", "Seccomp_filters:"];
    lines.iter().all(|name| line(one, name) == line(other, name))
}

/// Opens the driver as the daemon would.
fn try_uring() -> Uring {
    let options = Options { receive_buffers: RECEIVE_BUFFERS, entries: RING_ENTRIES };
    match Driver::open(Choice::IoUring, &options) {
        Ok((_, report)) => {
            let missing = report.features.iter().filter(|(_, there)| !there);
            Uring::Works { missing: missing.map(|(name, _)| *name).collect() }
        }
        Err(OpenError::IoUring { missing, remedy }) => Uring::Refused { missing, remedy },
        Err(OpenError::Mio(error)) => {
            Uring::Refused { missing: error.to_string(), remedy: String::new() }
        }
    }
}

fn read_process(root: &Root, process: &str, status: &str) -> Process {
    let limits = root.text(&format!("proc/{process}/limits")).unwrap_or_default();
    let capabilities = field(status, "CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let may = |capability: u32| capabilities.is_some_and(|all| all >> capability & 1 == 1);
    let numbers = |name| line(status, name).unwrap_or_default().split_whitespace();
    // Of the four numbers of the first line the last one counts, that of access to files.
    let groups = numbers("Gid:").skip(3).chain(numbers("Groups:"));
    Process {
        descriptors: limit(&limits, "Max open files", 1),
        locked_bytes: limit(&limits, "Max locked memory", 0),
        is_filtered: field(status, "Seccomp:").map(|mode| mode != "0"),
        groups: groups.filter_map(|group| group.parse().ok()).collect(),
        may_admin: may(CAP_SYS_ADMIN),
        may_lock: may(CAP_IPC_LOCK),
        may_admin_net: may(CAP_NET_ADMIN),
    }
}

/// What is behind `name` in lines of names and values.
fn line<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// The first word of it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    line(text, name)?.split_whitespace().next()
}

/// The `column`th value behind `name`: 0 is the soft limit, 1 the hard one.
fn limit(limits: &str, name: &str, column: usize) -> Option<u64> {
    match line(limits, name)?.split_whitespace().nth(column)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Directories of the control group that the process is in and of those above it; version 2 alone.
fn control_groups(root: &Root, process: &str) -> Vec<String> {
    let text = root.text(&format!("proc/{process}/cgroup")).unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let mut groups = vec!["sys/fs/cgroup".to_owned()];
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == ".." {
            break;
        }
        groups.push(format!("{}/{part}", groups[groups.len() - 1]));
    }
    groups
}

fn memory(root: &Root, groups: &[String]) -> Memory {
    let info = root.text("proc/meminfo").unwrap_or_default();
    let total = field(&info, "MemTotal:").and_then(|kib| kib.parse::<u64>().ok());
    let of_groups = groups.iter().filter_map(|group| root.number(&format!("{group}/memory.max")));
    let huge = "sys/kernel/mm/transparent_hugepage";
    Memory {
        bytes: total.map(|kib| kib.saturating_mul(1024)).into_iter().chain(of_groups).min(),
        huge_pages: root.choice(&format!("{huge}/enabled")),
        huge_pages_defrag: root.choice(&format!("{huge}/defrag")),
    }
}

fn container(root: &Root, process: &str) -> Option<&'static str> {
    // The process may be in one though we are not.
    let files = ["1", process].map(|process| root.text(&format!("proc/{process}/cgroup")));
    let groups = files.map(Option::unwrap_or_default).concat();
    let is_in = |name: &str| groups.contains(name);
    match () {
        () if root.has("run/.containerenv") || is_in("/libpod") => Some("Podman"),
        () if is_in("kubepods") || root.has("var/run/secrets/kubernetes.io") => Some("Kubernetes"),
        () if root.has(".dockerenv") || is_in("/docker") => Some("Docker"),
        () if is_in("/lxc") => Some("LXC"),
        () => None,
    }
}

fn hypervisor(root: &Root) -> Option<String> {
    let cpuinfo = root.text("proc/cpuinfo").unwrap_or_default();
    let is_guest = cpuinfo
        .lines()
        .find(|line| line.starts_with("flags"))
        .is_some_and(|flags| flags.split_whitespace().any(|flag| flag == "hypervisor"));
    let name = root.line("sys/hypervisor/type").or_else(|| {
        let vendor = root.line("sys/class/dmi/id/sys_vendor").filter(|_| is_guest)?;
        let product = root.line("sys/class/dmi/id/product_name").unwrap_or_default();
        Some(format!("{vendor} {product}").trim().to_owned())
    });
    name.or_else(|| is_guest.then(|| "an unknown hypervisor".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::tests::tree;

    #[test]
    fn limits_and_capabilities_are_those_of_the_process() {
        let (_directory, root) = tree(&[
            (
                "proc/77/limits",
                "Limit   Soft Limit   Hard Limit   Units\n\
                 Max open files            1024                 524288               files\n\
                 Max locked memory         unlimited            unlimited            bytes\n",
            ),
            (
                "proc/77/status",
                "Gid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapEff:\t0000000000001000\nSeccomp:\t2\n",
            ),
        ]);
        let process = Facts::read(&root, "77").process;
        assert_eq!(process.descriptors, Some(524_288));
        assert_eq!(process.locked_bytes, Some(u64::MAX));
        assert_eq!(process.is_filtered, Some(true));
        assert!(process.may_admin_net && !process.may_lock && !process.may_admin);
        assert_eq!(process.groups, [8, 9, 10]);
    }

    #[test]
    fn processes_of_other_rights_are_told_from_us() {
        let one = "Name:\ta\nUid:\t1\t1\t1\t1\nGid:\t1\nGroups:\t1 2\nCapEff:\t0\nSeccomp:\t0\n";
        assert!(have_same_rights(one, &one.replace("\ta", "\tb")));
        for (had, has) in [("\t1\t1\n", "\t1\t0\n"), ("1 2", "1"), ("CapEff:\t0", "CapEff:\t8")] {
            assert!(!have_same_rights(one, &one.replace(had, has)), "{has}");
        }
        assert!(!have_same_rights(one, &one.replace("Seccomp:\t0", "Seccomp:\t2")));
    }

    #[test]
    fn memory_is_what_the_tightest_group_leaves() {
        let (_directory, root) = tree(&[
            ("proc/meminfo", "MemTotal:       16000000 kB\n"),
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "1000000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ]);
        assert_eq!(Facts::read(&root, "self").memory.bytes, Some(1_000_000));
    }

    #[test]
    fn containers_and_guests_are_recognised() {
        for (file, text, expected) in [
            (".dockerenv", "", Some("Docker")),
            ("run/.containerenv", "", Some("Podman")),
            ("proc/1/cgroup", "0::/kubepods/burstable/pod1", Some("Kubernetes")),
            ("proc/1/cgroup", "0::/init.scope", None),
            ("proc/self/cgroup", "0::/system.slice/docker-0123.scope", Some("Docker")),
            ("proc/self/cgroup", "0::/system.slice/madrigald.service", None),
        ] {
            let (_directory, root) = tree(&[(file, text)]);
            assert_eq!(Facts::read(&root, "self").container, expected, "{file}");
        }
        let (_directory, root) = tree(&[
            ("proc/cpuinfo", "flags\t\t: fpu vme hypervisor\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
        ]);
        assert_eq!(Facts::read(&root, "self").hypervisor.as_deref(), Some("QEMU"));
    }

    #[test]
    fn versions_of_kernels() {
        let version =
            |text: &str| Kernel { release: Some(text.to_owned()), ..Kernel::default() }.version();
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.4"), Some((5, 4)));
        assert_eq!(version("unknown"), None);
        assert_eq!(version("99999999999.1"), None);
    }
}
