//! Proves that a message costs the daemon no allocation in steady state, from the bytes of its
//! sender to the bytes for its receivers: sessions, protocol, pool and output together.
#![allow(unsafe_code, reason = "a global allocator cannot be written without it")]

#[path = "../benches/support/daemonless.rs"]
mod daemonless;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use madrigal::base::SessionId;
use madrigal::base::limits::CHUNK_BYTES;
use madrigal::wire::session::kind;

use daemonless::{Daemonless, message};

/// The system's allocator, counting calls by thread.
struct Counting;

thread_local! {
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

fn calls() -> usize {
    CALLS.with(Cell::get)
}

fn count() {
    CALLS.with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call goes to `System` as it came; counting touches no memory of the caller's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes of messages before the count begins: containers have grown by then, and the pool has
/// mapped the chunks that it needs in turns.
const WARM_UP_BYTES: usize = 4 * CHUNK_BYTES;
/// Turns that are counted.
const TURNS: usize = 500;
/// Messages of one turn.
const BATCH: usize = 8;

/// How the sender's bytes arrive.
#[derive(Clone, Copy, Debug)]
enum Arrival {
    /// All of a turn at once.
    Whole,
    /// In pieces of so many bytes, so that most frames are split.
    Pieces(usize),
    /// In pieces again, and the deliveries of each are made before the next comes.
    TurnPerPiece(usize),
}

const ARRIVALS: [Arrival; 4] =
    [Arrival::Whole, Arrival::Pieces(61), Arrival::Pieces(1000), Arrival::TurnPerPiece(97)];

/// Takes in `bytes` as `arrival` says; returns what was written.
fn turn(daemon: &mut Daemonless, sender: SessionId, bytes: &[u8], arrival: Arrival) -> usize {
    let step = match arrival {
        Arrival::Whole => bytes.len(),
        Arrival::Pieces(step) | Arrival::TurnPerPiece(step) => step,
    };
    let mut written = 0;
    for piece in bytes.chunks(step) {
        daemon.receive(sender, piece);
        if let Arrival::TurnPerPiece(_) = arrival {
            written += daemon.turn();
        }
    }
    written + daemon.turn()
}

/// Carries thousands of messages in each way of arriving, each to `copies` sessions, and returns
/// how often memory was asked for.
fn carry(daemon: &mut Daemonless, sender: SessionId, message: &[u8], copies: usize) -> usize {
    let bytes = message.repeat(BATCH);
    let mut asked = 0;
    for arrival in ARRIVALS {
        for _ in 0..WARM_UP_BYTES.div_ceil(bytes.len()) {
            turn(daemon, sender, &bytes, arrival);
        }
        let before = calls();
        for _ in 0..TURNS {
            let written = turn(daemon, sender, &bytes, arrival);
            assert_eq!(written, bytes.len() * copies, "{arrival:?}");
        }
        asked += calls() - before;
    }
    asked
}

/// A daemon with so many members of groups `g` and `h`, and a sender that is in `h` alone.
fn daemon(receivers: usize) -> (Daemonless, SessionId) {
    let mut daemon = Daemonless::new();
    for receiver in 0..receivers {
        let id = daemon.connect(&format!("r{receiver}"));
        daemon.join(id, "g");
        daemon.join(id, "h");
    }
    let sender = daemon.connect("sender");
    daemon.join(sender, "h");
    (daemon, sender)
}

#[test]
fn the_allocator_counts() {
    let before = calls();
    drop(Box::new(0_u64));
    assert_eq!(calls() - before, 2);
}

#[test]
fn a_message_to_a_group_allocates_nothing() {
    for receivers in [1, 10] {
        for data in [64, 1024] {
            let (mut daemon, sender) = daemon(receivers);
            let message = message("sender", kind::AGREED, &["g"], data);
            let asked = carry(&mut daemon, sender, &message, receivers);
            assert_eq!(asked, 0, "{data} B to {receivers}");
        }
    }
}

#[test]
fn a_message_to_several_groups_and_sessions_allocates_nothing() {
    let (mut daemon, sender) = daemon(10);
    // Two groups with common members, one member again by its private group, and nobody.
    let groups = ["g", "h", "#r3#d", "nobody", "#nobody#d"];
    let sent = message("sender", kind::SAFE, &groups, 64);
    assert_eq!(carry(&mut daemon, sender, &sent, 11), 0);
}

#[test]
fn a_message_that_its_sender_does_not_get_allocates_nothing() {
    let (mut daemon, sender) = daemon(10);
    let sent = message("sender", kind::FIFO | kind::SELF_DISCARD, &["h"], 64);
    assert_eq!(carry(&mut daemon, sender, &sent, 10), 0);
}

#[test]
fn a_private_message_allocates_nothing() {
    let (mut daemon, sender) = daemon(2);
    let sent = message("sender", kind::RELIABLE, &["#r1#d"], 1024);
    assert_eq!(carry(&mut daemon, sender, &sent, 1), 0);
}

#[test]
fn a_message_to_nobody_allocates_nothing() {
    let (mut daemon, sender) = daemon(1);
    let sent = message("sender", kind::AGREED, &["nobody"], 64);
    assert_eq!(carry(&mut daemon, sender, &sent, 0), 0);
}
