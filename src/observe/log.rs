//! Lines for an operator, on standard error.
//!
//! Only the control path writes lines. A kind of line that repeats is held to a few a second, so
//! that a crowd of clients coming and going cannot make the log the bottleneck.

use std::fmt;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::Duration;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::base::event::{EndReason, GatherReason};
use crate::base::limits::DIFFERENCES_TOLD_MAX;
use crate::base::{DaemonId, DaemonName, Event, Instant};

/// Sends this process's log lines to standard error.
///
/// `journal`: with the priority prefix that systemd's journal reads, without time and level.
/// The first call counts, later ones change nothing.
pub fn install(level: LevelFilter, journal: bool) {
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(!journal && io::stderr().is_terminal());
    // An error says that lines go somewhere already, which is fine.
    let _ = if journal { lines.event_format(Journal).try_init() } else { lines.try_init() };
}

/// A line as systemd's journal takes it: `<priority>message field=value`.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: tracing::Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &tracing::Event<'_>,
    ) -> fmt::Result {
        write!(line, "<{}>", priority(*event.metadata().level()))?;
        context.format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}

/// Syslog's number for a level.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Lines of one kind that may be written in one second.
const LINES_PER_SECOND: u32 = 10;

const SECOND: Duration = Duration::from_secs(1);

/// Writes what the layers of one core tell.
#[derive(Debug, Default)]
pub struct Teller {
    /// What daemons are called.
    names: Vec<(DaemonId, DaemonName)>,
    /// What those were called that the configuration before had.
    former: Vec<(DaemonId, DaemonName)>,
    limits: [Limit; KINDS],
}

/// Kinds of [`Event`], which are limited each for itself.
const KINDS: usize = 9;

impl Teller {
    /// Tells of these daemons by name, of others by number.
    pub fn new(names: Vec<(DaemonId, DaemonName)>) -> Self {
        Self { names, ..Self::default() }
    }

    /// From now on these are the daemons; those before may still be told of, as they are left.
    pub fn rename(&mut self, names: Vec<(DaemonId, DaemonName)>) {
        self.former = std::mem::replace(&mut self.names, names);
    }

    /// Writes one line, unless there were too many of its kind in this second.
    pub fn tell(&mut self, now: Instant, event: &Event) {
        let (kind, name) = match event {
            Event::ConfigurationInstalled { .. } => (0, "configuration"),
            Event::GatherStarted { .. } => (3, "configuration sought"),
            Event::SessionStarted { .. } => (1, "session started"),
            Event::SessionEnded { .. } => (2, "session ended"),
            Event::ClusterDiffers { .. } => (4, "another configuration"),
            Event::RefusalsDisproved { .. } => (5, "refusals"),
            Event::EarlierLife { .. } => (6, "earlier life"),
            Event::DaemonUnheard { .. }
            | Event::DaemonForeign { .. }
            | Event::MulticastUnheard { .. } => (7, "daemon not heard"),
            Event::Stood { .. } => (8, "daemon stood still"),
        };
        let (may_write, unwritten) = self.limits[kind].take(now);
        if unwritten > 0 {
            tracing::info!(lines = unwritten, kind = name, "more of the same, not written");
        }
        if may_write {
            self.write(event);
        }
    }

    fn name(&self, daemon: DaemonId) -> String {
        let known = self.names.iter().chain(&self.former).find(|(id, _)| *id == daemon);
        known.map_or_else(|| daemon.get().to_string(), |(_, name)| name.to_string())
    }

    fn reason(&self, reason: GatherReason) -> String {
        match reason {
            GatherReason::Start => "the daemon starts".into(),
            GatherReason::TokenLost => "no sign of the token".into(),
            GatherReason::Left(daemon) => format!("{} left it", self.name(daemon)),
            GatherReason::Goodbye(daemon) => format!("{} said goodbye", self.name(daemon)),
            GatherReason::Unreachable(daemon) => {
                format!("nothing listens at {}", self.name(daemon))
            }
            GatherReason::Found(daemon) => format!("{} could join", self.name(daemon)),
            GatherReason::Stuck => "no progress".into(),
            GatherReason::Reload => "the cluster is another one".into(),
        }
    }

