//! Replays a transcript of a cluster against a lab: what the operator did then is done again, and
//! what each daemon sends is compared field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use madrigal::base::GroupId;
use madrigal::wire::session::frame::parse_hint;
use madrigal::wire::session::kind;

use super::script::{Action, Step};
use crate::lab::Lab;
use crate::support::{Client, Frame};

/// How much longer a daemon stands still, once the others have seen it go.
const STOPPED: Duration = Duration::from_secs(1);

/// Replays all steps; the first difference is the error. The daemons have formed a ring.
pub(crate) fn replay(lab: &Lab, steps: &[Step]) -> Result<(), String> {
    let mut player =
        Player { lab, clients: BTreeMap::new(), ids: Ids::default(), early: BTreeMap::new() };
    for step in steps {
        let told = |what| format!("line {}, connection {}: {what}", step.line, step.conn);
        player.perform(step).map_err(told)?;
    }
    match player.early.into_values().flatten().next() {
        Some(frame) => Err(format!("came, too: {frame:?}")),
        None => Ok(()),
    }
}

struct Player<'l> {
    lab: &'l Lab,
    clients: BTreeMap<String, Client>,
    ids: Ids,
    /// Views that came before their turn, by connection.
    early: BTreeMap<String, Vec<Frame>>,
}

impl Player<'_> {
    fn perform(&mut self, step: &Step) -> Result<(), String> {
        match &step.action {
            Action::ConnectUnix => {}
            Action::Note(text) => self.act(text),
            Action::Send(bytes) => self.client(&step.conn).send(bytes),
            Action::Expect(bytes) => {
                let got = self.client(&step.conn).try_take(bytes.len());
                if got != *bytes {
                    let (recorded, got) = (bytes.escape_ascii(), got.escape_ascii());
                    return Err(format!("recorded \"{recorded}\", got \"{got}\""));
                }
            }
            Action::ExpectFrame(bytes) => {
                let recorded = Frame::from_bytes(bytes.clone());
                let got = self.client(&step.conn).try_receive();
                let got = got.ok_or_else(|| format!("nothing came\n  recorded {recorded:?}"))?;
                self.ids.compare(&recorded, &got)?;
            }
            Action::ExpectMerge(bytes) => {
                let recorded = Frame::from_bytes(bytes.clone());
                self.expect_merge(&step.conn, &recorded)?;
            }
            Action::Close | Action::ExpectEnd => {
                let client = self.client(&step.conn);
                if step.action == Action::Close {
                    client.half_close();
                }
                if client.await_end()? > 0 {
                    return Err(format!("came, too: {:?}", client.frames_to_end()));
                }
            }
        }
        Ok(())
    }

    /// Takes views until the group's has all the recorded members. Those on the way have some of
    /// them; those of other groups are kept, as what merges when decides about their order.
    fn expect_merge(&mut self, conn: &str, recorded: &Frame) -> Result<(), String> {
        let kept = self.early.remove(conn).unwrap_or_default();
        let mut early = Vec::new();
        let mut found = None;
        for got in kept {
            if found.is_none() && is_whole(recorded, &got) {
                found = Some(got)
            } else {
                early.push(got)
            }
        }
        while found.is_none() {
            let got = self.client(conn).try_receive();
            let got = got.ok_or_else(|| format!("nothing came\n  recorded {recorded:?}"))?;
            if got.kind() != recorded.kind() {
                return Err(format!("\n  recorded {recorded:?}\n  got      {got:?}"));
            }
            if is_whole(recorded, &got) {
                found = Some(got);
            } else if !is_step(recorded, &got) {
                early.push(got);
            }
        }
        self.early.insert(conn.to_owned(), early);
        let got = found.expect("the loop ends with one");
        // Who has merged before comes together now.
        let (theirs, ours) = (sets(recorded), sets(&got));
        let comes_from = |set: &Vec<String>| {
            let parts = theirs.iter().filter(|part| part.iter().all(|name| set.contains(name)));
            parts.flatten().collect::<BTreeSet<_>>() == set.iter().collect()
        };
        let is_own = own_set(&got) >= own_set(recorded) || ours.len() < theirs.len();
        if ours.iter().all(comes_from) && is_own {
            return Ok(());
        }
        Err(format!("\n  recorded {recorded:?}\n  got      {got:?}"))
    }

    /// The client of this label, which begins as the name of its daemon ends.
    fn client(&mut self, conn: &str) -> &mut Client {
        let lab = self.lab;
        self.clients.entry(conn.to_owned()).or_insert_with(|| {
            let letter = conn[..1].to_lowercase();
            let host = format!("d{letter}");
            Client::unix(&lab.socket(&host)).expect("the daemon accepts")
        })
    }

    /// Does what the operator did.
    fn act(&self, text: &str) {
        match text.split_once(' ') {
            Some(("SIGSTOP", host)) => self.lab.run(&["pause", host]),
            Some(("SIGCONT", host)) => {
                // The recorded one had stood for seconds: the others had got over its loss.
                thread::park_timeout(STOPPED);
                self.lab.run(&["resume", host]);
            }
            Some(("SIGKILL", host)) => self.lab.run(&["kill", host]),
            Some(("SIGTERM", host)) => self.lab.run(&["stop", host]),
            _ if text == "partition heals" => self.lab.run(&["heal"]),
            _ if text.contains("partition {") => {
                let (_, parts) = text.split_once(" {").expect("it is there");
                let parts: String = parts.chars().filter(|c| !" {}".contains(*c)).collect();
                self.lab.run(&["partition", &parts.replace('|', "/")]);
            }
            Some((host, rest)) if rest.starts_with("is started again") => {
                self.lab.run(&["start", host]);
                self.lab.await_ring();
            }
            _ => assert!(
                text.starts_with("in the partition:") || text.contains(" multicasts while "),
                "what did the operator do? {text}"
            ),
        }
    }
}

