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
    pub(crate) fn give_up(&self, keep_unread: bool) -> usize {
        let region = &self.end.region;
        let words = region.words().len();
        let kept = if keep_unread { self.unread() } else { [0..0, 0..0, 0..0] };
        let mut removed = 0;
        let ends = kept.iter().map(|kept| kept.end);
        let starts = kept.iter().map(|kept| kept.start).skip(1).chain([words]);
        for (from, to) in ends.zip(starts) {
            removed += region.remove(from..to);
        }
        words * WORD_BYTES - removed
    }

    /// Where the reader may be looking: at the control words, and at records, which may go around
    /// the end. In order; ranges may be empty.
    fn unread(&self) -> [Range<usize>; 3] {
        let at = &self.end.at;
        let control = at.control_words();
        // Relaxed: nothing that the reader has read is written again.
        let head = self.end.word(at.head).load(Ordering::Relaxed);
        // One that lies about it reads nothing more.
        if !(self.head..self.published).contains(&head) {
            return [0..control, control..control, control..control];
        }
        let place = |position| at.data + self.end.offset(position);
        let (first, end) = (place(head), place(self.published));
        match first < end {
            true => [0..control, first..end, end..end],
            false => [0..control, at.data..end, first..at.data + at.words],
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::pair;

    #[test]
    fn what_the_reader_has_not_given_back_stays() {
        let (mut writer, mut reader) = pair(256);
        let control = writer.end.at.control_words();
        let data = writer.end.at.data;
        assert_eq!(writer.unread(), [0..control, control..control, control..control]);
        for _ in 0..2 {
            assert_eq!(writer.write(&[1; 80]), Ok(true));
        }
        let _ = writer.publish();
        assert_eq!(writer.unread(), [0..control, data..data + 22, data + 22..data + 22]);
        reader.read(&mut [0; 80]).unwrap();
        let _ = reader.release();
        assert_eq!(writer.unread(), [0..control, data + 11..data + 22, data + 22..data + 22]);
        // Around the end, with a filler in front of it.
        assert_eq!(writer.write(&[1; 80]), Ok(true));
        assert_eq!(writer.unread()[1], data + 11..data + 22, "it is not published");
        let _ = writer.publish();
        assert_eq!(writer.unread(), [0..control, data..data + 11, data + 11..data + 32]);
    }
}
