//! Results as named figures, their medians over rounds, and the ratios of two sides.

use serde_json::{Map, Value, json};

use crate::units::{show_count, show_ns, three_digits};

/// How a figure is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Nanoseconds, shown with the unit that suits them.
    Nanoseconds,
    /// Microseconds of CPU time for each message.
    CpuMicros,
    /// Things in a second.
    PerSecond,
    /// Millions of bytes in a second.
    Megabytes,
}

/// One figure of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Metric {
    /// What it is, for people.
    pub(crate) label: &'static str,
    /// What it is, for machines; the unit comes last.
    pub(crate) key: &'static str,
    pub(crate) unit: Unit,
    pub(crate) value: f64,
}

impl Unit {
    /// A figure in this unit, for people.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Nanoseconds => show_ns(value),
            Self::CpuMicros => format!("{} us", three_digits(value)),
            Self::PerSecond => format!("{}/s", show_count(value)),
            Self::Megabytes => format!("{} MB/s", three_digits(value)),
        }
    }
}

/// One figure over all rounds of one side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct MedianRange {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl MedianRange {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "no round was run");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (middle, last) = (sorted.len() / 2, sorted.len() - 1);
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Self { median, min: sorted[0], max: sorted[last] }
    }

    fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }

    fn to_text(self, unit: Unit) -> String {
        if self.min == self.max {
            return unit.show(self.median);
        }
        format!("{} [{} - {}]", unit.show(self.median), unit.show(self.min), unit.show(self.max))
    }
}

/// One figure of one or two sides.
pub(crate) struct Row {
    metric: Metric,
    ours: MedianRange,
    theirs: Option<MedianRange>,
}

impl Row {
    /// First side's median as a multiple of the second's, where there is one that is not zero.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let theirs = self.theirs?.median;
        (theirs > 0.0).then(|| self.ours.median / theirs)
    }
}

/// Sets figures side by side: `ours` and `theirs` hold one list for each round.
///
/// A figure that only one side has (CPU time without a pid) is left out of the other.
pub(crate) fn side_by_side(ours: &[Vec<Metric>], theirs: &[Vec<Metric>]) -> Vec<Row> {
    let Some(first) = ours.first() else { return Vec::new() };
    let column = |rounds: &[Vec<Metric>], key: &str| -> Option<MedianRange> {
        let values: Vec<f64> = rounds
            .iter()
            .filter_map(|round| round.iter().find(|metric| metric.key == key))
            .map(|metric| metric.value)
            .collect();
        (!values.is_empty()).then(|| MedianRange::of(&values))
    };
    let row = |&metric: &Metric| {
        let ours = column(ours, metric.key)?;
        Some(Row { metric, ours, theirs: column(theirs, metric.key) })
    };
    first.iter().filter_map(row).collect()
}

/// A table for people; `names` are the two sides.
pub(crate) fn rows_to_text(rows: &[Row], names: (&str, Option<&str>)) -> Vec<String> {
    let mut cells = vec![match names.1 {
        Some(theirs) => ["".to_owned(), names.0.to_owned(), theirs.to_owned(), "ratio".to_owned()],
        None => [String::new(), names.0.to_owned(), String::new(), String::new()],
    }];
    cells.extend(rows.iter().map(|row| {
        let unit = row.metric.unit;
        let theirs = row.theirs.map_or_else(String::new, |theirs| theirs.to_text(unit));
        let ratio = row.ratio().map_or_else(String::new, |it| format!("{}x", three_digits(it)));
        [row.metric.label.to_owned(), row.ours.to_text(unit), theirs, ratio]
    }));
    let widths: Vec<usize> =
        (0..4).map(|at| cells.iter().map(|row| row[at].len()).max().unwrap_or(0)).collect();
    let line = |row: &[String; 4]| {
        let text: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        format!("  {}", text.join("  ").trim_end())
    };
    cells.iter().map(line).collect()
}

/// For machines: for each figure its key, with both sides and the ratio.
pub(crate) fn rows_to_json(rows: &[Row]) -> Value {
    let mut object = Map::new();
    for row in rows {
        let mut figure = json!({ "address": row.ours.to_json() });
        if let Some(theirs) = row.theirs {
            figure["compare"] = theirs.to_json();
            figure["ratio"] = json!(row.ratio());
        }
        object.insert(row.metric.key.to_owned(), figure);
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metric(key: &'static str, value: f64) -> Metric {
        Metric { label: key, key, unit: Unit::Nanoseconds, value }
    }

    #[test]
    fn median_is_the_middle_or_halfway_between_the_two() {
        assert_eq!(
            MedianRange::of(&[3.0, 1.0, 2.0]),
            MedianRange { median: 2.0, min: 1.0, max: 3.0 }
        );
        assert_eq!(MedianRange::of(&[4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert_eq!(MedianRange::of(&[7.0]), MedianRange { median: 7.0, min: 7.0, max: 7.0 });
    }

    #[test]
    fn ratio_is_that_of_the_medians_not_of_single_rounds() {
        let ours = [10.0, 1_000.0, 20.0].map(|value| vec![metric("p50_ns", value)]);
        let theirs = [40.0, 1.0, 50.0].map(|value| vec![metric("p50_ns", value)]);
        let rows = side_by_side(&ours, &theirs);
        assert_eq!(rows[0].ratio(), Some(0.5));
        assert_eq!(rows_to_json(&rows)["p50_ns"]["ratio"], 0.5);
        let text = rows_to_text(&rows, ("4803", Some("4804")));
        assert!(text[0].contains("ratio"), "{text:?}");
        assert!(text[1].ends_with("0.50x"), "{text:?}");
    }

    #[test]
    fn a_figure_of_one_side_has_no_ratio() {
        let ours = [vec![metric("p50_ns", 10.0), metric("cpu_us", 4.0)]];
        let rows = side_by_side(&ours, &[vec![metric("p50_ns", 0.0)]]);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows.iter().map(Row::ratio).collect::<Vec<_>>(), [None, None]);
        assert!(rows_to_json(&rows)["cpu_us"].get("compare").is_none());
        assert!(side_by_side(&[], &[]).is_empty());
    }
}
