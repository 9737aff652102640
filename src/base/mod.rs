//! The words and numbers that every layer shares. No I/O, no clocks, no atomics.

pub mod buffer;
pub mod event;
pub mod ids;
pub mod inet6;
pub mod limits;
pub mod name;
pub mod request;
pub mod seq;
pub mod service;
pub mod set;
pub mod time;

pub use buffer::{Buffer, Store};
pub use event::{Counter, Event, Tally};
pub use ids::{DaemonId, GroupId, RingId, SessionId};
pub use name::{DaemonName, GroupName, NameError, PrivateGroup, SessionName};
pub use request::Request;
pub use seq::Seq;
pub use service::Service;
pub use set::{DaemonSet, Rank};
pub use time::{Instant, OwnTime};
