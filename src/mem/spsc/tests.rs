use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use proptest::prelude::*;

use super::*;

#[test]
fn pushed_values_are_seen_from_publish_on() {
    let (mut producer, mut consumer) = queue(4);
    producer.push('a').unwrap();
    assert!(consumer.is_empty());
    assert_eq!(consumer.pop(), None);
    assert!(producer.publish());
    assert!(!producer.publish(), "there was nothing new");
    assert!(!consumer.is_empty());
    assert_eq!(consumer.pop(), Some('a'));
    assert!(consumer.is_empty());
}

#[test]
fn full_queue_gives_the_value_back() {
    let (mut producer, _consumer) = queue(2);
    assert_eq!(producer.push(1), Ok(()));
    assert_eq!(producer.push(2), Ok(()));
    assert_eq!(producer.push(3), Err(3));
    assert_eq!(producer.free(), 0);
}

#[test]
fn slots_go_back_on_release_or_by_half_the_queue() {
    let (mut producer, mut consumer) = queue(8);
    (0..8).for_each(|value| producer.push(value).unwrap());
    producer.publish();
    consumer.pop();
    assert_eq!(producer.free(), 0);
    consumer.release();
    assert_eq!(producer.free(), 1);
    assert_eq!([consumer.pop(), consumer.pop(), consumer.pop()], [1, 2, 3].map(Some));
    assert_eq!(producer.free(), 1);
    consumer.pop();
    assert_eq!(producer.free(), 5);
}

#[test]
fn queue_of_one_slot_works() {
    let (mut producer, mut consumer) = queue(1);
    for value in 0..3 {
        producer.push(value).unwrap();
        assert_eq!(producer.push(9), Err(9));
        producer.publish();
        assert_eq!(consumer.pop(), Some(value));
    }
}

#[test]
#[should_panic(expected = "power of two")]
fn slots_must_be_a_power_of_two() {
    queue::<()>(3);
}

#[test]
fn dropping_the_ends_drops_what_is_left_once() {
    for producer_first in [false, true] {
        let value = Arc::new(());
        let (mut producer, mut consumer) = queue(4);
        (0..4).for_each(|_| producer.push(Arc::clone(&value)).unwrap());
        producer.publish();
        drop(consumer.pop());
        consumer.release();
        // Staged only.
        producer.push(Arc::clone(&value)).unwrap();
        assert_eq!(Arc::strong_count(&value), 5);
        if producer_first {
            drop(producer);
            drop(consumer);
        } else {
            drop(consumer);
            drop(producer);
        }
        assert_eq!(Arc::strong_count(&value), 1);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push,
    Publish,
    Pop,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Push),
        1 => Just(Step::Publish),
        4 => Just(Step::Pop),
        1 => Just(Step::Release),
    ]
}

proptest! {
    #[test]
    fn queue_behaves_like_a_deque(
        slots in (0_u32..5).prop_map(|bits| 1_usize << bits),
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let (mut producer, mut consumer) = queue(slots);
        let mut staged = VecDeque::new();
        let mut published = VecDeque::new();
        let mut held = 0;
        for (value, step) in steps.into_iter().enumerate() {
            match step {
                Step::Push => {
                    let full = staged.len() + published.len() + held == slots;
                    prop_assert_eq!(producer.push(value).is_err(), full);
                    if !full {
                        staged.push_back(value);
                    }
                }
                Step::Publish => {
                    prop_assert_eq!(producer.publish(), !staged.is_empty());
                    published.append(&mut staged);
                }
                Step::Pop => {
                    let expected = published.pop_front();
                    prop_assert_eq!(consumer.pop(), expected);
                    held += usize::from(expected.is_some());
                    held = if held * 2 >= slots { 0 } else { held };
                }
                Step::Release => {
                    consumer.release();
                    held = 0;
                }
            }
            prop_assert_eq!(consumer.is_empty(), published.is_empty());
            prop_assert_eq!(producer.free(), slots - staged.len() - published.len() - held);
        }
    }
}

/// Owns memory, so that a value lost, doubled or torn shows.
struct Payload {
    number: usize,
    boxed: Box<usize>,
    drops: Arc<AtomicUsize>,
}

impl Drop for Payload {
    fn drop(&mut self) {
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn values_cross_threads_in_order_and_once() {
    const VALUES: usize = 50_000;
    let drops = Arc::new(AtomicUsize::new(0));
    let (mut producer, mut consumer) = queue(64);
    let sender = thread::spawn({
        let drops = Arc::clone(&drops);
        move || {
            for number in 0..VALUES {
                let drops = Arc::clone(&drops);
                let mut value = Payload { number, boxed: Box::new(number), drops };
                while let Err(back) = producer.push(value) {
                    producer.publish();
                    thread::yield_now();
                    value = back;
                }
                if number % 7 == 0 {
                    producer.publish();
                }
            }
        }
    });
    for number in 0..VALUES - 10 {
        let value = loop {
            match consumer.pop() {
                Some(value) => break value,
                None => thread::yield_now(),
            }
        };
        assert_eq!((value.number, *value.boxed), (number, number));
    }
    sender.join().unwrap();
    drop(consumer);
    assert_eq!(drops.load(Ordering::Relaxed), VALUES);
}
