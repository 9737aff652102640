//! Models of everything in `mem` that threads share: the model checker runs each in every order of
//! its atomic steps that matters, with the weakest results that the orderings permit.
//!
//! `LOOM_MAX_PREEMPTIONS=3 RUSTFLAGS="--cfg loom" cargo test --release --lib mem::`, with a target
//! directory of its own. Slots, links and frozen bytes are cells of the checker, so that a missing
//! ordering shows as a race, a lost wake-up as a deadlock, a lost chunk as a leak.

#![allow(unsafe_code)]

use loom::cell::UnsafeCell;
use loom::sync::Notify;
use loom::thread;

use super::atomic::{Arc, AtomicUsize, Ordering};
use super::stream::Begun;
use super::{
    Consumer, Pool, PoolOptions, Producer, Region, Shelved, SleepFlag, Slice, StreamReader, queue,
    stream,
};
use crate::base::Store;
use crate::base::limits::CHUNK_BYTES;

/// Pushes and publishes, yielding while the queue is full.
fn send(producer: &mut Producer<usize>, value: usize) {
    while producer.push(value).is_err() {
        thread::yield_now();
    }
    producer.publish();
}

/// Takes the next value, yielding while there is none.
fn receive(consumer: &mut Consumer<usize>) -> usize {
    loop {
        if let Some(value) = consumer.pop() {
            return value;
        }
        thread::yield_now();
    }
}

#[test]
fn queue_hands_values_over_in_order_when_slots_are_used_again() {
    loom::model(|| {
        let (mut producer, mut consumer) = queue(2);
        let sender = thread::spawn(move || (0..4).for_each(|value| send(&mut producer, value)));
        (0..4).for_each(|value| assert_eq!(receive(&mut consumer), value));
        sender.join().unwrap();
        assert!(consumer.is_empty());
    });
}

#[test]
fn queue_publishes_a_batch_at_once() {
    loom::model(|| {
        let (mut producer, mut consumer) = queue(4);
        let sender = thread::spawn(move || {
            producer.push(0).unwrap();
            producer.push(1).unwrap();
            producer.publish();
            producer.push(2).unwrap();
            // Published by dropping.
        });
        if !consumer.is_empty() {
            assert_eq!(consumer.pop(), Some(0));
            assert_eq!(consumer.pop(), Some(1), "half a batch was seen");
        }
        sender.join().unwrap();
        assert_eq!(std::iter::from_fn(|| consumer.pop()).last(), Some(2));
    });
}

/// Counts drops.
struct Tracked(Arc<AtomicUsize>);

impl Drop for Tracked {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn queue_drops_each_value_once_whichever_end_goes_last() {
    loom::model(|| {
        let drops = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = queue(4);
        let sender = thread::spawn({
            let drops = Arc::clone(&drops);
            move || {
                for _ in 0..3 {
                    assert!(producer.push(Tracked(Arc::clone(&drops))).is_ok());
                    producer.publish();
                }
            }
        });
        drop(consumer.pop());
        drop(consumer);
        sender.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 3);
    });
}

/// A core that takes values from queues, asleep while there are none.
struct Sleeper {
    flag: SleepFlag,
    bell: Notify,
    wakes: AtomicUsize,
}

impl Sleeper {
    fn new() -> Arc<Self> {
        Arc::new(Self { flag: SleepFlag::new(), bell: Notify::new(), wakes: AtomicUsize::new(0) })
    }

    /// What a waker does after it published.
    fn wake(&self) {
        if self.flag.needs_wake() {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            self.bell.notify();
        }
    }

    /// Sleeps unless `has_work`; returns whether it declared itself asleep and stayed so.
    fn sleep(&self, has_work: impl Fn() -> bool) -> bool {
        self.flag.prepare();
        let sleeps = !has_work();
        if sleeps {
            self.bell.wait();
        }
        self.flag.awake();
        sleeps
    }
}

#[test]
fn sleeper_is_woken_for_every_publication() {
    loom::model(|| {
        let sleeper = Sleeper::new();
        let (mut producer, mut consumer) = queue(4);
        let waker = thread::spawn({
            let sleeper = Arc::clone(&sleeper);
            move || {
                for value in 0..2 {
                    producer.push(value).unwrap();
                    producer.publish();
                    sleeper.wake();
                }
            }
        });
        for value in 0..2 {
            // A lost wake-up is a deadlock here.
            let taken = loop {
                match consumer.pop() {
                    Some(value) => break value,
                    None => sleeper.sleep(|| !consumer.is_empty()),
                };
            };
            assert_eq!(taken, value);
        }
        waker.join().unwrap();
    });
}

