//! Spread's client protocol: what a client and its daemon say to each other.
//!
//! A connection begins with a handshake of single bytes ([`handshake`]); then both sides send
//! frames back to back ([`frame`]). Frames of the daemon that tell of group views have a body of
//! their own ([`membership`]).

pub mod frame;
pub mod handshake;
pub mod membership;

pub use frame::{
    ByteOrder, Frame, FrameError, Header, Name, Names, RequestKind, check_request, kind, to_little,
};
pub use handshake::{Accept, AnswerError, AuthList, AuthMethods, Hello, Reject, Version};
pub use membership::{Cause, Regular};
