//! From a transcript to what a client has to do, and what it has to see.

use crate::recorded::{self, What};

/// A place where our daemon answers otherwise than the recorded one, and shall.
pub(crate) struct Deviation {
    pub(crate) transcript: &'static str,
    pub(crate) edits: &'static [Edit],
    pub(crate) reason: &'static str,
}

/// What a deviation means for the script; lines are those of the transcript.
#[derive(Clone, Copy)]
pub(crate) enum Edit {
    /// The daemon does not send this.
    Unsent(u64),
    /// The daemon sends these bytes in place of that line.
    Instead(u64, &'static [u8]),
    /// The daemon delivers what the client sends in this line, to these connections.
    Delivered(u64, &'static [&'static str]),
    /// What comes in these lines, the views after a merge, may come in steps.
    InSteps(u64, u64),
}

/// One step of a replay.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) line: u64,
    pub(crate) conn: String,
    pub(crate) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The client connects to the Unix socket; without this step, by TCP before its first other.
    ConnectUnix,
    Send(Vec<u8>),
    /// A part of the handshake.
    Expect(Vec<u8>),
    ExpectFrame(Vec<u8>),
    /// A view after a merge, which may have come about in steps.
    ExpectMerge(Vec<u8>),
    /// The client closes, and the daemon then does.
    Close,
    /// The daemon closes.
    ExpectEnd,
    /// The operator does something to the cluster, or explains.
    Note(String),
}

/// Reads a transcript of one daemon and applies what is known to be different.
pub(crate) fn script(transcript: &str, deviations: &[Deviation]) -> Vec<Step> {
    let mut steps = cluster_script(transcript, deviations);
    settle(&mut steps);
    steps
}

/// The same of several daemons: what one has heard, another may not have.
pub(crate) fn cluster_script(transcript: &str, deviations: &[Deviation]) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in recorded::read(transcript) {
        let conn = line.conn;
        let action = match line.what {
            What::Bytes { from_daemon, kind, bytes, .. } => match (kind.as_str(), from_daemon) {
                ("eof" | "reset", false) => Action::Close,
                ("eof" | "reset", true) => Action::ExpectEnd,
                ("incomplete", false) => {
                    // The recorder wrote it at the end; it was sent before the daemon's answer.
                    let at = place_of_incomplete(&steps, &conn);
                    let action = Action::Send(bytes);
                    steps.insert(at, Step { line: line.number, conn, action });
                    continue;
                }
                (_, false) => Action::Send(bytes),
                ("message", true) => Action::ExpectFrame(bytes),
                (_, true) => Action::Expect(bytes),
            },
            What::Call(call) if call.starts_with("SP_connect(\"<port>\"") => Action::ConnectUnix,
            What::Note(text) => Action::Note(text),
            What::Call(_) | What::Received(_) | What::Other => continue,
        };
        steps.push(Step { line: line.number, conn, action });
    }
    assert!(steps.len() > 2, "{transcript} tells nothing");
    for deviation in deviations.iter().filter(|deviation| transcript == deviation.transcript) {
        assert!(!deviation.reason.is_empty());
        for &edit in deviation.edits {
            apply(&mut steps, edit);
        }
    }
    steps
}

/// Where two clients send one after the other, with nothing in between to show that the first has
/// been heard, what shows it is waited for earlier: all that one receiver gets up to it.
fn settle(steps: &mut Vec<Step>) {
    for at in 0..steps.len() {
        let Action::Send(bytes) = &steps[at].action else { continue };
        let rest = &steps[at + 1..];
        let is_followed = rest.first().is_some_and(|next| {
            matches!(next.action, Action::Send(_)) && next.conn != steps[at].conn
        });
        let shown = rest.iter().find(
            |step| matches!(&step.action, Action::ExpectFrame(delivered) if delivered == bytes),
        );
        if let (true, Some(shown)) = (is_followed, shown) {
            let (line, conn) = (shown.line, shown.conn.clone());
            let is_earlier = |step: &Step| step.conn == conn && step.line <= line;
            let (earlier, later): (Vec<_>, Vec<_>) = steps.drain(at + 1..).partition(is_earlier);
            steps.extend(earlier);
            steps.extend(later);
        }
    }
}

/// Behind what the client has sent or understood so far.
fn place_of_incomplete(steps: &[Step], conn: &str) -> usize {
    let is_before = |step: &Step| {
        step.conn == conn
            && match &step.action {
                Action::Send(_)
                | Action::ConnectUnix
                | Action::ExpectFrame(_)
                | Action::ExpectMerge(_) => true,
                // A reject is one byte.
                Action::Expect(bytes) => bytes.len() > 1,
                Action::Close | Action::ExpectEnd | Action::Note(_) => false,
            }
    };
    let first = steps.iter().position(|step| step.conn == conn).unwrap_or(steps.len());
    steps.iter().rposition(is_before).map_or(first, |last| last + 1)
}

fn apply(steps: &mut Vec<Step>, edit: Edit) {
    let find = |line| {
        let at = steps.iter().position(|step| step.line == line);
        at.unwrap_or_else(|| panic!("a deviation is about line {line}, which has no bytes"))
    };
    match edit {
        Edit::Unsent(line) => {
            let step = steps.remove(find(line));
            let sent = matches!(step.action, Action::Send(_) | Action::Close | Action::ConnectUnix);
            assert!(!sent, "line {line} is the client's");
        }
        Edit::Instead(line, bytes) => {
            let at = find(line);
            steps[at].action = Action::Expect(bytes.to_vec());
        }
        Edit::InSteps(first, last) => {
            let lines = first..=last;
            for step in steps.iter_mut().filter(|step| lines.contains(&step.line)) {
                let Action::ExpectFrame(bytes) = &step.action else {
                    panic!("line {} is no frame", step.line)
                };
                step.action = Action::ExpectMerge(bytes.clone());
            }
        }
        Edit::Delivered(line, conns) => {
            let at = find(line);
            let Action::Send(bytes) = &steps[at].action else {
                panic!("line {line} is not the client's")
            };
            let action = Action::ExpectFrame(bytes.clone());
            for conn in conns {
                let step = Step { line, conn: (*conn).to_owned(), action: action.clone() };
                steps.insert(at + 1, step);
            }
        }
    }
}