#[test]
fn sleeper_with_two_queues_is_woken_by_either_and_once_a_sleep() {
    loom::model(|| {
        let sleeper = Sleeper::new();
        let (wakers, mut consumers): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (mut producer, consumer) = queue(1);
                let sleeper = Arc::clone(&sleeper);
                let waker = thread::spawn(move || {
                    producer.push(()).unwrap();
                    producer.publish();
                    sleeper.wake();
                });
                (waker, consumer)
            })
            .unzip();
        let mut left = 2;
        let mut declared = 0;
        while left > 0 {
            let taken = consumers.iter_mut().filter_map(Consumer::pop).count();
            left -= taken;
            if taken == 0 {
                declared += 1;
                sleeper.sleep(|| consumers.iter().any(|consumer| !consumer.is_empty()));
            }
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        assert!(sleeper.wakes.load(Ordering::Relaxed) <= declared, "woken twice for one sleep");
    });
}

#[test]
fn producer_that_sleeps_before_a_full_queue_is_woken_by_a_release() {
    loom::model(|| {
        let sleeper = Sleeper::new();
        let (mut producer, mut consumer) = queue(1);
        producer.push(0).unwrap();
        producer.publish();
        let waker = thread::spawn({
            let sleeper = Arc::clone(&sleeper);
            move || {
                assert_eq!(consumer.pop(), Some(0));
                consumer.release();
                sleeper.wake();
                consumer
            }
        });
        while let Err(value) = producer.push(1) {
            assert_eq!(value, 1);
            // `free` needs the producer mutably, which this look can have.
            sleeper.flag.prepare();
            if producer.free() == 0 {
                sleeper.bell.wait();
            }
            sleeper.flag.awake();
        }
        producer.publish();
        assert_eq!(waker.join().unwrap().pop(), Some(1));
    });
}

fn pool(chunks: usize) -> Pool {
    Pool::new(PoolOptions { bytes_max: chunks * CHUNK_BYTES })
}

/// Fills a whole chunk, of which only the first byte matters.
fn store(pool: &mut Pool, mark: u8) -> Option<Slice> {
    pool.store(CHUNK_BYTES, |bytes| bytes[0] = mark)
}

#[test]
fn pool_rewinds_a_chunk_only_after_everyone_else_has_read_it() {
    loom::model(|| {
        let mut pool = pool(1);
        let first = store(&mut pool, 1).unwrap();
        let reader = thread::spawn(move || {
            let clone = first.clone();
            drop(first);
            assert_eq!(clone[0], 1);
        });
        let second = store(&mut pool, 2);
        reader.join().unwrap();
        assert!(second.is_none_or(|second| second[0] == 2));
        assert!(store(&mut pool, 3).is_some(), "a chunk that nobody uses was not found");
    });
}

#[test]
fn pool_gets_chunks_back_from_other_threads_and_uses_them_again() {
    loom::model(|| {
        let mut pool = pool(2);
        let first = store(&mut pool, 1).unwrap();
        // Retires the first chunk, which the readers keep.
        let second = store(&mut pool, 2).unwrap();
        let readers =
            [first.clone(), first].map(|slice| thread::spawn(move || assert_eq!(slice[0], 1)));
        // Waits for the first chunk, so that every order has it back and written again.
        let third = loop {
            match store(&mut pool, 3) {
                Some(third) => break third,
                None => thread::yield_now(),
            }
        };
        assert_eq!((second[0], third[0]), (2, 3));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        drop(third);
        assert!(store(&mut pool, 4).is_some(), "a chunk that nobody uses was not found");
    });
}

#[test]
fn pool_gets_all_chunks_back_that_are_returned_at_once() {
    loom::model(|| {
        let mut pool = pool(3);
        let slices = [store(&mut pool, 1).unwrap(), store(&mut pool, 2).unwrap()];
        // The current chunk: the two above are retired.
        let last = store(&mut pool, 3).unwrap();
        let readers = slices.map(|slice| thread::spawn(move || drop(slice)));
        drop(store(&mut pool, 4));
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        drop(last);
        let usage = pool.usage();
        assert_eq!(usage.mapped_bytes, 3 * CHUNK_BYTES);
        let kept: Vec<_> = (5..8).map_while(|mark| store(&mut pool, mark)).collect();
        assert_eq!(kept.len(), 3);
    });
}

