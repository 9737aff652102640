//! `madrigal reload` and `madrigal counters`: what an operator asks of the daemon as a whole.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::failure::{Context, Result, failed, usage};
use crate::output::Output;

/// How long the daemon may take: it resolves the names of the file that it reads.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest wait for the moment of a reload: one that is further away is meant otherwise.
const AHEAD_MAX: Duration = Duration::from_secs(3_600);

/// Text below the help of `madrigal reload`.
pub(crate) const RELOAD_EXAMPLES: &str = "\
Examples:
  madrigal reload                     what changed is told, or why nothing did (exit code 1)
  madrigal reload --at 1798761600     at that second, as date +%s has it
  madrigal reload -a unix:/run/m/4803

Who may: the user that the daemon runs as, and root.";

/// Text below the help of `madrigal counters`.
pub(crate) const COUNTERS_EXAMPLES: &str = "\
Examples:
  madrigal counters                   all counters of the daemon, a name and a value in a line
  madrigal counters -a 4804 | grep ^sessions
  madrigal counters -a unix:/run/m/4803

Who may: the user that the daemon runs as, and root. What each counts: docs/counters.md.";

/// Which daemon.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The daemon of this host: PORT (commands at /tmp/PORT.control), or unix:PATH (at
    /// PATH.control).
    #[arg(short, long, value_name = "ADDR", default_value = "4803")]
    address: String,
}

impl Args {
    fn path(&self) -> Result<PathBuf> {
        let path = match self.address.strip_prefix("unix:") {
            Some(path) => format!("{path}.control"),
            None if self.address.parse::<u16>().is_ok() => format!("/tmp/{}.control", self.address),
            None => {
                let address = &self.address;
                let why = format!("{address} is no daemon of this host: give a port or unix:PATH");
                return Err(usage(why));
            }
        };
        Ok(path.into())
    }
}

/// Arguments of `madrigal reload`.
#[derive(clap::Args)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    daemon: Args,
    /// Wait for this second since 1970 (`date +%s`), so that all hosts do it at once; one that is
    /// over is not waited for
    #[arg(long, value_name = "SECOND")]
    at: Option<u64>,
}

/// Lets the daemon read its configuration, when it is time.
pub(crate) fn reload(args: &ReloadArgs) -> Result {
    if let Some(second) = args.at {
        if until(second)? > AHEAD_MAX {
            return Err(usage(format!("--at {second} is more than an hour ahead")));
        }
        loop {
            // Looked at anew: the clock may be set meanwhile.
            let left = until(second)?;
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
    }
    run("reload", &args.daemon)
}

/// How long it is until then; nothing if it is over.
fn until(second: u64) -> Result<Duration> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("no time to go by")?;
    Ok(Duration::from_secs(second).saturating_sub(now))
}

/// Gives the daemon the command `word`, and prints what it has to say.
pub(crate) fn run(word: &str, args: &Args) -> Result {
    let path = args.path()?;
    let place = path.display();
    let mut stream = UnixStream::connect(&path).context(format!(
        "no daemon takes commands at {place} (does one run, with listen.control, and is it yours?)"
    ))?;
    stream.set_read_timeout(Some(PATIENCE)).context("cannot wait for the daemon")?;
    stream.write_all(format!("{word}\n").as_bytes()).context("the daemon took no command")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the daemon gave no answer")?;
    match answer.split_once('\n') {
        Some(("done", lines)) => {
            let mut output = Output::new();
            output.bytes(lines.as_bytes())?;
            output.flush()
        }
        Some(("failed", lines)) => Err(failed(lines.trim_end())),
        _ => Err(failed(format!("{place} gave an answer that is none of a daemon's: {answer:?}"))),
    }
}
