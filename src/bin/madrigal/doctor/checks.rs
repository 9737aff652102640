//! What is looked at: a table of checks, each a function from facts to a finding.

mod cpus;
mod kernel;
mod network;

use madrigal::config::Config;

use super::facts::Facts;

/// How much a finding matters, least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be.
    Fine,
    /// Worth knowing; nothing has to be done.
    Note,
    /// Costs latency, throughput or packets.
    Warning,
    /// The daemon does not start, or cannot do its work.
    Stop,
}

impl Verdict {
    /// As it is printed.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Stop => "stop",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) verdict: Verdict,
    /// What is there.
    pub(crate) found: String,
    /// The command or setting that changes it.
    pub(crate) mend: Option<String>,
}

impl Finding {
    fn fine(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, found: found.into(), mend: None }
    }

    fn note(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Note, found: found.into(), mend: None }
    }

    fn warning(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warning, found: found.into(), mend: None }
    }

    fn stop(found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Stop, found: found.into(), mend: None }
    }

    /// The host does not tell.
    fn unknown(what: &str) -> Self {
        Self::note(format!("this host does not tell {what}"))
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// One thing that is looked at.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// Why it matters, in a line.
    pub(crate) why: &'static str,
    /// Whether it matters only to daemons that have others to work with.
    pub(crate) is_for_clusters: bool,
    look: fn(&Facts, &Config) -> Finding,
}

impl Check {
    /// What this host is like, for a daemon with this configuration.
    pub(crate) fn look(&self, facts: &Facts, config: &Config) -> Finding {
        let mut finding = (self.look)(facts, config);
        if self.is_for_clusters && config.cluster.daemons.is_empty() {
            finding.verdict = finding.verdict.min(Verdict::Note);
            if finding.verdict == Verdict::Note {
                finding.found += " (matters in a cluster)";
            }
        }
        finding
    }
}

const fn local(
    name: &'static str,
    why: &'static str,
    look: fn(&Facts, &Config) -> Finding,
) -> Check {
    Check { name, why, is_for_clusters: false, look }
}

const fn cluster(
    name: &'static str,
    why: &'static str,
    look: fn(&Facts, &Config) -> Finding,
) -> Check {
    Check { name, why, is_for_clusters: true, look }
}

/// Everything that is looked at, in the order in which it is told.
pub(crate) const CHECKS: [Check; 26] = [
    local("io_uring", "it takes and hands over all of a turn in one system call", kernel::uring),
    local(
        "locked memory",
        "the queues of io_uring count as such, and with memory.lock all of the daemon",
        kernel::locked,
    ),
    local("descriptors", "each session needs one", kernel::descriptors),
    local("mappings", "each session with shared memory needs one", kernel::mappings),
    local("memory", "beyond it the kernel ends processes", kernel::memory),
    local("shared memory", "sessions that find none use the Unix socket", kernel::shared_memory),
    local("huge pages", "making them stops a thread for milliseconds", kernel::huge_pages),
    local("backlog", "clients that connect at once wait there, or are refused", kernel::backlog),
    local("clock", "the daemon reads it in every turn", kernel::clock),
    local("cpus", "a thread that spins takes its CPU from everybody else", cpus::enough),
    local("pinning", "a daemon does not start on a CPU that it may not use", cpus::pinning),
    local("isolation", "others on its CPU delay a daemon that never sleeps", cpus::isolation),
    local("core sharing", "two CPUs of one core slow each other down", cpus::core_sharing),
    local("interrupts", "each one stops the daemon on its CPU", cpus::interrupts),
    local("quota", "a group that used up its share is stopped until the period ends", cpus::quota),
    local("governor", "a CPU that has slowed down handles the next message slowly", cpus::governor),
    local(
        "idle states",
        "waking a sleeping CPU takes so long, for each message",
        cpus::idle_states,
    ),
    local("stolen time", "a host that does not run handles nothing", cpus::stolen),
    cluster("address", "other daemons reach this one there", network::address),
    cluster(
        "interface",
        "packets to all daemons leave and arrive by multicast",
        network::interface,
    ),
    cluster("mtu", "a packet in fragments is lost with any one of them", network::mtu),
    cluster("receive buffer", "packets that find no room are lost", network::receive_buffer),
    cluster("send buffer", "a train of packets that finds no room is lost", network::send_buffer),
    cluster(
        "reverse path",
        "the kernel drops packets from unexpected sides",
        network::reverse_path,
    ),
    cluster("bridge", "without a querier it forgets who wants multicast", network::bridge),
    cluster("device", "how packets get from the device to the daemon", network::device),
];
