//! What the simulator is asked for on its command line. `tests/simulation.rs` reads with it what a
//! failure prints.

use std::ops::Range;
use std::time::Duration;

use clap::Parser;
use madrigal::sim::Options;

/// Runs the ordering core in the simulator.
#[derive(Parser)]
pub(crate) struct Arguments {
    /// The one run to make.
    #[arg(long, conflicts_with = "seeds")]
    pub(crate) seed: Option<u64>,
    /// The runs to make, as A..B without B.
    #[arg(long, default_value = "0..1000", value_parser = seeds)]
    pub(crate) seeds: Range<u64>,
    /// Daemons in each run; by lot without it.
    #[arg(long)]
    pub(crate) daemons: Option<usize>,
    /// Virtual milliseconds of faults in each run; by lot without it.
    #[arg(long)]
    pub(crate) faults_ms: Option<u64>,
    /// The whole protocol layer with sessions, instead of the ordering core alone.
    #[arg(long)]
    pub(crate) groups: bool,
    /// Runs at a time.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// Show what each daemon did.
    #[arg(long)]
    pub(crate) timeline: bool,
    /// Go on after a failure.
    #[arg(long)]
    pub(crate) keep_going: bool,
}

impl Arguments {
    /// What each run is asked to be.
    pub(crate) fn options(&self) -> Options {
        Options {
            daemons: self.daemons,
            faults: self.faults_ms.map(Duration::from_millis),
            timeline: self.timeline,
        }
    }

    /// The runs to make.
    pub(crate) fn runs(&self) -> Range<u64> {
        self.seed.map_or(self.seeds.clone(), |seed| seed..seed + 1)
    }
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text} is no range A..B");
    let (start, end) = text.split_once("..").ok_or_else(wrong)?;
    Ok(start.parse().map_err(|_| wrong())?..end.parse().map_err(|_| wrong())?)
}
