//! Test messages: a head that says which message it is, then bytes that follow from it.

use crate::base::{DaemonId, Service};

use super::checker::trace::{Content, Life, MessageId};

/// Smallest test message.
pub const HEAD_BYTES: usize = 12;

/// The payload of message `id`, `len` bytes long; at least [`HEAD_BYTES`].
pub fn payload(id: MessageId, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len.max(HEAD_BYTES));
    bytes.extend_from_slice(&id.origin.daemon.get().to_le_bytes());
    bytes.extend_from_slice(&id.origin.incarnation.to_le_bytes());
    bytes.extend_from_slice(&id.n.to_le_bytes());
    fill(&mut bytes, id.n, len);
    bytes
}

/// `len` bytes that follow from `n`.
pub fn filler(n: u32, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    fill(&mut bytes, n, len);
    bytes
}

fn fill(bytes: &mut Vec<u8>, n: u32, len: usize) {
    let mut word = u64::from(n) ^ 0x5bd1_e995;
    while bytes.len() < len {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let more = (len - bytes.len()).min(8);
        bytes.extend_from_slice(&word.to_le_bytes()[..more]);
    }
}

/// Which message begins with `head`; `None` where it is too short to say.
pub fn message_of(head: &[u8]) -> Option<MessageId> {
    let word = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let origin = Life { daemon: DaemonId::new(word(0)?), incarnation: word(4)? };
    Some(MessageId { origin, n: word(8)? })
}

/// What the checker compares of a message.
pub fn content(service: Service, payload: &[u8]) -> Content {
    // Four at a time, as one multiplication need not wait for the other's.
    let mut lanes = [payload.len() as u64, 1, 2, 3];
    let (blocks, rest) = payload.as_chunks::<32>();
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane = mixed(*lane, word);
        }
    }
    let (words, rest) = rest.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = mixed(*lane, word);
    }
    let hash = lanes.iter().fold(0, |hash, lane| mixed(hash, &lane.to_le_bytes()));
    Content { service, hash: mixed(hash, &last) }
}

fn mixed(hash: u64, word: &[u8; 8]) -> u64 {
    let hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9fb2_1c65_1e98_df25);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_message_and_any_change_shows() {
        let origin = Life { daemon: DaemonId::new(3), incarnation: 2 };
        let id = MessageId { origin, n: 77 };
        for len in [0, 12, 13, 100, 1_001] {
            let mut bytes = payload(id, len);
            assert_eq!(bytes.len(), len.max(HEAD_BYTES));
            assert_eq!(message_of(&bytes), Some(id));
            let right = content(Service::Safe, &bytes);
            for at in 0..bytes.len() {
                bytes[at] ^= 0x40;
                assert_ne!(content(Service::Safe, &bytes), right, "{at}");
                bytes[at] ^= 0x40;
            }
        }
        assert_eq!(message_of(&[1; 11]), None);
    }
}
