//! Counting and telling: the numbers of the data path, the lines of the control path.
//!
//! The inner layers only keep tallies and queue events; what becomes of them is decided here.

pub mod counters;
pub mod log;

pub use counters::{Counters, totals_text};
