//! Whether this host lets us use io_uring, and if not, what to do about it.

use std::fs;
use std::io;

use io_uring::{IoUring, Parameters, Probe, opcode};
use rustix::io::Errno;

use super::driver::OpenError;

/// What is asked for, and whether it is there.
pub(super) type Features = Vec<(&'static str, bool)>;

/// Completions that the kernel has room for, per submission: one multishot can post many.
const COMPLETIONS_PER_ENTRY: u32 = 8;

/// Sets up a ring on this thread and checks that it can do what the driver needs.
pub(super) fn set_up(entries: u32, features: &mut Features) -> Result<IoUring, OpenError> {
    let uring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(entries.saturating_mul(COMPLETIONS_PER_ENTRY))
        .build(entries);
    features.push(("single_issuer, defer_taskrun (6.1)", uring.is_ok()));
    let uring = uring.map_err(|error| refused(&error))?;
    let required = features.len();
    add_parameters(uring.params(), features);
    add_operations(&uring, features);
    let missing: Vec<_> =
        features[required..].iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        return Err(OpenError::IoUring {
            missing: format!("{} has no {}", kernel(), missing.join(", ")),
            remedy: "use a newer kernel, or the driver mio".to_owned(),
        });
    }
    // Nice to have: a waiting daemon does not show as waiting for a disk.
    features.push(("no_iowait (6.15)", uring.params().is_feature_no_iowait()));
    Ok(uring)
}

fn add_parameters(params: &Parameters, features: &mut Features) {
    features.push(("nodrop (5.5)", params.is_feature_nodrop()));
    features.push(("submit_stable (5.5)", params.is_feature_submit_stable()));
    features.push(("fast_poll (5.7)", params.is_feature_fast_poll()));
    features.push(("ext_arg (5.11)", params.is_feature_ext_arg()));
    features.push(("cqe_skip (5.17)", params.is_feature_skip_cqe_on_success()));
}

fn add_operations(uring: &IoUring, features: &mut Features) {
    let mut probe = Probe::new();
    let probed = uring.submitter().register_probe(&mut probe).is_ok();
    for (name, code) in [
        ("accept", opcode::Accept::CODE),
        ("poll", opcode::PollAdd::CODE),
        ("recv", opcode::Recv::CODE),
        ("send", opcode::Send::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("read", opcode::Read::CODE),
        ("cancel", opcode::AsyncCancel::CODE),
        ("msg_ring (5.18)", opcode::MsgRingData::CODE),
    ] {
        features.push((name, probed && probe.is_supported(code)));
    }
}

/// Explains why provided buffers could not be registered.
pub(super) fn no_buffers(error: &io::Error) -> OpenError {
    OpenError::IoUring {
        missing: format!("receive buffers cannot be provided to the kernel: {error}"),
        remedy: "give the process more memory, or use the driver mio".to_owned(),
    }
}

/// Explains why the kernel did not set up a ring.
pub(super) fn refused(error: &io::Error) -> OpenError {
    let disabled = fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let disabled = disabled.as_deref().map(str::trim).unwrap_or("0");
    let (missing, remedy) = explain(error, disabled, &kernel());
    OpenError::IoUring { missing, remedy }
}

/// What is missing, and the remedy, by the kernel's answer and its switch.
fn explain(error: &io::Error, disabled: &str, kernel: &str) -> (String, String) {
    match Errno::from_io_error(error) {
        Some(Errno::PERM) if disabled != "0" => (
            format!("sysctl kernel.io_uring_disabled is {disabled}"),
            "allow it: sysctl -w kernel.io_uring_disabled=0".to_owned(),
        ),
        Some(Errno::PERM | Errno::ACCESS) => (
            "a seccomp filter or security module forbids io_uring_setup".to_owned(),
            "allow it in the container's profile: docker run --security-opt seccomp=PROFILE, or \
             seccomp=unconfined to try"
                .to_owned(),
        ),
        Some(Errno::NOSYS) => (
            format!("{kernel} has no io_uring, or a seccomp filter hides it"),
            "use a kernel with CONFIG_IO_URING, or allow io_uring_setup in the container's profile"
                .to_owned(),
        ),
        Some(Errno::INVAL) => (
            format!("{kernel} is older than Linux 6.1"),
            "use a newer kernel, or the driver mio".to_owned(),
        ),
        Some(Errno::NOMEM) => (
            "the locked-memory limit or the memory of the process is used up".to_owned(),
            "raise it: ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit"
                .to_owned(),
        ),
        Some(Errno::MFILE | Errno::NFILE) => (
            "no descriptor is left".to_owned(),
            "raise the limit: ulimit -n, or LimitNOFILE= in the systemd unit".to_owned(),
        ),
        _ => (format!("io_uring_setup failed: {error}"), "use the driver mio".to_owned()),
    }
}

/// The kernel's name and version.
fn kernel() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    format!("Linux {}", release.as_deref().map(str::trim).unwrap_or("of unknown version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_remedy() {
        for (errno, disabled, expected) in [
            (Errno::PERM, "2", "sysctl -w kernel.io_uring_disabled=0"),
            (Errno::PERM, "0", "--security-opt seccomp="),
            (Errno::NOSYS, "0", "CONFIG_IO_URING"),
            (Errno::INVAL, "0", "newer kernel"),
            (Errno::NOMEM, "0", "LimitMEMLOCK"),
            (Errno::MFILE, "0", "LimitNOFILE"),
            (Errno::IO, "0", "mio"),
        ] {
            let (missing, remedy) = explain(&errno.into(), disabled, "Linux 5.4");
            assert!(remedy.contains(expected), "{errno:?}: {missing}; {remedy}");
        }
    }
}
