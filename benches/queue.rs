//! What does it cost to hand a message to another core: queue, pool and counting, on warm caches?

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use madrigal::base::Store;
use madrigal::base::limits::CHUNK_BYTES;
use madrigal::mem::{Pool, PoolOptions, SleepFlag, queue};

/// About the size of what goes between cores.
type Descriptor = [u64; 8];

fn push_and_pop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue push+pop, one thread, 64 B");
    for batch in [1_u64, 32] {
        let (mut producer, mut consumer) = queue::<Descriptor>(1024);
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("batch of {batch}"), |bencher| {
            bencher.iter(|| {
                for number in 0..batch {
                    producer.push(black_box([number; 8])).expect("the queue is empty");
                }
                producer.publish();
                while let Some(descriptor) = consumer.pop() {
                    black_box(descriptor);
                }
                consumer.release();
            });
        });
    }
    group.finish();
}

fn pool() -> Pool {
    Pool::new(PoolOptions { bytes_max: 64 * CHUNK_BYTES })
}

fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool store+drop");
    for len in [64, 1024] {
        let mut pool = pool();
        let message = vec![7; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len} B"), |bencher| {
            bencher.iter(|| drop(black_box(pool.copy(black_box(&message)))));
        });
    }
    group.finish();
}

fn clone(criterion: &mut Criterion) {
    let mut pool = pool();
    let slice = pool.copy(&[7; 64]).expect("the pool is empty");
    criterion.bench_function("slice clone+drop", |bencher| {
        bencher.iter(|| drop(black_box(slice.clone())));
    });
    criterion.bench_function("slice deref", |bencher| {
        bencher.iter(|| black_box(black_box(&slice)[0]));
    });
}

fn needs_wake(criterion: &mut Criterion) {
    let flag = SleepFlag::new();
    criterion.bench_function("needs_wake of a busy core", |bencher| {
        bencher.iter(|| black_box(&flag).needs_wake());
    });
}

fn chunk(criterion: &mut Criterion) {
    let mut pool = pool();
    criterion.bench_function("chunk retired and taken back", |bencher| {
        bencher.iter(|| {
            // The first slice keeps its chunk, so that the second store must begin another.
            let kept = pool.store(CHUNK_BYTES, |_| ());
            let next = pool.store(CHUNK_BYTES, |_| ());
            drop(black_box((kept, next)));
        });
    });
}

criterion_group!(benches, push_and_pop, store, clone, needs_wake, chunk);
criterion_main!(benches);
