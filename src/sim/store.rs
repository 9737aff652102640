//! Memory of a simulated daemon, which may run short: it refuses by lot what `runtime::ring_pool`
//! may refuse, and nothing that this keeps a reserve for.

use crate::base::buffer::{Heap, HeapBuffer};
use crate::base::{Instant, Store};

use super::rng::Rng;

/// How short memory is, in per mille of what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    /// New data, and packets of data that come: the pool is full.
    pub ample: u32,
    /// What has to be delivered, the next packet in order among it: what is spared for it is used
    /// up as well.
    pub spare: u32,
}

impl Shortage {
    /// A shortage of some degree. Data may have no room at all; deliveries have some in the end, as
    /// sessions read, or are thrown out.
    pub fn random(rng: &mut Rng) -> Self {
        let ample = *rng.pick(&[50, 300, 900, 1_000]);
        let spare = *rng.pick(&[0, 50, 300, 900]);
        Self { ample, spare }
    }
}

/// The memory.
pub(super) struct Memory {
    shortage: Shortage,
    rng: Rng,
    /// How often it refused data, and deliveries.
    refused: (u64, u64),
}

impl Memory {
    /// Memory without bound, until [`Memory::set`]. It draws nothing from a lot before.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            shortage: Shortage::default(),
            rng: Rng::new(seed ^ 0x6d65_6d6f_7279),
            refused: (0, 0),
        }
    }

    pub(super) fn set(&mut self, shortage: Shortage) {
        self.shortage = shortage;
    }

    /// Whether a packet of data finds room when it comes, as `RingCore::receive` has it.
    /// `is_awaited`: nothing is delivered without it.
    pub(super) fn takes_data(&mut self, is_awaited: impl FnOnce() -> bool) -> bool {
        let Shortage { ample, spare } = self.shortage;
        let takes = !self.refuses(ample) || (is_awaited() && !self.refuses(spare));
        self.refused.0 += u64::from(!takes);
        takes
    }

    /// How often it refused data, and deliveries.
    pub(super) fn refused(&self) -> (u64, u64) {
        self.refused
    }

    fn refuses(&mut self, often: u32) -> bool {
        often > 0 && self.rng.chance(often)
    }
}

impl Store for Memory {
    type Buffer = HeapBuffer;

    fn store(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        let Shortage { ample, spare } = self.shortage;
        // The spare is asked when the pool is full.
        if self.refuses(ample) && self.refuses(spare) {
            self.refused.1 += 1;
            return None;
        }
        Heap.store(len, fill)
    }

    fn store_brief(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        Heap.store(len, fill)
    }

    fn store_if_ample(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Option<HeapBuffer> {
        if self.refuses(self.shortage.ample) {
            self.refused.0 += 1;
            return None;
        }
        Heap.store(len, fill)
    }
}

/// When what waits for memory is tried again, as the next turn of a daemon does.
pub(super) fn retry_at(now: Instant) -> Instant {
    now + std::time::Duration::from_micros(50)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(memory: &mut Memory, ask: impl Fn(&mut Memory) -> bool) -> usize {
        (0..1_000).filter(|_| !ask(memory)).count()
    }

    #[test]
    fn each_class_is_refused_as_often_as_it_may_be() {
        let mut memory = Memory::new(1);
        let data = |memory: &mut Memory| memory.store_if_ample(1, |_| ()).is_some();
        let whole = |memory: &mut Memory| memory.store(1, |_| ()).is_some();
        let brief = |memory: &mut Memory| memory.store_brief(1, |_| ()).is_some();
        assert_eq!(refused(&mut memory, data) + refused(&mut memory, whole), 0);
        memory.set(Shortage { ample: 1_000, spare: 300 });
        assert_eq!(refused(&mut memory, data), 1_000);
        assert!((250..350).contains(&refused(&mut memory, whole)));
        assert_eq!(refused(&mut memory, brief), 0);
        assert_eq!(refused(&mut memory, |memory| memory.takes_data(|| false)), 1_000);
        assert!((250..350).contains(&refused(&mut memory, |memory| memory.takes_data(|| true))));
    }
}
