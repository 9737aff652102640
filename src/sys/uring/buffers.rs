//! Receive buffers that the kernel picks from when bytes have arrived.
//!
//! One mapping holds the provided-buffer ring (io_uring_register_buf_ring(3)) and, behind it, the
//! buffers. The kernel takes entries from the front, we put buffers back at the tail.
#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::mem::size_of;
use std::sync::atomic::{AtomicU16, Ordering::Release};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

/// Buffers for bytes of streams.
pub(super) const STREAMS: u16 = 0;

/// Buffers for trains of packets.
pub(super) const DATAGRAMS: u16 = 1;

/// More than 2^15 the kernel does not take.
const COUNT_MAX: usize = 1 << 15;

pub(super) struct ReceiveBuffers {
    /// Keeps `entries` and `buffers` alive; never borrowed as a whole, since the kernel writes to
    /// parts of it.
    _memory: MmapMut,
    /// `count` entries, at the start of the mapping.
    entries: *mut BufRingEntry,
    /// `count` buffers of `bytes` each, behind the entries.
    buffers: *mut u8,
    bytes: usize,
    count: u16,
    group: u16,
    /// Where the next buffer is put back; wraps.
    tail: u16,
}

impl ReceiveBuffers {
    /// Maps at least `count` buffers of `bytes` each and hands all of them to the kernel.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        group: u16,
        count: usize,
        bytes: usize,
    ) -> io::Result<Self> {
        let count = count.clamp(1, COUNT_MAX).next_power_of_two();
        let entry_bytes = count * size_of::<BufRingEntry>();
        let mut memory = MmapMut::map_anon(entry_bytes + count * bytes)?;
        let base = memory.as_mut_ptr();
        // SAFETY: the mapping is longer than the entries.
        let buffers = unsafe { base.add(entry_bytes) };
        let count = count as u16;
        // SAFETY: the mapping begins on a page, holds `count` entries, and outlives the
        // registration: `Kernel` unregisters, or ends all operations, before it drops the mapping,
        // and else leaks it.
        unsafe { submitter.register_buf_ring_with_flags(base as u64, count, group, 0) }?;
        let entries = base.cast();
        let mut this = Self { _memory: memory, entries, buffers, bytes, count, group, tail: 0 };
        for id in 0..count {
            this.give_back(id);
        }
        Ok(this)
    }

    /// Makes the kernel forget the buffers.
    pub(super) fn unregister(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        submitter.unregister_buf_ring(self.group)
    }

    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The first `len` bytes of a buffer that the kernel has filled.
    ///
    /// # Safety
    ///
    /// The kernel must have named the buffer in a completion, and it must not have been given back
    /// since, nor be while the result lives.
    pub(super) unsafe fn filled(&self, id: u16, len: usize) -> &[u8] {
        assert!(id < self.count);
        assert!(len <= self.bytes);
        // SAFETY: `id` is below `count`, so the buffer is inside the mapping.
        let start = unsafe { self.buffers.add(usize::from(id) * self.bytes) };
        // SAFETY: inside the mapping as `len` fits a buffer, initialised as mappings are zeroed;
        // the kernel does not write to it until it gets it back, which the caller rules out.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Puts a buffer back for the kernel to fill.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        // SAFETY: `id` is below `count`, so the buffer is inside the mapping.
        let start = unsafe { self.buffers.add(usize::from(id) * self.bytes) };
        // The count is a power of two.
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: `index` is below `count`, so the entry is inside the mapping.
        let entry = unsafe { self.entries.add(index) };
        // SAFETY: aligned and inside the mapping; the kernel reads entries only between its head
        // and the tail, and there are `count` buffers, so this one lies outside until the store
        // below. It never writes to entries.
        let entry = unsafe { &mut *entry };
        entry.set_addr(start as u64);
        entry.set_len(self.bytes as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: `entries` is the base address of the registered entries, all initialised.
        let tail = unsafe { BufRingEntry::tail(self.entries) };
        // SAFETY: aligned, inside the mapping, and otherwise read only by the kernel, atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Release: pairs with the kernel's acquire load of the tail; publishes the entry above.
        tail.store(self.tail, Release);
    }
}

impl fmt::Debug for ReceiveBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiveBuffers({})", self.count)
    }
}
