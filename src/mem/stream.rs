//! The queue between a session and its daemon: bytes in records, in memory that both can write.
//!
//! The other side is not trusted: whatever it has written, a call here returns [`Corrupt`] at
//! worst. A record is one word of header (its length in the low half, its kind in the high half)
//! and its bytes, rounded up to words. It does not go around the end of the queue; where it would,
//! an empty record fills the rest. Positions count words and only grow:
//!
//! ```text
//! head <= next <= tail <= filled <= head + words
//!  |       |       |       `- the writer's: first word that it has not filled
//!  |       |       `- shared: first word that is not published
//!  |       `- the reader's: first record that it has not taken
//!  `- shared: first word that is not given back
//! ```
//!
//! The argument for each pair of accesses, and the layout: `docs/shared-memory.md`.

#![allow(unsafe_code)]

use super::atomic::{Arc, AtomicU64, Ordering, fence};
use super::layout::{Place, QueueSizes, WORD_BYTES};
use super::region::Region;
use super::shelf::{Shelved, Shelves};

/// The other side broke the queue: positions that go back, records that reach beyond them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shared memory is corrupt")]
pub struct Corrupt;

/// A header's high half: bytes follow.
const BYTES: u32 = 1;

/// A header's high half: two words follow, which say where on a shelf the bytes are.
const SHELVED: u32 = 3;

/// A header's high half: nothing of interest follows; the next record begins at the front.
const FILLER: u32 = 2;

fn header(kind: u32, len: usize) -> u64 {
    u64::from(kind) << 32 | len as u64
}

/// Words of a record with its header.
fn record_words(len: usize) -> u64 {
    (1 + len.div_ceil(WORD_BYTES)) as u64
}

/// The daemon's ends of a session's queues.
pub fn daemon_ends(region: Region, sizes: QueueSizes) -> (StreamReader, StreamWriter) {
    let region = Arc::new(region);
    let submission = End::new(&region, sizes.submission());
    (StreamReader::new(submission), StreamWriter::new(End::new(&region, sizes.delivery())))
}

/// The session's own ends of its queues.
pub fn session_ends(region: Region, sizes: QueueSizes) -> (StreamWriter, StreamReader) {
    let region = Arc::new(region);
    let submission = End::new(&region, sizes.submission());
    (StreamWriter::new(submission), StreamReader::new(End::new(&region, sizes.delivery())))
}

/// One queue in its region.
#[derive(Debug)]
struct End {
    region: Arc<Region>,
    at: Place,
}

impl End {
    fn new(region: &Arc<Region>, at: Place) -> Self {
        assert!(at.data + at.words <= region.words().len(), "the queue lies in its region");
        assert!(at.words.is_power_of_two());
        Self { region: Arc::clone(region), at }
    }

    fn word(&self, word: usize) -> &AtomicU64 {
        &self.region.words()[word]
    }

    /// Where a position lies in the queue.
    fn offset(&self, position: u64) -> usize {
        position as usize & (self.at.words - 1)
    }

    /// The words from a position on, which must not go around the end.
    fn data(&self, position: u64, words: usize) -> &[AtomicU64] {
        let start = self.at.data + self.offset(position);
        &self.region.words()[start..start + words]
    }

    /// Words from a position to the end of the queue.
    fn to_end(&self, position: u64) -> u64 {
        (self.at.words - self.offset(position)) as u64
    }

    /// A sleeper declares itself asleep; it must look once more before it sleeps.
    fn declare(&self, flag: usize) {
        // Relaxed, and a swap, as in `SleepFlag::prepare`.
        self.word(flag).swap(1, Ordering::Relaxed);
        // SeqCst: pairs with the fence in `needs_wake`.
        fence(Ordering::SeqCst);
    }

    /// Whether the other side must be woken, after what it waits for was published.
    fn needs_wake(&self, flag: usize) -> bool {
        // SeqCst: pairs with the fence in `declare`. Of the two one is first: if the sleeper's, it
        // is seen to sleep here; if this one, its last look sees what was published before it.
        fence(Ordering::SeqCst);
        let flag = self.word(flag);
        // Relaxed: the fence orders both. The load alone keeps the line shared.
        flag.load(Ordering::Relaxed) != 0 && flag.swap(0, Ordering::Relaxed) != 0
    }
}

