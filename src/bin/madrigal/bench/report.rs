//! A bench's result, for people and for machines.

use serde_json::{Map, Value, json};

use super::machine::Machine;
use super::metric::{Metric, rows_to_json, rows_to_text, side_by_side};
use super::options::Common;
use super::yardstick::Yardstick;
use crate::failure::Result;
use crate::output::Output;

/// What a bench found out.
pub(crate) struct Report<'a> {
    pub(crate) common: &'a Common,
    /// Name of the bench.
    pub(crate) bench: &'static str,
    /// What was done, for people.
    pub(crate) title: String,
    /// What was done beyond the common arguments, for machines.
    pub(crate) settings: Value,
    /// Figures of each round of `--address`.
    pub(crate) ours: Vec<Vec<Metric>>,
    /// Figures of each round of `--compare`.
    pub(crate) theirs: Vec<Vec<Metric>>,
    /// Lines for people below the table.
    pub(crate) notes: Vec<String>,
    /// Further members of the JSON object.
    pub(crate) details: Map<String, Value>,
    pub(crate) yardstick: Option<Yardstick>,
}

impl Report<'_> {
    /// Prints it in the form asked for.
    pub(crate) fn print(&self) -> Result {
        let mut output = Output::new();
        if self.common.json {
            output.json(&self.to_json())?;
        } else {
            self.to_text().into_iter().try_for_each(|line| output.line(line))?;
        }
        output.flush()
    }

    /// Lines for people.
    pub(crate) fn to_text(&self) -> Vec<String> {
        let common = self.common;
        let rows = side_by_side(&self.ours, &self.theirs);
        let mut lines = vec![
            format!("machine: {}", Machine::find().to_text()),
            format!("{}: {}", self.bench, self.title),
            self.how_much(),
            String::new(),
        ];
        lines.extend(rows_to_text(&rows, (&common.address, common.compare.as_deref())));
        lines.extend(self.notes.iter().cloned());
        lines
    }

    fn how_much(&self) -> String {
        let common = self.common;
        let each = match common.count {
            Some(count) => format!("{count} messages"),
            None => format!("{:?}", common.duration),
        };
        let rounds = match (self.ours.len(), &common.compare) {
            (1, None) => String::new(),
            (rounds, None) => format!(", {rounds} rounds: median [least - most]"),
            (rounds, Some(_)) => format!(
                ", {rounds} rounds of each in turn: median [least - most], \
                 ratio of medians, first to second"
            ),
        };
        format!("measured: {each} after {:?} of warm-up{rounds}", common.warmup)
    }

    fn to_json(&self) -> Value {
        let common = self.common;
        let mut object = json!({
            "bench": self.bench,
            "version": env!("CARGO_PKG_VERSION"),
            "machine": Machine::find().to_json(),
            "address": common.address,
            "compare": common.compare,
            "rounds": self.ours.len(),
            "size_bytes": common.size,
            "service": common.service.as_str(),
            "wait": common.wait.as_str(),
            "pin": common.pinning().to_json(),
            "carriers": common.carriers.to_json(),
            "settings": self.settings,
            "results": rows_to_json(&side_by_side(&self.ours, &self.theirs)),
        });
        for (key, value) in &self.details {
            object[key] = value.clone();
        }
        if let Some(yardstick) = &self.yardstick {
            object["yardstick"] = yardstick.to_json();
        }
        object
    }
}
