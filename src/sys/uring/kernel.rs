//! The queues shared with the kernel: what goes in, what comes out, and memory lent meanwhile.
//!
//! Everything here is safe to call except [`Kernel::send`], whose memory belongs to the caller.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use io_uring::cqueue::{self, buffer_select, more};
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{CancelBuilder, Fd, RecvMsgOut, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, opcode};

use super::buffers::{DATAGRAMS, ReceiveBuffers, STREAMS};
use crate::base::limits::{DATAGRAM_BUFFERS, RECEIVE_BYTES};
use crate::sys::datagram::{CONTROL_BYTES, NAME_BYTES, RECEIVE_BYTES_MAX, Received, parse_address};
use crate::sys::operation::{self, OpKey, SendMemory, SendShape};

/// One send is reported when all of it is written or it failed, not when a part is.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// What the kernel writes in front of a received message.
const MESSAGE_HEADER_BYTES: usize = 16;

/// Room for whatever one receive of datagrams brings.
const DATAGRAM_BUFFER_BYTES: usize =
    MESSAGE_HEADER_BYTES + NAME_BYTES + CONTROL_BYTES + RECEIVE_BYTES_MAX;

pub(super) struct Kernel {
    uring: IoUring,
    /// By group. Dropped only when no operation is in flight.
    buffers: ManuallyDrop<[ReceiveBuffers; 2]>,
    /// How a datagram comes: with the sender's address and control data. Dropped likewise.
    datagram_header: ManuallyDrop<Box<libc::msghdr>>,
    /// What the read of the bell's eventfd writes to. Dropped only when no operation is in flight.
    bell_reading: ManuallyDrop<Box<[u8; 8]>>,
    /// Requests that found the submission queue full, and the kernel unwilling to empty it.
    backlog: VecDeque<Entry>,
    /// Operations that will write or read memory of ours, or post a last completion.
    in_flight: usize,
    no_iowait: bool,
    pub(super) enters: u64,
    pub(super) enters_early: u64,
}

/// One completion.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) key: OpKey,
    /// Negative: an error number.
    pub(super) result: i32,
    /// The operation goes on and will post more.
    pub(super) more: bool,
    /// The buffer that was filled.
    pub(super) filled: Option<Filled>,
    /// The connection that was accepted.
    pub(super) accepted: Option<OwnedFd>,
}

impl Kernel {
    /// Takes over a ring that was set up on this thread, without operations, and gives it at least
    /// so many buffers for streams.
    pub(super) fn new(uring: IoUring, stream_buffers: usize) -> io::Result<Self> {
        let submitter = uring.submitter();
        let streams = ReceiveBuffers::register(&submitter, STREAMS, stream_buffers, RECEIVE_BYTES)?;
        let (count, bytes) = (DATAGRAM_BUFFERS, DATAGRAM_BUFFER_BYTES);
        let datagrams = ReceiveBuffers::register(&submitter, DATAGRAMS, count, bytes)?;
        let mut header = operation::empty_header();
        header.msg_namelen = NAME_BYTES as _;
        header.msg_controllen = CONTROL_BYTES as _;
        Ok(Self {
            no_iowait: uring.params().is_feature_no_iowait(),
            uring,
            buffers: ManuallyDrop::new([streams, datagrams]),
            datagram_header: ManuallyDrop::new(Box::new(header)),
            bell_reading: ManuallyDrop::new(Box::new([0; 8])),
            backlog: VecDeque::new(),
            in_flight: 0,
            enters: 0,
            enters_early: 0,
        })
    }

    /// Starts accepting, many times.
    pub(super) fn accept(&mut self, listener: BorrowedFd<'_>, key: OpKey) {
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let accept = opcode::AcceptMulti::new(Fd(listener.as_raw_fd())).flags(flags);
        self.submit_safe(accept.build(), key);
    }

    /// Tells once when `listener` has a connection.
    pub(super) fn poll(&mut self, listener: BorrowedFd<'_>, key: OpKey) {
        let poll = opcode::PollAdd::new(Fd(listener.as_raw_fd()), libc::POLLIN as u32);
        self.submit_safe(poll.build(), key);
    }

    /// Starts receiving into the provided buffers, many times.
    pub(super) fn receive(&mut self, stream: BorrowedFd<'_>, key: OpKey) {
        let receive = opcode::RecvMulti::new(Fd(stream.as_raw_fd()), STREAMS);
        self.submit_safe(receive.build(), key);
    }

