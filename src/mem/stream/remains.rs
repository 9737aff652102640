//! What becomes of a session's memory when the session is over.
//!
//! The session's process may keep it for ever, so its pages are given back to the system. If the
//! daemon ended the session, its process may still be reading what was delivered, and only the
//! rest is given back.

use std::ops::Range;

use super::StreamWriter;
use crate::mem::atomic::Ordering;
use crate::mem::layout::WORD_BYTES;

impl StreamWriter {
    /// Gives the whole region back to the system, whoever else maps it; with `keep_unread` all but
    /// what the reader has not given back, and the control words. How many bytes remain.
    ///
    /// From now on zeros are read there. This was the last use of the region in this process.
    pub fn give_up(&self, keep_unread: bool) -> usize {
        let region = &self.end.region;
        let words = region.words().len();
        let kept = if keep_unread { self.unread() } else { vec![0..0] };
        let mut removed = 0;
        let ends = kept.iter().map(|kept| kept.end);
        let starts = kept.iter().map(|kept| kept.start).skip(1).chain([words]);
        for (from, to) in ends.zip(starts) {
            removed += region.remove(from..to);
        }
        words * WORD_BYTES - removed
    }

    /// Where the reader may be looking: at the control words, and at records, which may go around
    /// the end.
    fn unread(&self) -> Vec<Range<usize>> {
        let at = &self.end.at;
        let control = 0..at.control_words();
        // Relaxed: nothing that the reader has read is written again.
        let head = self.end.word(at.head).load(Ordering::Relaxed);
        // One that lies about it reads nothing more.
        if !(self.head..self.published).contains(&head) {
            return vec![control];
        }
        let place = |position| at.data + self.end.offset(position);
        let (first, end) = (place(head), place(self.published));
        match first < end {
            true => vec![control, first..end],
            false => vec![control, at.data..end, first..at.data + at.words],
        }
    }
}
