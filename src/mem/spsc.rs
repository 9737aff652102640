//! The queue between two cores: bounded, one producer, one consumer, in batches.
//!
//! Slots are named by ever-growing (wrapping) indices; `index & mask` is the place. In order:
//!
//! ```text
//! head <= next <= tail <= staged <= head + slots
//!  |       |       |       `- first slot that the producer has not filled
//!  |       |       `- first slot that is not published
//!  |       `- first slot that the consumer has not taken
//!  `- first slot that the consumer has not given back
//! ```
//!
//! `head` and `tail` are shared; each side keeps a copy of the other's and looks at the original
//! only when the copy says that it cannot go on. What wakes a sleeping consumer: `mem::sleep`.

#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use super::atomic::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Makes a queue of `slots` slots.
///
/// All memory is taken here. What is left in the queue is dropped with the later of the two ends.
///
/// # Panics
///
/// Unless `slots` is a power of two.
pub fn queue<T: Send>(slots: usize) -> (Producer<T>, Consumer<T>) {
    assert!(slots.is_power_of_two(), "a queue has a power of two of slots, not {slots}");
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        tail: CachePadded::new(AtomicUsize::new(0)),
        head: CachePadded::new(AtomicUsize::new(0)),
    });
    let producer = Producer { shared: Arc::clone(&shared), staged: 0, published: 0, head: 0 };
    let consumer = Consumer { shared, next: 0, released: 0, tail: 0 };
    (producer, consumer)
}

/// The sending end of a [`queue`].
pub struct Producer<T: Send> {
    shared: Arc<Shared<T>>,
    /// First index that is not filled.
    staged: usize,
    /// What `Shared::tail` holds: only this end writes it.
    published: usize,
    /// `Shared::head` as last seen.
    head: usize,
}

impl<T: Send> Producer<T> {
    /// Puts `value` into a slot, where the consumer does not see it before the next
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// Gives the value back when no slot is free.
    #[inline]
    pub fn push(&mut self, value: T) -> Result<(), T> {
        if self.staged.wrapping_sub(self.head) == self.shared.slots.len() && self.free() == 0 {
            return Err(value);
        }
        let slot = self.shared.slot(self.staged);
        // SAFETY: `staged - head < slots`, so the consumer has given this slot back (the Acquire
        // load in `free` saw that) and does not look at it before `tail` passes it, in `publish`.
        slot.with_mut(|slot| unsafe { slot.write(MaybeUninit::new(value)) });
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    /// Makes everything that was pushed visible to the consumer.
    ///
    /// Returns whether there was anything: then the consumer may have to be woken
    /// ([`SleepFlag::needs_wake`](super::SleepFlag::needs_wake)).
    #[inline]
    pub fn publish(&mut self) -> bool {
        let news = self.staged != self.published;
        if news {
            // Release: pairs with the Acquire loads in `Consumer::pop` and `Consumer::is_empty`;
            // publishes the slots that `push` filled.
            self.shared.tail.store(self.staged, Ordering::Release);
            self.published = self.staged;
        }
        news
    }

    /// How many pushes are certain to succeed now.
    ///
    /// Looks at the consumer's index: once a batch is right, once a message is wasteful.
    #[inline]
    pub fn free(&mut self) -> usize {
        // Acquire: pairs with the Release store in `Consumer::release`; the consumer has moved the
        // values out of the slots that it gave back.
        self.head = self.shared.head.load(Ordering::Acquire);
        self.shared.slots.len() - self.staged.wrapping_sub(self.head)
    }
}

impl<T: Send> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
    }
}

impl<T: Send> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("slots", &self.shared.slots.len()).finish_non_exhaustive()
    }
}

/// The receiving end of a [`queue`].
pub struct Consumer<T: Send> {
    shared: Arc<Shared<T>>,
    /// First index that is not taken.
    next: usize,
    /// What `Shared::head` holds: only this end writes it.
    released: usize,
    /// `Shared::tail` as last seen.
    tail: usize,
}

impl<T: Send> Consumer<T> {
    /// Takes the oldest published value. `None` when there is none.
    ///
    /// Its slot goes back to the producer with the next [`release`](Self::release), or at once
    /// when half the queue is held back.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.tail {
            // Acquire: pairs with the Release store in `Producer::publish`; makes the slots up to
            // `tail` readable.
            self.tail = self.shared.tail.load(Ordering::Acquire);
            if self.next == self.tail {
                return None;
            }
        }
        let slot = self.shared.slot(self.next);
        // SAFETY: `next < tail`, so the producer filled this slot before it published `tail`, and
        // does not touch it again before `head` passes it, in `release`.
        let value = slot.with_mut(|slot| unsafe { slot.read() });
        self.next = self.next.wrapping_add(1);
        if self.next.wrapping_sub(self.released) * 2 >= self.shared.slots.len() {
            self.release();
        }
        // SAFETY: the producer wrote a whole value there, and `next` moved on, so that it is taken
        // only once.
        Some(unsafe { value.assume_init() })
    }

    /// Gives the slots of all taken values back to the producer.
    #[inline]
    pub fn release(&mut self) {
        if self.next != self.released {
            // Release: pairs with the Acquire load in `Producer::free`; the values have been moved
            // out of the slots before.
            self.shared.head.store(self.next, Ordering::Release);
            self.released = self.next;
        }
    }

    /// Whether nothing published is left to take. This is the last look before sleep.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Acquire: pairs with the Release store in `Producer::publish`.
        self.next == self.tail && self.next == self.shared.tail.load(Ordering::Acquire)
    }
}

impl<T: Send> Drop for Consumer<T> {
    fn drop(&mut self) {
        // Or `Shared` would drop them a second time.
        self.release();
    }
}

impl<T: Send> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("slots", &self.shared.slots.len()).finish_non_exhaustive()
    }
}

/// What both ends share. Each index has a cache line of its own, as the ends write them.
struct Shared<T> {
    /// A power of two of them. Those from `head` up to `tail` hold values.
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Written by the producer.
    tail: CachePadded<AtomicUsize>,
    /// Written by the consumer.
    head: CachePadded<AtomicUsize>,
}

// SAFETY: it owns values of `T`, which may move to another thread.
unsafe impl<T: Send> Send for Shared<T> {}

// SAFETY: a slot belongs to one end at a time: `push`, `pop` and the indices see to it. Values only
// move through, no reference to one is ever shared.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    #[inline]
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed: both ends are gone, and the count of the `Arc` ordered their stores before this.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut index = self.head.load(Ordering::Relaxed);
        while index != tail {
            let slot = self.slot(index);
            // SAFETY: from `head` up to `tail` slots are published and not taken: both ends
            // brought their index up to date when they were dropped. Nobody else is left.
            slot.with_mut(|slot| unsafe { slot.cast::<T>().drop_in_place() });
            index = index.wrapping_add(1);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
