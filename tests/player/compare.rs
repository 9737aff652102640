//! Whether what came is what was recorded, but for what may differ from run to run.

use std::collections::BTreeMap;

use crate::support::Frame;

/// First integer of each group id of a daemon called `localhost`: Spread's hash of that name.
const LOCALHOST: i32 = 482_711_334;

/// Group ids seen so far, recorded and ours.
#[derive(Debug, Default)]
pub(crate) struct GroupIds {
    /// The second integer, the same in all ids of a run.
    time: Option<i32>,
    groups: BTreeMap<String, Indices>,
}

/// Third integers of one group's ids.
#[derive(Debug)]
struct Indices {
    /// Ours less the recorded one. Groups that are made again begin at 1 in Spread; here they count
    /// on, so that no id ever comes back.
    ahead: i32,
    highest: i32,
}

impl GroupIds {
    /// Compares `got` with the recorded frame.
    pub(crate) fn compare(&mut self, recorded: &Frame, got: &Frame) -> Result<(), String> {
        let mut expected = recorded.bytes().to_vec();
        if recorded.is_view() && got.is_view() && recorded.name() == got.name() {
            self.check(recorded, got)?;
            // The id is right, if not the same: what is left must be equal.
            if let (Some(theirs), Some(ours)) = (recorded.group_id_at(), got.group_id_at()) {
                expected[theirs..theirs + 12].copy_from_slice(&got.bytes()[ours..ours + 12]);
            }
        }
        if expected == got.bytes() {
            return Ok(());
        }
        let first = expected.iter().zip(got.bytes()).position(|(a, b)| a != b);
        let first = first.unwrap_or(expected.len().min(got.bytes().len()));
        Err(format!(
            "differ from byte {first} on\n  recorded {recorded:?}\n  got      {got:?}\n  \
             recorded from there {}\n  got from there      {}",
            excerpt(&expected, first),
            excerpt(got.bytes(), first),
        ))
    }

    fn check(&mut self, recorded: &Frame, got: &Frame) -> Result<(), String> {
        let (theirs, ours) = (recorded.group_id(), got.group_id());
        let time = *self.time.get_or_insert(ours.time);
        if (ours.daemon, ours.time) != (LOCALHOST, time) {
            return Err(format!("id {ours:?} does not begin with {LOCALHOST}, {time}"));
        }
        let indices = self
            .groups
            .entry(recorded.name())
            .or_insert(Indices { ahead: ours.index - theirs.index, highest: 0 });
        if theirs.index == 1 {
            if ours.index <= indices.highest {
                return Err(format!("a new group has the id of an old one: {got:?}"));
            }
            indices.ahead = ours.index - 1;
        }
        indices.highest = indices.highest.max(ours.index);
        if ours.index - theirs.index != indices.ahead || indices.ahead < 0 {
            return Err(format!(
                "the {}th id of the group is {ours:?}, which is not {} ahead",
                theirs.index, indices.ahead
            ));
        }
        Ok(())
    }
}

fn excerpt(bytes: &[u8], from: usize) -> String {
    let shown = bytes.iter().skip(from).take(24);
    shown.map(|byte| format!("{byte:02x} ")).collect()
}
