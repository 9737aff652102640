//! A bounded queue from one thread to one other, without locks.
//!
//! Both ends work in batches: pushed items are seen by the other side once published, and slots
//! come back to the producer once released, each by one store.

#![allow(unsafe_code, reason = "slots are shared between two threads, by turns")]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use super::atomic::{Arc, AtomicUsize, Ordering, UnsafeCell};

/// Positions count up for ever and wrap at the end of `usize`; a slot is the position's lower
/// bits. `head <= tail <= head + slots.len()`, all modulo wrap.
struct Shared<T> {
    /// Published by the producer: slots before it may be read.
    tail: CachePadded<AtomicUsize>,
    /// Released by the consumer: slots before it may be written again.
    head: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the two ends hand a slot to each other through `tail` and `head`, so an item is only
// ever touched by one thread at a time; that needs `T: Send` and nothing more.
unsafe impl<T: Send> Sync for Shared<T> {}

// SAFETY: as above; dropping it in another thread drops items there.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, position: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[position & (self.slots.len() - 1)]
    }

    /// Moves an item out of its slot.
    ///
    /// # Safety
    ///
    /// The slot of `position` holds an item that the caller owns, and is not read again before it
    /// has been written again.
    unsafe fn take(&self, position: usize) -> T {
        self.slot(position).with_mut(|slot| {
            // SAFETY: only the owner of the item touches the slot, by this function's contract.
            let slot = unsafe { &mut *slot };
            // SAFETY: the slot holds an item, by this function's contract.
            unsafe { slot.assume_init_read() }
        })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Relaxed, both: the ends are gone, and dropping the last of them synchronised with this.
        let mut head = self.head.load(Ordering::Relaxed);
        let tail = self.tail.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: between `head` and `tail` are items that nobody took, and no end is left.
            drop(unsafe { self.take(head) });
            head = head.wrapping_add(1);
        }
    }
}

/// Makes a queue of `slots` slots, which must be a power of two.
///
/// # Panics
///
/// If it is none.
pub fn queue<T>(slots: usize) -> (Producer<T>, Consumer<T>) {
    assert!(slots.is_power_of_two(), "a queue has a power of two of slots, not {slots}");
    let shared = Arc::new(Shared {
        tail: CachePadded::new(AtomicUsize::new(0)),
        head: CachePadded::new(AtomicUsize::new(0)),
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
    });
    let producer = Producer { shared: shared.clone(), tail: 0, head_seen: 0 };
    (producer, Consumer { shared, head: 0, head_released: 0, tail_seen: 0 })
}

/// The end that items go into.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    /// Behind the last pushed item; from the published one on, unseen by the consumer.
    tail: usize,
    /// The consumer's head as last looked at.
    head_seen: usize,
}

impl<T> Producer<T> {
    /// Puts an item into the queue; the consumer sees it after [`Producer::publish`].
    ///
    /// # Errors
    ///
    /// Gives the item back if there is no free slot.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.free() == 0 {
            return Err(item);
        }
        self.shared.slot(self.tail).with_mut(|slot| {
            // SAFETY: slots from `tail` up to `head_seen + slots` are the producer's alone: the
            // consumer has released them, and sees none of them before `publish`.
            unsafe { &mut *slot }.write(item);
        });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Slots that are free; looks at the consumer only when there seems to be none.
    pub fn free(&mut self) -> usize {
        let slots = self.shared.slots.len();
        let free = slots - self.tail.wrapping_sub(self.head_seen);
        if free > 0 {
            return free;
        }
        // Acquire: pairs with the Release store in `Consumer::release`; the items in the slots
        // that it gives back have been moved out.
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        slots - self.tail.wrapping_sub(self.head_seen)
    }

    /// Lets the consumer see everything that was pushed.
    pub fn publish(&mut self) {
        // Release: pairs with the Acquire loads in `Consumer::pop` and `Consumer::is_empty`; the
        // slots before it have been written.
        self.shared.tail.store(self.tail, Ordering::Release);
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        self.publish();
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

/// The end that items come out of.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    /// The next item to take.
    head: usize,
    /// What the producer knows of it.
    head_released: usize,
    /// The producer's tail as last looked at.
    tail_seen: usize,
}

impl<T> Consumer<T> {
    /// Takes the oldest item. Its slot goes back to the producer with the next release.
    pub fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            // Acquire: pairs with the Release store in `Producer::publish`.
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
            if self.head == self.tail_seen {
                return None;
            }
        }
        // SAFETY: slots from `head` up to `tail_seen` hold published items, which are the
        // consumer's alone; `head` moves on at once, so none is taken twice.
        let item = unsafe { self.shared.take(self.head) };
        self.head = self.head.wrapping_add(1);
        if self.head.wrapping_sub(self.head_released) >= self.shared.slots.len() / 2 {
            self.release();
        }
        Some(item)
    }

    /// Gives the slots of taken items back. Happens by itself when half of the queue is held.
    pub fn release(&mut self) {
        if self.head != self.head_released {
            // Release: pairs with the Acquire load in `Producer::free`; the items before it have
            // been moved out.
            self.shared.head.store(self.head, Ordering::Release);
            self.head_released = self.head;
        }
    }

    /// Whether there is nothing to take.
    pub fn is_empty(&self) -> bool {
        // Acquire: pairs with the Release store in `Producer::publish`.
        self.head == self.tail_seen && self.head == self.shared.tail.load(Ordering::Acquire)
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        self.release();
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}