/// Whether it is the view of the group with all the recorded members.
fn is_whole(recorded: &Frame, got: &Frame) -> bool {
    recorded.name() == got.name() && recorded.names() == got.names()
}

/// Whether it is a view of the group with some of the recorded members.
fn is_step(recorded: &Frame, got: &Frame) -> bool {
    let all = recorded.names();
    recorded.name() == got.name() && got.names().iter().all(|name| all.contains(name))
}

/// Ids of views: which of ours stands for which recorded one. Clients compare them for equality, so
/// two are equal here where they were there, and different where they were not.
#[derive(Default)]
struct Ids {
    ours: BTreeMap<(String, [i32; 3]), [i32; 3]>,
    recorded: BTreeMap<(String, [i32; 3]), [i32; 3]>,
}

impl Ids {
    fn compare(&mut self, recorded: &Frame, got: &Frame) -> Result<(), String> {
        let same = recorded.kind() == got.kind()
            && recorded.name() == got.name()
            && recorded.names() == got.names()
            && parse_hint(recorded.header().hint) == parse_hint(got.header().hint)
            && recorded.header().order == got.header().order
            && self.is_same_body(recorded, got);
        if same { Ok(()) } else { Err(format!("\n  recorded {recorded:?}\n  got      {got:?}")) }
    }

    fn is_same_body(&mut self, recorded: &Frame, got: &Frame) -> bool {
        if recorded.is_view() {
            let (theirs, ours) = (recorded.view(), got.view());
            return self.is_same_id(&recorded.name(), parts(theirs.id), parts(ours.id))
                && sets(recorded) == sets(got)
                && own_set(recorded) == own_set(got)
                && recorded.data().len() == got.data().len();
        }
        if recorded.kind() == kind::TRANSITIONAL {
            let (Some(theirs), Some(ours)) = (id_of(recorded.data()), id_of(got.data())) else {
                return false;
            };
            return self.is_same_id(&recorded.name(), theirs, ours);
        }
        recorded.data() == got.data()
    }

    fn is_same_id(&mut self, group: &str, theirs: [i32; 3], ours: [i32; 3]) -> bool {
        let ours_is = *self.ours.entry((group.to_owned(), theirs)).or_insert(ours);
        let theirs_is = *self.recorded.entry((group.to_owned(), ours)).or_insert(theirs);
        (ours_is, theirs_is) == (ours, theirs)
    }
}

fn parts(id: GroupId) -> [i32; 3] {
    [id.daemon, id.time, id.index]
}

/// The id that is the whole of a transitional signal, written little-endian as all of a frame.
fn id_of(data: &[u8]) -> Option<[i32; 3]> {
    let words =
        data.chunks_exact(4).map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    (data.len() == 12).then(|| words.collect::<Vec<_>>().try_into().ok()).flatten()
}

/// The order of the sets means nothing, that of the members in them does.
fn sets(frame: &Frame) -> BTreeSet<Vec<String>> {
    frame.view().sets().map(|set| set.map(|name| name.to_string()).collect()).collect()
}

fn own_set(frame: &Frame) -> Option<Vec<String>> {
    let view = frame.view();
    view.sets().nth(view.own_set()).map(|set| set.map(|name| name.to_string()).collect())
}
