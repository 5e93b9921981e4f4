// Charts of lines: figures over time, percentile curves.

import { Chart, colour } from "./chart.js";
import { el } from "./dom.js";
import { clock, count, percent } from "./format.js";
import { linear, linearTicks, logTicks, logarithmic, nearest, tailTicks, timeTicks } from "./scales.js";

/** Colours of series in the style sheet. */
export const COLOURS = 10;
/** Series that a readout lists; the greatest of them. */
const MOST_READ = 14;
/** Above so many series, lines are as thin as a pixel: they are told apart better, and drawn in a fraction of the time. */
const MANY = 12;

/**
 * Lines over an ascending axis. `source()` gives `{ series, end, marks?, stacked?, logarithmic? }`; a series has a `name`,
 * a `colour` from 1 to COLOURS, `xs` and `ys` (null where there is no figure), and may be `dashed` or `strong`.
 */
export class Lines extends Chart {
  constructor(name, { format, source, signal, empty = "No figures yet" }) {
    super(name, signal);
    Object.assign(this, { format, source, empty, series: [], xs: [], marks: [] });
  }

  /** The axis below: of time. */
  scaleX(area, end) {
    return { x: linear(0, end, area.left, area.right), ticks: timeTicks(end, (area.right - area.left) / 60) };
  }

  /** What a place on the axis is called. */
  nameOf(x) {
    return clock(x);
  }

  paint(context, area) {
    const { series, end, marks = [], stacked = false, logarithmic: byPowers = false } = this.source();
    const layers = stacked ? stack(series) : series.map((line) => ({ ...line, tops: line.ys }));
    Object.assign(this, { series, marks });
    this.xs = longest(series);
    this.showLegend(series);
    const figures = layers.flatMap((layer) => layer.tops.filter((value) => value !== null));
    if (figures.length === 0) {
      return this.paintNothing(context, area, this.empty);
    }
    const { x, ticks } = this.scaleX(area, end);
    const y = this.paintScale(context, area, figures, byPowers);
    this.x = x;
    this.paintPlaces(context, area, ticks, x);
    this.paintMarks(context, area, marks, x);
    context.save();
    context.beginPath();
    context.rect(area.left, area.top - 2, area.right - area.left, area.bottom - area.top + 3);
    context.clip();
    layers.forEach((layer) => paintLine(context, layer, { x, y, filled: stacked, thin: series.length > MANY }));
    context.restore();
    return describe(series, this.format);
  }

  paintScale(context, area, figures, byPowers) {
    // Not Math.max(...figures): 900 intervals of 50 requests are more than a call takes.
    const most = figures.reduce((a, b) => Math.max(a, b), 0);
    const above = figures.reduce((a, b) => (b > 0 ? Math.min(a, b) : a), Infinity);
    const powers = byPowers && most > 0;
    const ticks = powers ? logTicks(above, most) : linearTicks(most, this.format === count ? 1 : 0);
    const scale = powers ? logarithmic : linear;
    const y = scale(ticks[0], ticks.at(-1), area.bottom, area.top);
    this.paintValues(context, area, ticks, y, this.format);
    return y;
  }

  showLegend(series) {
    const key = series.map((line) => `${line.colour} ${line.name}`).join("\n");
    if (key === this.legendKey) {
      return;
    }
    this.legendKey = key;
    this.legend.replaceChildren(...series.map((line) =>
      el("li", {}, el("i", { class: `swatch s${line.colour}${line.dashed ? " dashed" : ""}` }), line.name)));
  }

  places() {
    return this.xs.length;
  }

  placeAt(pixel) {
    if (this.xs.length === 0 || !this.x) {
      return null;
    }
    return nearest(this.xs.map((value) => this.x(value)), pixel);
  }

