//! From a destination field to who is meant, fast for the names that are in use.

use super::table::GroupKey;
use crate::base::{GroupName, SessionId};

/// Who a destination field means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The members of a group.
    Group(GroupKey),
    /// One session of this daemon, by its private group.
    Session(SessionId),
    /// A session of another daemon.
    Elsewhere,
    /// Nobody.
    Nobody,
}

const SLOTS: usize = 256;

#[derive(Clone, Copy)]
struct Entry {
    name: GroupName,
    version: u64,
    destination: Destination,
}

/// Remembers recent lookups until any name comes or goes.
///
/// A direct-mapped cache: senders use few names, and a lookup in a tree of 100,000 groups costs
/// more than all the rest that a message needs.
pub(crate) struct Directory {
    entries: Box<[Option<Entry>]>,
    version: u64,
}

impl Directory {
    pub(crate) fn new() -> Self {
        Self { entries: vec![None; SLOTS].into(), version: 0 }
    }

    /// A group or session came or went: what is remembered may be wrong.
    pub(crate) fn invalidate(&mut self) {
        self.version += 1;
    }

    /// What `name` means, by `look_up` where it is not remembered.
    pub(crate) fn resolve(
        &mut self,
        name: &GroupName,
        look_up: impl FnOnce(&GroupName) -> Destination,
    ) -> Destination {
        let slot = &mut self.entries[slot_of(name)];
        if let Some(entry) = slot
            && entry.version == self.version
            && entry.name == *name
        {
            return entry.destination;
        }
        let destination = look_up(name);
        *slot = Some(Entry { name: *name, version: self.version, destination });
        destination
    }
}

fn slot_of(name: &GroupName) -> usize {
    let words = name.as_field().chunks_exact(8);
    let mixed = words.fold(0_u64, |mixed, word| {
        let word = u64::from_le_bytes(word.try_into().expect("chunks of eight bytes"));
        (mixed.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    });
    (mixed >> 56) as usize % SLOTS
}
