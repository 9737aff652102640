//! Proves that pool, slices and queues allocate nothing once they are warm, on either thread.

mod counting;

use std::thread;

use counting::{Counting, calls};
use madrigal::base::Store;
use madrigal::base::limits::CHUNK_BYTES;
use madrigal::mem::{Pool, PoolOptions, Slice, queue};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the other thread holds back, so that chunks are retired and come back in turns.
const WINDOW: usize = 600;
const MESSAGES: usize = 20_000;
const MESSAGE_BYTES: usize = 1_500;

#[test]
fn nothing_is_allocated_once_warm() {
    let before = calls();
    drop(Box::new(0_u64));
    assert_eq!(calls() - before, 2, "the allocator does not count");

    let mut pool = Pool::new(PoolOptions { bytes_max: 8 * CHUNK_BYTES });
    // Map all there can be.
    let chunks: Vec<_> = (0..8).map(|_| pool.store(CHUNK_BYTES, |_| ()).unwrap()).collect();
    drop(chunks);
    let mapped = pool.usage().mapped_bytes;
    let (mut producer, mut consumer) = queue::<Slice>(256);

    let reader = thread::spawn(move || {
        let mut window: [Option<Slice>; WINDOW] = [const { None }; WINDOW];
        let before = calls();
        let mut taken = 0;
        while taken < MESSAGES {
            match consumer.pop() {
                Some(slice) => {
                    assert_eq!(slice.len(), MESSAGE_BYTES);
                    window[taken % WINDOW] = Some(slice.slice(1..2));
                    taken += 1;
                }
                None => {
                    consumer.release();
                    thread::yield_now();
                }
            }
        }
        calls() - before
    });
    let before = calls();
    for _ in 0..MESSAGES {
        let mut slice = pool.store(MESSAGE_BYTES, |bytes| bytes.fill(1)).expect("room for all");
        while let Err(back) = producer.push(slice) {
            producer.publish();
            thread::yield_now();
            slice = back;
        }
    }
    producer.publish();
    let here = calls() - before;
    let there = reader.join().unwrap();
    assert_eq!((here, there), (0, 0));
    assert_eq!(pool.usage().mapped_bytes, mapped);
}
