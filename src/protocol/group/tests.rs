//! The group layer by itself, without an order below it.

use super::*;
use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::{DaemonId, DaemonName, GroupId, RingId};
use crate::wire::ordered::{Ordered, StateWriter};

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
    assert!(groups.handle_ordered(rank(1), join));
    assert!(groups.next_due().is_none(), "it waits for the exchange");
    assert!(groups.abandon_exchange());
    let (origin, _) = groups.next_due().expect("it is due as its ring is left");
    groups.apply(origin, Change::Join(stranger, group));
    assert!(groups.table.find(&group).is_none());
}

fn ring(number: u64) -> RingId {
    RingId { number, leader: DaemonId::new(1) }
}

/// What a daemon that comes from ring `base` with `together` tells ring 2 of one group.
fn state(base: u64, together: DaemonSet, members: &[Rank]) -> HeapBuffer {
    let component = Component { base: ring(base), together };
    let mut writer = StateWriter::new(ring(2), component);
    let (name, id) = (GroupName::new(b"g").unwrap(), GroupId { daemon: 1, time: 2, index: 3 });
    let session = SessionName::new(b"s").unwrap();
    let members = members.iter().map(|&rank| (rank, session));
    writer.group(&name, id, true, members, usize::MAX);
    Heap.copy(&writer.finish(true)).unwrap()
}

/// Applies what is due, and tells everything.
fn finish(groups: &mut Groups<HeapBuffer>) {
    groups.sessions.connect(SessionId::new(0, 0, 1), None, true).unwrap();
    assert!(groups.tell(&mut Heap, &mut Stream::new()));
    while let Some((origin, payload)) = groups.next_due() {
        let name = groups.daemons[origin.index()].name;
        if let Some(Ordered::Change(change)) = Ordered::parse(payload.as_ref(), name) {
            groups.apply(origin, change);
        }
        assert!(groups.tell(&mut Heap, &mut Stream::new()));
    }
}

#[test]
fn nobody_tells_of_daemons_that_are_not_its_own() {
    let sets: [&[usize]; 6] = [
        &[1, 9],    // one that is not configured
        &[1, 127],  // nor this one
        &[0, 1],    // me
        &[2],       // somebody else
        &[1, 2, 3], // one that is not in the ring
        &[],
    ];
    for set in sets {
        let mut groups = groups();
        groups.handle_regular(ring(2), DaemonSet::first_ranks(3));
        let together = set.iter().copied().map(rank).collect();
        let members: Vec<_> = set.iter().copied().map(rank).collect();
        assert!(!groups.handle_ordered(rank(1), state(1, together, &members)), "{set:?}");
        assert!(groups.handle_ordered(rank(1), state(1, DaemonSet::only(rank(1)), &members)));
        // Once for each.
        let again = state(7, DaemonSet::only(rank(1)), &members);
        assert!(!groups.handle_ordered(rank(1), again));
        finish(&mut groups);
    }
}
