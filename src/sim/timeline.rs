//! A run, readable: what each daemon did, one line after the other.

use std::fmt::{self, Write as _};

use crate::base::{DaemonId, GroupName, Instant, PrivateGroup};

use super::checker::trace::{Ask, DaemonEvent, Life, Ring, Sent, SessionEvent, Trace, ViewCause};
use super::cluster::Action;
use super::core::Channel;

/// Something that is in no trace, but tells how things came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The scenario did something.
    Action(Action),
    /// A daemon is in another state.
    State(&'static str),
    /// A daemon sent a datagram: to one or all, on which socket, how many bytes.
    Transmit(Option<DaemonId>, Channel, usize),
}

struct Noted {
    step: u64,
    at: Instant,
    host: Option<usize>,
    note: Note,
}

/// What was noted during a run.
#[derive(Default)]
pub struct Timeline {
    pub(super) recording: bool,
    notes: Vec<Noted>,
}

impl Timeline {
    pub(super) fn note(
        &mut self,
        step: u64,
        at: Instant,
        host: Option<usize>,
        note: impl FnOnce() -> Note,
    ) {
        if self.recording {
            self.notes.push(Noted { step, at, host, note: note() });
        }
    }

    /// The run as lines of text: moment, step, daemon, and what it did. Deliveries and datagrams in
    /// a row are told in one line.
    pub fn render(&self, trace: &Trace) -> String {
        let mut lines: Vec<(u64, Instant, Who, Told)> = Vec::new();
        for noted in &self.notes {
            let who = noted.host.map_or(Who::Scenario, |host| Who::Host(host + 1));
            lines.push((noted.step, noted.at, who, Told::of_note(&noted.note)));
        }
        for log in &trace.daemons {
            for entry in &log.entries {
                let told = Told::of_event(&entry.event);
                lines.push((entry.step, entry.at, Who::Life(log.life), told));
            }
        }
        for log in &trace.sessions {
            for entry in &log.entries {
                let told = Told::of_session(&entry.event);
                lines.push((entry.step, entry.at, Who::Session(log.session), told));
            }
        }
        lines.sort_by_key(|(step, at, ..)| (*at, *step));
        let mut text = String::new();
        let mut lines = lines.into_iter().peekable();
        while let Some((step, at, who, mut told)) = lines.next() {
            while let Some((.., more)) = lines.next_if(|(_, _, other, _)| other.is(&who)) {
                if let Err(other) = told.join(more) {
                    line(&mut text, step, at, &who, &told);
                    told = other;
                }
            }
            line(&mut text, step, at, &who, &told);
        }
        text
    }
}

fn line(text: &mut String, step: u64, at: Instant, who: &Who, told: &Told) {
    let millis = at.as_nanos() / 1_000_000;
    let nanos = at.as_nanos() % 1_000_000;
    let who = who.to_string();
    // Writing to a string does not fail.
    let _ = writeln!(text, "{millis:>6}.{nanos:06} {step:>7}  {who:<6} {told}");
}

enum Who {
    Scenario,
    Host(usize),
    Life(Life),
    Session(PrivateGroup),
}

impl Who {
    fn is(&self, other: &Self) -> bool {
        let number = |who: &Self| match who {
            Self::Scenario => (0, None),
            Self::Host(host) => (*host as u32, None),
            Self::Life(life) => (life.daemon.get(), None),
            Self::Session(session) => (0, Some(*session)),
        };
        number(self) == number(other)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario => f.write_str("--"),
            Self::Host(host) => write!(f, "d{host}"),
            Self::Life(life) => write!(f, "{life}"),
            Self::Session(session) => write!(f, "{session}"),
        }
    }
}

enum Told {
    Plain(String),
    /// A verb and what it was done to, several times in a row.
    Many(&'static str, Vec<String>),
}

impl Told {
    fn of_note(note: &Note) -> Self {
        match note {
            Note::Action(action) => Self::Plain(format!("{action:?}")),
            Note::State(state) => Self::Plain(format!("is in {state}")),
            Note::Transmit(to, channel, bytes) => {
                let to = to.map_or("all".to_owned(), |daemon| format!("d{}", daemon.get()));
                let what = match channel {
                    Channel::Data => "",
                    Channel::Token => "token ",
                };
                Self::Many("sends", vec![format!("{what}to {to} ({bytes} B)")])
            }
        }
    }

