//! The sending half of a session.

use std::collections::BTreeSet;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use crate::base::limits::{
    BODY_BYTES_MAX, CLIENT_BATCH_BYTES, CLIENT_FRAME_BYTES_MAX, DESTINATIONS_MAX,
    FRAME_HEADER_BYTES, GROUP_NAME_BYTES, SPREAD_BODY_BYTES_MAX, SPREAD_DESTINATIONS_MAX,
};
use crate::base::{GroupName, NameError, PrivateGroup, Service};
use crate::wire::session::frame::emit_hint;
use crate::wire::session::{ByteOrder, Header, kind};

use super::MulticastError;
use super::outgoing::Outgoing;
use super::socket::{Block, is_closed};

/// Data up to this size is copied behind its header: cheaper than telling the kernel of two pieces.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// Pieces of one scatter/gather write.
const PIECES_MAX: usize = 16;

/// How to send a message: the service and everything beside it.
///
/// ```
/// use madrigal::client::{Multicast, Service};
///
/// let quiet = Multicast::new(Service::Safe).message_type(7).self_discard(true);
/// assert_eq!(quiet, Multicast { message_type: 7, self_discard: true, ..Service::Safe.into() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multicast {
    /// How the message is ordered and delivered.
    pub service: Service,
    /// A number for the application's own use, delivered with the message.
    pub message_type: i16,
    /// Whether this session gets no copy, even where it is a member.
    pub self_discard: bool,
    /// Further type bits to pass on to the receivers, such as [`kind::SUBGROUP_CAST`].
    pub type_bits: u32,
}

impl Multicast {
    /// A message of type 0, also delivered to this session where it is a member.
    pub const fn new(service: Service) -> Self {
        Self { service, message_type: 0, self_discard: false, type_bits: 0 }
    }

    /// Sets [`Multicast::message_type`].
    #[must_use]
    pub const fn message_type(mut self, message_type: i16) -> Self {
        self.message_type = message_type;
        self
    }

    /// Sets [`Multicast::self_discard`].
    #[must_use]
    pub const fn self_discard(mut self, self_discard: bool) -> Self {
        self.self_discard = self_discard;
        self
    }

    /// Sets [`Multicast::type_bits`].
    #[must_use]
    pub const fn type_bits(mut self, type_bits: u32) -> Self {
        self.type_bits = type_bits;
        self
    }

    fn kind(&self) -> Result<u32, MulticastError> {
        let bits = self.type_bits & (kind::REQUESTS | kind::DAEMON_ONLY | kind::MARK);
        if bits != 0 {
            return Err(MulticastError::IllegalBits { bits });
        }
        let self_discard = if self.self_discard { kind::SELF_DISCARD } else { 0 };
        Ok(kind::of(self.service) | self_discard | self.type_bits)
    }
}

impl From<Service> for Multicast {
    fn from(service: Service) -> Self {
        Self::new(service)
    }
}

/// The sending half of a [`Session`](super::Session); it may live in a thread of its own.
///
/// Requests take effect in the order in which they are made. `multicast*`, [`join`](Self::join) and
/// [`leave`](Self::leave) write at once; [`queue`](Self::queue) collects a batch, which the next of
/// them, [`flush`](Self::flush), or its size sends. Dropping an outbox does not flush it.
#[derive(Debug)]
pub struct Outbox {
    outgoing: Outgoing,
    own: PrivateGroup,
    own_name: GroupName,
    /// Whole frames, the first of them perhaps written in part.
    batch: Vec<u8>,
    /// Bytes of `batch` that are written.
    written: usize,
    body_bytes_max: usize,
    groups_max: usize,
    block: Block,
    /// The groups that the session has asked to be in.
    joined: BTreeSet<GroupName>,
    /// The stream broke, maybe within a frame: nothing may follow.
    broken: bool,
}

impl Outbox {
    pub(super) fn new(outgoing: Outgoing, own: PrivateGroup, spread_limits: bool) -> Self {
        let (body_bytes_max, groups_max) = if spread_limits {
            (SPREAD_BODY_BYTES_MAX, SPREAD_DESTINATIONS_MAX)
        } else {
            (BODY_BYTES_MAX, DESTINATIONS_MAX)
        };
        Self {
            outgoing,
            own,
            own_name: own.to_name(),
            batch: Vec::with_capacity(CLIENT_BATCH_BYTES + CLIENT_FRAME_BYTES_MAX),
            written: 0,
            body_bytes_max,
            groups_max,
            block: Block::Wait,
            joined: BTreeSet::new(),
            broken: false,
        }
    }

