//! Madrigal: group communication for Linux LAN clusters.
//!
//! Programs connect to the daemon of their host, join named groups, and multicast to groups. Every
//! member sees the same messages in the same order together with the same membership changes
//! (Extended Virtual Synchrony). Unmodified Spread clients work.
//!
//! A program that wants to talk to a daemon needs [`client`] alone. The other modules are the
//! daemon, layer by layer; each may import only the layers that `docs/architecture.md` names:
//!
//! ```text
//! multicast   client/outbox.rs -> Unix socket or TCP
//! session     sys/driver.rs -> runtime/session_core.rs -> session/ -> wire/session.rs
//! order       runtime -> protocol/mod.rs -> protocol/group/
//! delivery    protocol poll_delivery -> session/fanout.rs
//! receive     runtime -> sys/driver.rs -> client/inbox.rs
//! ```

pub mod base;
// Under loom, words are no bytes that could be lent.
#[cfg(not(loom))]
pub mod client;
pub mod config;
pub mod mem;
pub mod observe;
pub mod protocol;
pub mod runtime;
pub mod session;
pub mod sim;
pub mod sys;
pub mod wire;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
