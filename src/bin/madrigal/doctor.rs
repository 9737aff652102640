//! `madrigal doctor`: what of this host stands in a daemon's way, and what to do about it.
//!
//! `facts.rs` reads what there is, `checks.rs` judges it by what a configuration needs, `report.rs`
//! tells. Nothing is changed.

mod checks;
mod facts;
mod report;
mod root;

use std::path::{Path, PathBuf};

use madrigal::base::{DaemonName, NameError};
use madrigal::config::{Config, Who};

use crate::failure::{Failure, Result, failed};
use crate::output::{Output, tell};
use checks::Verdict;
use facts::Facts;
use report::Report;
use root::Root;

pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal doctor                             is this host right for an ordinary daemon?
  madrigal doctor --preset lowest-latency     and for one with a CPU of its own?
  sudo madrigal doctor --config /etc/madrigal/madrigal.toml --pid $(pidof madrigald)

Exit codes: 0 all is well (there may be notes), 1 there are warnings, or there is nothing to look
at, 2 something stops the daemon, or the arguments or the configuration are wrong.";

/// What to look at.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the host is for.
    #[arg(long, value_enum, default_value_t = Preset::Balanced)]
    preset: Preset,
    /// Look at what this daemon's configuration needs instead.
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// Which of the configured daemons this host has, where its addresses do not tell.
    #[arg(long, value_name = "NAME", requires = "config", value_parser = daemon_name)]
    name: Option<DaemonName>,
    /// Look at the limits of this process, a daemon that runs, instead of those of the shell.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Look at a copy of another host's /proc and /sys, as in a support archive.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    root: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The configurations in `tuning/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Preset {
    /// A CPU of its own for the daemon, which never sleeps.
    LowestLatency,
    /// Low latency and low cost: what suits most hosts.
    Balanced,
    /// As many messages as possible.
    Throughput,
    /// As little CPU and memory as possible, beside other programs.
    SharedHost,
}

impl Preset {
    /// Its file in `tuning/`, and what that contains.
    fn file(self) -> (&'static str, &'static str) {
        match self {
            Self::LowestLatency => {
                ("lowest-latency", include_str!("../../../tuning/lowest-latency.toml"))
            }
            Self::Balanced => ("balanced", include_str!("../../../tuning/balanced.toml")),
            Self::Throughput => ("throughput", include_str!("../../../tuning/throughput.toml")),
            Self::SharedHost => ("shared-host", include_str!("../../../tuning/shared-host.toml")),
        }
    }

    fn config(self) -> Config {
        let (name, text) = self.file();
        Config::parse(text, Path::new(name), Who::Anyone)
            .expect("each preset is a valid configuration")
    }
}

fn daemon_name(text: &str) -> std::result::Result<DaemonName, NameError> {
    DaemonName::new(text.as_bytes())
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    let (purpose, config) = match &args.config {
        Some(path) => {
            let config =
                Config::load(path, args.name.map_or(Who::Anyone, Who::Named)).map_err(|error| {
                    tell(format!("madrigal: {error}"));
                    Failure::Told(2)
                })?;
            (path.display().to_string(), config)
        }
        None => (args.preset.file().0.to_owned(), args.preset.config()),
    };
    let root = Root::new(args.root.clone());
    let process = args.pid.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    if !root.has(&format!("proc/{process}")) {
        let path = args.root.join("proc").join(process);
        return Err(failed(format!("there is no {}", path.display())));
    }
    let facts = Facts::read(&root, &process);
    let report = Report::new(&purpose, &facts, &config);
    let mut output = Output::new();
    if args.json {
        output.json(&report.to_json())?;
    } else {
        output.bytes(report.to_text().as_bytes())?;
    }
    output.flush()?;
    match report.verdict() {
        Verdict::Fine | Verdict::Note => Ok(()),
        Verdict::Warning => Err(Failure::Told(1)),
        Verdict::Stop => Err(Failure::Told(2)),
    }
}

#[cfg(test)]
pub(crate) mod tests;
