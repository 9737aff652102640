use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::base::Buffer;
use crate::base::limits::CHUNK_BYTES;

fn pool(chunks: usize) -> Pool {
    Pool::new(PoolOptions { bytes_max: chunks * CHUNK_BYTES })
}

fn chunk(pool: &mut Pool) -> Option<Slice> {
    pool.store(CHUNK_BYTES, |_| ())
}

#[test]
fn slice_holds_what_was_filled_in() {
    let mut pool = pool(1);
    let slice = pool.copy(b"message").unwrap();
    assert_eq!(&*slice, b"message");
    assert_eq!(slice.clone().as_ref(), b"message");
    assert_eq!(format!("{slice:?}"), "Slice(7 bytes)");
}

#[test]
fn fill_gets_exactly_the_length_that_was_asked_for() {
    let mut pool = pool(4);
    for len in [0, 1, 47, CHUNK_BYTES, CHUNK_BYTES + 1] {
        let slice = pool.store(len, |bytes| assert_eq!(bytes.len(), len)).unwrap();
        assert_eq!(slice.len(), len);
    }
}

#[test]
fn neighbours_merge_in_order_only() {
    let mut pool = pool(2);
    let mut first = pool.copy(b"one").unwrap();
    let second = pool.copy(b"two").unwrap();
    let third = pool.copy(b"three").unwrap();
    assert!(!second.clone().absorb(&first));
    assert!(!first.absorb(&third));
    assert!(first.absorb(&second));
    assert!(first.absorb(&third));
    drop((second, third));
    assert_eq!(&*first, b"onetwothree");
}

#[test]
fn slices_of_different_chunks_never_merge() {
    let mut pool = pool(2);
    let mut first = chunk(&mut pool).unwrap();
    let second = chunk(&mut pool).unwrap();
    assert!(!first.absorb(&second));
    assert!(!second.slice(0..0).absorb(&first));
}

#[test]
fn empty_stores_work_and_merge() {
    let mut pool = pool(1);
    let mut empty = pool.copy(b"").unwrap();
    assert!(empty.is_empty());
    assert!(empty.absorb(&pool.copy(b"x").unwrap()));
    assert!(empty.absorb(&pool.copy(b"").unwrap()));
    assert_eq!(&*empty, b"x");
}

#[test]
fn part_of_a_slice_stays_when_the_whole_is_gone() {
    let mut pool = pool(1);
    let whole = pool.copy(b"0123456789").unwrap();
    let part = whole.slice(2..7).slice(1..3);
    assert_eq!(whole.slice(10..10).len(), 0);
    drop(whole);
    assert_eq!(&*part, b"34");
}

#[test]
fn advancing_takes_bytes_from_the_front_and_still_merges() {
    let mut pool = pool(1);
    let mut first = pool.copy(b"0123").unwrap();
    let second = pool.copy(b"45").unwrap();
    first.advance(3);
    assert_eq!(&*first, b"3");
    first.advance(1);
    assert!(first.is_empty());
    assert!(first.absorb(&second));
    assert_eq!(&*first, b"45");
    assert!(panic::catch_unwind(AssertUnwindSafe(|| first.advance(3))).is_err());
    assert_eq!(&*first, b"45");
}

#[test]
fn part_outside_of_a_slice_panics() {
    let slice = pool(1).copy(b"0123").unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "it is what must panic")]
    for range in [0..5, 5..5, 3..2, usize::MAX..usize::MAX] {
        assert!(panic::catch_unwind(AssertUnwindSafe(|| slice.slice(range))).is_err());
    }
}

#[test]
fn full_chunk_that_nobody_uses_is_filled_again() {
    let mut pool = pool(1);
    let address = chunk(&mut pool).unwrap().as_ptr();
    assert_eq!(chunk(&mut pool).unwrap().as_ptr(), address);
    let usage = PoolUsage { mapped_bytes: CHUNK_BYTES, free_bytes: 0 };
    assert_eq!(pool.usage(), usage);
}

#[test]
fn chunk_comes_back_with_its_last_slice_and_the_latest_is_used_first() {
    let mut pool = pool(4);
    let slices: Vec<_> = (0..4).map(|_| chunk(&mut pool).unwrap()).collect();
    let addresses: Vec<_> = slices.iter().map(|slice| slice.as_ptr()).collect();
    let clone = slices[0].clone();
    assert!(chunk(&mut pool).is_none());
    drop(slices);
    // Retired are the first three; of these, the second and then the third came back.
    let again: Vec<_> = (0..3).map(|_| chunk(&mut pool).unwrap()).collect();
    let reused: Vec<_> = again.iter().map(|slice| slice.as_ptr()).collect();
    assert_eq!(reused, [addresses[3], addresses[2], addresses[1]]);
    assert!(chunk(&mut pool).is_none());
    drop(clone);
    assert_eq!(chunk(&mut pool).unwrap().as_ptr(), addresses[0]);
}

