//! `madrigal bench`: how fast a daemon is, and how fast the machine under it.

mod bare;
mod latency_histogram;
mod machine;
mod metric;
mod yardstick;

use crate::failure::Result;

/// What to measure.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Measure what the bare machine can do, to read other results as multiples of it.
    #[command(after_long_help = "x")]
    Yardstick(yardstick::Args),
}

/// Runs the subcommand.
pub(crate) fn run(bench: &Bench) -> Result {
    match bench {
        Bench::Yardstick(args) => yardstick::run(args),
    }
}
