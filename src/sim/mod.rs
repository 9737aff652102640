//! A deterministic cluster in one thread and virtual time, with every fault that a network and
//! machines can have, and a checker that judges what its daemons saw. `docs/testing.md` is its
//! manual.
//!
//! ```text
//! scenario.rs  draws a run from a seed     cluster.rs  event queue, daemons, traps
//! workload.rs  what clients do             network.rs  loss, delay, partitions
//! due.rs       what is done, what is due   host.rs     one machine
//! listen.rs    what daemons say            report.rs   what a run comes to
//! core.rs      what is simulated           payload.rs  messages that tell who they are
//! order.rs     the ordering core alone     group.rs    all of a daemon's protocol, with sessions
//! store.rs     memory that runs short      cover.rs    counts what runs met
//! traps.rs     what befalls daemons in some state
//! clients.rs   what sessions do            session.rs  their frames
//! reader.rs    who reads slowly            checker/     judges the trace
//! timeline.rs  shows it
//! ```

pub mod checker;
pub mod clients;
pub mod cluster;
pub mod core;
pub mod cover;
mod due;
pub mod group;
mod host;
mod listen;
pub mod network;
pub mod order;
pub mod payload;
mod reader;
mod refusal;
pub mod report;
pub mod rng;
pub mod scenario;
mod session;
pub mod store;
pub mod timeline;
mod traps;
pub mod workload;

pub use scenario::{Options, Run, run};

#[cfg(test)]
mod tests;
