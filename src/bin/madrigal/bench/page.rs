//! A result as one HTML file: the text as printed, and the percentiles as a plot.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use plotters::prelude::*;

use crate::failure::{Context, Result, failed};

/// Pixels of the plot.
const SIZE: (u32, u32) = (960, 480);

/// Colours of the two sides.
const COLOURS: [RGBColor; 2] = [RGBColor(0, 90, 181), RGBColor(220, 50, 32)];

/// A daemon's name, and its percentiles: one in so many takes longer than so many microseconds.
pub(crate) type Curve = (String, Vec<(f64, f64)>);

/// The page with these lines and curves.
pub(crate) fn page(lines: &[String], curves: Vec<Curve>) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, &curves).map_err(|error| failed(format!("cannot draw the plot: {error}")))?;
    let text = lines.join("\n").replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>madrigal bench</title>\n\
         <style>body {{ font: 14px sans-serif; margin: 2em }} pre {{ font-size: 13px }}</style>\n\
         <h1>Latency by percentile</h1>\n{svg}\n<pre>{text}</pre>\n</html>\n"
    ))
}

/// A file that a result is to be written to.
pub(crate) struct Target<'a> {
    path: &'a Path,
    file: File,
}

impl<'a> Target<'a> {
    /// Opens the file, and leaves what is in it until there is something else to write.
    pub(crate) fn open(path: &'a Path) -> Result<Self> {
        let file = File::options().write(true).create(true).truncate(false).open(path);
        Ok(Self { path, file: file.context(format!("cannot write {}", path.display()))? })
    }

    /// Writes all of it.
    pub(crate) fn write(mut self, text: &str) -> Result {
        // What is no file, as /dev/stdout, has no length to set.
        let _ = self.file.set_len(0);
        self.file
            .write_all(text.as_bytes())
            .context(format!("cannot write {}", self.path.display()))
    }
}

fn draw(svg: &mut String, curves: &[Curve]) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let points = || curves.iter().flat_map(|(_, points)| points);
    let one_in = points().map(|point| point.0).fold(10.0, f64::max);
    let least = points().map(|point| point.1).fold(f64::MAX, f64::min).clamp(1e-3, 1e9);
    let most = points().map(|point| point.1).fold(least * 2.0, f64::max);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .x_label_area_size(40)
        .y_label_area_size(80)
        .build_cartesian_2d((1.0..one_in).log_scale(), (least * 0.8..most * 1.2).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("microseconds")
        .x_label_formatter(&|one_in| percentile(*one_in))
        .y_label_formatter(&|micros| {
            if *micros < 10.0 { format!("{micros}") } else { format!("{micros:.0}") }
        })
        .draw()?;
    for ((name, points), colour) in curves.iter().zip(COLOURS) {
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
        let key = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(name).legend(key);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

/// The percentile beyond which one in so many is.
fn percentile(one_in: f64) -> String {
    let digits = (one_in.log10() - 2.0).ceil().max(0.0) as usize;
    format!("{:.digits$}%", 100.0 * (1.0 - 1.0 / one_in))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_stands_alone_and_shows_both_sides() {
        let curve = |name: &str, most: f64| (name.to_owned(), vec![(1.0, 5.0), (1_000.0, most)]);
        let lines = ["a <b> & c".to_owned()];
        let page = page(&lines, vec![curve("4803", 90.0), curve("4804", 70.0)]).unwrap();
        assert!(page.contains("a &lt;b&gt; &amp; c") && page.contains("99.9%"), "{page}");
        // Each curve and its key.
        assert_eq!((page.matches("#005AB5").count(), page.matches("#DC3220").count()), (2, 2));
        assert!(!page.contains("href=") && !page.contains("src="));
        assert!(page.contains("4803") && page.contains("4804"));
    }

    #[test]
    fn percentiles_are_told_with_the_digits_they_need() {
        let told = [1.0, 2.0, 10.0, 100.0, 1_000.0, 1e5].map(percentile);
        assert_eq!(told, ["0%", "50%", "90%", "99%", "99.9%", "99.999%"]);
    }
}
