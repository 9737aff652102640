//! What a session asks of its daemon, once its bytes have been checked.

use super::{GroupName, Service};

/// One request of a connected session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<B> {
    /// Carry `frame` to the members of its destinations.
    Multicast {
        /// Which guarantee the sender wants.
        service: Service,
        /// The sender gets no copy.
        self_discard: bool,
        /// Destination fields behind the frame's header.
        destinations: u8,
        /// The whole frame in the byte order of daemons, as receivers will get it.
        frame: B,
    },
    /// Make the session a member. Ignored where it is one.
    Join(GroupName),
    /// End its membership. Ignored where it is none.
    Leave(GroupName),
    /// End the session: it leaves all its groups, and its name becomes free.
    Disconnect,
}