#[test]
fn exhausted_pool_says_no_without_calling_fill_and_recovers() {
    let mut pool = pool(1);
    let most = pool.store(CHUNK_BYTES - 10, |_| ()).unwrap();
    assert!(pool.store(11, |_| panic!("called")).is_none());
    let rest = pool.store(10, |_| ()).expect("a shorter store still fits");
    assert!(pool.store(1, |_| panic!("called")).is_none());
    drop((most, rest));
    assert!(pool.store(11, |_| ()).is_some());
}

#[test]
fn bound_below_one_chunk_lets_nothing_in() {
    let mut pool = Pool::new(PoolOptions { bytes_max: CHUNK_BYTES - 1 });
    assert!(pool.copy(b"").is_none());
    assert_eq!(pool.usage(), PoolUsage { mapped_bytes: 0, free_bytes: 0 });
}

#[test]
fn large_store_has_a_mapping_that_goes_with_it() {
    let mut pool = pool(3);
    let small = pool.copy(b"small").unwrap();
    let large = pool.store(2 * CHUNK_BYTES, |bytes| bytes.fill(7)).unwrap();
    assert!(pool.store(CHUNK_BYTES + 1, |_| panic!("called")).is_none());
    assert!(pool.store(usize::MAX, |_| panic!("called")).is_none());
    let usage = pool.usage();
    assert_eq!(usage.mapped_bytes, 3 * CHUNK_BYTES);
    assert_eq!(usage.free_bytes, CHUNK_BYTES - small.len());
    let part = large.slice(CHUNK_BYTES..CHUNK_BYTES + 1);
    thread::spawn(move || drop(large)).join().unwrap();
    assert_eq!(pool.usage().mapped_bytes, 3 * CHUNK_BYTES);
    assert_eq!(*part, [7]);
    drop(part);
    assert_eq!(pool.usage().mapped_bytes, CHUNK_BYTES);
    assert_eq!(&*small, b"small");
}

#[test]
fn large_store_takes_the_place_of_free_chunks() {
    let mut pool = pool(4);
    let slices: Vec<_> = (0..4).map(|_| chunk(&mut pool).unwrap()).collect();
    assert!(pool.store(CHUNK_BYTES + 1, |_| ()).is_none());
    drop(slices);
    let large = pool.store(3 * CHUNK_BYTES, |_| ()).unwrap();
    assert_eq!(pool.usage().mapped_bytes, 4 * CHUNK_BYTES);
    drop(large);
    let slices: Vec<_> = (0..4).map_while(|_| chunk(&mut pool)).collect();
    assert_eq!(slices.len(), 4);
}

#[test]
fn panic_in_fill_leaves_the_pool_as_it_was() {
    let mut pool = pool(4);
    let mut first = pool.copy(b"first").unwrap();
    for len in [4, CHUNK_BYTES, 2 * CHUNK_BYTES] {
        let fill = |bytes: &mut [u8]| {
            bytes.fill(b'x');
            panic!("fill");
        };
        assert!(panic::catch_unwind(AssertUnwindSafe(|| pool.store(len, fill))).is_err());
        if len < CHUNK_BYTES {
            assert!(first.absorb(&pool.copy(b"second").unwrap()));
        }
    }
    assert_eq!(&*first, b"firstsecond");
    assert_eq!(pool.usage().mapped_bytes, 2 * CHUNK_BYTES);
    drop(first);
    let slices: Vec<_> = (0..4).map_while(|_| chunk(&mut pool)).collect();
    assert_eq!(slices.len(), 4);
}

#[test]
fn slices_outlive_their_pool() {
    let mut pool = pool(4);
    let large = pool.store(2 * CHUNK_BYTES, |bytes| bytes.fill(1)).unwrap();
    let retired = pool.store(CHUNK_BYTES, |bytes| bytes.fill(2)).unwrap();
    let current = pool.copy(&[3]).unwrap();
    drop(pool);
    let check = move || [large, retired, current].map(|slice| slice[0]);
    assert_eq!(thread::spawn(check).join().unwrap(), [1, 2, 3]);
}

