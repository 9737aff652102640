//! What waits to be written to one client: shared pieces of message bytes, in order.

use std::collections::VecDeque;

use crate::base::Buffer;
use crate::base::limits::FRAME_HEADER_BYTES;
use crate::wire::session::Header;

/// Bytes that lie side by side, and how many frames begin or go on in them.
#[derive(Debug)]
struct Piece<B> {
    bytes: B,
    /// Zero for bytes of the handshake.
    messages: usize,
}

/// The output of one session.
///
/// Messages are not copied: each piece refers to the bytes as they were stored once for all
/// receivers, and a run of messages that were stored one after the other is one piece.
#[derive(Debug)]
pub(crate) struct Outbox<B> {
    pieces: VecDeque<Piece<B>>,
    /// Bytes that are left of the first frame in the first piece.
    first_left: usize,
    bytes: usize,
    messages: usize,
}

impl<B: Buffer> Outbox<B> {
    pub(crate) fn new() -> Self {
        Self { pieces: VecDeque::new(), first_left: 0, bytes: 0, messages: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Messages that wait; a partly written one counts.
    pub(crate) fn messages(&self) -> usize {
        self.messages
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Appends bytes of the handshake.
    pub(crate) fn push_raw(&mut self, bytes: B) {
        self.push(&bytes, 0);
    }

    /// Appends one message.
    pub(crate) fn push_frame(&mut self, frame: &B) {
        self.push(frame, 1);
    }

    fn push(&mut self, bytes: &B, messages: usize) {
        let len = bytes.as_ref().len();
        self.bytes += len;
        self.messages += messages;
        if let Some(last) = self.pieces.back_mut()
            && last.messages > 0
            && messages > 0
            && last.bytes.absorb(bytes)
        {
            last.messages += messages;
            return;
        }
        if self.pieces.is_empty() {
            self.first_left = len;
        }
        self.pieces.push_back(Piece { bytes: bytes.clone(), messages });
    }

    /// The bytes to write next, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &B> {
        self.pieces.iter().map(|piece| &piece.bytes)
    }

    /// The same bytes in runs of whole frames, or what is left of one: pieces of up to `run_max`
    /// bytes as they are, longer ones frame by frame, and those whose frames have `long` bytes on
    /// average.
    pub(crate) fn runs(&self, run_max: usize, long: usize) -> impl Iterator<Item = &[u8]> {
        let mut first_left = Some(self.first_left);
        self.pieces.iter().flat_map(move |piece| {
            let mut rest = piece.bytes.as_ref();
            let mut messages = piece.messages;
            let run_max = if rest.len() >= messages.saturating_mul(long) { 0 } else { run_max };
            let mut first_left = first_left.take();
            std::iter::from_fn(move || {
                let len = match rest.len() {
                    0 => return None,
                    short if short <= run_max => short,
                    _ => first_left.unwrap_or_else(|| first_frame_len(rest, messages)),
                };
                first_left = None;
                messages = messages.saturating_sub(1);
                let run;
                (run, rest) = rest.split_at(len);
                Some(run)
            })
        })
    }

    /// Drops the first `sent` bytes: the socket has them.
    ///
    /// # Panics
    ///
    /// If fewer are there.
    pub(crate) fn consume(&mut self, mut sent: usize) {
        assert!(sent <= self.bytes, "a socket took {sent} of {} bytes", self.bytes);
        self.bytes -= sent;
        while sent > 0 {
            let front = self.pieces.front_mut().expect("bytes are in pieces");
            let len = front.bytes.as_ref().len();
            if sent < len {
                self.consume_partly(sent);
                return;
            }
            sent -= len;
            self.messages -= front.messages;
            self.pieces.pop_front();
            self.first_left = self
                .pieces
                .front()
                .map_or(0, |next| first_frame_len(next.bytes.as_ref(), next.messages));
        }
    }

    /// Drops bytes of the first piece, and counts the frames that end in them.
    fn consume_partly(&mut self, mut sent: usize) {
        let front = self.pieces.front_mut().expect("the piece that is partly sent");
        while sent >= self.first_left {
            sent -= self.first_left;
            front.bytes.advance(self.first_left);
            front.messages -= 1;
            self.messages -= 1;
            self.first_left = first_frame_len(front.bytes.as_ref(), front.messages);
        }
        front.bytes.advance(sent);
        self.first_left -= sent;
    }
}

/// Length of the first of so many whole frames.
fn first_frame_len(bytes: &[u8], messages: usize) -> usize {
    if messages <= 1 {
        return bytes.len();
    }
    let header = bytes.first_chunk::<FRAME_HEADER_BYTES>().expect("a frame has a header");
    Header::parse(header).frame_len().expect("a daemon's own frame has lengths")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Store;
    use crate::base::buffer::{Heap, HeapBuffer};
    use crate::base::limits::FRAME_HEADER_BYTES;

    /// Bytes that absorb whatever comes behind them, as densely stored ones do.
    #[derive(Clone, Debug)]
    struct Dense(Vec<u8>);

    impl AsRef<[u8]> for Dense {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Buffer for Dense {
        fn absorb(&mut self, next: &Self) -> bool {
            self.0.extend_from_slice(&next.0);
            true
        }

        fn advance(&mut self, bytes: usize) {
            self.0.drain(..bytes);
        }

        fn truncate(&mut self, bytes: usize) {
            self.0.truncate(bytes);
        }
    }

    fn frame(data: usize) -> Vec<u8> {
        let mut frame = vec![0; FRAME_HEADER_BYTES + data];
        // The mark of little-endian.
        frame[0] = 0x80;
        frame[3] = 0x80;
        frame[44..48].copy_from_slice(&(data as u32).to_le_bytes());
        frame
    }

    #[test]
    fn messages_are_counted_down_as_their_last_byte_goes() {
        let mut outbox = Outbox::new();
        for data in [0, 10, 20] {
            outbox.push_frame(&Dense(frame(data)));
        }
        assert_eq!((outbox.pieces().count(), outbox.messages(), outbox.bytes()), (1, 3, 174));
        let runs = |run_max| outbox.runs(run_max, usize::MAX).map(<[u8]>::len).collect::<Vec<_>>();
        assert_eq!((runs(174), runs(173), runs(0)), (vec![174], vec![48, 126], vec![48, 58, 68]));
        outbox.consume(47);
        assert_eq!(outbox.messages(), 3);
        outbox.consume(1);
        assert_eq!(outbox.messages(), 2);
        outbox.consume(59);
        assert_eq!(outbox.messages(), 1);
        outbox.consume(66);
        assert_eq!((outbox.messages(), outbox.bytes()), (1, 1));
        outbox.consume(1);
        assert!(outbox.is_empty());
        assert_eq!(outbox.messages(), 0);
    }

    #[test]
    fn any_split_of_the_output_leaves_the_same_counts() {
        for step in 1..200 {
            let mut outbox: Outbox<HeapBuffer> = Outbox::new();
            outbox.push_raw(Heap.copy(b"hand").unwrap());
            for data in [0, 100, 1] {
                outbox.push_frame(&Heap.copy(&frame(data)).unwrap());
            }
            let mut bytes = outbox.bytes();
            while bytes > 0 {
                let sent = step.min(bytes);
                outbox.consume(sent);
                bytes -= sent;
                let runs: Vec<_> = outbox.runs(0, usize::MAX).map(<[u8]>::len).collect();
                assert_eq!(runs.iter().sum::<usize>(), bytes);
                let begun = [245, 197, 49, 0].into_iter().filter(|&end| end < bytes).count();
                assert_eq!(runs.len(), begun, "{bytes} of 249 left");
                assert_eq!(outbox.bytes(), bytes);
                let starts = [245, 197, 49, 0];
                let whole = starts.iter().filter(|&&end| end < bytes).count();
                assert_eq!(outbox.messages(), whole.min(3), "{bytes} of 249 left");
            }
        }
    }
}
