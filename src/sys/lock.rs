//! Keeping the program in memory.

use std::io;

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities};

/// Why memory is not locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The process may lock so many bytes only. Mappings beyond them would fail later on.
    #[error(
        "this process may lock {0} bytes only: LimitMEMLOCK=infinity in the systemd unit, or \
         ulimit -l unlimited"
    )]
    Limited(u64),
    /// The kernel refused.
    #[error(transparent)]
    Refused(#[from] io::Error),
}

/// Keeps in memory all that this process has now, and whatever it will have from the moment when
/// that is first touched.
///
/// Where others want memory the kernel takes back what was not used for a while, the program's own
/// code with it. Threads stand still until it is read from the disk again.
///
/// # Errors
///
/// [`LockError::Limited`] without CAP_IPC_LOCK, unless the limit on locked memory is infinite.
pub fn lock_memory() -> Result<(), LockError> {
    if let Some(limit) = getrlimit(Resource::Memlock).current
        && !is_beyond_limits()?
    {
        return Err(LockError::Limited(limit));
    }
    // In two calls: the code is read from its file at once, but a mapping of gigabytes of which
    // little is used must not take all of them.
    mlockall(MlockAllFlags::CURRENT).map_err(io::Error::from)?;
    mlockall(MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).map_err(io::Error::from)?;
    Ok(())
}

/// Whether this process has CAP_IPC_LOCK on the host: what a user namespace gives does not count.
fn is_beyond_limits() -> io::Result<bool> {
    let users = std::fs::read_to_string("/proc/self/uid_map")?;
    let is_of_host = users.split_whitespace().eq(["0", "0", "4294967295"]);
    Ok(is_of_host && capabilities(None)?.effective.contains(CapabilitySet::IPC_LOCK))
}