    /// Starts receiving datagrams into the provided buffers, many times.
    pub(super) fn receive_datagrams(&mut self, socket: BorrowedFd<'_>, key: OpKey) {
        let header = &raw const **self.datagram_header;
        let receive = opcode::RecvMsgMulti::new(Fd(socket.as_raw_fd()), header, DATAGRAMS);
        self.submit_safe(receive.build(), key);
    }

    /// Reads the bell's counter once there is something in it.
    pub(super) fn read_bell(&mut self, bell: BorrowedFd<'_>) {
        let into = self.bell_reading.as_mut_ptr();
        let read = opcode::Read::new(Fd(bell.as_raw_fd()), into, 8);
        self.submit_safe(read.build(), OpKey::Bell);
    }

    /// Posts [`OpKey::Woken`] to another driver's ring; completes as `key` only if that fails.
    pub(super) fn ring(&mut self, other: BorrowedFd<'_>, key: OpKey) {
        let woken = OpKey::Woken.encode();
        let post = opcode::MsgRingData::new(Fd(other.as_raw_fd()), 0, woken, None);
        self.submit_safe(post.build().flags(Flags::SKIP_SUCCESS), key);
    }

    /// Cancels the operation, which completes one last time.
    pub(super) fn cancel(&mut self, key: OpKey) {
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::user_data(key.encode()));
        self.submit_safe(cancel.build().flags(Flags::SKIP_SUCCESS), OpKey::Cancel);
    }

    /// Sends all pieces.
    ///
    /// # Safety
    ///
    /// `memory` must neither change nor be dropped until the completion of `key` was seen.
    pub(super) unsafe fn send(
        &mut self,
        stream: BorrowedFd<'_>,
        memory: &mut SendMemory,
        key: OpKey,
    ) {
        let stream = Fd(stream.as_raw_fd());
        let send = match memory.shape() {
            SendShape::Piece(piece) => {
                // Longer pieces than the 32 bits of a request do not exist: a chunk holds each.
                let len = u32::try_from(piece.iov_len).expect("pieces are below 4 GB");
                let start = piece.iov_base.cast_const().cast();
                opcode::Send::new(stream, start, len).flags(SEND_FLAGS).build()
            }
            SendShape::Message(header) => {
                opcode::SendMsg::new(stream, header).flags(SEND_FLAGS as u32).build()
            }
        };
        self.submit_safe(send, key);
    }

    /// Queues a request whose memory is known to live long enough: none at all, the provided
    /// buffers, the header of datagrams or the bell's reading, which live in `self` until nothing
    /// is in flight, or that of a send, for which the caller of `send` answers.
    fn submit_safe(&mut self, entry: Entry, key: OpKey) {
        let entry = entry.user_data(key.encode());
        self.in_flight += usize::from(key.always_completes());
        if self.backlog.is_empty() && self.uring.submission().is_full() {
            self.enters_early += 1;
            // Whatever goes wrong comes again in the next turn; the backlog waits until then.
            let _ = self.enter(0, EnterFlags::empty(), None);
        }
        self.backlog.push_back(entry);
        self.fill_submission();
    }

    /// Moves what fits from the backlog to the submission queue.
    fn fill_submission(&mut self) {
        let mut submission = self.uring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `submit_safe`, the only one to add to the backlog, says why the memory of
            // each of its requests outlives the operation.
            if unsafe { submission.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// Submits what is queued, and waits for a completion if `wait` says so: `Some(None)` without
    /// limit. Does nothing where there is nothing to do.
    pub(super) fn turn(&mut self, wait: Option<Option<Duration>>) -> io::Result<()> {
        self.fill_submission();
        let Some(timeout) = wait else {
            let submission = self.uring.submission();
            let idle = submission.is_empty() && !submission.taskrun() && !submission.cq_overflow();
            drop(submission);
            return if idle { Ok(()) } else { self.enter(0, EnterFlags::GETEVENTS, None) };
        };
        let want = u32::from(self.uring.completion().is_empty());
        self.enter(want, EnterFlags::GETEVENTS, timeout)
    }

    fn enter(&mut self, want: u32, flags: EnterFlags, wait: Option<Duration>) -> io::Result<()> {
        self.enters += 1;
        let mut flags = flags | EnterFlags::EXT_ARG;
        if want > 0 && self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let timespec = wait.map(Timespec::from);
        let mut args = SubmitArgs::new();
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let queued = self.uring.submission().len() as u32;
        let submitter = self.uring.submitter();
        // SAFETY: `EXT_ARG` goes with the arguments' type, which is `repr(transparent)` over the
        // kernel's; they and the timespec they point to live until the call returns.
        let entered = unsafe { submitter.enter(queued, want, flags.bits(), Some(&args)) };
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Timed out, or a signal; or the kernel is short of memory or of room in the
                // completion queue: what was not submitted goes with the next turn.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// Whether there are completions, or entering the kernel would bring some.
    pub(super) fn ready(&mut self) -> bool {
        if !self.uring.completion().is_empty() {
            return true;
        }
        self.has_more()
    }

    /// Whether entering the kernel would bring completions.
    pub(super) fn has_more(&mut self) -> bool {
        let submission = self.uring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Whether completions are there that were not taken.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    pub(super) fn overflowed(&mut self) -> bool {
        self.uring.submission().cq_overflow()
    }

    pub(super) fn next_completion(&mut self) -> Option<Completion> {
        let entry: cqueue::Entry = self.uring.completion().next()?;
        let key = OpKey::decode(entry.user_data());
        let more = more(entry.flags());
        if key.always_completes() && !more {
            self.in_flight -= 1;
        }
        let result = entry.result();
        let group = if matches!(key, OpKey::Datagrams(_)) { DATAGRAMS } else { STREAMS };
        let len = usize::try_from(result).unwrap_or(0);
        let filled = buffer_select(entry.flags()).map(|buffer| Filled { group, buffer, len });
        let accepted = (matches!(key, OpKey::Accept(_)) && result >= 0).then(|| {
            // SAFETY: the result of a successful accept is a new descriptor that nobody else knows
            // of, and each completion is taken from the queue once.
            unsafe { OwnedFd::from_raw_fd(result) }
        });
        Some(Completion { key, result, more, filled, accepted })
    }

    /// Buffers for streams there are in all.
    pub(super) fn stream_buffers(&self) -> usize {
        self.buffers[usize::from(STREAMS)].count()
    }

    /// The bytes that a receive has brought. Whoever asks must give the buffer back, once, when
    /// done with them.
    pub(super) fn received(&self, filled: &Filled) -> &[u8] {
        let buffers = &self.buffers[usize::from(filled.group)];
        // SAFETY: `filled` was made from a completion, and giving it back consumes it, for which
        // the borrow of `self` must have ended.
        unsafe { buffers.filled(filled.buffer, filled.len) }
    }

    /// What is to be known of the datagrams that a receive has brought, which are at the end of its
    /// bytes.
    pub(super) fn received_datagrams(&self, filled: &Filled) -> Received {
        // What the kernel writes is never shorter than header and control data.
        let parsed = RecvMsgOut::parse(self.received(filled), &self.datagram_header);
        let parsed = parsed.expect("a received message has a header");
        let bytes = parsed.payload_data().len();
        let from = parse_address(parsed.name_data());
        Received::new(bytes, parsed.is_payload_truncated(), from, parsed.control_data())
    }

    /// Lets the kernel fill the buffer again.
    pub(super) fn give_back(&mut self, filled: Filled) {
        self.buffers[usize::from(filled.group)].give_back(filled.buffer);
    }

    /// Cancels everything and waits until nothing is in flight, up to `patience`. Whether nothing
    /// is; else memory lent to the kernel must never be freed.
    pub(super) fn quiesce(&mut self, patience: Duration) -> bool {
        const STEP: Duration = Duration::from_millis(10);
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            // Dropping a completion closes a connection that nobody wants any more.
            while self.next_completion().is_some() {}
            if self.in_flight == 0 {
                return true;
            }
            let everything = opcode::AsyncCancel2::new(CancelBuilder::any());
            self.submit_safe(everything.build().flags(Flags::SKIP_SUCCESS), OpKey::Cancel);
            if self.turn(Some(Some(STEP))).is_err() {
                return false;
            }
        }
        self.in_flight == 0
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if self.in_flight > 0 {
            return; // leaked: the kernel may still write there
        }
        // Bells hold the ring open beyond this, so its knowledge of the buffers must end here.
        let submitter = self.uring.submitter();
        if self.buffers.iter().any(|buffers| buffers.unregister(&submitter).is_err()) {
            return;
        }
        // SAFETY: nothing is in flight and the kernel has forgotten the buffers; not used again.
        unsafe { ManuallyDrop::drop(&mut self.buffers) };
        // SAFETY: nothing is in flight; not used again.
        unsafe { ManuallyDrop::drop(&mut self.datagram_header) };
        // SAFETY: nothing is in flight; not used again.
        unsafe { ManuallyDrop::drop(&mut self.bell_reading) };
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("in_flight", &self.in_flight)
            .field("backlog", &self.backlog.len())
            .finish_non_exhaustive()
    }
}

/// A buffer with received bytes, ours until it is given back.
#[derive(Debug)]
pub(super) struct Filled {
    group: u16,
    buffer: u16,
    len: usize,
}
