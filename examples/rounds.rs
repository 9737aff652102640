//! How long does a message take from its sender until every daemon has delivered it, in trips of a
//! datagram and in rounds of the token? In the simulator, in which a trip takes 50 us always.
//!
//! ```text
//! cargo run --profile sim --example rounds
//! ```

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use madrigal::base::{Instant, Service};
use madrigal::sim::checker::trace::{DaemonEvent, Ending, MessageId, Trace};
use madrigal::sim::cluster::{Action, Cluster};
use madrigal::sim::core::Tuning;
use madrigal::sim::network::Weather;
use madrigal::sim::order::Ordering;
use madrigal::sim::rng::Rng;
use madrigal::sim::workload::Workload;

/// From daemon to daemon, with what the receiver works.
const TRIP: Duration = Duration::from_micros(50);

/// How a cluster is used.
#[derive(Clone, Copy)]
enum Load {
    /// One message at a time, from any daemon: the token rests in between.
    Single,
    /// One daemon sends, a message each 300 us.
    One,
    /// Two send in turns, each 300 us after the other, as programs do that ask and answer.
    Turns,
    /// Each daemon sends a message each millisecond or so.
    Steady,
    /// Each sends thirty packets at a time, twenty times as often.
    Heavy,
}

fn cluster(daemons: usize) -> Cluster<Ordering> {
    let tuning = Tuning {
        failure_timeout: Duration::from_millis(100),
        rest_interval: Duration::from_millis(10),
        reorder_allowance: Duration::from_micros(300),
        notice_interval: Duration::from_micros(30),
        window_packets: 1_000,
        datagram_bytes: 1_472,
        state_part_bytes: 64 * 1024,
        first_incarnation: 1,
    };
    let mut cluster = Cluster::new(daemons, 1, tuning);
    let work_ns = 500;
    let latency_ns = (TRIP.as_nanos() as u64 - work_ns, 1);
    cluster.act(Action::Weather(Weather { latency_ns, work_ns, ..Weather::FAIR }));
    (0..daemons).for_each(|host| cluster.act(Action::Start(host)));
    cluster.run_for(Duration::from_secs(1));
    assert!(
        (0..daemons).all(|host| cluster.ring(host).is_some_and(|(_, all)| all.len() == daemons))
    );
    cluster
}

/// What `load` of `service` makes of a cluster.
fn run(daemons: usize, service: Service, load: Load) -> Trace {
    let mut cluster = cluster(daemons);
    let mut rng = Rng::new(1);
    let workload = |gap, burst, bytes_max| {
        let services = vec![service];
        Workload { gap, burst, services, bytes_max, idle: 0 }
    };
    let workload = match load {
        Load::Single => {
            for _ in 0..200 {
                cluster.submit(rng.index(daemons), service, 100);
                cluster.run_for(Duration::from_millis(7));
            }
            Workload::silent()
        }
        Load::One | Load::Turns => {
            let senders = if matches!(load, Load::One) { 1 } else { 2 };
            for turn in 0..2_000 {
                cluster.submit(turn % senders, service, 100);
                cluster.run_for(Duration::from_micros(300));
            }
            Workload::silent()
        }
        Load::Steady => workload(Duration::from_millis(1), 1, 100),
        Load::Heavy => workload(Duration::from_micros(50), 2, 20_000),
    };
    (0..daemons).for_each(|host| cluster.set_workload(host, workload.clone()));
    cluster.run_for(Duration::from_millis(500));
    (0..daemons).for_each(|host| cluster.set_workload(host, Workload::silent()));
    cluster.run_for(Duration::from_millis(100));
    let settled = cluster.now();
    let (components, retained) = (Vec::new(), Vec::new());
    cluster.finish(Ending { calm: None, settled, components, retained, ..Ending::default() }).0
}

/// How long each message took until all had it, in order.
fn latencies(trace: &Trace) -> Vec<Duration> {
    let mut submitted: BTreeMap<MessageId, Instant> = BTreeMap::new();
    let mut delivered: BTreeMap<MessageId, Instant> = BTreeMap::new();
    for entry in trace.daemons.iter().flat_map(|log| &log.entries) {
        match &entry.event {
            DaemonEvent::Submit { message, .. } => {
                submitted.insert(*message, entry.at);
            }
            DaemonEvent::Deliver { message, .. } => {
                let last = delivered.entry(*message).or_insert(entry.at);
                *last = entry.at.max(*last);
            }
            _ => {}
        }
    }
    let mut latencies: Vec<_> =
        delivered.iter().map(|(message, at)| at.since(submitted[message])).collect();
    latencies.sort();
    latencies
}

fn main() -> io::Result<()> {
    match table(&mut io::stdout()) {
        // Who has seen enough, as `head`, goes.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

fn table(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "{:8} {:7} {:8} {:>9} {:>9} {:>9}  messages",
        "daemons", "load", "service", "p50", "p99", "max"
    )?;
    let loads = [
        (Load::Single, "single"),
        (Load::One, "one"),
        (Load::Turns, "turns"),
        (Load::Steady, "steady"),
        (Load::Heavy, "heavy"),
    ];
    for (load, name) in loads {
        for daemons in [3, 5, 8] {
            for service in [Service::Agreed, Service::Safe] {
                let latencies = latencies(&run(daemons, service, load));
                let at = |part: f64| {
                    let latency = latencies[((latencies.len() - 1) as f64 * part) as usize];
                    let trips = latency.as_nanos() as f64 / TRIP.as_nanos() as f64;
                    format!("{trips:.1}/{:.2}", trips / daemons as f64)
                };
                writeln!(
                    out,
                    "{daemons:<8} {name:7} {:8} {:>9} {:>9} {:>9}  {}",
                    format!("{service:?}"),
                    at(0.5),
                    at(0.99),
                    at(1.0),
                    latencies.len(),
                )?;
            }
        }
    }
    Ok(())
}
