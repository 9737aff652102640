//! `madrigal send`: multicast what is on the command line, in a file, or on standard input.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use madrigal::base::limits::BODY_BYTES_MAX;
use madrigal::client::{Multicast, MulticastError, Service, Session};

use crate::connect::{ConnectArgs, RetryArgs};
use crate::failure::{Context, Result, failed};
use crate::pace::{Until, wait_until};

/// Examples below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal send chat \"hello, everyone\"
  madrigal send chat -g news --service safe \"to both groups, safe\"
  madrigal send '#alice#localhost' \"for alice alone\"
  madrigal send backup --file state.bin          the file is one message
  tail -f app.log | madrigal send log --lines    each line is a message
  madrigal send heartbeat tick --count 10 --interval 1s
  tail -f app.log | madrigal send log --lines --retry 1h

With --retry each message is handed over before the next one is read. When the connection is lost,
the message at hand is sent again, so it may come twice; those just before it may be lost.";

/// How to send: shared with `flood`.
#[derive(clap::Args)]
pub(crate) struct HowArgs {
    /// Delivery service: unreliable, reliable, fifo, causal, agreed, safe.
    #[arg(short, long, default_value = "agreed")]
    pub(crate) service: Service,
    /// The message type, which receivers get with the message: -32768 to 32767.
    #[arg(short = 't', long = "type", value_name = "NUMBER", default_value_t = 0)]
    #[arg(allow_negative_numbers = true)]
    message_type: i16,
}

impl HowArgs {
    /// As the client library takes it.
    pub(crate) fn to_multicast(&self) -> Multicast {
        Multicast::new(self.service).message_type(self.message_type)
    }
}

/// Arguments of `madrigal send`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    retry: RetryArgs,
    #[command(flatten)]
    how: HowArgs,
    /// The group, or the private group (#name#daemon) of one session.
    group: String,
    /// What to send; without it, and without --file and --lines, all of standard input.
    #[arg(conflicts_with_all = ["file", "lines"])]
    data: Option<String>,
    /// A further group; may be given several times. Who is in several gets one copy.
    #[arg(short, long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Send the content of this file.
    #[arg(short, long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Send each line of the file or of standard input as a message, without its line end.
    #[arg(short, long, conflicts_with = "count")]
    lines: bool,
    /// Send it so many times.
    #[arg(short, long, default_value_t = 1)]
    count: u64,
    /// Time from one message to the next, as in 100ms.
    #[arg(short, long, value_name = "TIME", value_parser = crate::units::parse_duration)]
    interval: Option<Duration>,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    // Read first: what cannot be read needs no session.
    let source = if args.lines { Source::Lines(open(args)?) } else { Source::Once(read(args)?) };
    let mut sender = Sender {
        session: args.retry.open(&args.connect, false)?,
        retry: &args.retry,
        groups: std::iter::once(&args.group).chain(&args.groups).map(String::as_str).collect(),
        multicast: args.how.to_multicast(),
        interval: args.interval,
        next: Instant::now(),
    };
    match source {
        Source::Lines(reader) => sender.send_lines(reader)?,
        Source::Once(data) => {
            for _ in 0..args.count {
                sender.send(&data)?;
            }
        }
    }
    // The daemon carries out everything before it ends the session.
    sender.flush()?;
    sender.session.disconnect().context("the connection broke while sending")
}

enum Source {
    Once(Vec<u8>),
    Lines(BufReader<Box<dyn Read>>),
}

struct Sender<'a> {
    session: Session,
    retry: &'a RetryArgs,
    groups: Vec<&'a str>,
    multicast: Multicast,
    interval: Option<Duration>,
    next: Instant,
}

impl Sender<'_> {
    fn send(&mut self, data: &[u8]) -> Result {
        if let Some(interval) = self.interval {
            wait_until(self.next, Until::Asleep);
            self.next += interval;
        }
        let at_once = self.interval.is_some() || self.retry.is_wanted();
        loop {
            let outbox = self.session.outbox();
            let queued = outbox.queue_with(&self.multicast, &self.groups, data);
            match queued.and_then(|()| if at_once { outbox.flush() } else { Ok(()) }) {
                Err(lost @ MulticastError::Closed) if self.retry.is_wanted() => {
                    self.retry.reconnect(&mut self.session, lost, None)?;
                }
                sent => return sent.context("cannot send"),
            }
        }
    }

    /// Hands over what is queued, which with `--retry` is nothing.
    fn flush(&mut self) -> Result {
        if self.retry.is_wanted() {
            return Ok(());
        }
        self.session.outbox().flush().context("cannot send")
    }

    fn send_lines(&mut self, mut reader: BufReader<Box<dyn Read>>) -> Result {
        let mut line = Vec::new();
        let mut number = 0u64;
        loop {
            // Whatever else is buffered goes in one batch, but nothing waits for more input.
            if !reader.buffer().contains(&b'\n') {
                self.flush()?;
            }
            line.clear();
            let limit = BODY_BYTES_MAX as u64 + 2;
            let read = reader.by_ref().take(limit).read_until(b'\n', &mut line);
            if read.context("cannot read the input")? == 0 {
                return Ok(());
            }
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if line.len() as u64 == limit {
                return Err(failed(format!(
                    "line {number} is longer than a message may be ({BODY_BYTES_MAX} bytes)"
                )));
            }
            self.send(&line)?;
        }
    }
}

fn open(args: &Args) -> Result<BufReader<Box<dyn Read>>> {
    let reader: Box<dyn Read> = match &args.file {
        Some(path) => {
            Box::new(File::open(path).context(format!("cannot open {}", path.display()))?)
        }
        None => Box::new(std::io::stdin()),
    };
    Ok(BufReader::new(reader))
}

/// All that is to be sent as one message, at most one byte more than a message may have.
fn read(args: &Args) -> Result<Vec<u8>> {
    if let Some(data) = &args.data {
        return Ok(data.clone().into_bytes());
    }
    let mut data = Vec::new();
    let limit = BODY_BYTES_MAX as u64 + 1;
    open(args)?.take(limit).read_to_end(&mut data).context("cannot read the input")?;
    if data.len() as u64 == limit {
        return Err(failed(format!(
            "the input is more than one message can hold ({BODY_BYTES_MAX} bytes); \
             --lines sends each line as a message"
        )));
    }
    Ok(data)
}
