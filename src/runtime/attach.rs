//! Attaching a session by shared memory: what the client asks for, and what it gets.

use std::num::NonZero;

use crate::base::limits::{SHARED_QUEUE_BYTES_MAX, SHARED_QUEUE_BYTES_MIN};
use crate::mem::QueueSizes;
use crate::mem::stream::{StreamReader, StreamWriter, daemon_ends};
use crate::sys::memfd::Memfd;
use crate::sys::socket::Stream;
use crate::wire::session::attach::{ATTACH_HELLO_BYTES, ATTACH_VERSION};
use crate::wire::session::{AttachAnswer, AttachHello, AttachStatus};

/// A session's memory.
pub(super) struct Opened {
    /// Whose it is.
    pub(super) uid: u32,
    /// How much.
    pub(super) bytes: usize,
    /// The daemon's ends of its queues.
    pub(super) ends: (StreamReader, StreamWriter),
}

/// Makes a session's memory and hands it over, if `take` finds that there may be so much more.
pub(super) fn open(
    hello: &[u8; ATTACH_HELLO_BYTES],
    sizes: QueueSizes,
    stream: &Stream,
    take: impl FnOnce(usize) -> bool,
) -> Result<Opened, AttachStatus> {
    let hello = AttachHello::parse(hello).map_err(|_not_attach| AttachStatus::Version)?;
    if hello.version != ATTACH_VERSION {
        return Err(AttachStatus::Version);
    }
    // Whose memory it is must be known: the kernel says so, or there is none.
    let credentials = stream.credentials().ok_or(AttachStatus::Unidentified)?;
    let sizes = QueueSizes {
        submission_bytes: granted(hello.submission_bytes, sizes.submission_bytes),
        delivery_bytes: granted(hello.delivery_bytes, sizes.delivery_bytes),
    };
    let answer = AttachAnswer {
        version: ATTACH_VERSION,
        status: AttachStatus::Attached,
        submission_bytes: sizes.submission_bytes as u32,
        delivery_bytes: sizes.delivery_bytes as u32,
    };
    let bytes = sizes.region_bytes();
    if !take(bytes) {
        return Err(AttachStatus::Memory);
    }
    let attached = Memfd::new(bytes).and_then(|memory| {
        let region = memory.map()?;
        stream.send_memory_now(&answer.emit(), &memory)?;
        Ok(region)
    });
    match attached {
        Ok(region) => {
            // 0: unknown, as the kernel says where the process is in no namespace of this one.
            let (pid, uid) = (credentials.pid.map_or(0, NonZero::get), credentials.uid);
            tracing::debug!(pid, uid, bytes, "session attached by shared memory");
            Ok(Opened { uid, bytes, ends: daemon_ends(region, sizes) })
        }
        Err(error) => {
            tracing::debug!(%error, "no shared memory for a session");
            Err(AttachStatus::Memory)
        }
    }
}

/// What a wish for a queue of so many bytes comes to.
fn granted(wished: u32, most: usize) -> usize {
    if wished == 0 {
        return most;
    }
    let wished = (wished as usize).clamp(SHARED_QUEUE_BYTES_MIN, SHARED_QUEUE_BYTES_MAX);
    wished.next_power_of_two().min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_granted_within_the_bounds() {
        let most = 1 << 18;
        assert_eq!(granted(0, most), most);
        assert_eq!(granted(1, most), SHARED_QUEUE_BYTES_MIN);
        assert_eq!(granted(100_000, most), 1 << 17);
        assert_eq!(granted(u32::MAX, most), most);
        assert_eq!(granted(u32::MAX, SHARED_QUEUE_BYTES_MAX), SHARED_QUEUE_BYTES_MAX);
    }
}
