//! The daemon: arguments to a configuration, a configuration to a running daemon, signals to it.
//!
//! Exit codes: 0 stopped as told, 1 could not start or go on, 2 bad arguments or configuration.

use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{io, panic};

use clap::Parser;
use madrigal::base::{DaemonName, NameError};
use madrigal::config::{Config, ConfigError, DriverChoice, LogFormat, LogLevel, Who, reload};
use madrigal::observe::log;
use madrigal::runtime::{self, RunError, Running, StartError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tracing::level_filters::LevelFilter;

/// Exit code for a daemon that could not start or go on.
const FAILED: u8 = 1;

/// Exit code for bad arguments (clap's own) and a bad configuration.
const MISUSED: u8 = 2;

/// Group communication daemon, compatible with Spread 5 clients.
///
/// Without --config it serves this host alone: port 4803 on 127.0.0.1 and ::1, and the Unix socket
/// /tmp/4803.
#[derive(Debug, Parser)]
#[command(
    name = "madrigald",
    version,
    after_help = "\
Signals: SIGTERM and SIGINT stop the daemon (a second one at once), SIGHUP reads the configuration
again, SIGUSR1 logs the counters.
Exit codes: 0 stopped as told, 1 could not start or go on, 2 bad arguments or configuration."
)]
struct Arguments {
    /// The configuration: a madrigal.toml, or a spread.conf, which is known by its name (*.conf) or
    /// by what is in it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Which daemon of the cluster this one is, whatever the configuration says
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<DaemonName>,

    /// How to talk to the kernel, whatever the configuration says: auto, io_uring or mio
    #[arg(long, value_name = "DRIVER")]
    driver: Option<DriverChoice>,

    /// Check the configuration, print what would be in force, and exit
    #[arg(long)]
    check: bool,
}

fn name(text: &str) -> Result<DaemonName, NameError> {
    DaemonName::new(text.as_bytes())
}

impl Arguments {
    fn config(&self) -> Result<Config, ConfigError> {
        let default = Config::default();
        let mut config = match &self.config {
            Some(path) => Config::load(path, self.name.map_or(Who::Local, Who::Named))?,
            None => Config { daemon: self.name.unwrap_or(default.daemon), ..default },
        };
        config.cores.driver = self.driver.unwrap_or(config.cores.driver);
        Ok(config)
    }
}

/// Why the daemon ended other than by being told to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot watch for signals: {0}")]
    Signals(#[from] io::Error),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Run(#[from] RunError),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match arguments.config() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("madrigald: {error}");
            return ExitCode::from(MISUSED);
        }
    };
    if arguments.check {
        config.notes.iter().for_each(|note| eprintln!("{}", note.brief()));
        print!("{config}");
        return ExitCode::SUCCESS;
    }
    log::install(level(config.log.level), config.log.format == LogFormat::Journal);
    abort_on_panic();
    match serve(&arguments, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::from(FAILED)
        }
    }
}

fn serve(arguments: &Arguments, mut config: Config) -> Result<(), Failure> {
    // Before there is anything that a signal would leave behind.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1])?;
    stop_at_once_on_second()?;
    announce(&config);
    let running = runtime::start(config.clone())?;
    for address in running.tcp_addresses() {
        tracing::info!(%address, "listening");
    }
    tracing::info!("ready");
    wait_for_stop(&mut signals, arguments, &mut config, &running);
    tracing::info!("stopping");
    running.stop();
    let counters = counters(&running);
    running.join()?;
    tracing::info!(counters, "stopped");
    Ok(())
}

/// Returns at the first signal that stops the daemon; a core that fails sends one too.
fn wait_for_stop(
    signals: &mut Signals,
    arguments: &Arguments,
    config: &mut Config,
    running: &Running,
) {
    for signal in signals.forever() {
        match signal {
            SIGUSR1 => tracing::info!(counters = counters(running), "counters"),
            SIGHUP => reload(arguments, config, running),
            _ => return,
        }
    }
}

/// Reads the configuration again, and goes over to what can change while clients stay: all of it,
/// or nothing.
fn reload(arguments: &Arguments, config: &mut Config, running: &Running) {
    if arguments.config.is_none() {
        return tracing::warn!("there is no configuration file to read again");
    }
    let new = match arguments.config() {
        Ok(new) => new,
        Err(error) => return tracing::error!("the configuration stays as it was: {error}"),
    };
    let plan = reload::plan(config, &new);
    if !plan.restart.is_empty() {
        tracing::error!("the configuration stays as it was, as this needs a restart:");
        return plan.restart.iter().for_each(|why| tracing::error!("{why}"));
    }
    if plan.is_empty() {
        return tracing::info!("the configuration is the same");
    }
    plan.live.iter().for_each(|change| tracing::info!("{change}"));
    running.reload(new.cluster.clone());
    *config = new;
}

/// Lets a second SIGTERM or SIGINT end the process, should stopping take too long for someone.
fn stop_at_once_on_second() -> io::Result<()> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // In this order: the first signal finds the flag down, and raises it.
        flag::register_conditional_default(signal, stopping.clone())?;
        flag::register(signal, stopping.clone())?;
    }
    Ok(())
}

/// Makes a panic of any thread the end of the process: an invariant is broken, and messages that
/// went out now could be in the wrong order.
fn abort_on_panic() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        tell(panic);
        process::abort();
    }));
}

/// Logs the effective configuration, one line a section.
fn announce(config: &Config) {
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, pid = process::id(), "madrigald starts");
    for section in config.to_string().split("\n\n") {
        tracing::info!("configuration: {}", section.trim_end().replace('\n', "  "));
    }
    config.notes.iter().for_each(|note| tracing::warn!("{}", note.brief()));
}

/// All counters on one line.
fn counters(running: &Running) -> String {
    running.counters_text().trim_end().replace('\n', ", ")
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