  read(place) {
    const at = this.xs[place];
    const figures = this.series
      .map((line) => ({ line, value: valueAt(line, at) }))
      .filter(({ value }) => value !== null)
      .sort((a, b) => (this.series.length > MOST_READ ? b.value - a.value : 0));
    const lines = figures.slice(0, MOST_READ).map(({ line, value }) => (
      { text: `${line.name} ${this.format(value)}`, series: line.colour }));
    if (figures.length > MOST_READ) {
      lines.push({ text: `and ${figures.length - MOST_READ} smaller` });
    }
    const near = this.marks.filter((mark) => Math.abs(this.x(mark.t_s) - this.x(at)) < 6);
    return {
      at: this.x(at),
      lines: [{ text: this.nameOf(at) }, ...lines, ...near.map((mark) => ({ text: `${clock(mark.t_s)} ${mark.text}` }))],
    };
  }
}

/** Percentile curves as HdrHistogram's: the axis is 1 / (1 - part), by powers of ten, so that the tail has its room. */
export class Percentiles extends Lines {
  scaleX(area, end) {
    return { x: logarithmic(1, Math.max(end, 10), area.left, area.right), ticks: tailTicks(end) };
  }

  nameOf(x) {
    const part = 1 - 1 / x;
    return x > 10 ? `${(part * 100).toFixed(Math.ceil(Math.log10(x)))} %` : percent(part);
  }
}

/** Points of a percentile curve, [part, ms], as `xs` and `ys` for [`Percentiles`]. */
export function tail(curve) {
  const xs = [];
  for (const [part] of curve) {
    // The greatest value is at infinity; half a decade beyond the last is far enough.
    xs.push(part < 1 ? 1 / (1 - part) : (xs.at(-1) ?? 1) * 3);
  }
  return { xs, ys: curve.map(([, value]) => value) };
}

function longest(series) {
  return series.reduce((most, line) => (line.xs.length > most.length ? line.xs : most), []);
}

function valueAt(line, at) {
  return line.xs.length === 0 ? null : line.ys[nearest(line.xs, at)];
}

/** Each layer on those before it. All have the same `xs`. */
function stack(series) {
  let floor = null;
  return series.map((line) => {
    const bottoms = floor ?? line.ys.map(() => 0);
    const tops = line.ys.map((value, index) => (value ?? 0) + bottoms[index]);
    floor = tops;
    return { ...line, tops, bottoms };
  });
}

function paintLine(context, layer, { x, y, filled, thin }) {
  context.strokeStyle = context.fillStyle = colour(`series-${layer.colour}`);
  context.lineWidth = thin ? 1 : layer.strong ? 2.2 : 1.4;
  context.lineJoin = thin ? "bevel" : "round";
  context.setLineDash(layer.dashed && !thin ? [5, 4] : []);
  context.beginPath();
  let pen = false;
  layer.xs.forEach((at, index) => {
    const value = layer.tops[index];
    if (value === null) {
      pen = false;
      return;
    }
    context[pen ? "lineTo" : "moveTo"](x(at), y(value));
    // A figure between two gaps would have no length.
    if (!pen && (layer.tops[index + 1] ?? null) === null) {
      context.fillRect(x(at) - 1.5, y(value) - 1.5, 3, 3);
    }
    pen = true;
  });
  context.stroke();
  if (filled) {
    for (let index = layer.xs.length - 1; index >= 0; index -= 1) {
      context.lineTo(x(layer.xs[index]), y(layer.bottoms[index]));
    }
    context.globalAlpha = 0.35;
    context.fill();
    context.globalAlpha = 1;
  }
}

/** What is seen, for those who can't see it. */
function describe(series, format) {
  const told = series.slice(0, 6).map((line) => {
    const figures = line.ys.filter((value) => value !== null);
    const most = figures.reduce((a, b) => Math.max(a, b), 0);
    return `${line.name} last ${format(figures.at(-1))}, greatest ${format(most)}`;
  });
  const more = series.length > told.length ? `; and ${series.length - told.length} more` : "";
  return `${told.join("; ")}${more}. Arrow keys read it.`;
}
