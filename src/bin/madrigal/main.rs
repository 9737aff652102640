//! The command-line tool: talk to a daemon by hand, from scripts, and to measure it.

mod bench;
mod config;
mod connect;
mod control;
mod doctor;
mod failure;
mod flood;
mod output;
mod pace;
mod recv;
mod send;
mod show;
mod units;
mod user;

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
    /// Talk by hand or from a script: join, leave, send, and see what comes.
    #[command(after_help = user::EXAMPLES)]
    User(user::Args),
    /// Multicast what is on the command line, in a file, or on standard input.
    #[command(after_help = send::EXAMPLES)]
    Send(send::Args),
    /// Print what comes to groups.
    #[command(after_help = recv::EXAMPLES)]
    Recv(recv::Args),
    /// Load a daemon with messages.
    #[command(after_help = flood::EXAMPLES)]
    Flood(flood::Args),
    /// Check a configuration, or convert one of Spread's.
    #[command(subcommand, after_help = config::EXAMPLES)]
    Config(config::Action),
    /// Let the daemon read its configuration again.
    #[command(after_help = control::RELOAD_EXAMPLES)]
    Reload(control::ReloadArgs),
    /// Print what the daemon has counted.
    #[command(after_help = control::COUNTERS_EXAMPLES)]
    Counters(control::Args),
    /// Measure latency, throughput, and the bare machine.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Look for what of this host stands in a daemon's way.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Args),
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: &Command) -> Result {
    match command {
        Command::User(args) => user::run(args),
        Command::Send(args) => send::run(args),
        Command::Recv(args) => recv::run(args),
        Command::Flood(args) => flood::run(args),
        Command::Config(action) => config::run(action),
        Command::Reload(args) => control::reload(args),
        Command::Counters(args) => control::run("counters", args),
        Command::Bench(bench) => bench::run(bench),
        Command::Doctor(args) => doctor::run(args),
    }
}
