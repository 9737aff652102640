//! The kernel: sockets, waiting for them, clocks and CPUs.
//!
//! `driver.rs` is the face that the runtime sees; `uring.rs` and `poll.rs` are the two ways behind
//! it. Nothing here knows what the bytes mean. Unsafe are the io_uring driver (`uring.rs`, what is
//! in its folder, and `operation.rs`), `datagram/raw.rs` and `peer.rs`.

mod accept;
mod bell;
pub mod clock;
pub mod cpu;
pub mod datagram;
pub mod driver;
pub mod lock;
pub mod memfd;
mod operation;
pub mod peer;
mod poll;
mod probe;
pub mod socket;
mod table;
mod uring;

pub use bell::Bell;
pub use clock::Clock;
pub use driver::{
    Choice, DatagramEvent, DatagramKey, Driver, DriverCounts, Event, Kind, ListenerKey, OpenError,
    Options, Report, StreamKey, Wait,
};
pub use memfd::Memfd;
pub use socket::{Listener, Peer, Stream};
