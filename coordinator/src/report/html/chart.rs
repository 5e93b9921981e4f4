//! A chart of lines as SVG, with its figures in a table for those who can't see it.

use std::fmt::Write as _;

use super::scale::Scale;
use crate::report::markup::escaped;

/// The drawing's own units; a page scales it to its width.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 40.0;

/// Colours that the style has.
pub(super) const COLORS: usize = 8;

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) name: String,
    /// Places on the two axes, by the first; where there is no value, the line has a gap.
    pub(super) points: Vec<(f64, Option<f64>)>,
    /// For what is meant to be, beside what was.
    pub(super) dashed: bool,
}

/// An axis.
pub(super) struct Axis {
    pub(super) name: &'static str,
    pub(super) scale: Scale,
    /// How its values are written.
    pub(super) show: fn(f64) -> String,
}

/// Lines over the same axes.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Where something happened: places on the first axis, in order.
    pub(super) marks: Vec<f64>,
    /// Words at places of the first axis, in place of its ticks.
    pub(super) words: Vec<(f64, String)>,
    /// Whether all lines have the same places, so that a table can show them side by side.
    pub(super) table: bool,
}

impl Line {
    pub(super) fn new(name: &str, points: Vec<(f64, Option<f64>)>) -> Self {
        Line { name: name.to_owned(), points, dashed: false }
    }

    fn values(&self) -> impl Iterator<Item = f64> + '_ {
        self.points.iter().filter_map(|(_, value)| *value)
    }
}

/// The greatest value of some lines; 0 where they have none.
pub(super) fn greatest(lines: &[Line]) -> f64 {
    lines.iter().flat_map(Line::values).fold(0.0, f64::max)
}

impl Chart {
    /// As a figure with an id of its own; nothing where no line has a value.
    pub(super) fn figure(&self, id: &str) -> String {
        if self.lines.iter().all(|line| line.values().next().is_none()) {
            return String::new();
        }
        let mut svg = open(id, &self.title, &self.description(), WIDTH, HEIGHT);
        frame(&mut svg, &self.x, &self.y, &self.words);
        for (number, mark) in self.marks.iter().enumerate() {
            let (x, number) = (across(&self.x.scale, *mark), number + 1);
            let _ = write!(
                svg,
                "<path class=\"mark\" d=\"M{x:.1} {TOP}V{:.1}\"/><text class=\"m\" x=\"{x:.1}\" y=\"12\">{number}</text>",
                HEIGHT - BOTTOM
            );
        }
        for (index, line) in self.lines.iter().enumerate() {
            let dashed = if line.dashed { " dashed" } else { "" };
            let _ = write!(svg, "<path class=\"l{}{dashed}\" d=\"{}\"/>", index % COLORS, self.path(line));
        }
        svg.push_str("</svg>");
        figure(&self.title, &svg, &(self.legend() + &self.figures()))
    }

    /// A line as an SVG path: a piece for each part without a gap.
    fn path(&self, line: &Line) -> String {
        let mut path = String::new();
        let mut pen_down = false;
        for (x, y) in &line.points {
            let Some(y) = y else {
                pen_down = false;
                continue;
            };
            let (x, y) = (across(&self.x.scale, *x), up(&self.y.scale, *y));
            let _ = write!(path, "{}{x:.1} {y:.1}", if pen_down { 'L' } else { 'M' });
            if !pen_down {
                // A point alone would not show.
                path.push_str("h.1");
            }
            pen_down = true;
        }
        path
    }

    fn legend(&self) -> String {
        let items = self.lines.iter().enumerate().map(|(index, line)| {
            let dashed = if line.dashed { " dashed" } else { "" };
            format!("<li class=\"k{}{dashed}\">{}</li>", index % COLORS, escaped(&line.name))
        });
        format!("<ul class=\"legend\">{}</ul>", items.collect::<String>())
    }

    /// For those who hear the page.
    fn description(&self) -> String {
        let show = self.y.show;
        let lines = self.lines.iter().filter_map(|line| {
            let (least, most) = (line.values().reduce(f64::min)?, line.values().reduce(f64::max)?);
            Some(format!("{}: from {} to {}", line.name, show(least), show(most)))
        });
        format!("{} by {}. {}", self.y.name, self.x.name, lines.collect::<Vec<_>>().join("; "))
    }

