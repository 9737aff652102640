//! Bits of a frame's type.

use crate::base::Service;

/// [`Service::Unreliable`].
pub const UNRELIABLE: u32 = 0x0000_0001;
/// [`Service::Reliable`].
pub const RELIABLE: u32 = 0x0000_0002;
/// [`Service::Fifo`].
pub const FIFO: u32 = 0x0000_0004;
/// [`Service::Causal`].
pub const CAUSAL: u32 = 0x0000_0008;
/// [`Service::Agreed`].
pub const AGREED: u32 = 0x0000_0010;
/// [`Service::Safe`].
pub const SAFE: u32 = 0x0000_0020;
/// The six services; exactly one of them makes a frame a message.
pub const SERVICES: u32 = UNRELIABLE | RELIABLE | FIFO | CAUSAL | AGREED | SAFE;
/// The sender itself gets no copy.
pub const SELF_DISCARD: u32 = 0x0000_0040;
/// A view changed because a member joined.
pub const CAUSED_BY_JOIN: u32 = 0x0000_0100;
/// A view changed because a member left; without [`REGULAR`], the answer to one's own leave.
pub const CAUSED_BY_LEAVE: u32 = 0x0000_0200;
/// A view changed because a member disconnected.
pub const CAUSED_BY_DISCONNECT: u32 = 0x0000_0400;
/// A view changed because daemons were lost or found.
pub const CAUSED_BY_NETWORK: u32 = 0x0000_0800;
/// A new view.
pub const REGULAR: u32 = 0x0000_1000;
/// The transitional signal: the view is about to end.
pub const TRANSITIONAL: u32 = 0x0000_2000;
/// All membership bits.
pub const MEMBERSHIP: u32 = 0x0000_3f00;
/// Without meaning here, passed on.
pub const INTERNAL_14: u32 = 0x0000_4000;
/// Without meaning here, passed on.
pub const INTERNAL_15: u32 = 0x0000_8000;
/// Asks to join a group.
pub const JOIN: u32 = 0x0001_0000;
/// Asks to leave a group.
pub const LEAVE: u32 = 0x0002_0000;
/// Says goodbye.
pub const KILL: u32 = 0x0004_0000;
/// Between Spread's daemons only.
pub const GROUPS: u32 = 0x0008_0000;
/// Without meaning here, passed on.
pub const INTERNAL_20: u32 = 0x0010_0000;
/// Without meaning here, passed on.
pub const INTERNAL_21: u32 = 0x0020_0000;
/// The daemon gives a request back.
pub const REJECT: u32 = 0x0040_0000;
/// Spread's argument of a receive call; passed on.
pub const DROP_RECV: u32 = 0x0100_0000;
/// Of the flush library; passed on.
pub const DONT_BLOCK: u32 = 0x1000_0000;
/// Of the flush library; passed on.
pub const FLUSH_REQ: u32 = 0x2000_0000;
/// Of the flush library, on the wire; passed on.
pub const SUBGROUP_CAST: u32 = 0x4000_0000;
/// Not a flag: where set, the integers are little-endian.
pub const MARK: u32 = 0x8000_0080;
/// A frame of a client has exactly one of these.
pub const REQUESTS: u32 = SERVICES | JOIN | LEAVE | KILL;
/// A client that sets one of these would confuse other clients.
pub const DAEMON_ONLY: u32 = MEMBERSHIP | GROUPS | REJECT;

// Reversing the bytes of the mark does not change it, so it can be read before the order.
const _: () = assert!(MARK.swap_bytes() == MARK);
const _: () = assert!(REQUESTS & (DAEMON_ONLY | MARK | SELF_DISCARD) == 0);

/// The bit that asks for `service`.
pub const fn of(service: Service) -> u32 {
    match service {
        Service::Unreliable => UNRELIABLE,
        Service::Reliable => RELIABLE,
        Service::Fifo => FIFO,
        Service::Causal => CAUSAL,
        Service::Agreed => AGREED,
        Service::Safe => SAFE,
    }
}

/// The service whose bit is set in `kind`; the strongest if there are several.
pub fn service(kind: u32) -> Option<Service> {
    Service::ALL.into_iter().rev().find(|&service| kind & of(service) != 0)
}
