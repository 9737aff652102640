//! Memory that a daemon writes and several sessions read: long frames are put there once for all
//! who receive them.
//!
//! A shelf is filled from front to back and cleared as a whole, when all readers have given back
//! what lies in it. Where a frame lies goes through each reader's own delivery queue, as a record
//! of [`Shelved`]; by giving that record back the reader gives back the frame.

use std::collections::VecDeque;

use super::layout::WORD_BYTES;
use super::region::Region;
use super::stream::Corrupt;

/// Shelves that a session must be able to look into: the last so many that it was handed.
pub const SHELVES_KNOWN: usize = 4;

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelved {
    /// Which shelf: how many the session had been handed before this one.
    pub shelf: u32,
    /// Where it begins, in words.
    pub first: u32,
    /// How many bytes it has.
    pub len: u32,
}

impl Shelved {
    /// Bytes of the record that says so.
    pub(super) const BYTES: usize = 2 * WORD_BYTES;

    pub(super) fn to_words(self) -> [u64; 2] {
        [u64::from(self.shelf) << 32 | u64::from(self.len), self.first.into()]
    }

    pub(super) fn from_words([head, first]: [u64; 2]) -> Self {
        Self { shelf: (head >> 32) as u32, first: first as u32, len: head as u32 }
    }
}

/// A shelf as the daemon sees it.
#[derive(Debug)]
pub struct Shelf {
    region: Region,
    /// Words that are taken, from the front.
    used: usize,
}

impl Shelf {
    /// Puts frames into `region`.
    pub fn new(region: Region) -> Self {
        Self { region, used: 0 }
    }

    /// Puts a frame on it, and says at which word; `None`: there is no room.
    pub fn put(&mut self, frame: &[u8]) -> Option<u32> {
        let words = frame.len().div_ceil(WORD_BYTES);
        if words > self.region.words().len() - self.used {
            return None;
        }
        let first = u32::try_from(self.used).ok()?;
        self.region.store(self.used, frame);
        self.used += words;
        Some(first)
    }

    /// Whether nothing lies there.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Takes everything away. All readers must have given it back.
    pub fn clear(&mut self) {
        self.used = 0;
    }
}

/// The shelves that a session was handed, as it sees them.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    regions: VecDeque<Region>,
    /// Number of the first of them.
    first: u32,
}

impl Shelves {
    /// One more was handed over.
    pub(super) fn add(&mut self, region: Region) {
        if self.regions.len() == SHELVES_KNOWN {
            self.regions.pop_front();
            self.first += 1;
        }
        self.regions.push_back(region);
    }

    /// The memory that a frame lies in; `None`: it has not come yet.
    pub(super) fn find(&self, at: Shelved) -> Result<Option<&Region>, Corrupt> {
        let index = at.shelf.checked_sub(self.first).ok_or(Corrupt)?;
        let Some(region) = self.regions.get(index as usize) else { return Ok(None) };
        let words = (at.len as usize).div_ceil(WORD_BYTES);
        let fits =
            (at.first as usize).checked_add(words).is_some_and(|end| end <= region.words().len());
        if fits { Ok(Some(region)) } else { Err(Corrupt) }
    }
}
