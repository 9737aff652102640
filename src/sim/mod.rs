//! The simulator.
pub mod checker;
pub mod rng;
