//! Bytes to values and back: no state, no allocation, and no panic on any input.

pub mod session;
