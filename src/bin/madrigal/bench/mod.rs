//! `madrigal bench`: how fast a daemon is, and how fast the machine under it.

mod carrier;
mod crew;
mod latency;
mod latency_histogram;
mod machine;
mod metric;
mod options;
mod page;
mod report;
mod throughput;
mod yardstick;

use crate::failure::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Measure how long a message takes from one session to another.
    #[command(after_help = latency::EXAMPLES)]
    Latency(latency::Args),
    /// Measure how many messages get from senders to receivers in a second.
    #[command(after_help = throughput::EXAMPLES)]
    Throughput(throughput::Args),
    /// Measure what the bare machine can do, to read other results as multiples of it.
    #[command(after_help = yardstick::EXAMPLES)]
    Yardstick(yardstick::Args),
}

/// Runs the subcommand.
pub(crate) fn run(bench: &Bench) -> Result {
    match bench {
        Bench::Latency(args) => latency::run(args),
        Bench::Throughput(args) => throughput::run(args),
        Bench::Yardstick(args) => yardstick::run(args),
    }
}
