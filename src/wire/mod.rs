//! Bytes to values and back: no state, no panic on any input, and no allocation but where a
//! configuration changes. `session` is what clients speak, the other modules are what daemons speak
//! among each other.

mod codec;
pub mod commit;
pub mod data;
pub mod header;
pub mod join;
pub mod list;
pub mod ordered;
pub mod packet;
pub mod session;
pub mod token;

#[cfg(test)]
mod tests;
