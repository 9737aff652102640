//! `madrigal user`: a session by hand or from a script.

mod command;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Stdin};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use madrigal::base::limits::BODY_BYTES_MAX;
use madrigal::client::{Event, Multicast, MulticastError, Service, Session};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::connect::{ConnectArgs, Marker};
use crate::failure::{Context, Failure, Result, failed};
use crate::output::Output;
use crate::show::{event_json, show_event};
use command::{Command, Draft, HELP};

/// Text below the help.
pub(crate) const EXAMPLES: &str = "\
Type 'help' for the commands. The same commands can come from a pipe or a file; the end of the
input waits until everything has taken effect, so that this prints the view and the message:

  printf 'join chat\\nsend chat hello\\n' | madrigal user --name alice

In a script the first command that fails ends it, with exit code 1.";

/// Arguments of `madrigal user`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    connect: ConnectArgs,
    /// Print events as JSON objects, one on a line.
    #[arg(short, long)]
    json: bool,
    /// Do not ask for views and other membership events.
    #[arg(long)]
    no_membership: bool,
}

/// Runs the subcommand.
pub(crate) fn run(args: &Args) -> Result {
    let session = args.connect.open(!args.no_membership)?;
    args.connect.tell_why_socket(&session);
    let stdin = std::io::stdin();
    let terminal = stdin.is_terminal() && std::io::stdout().is_terminal();
    let screen = Screen { output: Output::new(), terminal, json: args.json };
    let mut user = User {
        session,
        screen,
        views: BTreeMap::new(),
        multicast: Multicast::new(Service::Agreed),
        draft: None,
    };
    user.greet()?;
    user.talk(&mut Input::new(stdin))?;
    user.screen.output.flush()?;
    // The user is done with it: what a broken connection would say is of no use any more.
    let _ = user.session.disconnect();
    Ok(())
}

/// Whether to go on.
enum Next {
    Command,
    Quit,
}

struct User {
    session: Session,
    screen: Screen,
    /// Last view of each group that the session is in, as it was shown.
    views: BTreeMap<String, String>,
    multicast: Multicast,
    /// A message that is being typed.
    draft: Option<(Multicast, Vec<String>, Draft)>,
}

impl User {
    fn greet(&mut self) -> Result {
        if self.screen.terminal {
            self.screen.say(format!(
                "connected as {}; 'help' lists the commands",
                self.session.private_group()
            ))?;
        }
        Ok(())
    }

    fn talk(&mut self, input: &mut Input) -> Result {
        loop {
            self.show_events()?;
            while let Some(line) = input.next_line() {
                if let Next::Quit = self.take_line(&line, input.line_number)? {
                    return Ok(());
                }
                self.show_events()?;
            }
            if input.ended {
                return self.finish();
            }
            let prompt = if self.draft.is_some() { "... " } else { "madrigal> " };
            self.screen.prompt(prompt)?;
            if wait_for_either(input, &self.session)? {
                input.fill()?;
            }
        }
    }

    /// The end of the input sends what is typed, and lets everything take effect.
    fn finish(&mut self) -> Result {
        self.send_draft()?;
        self.sync()
    }

    fn take_line(&mut self, line: &[u8], number: u64) -> Result<Next> {
        match self.try_line(line) {
            Err(Failure::Failed(error)) if self.screen.terminal => {
                self.screen.say(format!("error: {error}"))?;
                Ok(Next::Command)
            }
            Err(Failure::Failed(error)) => Err(failed(format!("line {number}: {error}"))),
            other => other,
        }
    }

