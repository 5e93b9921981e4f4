// The heat map: how the response times spread, interval by interval.

import { Chart, colour } from "./chart.js";
import { clock, count, ms } from "./format.js";
import { linear, timeTicks } from "./scales.js";

/** As the coordinator makes them: row n begins at 10^(n/8) µs. */
const ROWS_PER_DECADE = 8;
/** Cells that a readout lists. */
const MOST_READ = 8;

const lowest = (row) => 10 ** (row / ROWS_PER_DECADE) / 1_000;

/** `source()` gives `{ frames, length, end, marks }`. */
export class Heat extends Chart {
  constructor(name, { source, signal }) {
    super(name, signal);
    Object.assign(this, { source, frames: [], length: 1 });
  }

  paint(context, area) {
    const { frames, length, end, marks } = this.source();
    this.frames = frames.filter((frame) => frame.heat.length > 0);
    const rows = this.frames.flatMap((frame) => frame.heat.map(([row]) => row));
    if (rows.length === 0) {
      return this.paintNothing(context, area, "No figures yet");
    }
    // One row to spare on each side, so that a single one has a height.
    const first = rows.reduce((a, b) => Math.min(a, b)) - 1;
    const last = rows.reduce((a, b) => Math.max(a, b)) + 2;
    const x = linear(0, end, area.left, area.right);
    const y = linear(first, last, area.bottom, area.top);
    Object.assign(this, { x, length });
    this.paintCells(context, area, { first, last, end });
    this.paintValues(context, area, rowTicks(first, last), y, (row) => ms(lowest(row)));
    this.paintPlaces(context, area, timeTicks(end, (area.right - area.left) / 60), x);
    this.paintMarks(context, area, marks, x);
    return `responses of ${this.frames.length} intervals, between ${ms(lowest(first + 1))} and ${ms(lowest(last - 1))}. `
      + "Arrow keys read it.";
  }

  /**
   * The more responses, the stronger; by powers of ten, so that the tail is seen beside the bulk. Each cell is one pixel of
   * a small picture that is then stretched: an hour has tens of thousands of cells, too many to draw one by one.
   */
  paintCells(context, area, { first, last, end }) {
    const most = this.frames.flatMap((frame) => frame.heat).reduce((a, [, responses]) => Math.max(a, responses), 1);
    const columns = Math.ceil(end / this.length);
    const picture = new ImageData(columns, last - first);
    const [red, green, blue] = colour("heat").match(/[0-9a-f]{2}/gi).map((part) => parseInt(part, 16));
    for (const frame of this.frames) {
      const column = Math.round(frame.t_s / this.length);
      for (const [row, responses] of frame.heat) {
        const strength = 0.12 + 0.88 * (Math.log1p(responses) / Math.log1p(most));
        picture.data.set([red, green, blue, Math.round(255 * strength)], 4 * ((last - 1 - row) * columns + column));
      }
    }
    const small = new OffscreenCanvas(columns, last - first);
    small.getContext("2d").putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    const width = (area.right - area.left) * (columns * this.length / end);
    context.drawImage(small, area.left, area.top, width, area.bottom - area.top);
    this.say(`Stronger: more responses in an interval and a band of response times (up to ${count(most)}), by powers of ten.`);
  }

  places() {
    return this.frames.length;
  }

  placeAt(pixel) {
    if (this.frames.length === 0) {
      return null;
    }
    const at = this.frames.findIndex((frame) => this.x(frame.t_s + this.length) > pixel);
    return at === -1 ? this.frames.length - 1 : at;
  }

  read(place) {
    const frame = this.frames[place];
    const cells = [...frame.heat].sort((a, b) => b[1] - a[1]).slice(0, MOST_READ).sort((a, b) => b[0] - a[0]);
    const lines = cells.map(([row, responses]) => (
      { text: `${ms(lowest(row))} to ${ms(lowest(row + 1))}: ${count(responses)}` }));
    return { at: this.x(frame.t_s + this.length / 2), lines: [{ text: clock(frame.t_s) }, ...lines] };
  }
}

/** A tick at each power of ten, or at every other row where there is none. */
function rowTicks(first, last) {
  const rows = Array.from({ length: last - first + 1 }, (_, index) => first + index);
  const powers = rows.filter((row) => row % ROWS_PER_DECADE === 0);
  return powers.length > 1 ? powers : rows.filter((row) => row % (ROWS_PER_DECADE / 2) === 0);
}
