//! A daemon of two cores under a script of clients: split bytes, both byte orders, joins, leaves
//! and ends, slow sockets, throttles, holds, short memory. What comes out must be what the model
//! says, byte for byte: each message once to each member and to nobody else, in one order.

mod conn;
mod world;

use madrigal::session::credit::Bounds;

use super::reader::Reader;
use super::script::Step;
use world::World;

/// What may wait for a client: the first byte of a script.
pub(crate) fn bounds(choice: u8) -> Bounds {
    let messages_max = match choice >> 1 & 7 {
        0 => 0,
        1..=4 => 8,
        _ => 100,
    };
    let bytes_max = if choice & 16 == 0 { 1 << 20 } else { 4000 };
    Bounds { messages_max, bytes_max, hold_senders: choice & 1 == 1 }
}

/// Plays a script, then lets everything come to rest and everybody go.
pub(crate) fn run(input: &[u8]) {
    let mut script = Reader::new(input);
    let mut world = World::new(bounds(script.byte()));
    for _ in 0..STEPS_MAX {
        let Some(step) = Step::read(&mut script) else { break };
        world.step(step);
    }
    world.come_to_rest();
    world.end_all();
}

/// Steps of one script: a fuzzer would make them endless.
const STEPS_MAX: usize = 2000;
