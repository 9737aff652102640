//! Spread's client protocol: what a client and its daemon say to each other.
//!
//! A client of the same host may ask for shared memory first ([`attach`]); what the queues in it
//! carry is the same as on a socket.
//!
//! A connection begins with a handshake of single bytes ([`handshake`]); then both sides send
//! frames back to back ([`frame`]), whose type is a set of bits ([`kind`]). What clients ask for is
//! checked in [`request`]. Frames of the daemon that tell of group views have a body of their own
//! ([`membership`]).

pub mod attach;
pub mod frame;
pub mod handshake;
pub mod kind;
pub mod membership;
pub mod name;
pub mod request;

pub use attach::{AttachAnswer, AttachHello, AttachStatus};
pub use frame::{ByteOrder, Frame, FrameError, Header, to_little};
pub use handshake::{Accept, AnswerError, AuthList, AuthMethods, Hello, Reject, Version};
pub use membership::{Cause, Regular};
pub use name::{Name, Names};
pub use request::{RequestKind, check_request};
