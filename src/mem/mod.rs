//! Memory shared between threads: the buffer pool, the queues between cores, and the flag by
//! which a sleeping core is found. Unsafe code lives here, behind safe faces.
//!
//! The orderings of all atomics are argued in `docs/memory.md` and checked by the models in
//! `model.rs` (`RUSTFLAGS="--cfg loom" cargo test --release --lib mem::`).

mod atomic;
pub mod pool;
pub mod sleep;
pub mod spsc;
