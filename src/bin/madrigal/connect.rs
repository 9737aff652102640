//! How subcommands get a session, and how they know that everything asked for has taken effect.

use std::time::{Duration, Instant};

use madrigal::base::Service;
use madrigal::client::{ConnectError, Event, Options, Reconnect, Session};

use crate::failure::{Context, Result, failed};
use crate::output::tell;
use crate::units::parse_duration;

/// How long a marker may take: while daemons form a new configuration nothing is delivered.
const MARKER_PATIENCE: Duration = Duration::from_secs(15);

/// Where to connect, and as whom.
#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// The daemon: PORT (Unix socket /tmp/PORT), PORT@HOST (TCP), or unix:PATH.
    #[arg(short, long, value_name = "ADDR", default_value = "4803")]
    pub(crate) address: String,
    /// Name of the session, 1 to 10 characters; the daemon chooses one if it is not given.
    #[arg(short, long)]
    pub(crate) name: Option<String>,
}

impl ConnectArgs {
    /// Connects; with `membership` the session is told of views.
    pub(crate) fn open(&self, membership: bool) -> Result<Session> {
        open(&self.address, &self.options(membership))
    }

    fn options(&self, membership: bool) -> Options {
        Options::new().name(self.name.as_deref().unwrap_or("")).membership(membership)
    }

    /// Says on standard error why a daemon of this host is not reached by shared memory.
    pub(crate) fn tell_why_socket(&self, session: &Session) {
        if let (Some(why), false) = (session.why_socket(), self.address.contains('@')) {
            tell(format!("by the Unix socket, without shared memory: {why}"));
        }
    }
}

/// What to do while there is no daemon.
#[derive(clap::Args)]
pub(crate) struct RetryArgs {
    /// Wait up to this long for a daemon, as in 30s: for the first connection, and again each time
    /// the connection is lost.
    #[arg(long = "retry", value_name = "TIME", value_parser = parse_duration)]
    time: Option<Duration>,
}

impl RetryArgs {
    /// Whether to connect again after a connection was lost.
    pub(crate) fn is_wanted(&self) -> bool {
        self.time.is_some()
    }

    /// As [`ConnectArgs::open`].
    pub(crate) fn open(&self, connect: &ConnectArgs, membership: bool) -> Result<Session> {
        let options = connect.options(membership).retry_for(self.time.unwrap_or_default());
        open(&connect.address, &options)
    }

    /// Connects again, by `deadline` at the latest, and says on standard error what happened.
    pub(crate) fn reconnect(
        &self,
        session: &mut Session,
        lost: impl std::fmt::Display,
        deadline: Option<Instant>,
    ) -> Result {
        tell(format!("madrigal: {lost}\nconnecting again"));
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let time = self.time.unwrap_or_default().min(left.unwrap_or(Duration::MAX));
        let policy = Reconnect::new().give_up_after(time);
        session.reconnect(&policy).context("cannot connect again")
    }
}

/// Connects to `address`.
pub(crate) fn open(address: &str, options: &Options) -> Result<Session> {
    Session::connect(address, options).map_err(|error| {
        let hint = match &error {
            ConnectError::Unreachable { .. } => "\nIs a daemon running there?",
            _ => "",
        };
        failed(format!("{error}{hint}"))
    })
}

/// A message from a session to itself: when it comes back, all that the session asked for before
/// has taken effect, and all that it caused has been delivered to it.
///
/// That follows from the one order of everything that daemons keep.
pub(crate) struct Marker {
    own: String,
    data: Vec<u8>,
    deadline: Instant,
}

impl Marker {
    /// Sends it.
    pub(crate) fn send(session: &mut Session) -> Result<Self> {
        let own = session.private_group().to_string();
        // A session sends to itself for no other reason, so the clock makes it unique enough.
        let data = format!("madrigal: marker {:?}", Instant::now()).into_bytes();
        session
            .multicast(Service::Agreed, &[&own], 0, &data)
            .context("cannot send a message to myself")?;
        Ok(Self { own, data, deadline: Instant::now() + MARKER_PATIENCE })
    }

    /// Whether `event` is it.
    pub(crate) fn is(&self, event: &Event<'_>) -> bool {
        match event {
            Event::Message(message) => {
                message.data() == self.data && message.sender().as_bytes() == self.own.as_bytes()
            }
            Event::View(_)
            | Event::Transitional { .. }
            | Event::SelfLeave { .. }
            | Event::Rejected(_) => false,
        }
    }

    /// Receives until it comes; `on_event` sees everything before it.
    pub(crate) fn wait(
        &self,
        session: &mut Session,
        mut on_event: impl FnMut(&Event<'_>) -> Result,
    ) -> Result {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            match session.receive_timeout(left).context("receiving failed")? {
                Some(event) if self.is(&event) => return Ok(()),
                Some(event) => on_event(&event)?,
                None => {
                    return Err(failed(format!(
                        "the daemon accepted the session {} but delivered nothing for {} s",
                        self.own,
                        MARKER_PATIENCE.as_secs()
                    )));
                }
            }
        }
    }
}

/// Waits until all that `session` asked for has taken effect; events until then are dropped.
pub(crate) fn settle(session: &mut Session) -> Result {
    Marker::send(session)?.wait(session, |_| Ok(()))
}
