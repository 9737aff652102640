//! `madrigal config`: look at a configuration, and turn one of Spread's into one of ours.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use madrigal::base::{DaemonName, NameError};
use madrigal::config::{Config, ConfigError, Problem, Who};
use serde_json::{Value, json};

use crate::failure::{Result, failed, usage};
use crate::output::Output;

/// Examples below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal config check madrigal.toml             is it right, for each daemon of its cluster
  madrigal config check spread.conf --name alpha  is it right for alpha
  madrigal config convert spread.conf > madrigal.toml

A file whose name ends in .conf is read as Spread's, in .toml as Madrigal's; of other files, those
in which a line begins with Spread_Segment are Spread's.
Exit codes: 0 right, 1 wrong or unreadable, 2 bad arguments.";

/// What to do with a configuration.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Say what is wrong in a file, or what cluster it describes.
    Check(CheckArgs),
    /// Print a madrigal.toml that comes to the same as a spread.conf.
    Convert(ConvertArgs),
}

/// Arguments of `madrigal config check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// The file
    file: PathBuf,
    /// Check it for this daemon alone; otherwise for each
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<DaemonName>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Arguments of `madrigal config convert`.
#[derive(clap::Args)]
pub(crate) struct ConvertArgs {
    /// The spread.conf
    file: PathBuf,
}

fn name(text: &str) -> std::result::Result<DaemonName, NameError> {
    DaemonName::new(text.as_bytes())
}

/// Runs `madrigal config`.
pub(crate) fn run(action: &Action) -> Result {
    match action {
        Action::Check(args) => check(args),
        Action::Convert(args) => convert(&args.file),
    }
}

fn check(args: &CheckArgs) -> Result {
    let mut output = Output::new();
    let result = load(&args.file, args.name);
    if args.json {
        output.json(&match &result {
            Ok(config) => described(&args.file, config),
            Err(error) => refused(&args.file, error),
        })?;
    } else if let Ok(config) = &result {
        output.bytes(described_text(&args.file, config).as_bytes())?;
    }
    output.flush()?;
    match result {
        Ok(_) => Ok(()),
        Err(_) if args.json => Err(failed(format!("{} is not right", args.file.display()))),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Reads a file for one daemon, or for each in turn.
fn load(file: &Path, name: Option<DaemonName>) -> std::result::Result<Config, ConfigError> {
    let config = Config::load(file, name.map_or(Who::Anyone, Who::Named))?;
    if name.is_none() {
        for daemon in &config.cluster.daemons {
            Config::load(file, Who::Named(daemon.name))?;
        }
    }
    Ok(config)
}

/// Which daemon of the cluster this host would be.
fn here(file: &Path, config: &Config) -> Option<DaemonName> {
    let local = Config::load(file, Who::Local).ok()?.daemon;
    config.cluster.daemon(local).map(|daemon| daemon.name)
}

fn described_text(file: &Path, config: &Config) -> String {
    let name = file.display();
    let mut text = String::new();
    for note in &config.notes {
        text += &format!("{}\n", note.brief());
    }
    let cluster = &config.cluster;
    if cluster.daemons.is_empty() {
        return text + &format!("{name} is right. A daemon with it is its whole cluster.\n");
    }
    let here = match here(file, config) {
        Some(name) => format!("This host is {name}."),
        None => nowhere(&config.here()),
    };
    let (daemons, segments) = (cluster.daemons.len(), cluster.segments.len());
    text += &format!("{name} is right. Daemons: {daemons}, segments: {segments}. {here}\n");
    text + &format!("What all must agree on:\n{}", cluster.identity())
}

/// What there is to say where it is not known which daemon this host would be.
fn nowhere(here: &[DaemonName]) -> String {
    if here.is_empty() {
        return "This host is none of them.".to_owned();
    }
    let names = here.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("This host has the addresses of several: {names}. Each needs its name (--name).")
}

fn described(file: &Path, config: &Config) -> Value {
    let cluster = &config.cluster;
    let daemons = cluster.daemons.iter().map(|daemon| {
        json!({
            "name": daemon.name.as_str(),
            "id": daemon.id.get(),
            "address": daemon.address,
            "segment": daemon.segment,
        })
    });
    let segments = cluster.segments.iter().map(|segment| {
        json!({
            "multicast": segment.multicast,
            "port": segment.port,
            "hops": segment.hops,
        })
    });
    json!({
        "file": file.display().to_string(),
        "right": true,
        "hash": format!("{:016x}", cluster.identity().hash),
        "here": here(file, config).map(|name| name.to_string()),
        "segments": segments.collect::<Vec<_>>(),
        "daemons": daemons.collect::<Vec<_>>(),
        "notes": config.notes.iter().map(place).collect::<Vec<_>>(),
    })
}

fn refused(file: &Path, error: &ConfigError) -> Value {
    let problems = match error {
        ConfigError::Unreadable { .. } => vec![json!({ "message": error.to_string() })],
        ConfigError::Invalid(problems) => problems.0.iter().map(place).collect(),
    };
    json!({ "file": file.display().to_string(), "right": false, "problems": problems })
}

fn place(problem: &Problem) -> Value {
    json!({
        "line": problem.line,
        "column": problem.column,
        "message": problem.message,
        "help": problem.help,
    })
}

fn convert(file: &Path) -> Result {
    if file.extension().is_some_and(|ending| ending == "toml") {
        return Err(usage(format!("{} is no spread.conf by its name", file.display())));
    }
    let text = Config::convert(file).map_err(|error| failed(error.to_string()))?;
    let mut output = Output::new();
    output.bytes(text.as_bytes())?;
    output.flush()
}
