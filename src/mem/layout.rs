//! Where things lie in the memory that a session shares with its daemon.
//!
//! All of it is words of 8 bytes, in the byte order of the host. `docs/shared-memory.md` has the
//! table for readers; this file is what both sides compute with.

use crate::base::limits::{SHARED_QUEUE_BYTES_MAX, SHARED_QUEUE_BYTES_MIN};

/// Bytes of a word.
pub(super) const WORD_BYTES: usize = 8;

/// Words that no two writers should share: two cache lines, as processors fetch them in pairs.
const LINE: usize = 128 / WORD_BYTES;

/// Words of the control page, one page of memory.
const CONTROL: usize = 4096 / WORD_BYTES;

/// The sizes of a session's two queues, in bytes: both sides know them from the hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueSizes {
    /// From the session to its daemon.
    pub submission_bytes: usize,
    /// From the daemon to its session.
    pub delivery_bytes: usize,
}

impl QueueSizes {
    /// Whether queues can have these sizes: powers of two within their limits.
    pub fn are_legal(self) -> bool {
        let legal = |bytes: usize| {
            bytes.is_power_of_two()
                && (SHARED_QUEUE_BYTES_MIN..=SHARED_QUEUE_BYTES_MAX).contains(&bytes)
        };
        legal(self.submission_bytes) && legal(self.delivery_bytes)
    }

    /// Bytes of the whole region.
    pub fn region_bytes(self) -> usize {
        CONTROL * WORD_BYTES + self.submission_bytes + self.delivery_bytes
    }

    pub(super) fn submission(self) -> Place {
        Place::new(0, CONTROL, self.submission_bytes)
    }

    pub(super) fn delivery(self) -> Place {
        let data = CONTROL + self.submission_bytes / WORD_BYTES;
        Place::new(Place::CONTROL, data, self.delivery_bytes)
    }
}

/// Where one queue lies, as word numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Up to which word records are published. Written by the writer.
    pub(super) tail: usize,
    /// Up to which word they have been given back. Written by the reader.
    pub(super) head: usize,
    /// Not zero: the reader must be told of new records.
    pub(super) reader_asleep: usize,
    /// Not zero: the writer must be told of new room.
    pub(super) writer_asleep: usize,
    /// The first word of records.
    pub(super) data: usize,
    /// How many words of records, a power of two.
    pub(super) words: usize,
}

impl Place {
    /// Words of one queue's control block.
    const CONTROL: usize = 4 * LINE;

    /// Words up to which a region has no records.
    pub(super) fn control_words(&self) -> usize {
        self.data.min(CONTROL)
    }

    pub(super) fn new(control: usize, data: usize, bytes: usize) -> Self {
        Self {
            tail: control,
            head: control + LINE,
            reader_asleep: control + 2 * LINE,
            writer_asleep: control + 3 * LINE,
            data,
            words: bytes / WORD_BYTES,
        }
    }

    /// A queue with its control block alone in a region, for tests.
    #[cfg(test)]
    pub(super) fn alone(bytes: usize) -> Self {
        Self::new(0, Self::CONTROL, bytes)
    }

    /// Bytes of a region that holds this queue at its end.
    #[cfg(test)]
    pub(super) fn region_bytes(self) -> usize {
        (self.data + self.words) * WORD_BYTES
    }
}

const _: () = assert!(2 * Place::CONTROL <= CONTROL);
// The page in the docs names these offsets, and sessions of other languages use them.
const _: () = assert!(LINE * WORD_BYTES == 128 && Place::CONTROL * WORD_BYTES == 512);
const _: () = assert!(CONTROL * WORD_BYTES == 4096);
// Head and tail count words, 2^64 of which no queue lives to see.
const _: () = assert!(size_of::<usize>() <= size_of::<u64>());
const _: () = assert!(SHARED_QUEUE_BYTES_MIN.is_multiple_of(WORD_BYTES));
const _: () = assert!(SHARED_QUEUE_BYTES_MIN.is_power_of_two());
const _: () = assert!(SHARED_QUEUE_BYTES_MAX.is_power_of_two());

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn queues_lie_where_the_page_says() {
        let sizes = QueueSizes { submission_bytes: 1 << 16, delivery_bytes: 1 << 17 };
        let offsets = |place: Place| {
            [place.tail, place.head, place.reader_asleep, place.writer_asleep, place.data]
                .map(|word| word * WORD_BYTES)
        };
        assert_eq!(offsets(sizes.submission()), [0, 128, 256, 384, 4096]);
        assert_eq!(offsets(sizes.delivery()), [512, 640, 768, 896, 4096 + (1 << 16)]);
        assert_eq!(sizes.region_bytes(), 4096 + (1 << 16) + (1 << 17));
        assert_eq!(sizes.delivery().region_bytes(), sizes.region_bytes());
    }

    #[test]
    fn odd_sizes_are_no_queues() {
        let legal = |submission_bytes, delivery_bytes| {
            QueueSizes { submission_bytes, delivery_bytes }.are_legal()
        };
        let (min, max) = (SHARED_QUEUE_BYTES_MIN, SHARED_QUEUE_BYTES_MAX);
        assert!(legal(min, max) && legal(max, min));
        for wrong in [0, 8, min / 2, min + 8, 3 * min, 2 * max, usize::MAX] {
            assert!(!legal(wrong, min) && !legal(min, wrong), "{wrong}");
        }
    }
}
