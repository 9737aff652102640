//! The command-line tool: talk to a daemon by hand, from scripts, and to measure it.

mod bench;
mod failure;
mod output;
mod pace;
mod units;

use std::process::ExitCode;

use clap::Parser;

use failure::Result;

/// Talk to a group-communication daemon, and measure it.
#[derive(Parser)]
#[command(name = "madrigal", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Measure latency, throughput, and the bare machine.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: &Command) -> Result {
    match command {
        Command::Bench(bench) => bench::run(bench),
    }
}
