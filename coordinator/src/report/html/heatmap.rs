//! Latency over time as a heat map: how many operations took how long, when.

use std::fmt::Write as _;

use groundswell_stats::{Distribution, Layout};

use super::chart::{Axis, across, drawing, figure, frame, up};
use super::scale::Scale;
use super::series::{Grid, milliseconds, seconds_of_the_run};

/// Latencies are told apart in so many rows.
const ROWS: usize = 30;
/// Shades that the style has, from few to many.
const SHADES: usize = 7;

/// A heat map of distributions, one for each column of the grid; nothing where there is no sample.
pub(super) fn figure_of(id: &str, title: &str, grid: &Grid, columns: &[Option<Distribution>]) -> String {
    let all = || columns.iter().flatten().filter(|column| column.count() > 0);
    let least = all().map(Distribution::min_us).min();
    let greatest = all().map(Distribution::max_us).max();
    let (Some(least), Some(greatest)) = (least, greatest) else { return String::new() };
    // A latency of 0 has no place on a logarithmic axis.
    let scale = Scale::logarithmic(least.max(1) as f64 / 1e3, (greatest.max(1) as f64 * 1.05) / 1e3);
    let cells: Vec<[u64; ROWS]> = columns.iter().map(|column| counts(&scale, column.as_ref())).collect();
    let most = cells.iter().flatten().copied().max().unwrap_or(0);
    let (x, y) = (seconds_of_the_run(grid), Axis { name: "response time", scale, show: milliseconds });
    let description = format!(
        "Response time by seconds of the run, from {} to {}; the stronger the colour, the more operations, at most {most} in a cell.",
        milliseconds(least as f64 / 1e3),
        milliseconds(greatest as f64 / 1e3)
    );
    let mut svg = drawing(id, title, &description);
    frame(&mut svg, &x, &y, &[]);
    for shade in 0..SHADES {
        let mut path = String::new();
        for row in 0..ROWS {
            runs(
                &cells,
                row,
                |count| shade_of(count, most) == Some(shade),
                |from, to| {
                    let (left, right) = (across(&x.scale, grid.start(from)), across(&x.scale, grid.start(to)));
                    let part = |row: usize| y.scale.value(row as f64 / ROWS as f64);
                    let (top, bottom) = (up(&y.scale, part(row + 1)), up(&y.scale, part(row)));
                    // Writing to a string does not fail.
                    let _ = write!(path, "M{left:.1} {top:.1}H{right:.1}V{bottom:.1}H{left:.1}z");
                },
            );
        }
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"h{shade}\" d=\"{path}\"/>");
        }
    }
    svg.push_str("</svg>");
    let legend: String = (0..SHADES).map(|shade| format!("<li class=\"s{shade}\"></li>")).collect();
    let legend = format!("<ul class=\"legend shades\"><li>few</li>{legend}<li>{most} operations</li></ul>");
    figure(title, &svg, &legend)
}

/// Operations of one column in each row, from the fastest.
fn counts(scale: &Scale, column: Option<&Distribution>) -> [u64; ROWS] {
    let mut counts = [0; ROWS];
    let Some(column) = column else { return counts };
    for (bin, count) in column.buckets().iter() {
        let (low, high) = (Layout::STANDARD.lowest_of(bin), Layout::STANDARD.highest_of(bin));
        let ms = (low + (high - low) / 2) as f64 / 1e3;
        let row = ((scale.at(ms) * ROWS as f64) as usize).min(ROWS - 1);
        counts[row] += count;
    }
    counts
}

/// Its shade, by the logarithm: a rare outlier must show beside the usual thousands. None where there is nothing.
fn shade_of(count: u64, most: u64) -> Option<usize> {
    let part = (count as f64).ln_1p() / (most as f64).ln_1p();
    (count > 0).then(|| ((part * SHADES as f64).ceil() as usize).clamp(1, SHADES) - 1)
}

/// Neighbouring columns of a row for which something holds, as from and to (exclusive).
fn runs(cells: &[[u64; ROWS]], row: usize, holds: impl Fn(u64) -> bool, mut each: impl FnMut(usize, usize)) {
    let mut start = None;
    for (index, column) in cells.iter().enumerate() {
        match (holds(column[row]), start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                each(from, index);
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        each(from, cells.len());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use groundswell_stats::Series;

    use super::*;

    fn distribution(values: &[u64]) -> Option<Distribution> {
        let mut series = Series::default();
        values.iter().for_each(|value| series.record(*value));
        Some(Distribution::of([&series]).unwrap())
    }

    #[test]
    fn every_operation_is_in_one_row_of_its_column() {
        let scale = Scale::logarithmic(0.001, 3_600_000.0);
        let column = distribution(&[1, 1, 20_000, 3_600_000_000]);
        let counts = counts(&scale, column.as_ref());
        assert_eq!((counts[0], counts[ROWS - 1], counts.iter().sum::<u64>()), (2, 1, 4));
    }

    #[test]
    fn one_operation_shows_beside_a_million() {
        assert_eq!((shade_of(0, 1_000_000), shade_of(1, 1_000_000)), (None, Some(0)));
        assert_eq!((shade_of(1_000_000, 1_000_000), shade_of(1, 1)), (Some(SHADES - 1), Some(SHADES - 1)));
    }

    #[test]
    fn neighbours_are_drawn_as_one() {
        let mut cells = [[0; ROWS]; 5];
        [1, 2, 4].into_iter().for_each(|column: usize| cells[column][0] = 1);
        let mut found = Vec::new();
        runs(&cells, 0, |count| count > 0, |from, to| found.push((from, to)));
        assert_eq!(found, [(1, 3), (4, 5)]);
    }
}