    fn try_line(&mut self, line: &[u8]) -> Result<Next> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some((_, _, draft)) = &mut self.draft {
            if draft.line(line) {
                self.send_draft()?;
            } else if draft.text().len() > BODY_BYTES_MAX {
                self.draft = None;
                return Err(failed("the message is too long; it is dropped"));
            }
            return Ok(Next::Command);
        }
        self.carry_out(command::parse(line).map_err(failed)?)
    }

    fn carry_out(&mut self, command: Command) -> Result<Next> {
        match command {
            Command::Nothing => {}
            Command::Join(groups) => {
                groups.iter().try_for_each(|group| self.session.join(group)).map_err(told)?;
            }
            Command::Leave(groups) => {
                groups.iter().try_for_each(|group| self.session.leave(group)).map_err(told)?;
            }
            Command::Send { service, groups, text } => {
                let service = service.unwrap_or(self.multicast.service);
                let multicast = Multicast { service, ..self.multicast };
                match text {
                    Some(text) => self.send(&multicast, &groups, &text)?,
                    None => self.draft = Some((multicast, groups, Draft::default())),
                }
            }
            Command::Service(None) => self.screen.say(self.multicast.service.to_string())?,
            Command::Service(Some(service)) => self.multicast.service = service,
            Command::Type(number) => self.multicast.message_type = number,
            Command::SelfDiscard(on) => self.multicast.self_discard = on,
            Command::Members(group) => self.show_members(group.as_deref())?,
            Command::Status => self.show_status()?,
            Command::Sync => self.sync()?,
            Command::Wait(time) => self.receive_for(time)?,
            Command::Help => self.screen.say(HELP.trim_end())?,
            Command::Quit => return Ok(Next::Quit),
        }
        Ok(Next::Command)
    }

    fn send(&mut self, multicast: &Multicast, groups: &[String], text: &[u8]) -> Result {
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.session.outbox().multicast_with(multicast, &groups, text).map_err(told)
    }

    fn send_draft(&mut self) -> Result {
        match self.draft.take() {
            Some((multicast, groups, draft)) => self.send(&multicast, &groups, draft.text()),
            None => Ok(()),
        }
    }

    fn sync(&mut self) -> Result {
        let marker = Marker::send(&mut self.session)?;
        let Self { session, screen, views, .. } = self;
        marker.wait(session, |event| show(event, screen, views))
    }

    fn receive_for(&mut self, time: Duration) -> Result {
        let deadline = Instant::now() + time;
        self.screen.output.flush()?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.session.receive_timeout(left).context("receiving failed")? {
                Some(event) => show(&event, &mut self.screen, &mut self.views)?,
                None => return Ok(()),
            }
            self.screen.output.flush()?;
        }
    }

    /// Shows what has come, without waiting for more.
    fn show_events(&mut self) -> Result {
        while let Some(event) = self.session.try_receive().map_err(|error| {
            // Not a failed command: there is no session to go on with.
            Failure::Failed(format!("the session is over: {error}"))
        })? {
            show(&event, &mut self.screen, &mut self.views)?;
        }
        self.screen.output.flush()
    }

    fn show_members(&mut self, group: Option<&str>) -> Result {
        // Joins and leaves that were just asked for are in the answer.
        self.sync()?;
        match group {
            Some(group) => match self.views.get(group) {
                Some(view) => self.screen.say(view),
                None => Err(failed(format!("no view of '{group}' has come: not a member"))),
            },
            None if self.views.is_empty() => self.screen.say("in no group"),
            None => self.views.values().try_for_each(|view| self.screen.say(view)),
        }
    }

    fn show_status(&mut self) -> Result {
        self.sync()?;
        let Multicast { service, message_type, self_discard, .. } = self.multicast;
        let discard = if self_discard { "on" } else { "off" };
        let groups: Vec<&str> = self.views.keys().map(String::as_str).collect();
        let groups = if groups.is_empty() { "none".to_owned() } else { groups.join(" ") };
        let carrier = match self.session.why_socket() {
            None => "shared memory".to_owned(),
            Some(why) => format!("socket ({why})"),
        };
        self.screen.say(format!(
            "session {} by {carrier}\nservice {service}, type {message_type}, discard {discard}\n\
             groups {groups}",
            self.session.private_group()
        ))
    }
}

/// Prints an event and remembers what views tell.
fn show(event: &Event<'_>, screen: &mut Screen, views: &mut BTreeMap<String, String>) -> Result {
    match event {
        Event::View(view) => {
            views.insert(view.group().to_string(), show_event(event));
        }
        Event::SelfLeave { group } => {
            views.remove(&group.to_string());
        }
        Event::Message(_) | Event::Transitional { .. } | Event::Rejected(_) => {}
    }
    if screen.json {
        screen.say(event_json(event).to_string())
    } else {
        screen.say(show_event(event))
    }
}

/// What the user did wrong, or that the session broke.
fn told(error: MulticastError) -> Failure {
    failed(error.to_string())
}

/// Waits for input or an event; whether there is input.
fn wait_for_either(input: &Input, session: &Session) -> Result<bool> {
    let mut fds = [
        PollFd::new(&input.stdin, PollFlags::IN),
        PollFd::from_borrowed_fd(session.as_fd(), PollFlags::IN),
    ];
    match poll(&mut fds, None) {
        // A signal: look at both again.
        Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
        Err(error) => Err(failed(format!("cannot wait for input: {error}"))),
    }
}

/// Standard output of a conversation: events push the prompt aside.
struct Screen {
    output: Output,
    terminal: bool,
    json: bool,
}

impl Screen {
    fn say(&mut self, text: impl AsRef<str>) -> Result {
        if self.terminal {
            // Back to the start of the line, and clear it of the prompt.
            self.output.bytes(b"\r\x1b[K")?;
        }
        self.output.line(text)
    }

    fn prompt(&mut self, prompt: &str) -> Result {
        if self.terminal {
            self.output.bytes(b"\r\x1b[K")?;
            self.output.bytes(prompt.as_bytes())?;
        }
        self.output.flush()
    }
}

/// Lines of standard input, read only when the kernel has some.
struct Input {
    stdin: Stdin,
    bytes: Vec<u8>,
    /// Where the next line begins in `bytes`.
    start: usize,
    line_number: u64,
    ended: bool,
}

impl Input {
    fn new(stdin: Stdin) -> Self {
        Self { stdin, bytes: Vec::new(), start: 0, line_number: 0, ended: false }
    }

    /// Reads once; does not wait where poll has said that there is something.
    fn fill(&mut self) -> Result {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.len() > 2 * BODY_BYTES_MAX {
            return Err(failed(format!("line {} has no end", self.line_number + 1)));
        }
        let mut chunk = [0; 16 * 1024];
        match rustix::io::read(self.stdin.as_fd(), &mut chunk) {
            Ok(0) => self.ended = true,
            Ok(read) => self.bytes.extend_from_slice(&chunk[..read]),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(failed(format!("cannot read the input: {error}"))),
        }
        Ok(())
    }

    /// The next line without its end; at the end of the input the last one needs none.
    fn next_line(&mut self) -> Option<Vec<u8>> {
        let unread = &self.bytes[self.start..];
        let (line, taken) = match unread.iter().position(|&byte| byte == b'\n') {
            Some(end) => (unread[..end].to_vec(), end + 1),
            None if self.ended && !unread.is_empty() => (unread.to_vec(), unread.len()),
            None => return None,
        };
        self.start += taken;
        self.line_number += 1;
        Some(line)
    }
}
