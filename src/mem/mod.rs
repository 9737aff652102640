//! Memory shared between cores: queues, the need-wake flag, the buffer pool.
//!
//! Nothing here blocks, and nothing allocates once it has reached its working size. How the parts
//! fit together, with the argument for every pair of atomic accesses: `docs/memory.md`.

pub mod atomic;
mod chunk;
pub mod pool;
pub mod sleep;
pub mod spsc;

pub use pool::{Pool, PoolOptions, PoolUsage, Slice};
pub use sleep::SleepFlag;
pub use spsc::{Consumer, Producer, queue};

#[cfg(all(test, loom))]
mod model;
