//! Replays a transcript against a daemon: the bytes of its clients go out in their order, and what
//! the daemon sends is compared with what the recorded one sent.

pub(crate) mod cluster;
mod compare;
mod script;

use std::collections::{BTreeMap, BTreeSet};

use madrigal::base::limits::FRAME_HEADER_BYTES;
use madrigal::wire::session::{Header, kind};

use crate::support::{Client, Daemon, Frame};
use compare::GroupIds;

pub(crate) use script::{Action, Deviation, Edit, Step, cluster_script, script};

/// How a transcript is replayed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Play {
    /// Over the Unix socket, whatever was recorded.
    pub(crate) unix: bool,
    /// A client sends on without waiting for answers, as long as no other client has its turn.
    pub(crate) pipelined: bool,
}

/// Replays all steps; the first difference is the error.
pub(crate) fn replay(daemon: &Daemon, steps: &[Step], play: Play) -> Result<(), String> {
    let mut player = Player { daemon, play, ..Player::new(daemon) };
    let mut sender = "";
    let mut expected: Vec<&Step> = Vec::new();
    for step in steps {
        match &step.action {
            Action::Expect(_)
            | Action::ExpectFrame(_)
            | Action::ExpectMerge(_)
            | Action::ExpectEnd => expected.push(step),
            Action::Send(bytes)
                if play.pipelined
                    && sender == step.conn
                    && is_open(&expected)
                    && !is_disconnect(bytes) =>
            {
                player.perform(step)?;
            }
            Action::Send(_) | Action::ConnectUnix | Action::Close | Action::Note(_) => {
                expected.drain(..).try_for_each(|step| player.perform(step))?;
                player.perform(step)?;
                sender = &step.conn;
            }
        }
    }
    expected.drain(..).try_for_each(|step| player.perform(step))?;
    player.finish()
}

/// Whether only frames are waited for: the handshake takes its turns.
fn is_open(expected: &[&Step]) -> bool {
    expected.iter().all(|step| matches!(step.action, Action::ExpectFrame(_)))
}

/// Whether it would throw away what waits for the client.
fn is_disconnect(bytes: &[u8]) -> bool {
    bytes.first_chunk().is_some_and(|header| Header::parse(header).kind & kind::KILL != 0)
}

struct Player<'d> {
    daemon: &'d Daemon,
    play: Play,
    clients: BTreeMap<String, Client>,
    /// Private groups of clients that asked for no name: as recorded, and as they are.
    renamed: BTreeMap<String, (String, String)>,
    unnamed: BTreeSet<String>,
    ids: GroupIds,
}

impl<'d> Player<'d> {
    fn new(daemon: &'d Daemon) -> Self {
        Self {
            daemon,
            play: Play::default(),
            clients: BTreeMap::new(),
            renamed: BTreeMap::new(),
            unnamed: BTreeSet::new(),
            ids: GroupIds::default(),
        }
    }

    fn perform(&mut self, step: &Step) -> Result<(), String> {
        let conn = &step.conn;
        let told = |what: String| format!("line {}, connection {conn}: {what}", step.line);
        match &step.action {
            Action::ConnectUnix => {
                let client = Client::silent(self.daemon);
                self.clients.insert(conn.clone(), client);
            }
            Action::Send(bytes) => self.send(conn, bytes),
            Action::Expect(bytes) => self.expect(conn, bytes).map_err(told)?,
            Action::ExpectFrame(bytes) => self.expect_frame(conn, bytes).map_err(told)?,
            Action::Close => {
                self.client(conn).half_close();
                // From here on its name is free, and the others have been told.
                self.client(conn).await_end().map_err(told)?;
            }
            // What the recorder remarked; with one daemon there is nothing for an operator to do.
            Action::Note(_) => {}
            Action::ExpectMerge(_) => unreachable!("one daemon has nobody to merge with"),
            Action::ExpectEnd => {
                let rest = self.client(conn).await_end().map_err(told)?;
                if rest > 0 {
                    let frames = self.client(conn).frames_to_end();
                    return Err(told(format!("{rest} bytes too many: {frames:?}")));
                }
            }
        }
        Ok(())
    }

    fn client(&mut self, conn: &str) -> &mut Client {
        self.clients.entry(conn.to_owned()).or_insert_with(|| {
            if self.play.unix {
                return Client::silent(self.daemon);
            }
            Client::tcp(self.daemon.tcp()[0]).expect("the daemon accepts")
        })
    }

    fn send(&mut self, conn: &str, bytes: &[u8]) {
        let is_hello_without_name = bytes.len() == 5 && bytes[4] == 0;
        if is_hello_without_name {
            self.unnamed.insert(conn.to_owned());
        }
        let bytes = self.with_names(conn, bytes);
        // It may have been turned away before it said anything.
        let _ = self.client(conn).try_send(&bytes);
    }

    /// The bytes with the name that the daemon chose, where the recorded daemon's choice was.
    fn with_names(&self, conn: &str, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        let Some((recorded, ours)) = self.renamed.get(conn) else { return bytes };
        let longest = recorded.len().max(ours.len());
        let padded = |name: &str| format!("{name:\0<longest$}").into_bytes();
        let (recorded, ours) = (padded(recorded), padded(ours));
        let mut from = 0;
        while let Some(at) = find(&bytes[from..], &recorded) {
            bytes[from + at..from + at + longest].copy_from_slice(&ours);
            from += at + longest;
        }
        bytes
    }

    fn expect(&mut self, conn: &str, recorded: &[u8]) -> Result<(), String> {
        let is_accept = recorded.len() > 5 && recorded[0] == 1;
        if is_accept && self.unnamed.remove(conn) {
            let client = self.client(conn);
            client.take_accept();
            let ours = client.name.clone();
            if !is_of_daemon(&ours) {
                return Err(format!("{ours:?} is no private group of this daemon"));
            }
            let recorded = String::from_utf8_lossy(&recorded[5..]).into_owned();
            self.renamed.insert(conn.to_owned(), (recorded, ours));
            return Ok(());
        }
        let got = self.client(conn).try_take(recorded.len());
        if got == recorded {
            return Ok(());
        }
        let (recorded, got) = (recorded.escape_ascii(), got.escape_ascii());
        Err(format!("recorded \"{recorded}\", got \"{got}\""))
    }

    fn expect_frame(&mut self, conn: &str, recorded: &[u8]) -> Result<(), String> {
        let recorded = Frame::from_bytes(self.with_names(conn, recorded));
        let client = self.client(conn);
        match client.try_receive() {
            Some(got) => self.ids.compare(&recorded, &got),
            None => Err(format!("nothing came but {} bytes\n  recorded {recorded:?}", {
                client.try_take(FRAME_HEADER_BYTES).len()
            })),
        }
    }

    /// Ends all connections; nothing may have come that was not recorded.
    fn finish(mut self) -> Result<(), String> {
        for (conn, client) in &mut self.clients {
            client.half_close();
            let rest = client.await_end().map_err(|what| format!("connection {conn}: {what}"))?;
            if rest > 0 {
                let bytes = client.try_take(rest);
                let bytes = bytes.escape_ascii();
                return Err(format!("connection {conn} got more than was recorded: \"{bytes}\""));
            }
        }
        Ok(())
    }
}

fn is_of_daemon(private: &str) -> bool {
    let name = private.strip_prefix('#').and_then(|rest| rest.strip_suffix("#localhost"));
    name.is_some_and(|name| (1..=10).contains(&name.len()) && !name.contains('#'))
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
