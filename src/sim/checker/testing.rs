//! Hand-made traces, written as scripts: a line says who saw what.
//!
//! Who: daemons by number (`1,2`), sessions by letter and daemon (`a1,b2`). What:
//!
//! ```text
//! 1,2 regular 5 1,2,3       installs ring 5 of the daemons 1, 2, 3; 1 leads
//! 1,2 transitional 1,2      and moves on with 1 and 2
//! 1 submit 0 agreed         accepts its message 0; `init 0` places it; `send 0 agreed` is both
//! 2 deliver 1:0             delivers it
//! 3 crash | stop | start    `start` begins its next life, whose messages are 3.1:0 and so on
//! a1 send 0 agreed g,h      sends; `discard` behind it: no copy for itself
//! a1,b2 get a1:0            gets it
//! a1 join g 1 a1 a1,b2      gets view 1 of g, caused by a1; also leave, disconnect
//! a1,b2 network g 3 a1/b2   gets view 3 of g with the sets {a1} and {b2}
//! a1 signal g | left g | killed | end
//! a1 asks join g            asks for it; also `asks leave g` and `asks disconnect`
//! quiet a1,b2               these want no membership messages
//! cut 1>2,3>1               links that stay cut: 2 does not hear 1
//! calm 1,2/3                faults have stopped; components {1, 2} and {3}; `settled` behind it
//! ```

use std::collections::HashMap;

use crate::base::{
    DaemonId, DaemonName, GroupId, GroupName, Instant, PrivateGroup, RingId, Seq, Service,
    SessionName,
};

use super::trace::{
    Ask, Content, DaemonEvent, DaemonLog, Entry, Life, MessageId, Place, Sent, SessionEvent,
    SessionLog, Trace, ViewCause,
};
use super::{Property, check};

/// What the checker says of `script`.
pub(super) fn judge(script: &str) -> Option<Property> {
    check(&trace(script)).err().map(|violation| violation.property)
}

/// The trace that `script` tells.
pub(super) fn trace(script: &str) -> Trace {
    let mut writer = Writer::default();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        writer.line(line);
    }
    writer.trace
}

#[derive(Default)]
struct Writer {
    trace: Trace,
    step: u64,
    contents: HashMap<MessageId, Content>,
    places: HashMap<MessageId, Place>,
    rings: HashMap<Life, RingId>,
    next_seq: HashMap<RingId, u64>,
    sent: HashMap<Sent, (Content, Vec<GroupName>)>,
    quiet: Vec<PrivateGroup>,
}

fn daemons(text: &str) -> Vec<DaemonId> {
    text.split(',').map(|number| DaemonId::new(number.parse().unwrap())).collect()
}

fn session(text: &str) -> PrivateGroup {
    let (name, daemon) = text.split_at(1);
    let daemon = DaemonName::new(format!("d{daemon}").as_bytes()).unwrap();
    PrivateGroup { session: SessionName::new(name.as_bytes()).unwrap(), daemon }
}

fn sessions(text: &str) -> Vec<PrivateGroup> {
    text.split(',').filter(|text| !text.is_empty()).map(session).collect()
}

fn group(text: &str) -> GroupName {
    if text.len() > 1 { session(text).to_name() } else { GroupName::new(text.as_bytes()).unwrap() }
}

