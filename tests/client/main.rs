//! Does the client library understand Spread's daemon, and withstand a broken one? All against
//! scripted daemons: real ones are in `tests/daemon.rs`.

#[path = "../recorded/mod.rs"]
mod recorded;

mod connect;
mod daemon;
mod line;
mod receive;
mod replay;
mod send;
#[cfg(feature = "tokio")]
mod tokio;
