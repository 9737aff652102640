//! One value for each session, found by its id at once.

use crate::base::SessionId;

/// Values by session: by core, then by slot.
pub(crate) struct BySession<T> {
    cores: Vec<Vec<Option<(SessionId, T)>>>,
}

impl<T> BySession<T> {
    pub(crate) fn new() -> Self {
        Self { cores: Vec::new() }
    }

    /// Keeps `value` for a session that has none.
    ///
    /// # Panics
    ///
    /// If the value of an earlier session in the same slot is still there.
    pub(crate) fn insert(&mut self, id: SessionId, value: T) {
        if self.cores.len() <= id.core() {
            self.cores.resize_with(id.core() + 1, Vec::new);
        }
        let slots = &mut self.cores[id.core()];
        if slots.len() <= id.slot() {
            slots.resize_with(id.slot() + 1, || None);
        }
        let slot = &mut slots[id.slot()];
        assert!(slot.is_none(), "{id:?} takes a slot whose session has not ended");
        *slot = Some((id, value));
    }

    pub(crate) fn get(&self, id: SessionId) -> Option<&T> {
        let slot = self.cores.get(id.core())?.get(id.slot())?.as_ref();
        slot.filter(|(found, _)| *found == id).map(|(_, value)| value)
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        let slot = self.cores.get_mut(id.core())?.get_mut(id.slot())?.as_mut();
        slot.filter(|(found, _)| *found == id).map(|(_, value)| value)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &T> {
        self.cores.iter().flatten().flatten().map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<T> {
        self.get(id)?;
        let (_, value) = self.cores[id.core()][id.slot()].take()?;
        Some(value)
    }
}
