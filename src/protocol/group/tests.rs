//! The group layer by itself, without an order below it.

use super::*;
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::{DaemonId, DaemonName, RingId};

fn rank(index: usize) -> Rank {
    Rank::new(index).unwrap()
}

/// The groups of the first of three daemons, which is alone.
fn groups() -> Groups<HeapBuffer> {
    let daemon = |number: u32| {
        let name = DaemonName::new(format!("d{number}").as_bytes()).unwrap();
        Daemon { id: DaemonId::new(number), name }
    };
    let base = RingId { number: 1, leader: DaemonId::new(1) };
    let component = Component { base, together: DaemonSet::only(rank(0)) };
    Groups::new((1..=3).map(daemon).collect(), rank(0), component, 1000)
}

#[test]
fn what_strangers_asked_for_in_a_broken_exchange_is_left_to_their_own_table() {
    let mut groups = groups();
    let (stranger, group) = (SessionName::new(b"s").unwrap(), GroupName::new(b"g").unwrap());
    let ring = RingId { number: 2, leader: DaemonId::new(1) };
    groups.handle_regular(ring, DaemonSet::first_ranks(2));
    let join = Heap.copy(&Change::Join(stranger, group).emit()).unwrap();
    groups.handle_ordered(rank(1), join);
    assert!(groups.next_due().is_none(), "it waits for the exchange");
    assert!(groups.abandon_exchange());
    let (origin, _) = groups.next_due().expect("it is due as its ring is left");
    groups.apply(origin, Change::Join(stranger, group));
    assert!(groups.table.find(&group).is_none());
}
