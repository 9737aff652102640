//! mem
pub mod pool;
pub mod sleep;
pub mod spsc;
