//! Latencies as recorded, summed up and drawn.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::iterators::IterationValue;
use serde_json::{Value, json};

use crate::units::{show_count, show_ns};

/// Longest latency told apart from longer ones: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// Rows of a drawn histogram.
const ROWS: u32 = 14;

/// Longest bar of a drawn histogram, in characters.
const BAR_CHARS: usize = 48;

/// Latencies in nanoseconds, with three significant digits.
#[derive(Clone)]
pub(crate) struct Latencies(Histogram<u64>);

/// The figures that people compare, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    /// How many were recorded.
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3);
        Self(histogram.expect("one to a minute with three digits is within the library's bounds"))
    }

    /// Adds one; above a minute it counts as a minute.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.record_ns(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Adds one in nanoseconds.
    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        let added = self.0.add(&other.0);
        added.expect("all histograms here have the same bounds");
    }

    /// Whether none was recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The figures of all that were recorded.
    pub(crate) fn summary(&self) -> Summary {
        let quantile = |quantile| self.0.value_at_quantile(quantile) as f64;
        Summary {
            count: self.0.len(),
            mean: self.0.mean(),
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.0.max() as f64,
        }
    }

    /// One in so many takes longer than that, in microseconds: the percentiles, ever closer to the
    /// whole. What is plotted.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        let point = |step: IterationValue<u64>| {
            let one_in = 1.0 / (1.0 - step.quantile_iterated_to());
            (one_in, step.value_iterated_to() as f64 / 1e3)
        };
        self.0.iter_quantiles(5).map(point).filter(|(one_in, _)| one_in.is_finite()).collect()
    }

    /// The table that HdrHistogram's own plotters read, in microseconds.
    pub(crate) fn to_hgrm(&self) -> String {
        let mut text = String::from("       Value     Percentile TotalCount 1/(1-Percentile)\n\n");
        let mut count = 0;
        for step in self.0.iter_quantiles(5) {
            count += step.count_since_last_iteration();
            let value = step.value_iterated_to() as f64 / 1e3;
            let quantile = step.quantile_iterated_to();
            let one_in = 1.0 / (1.0 - quantile);
            let one_in = if one_in.is_finite() { format!("{one_in:14.2}") } else { String::new() };
            text += &format!("{value:12.3} {quantile:14.12} {count:10} {one_in}\n");
        }
        let (mean, deviation) = (self.0.mean() / 1e3, self.0.stdev() / 1e3);
        let (max, count) = (self.0.max() as f64 / 1e3, self.0.len());
        text += &format!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n");
        text + &format!("#[Max     = {max:12.3}, Total count    = {count:12}]\n")
    }

    /// Rows of text: a bar for each range of latencies. Each range is as many times wider than the
    /// one before, so that both the bulk and a tail a hundred times later can be seen.
    pub(crate) fn draw(&self) -> Vec<String> {
        if self.is_empty() {
            return Vec::new();
        }
        let (low, high) = (self.0.min().max(1), self.0.max());
        let step = (high as f64 / low as f64).powf(1.0 / f64::from(ROWS));
        let mut rows = Vec::new();
        let mut from = low;
        for row in 1..=ROWS {
            let to = (low as f64 * step.powi(row as i32)) as u64;
            let to = if row == ROWS { high + 1 } else { to };
            // Ranges of a few nanoseconds may be empty.
            if to > from {
                rows.push((from, to, self.0.count_between(from, to - 1)));
                from = to;
            }
        }
        let most = rows.iter().map(|row| row.2).max().unwrap_or(0).max(1);
        rows.iter().map(|&(from, to, count)| draw_row(from, to, count, most)).collect()
    }
}

fn draw_row(from: u64, to: u64, count: u64, most: u64) -> String {
    let chars = (count as f64 / most as f64 * BAR_CHARS as f64).ceil() as usize;
    let bar = "#".repeat(chars);
    let (from, to) = (show_ns(from as f64), show_ns(to as f64));
    format!("  {from:>8} .. {to:<8} |{bar:<BAR_CHARS$}| {}", show_count(count as f64))
}

impl Summary {
    /// For machines; every figure in nanoseconds.
    pub(crate) fn to_json(self) -> Value {
        json!({
            "count": self.count,
            "mean_ns": self.mean.round(),
            "p50_ns": self.p50,
            "p90_ns": self.p90,
            "p99_ns": self.p99,
            "p999_ns": self.p999,
            "max_ns": self.max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up_to(last: u64) -> Latencies {
        let mut latencies = Latencies::new();
        for us in 1..=last {
            latencies.record(Duration::from_micros(us));
        }
        latencies
    }

    #[test]
    fn percentiles_are_those_of_the_values() {
        let summary = up_to(1_000).summary();
        assert_eq!(summary.count, 1_000);
        for (found, expected) in [
            (summary.p50, 500e3),
            (summary.p90, 900e3),
            (summary.p99, 990e3),
            (summary.p999, 999e3),
            (summary.max, 1_000e3),
            (summary.mean, 500.5e3),
        ] {
            assert!((found / expected - 1.0).abs() < 0.002, "{found} for {expected}");
        }
    }

    #[test]
    fn a_latency_beyond_the_range_is_kept_as_the_longest() {
        let mut latencies = up_to(9);
        latencies.record(Duration::from_secs(3_600));
        assert_eq!(latencies.summary().count, 10);
        assert!(latencies.summary().max >= 59e9);
    }

    #[test]
    fn tables_and_curves_come_to_the_longest() {
        let latencies = up_to(1_000);
        let text = latencies.to_hgrm();
        let rows: Vec<&str> =
            text.lines().skip(2).take_while(|row| !row.starts_with('#')).collect();
        let last: Vec<f64> =
            rows.last().unwrap().split_whitespace().map(|word| word.parse().unwrap()).collect();
        assert!((last[0] / 1_000.0 - 1.0).abs() < 0.002 && last[1] == 1.0, "{text}");
        assert_eq!(last[2], 1_000.0);
        let curve = latencies.curve();
        assert!(curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        let half = curve.iter().find(|(one_in, _)| *one_in >= 2.0).unwrap();
        assert!((half.1 / 500.0 - 1.0).abs() < 0.01, "{half:?}");
        assert!(Latencies::new().curve().is_empty());
    }

    #[test]
    fn drawing_shows_every_value_once() {
        let rows = up_to(10_000).draw();
        assert!(rows.len() <= ROWS as usize, "{rows:#?}");
        let counted: u64 = rows
            .iter()
            .map(|row| row.rsplit("| ").next().unwrap().replace(',', "").parse::<u64>().unwrap())
            .sum();
        // Neighbouring rows may share a cell of the histogram.
        assert!((9_950..=10_100).contains(&counted), "{rows:#?}");
        assert!(Latencies::new().draw().is_empty());
        let mut one = Latencies::new();
        one.record_ns(45);
        assert_eq!(one.draw().len(), 1);
    }
}
