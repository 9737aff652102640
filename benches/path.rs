//! How long does the daemon take for one message, from the bytes of its sender to the output of
//! its receivers, without the kernel?

#[path = "support/daemonless.rs"]
mod daemonless;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use madrigal::wire::session::kind;

use daemonless::{Daemonless, message};

fn path(c: &mut Criterion) {
    let mut group = c.benchmark_group("path");
    for receivers in [1, 10] {
        for (data, batch) in [(64, 1), (64, 200), (1024, 30)] {
            let mut daemonless = Daemonless::new();
            for receiver in 0..receivers {
                let id = daemonless.connect(&format!("r{receiver}"));
                daemonless.join(id, "g");
            }
            let sender = daemonless.connect("sender");
            let bytes = message("sender", kind::AGREED, &["g"], data).repeat(batch);
            group.throughput(Throughput::Elements(batch as u64));
            let name = format!("{data} B x {batch}");
            group.bench_function(BenchmarkId::new(name, format!("to {receivers}")), |b| {
                b.iter(|| {
                    daemonless.receive(sender, &bytes);
                    assert_eq!(daemonless.turn(), bytes.len() * receivers);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, path);
criterion_main!(benches);
