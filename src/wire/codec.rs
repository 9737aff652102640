//! Cursors over packet bytes: fields follow one another, so no offset is written down twice.

use crate::base::{DaemonId, DaemonSet, RingId, Seq};

/// Reads fields from the front; `None` where the bytes end too soon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(field)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn seq(&mut self) -> Option<Seq> {
        self.u64().map(Seq::new)
    }

    pub(super) fn set(&mut self) -> Option<DaemonSet> {
        self.array().map(|bytes| DaemonSet::from_bits(u128::from_le_bytes(bytes)))
    }

    pub(super) fn ring(&mut self) -> Option<RingId> {
        let number = self.u64()?;
        Some(RingId { number, leader: DaemonId::new(self.u32()?) })
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// What is left.
    pub(super) fn rest(self) -> &'a [u8] {
        self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all was read: packets without data end where their fields end.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Writes fields to the front of a buffer that was made long enough.
#[derive(Debug)]
pub(super) struct Writer<'a>(&'a mut [u8]);

impl<'a> Writer<'a> {
    pub(super) fn new(bytes: &'a mut [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn bytes(&mut self, field: &[u8]) {
        let (into, rest) = std::mem::take(&mut self.0).split_at_mut(field.len());
        into.copy_from_slice(field);
        self.0 = rest;
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(super) fn seq(&mut self, value: Seq) {
        self.u64(value.get());
    }

    pub(super) fn set(&mut self, value: DaemonSet) {
        self.bytes(&value.bits().to_le_bytes());
    }

    pub(super) fn ring(&mut self, value: RingId) {
        self.u64(value.number);
        self.u32(value.leader.get());
    }

    pub(super) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    /// Asserts that the buffer was not longer than its fields.
    pub(super) fn end(self) {
        assert!(self.0.is_empty(), "a packet is as long as its fields");
    }
}
