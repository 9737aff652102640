//! Waking a driver that waits in the kernel.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{fcntl_dupfd_cloexec, write};

/// Wakes one driver, from any thread: its next [`super::Event::Woken`] comes after the call.
///
/// Several rings before the driver looks may become one event.
#[derive(Clone, Debug)]
pub struct Bell(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    event: OwnedFd,
    /// The driver's io_uring, where it has one: other io_urings post to it without an eventfd.
    /// A descriptor of our own, so the number cannot come to mean another file.
    uring: Option<OwnedFd>,
}

impl Bell {
    /// A bell for the driver that waits on `uring`, or only on the bell itself.
    pub(super) fn new(uring: Option<BorrowedFd<'_>>) -> io::Result<Self> {
        // Blocking: io_uring answers reads of non-blocking files with EAGAIN instead of waiting.
        // A write blocks only when 2^64 - 2 rings are outstanding.
        let event = eventfd(0, EventfdFlags::CLOEXEC)?;
        let uring = uring.map(|uring| fcntl_dupfd_cloexec(uring, 0)).transpose()?;
        Ok(Self(Arc::new(Inner { event, uring })))
    }

    /// Wakes the driver, with one system call.
    pub fn ring(&self) {
        // The eventfd lives as long as this bell and takes any 8 bytes but the highest number, so
        // the only possible error would be a signal while blocking, which see above.
        let written = write(&self.0.event, &1_u64.to_ne_bytes());
        debug_assert_eq!(written, Ok(8));
    }

    /// The eventfd that the bell's own driver watches.
    pub(super) fn event(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }

    /// The io_uring of the bell's driver.
    pub(super) fn uring(&self) -> Option<BorrowedFd<'_>> {
        self.0.uring.as_ref().map(AsFd::as_fd)
    }

    /// Whether both ring the same driver.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
