//! The machine under a measurement: what it is, its CPUs, and the CPU time of processes.

use std::fs;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};

use crate::failure::{Context, Result, failed};

/// What a result must be read with.
pub(crate) struct Machine {
    cpus: usize,
    model: String,
    kernel: String,
}

impl Machine {
    /// Asks the system; what cannot be found out is "unknown".
    pub(crate) fn find() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map_or("unknown", |(_, model)| model.trim());
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let kernel = if kernel.is_empty() { "unknown" } else { kernel.trim() };
        Self { cpus, model: model.to_owned(), kernel: kernel.to_owned() }
    }

    /// One line for people.
    pub(crate) fn to_text(&self) -> String {
        format!("{} CPUs ({}), Linux {}", self.cpus, self.model, self.kernel)
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "cpus": self.cpus, "model": self.model, "kernel": self.kernel })
    }
}

/// CPUs that the threads of a bench are pinned to, in turn; none: the kernel places them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pinning(Vec<usize>);

impl Pinning {
    /// Pins to `cpus`.
    pub(crate) fn new(cpus: Vec<usize>) -> Self {
        Self(cpus)
    }

    /// Pins the calling thread, the `index`th of the bench.
    pub(crate) fn apply(&self, index: usize) -> Result {
        if self.0.is_empty() { Ok(()) } else { pin(self.0[index % self.0.len()]) }
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        json!(self.0)
    }
}

/// Pins the calling thread to one CPU.
pub(crate) fn pin(cpu: usize) -> Result {
    if cpu >= CpuSet::MAX_CPU {
        return Err(failed(format!("cannot pin to CPU {cpu}: no such CPU")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).context(format!("cannot pin to CPU {cpu}"))
}

/// The CPUs that this process may run on, in ascending order.
pub(crate) fn allowed_cpus() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("cannot ask for this process's CPUs")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// CPU time that processes have used so far, all threads, user and kernel.
///
/// From the scheduler's nanosecond counts. A thread that ended between two readings is missing
/// from the second.
pub(crate) fn cpu_time(pids: &[u32]) -> Result<Duration> {
    let mut total = Duration::ZERO;
    for pid in pids {
        let tasks = format!("/proc/{pid}/task");
        let listed = fs::read_dir(&tasks).context(format!("cannot read CPU time, {tasks}"))?;
        for task in listed {
            let path = task.context(&tasks)?.path().join("schedstat");
            // A thread may end between the listing and here.
            let Ok(text) = fs::read_to_string(&path) else { continue };
            total += parse_schedstat(&text)
                .ok_or_else(|| failed(format!("{}: unexpected '{text}'", path.display())))?;
        }
    }
    Ok(total)
}

/// The first of three numbers: nanoseconds on a CPU.
fn parse_schedstat(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_begins_with_the_time_on_a_cpu() {
        assert_eq!(parse_schedstat("123456 99 7\n"), Some(Duration::from_nanos(123_456)));
        assert_eq!(parse_schedstat(""), None);
        assert_eq!(parse_schedstat("x 1 2"), None);
    }

    #[test]
    fn cpu_time_of_this_process_grows_with_work() {
        let pids = [std::process::id()];
        let before = cpu_time(&pids).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while cpu_time(&pids).unwrap() <= before {
            assert!(std::time::Instant::now() < deadline, "no CPU time was counted");
        }
        assert!(cpu_time(&[u32::MAX]).is_err());
    }

    #[test]
    fn pinning_leaves_one_cpu() {
        let cpus = allowed_cpus().unwrap();
        std::thread::spawn(move || {
            Pinning::new(cpus.clone()).apply(cpus.len()).unwrap();
            assert_eq!(allowed_cpus().unwrap(), [cpus[0]]);
        })
        .join()
        .unwrap();
        assert!(pin(CpuSet::MAX_CPU).is_err());
        Pinning::default().apply(3).unwrap();
    }
}