/// The sending end.
#[derive(Debug)]
pub struct StreamWriter {
    end: End,
    /// First word that is not filled.
    filled: u64,
    /// What the shared tail holds, if the other side leaves it alone.
    published: u64,
    /// The shared head as last seen.
    head: u64,
}

impl StreamWriter {
    fn new(end: End) -> Self {
        Self { end, filled: 0, published: 0, head: 0 }
    }

    /// Most bytes that a record can have: with them it finds room at the latest when the queue is
    /// empty, wherever that is.
    pub fn record_bytes_max(&self) -> usize {
        (self.end.at.words / 2 - 1) * WORD_BYTES
    }

    /// Writes one record, to be published. `false`: there is no room.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    ///
    /// # Panics
    ///
    /// Above [`record_bytes_max`](Self::record_bytes_max).
    pub fn write(&mut self, bytes: &[u8]) -> Result<bool, Corrupt> {
        let fits = self.make_room(bytes.len())?;
        if fits {
            self.put(bytes);
        }
        Ok(fits)
    }

    /// Writes a record with as many of the `bytes` as there is room for; how many. Where the cut
    /// is has no meaning.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn write_some(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        let whole = &bytes[..bytes.len().min(self.record_bytes_max())];
        if self.write(whole)? {
            return Ok(whole.len());
        }
        // Less than that is free. Either up to the end of the queue or somewhere within.
        let free = self.free();
        let words = free.min(self.end.to_end(self.filled));
        let len = (words.saturating_sub(1) as usize * WORD_BYTES).min(whole.len());
        if len > 0 {
            self.put(&bytes[..len]);
        }
        Ok(len)
    }

    /// Has `fill` write a record of `len` bytes in its place, to be published; what they are before
    /// is unspecified. `None`: there is no room, and nothing was called.
    ///
    /// Only for a session: whoever may write to the memory meanwhile must be trusted.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    ///
    /// # Panics
    ///
    /// Above [`record_bytes_max`](Self::record_bytes_max).
    // Not public: that nobody else writes there is up to the client library, and the same holds for
    // `lent`.
    #[cfg(not(loom))]
    pub(crate) fn write_with<R>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> R,
    ) -> Result<Option<R>, Corrupt> {
        if !self.make_room(len)? {
            return Ok(None);
        }
        let start = self.end.at.data + self.end.offset(self.filled) + 1;
        let words = start..start + len.div_ceil(WORD_BYTES);
        // SAFETY: `make_room` found these words given back, and the reader, which in a session's
        // submission queue is the daemon, looks at nothing behind `tail`.
        let filled = fill(unsafe { self.end.region.lend_mut(words, len) });
        self.finish(BYTES, len);
        Ok(Some(filled))
    }

    /// Writes that a frame lies on a shelf, to be published with the frame. `false`: there is no
    /// room.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn write_shelved(&mut self, at: Shelved) -> Result<bool, Corrupt> {
        if !self.make_room(Shelved::BYTES)? {
            return Ok(false);
        }
        for (word, position) in at.to_words().into_iter().zip(self.filled + 1..) {
            // Relaxed: published by `publish`.
            self.end.data(position, 1)[0].store(word, Ordering::Relaxed);
        }
        self.finish(SHELVED, Shelved::BYTES);
        Ok(true)
    }

    /// Where the last record that was written ends; for [`has_given_back`](Self::has_given_back).
    pub fn position(&self) -> u64 {
        self.filled
    }

    /// Whether the reader has given back everything up to `position`.
    pub fn has_given_back(&self, position: u64) -> bool {
        // Acquire: pairs with the Release store in `StreamReader::give_back`; what was given back
        // has been read. It is not noted as seen: `has_new_room` tells of it. One that lies about
        // it has given back nothing; what it lied is found out by a write.
        let head = || self.end.word(self.end.at.head).load(Ordering::Acquire);
        self.head >= position || (position..=self.published).contains(&head())
    }

    /// Makes all that was written visible to the reader. Whether the reader must be woken.
    #[must_use]
    pub fn publish(&mut self) -> bool {
        if self.filled == self.published {
            return false;
        }
        // Release: pairs with the Acquire load in `StreamReader::refresh`; publishes the records.
        self.end.word(self.end.at.tail).store(self.filled, Ordering::Release);
        self.published = self.filled;
        self.end.needs_wake(self.end.at.reader_asleep)
    }

    /// Whether there is more room than at the last look.
    pub fn has_new_room(&self) -> bool {
        // Relaxed: only asks whether it is worthwhile to try again.
        self.end.word(self.end.at.head).load(Ordering::Relaxed) != self.head
    }

    /// The writer is about to wait for room: from here on it is woken for it, so it must look once
    /// more.
    pub fn prepare_sleep(&self) {
        self.end.declare(self.end.at.writer_asleep);
    }

    /// Finds room for a record and fills up the end of the queue if it must lie behind it.
    fn make_room(&mut self, len: usize) -> Result<bool, Corrupt> {
        assert!(len <= self.record_bytes_max(), "a record of {len} bytes is too long");
        let (words, to_end) = (record_words(len), self.end.to_end(self.filled));
        let needed = if words <= to_end { words } else { to_end + words };
        if self.free() < needed {
            self.refresh()?;
            if self.free() < needed {
                return Ok(false);
            }
        }
        if words > to_end {
            let filler = header(FILLER, (to_end as usize - 1) * WORD_BYTES);
            // Relaxed: published by `publish`.
            self.end.data(self.filled, 1)[0].store(filler, Ordering::Relaxed);
            self.filled += to_end;
        }
        Ok(true)
    }

    /// Writes a record where room for it was found.
    fn put(&mut self, bytes: &[u8]) {
        let first = self.end.at.data + self.end.offset(self.filled + 1);
        // Published by `publish`.
        self.end.region.store(first, bytes);
        self.finish(BYTES, bytes.len());
    }

    fn finish(&mut self, kind: u32, len: usize) {
        // Relaxed: published by `publish`.
        self.end.data(self.filled, 1)[0].store(header(kind, len), Ordering::Relaxed);
        self.filled += record_words(len);
    }

    fn free(&self) -> u64 {
        self.end.at.words as u64 - (self.filled - self.head)
    }

    fn refresh(&mut self) -> Result<(), Corrupt> {
        // Acquire: pairs with the Release store in `StreamReader::give_back`; the reader has read
        // what it gave back.
        let head = self.end.word(self.end.at.head).load(Ordering::Acquire);
        if head < self.head || head > self.published {
            return Err(Corrupt);
        }
        self.head = head;
        Ok(())
    }
}

