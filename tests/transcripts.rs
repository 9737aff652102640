//! What clients of Spread said to its daemon is said to ours, and it must answer byte for byte as
//! recorded: over both transports, with both drivers, on one core and on several.
//!
//! Where it answers differently on purpose, [`DEVIATIONS`] says so; `docs/spread-compatibility.md`
//! tells users.

mod recorded;
mod support;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{ErrorKind, Write};

use madrigal::wire::session::{Frame, Header, kind};
use recorded::{Line, What};
use support::{Connection, Daemon, Variant, variants};

/// Recorded lines that do not hold for this daemon, and why.
const DEVIATIONS: [(&str, Deviation); 10] = [
    // Bytes behind the hello are the beginning of the choice, which then stays incomplete.
    ("04-connect-rejects line 53", Deviation::Instead(b"\x05NULL \xf7")),
    // A group made again goes on counting, so that no group id comes back.
    ("05-join-leave-disconnect line 109", Deviation::Index(5)),
    // 44 groups are no problem here: both members get the message.
    ("08-multi-group line 61", Deviation::AlsoTo(&["A", "B"])),
    // A join of a name that no client library lets through is ignored.
    ("11-group-names line 34", Deviation::Instead(b"")),
    ("11-group-names line 37", Deviation::Instead(b"")),
    ("11-group-names line 40", Deviation::Instead(b"")),
    ("11-group-names line 45", Deviation::Instead(b"")),
    // Another group dissolved before: as in 05.
    ("11-group-names line 48", Deviation::Index(3)),
    ("11-group-names line 51", Deviation::Index(3)),
    // Nobody could use a daemon without any method: the configuration refuses it. The bytes are
    // in the tests of the session layer.
    ("19-auth-nothing-enabled line 1", Deviation::Instead(b"")),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deviation {
    /// These bytes come in the place of the recorded ones.
    Instead(&'static [u8]),
    /// The index of the group id is another.
    Index(i32),
    /// The message of the line also comes to these connections, which is not recorded.
    AlsoTo(&'static [&'static str]),
}

/// Configuration of the recorded daemon, where it was not the default; `{access}` is the path of
/// the access list, which follows.
const CONFIGURED: [(&str, &str, &str); 5] = [
    ("15-reject-quota", "[sessions]\nmax = 3", ""),
    ("16-auth-ip-only", "[auth]\nallowed = [\"IP\"]\naccess_ip = \"{access}\"", "local\nunix\n"),
    (
        "17-auth-ip-required-denied",
        "[auth]\nallowed = [\"NULL\"]\nrequired = [\"IP\"]\naccess_ip = \"{access}\"",
        "10.1.2.3\n",
    ),
    (
        "18-auth-both-listed",
        "[auth]\nallowed = [\"IP\", \"NULL\"]\naccess_ip = \"{access}\"",
        "local\nunix\n",
    ),
    ("22-max-session-messages-0", "[sessions]\nmessages_max = 0", ""),
];

/// The transcripts that concern one daemon: 21 is a test of its own below, 23 is for clients, the
/// ones from 30 on are of several daemons.
fn concerns_one_daemon(name: &str) -> bool {
    let number: u32 = name[..2].parse().expect("transcripts are numbered");
    number <= 22 && number != 21 && number != 19 || (40..50).contains(&number)
}

/// A transcript being replayed.
struct Replay {
    daemon: Daemon,
    over_tcp: bool,
    connections: HashMap<String, Connection>,
    /// Time part of all group ids, once one was seen.
    formed: Option<[u8; 4]>,
    /// What was read before its line's turn, and which lines that were.
    early: HashMap<String, VecDeque<Vec<u8>>>,
    read_ahead: HashSet<String>,
    /// Name field of a session with an automatic name: as recorded, and ours.
    renamed: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a recorded name field holds besides the name is memory of the client library.
fn field(name: &[u8]) -> Vec<u8> {
    let mut field = vec![0; 32];
    field[..name.len()].copy_from_slice(name);
    field
}

impl Replay {
    fn run(name: &str, variant: Variant, over_tcp: bool) {
        let mut lines = recorded::read(name);
        move_incomplete(&mut lines);
        let directory = tempfile::tempdir().unwrap();
        let access = directory.path().join("access_ip");
        let configured = CONFIGURED.iter().find(|(transcript, ..)| *transcript == name);
        let config = configured.map_or(String::new(), |(_, config, list)| {
            std::fs::write(&access, list).unwrap();
            config.replace("{access}", access.to_str().unwrap())
        });
        let timeout = "handshake_timeout_ms = 300";
        let config = match config.strip_prefix("[sessions]") {
            Some(rest) => format!("[sessions]\n{timeout}{rest}"),
            None => format!("[sessions]\n{timeout}\n{config}"),
        };
        let daemon = Daemon::start(variant, &config);
        let mut replay = Self {
            daemon,
            over_tcp,
            connections: HashMap::new(),
            formed: None,
            early: HashMap::new(),
            read_ahead: HashSet::new(),
            renamed: None,
        };
        let crowd = if name == "15-reject-quota" { replay.crowd(3) } else { Vec::new() };
        for (at, line) in lines.iter().enumerate() {
            replay.line(line);
            replay.await_delivery(line, &lines[at + 1..]);
        }
        drop(crowd);
    }

    /// Sessions that use up the quota.
    fn crowd(&self, sessions: usize) -> Vec<Connection> {
        let connect = |number| {
            let mut connection = self.daemon.unix();
            let hello = [5, 0, 1, 0, 1, b'a' + number as u8];
            connection.write_all(&hello).unwrap();
            assert_eq!(connection.take(6).unwrap(), b"\x05NULL ");
            connection
        };
        // The connections that looked whether the daemon is there count until they are closed.
        let opened: Vec<_> = (0..sessions).map(connect).collect();
        opened
    }

    fn line(&mut self, line: &Line) {
        if line.conn.is_empty() {
            return;
        }
        if !self.connections.contains_key(&line.conn) {
            let connection = if self.over_tcp { self.daemon.tcp() } else { self.daemon.unix() };
            self.connections.insert(line.conn.clone(), connection);
        }
        let What::Bytes { from_daemon, kind, bytes, .. } = &line.what else { return };
        match (from_daemon, kind.as_str()) {
            (true, "eof" | "reset") => {
                let ended = self.connection(line).is_ended();
                assert!(ended, "{}: the connection goes on", line.place);
            }
            (true, _) => self.receive(line, kind, bytes),
            (false, "eof" | "reset") => self.connection(line).half_close(),
            (false, _) => self.send(line, bytes),
        }
    }

    /// Waits until a message that was sent has come to the first one to get it: what another
    /// client sends next is then ordered behind it, as it was when this was recorded.
    fn await_delivery(&mut self, sent: &Line, later: &[Line]) {
        let What::Bytes { from_daemon: false, kind, bytes, .. } = &sent.what else { return };
        if kind != "message" {
            return;
        }
        let comes_to = later.iter().find_map(|line| match &line.what {
            What::Bytes { from_daemon: true, bytes: got, .. } if got == bytes => Some(&line.conn),
            What::Bytes { .. } | What::Received(_) | What::Other => None,
        });
        let Some(conn) = comes_to else { return };
        for line in later.iter().filter(|line| line.conn == *conn) {
            let What::Bytes { from_daemon: true, bytes: recorded, .. } = &line.what else {
                continue;
            };
            if self.read_ahead.insert(line.place.clone()) {
                let unit = self.read_unit(line, recorded);
                self.early.entry(conn.clone()).or_default().push_back(unit);
            }
            if recorded == bytes {
                return;
            }
        }
    }

    fn connection(&mut self, line: &Line) -> &mut Connection {
        self.connections.get_mut(&line.conn).expect("connections are opened when first named")
    }

    fn send(&mut self, line: &Line, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        if let Some((recorded, ours)) = &self.renamed
            && bytes.get(4..36) == Some(recorded)
        {
            bytes[4..36].copy_from_slice(ours);
        }
        match self.connection(line).write_all(&bytes) {
            Ok(()) => {}
            // Turned away before it said anything: the lines that follow tell.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => panic!("{}: cannot send: {error}", line.place),
        }
        let deviation = DEVIATIONS.iter().find(|(place, _)| *place == line.place);
        if let Some((_, Deviation::AlsoTo(conns))) = deviation {
            for conn in *conns {
                let receiver = self.connections.get_mut(*conn).expect("it is connected");
                assert_eq!(receiver.take(bytes.len()).unwrap(), bytes, "{}", line.place);
            }
        }
    }

    fn receive(&mut self, line: &Line, kind: &str, recorded: &[u8]) {
        let deviation = DEVIATIONS.iter().find(|(place, _)| *place == line.place);
        match deviation.map(|&(_, deviation)| deviation) {
            Some(Deviation::Instead(bytes)) => {
                let got = self.connection(line).take(bytes.len()).unwrap();
                assert_eq!(got, bytes, "{}", line.place);
            }
            Some(Deviation::AlsoTo(_)) => panic!("{}: nothing is sent", line.place),
            Some(Deviation::Index(index)) => self.compare(line, recorded, Some(index)),
            None if kind == "accept" => self.accept(line, recorded),
            None => self.compare(line, recorded, None),
        }
    }

    /// The answer to a connect; an automatic name is the daemon's own choice.
    fn accept(&mut self, line: &Line, recorded: &[u8]) {
        let start = recorded.iter().position(|&byte| byte == b'#').expect("a private group");
        let automatic = recorded[start..].starts_with(b"#r") && recorded[start..].contains(&b'-');
        if !automatic {
            return self.compare(line, recorded, None);
        }
        let head = self.connection(line).take(start).unwrap();
        assert_eq!(head[..start - 1], recorded[..start - 1], "{}", line.place);
        let name = self.connection(line).take(usize::from(head[start - 1])).unwrap();
        assert!(name.starts_with(b"#r") && name.ends_with(b"#localhost"), "{}", line.place);
        self.renamed = Some((field(&recorded[start..]), field(&name)));
    }

    /// Reads as much as was recorded, at least a whole frame, and compares.
    fn compare(&mut self, line: &Line, recorded: &[u8], index: Option<i32>) {
        let mut expected = recorded.to_vec();
        let early = self.early.get_mut(&line.conn).and_then(VecDeque::pop_front);
        let mut got = early.unwrap_or_else(|| self.read_unit(line, recorded));
        if let Some(id) = group_id(&expected) {
            if let Some(index) = index {
                expected[id + 8..id + 12].copy_from_slice(&index.to_le_bytes());
            }
            if let Some(formed) = got.get(id + 4..id + 8) {
                let formed: [u8; 4] = formed.try_into().unwrap();
                let first = *self.formed.get_or_insert(formed);
                assert_eq!(formed, first, "{}: one configuration has one time", line.place);
            }
            got.get_mut(id + 4..id + 8).into_iter().for_each(|time| time.fill(0));
            expected[id + 4..id + 8].fill(0);
        }
        assert!(
            got == expected,
            "{}: not as recorded\n got {}\nwant {}",
            line.place,
            describe(&got),
            describe(&expected)
        );
    }

    fn read_unit(&mut self, line: &Line, recorded: &[u8]) -> Vec<u8> {
        let place = &line.place;
        let connection = self.connection(line);
        let read = |connection: &mut Connection, len| {
            connection.take(len).unwrap_or_else(|error| panic!("{place}: cannot read: {error}"))
        };
        let Some(_) = recorded.first_chunk::<48>() else {
            return read(connection, recorded.len());
        };
        let mut got = read(connection, 48);
        let header = Header::parse(got.first_chunk().unwrap());
        let len = header.frame_len().expect("a frame has lengths");
        got.extend(read(connection, len - 48));
        got
    }
}

/// Where the group id of a membership message is.
fn group_id(frame: &[u8]) -> Option<usize> {
    let (frame, _) = Frame::parse(frame).ok()??;
    let has_id = frame.header.kind & (kind::REGULAR | kind::TRANSITIONAL) != 0;
    let is_data = frame.header.kind & kind::SERVICES != 0;
    (has_id && !is_data).then(|| 48 + 32 * frame.header.destinations as usize)
}

fn describe(bytes: &[u8]) -> String {
    match Frame::parse(bytes) {
        Ok(Some((frame, _))) => {
            let data = &frame.data[..frame.data.len().min(200)];
            let kind = frame.header.kind;
            let name = text(&frame.header.name);
            let names: Vec<_> = frame.names.iter().map(|name| text(name)).collect();
            format!("type 0x{kind:08x} name {name} groups {names:?} data {}", data.escape_ascii())
        }
        Ok(None) | Err(_) => bytes.escape_ascii().to_string(),
    }
}

fn text(field: &[u8]) -> String {
    let name = field.split(|&byte| byte == 0).next().unwrap_or_default();
    name.escape_ascii().to_string()
}

/// What a client had sent in part when its connection ended was recorded at the end: puts it where
/// it was sent, behind the last line of that connection that tells of no end.
fn move_incomplete(lines: &mut Vec<Line>) {
    let is_incomplete = |line: &Line| match &line.what {
        What::Bytes { from_daemon, kind, .. } => !from_daemon && kind == "incomplete",
        _ => false,
    };
    let tells_of_end = |line: &Line| match &line.what {
        What::Bytes { kind, .. } => ["eof", "reset", "reject"].contains(&kind.as_str()),
        _ => false,
    };
    while let Some(at) = (0..lines.len()).rev().find(|&at| {
        let line = &lines[at];
        is_incomplete(line)
            && lines[..at]
                .iter()
                .rev()
                .any(|before| before.conn == line.conn && tells_of_end(before))
    }) {
        let conn = lines[at].conn.clone();
        let to = lines[..at]
            .iter()
            .rposition(|before| before.conn == conn && !tells_of_end(before))
            .expect("a connection is opened before it ends");
        let line = lines.remove(at);
        lines.insert(to + 1, line);
    }
}

#[test]
fn every_recorded_client_gets_the_recorded_answers() {
    for variant in variants() {
        for over_tcp in [false, true] {
            for name in recorded::names().iter().filter(|name| concerns_one_daemon(name)) {
                eprintln!("{name} with {variant:?}, TCP {over_tcp}");
                Replay::run(name, variant, over_tcp);
            }
        }
    }
}
