//! Memory shared between cores: queues, the need-wake flag, the buffer pool. And between processes:
//! the queues of a session that is attached by shared memory.
//!
//! Nothing here blocks, and nothing allocates once it has reached its working size. How the parts
//! fit together, with the argument for every pair of atomic accesses: `docs/memory.md`, and
//! `docs/shared-memory.md` for what other processes see.

pub mod atomic;
mod chunk;
pub mod layout;
pub mod pool;
pub mod region;
pub mod shelf;
pub mod sleep;
pub mod spsc;
pub mod stream;

pub use layout::QueueSizes;
pub use pool::{Pool, PoolOptions, PoolUsage, Slice};
pub use region::Region;
pub use shelf::{Shelf, Shelved};
pub use sleep::SleepFlag;
pub use spsc::{Consumer, Producer, queue};
pub use stream::{Corrupt, StreamReader, StreamWriter};

#[cfg(all(test, loom))]
mod model;