/// The receiving end.
#[derive(Debug)]
pub struct StreamReader {
    end: End,
    /// First record that was not begun.
    next: u64,
    /// What the shared head holds, if the other side leaves it alone.
    released: u64,
    /// The shared tail as last seen.
    tail: u64,
    /// It is the last: whatever is published from now on is not looked at.
    closed: bool,
    /// Where the bytes of the record that was begun lie, and how many of them there are.
    record: u64,
    len: usize,
    /// How many of these are taken.
    taken: usize,
    /// They lie there, and not in the queue.
    shelved: Option<Shelved>,
    /// Something that lies on a shelf was taken and not given back.
    owes: bool,
    /// The shelves of a session; its daemon has none.
    shelves: Shelves,
}

/// What a reader can go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: all is taken.
    Nothing,
    /// The bytes of a record.
    Bytes,
    /// Bytes on a shelf that the session was handed, if it is one: it must take it.
    Shelf,
}

impl StreamReader {
    fn new(end: End) -> Self {
        let (shelved, owes, shelves) = (None, false, Shelves::default());
        let (next, released, tail, closed) = (0, 0, 0, false);
        let (record, len, taken) = (0, 0, 0);
        Self { end, next, released, tail, closed, record, len, taken, shelved, owes, shelves }
    }