    fn figures(&self) -> String {
        if !self.table {
            return String::new();
        }
        let header: String = self.lines.iter().map(|line| format!("<th>{}</th>", escaped(&line.name))).collect();
        let places = self.lines.first().map(|line| line.points.as_slice()).unwrap_or_default();
        let rows = places.iter().enumerate().map(|(index, (x, _))| {
            let values = self.lines.iter().map(|line| {
                let value = line.points.get(index).and_then(|(_, value)| *value);
                format!("<td>{}</td>", value.map_or_else(|| "-".to_owned(), self.y.show))
            });
            let word = self.words.iter().find(|(at, _)| at == x).map(|(_, word)| escaped(word));
            let word = word.unwrap_or_else(|| (self.x.show)(*x));
            format!("<tr><th>{word}</th>{}</tr>", values.collect::<String>())
        });
        format!(
            "<details><summary>Figures</summary><div class=\"scroll\"><table><tr><th>{}</th>{header}</tr>{}</table></div></details>",
            self.x.name,
            rows.collect::<String>()
        )
    }
}

/// The first axis in the drawing.
pub(super) fn across(scale: &Scale, value: f64) -> f64 {
    LEFT + scale.at(value) * (WIDTH - LEFT - RIGHT)
}

/// The second axis in the drawing, in which down is positive.
pub(super) fn up(scale: &Scale, value: f64) -> f64 {
    HEIGHT - BOTTOM - scale.at(value) * (HEIGHT - TOP - BOTTOM)
}

/// The start of a drawing of the usual size that a reader of the page can be told about.
pub(super) fn drawing(id: &str, title: &str, description: &str) -> String {
    open(id, title, description, WIDTH, HEIGHT)
}

fn open(id: &str, title: &str, description: &str, width: f64, height: f64) -> String {
    format!(
        "<svg role=\"img\" aria-labelledby=\"{id}-t {id}-d\" viewBox=\"0 0 {width} {height}\"><title id=\"{id}-t\">{}</title>\
         <desc id=\"{id}-d\">{}</desc>",
        escaped(title),
        escaped(description)
    )
}

/// Axes with grid lines, ticks and names.
pub(super) fn frame(svg: &mut String, x: &Axis, y: &Axis, words: &[(f64, String)]) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in y.scale.ticks() {
        let at = up(&y.scale, tick);
        let text = (y.show)(tick);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    let ticks = match words.is_empty() {
        true => x.scale.ticks().into_iter().map(|tick| (tick, (x.show)(tick))).collect(),
        false => words.to_vec(),
    };
    for (tick, text) in ticks {
        let (at, text) = (across(&x.scale, tick), escaped(&text));
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{bottom}\"/><text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{text}</text>",
            bottom + 16.0
        );
    }
    let _ =
        write!(svg, "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{}</text>", (LEFT + right) / 2.0, HEIGHT - 6.0, x.name);
}

/// A drawing with its title, and what stands below it.
pub(super) fn figure(title: &str, svg: &str, below: &str) -> String {
    let title = escaped(title);
    format!("<figure><figcaption>{title}</figcaption><div class=\"scroll\">{svg}</div>{below}</figure>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, Option<f64>)>) -> Chart {
        Chart {
            title: "<title>".to_owned(),
            x: Axis { name: "seconds", scale: Scale::from_zero(4.0), show: |value| value.to_string() },
            y: Axis { name: "rate", scale: Scale::from_zero(10.0), show: |value| format!("{value}/s") },
            lines: vec![Line::new("<line>", points)],
            marks: vec![2.0],
            words: Vec::new(),
            table: true,
        }
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let figure = chart(vec![(0.0, Some(0.0)), (1.0, Some(10.0)), (2.0, None), (4.0, Some(5.0))]).figure("a");
        assert!(figure.contains("d=\"M66.0 220.0h.1L206.0 18.0M626.0 119.0h.1\""), "{figure}");
        assert!(figure.contains("<tr><th>2</th><td>-</td></tr>"), "{figure}");
    }

    #[test]
    fn what_it_shows_is_said_too() {
        let figure = chart(vec![(0.0, Some(2.0)), (1.0, Some(10.0))]).figure("a");
        assert!(figure.contains("role=\"img\" aria-labelledby=\"a-t a-d\""), "{figure}");
        assert!(figure.contains("rate by seconds. &lt;line&gt;: from 2/s to 10/s"), "{figure}");
        assert!(!figure.contains("<line>") && !figure.contains("<title>\""), "{figure}");
    }

    #[test]
    fn lines_without_a_value_make_no_chart() {
        assert_eq!(chart(vec![(0.0, None)]).figure("a"), "");
    }
}
