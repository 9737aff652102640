//! `madrigal recv`: print what comes to groups, or to this session's own private group.

use std::time::{Duration, Instant};

use madrigal::client::{Event, ReceiveError, Session};

use crate::connect::{ConnectArgs, Marker, RetryArgs};
use crate::failure::{Context, Result, failed};
use crate::output::{Output, tell};
use crate::show::{event_json, show_event};

/// Examples below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  madrigal recv chat                        each message, with its sender and service
  madrigal recv chat --membership           and who comes and goes
  madrigal recv log --lines | grep error    the data alone, a line each
  madrigal recv backup --raw --count 1 > state.bin
  madrigal recv chat --json --timeout 10s | jq .data
  madrigal recv log --lines --retry 1h      goes on when the daemon is back

Once the joins have taken effect, a line on standard error says so: what is sent from then on
is received. With --retry it says so again after each connection that was lost: what was sent in
between is missing.";

/// Arguments of `madrigal recv`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    retry: RetryArgs,
    /// Groups to join; with none, only messages to this session's private group come.
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,
    /// Print only the data, a line for each message.
    #[arg(short, long, conflicts_with_all = ["raw", "json"])]
    lines: bool,
    /// Print only the data, as it is, with nothing between messages.
    #[arg(short, long, conflicts_with = "json")]
    raw: bool,
    /// Print one JSON object on a line for each event.
    #[arg(short, long)]
    json: bool,
    /// Print views, transitional signals and leaves too.
    #[arg(short, long, conflicts_with_all = ["lines", "raw"])]
    membership: bool,
    /// Exit after so many messages.
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Exit after so long, as in 10s; with --count it is a failure if messages are missing then.
    #[arg(short, long, value_name = "TIME", value_parser = crate::units::parse_duration)]
    timeout: Option<Duration>,
    /// Do not say on standard error when receiving begins, and how.
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut session = args.retry.open(&args.connect, args.membership)?;
    if !args.quiet {
        args.connect.tell_why_socket(&session);
    }
    for group in &args.groups {
        session.join(group).context("cannot join")?;
    }
    let mut marker = Some(Marker::send(&mut session)?);
    let mut receiver = Receiver { args, output: Output::new(), messages: 0 };
    loop {
        // Only when nothing more is at hand, so that many events make one write.
        if !session.has_buffered() {
            receiver.output.flush()?;
        }
        let event = match next_event(&mut session, deadline) {
            Ok(Some(event)) => event,
            Ok(None) => return receiver.timed_out(),
            Err(lost @ ReceiveError::Closed) if args.retry.is_wanted() => {
                receiver.output.flush()?;
                args.retry.reconnect(&mut session, lost, deadline)?;
                // One that is lost before that is seen to be by the next receive.
                marker = Marker::send(&mut session).ok();
                continue;
            }
            Err(error) => return Err(error).context("receiving failed"),
        };
        if marker.as_ref().is_some_and(|marker| marker.is(&event)) {
            marker = None;
            receiver.announce(&session);
            continue;
        }
        receiver.show(&event)?;
        if args.count == Some(receiver.messages) {
            receiver.output.flush()?;
            // The session ends with the process in any case.
            let _ = session.disconnect();
            return Ok(());
        }
    }
}

fn next_event(
    session: &mut Session,
    deadline: Option<Instant>,
) -> std::result::Result<Option<Event<'_>>, ReceiveError> {
    match deadline {
        None => session.receive().map(Some),
        Some(deadline) => {
            session.receive_timeout(deadline.saturating_duration_since(Instant::now()))
        }
    }
}

struct Receiver<'a> {
    args: &'a Args,
    output: Output,
    messages: u64,
}

impl Receiver<'_> {
    fn announce(&self, session: &Session) {
        if !self.args.quiet {
            let groups = match self.args.groups.join(" ") {
                groups if groups.is_empty() => "its private group".to_owned(),
                groups => groups,
            };
            tell(format!("receiving as {} from {groups}", session.private_group()));
        }
    }

    fn show(&mut self, event: &Event<'_>) -> Result {
        let args = self.args;
        if let Event::Message(message) = event {
            self.messages += 1;
            if args.raw || args.lines {
                self.output.bytes(message.data())?;
                return if args.lines { self.output.bytes(b"\n") } else { Ok(()) };
            }
        }
        if args.json {
            self.output.json(&event_json(event))
        } else {
            self.output.line(show_event(event))
        }
    }

    fn timed_out(&mut self) -> Result {
        self.output.flush()?;
        match self.args.count {
            None => Ok(()),
            Some(count) => {
                Err(failed(format!("the time is over after {} of {count} messages", self.messages)))
            }
        }
    }
}