    /// Looks at the queue for the last time: what is published up to here can still be read, and
    /// nothing that comes later.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn close(&mut self) -> Result<(), Corrupt> {
        self.refresh()?;
        self.closed = true;
        Ok(())
    }

    /// Copies bytes out, as many as there are and `into` takes; how many. Those of a record that
    /// is longer are cut at a word.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    pub fn read(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        let mut done = 0;
        while self.taken < self.len || self.begin_own()? {
            let left = self.len - self.taken;
            let room = into.len() - done;
            let len = if left <= room { left } else { room / WORD_BYTES * WORD_BYTES };
            self.copy_out(&mut into[done..done + len]);
            done += len;
            if len < left {
                break;
            }
        }
        Ok(done)
    }

    /// Begins a record that lies in the queue, as all those do that a session writes.
    fn begin_own(&mut self) -> Result<bool, Corrupt> {
        match self.begin()? {
            Begun::Nothing => Ok(false),
            Begun::Bytes => Ok(true),
            Begun::Shelf => Err(Corrupt),
        }
    }

    fn copy_out(&mut self, into: &mut [u8]) {
        debug_assert!(self.taken.is_multiple_of(WORD_BYTES));
        let first = self.record + (self.taken / WORD_BYTES) as u64;
        let words = self.end.data(first, into.len().div_ceil(WORD_BYTES));
        self.taken += into.len();
        let (whole, rest) = into.as_chunks_mut::<WORD_BYTES>();
        for (bytes, word) in whole.iter_mut().zip(words) {
            // Relaxed, here and below: published by the tail, as `refresh` says. A session that
            // writes them now gets some mixture of what it wrote.
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
        if let Some(word) = words.get(whole.len()) {
            let last = word.load(Ordering::Relaxed).to_ne_bytes();
            rest.copy_from_slice(&last[..rest.len()]);
        }
    }

    /// A shelf was handed over; they come in their order.
    pub fn add_shelf(&mut self, region: Region) {
        self.shelves.add(region);
    }

    /// Goes on to the next record if the last one is taken.
    ///
    /// # Errors
    ///
    /// [`Corrupt`].
    #[inline]
    pub fn begin(&mut self) -> Result<Begun, Corrupt> {
        while self.taken == self.len {
            if self.next == self.tail {
                self.refresh()?;
                if self.next == self.tail {
                    return Ok(Begun::Nothing);
                }
            }
            // Relaxed: published by the tail. Read once: it may say something else the next time.
            let header = self.end.data(self.next, 1)[0].load(Ordering::Relaxed);
            let (kind, len) = ((header >> 32) as u32, header as u32 as usize);
            let words = record_words(len);
            if words > self.tail - self.next || words > self.end.to_end(self.next) {
                return Err(Corrupt);
            }
            match kind {
                BYTES => {
                    (self.record, self.len, self.taken) = (self.next + 1, len, 0);
                    self.shelved = None;
                }
                SHELVED if len == Shelved::BYTES => {
                    if !self.begin_shelved()? {
                        return Ok(Begun::Shelf);
                    }
                }
                FILLER => {}
                _ => return Err(Corrupt),
            }
            self.next += words;
        }
        Ok(Begun::Bytes)
    }

    /// Begins the record that is next, whose bytes are on a shelf. `false`: which is not there.
    #[cold]
    fn begin_shelved(&mut self) -> Result<bool, Corrupt> {
        let words = self.end.data(self.next + 1, 2);
        // Relaxed: published by the tail. Read once.
        let at = Shelved::from_words([0, 1].map(|word: usize| words[word].load(Ordering::Relaxed)));
        if self.shelves.find(at)?.is_none() {
            return Ok(false);
        }
        (self.record, self.len, self.taken) = (self.next + 1, at.len as usize, 0);
        (self.shelved, self.owes) = (Some(at), true);
        Ok(true)
    }

    /// The bytes of the record that was begun and that are not taken, lent from where they lie.
    ///
    /// Only for a session: whoever may write to the memory meanwhile must be trusted.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn lent(&self) -> &[u8] {
        if let Some(at) = self.shelved {
            return self.lent_from_shelf(at);
        }
        let start = self.end.at.data + self.end.offset(self.record);
        let words = start..start + self.len.div_ceil(WORD_BYTES);
        // SAFETY: in a session's delivery queue the daemon published the record, `begin` checked
        // that it is there, and the daemon leaves it alone until `release`, for which the borrow
        // must have ended.
        unsafe { self.end.region.lend(words, self.taken..self.len) }
    }

    #[cfg(not(loom))]
    fn lent_from_shelf(&self, at: Shelved) -> &[u8] {
        let region = self.shelves.find(at).ok().flatten().expect("`begin` has found it");
        let first = at.first as usize;
        let words = first..first + self.len.div_ceil(WORD_BYTES);
        // SAFETY: the daemon published the frame with its record, `begin` checked that it lies
        // within, and the daemon leaves it alone until the record is given back by `release`, for
        // which the borrow must have ended.
        unsafe { region.lend(words, self.taken..self.len) }
    }

    /// Takes the first `bytes` of the record that was begun.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    #[inline]
    pub fn take(&mut self, bytes: usize) {
        assert!(bytes <= self.len - self.taken, "only what is there can be taken");
        self.taken += bytes;
    }

    /// Gives the room of all records that were taken back. Whether the writer must be woken.
    #[must_use]
    pub fn release(&mut self) -> bool {
        let before = self.released;
        self.give_back();
        self.released != before && self.end.needs_wake(self.end.at.writer_asleep)
    }

    /// The same for a writer that is not to be woken: a session, which waits for room by its
    /// socket and never calls [`StreamWriter::prepare_sleep`].
    pub fn give_back(&mut self) {
        let head = if self.taken < self.len { self.record - 1 } else { self.next };
        if head == self.released {
            return;
        }
        // Release: pairs with the Acquire load in `StreamWriter::refresh`; what lay there has been
        // read.
        self.end.word(self.end.at.head).store(head, Ordering::Release);
        self.released = head;
        self.owes = self.taken < self.len && self.shelved.is_some();
    }

    /// Whether so much is taken and not given back that it is time to: a quarter of the queue, or
    /// anything on a shelf, which is used again only when all have given it back.
    #[inline]
    pub fn should_release(&self) -> bool {
        self.owes || self.next - self.released >= self.end.at.words as u64 / 4
    }

    /// Whether there is nothing to take, or something is wrong. This is the last look before sleep.
    pub fn is_empty(&self) -> bool {
        // Acquire: pairs with the Release store in `StreamWriter::publish`.
        let tail = || self.end.word(self.end.at.tail).load(Ordering::Acquire);
        let is_last = || self.closed || self.tail == tail();
        self.taken == self.len && self.next == self.tail && is_last()
    }

    /// The reader is about to sleep: from here on it is woken, so it must look once more.
    pub fn prepare_sleep(&self) {
        self.end.declare(self.end.at.reader_asleep);
    }

    /// The reader is awake, and needs no waking.
    pub fn awake(&self) {
        // Relaxed: a writer that still reads "asleep" wakes in vain; one that does not published
        // before a `prepare_sleep` to come, whose fence then shows it.
        self.end.word(self.end.at.reader_asleep).swap(0, Ordering::Relaxed);
    }

    fn refresh(&mut self) -> Result<(), Corrupt> {
        if self.closed {
            return Ok(());
        }
        // Acquire: pairs with the Release store in `StreamWriter::publish`; makes the records up to
        // it readable.
        let tail = self.end.word(self.end.at.tail).load(Ordering::Acquire);
        if tail < self.tail || tail - self.released > self.end.at.words as u64 {
            return Err(Corrupt);
        }
        self.tail = tail;
        Ok(())
    }
}

mod remains;

#[cfg(test)]
pub(super) fn pair(bytes: usize) -> (StreamWriter, StreamReader) {
    let at = Place::alone(bytes);
    let region = Arc::new(Region::heap(at.region_bytes()));
    (StreamWriter::new(End::new(&region, at)), StreamReader::new(End::new(&region, at)))
}

#[cfg(all(test, not(loom)))]
mod tests;
