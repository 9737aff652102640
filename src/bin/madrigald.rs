//! The daemon: arguments to a configuration, a configuration to a running daemon, signals to it.
//!
//! Exit codes: 0 stopped as told, 1 could not start or go on, 2 bad arguments or configuration.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::{io, panic};

use clap::Parser;
use madrigal::base::{DaemonName, NameError};
use madrigal::config::{Config, ConfigError, DriverChoice, LogFormat, LogLevel, Who, reload};
use madrigal::observe::log;
use madrigal::runtime::{self, Command, Control, RunError, Running, StartError};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::flag;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
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
again (as `madrigal reload` does, which says what came of it), SIGUSR1 logs the counters.
Exit codes: 0 stopped as told, 1 could not start or go on, 2 bad arguments or configuration."
)]
struct Arguments {
    /// The configuration: a madrigal.toml, or a spread.conf, which is known by its name (*.conf) or
    /// by what is in it
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Which daemon of the cluster this one is, whatever the configuration says
    #[arg(short, long, value_name = "NAME", value_parser = name)]
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

/// Signals, by a pipe that can be waited on together with others.
type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// Why the daemon ended other than by being told to.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot wait for signals and commands: {0}")]
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
            tell(format!("madrigald: {error}"));
            return ExitCode::from(MISUSED);
        }
    };
    if arguments.check {
        config.notes.iter().for_each(|note| tell(note.brief()));
        config.warnings().iter().for_each(tell);
        return print(&config);
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

/// A line on standard error. Where nobody reads it there is nobody to tell.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Prints the configuration; one who stops reading, as `head` does, has seen enough.
fn print(config: &Config) -> ExitCode {
    match write!(io::stdout(), "{config}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            tell(format!("madrigald: cannot write to standard output: {error}"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::SUCCESS,
    }
}

fn serve(arguments: &Arguments, config: Config) -> Result<(), Failure> {
    // Before there is anything that a signal would leave behind.
    let (read, write) = UnixStream::pair()?;
    let caught = [SIGTERM, SIGINT, SIGHUP, SIGUSR1];
    let mut signals = Signals::with_pipe(read, write, SignalOnly, caught)?;
    stop_at_once_on_second()?;
    announce(&config);
    let running = runtime::start(config.clone())?;
    for address in running.tcp_addresses() {
        tracing::info!(%address, "listening");
    }
    for path in running.unix_paths() {
        tracing::info!(path = %path.display(), "listening");
    }
    tracing::info!("ready");
    let mut daemon = Daemon { arguments, config, running };
    daemon.serve_until_stopped(&mut signals)?;
    let Daemon { mut running, .. } = daemon;
    tracing::info!("stopping");
    running.stop();
    let counters = one_line(&running.join()?);
    tracing::info!(counters, "stopped");
    Ok(())
}

/// The daemon at work, as the main thread sees it.
struct Daemon<'a> {
    arguments: &'a Arguments,
    /// What is in force.
    config: Config,
    running: Running,
}

impl Daemon<'_> {
    /// Does what signals and the control socket ask for, until a signal stops the daemon; a core
    /// that fails sends one too.
    fn serve_until_stopped(&mut self, signals: &mut Signals) -> io::Result<()> {
        loop {
            if wait(signals.get_read(), self.running.control())? {
                self.obey();
            }
            for signal in signals.pending() {
                match signal {
                    SIGUSR1 => {
                        let counters = one_line(&self.running.counters_text());
                        tracing::info!(counters, "counters");
                    }
                    SIGHUP => _ = self.reload(),
                    _ => return Ok(()),
                }
            }
        }
    }

    /// Does what one who waits at the control socket asks for.
    fn obey(&mut self) {
        let Some(order) = self.running.control().and_then(Control::take) else { return };
        match order.command() {
            Command::Reload => match self.reload() {
                Ok(changes) => order.answer(true, &changes),
                Err(reasons) => order.answer(false, &reasons),
            },
            Command::Counters => {
                let counters = self.running.counters_text();
                order.answer(true, &counters.lines().map(str::to_owned).collect::<Vec<_>>());
            }
        }
    }

    /// Reads the configuration again, and goes over to what can change while clients stay: all of
    /// it, or nothing. Returns what there is to say of it, which is logged as well.
    fn reload(&mut self) -> Result<Vec<String>, Vec<String>> {
        match self.changes() {
            Ok((changes, news)) => {
                changes.iter().for_each(|change| tracing::info!("{change}"));
                news.iter().for_each(|news| tracing::warn!("{news}"));
                Ok([changes, news].concat())
            }
            Err(reasons) => {
                reasons.iter().for_each(|reason| tracing::error!("{reason}"));
                Err(reasons)
            }
        }
    }

    /// What has changed, and what else is to be said of the configuration that was not before.
    fn changes(&mut self) -> Result<(Vec<String>, Vec<String>), Vec<String>> {
        if self.arguments.config.is_none() {
            return Err(vec!["there is no configuration file to read again".to_owned()]);
        }
        let new = self.arguments.config();
        let new = new.map_err(|why| vec![format!("the configuration stays as it was: {why}")])?;
        let mut plan = reload::plan(&self.config, &new);
        if !plan.restart.is_empty() {
            let head = "the configuration stays as it was, as this needs a restart:".to_owned();
            plan.restart.insert(0, head);
            return Err(plan.restart);
        }
        let news = reload::news(&self.config, &new);
        if plan.is_empty() {
            self.config.notes = new.notes;
            return Ok((vec!["the configuration is the same".to_owned()], news));
        }
        self.running.reload(new.cluster.clone());
        self.config = new;
        Ok((plan.live, news))
    }
}

/// Waits for a signal, or for somebody at the control socket: then it is `true`.
fn wait(signals: &UnixStream, control: Option<&Control>) -> io::Result<bool> {
    let mut watched = vec![PollFd::new(signals, PollFlags::IN)];
    watched.extend(control.map(|control| PollFd::new(control, PollFlags::IN)));
    match poll(&mut watched, None) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(watched.get(1).is_some_and(|control| control.revents().contains(PollFlags::IN)))
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
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
}

/// Counters as the log has them.
fn one_line(counters: &str) -> String {
    counters.trim_end().replace('\n', ", ")
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
