//! What a session receives, as values that lend from its receive buffer.

use crate::base::{GroupId, GroupName, Service};
use crate::wire::session::frame::parse_hint;
use crate::wire::session::membership::{self, Sets, parse_id};
use crate::wire::session::{ByteOrder, Frame, Name, Names, Regular, kind};

use super::ReceiveError;

/// One thing that happened, in the session's order.
///
/// Messages and views come in one sequence, which all members of a group that stay connected share:
/// see the [module documentation](super).
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// Somebody multicast to a group of this session, or to its private group.
    Message(Message<'a>),
    /// A group that this session is in has a new view. Only with
    /// [`Options::membership`](super::Options::membership).
    View(View<'a>),
    /// The view is about to end because daemons were lost. Until the next [`View`] of the group,
    /// guarantees hold only among the members that come along into it.
    Transitional {
        /// The group.
        group: Name<'a>,
        /// Identity of the view that ends.
        group_id: GroupId,
    },
    /// This session's own leave has taken effect: nothing more comes from the group.
    SelfLeave {
        /// The group.
        group: Name<'a>,
    },
    /// The daemon gave a request back. Spread does so only where an access policy forbids it.
    Rejected(Rejected<'a>),
}

impl<'a> Event<'a> {
    pub(super) fn new(frame: Frame<'a>, own: &'a GroupName) -> Result<Self, ReceiveError> {
        let kind = frame.header.kind;
        let malformed = ReceiveError::Malformed { kind };
        if let Some(old_kind) = frame.old_kind {
            return Ok(Self::Rejected(Rejected { message: Message::new(frame), old_kind }));
        }
        if kind & kind::SERVICES != 0 {
            return Ok(Self::Message(Message::new(frame)));
        }
        let group = frame.name;
        if kind & kind::REGULAR != 0 {
            return View::new(frame, own).map(Self::View).ok_or(malformed);
        }
        if kind & kind::TRANSITIONAL != 0 {
            let id = frame.data.try_into().map_err(|_| malformed)?;
            let group_id = parse_id(frame.header.order, id);
            return Ok(Self::Transitional { group, group_id });
        }
        if kind & kind::CAUSED_BY_LEAVE != 0 {
            return Ok(Self::SelfLeave { group });
        }
        Err(malformed)
    }
}

/// A message to a group or to this session.
#[derive(Clone, Debug)]
pub struct Message<'a> {
    frame: Frame<'a>,
}

impl<'a> Message<'a> {
    fn new(frame: Frame<'a>) -> Self {
        Self { frame }
    }

    /// The private group of the session that sent it.
    pub fn sender(&self) -> Name<'a> {
        self.frame.name
    }

    /// The groups it was sent to, as the sender wrote them: with duplicates, and with those that do
    /// not exist.
    pub fn groups(&self) -> Names<'a> {
        Names::new(self.frame.names)
    }

    /// The service that the sender asked for.
    pub fn service(&self) -> Service {
        // A frame is a message because it has one of these bits.
        kind::service(self.kind()).unwrap_or(Service::Unreliable)
    }

    /// Whether the sender asked for no copy of its own.
    pub fn self_discard(&self) -> bool {
        self.kind() & kind::SELF_DISCARD != 0
    }

    /// The number that the sender gave the message, for the application to use.
    pub fn message_type(&self) -> i16 {
        parse_hint(self.frame.header.hint).0
    }

    /// Whether the sender's machine has the other byte order, which matters if the data holds
    /// integers as they lie in memory.
    pub fn endian_mismatch(&self) -> bool {
        parse_hint(self.frame.header.hint).1 != ByteOrder::NATIVE
    }

    /// What was sent.
    pub fn data(&self) -> &'a [u8] {
        self.frame.data
    }

    /// All type bits, for those that have no method of their own ([`kind`]).
    pub fn kind(&self) -> u32 {
        self.frame.header.kind
    }
}