impl Writer {
    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[0] {
            "calm" => {
                self.trace.ending.calm = Some(self.now());
                self.trace.ending.components = words[1].split('/').map(daemons).collect();
                self.trace.ending.settled = Instant::from_nanos(u64::MAX);
            }
            "quiet" => self.quiet = sessions(words[1]),
            "cut" => {
                let pair = |text: &str| {
                    let (from, to) = text.split_once('>').unwrap();
                    (daemons(from)[0], daemons(to)[0])
                };
                self.trace.ending.cut = words[1].split(',').map(pair).collect();
            }
            "settled" => self.trace.ending.settled = self.now(),
            who if who.starts_with(|c: char| c.is_ascii_digit()) => {
                for daemon in daemons(who) {
                    self.daemon(daemon, &words[1..]);
                }
            }
            who => {
                for session in sessions(who) {
                    self.session(session, &words[1..]);
                }
            }
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.step)
    }

    fn entry<E>(&mut self, event: E) -> Entry<E> {
        self.step += 1;
        Entry { step: self.step, at: self.now(), event }
    }

    fn life(&self, daemon: DaemonId) -> Life {
        let lives = self.trace.daemons.iter().filter(|log| log.life.daemon == daemon);
        Life { daemon, incarnation: lives.count().saturating_sub(1) as u32 }
    }

    fn push(&mut self, life: Life, event: DaemonEvent) {
        let entry = self.entry(event);
        let log = match self.trace.daemons.iter_mut().position(|log| log.life == life) {
            Some(log) => &mut self.trace.daemons[log],
            None => {
                self.trace.daemons.push(DaemonLog { life, entries: Vec::new() });
                self.trace.daemons.last_mut().unwrap()
            }
        };
        log.entries.push(entry);
    }

    fn daemon(&mut self, daemon: DaemonId, words: &[&str]) {
        let life = self.life(daemon);
        let own = |n: &str| MessageId { origin: life, n: n.parse().unwrap() };
        let event = match words[0] {
            "regular" => {
                let members = daemons(words[2]);
                let ring = RingId { number: words[1].parse().unwrap(), leader: members[0] };
                self.rings.insert(life, ring);
                DaemonEvent::Regular { ring, members }
            }
            "transitional" => DaemonEvent::Transitional { members: daemons(words[1]) },
            "submit" => {
                let content = content(words[2], self.contents.len());
                self.contents.insert(own(words[1]), content);
                DaemonEvent::Submit { message: own(words[1]), content }
            }
            "init" => {
                let ring = self.rings[&life];
                let seq = self.next_seq.entry(ring).or_default();
                *seq += 1;
                let place = Place { ring, seq: Seq::new(*seq), index: 0 };
                self.places.insert(own(words[1]), place);
                DaemonEvent::Init { message: own(words[1]), place }
            }
            "send" => {
                self.daemon(daemon, &["submit", words[1], words[2]]);
                return self.daemon(daemon, &["init", words[1]]);
            }
            "deliver" => {
                let (origin, n) = words[1].split_once(':').unwrap();
                let (number, incarnation) = origin.split_once('.').unwrap_or((origin, "0"));
                let incarnation = incarnation.parse().unwrap();
                let origin = Life { daemon: DaemonId::new(number.parse().unwrap()), incarnation };
                let message = MessageId { origin, n: n.parse().unwrap() };
                let content = *self.contents.get(&message).unwrap_or(&content("agreed", 999));
                let none = RingId { number: 0, leader: daemon };
                let ring = *self.rings.get(&life).unwrap_or(&none);
                let nowhere = Place { ring, seq: Seq::new(999), index: 0 };
                let place = *self.places.get(&message).unwrap_or(&nowhere);
                DaemonEvent::Deliver { message, content, place }
            }
            "crash" => DaemonEvent::Crash,
            "stop" => DaemonEvent::Stop,
            "start" => {
                let life = Life { daemon, incarnation: life.incarnation + 1 };
                self.trace.daemons.push(DaemonLog { life, entries: Vec::new() });
                return;
            }
            other => panic!("a daemon does not {other}"),
        };
        self.push(life, event);
    }

    fn session(&mut self, session: PrivateGroup, words: &[&str]) {
        let event = match words[0] {
            "send" => {
                let n = words[1].parse().unwrap();
                let content = content(words[2], self.sent.len());
                let destinations: Vec<GroupName> = words[3].split(',').map(group).collect();
                let message = Sent { sender: session, n };
                self.sent.insert(message, (content, destinations.clone()));
                let self_discard = words.get(4) == Some(&"discard");
                SessionEvent::Send { n, content, destinations, self_discard }
            }
            "get" => {
                let (sender, n) = words[1].split_once(':').unwrap();
                let message = Sent { sender: self::session(sender), n: n.parse().unwrap() };
                let (content, destinations) = self.sent[&message].clone();
                SessionEvent::Deliver { message, content, destinations }
            }
            "network" => {
                let sets: Vec<Vec<PrivateGroup>> = words[3].split('/').map(sessions).collect();
                let own = sets.iter().position(|set| set.contains(&session)).unwrap_or(0);
                let members = sets.concat();
                let cause = ViewCause::Network { sets, own };
                SessionEvent::View { group: group(words[1]), id: view_id(words[2]), cause, members }
            }
            "signal" => SessionEvent::Transitional { group: group(words[1]) },
            "left" => SessionEvent::Left { group: group(words[1]) },
            "asks" => SessionEvent::Asked(match words[1] {
                "join" => Ask::Join(group(words[2])),
                "leave" => Ask::Leave(group(words[2])),
                _ => Ask::Disconnect,
            }),
            "killed" => SessionEvent::Killed,
            "end" => SessionEvent::End,
            cause => {
                let changed = self::session(words[3]);
                let cause = match cause {
                    "join" => ViewCause::Join(changed),
                    "leave" => ViewCause::Leave(changed),
                    "disconnect" => ViewCause::Disconnect(changed),
                    other => panic!("a session does not {other}"),
                };
                let (group, id) = (group(words[1]), view_id(words[2]));
                SessionEvent::View { group, id, cause, members: sessions(words[4]) }
            }
        };
        let entry = self.entry(event);
        let log = match self.trace.sessions.iter().position(|log| log.session == session) {
            Some(log) => &mut self.trace.sessions[log],
            None => {
                self.trace.sessions.push(SessionLog {
                    session,
                    watches: false,
                    start: 0,
                    entries: Vec::new(),
                });
                self.trace.sessions.last_mut().unwrap()
            }
        };
        // Who is told of views wants to be.
        let tells = matches!(entry.event, SessionEvent::Send { .. } | SessionEvent::Deliver { .. });
        log.watches |= !tells && !self.quiet.contains(&session);
        log.entries.push(entry);
    }
}

fn content(service: &str, hash: usize) -> Content {
    Content { service: service.parse::<Service>().unwrap(), hash: hash as u64 }
}

fn view_id(index: &str) -> GroupId {
    GroupId { daemon: 1, time: 1, index: index.parse().unwrap() }
}
