//! What is done with an input, and what must hold whatever it is. Shared by the fuzz targets and by
//! a test of the main package.

// Each program uses its own part.
#![allow(dead_code, unused_imports, reason = "each program uses a part of it")]

mod frames;
mod handshake;
pub(crate) mod loopback;

pub(crate) use frames::frames;
pub(crate) use handshake::handshake;
