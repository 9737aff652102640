//! The kernel: sockets, waiting for them, clocks and CPUs.
//!
//! `driver.rs` is the face that the runtime sees; `uring.rs` and `poll.rs` are the two ways behind
//! it. Nothing here knows what the bytes mean. Only the
//! io_uring driver is unsafe: `uring.rs`, what is in its folder, and `operation.rs`.

mod accept;
mod bell;
pub mod clock;
pub mod cpu;
pub mod driver;
pub mod memfd;
mod operation;
mod poll;
mod probe;
pub mod socket;
mod table;
mod uring;

pub use bell::Bell;
pub use clock::Clock;
pub use driver::{
    Choice, Driver, DriverCounts, Event, Kind, ListenerKey, OpenError, Options, Report, StreamKey,
    Wait,
};
pub use memfd::Memfd;
pub use socket::{Listener, Peer, Stream};
