//! Maps with a hash that is fast and the same in each run: nobody attacks a checker.

use std::hash::{BuildHasherDefault, Hasher};

pub(in crate::sim) type HashMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Fast>>;
pub(super) type HashSet<K> = std::collections::HashSet<K, BuildHasherDefault<Fast>>;

/// Multiplies and rotates.
#[derive(Default)]
pub(in crate::sim) struct Fast(u64);

impl Fast {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Fast {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            self.add(u64::from_le_bytes(*word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.add(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.add(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.add(value);
    }

    fn write_usize(&mut self, value: usize) {
        self.add(value as u64);
    }

    fn finish(&self) -> u64 {
        // The map takes the low bits, the multiplication makes the high ones good.
        self.0.rotate_left(26)
    }
}
