//! Slots for sockets, and keys that notice when a slot was reused.

use slab::Slab;

/// Which slot, and which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) slot: u32,
    pub(super) generation: u32,
}

/// Things by [`Key`]. A key whose thing is gone finds nothing, even where the slot is in use again.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Slab<Entry<T>>,
    generation: u32,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    thing: T,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self { slots: Slab::new(), generation: 0 }
    }

    pub(super) fn insert(&mut self, thing: T) -> Key {
        // A stale key would have to outlive four billion sockets to be mistaken.
        self.generation = self.generation.wrapping_add(1);
        let slot = self.slots.insert(Entry { generation: self.generation, thing });
        let slot = u32::try_from(slot).expect("descriptors are ints, so sockets fit");
        Key { slot, generation: self.generation }
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.slots.get(key.slot as usize)?;
        (entry.generation == key.generation).then_some(&entry.thing)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.slots.get_mut(key.slot as usize)?;
        (entry.generation == key.generation).then_some(&mut entry.thing)
    }

    /// The key that finds what lies in `slot` now.
    pub(super) fn key_at(&self, slot: u32) -> Option<Key> {
        let generation = self.slots.get(slot as usize)?.generation;
        Some(Key { slot, generation })
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        Some(self.slots.remove(key.slot as usize).thing)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.slots.iter_mut().map(|(slot, entry)| {
            (Key { slot: slot as u32, generation: entry.generation }, &mut entry.thing)
        })
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.slots.drain().map(|entry| entry.thing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_of_a_removed_thing_does_not_find_its_successor() {
        let mut table = Table::new();
        let first = table.insert("first");
        assert_eq!(table.remove(first), Some("first"));
        let second = table.insert("second");
        assert_eq!(first.slot, second.slot);
        assert_eq!((table.get(first), table.get(second)), (None, Some(&"second")));
        assert_eq!(table.remove(first), None);
        assert_eq!(table.key_at(first.slot), Some(second));
    }
}