    fn write(&self, event: &Event) {
        match event {
            Event::ConfigurationInstalled { ring, daemons } => {
                let (ring, count) = (ring.number, daemons.len());
                let names = daemons.iter().map(|&daemon| self.name(daemon)).collect::<Vec<_>>();
                let daemons = names.join(" ");
                tracing::info!(ring, count, daemons, "configuration installed");
            }
            Event::GatherStarted { ring, reason } => {
                let (ring, reason) = (ring.number, self.reason(*reason));
                tracing::info!(ring, reason, "configuration sought");
            }
            Event::ClusterDiffers { daemon, address, differences } => {
                write_differences(*daemon, *address, differences);
            }
            Event::EarlierLife { daemon, patience } => tracing::warn!(
                daemon = self.name(*daemon),
                ?patience,
                "a daemon shows an earlier life than known: its clock was set back, or these are \
                 old packets; it is let in when the later one was silent for that long"
            ),
            Event::RefusalsDisproved { daemon } => tracing::warn!(
                daemon = self.name(*daemon),
                "packets to a daemon are refused though it is there: \
                 a firewall seems to reject its token port"
            ),
            Event::Stood { time } => tracing::warn!(
                ?time,
                "this daemon did not run: was it stopped, or does its host lack processors?"
            ),
            Event::DaemonUnheard { daemon, address } => {
                let daemon = self.name(*daemon);
                tracing::warn!(
                    daemon,
                    %address,
                    "a daemon is not heard yet: is it started? does a firewall drop UDP? does its \
                     file have another port?"
                );
            }
            Event::DaemonForeign { daemon, address, from } => {
                let daemon = self.name(*daemon);
                tracing::warn!(
                    daemon,
                    %address,
                    %from,
                    "what comes from a daemon's host is no packet of this version: does Spread \
                     still run there, or another version of Madrigal, or does something else have \
                     its port?"
                );
            }
            Event::MulticastUnheard { daemon, address, group } => {
                let daemon = self.name(*daemon);
                tracing::warn!(
                    daemon,
                    %address,
                    %group,
                    "a daemon is heard, but not its multicast: does a switch or firewall drop it, \
                     or is there no IGMP querier? cluster.multicast = \"none\" does without"
                );
            }
            Event::SessionStarted { .. } | Event::SessionEnded { .. } => write_session(event),
        }
    }
}

fn write_differences(daemon: DaemonName, address: SocketAddr, differences: &[String]) {
    let (told, untold) = differences.split_at(differences.len().min(DIFFERENCES_TOLD_MAX));
    let mut text = told.join("; ");
    if !untold.is_empty() {
        text += &format!("; and {} more", untold.len());
    }
    tracing::warn!(
        %daemon,
        %address,
        differences = text,
        "a daemon has another configuration, so it is no daemon of this cluster"
    );
}

fn write_session(event: &Event) {
    match event {
        Event::ConfigurationInstalled { .. }
        | Event::GatherStarted { .. }
        | Event::ClusterDiffers { .. }
        | Event::EarlierLife { .. }
        | Event::Stood { .. }
        | Event::RefusalsDisproved { .. }
        | Event::DaemonUnheard { .. }
        | Event::DaemonForeign { .. }
        | Event::MulticastUnheard { .. } => {}
        Event::SessionStarted { session } => tracing::info!(%session, "session started"),
        Event::SessionEnded { session, reason } => match reason {
            EndReason::Disconnected => {
                tracing::info!(%session, reason = "disconnected", "session ended");
            }
            EndReason::Closed => tracing::info!(%session, reason = "closed", "session ended"),
            EndReason::Violation(violation) => {
                tracing::warn!(%session, reason = "violation", %violation, "session ended");
            }
            EndReason::Slow { messages, bytes } => {
                tracing::warn!(%session, reason = "slow", messages, bytes, "session ended");
            }
        },
    }
}

/// Counts the lines of one kind in the current second.
#[derive(Debug, Default)]
struct Limit {
    began: Instant,
    lines: u32,
    unwritten: u64,
}

