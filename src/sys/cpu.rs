//! CPUs that this process may use, and how many descriptors it may hold.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// CPUs that the calling thread may run on, in ascending order.
///
/// # Errors
///
/// The kernel's, where it does not tell.
pub fn usable() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// Binds the calling thread to one CPU.
///
/// # Errors
///
/// `InvalidInput` where there is no such CPU or the process may not use it.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// How many descriptors the process may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The limit that was in force before; `u64::MAX` for none.
    pub before: u64,
    /// The limit now in force; `u64::MAX` for none.
    pub now: u64,
}

/// Raises the soft limit on open descriptors to the hard one.
///
/// # Errors
///
/// The kernel's refusal; the old limit stays then.
pub fn raise_descriptors() -> io::Result<Descriptors> {
    let limit = getrlimit(Resource::Nofile);
    let before = limit.current.unwrap_or(u64::MAX);
    if limit.current == limit.maximum {
        return Ok(Descriptors { before, now: before });
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(Descriptors { before, now: limit.maximum.unwrap_or(u64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_can_be_pinned_to_each_usable_cpu() {
        // On a thread of its own: others keep their freedom.
        std::thread::spawn(|| {
            let cpus = usable().unwrap();
            assert!(!cpus.is_empty());
            for &cpu in &cpus {
                pin(cpu).unwrap();
                assert_eq!(usable().unwrap(), [cpu]);
            }
            assert!(pin(CpuSet::MAX_CPU).is_err());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn descriptors_are_raised_to_the_hard_limit() {
        let first = raise_descriptors().unwrap();
        assert!(first.now >= first.before);
        assert_eq!(raise_descriptors().unwrap(), Descriptors { before: first.now, now: first.now });
    }
}