#[derive(Clone, Debug)]
enum Step {
    Store(usize),
    Clone(usize),
    Part(usize, usize, usize),
    Absorb(usize, usize),
    Drop(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let len = prop_oneof![
        4 => 0..200_usize,
        2 => 0..CHUNK_BYTES / 3,
        1 => Just(CHUNK_BYTES),
        1 => CHUNK_BYTES..CHUNK_BYTES * 2,
    ];
    let any = any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        6 => len.prop_map(Step::Store),
        1 => any.clone().prop_map(Step::Clone),
        1 => (any.clone(), any.clone(), any.clone()).prop_map(|(a, b, c)| Step::Part(a, b, c)),
        2 => (any.clone(), any.clone()).prop_map(|(a, b)| Step::Absorb(a, b)),
        4 => any.prop_map(Step::Drop),
    ]
}

/// Content of the store with this number: differs from that of its neighbours at every place.
fn content(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 251 + at).wrapping_add(number) as u8).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn live_slices_never_change(steps in prop::collection::vec(step(), 0..80)) {
        let mut pool = pool(4);
        let mut live: Vec<(Slice, Vec<u8>)> = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            let count = live.len();
            match step {
                Step::Store(len) => {
                    let expected = content(number, len);
                    if let Some(slice) = pool.copy(&expected) {
                        live.push((slice, expected));
                    } else {
                        prop_assert!(count > 0, "an unused pool said no");
                    }
                }
                _ if count == 0 => {}
                Step::Clone(at) => {
                    let pair = live[at % count].clone();
                    live.push(pair);
                }
                Step::Part(at, from, to) => {
                    let (slice, expected) = &live[at % count];
                    let (from, to) = (from % (slice.len() + 1), to % (slice.len() + 1));
                    let range = from.min(to)..from.max(to);
                    let pair = (slice.slice(range.clone()), expected[range].to_vec());
                    live.push(pair);
                }
                Step::Absorb(at, next) => {
                    let (next, tail) = live[next % count].clone();
                    let (slice, expected) = &mut live[at % count];
                    let end = slice.as_ptr_range().end;
                    let same = std::ptr::eq(end, next.as_ptr());
                    if slice.absorb(&next) {
                        prop_assert!(same);
                        expected.extend(tail);
                    }
                }
                Step::Drop(at) => {
                    let (slice, expected) = live.swap_remove(at % count);
                    prop_assert!(*slice == *expected, "a live slice changed");
                }
            }
            prop_assert!(pool.usage().mapped_bytes <= 4 * CHUNK_BYTES);
        }
        for (slice, expected) in &live {
            prop_assert!(**slice == **expected, "a live slice changed");
        }
    }

    #[test]
    fn stores_in_one_chunk_merge_into_one(lens in prop::collection::vec(0..4_000_usize, 1..60)) {
        let mut pool = pool(1);
        let stored: Vec<_> = lens
            .iter()
            .enumerate()
            .map(|(number, &len)| pool.copy(&content(number, len)).unwrap())
            .collect();
        let mut run = stored[0].clone();
        for next in &stored[1..] {
            prop_assert!(run.absorb(next));
        }
        let expected: Vec<u8> = stored.iter().flat_map(|slice| slice.to_vec()).collect();
        prop_assert!(*run == *expected);
    }
}

#[test]
fn readers_on_other_threads_see_their_content_until_they_let_go() {
    const STORES: usize = 2_000;
    const READERS: usize = 3;
    let mut pool = pool(4);
    let (senders, readers): (Vec<_>, Vec<_>) = (0..READERS)
        .map(|_| {
            let (sender, receiver) = mpsc::sync_channel::<(u8, Slice)>(8);
            let reader = thread::spawn(move || {
                receiver
                    .iter()
                    .filter(|(mark, slice)| slice.iter().all(|byte| byte == mark))
                    .count()
            });
            (sender, reader)
        })
        .unzip();
    let mut exhausted = 0;
    for number in 0..STORES {
        let mark = number as u8;
        let len = number * 37 % 40_000;
        let slice = loop {
            match pool.store(len, |bytes| bytes.fill(mark)) {
                Some(slice) => break slice,
                None => {
                    exhausted += 1;
                    thread::yield_now();
                }
            }
        };
        senders.iter().for_each(|sender| sender.send((mark, slice.clone())).unwrap());
    }
    drop(senders);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), STORES);
    }
    let usage = pool.usage();
    assert!(usage.mapped_bytes <= 4 * CHUNK_BYTES, "{usage:?} after {exhausted} refusals");
    assert!(usage.mapped_bytes - usage.free_bytes <= CHUNK_BYTES, "{usage:?}: chunks were lost");
}