#[test]
fn slice_outlives_its_pool() {
    loom::model(|| {
        let mut pool = pool(2);
        let retired = store(&mut pool, 1).unwrap();
        let current = store(&mut pool, 2).unwrap();
        let readers = [retired, current].map(|slice| thread::spawn(move || drop(slice)));
        // Closes while the chunks come back; one that got lost is a leak of what it shares.
        drop(pool);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn pool_counts_a_mapping_of_its_own_until_it_is_gone() {
    loom::model(|| {
        let mut pool = pool(2);
        let len = 2 * CHUNK_BYTES;
        let large = pool.store(len, |_| ()).unwrap();
        let reader = thread::spawn(move || drop(large));
        let again = pool.store(len, |_| ());
        assert!(pool.usage().mapped_bytes <= len);
        drop(again);
        reader.join().unwrap();
        assert!(pool.store(len, |_| ()).is_some());
    });
}

/// A record's bytes, which tell half of one from half of another.
fn record(number: u8) -> [u8; 16] {
    [number; 16]
}

/// Takes what there is, which must be whole records in order from `next` on.
fn read_records(reader: &mut StreamReader, next: &mut u8) {
    let mut into = [0; 64];
    let len = reader.read(&mut into).expect("nobody lies");
    for bytes in into[..len].chunks(16) {
        assert_eq!(bytes, record(*next), "a record was seen before it was written");
        *next += 1;
    }
}

#[test]
fn stream_shows_whole_records_and_overwrites_none_that_is_read() {
    loom::model(|| {
        // Two records fill it, and the third lies where the first one was.
        let (mut writer, mut reader) = stream::pair(64);
        let sender = thread::spawn(move || {
            for number in 0..3 {
                while !writer.write(&record(number)).expect("nobody lies") {
                    thread::yield_now();
                }
                let _ = writer.publish();
            }
        });
        let mut next = 0;
        while next < 3 {
            read_records(&mut reader, &mut next);
            let _ = reader.release();
            thread::yield_now();
        }
        sender.join().unwrap();
    });
}

#[test]
fn stream_wakes_a_reader_that_sleeps() {
    loom::model(|| {
        let (mut writer, mut reader) = stream::pair(64);
        let bell = Arc::new(Notify::new());
        let waker = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                for number in 0..2 {
                    assert_eq!(writer.write(&record(number)), Ok(true));
                    if writer.publish() {
                        bell.notify();
                    }
                }
            }
        });
        let mut next = 0;
        while next < 2 {
            reader.prepare_sleep();
            if reader.is_empty() {
                // A lost wake-up is a deadlock here.
                bell.wait();
            }
            reader.awake();
            read_records(&mut reader, &mut next);
        }
        waker.join().unwrap();
    });
}

#[test]
fn stream_wakes_a_writer_that_waits_for_room() {
    loom::model(|| {
        let (mut writer, mut reader) = stream::pair(64);
        let bell = Arc::new(Notify::new());
        for number in 0..2 {
            assert_eq!(writer.write(&record(number)), Ok(true));
        }
        let _ = writer.publish();
        let waker = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                let mut next = 0;
                read_records(&mut reader, &mut next);
                assert_eq!(next, 2);
                if reader.release() {
                    bell.notify();
                }
            }
        });
        while !writer.write(&record(2)).expect("nobody lies") {
            writer.prepare_sleep();
            if !writer.has_new_room() {
                bell.wait();
            }
        }
        waker.join().unwrap();
    });
}

/// The memory of a shelf, whose words are atomics: of a cell the checker sees each pair of accesses
/// that nothing orders.
struct OnShelf(UnsafeCell<u8>);

// SAFETY: the queue orders all accesses; whether it does is what the model asks.
unsafe impl Sync for OnShelf {}

#[test]
fn shelf_is_filled_again_only_after_its_reader_has_read_it() {
    loom::model(|| {
        let (mut writer, mut reader) = stream::pair(64);
        reader.add_shelf(Region::heap(8));
        let on_shelf = Arc::new(OnShelf(UnsafeCell::new(0)));
        let daemon = thread::spawn({
            let on_shelf = Arc::clone(&on_shelf);
            move || {
                for frame in 1..=2 {
                    // SAFETY: the checker fails where anybody else accesses it now.
                    on_shelf.0.with_mut(|cell| unsafe { *cell = frame });
                    let at = Shelved { shelf: 0, first: 0, len: 8 };
                    assert_eq!(writer.write_shelved(at), Ok(true));
                    let position = writer.position();
                    let _ = writer.publish();
                    while !writer.has_given_back(position) {
                        thread::yield_now();
                    }
                }
            }
        });
        for frame in 1..=2 {
            while reader.begin() != Ok(Begun::Bytes) {
                thread::yield_now();
            }
            // SAFETY: as above.
            assert_eq!(on_shelf.0.with(|cell| unsafe { *cell }), frame);
            reader.take(8);
            let _ = reader.release();
        }
        daemon.join().unwrap();
    });
}