    fn of_event(event: &DaemonEvent) -> Self {
        match event {
            DaemonEvent::Submit { message, content } => {
                Self::Many("accepts", vec![format!("{message} {}", content.service)])
            }
            DaemonEvent::Init { message, place } => {
                Self::Many("places", vec![format!("{message} at {place}")])
            }
            DaemonEvent::Deliver { message, content, place } => {
                let what = format!("{message} {} at {place}", content.service);
                Self::Many("delivers", vec![what])
            }
            DaemonEvent::Regular { ring, members } => {
                Self::Plain(format!("INSTALLS {} of {}", Ring(*ring), list(members)))
            }
            DaemonEvent::Transitional { members } => {
                Self::Plain(format!("MOVES ON with {}", list(members)))
            }
            DaemonEvent::Crash => Self::Plain("CRASHES".to_owned()),
            DaemonEvent::Stop => Self::Plain("STOPS".to_owned()),
        }
    }

    fn of_session(event: &SessionEvent) -> Self {
        let names = |names: &[GroupName]| {
            names.iter().map(|name| name.to_string()).collect::<Vec<_>>().join(" ")
        };
        match event {
            SessionEvent::Asked(Ask::Join(group)) => Self::Plain(format!("asks to join {group}")),
            SessionEvent::Asked(Ask::Leave(group)) => Self::Plain(format!("asks to leave {group}")),
            SessionEvent::Asked(Ask::Disconnect) => Self::Plain("asks to end".to_owned()),
            SessionEvent::Send { n, content, destinations, self_discard } => {
                let discard = if *self_discard { ", no copy" } else { "" };
                let to = names(destinations);
                Self::Many("sends", vec![format!("{n} {} to {to}{discard}", content.service)])
            }
            SessionEvent::Deliver { message, content, .. } => {
                let Sent { sender, n } = message;
                Self::Many("gets", vec![format!("{sender}:{n} {}", content.service)])
            }
            SessionEvent::View { group, id, cause, members } => {
                let id = format!("{}.{}.{}", id.daemon, id.time, id.index);
                let why = match cause {
                    ViewCause::Join(who) => format!("{who} joined"),
                    ViewCause::Leave(who) => format!("{who} left"),
                    ViewCause::Disconnect(who) => format!("{who} ended"),
                    ViewCause::Network { sets, own } => {
                        let sets = sets.iter().map(|set| sessions(set)).collect::<Vec<_>>();
                        format!("network {} own {own}", sets.join(" "))
                    }
                };
                Self::Plain(format!("VIEW {id} of {group}: {} as {why}", sessions(members)))
            }
            SessionEvent::Transitional { group } => Self::Plain(format!("SIGNAL of {group}")),
            SessionEvent::Left { group } => Self::Plain(format!("has left {group}")),
            SessionEvent::Killed => Self::Plain("is thrown out".to_owned()),
            SessionEvent::End => Self::Plain("ends".to_owned()),
        }
    }

    /// Takes `more` into the same line, or gives it back.
    fn join(&mut self, more: Self) -> Result<(), Self> {
        match (self, more) {
            (Self::Many(verb, all), Self::Many(same, more)) if *verb == same => {
                all.extend(more);
                Ok(())
            }
            (_, more) => Err(more),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Many(verb, all) => write!(f, "{verb} {}", all.join(", ")),
        }
    }
}

fn sessions(sessions: &[PrivateGroup]) -> String {
    let sessions: Vec<String> = sessions.iter().map(|session| session.to_string()).collect();
    format!("{{{}}}", sessions.join(" "))
}

fn list(daemons: &[DaemonId]) -> String {
    let daemons: Vec<String> = daemons.iter().map(|d| format!("d{}", d.get())).collect();
    format!("{{{}}}", daemons.join(" "))
}
