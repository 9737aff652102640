//! Lists for fields that repeat: in place, or as they stand in a packet. Neither allocates.

use std::marker::PhantomData;
use std::ops::Deref;

/// Up to `N` values.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct List<T, const N: usize> {
    items: [T; N],
    len: usize,
}

impl<T: Copy + Default, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self { items: [T::default(); N], len: 0 }
    }
}

impl<T: Copy, const N: usize> List<T, N> {
    /// Adds `item`; returns whether there was room.
    #[must_use]
    pub fn push(&mut self, item: T) -> bool {
        let has_room = self.len < N;
        if has_room {
            self.items[self.len] = item;
            self.len += 1;
        }
        has_room
    }

    /// Keeps the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// As a slice that can be changed.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.items[..self.len]
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items[..self.len]
    }
}

impl<T: Copy + Default, const N: usize> FromIterator<T> for List<T, N> {
    /// What fits of `items`.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut list = Self::default();
        for item in items {
            if !list.push(item) {
                break;
            }
        }
        list
    }
}

impl<T: std::fmt::Debug, const N: usize> std::fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// What a list in a packet is of: any bytes are one.
pub trait Item: Copy {
    /// Bytes of one.
    const BYTES: usize;

    /// Reads one from as many bytes.
    fn read(bytes: &[u8]) -> Self;
}

/// A list as it stands in a packet, read where it is used: most of a token is never moved.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a, T> {
    bytes: &'a [u8],
    of: PhantomData<T>,
}

impl<'a, T: Item + 'a> Listed<'a, T> {
    /// The list that `bytes` are, which are whole items.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        assert!(bytes.len().is_multiple_of(T::BYTES));
        Self { bytes, of: PhantomData }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.bytes.len() / T::BYTES
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// All of them, in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = T> + 'a {
        self.bytes.chunks_exact(T::BYTES).map(T::read)
    }
}

impl<T: Item + std::fmt::Debug> std::fmt::Debug for Listed<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