/// Why a group has a new view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause<'a> {
    /// This member joined.
    Join(Name<'a>),
    /// This member left.
    Leave(Name<'a>),
    /// This member's session ended.
    Disconnect(Name<'a>),
    /// Daemons were lost or found: the members may differ by many. [`View::vs_sets`] tells who came
    /// together.
    Network,
}

/// A view: who is in a group from here on in the order, until the next view.
#[derive(Clone, Debug)]
pub struct View<'a> {
    group: Name<'a>,
    cause: Cause<'a>,
    members: &'a [[u8; crate::base::limits::GROUP_NAME_BYTES]],
    body: Regular<'a>,
    own: &'a GroupName,
}

impl<'a> View<'a> {
    fn new(frame: Frame<'a>, own: &'a GroupName) -> Option<Self> {
        let body = Regular::parse(frame.header.order, frame.data)?;
        let changed = || body.sets().next()?.next();
        let cause = match membership::Cause::of(frame.header.kind)? {
            membership::Cause::Join => Cause::Join(changed()?),
            membership::Cause::Leave => Cause::Leave(changed()?),
            membership::Cause::Disconnect => Cause::Disconnect(changed()?),
            membership::Cause::Network => Cause::Network,
        };
        Some(Self { group: frame.name, cause, members: frame.names, body, own })
    }

    /// The group.
    pub fn group(&self) -> Name<'a> {
        self.group
    }

    /// Why there is a new view.
    pub fn cause(&self) -> Cause<'a> {
        self.cause
    }

    /// Its members, in an order that is the same at all of them.
    pub fn members(&self) -> Names<'a> {
        Names::new(self.members)
    }

    /// The view's identity: equal at all its members. Compare for equality only.
    pub fn group_id(&self) -> GroupId {
        self.body.id
    }

    /// Place of this session among [`View::members`]: the members can share out work by it without
    /// a further word.
    pub fn own_index(&self) -> Option<usize> {
        self.members().position(|member| member == *self.own)
    }

    /// The virtual-synchrony sets.
    ///
    /// After [`Cause::Network`]: each holds the members that came together from their last view,
    /// and have delivered the same messages in it. After any other cause there is a single set
    /// with the member that joined, left or disconnected in it, as Spread has it.
    pub fn vs_sets(&self) -> Sets<'a> {
        self.body.sets()
    }

    /// Index of this session's own set in [`View::vs_sets`].
    pub fn own_vs_set_index(&self) -> usize {
        self.body.own_set()
    }

    /// This session's own set: after [`Cause::Network`], those that came with it.
    pub fn own_vs_set(&self) -> Names<'a> {
        self.vs_sets().nth(self.own_vs_set_index()).unwrap_or(Names::new(&[]))
    }
}

/// What the daemon gave back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// A message.
    Multicast(Service),
    /// To join the first of the groups.
    Join,
    /// To leave the first of the groups.
    Leave,
}

/// A request that the daemon gave back.
#[derive(Clone, Debug)]
pub struct Rejected<'a> {
    message: Message<'a>,
    old_kind: u32,
}

impl<'a> Rejected<'a> {
    /// What was asked for; `None` if the daemon does not say.
    pub fn request(&self) -> Option<Request> {
        match kind::service(self.old_kind) {
            Some(service) => Some(Request::Multicast(service)),
            None if self.old_kind & (kind::CAUSED_BY_JOIN | kind::JOIN) != 0 => Some(Request::Join),
            None if self.old_kind & (kind::CAUSED_BY_LEAVE | kind::LEAVE) != 0 => {
                Some(Request::Leave)
            }
            None => None,
        }
    }

    /// The private group of the session that asked: this one.
    pub fn sender(&self) -> Name<'a> {
        self.message.sender()
    }

    /// The groups of the request, and behind them the sender's private group.
    pub fn groups(&self) -> Names<'a> {
        self.message.groups()
    }

    /// The number that the request had.
    pub fn message_type(&self) -> i16 {
        self.message.message_type()
    }

    /// Its data.
    pub fn data(&self) -> &'a [u8] {
        self.message.data()
    }

    /// The type bits of the request.
    pub fn kind(&self) -> u32 {
        self.old_kind
    }
}