impl Limit {
    /// Whether a line may be written now, and how many were not since it was last told.
    fn take(&mut self, now: Instant) -> (bool, u64) {
        let mut unwritten = 0;
        if now.since(self.began) >= SECOND {
            unwritten = std::mem::take(&mut self.unwritten);
            self.began = now;
            self.lines = 0;
        }
        let may_write = self.lines < LINES_PER_SECOND;
        if may_write {
            self.lines += 1;
        } else {
            self.unwritten += 1;
        }
        (may_write, unwritten)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;
    use crate::base::event::Violation;
    use crate::base::{DaemonId, PrivateGroup, RingId};

    /// Takes lines instead of standard error.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    /// The lines, in the journal's form, that `f` writes.
    fn lines_of(f: impl FnOnce(&mut Teller)) -> Vec<String> {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .with_ansi(false)
            .event_format(Journal)
            .finish();
        tracing::subscriber::with_default(subscriber, || f(&mut Teller::default()));
        let bytes = lines.0.lock().unwrap();
        String::from_utf8(bytes.clone()).unwrap().lines().map(str::to_owned).collect()
    }

    fn alice() -> PrivateGroup {
        PrivateGroup::parse(b"#alice#localhost").unwrap()
    }

    fn ended(reason: EndReason) -> Event {
        Event::SessionEnded { session: alice(), reason }
    }

    #[test]
    fn every_event_is_one_line() {
        let ring = RingId { number: 7, leader: DaemonId::new(9) };
        let events = [
            Event::ConfigurationInstalled { ring, daemons: vec![DaemonId::new(9)] },
            Event::GatherStarted { ring, reason: GatherReason::Goodbye(DaemonId::new(8)) },
            Event::ClusterDiffers {
                daemon: DaemonName::new(b"d8").unwrap(),
                address: "10.0.0.8:4803".parse().unwrap(),
                differences: (1..=10).map(|n| format!("segment {n}: x here, y there")).collect(),
            },
            Event::RefusalsDisproved { daemon: DaemonId::new(9) },
            Event::EarlierLife { daemon: DaemonId::new(9), patience: Duration::from_secs(10) },
            Event::Stood { time: Duration::from_millis(1_400) },
            Event::DaemonUnheard {
                daemon: DaemonId::new(9),
                address: "10.0.0.9:4803".parse().unwrap(),
            },
            Event::DaemonForeign {
                daemon: DaemonId::new(9),
                address: "10.0.0.9:4803".parse().unwrap(),
                from: "10.0.0.9:40404".parse().unwrap(),
            },
            Event::MulticastUnheard {
                daemon: DaemonId::new(9),
                address: "10.0.0.9:4803".parse().unwrap(),
                group: "239.77.68.71:4803".parse().unwrap(),
            },
            Event::SessionStarted { session: alice() },
            ended(EndReason::Disconnected),
            ended(EndReason::Closed),
            ended(EndReason::Violation(Violation::Destinations { found: 101 })),
            ended(EndReason::Slow { messages: 3, bytes: 99 }),
        ];
        let lines = lines_of(|teller| {
            *teller = Teller::new(vec![(DaemonId::new(9), DaemonName::new(b"d9").unwrap())]);
            for event in &events {
                teller.tell(Instant::ZERO, event);
            }
        });
        assert_eq!(
            lines,
            [
                "<6>configuration installed ring=7 count=1 daemons=\"d9\"",
                "<6>configuration sought ring=7 reason=\"8 said goodbye\"",
                "<4>a daemon has another configuration, so it is no daemon of this cluster \
                 daemon=d8 address=10.0.0.8:4803 differences=\"segment 1: x here, y there; \
                 segment 2: x here, y there; segment 3: x here, y there; \
                 segment 4: x here, y there; segment 5: x here, y there; \
                 segment 6: x here, y there; segment 7: x here, y there; \
                 segment 8: x here, y there; and 2 more\"",
                "<4>packets to a daemon are refused though it is there: \
                 a firewall seems to reject its token port daemon=\"d9\"",
                "<4>a daemon shows an earlier life than known: its clock was set back, or these \
                 are old packets; it is let in when the later one was silent for that long \
                 daemon=\"d9\" patience=10s",
                "<4>this daemon did not run: was it stopped, or does its host lack processors? \
                 time=1.4s",
                "<4>a daemon is not heard yet: is it started? does a firewall drop UDP? does its \
                 file have another port? daemon=\"d9\" address=10.0.0.9:4803",
                "<4>what comes from a daemon's host is no packet of this version: does Spread \
                 still run there, or another version of Madrigal, or does something else have its \
                 port? daemon=\"d9\" address=10.0.0.9:4803 from=10.0.0.9:40404",
                "<4>a daemon is heard, but not its multicast: does a switch or firewall drop it, \
                 or is there no IGMP querier? cluster.multicast = \"none\" does without \
                 daemon=\"d9\" address=10.0.0.9:4803 group=239.77.68.71:4803",
                "<6>session started session=#alice#localhost",
                "<6>session ended session=#alice#localhost reason=\"disconnected\"",
                "<6>session ended session=#alice#localhost reason=\"closed\"",
                "<4>session ended session=#alice#localhost reason=\"violation\" \
                 violation=101 destinations: 0 to 100 are allowed",
                "<4>session ended session=#alice#localhost reason=\"slow\" messages=3 bytes=99",
            ]
        );
    }

    #[test]
    fn daemons_have_the_names_of_the_last_configuration_or_the_one_before() {
        let name = |name: &str| DaemonName::new(name.as_bytes()).unwrap();
        let id = DaemonId::new;
        let ring = RingId { number: 7, leader: id(1) };
        let lines = lines_of(|teller| {
            *teller = Teller::new(vec![(id(1), name("a")), (id(2), name("b"))]);
            teller.rename(vec![(id(1), name("a2")), (id(3), name("c"))]);
            let daemons = vec![id(1), id(2), id(3), id(4)];
            teller.tell(Instant::ZERO, &Event::ConfigurationInstalled { ring, daemons });
            teller.rename(vec![(id(3), name("c"))]);
            let daemons = vec![id(1), id(2)];
            teller.tell(Instant::ZERO, &Event::ConfigurationInstalled { ring, daemons });
        });
        assert!(lines[0].ends_with("daemons=\"a2 b c 4\""), "{lines:?}");
        assert!(lines[1].ends_with("daemons=\"a2 2\""), "{lines:?}");
    }

    #[test]
    fn repeated_lines_are_held_to_a_few_a_second_and_counted() {
        let start = Event::SessionStarted { session: alice() };
        let second = Instant::ZERO + Duration::from_secs(5);
        let lines = lines_of(|teller| {
            for _ in 0..25 {
                teller.tell(second, &start);
            }
            // Another kind has its own share.
            teller.tell(second, &ended(EndReason::Closed));
            teller.tell(second + SECOND, &start);
        });
        assert_eq!(lines.len(), 10 + 1 + 2);
        assert_eq!(lines[11], "<6>more of the same, not written lines=15 kind=\"session started\"");
        assert!(lines[12].starts_with("<6>session started "));
    }
}