    /// The session's own address: `#name#daemon`.
    pub fn private_group(&self) -> &PrivateGroup {
        &self.own
    }

    /// Asks to join `group`. The answer is an [`Event::View`](super::Event::View) of the group with
    /// this session in it; joining twice is answered by nothing.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`]; a private group cannot be joined.
    pub fn join(&mut self, group: &str) -> Result<(), MulticastError> {
        self.membership(kind::JOIN, group)
    }

    /// Asks to leave `group`. The answer is [`Event::SelfLeave`](super::Event::SelfLeave); until it
    /// comes, so may messages. Leaving without being a member is answered by nothing.
    ///
    /// # Errors
    ///
    /// As [`Outbox::join`].
    pub fn leave(&mut self, group: &str) -> Result<(), MulticastError> {
        self.membership(kind::LEAVE, group)
    }

    /// Sends `data` to all members of all `groups`, each of which gets one copy. A group may be
    /// another session's private group; this session need not be a member of any.
    ///
    /// # Errors
    ///
    /// Nothing of the message was or will be sent.
    pub fn multicast(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.multicast_with(&Multicast::new(service).message_type(message_type), groups, data)
    }

    /// As [`Outbox::multicast`], with every option there is.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub fn multicast_with(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.begin(multicast, groups, data.len())?;
        self.finish(&[IoSlice::new(data)], data.len())
    }

    /// As [`Outbox::multicast`]; the data are all of `pieces`, one after the other.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub fn multicast_vectored(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        pieces: &[IoSlice<'_>],
    ) -> Result<(), MulticastError> {
        let len = pieces.iter().fold(0_usize, |len, piece| len.saturating_add(piece.len()));
        self.begin(&Multicast::new(service).message_type(message_type), groups, len)?;
        self.finish(pieces, len)
    }

    /// As [`Outbox::multicast_with`]; the data are `len` bytes that `fill` writes, over bytes of no
    /// meaning. Over shared memory it writes them where the daemon reads them, without a copy.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`]; `fill` was not called then, unless the session is over.
    pub fn multicast_fill(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), MulticastError> {
        self.begin(multicast, groups, len)?;
        let mut fill = Some(fill);
        let head = FRAME_HEADER_BYTES + groups.len() * GROUP_NAME_BYTES;
        let frame = Unfinished::new(&mut self.batch, head);
        let head = &frame.batch[self.written..];
        let write = |bytes: &mut [u8]| {
            // The header, and before it what was queued.
            let (before, data) = bytes.split_at_mut(head.len());
            before.copy_from_slice(head);
            fill.take().expect("a message is written once")(data);
        };
        let sent = self.outgoing.send_in_place(head.len() + len, write, self.block);
        if let Some(fill) = fill {
            let start = frame.batch.len();
            frame.batch.resize(start + len, 0);
            fill(&mut frame.batch[start..]);
        }
        frame.finish();
        if self.check(sent)? {
            self.batch.clear();
            self.written = 0;
            return Ok(());
        }
        self.push()
    }

    /// As [`Outbox::multicast`], but the message waits in a batch: the way to send many small ones
    /// fast. Call [`Outbox::flush`] when there is no more.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub fn queue(
        &mut self,
        service: Service,
        groups: &[&str],
        message_type: i16,
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.queue_with(&Multicast::new(service).message_type(message_type), groups, data)
    }

    /// As [`Outbox::queue`], with every option there is.
    ///
    /// # Errors
    ///
    /// As [`Outbox::multicast`].
    pub fn queue_with(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        data: &[u8],
    ) -> Result<(), MulticastError> {
        self.begin(multicast, groups, data.len())?;
        self.batch.extend_from_slice(data);
        if self.queued_bytes() < CLIENT_BATCH_BYTES { Ok(()) } else { self.push() }
    }

    /// Writes the batch, and asks whether the daemon is still there.
    ///
    /// # Errors
    ///
    /// [`MulticastError::WouldBlock`] in non-blocking mode while a part is left; it stays queued.
    pub fn flush(&mut self) -> Result<(), MulticastError> {
        self.write_batch()?;
        self.ask()
    }

    /// As [`Outbox::flush`] in non-blocking mode, without asking.
    pub(super) fn write_batch(&mut self) -> Result<(), MulticastError> {
        if self.broken {
            return Err(MulticastError::Closed);
        }
        while self.wants_write() {
            let sent = self.outgoing.send(&self.batch[self.written..], self.block);
            self.written += self.check(sent)?;
        }
        self.batch.clear();
        self.written = 0;
        Ok(())
    }

    /// Whether something waits to be written: then [`Outbox::flush`] when the descriptor is
    /// writable.
    pub fn wants_write(&self) -> bool {
        self.queued_bytes() != 0
    }

    /// Bytes that wait to be written.
    pub fn queued_bytes(&self) -> usize {
        self.batch.len() - self.written
    }

    /// In non-blocking mode no call waits for the daemon. What cannot be written stays in the
    /// batch, and when that is full, requests fail with [`MulticastError::WouldBlock`].
    pub fn set_nonblocking(&mut self, nonblocking: bool) {
        self.block = if nonblocking { Block::Never } else { Block::Wait };
    }

    /// Says goodbye: the daemon ends the session behind all its requests. The other half then
    /// receives the end of the stream. Waits until all is written, in either mode.
    ///
    /// # Errors
    ///
    /// The connection broke before; the session ends anyway.
    pub fn disconnect(mut self) -> io::Result<()> {
        self.set_nonblocking(false);
        self.put_kill()?;
        self.write_batch().map_err(io::Error::from)
    }

    /// Puts the goodbye into the batch, which it may exceed by that.
    pub(super) fn put_kill(&mut self) -> Result<(), MulticastError> {
        // Before the goodbye, whose answer is the end of the connection as well.
        self.ask()?;
        self.put_header(kind::KILL, 0, 1, 0);
        self.batch.extend_from_slice(self.own_name.as_field());
        Ok(())
    }

    /// Fails if the daemon is known to be gone.
    pub(super) fn ask(&mut self) -> Result<(), MulticastError> {
        let answer = self.outgoing.ask();
        self.check(answer)
    }

    fn membership(&mut self, kind: u32, group: &str) -> Result<(), MulticastError> {
        let name = GroupName::new(group.as_bytes()).map_err(|error| illegal(group, error))?;
        self.reserve(FRAME_HEADER_BYTES + GROUP_NAME_BYTES)?;
        self.put_membership(kind, &name);
        self.push()?;
        if kind == kind::JOIN {
            self.joined.insert(name)
        } else {
            self.joined.remove(&name)
        };
        Ok(())
    }

    fn put_membership(&mut self, kind: u32, group: &GroupName) {
        self.put_header(kind, 0, 1, 0);
        self.batch.extend_from_slice(group.as_field());
    }

    /// Goes on where `former`, of a session that was lost, was: in its groups and in its mode. The
    /// joins may be left in the batch, which they may exceed.
    pub(super) fn succeed(&mut self, former: &Self) {
        self.block = former.block;
        self.joined.clone_from(&former.joined);
        for group in &former.joined {
            self.put_membership(kind::JOIN, group);
        }
        // One that is lost at once is seen to be at the next call, and knows its groups.
        let _ = self.push();
    }

    /// Ends the session without a goodbye.
    pub(super) fn hang_up(&mut self) {
        self.broken = true;
        self.outgoing.socket().hang_up();
    }

    /// Checks everything, then puts header and groups into the batch.
    fn begin(
        &mut self,
        multicast: &Multicast,
        groups: &[&str],
        data_bytes: usize,
    ) -> Result<(), MulticastError> {
        let kind = multicast.kind()?;
        let max = self.groups_max;
        if groups.len() > max {
            return Err(MulticastError::TooManyGroups { found: groups.len(), max });
        }
        let bytes = data_bytes.saturating_add(groups.len() * GROUP_NAME_BYTES);
        let max = self.body_bytes_max;
        if bytes > max {
            return Err(MulticastError::TooLong { bytes, max });
        }
        for group in groups {
            check_destination(group).map_err(|error| illegal(group, error))?;
        }
        self.reserve(FRAME_HEADER_BYTES + bytes)?;
        self.put_header(kind, multicast.message_type, groups.len(), data_bytes);
        for group in groups {
            let field = self.batch.len() + GROUP_NAME_BYTES;
            self.batch.extend_from_slice(group.as_bytes());
            self.batch.resize(field, 0);
        }
        Ok(())
    }

    /// Sends the batch and, behind it, the data that completes its last frame.
    fn finish(&mut self, pieces: &[IoSlice<'_>], data_bytes: usize) -> Result<(), MulticastError> {
        let mut taken = 0;
        if data_bytes > COPY_BYTES_MAX {
            match self.send_behind_batch(pieces, data_bytes) {
                Ok(sent) => taken = sent,
                Err(MulticastError::WouldBlock) => {}
                Err(error) => return Err(error),
            }
        }
        for piece in pieces {
            let skip = taken.min(piece.len());
            taken -= skip;
            self.batch.extend_from_slice(&piece[skip..]);
        }
        self.push()
    }

    /// Sends the batch and the data; how much of the data is sent if not all of it could be.
    fn send_behind_batch(
        &mut self,
        pieces: &[IoSlice<'_>],
        data_bytes: usize,
    ) -> Result<usize, MulticastError> {
        let mut taken = 0;
        while taken < data_bytes {
            let batch = &self.batch[self.written..];
            let mut gathered = [IoSlice::new(&[]); PIECES_MAX];
            let count = gather(&mut gathered, batch, pieces, taken);
            let sent = self.outgoing.send_pieces(&gathered[..count], self.block);
            let of_batch = batch.len();
            let sent = match self.check(sent) {
                Ok(sent) => sent,
                Err(MulticastError::WouldBlock) => break,
                Err(error) => return Err(error),
            };
            self.written += sent.min(of_batch);
            taken += sent - sent.min(of_batch);
        }
        Ok(taken)
    }

    /// Sends what can be sent; what cannot stays queued, which is no error.
    fn push(&mut self) -> Result<(), MulticastError> {
        match self.write_batch() {
            Err(MulticastError::WouldBlock) => Ok(()),
            other => other,
        }
    }

    /// Makes sure that a frame of `bytes` fits into the batch.
    fn reserve(&mut self, bytes: usize) -> Result<(), MulticastError> {
        if self.broken {
            return Err(MulticastError::Closed);
        }
        if self.wants_write() && self.queued_bytes() + bytes > CLIENT_BATCH_BYTES {
            self.push()?;
            if self.wants_write() && self.queued_bytes() + bytes > CLIENT_BATCH_BYTES {
                return Err(MulticastError::WouldBlock);
            }
        }
        // What is written makes way before the batch would have to grow.
        if self.batch.len() + bytes > self.batch.capacity() {
            self.batch.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    fn put_header(&mut self, kind: u32, message_type: i16, groups: usize, data_bytes: usize) {
        let order = ByteOrder::NATIVE;
        let header = Header {
            order,
            kind,
            name: *self.own_name.as_field(),
            destinations: groups as i32,
            hint: emit_hint(message_type, order),
            data_len: data_bytes as i32,
        };
        let mut bytes = [0; FRAME_HEADER_BYTES];
        header.emit(&mut bytes);
        self.batch.extend_from_slice(&bytes);
    }

    fn check<T>(&mut self, sent: io::Result<T>) -> Result<T, MulticastError> {
        sent.map_err(|error| {
            if error.kind() == io::ErrorKind::WouldBlock {
                return MulticastError::WouldBlock;
            }
            self.broken = true;
            if is_closed(&error) { MulticastError::Closed } else { MulticastError::Io(error) }
        })
    }
}

/// The last frame of a batch while its data are missing. Where they never come, because the program
/// that was to write them panics, nothing of the frame stays.
struct Unfinished<'a> {
    batch: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Unfinished<'a> {
    /// The last `head` bytes of `batch` are the frame's.
    fn new(batch: &'a mut Vec<u8>, head: usize) -> Self {
        let start = batch.len() - head;
        Self { batch, start }
    }

    /// The frame is whole, here or where it was sent to.
    fn finish(self) {
        std::mem::forget(self);
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.batch.truncate(self.start);
    }
}

impl AsFd for Outbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outgoing.as_fd()
    }
}

/// Collects `batch`, then `pieces` from their byte `skip` on; how many slices there are.
fn gather<'a>(
    into: &mut [IoSlice<'a>; PIECES_MAX],
    batch: &'a [u8],
    pieces: &'a [IoSlice<'a>],
    mut skip: usize,
) -> usize {
    let mut count = 0;
    let rest = pieces.iter().map(|piece| {
        let skipped = skip.min(piece.len());
        skip -= skipped;
        &piece[skipped..]
    });
    let parts = std::iter::once(batch).chain(rest).filter(|part| !part.is_empty());
    for (slot, part) in into.iter_mut().zip(parts) {
        *slot = IoSlice::new(part);
        count += 1;
    }
    count
}

fn check_destination(group: &str) -> Result<(), NameError> {
    if group.starts_with('#') {
        PrivateGroup::parse(group.as_bytes()).map(drop)
    } else {
        GroupName::new(group.as_bytes()).map(drop)
    }
}

fn illegal(group: &str, error: NameError) -> MulticastError {
    MulticastError::IllegalGroup { group: group.to_owned(), error }
}
