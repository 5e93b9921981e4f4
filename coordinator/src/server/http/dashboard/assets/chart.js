// What every chart shares: a canvas, when it is drawn, and a cursor that reads it.

import { el, setText } from "./dom.js";

/** New figures are drawn no more often than this. */
const REDRAW_MS = 1_000;
/** Space for the figures at the axes, in pixels. */
const MARGIN = { left: 62, right: 12, top: 14, bottom: 22 };

const waiting = new Set();
let timer = 0;
let drawnAt = -Infinity;

/** Draws a chart when the time for it has come. */
function schedule(chart) {
  waiting.add(chart);
  if (timer === 0) {
    timer = setTimeout(drawWaiting, Math.max(0, drawnAt + REDRAW_MS - performance.now()));
  }
}

function drawWaiting() {
  timer = 0;
  if (document.hidden) {
    return;
  }
  drawnAt = performance.now();
  for (const chart of [...waiting].filter((candidate) => candidate.visible)) {
    waiting.delete(chart);
    chart.draw();
  }
}

document.addEventListener("visibilitychange", drawWaiting);

/** Colours of the theme that is set; asking the style sheet for each line would take longer than drawing it. */
const colours = new Map();
document.addEventListener("themechange", () => colours.clear());

/** Colours come from the style sheet, so that they follow the theme. */
export function colour(name) {
  if (!colours.has(name)) {
    colours.set(name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
  }
  return colours.get(name);
}

/** A tick's text without zeros that say nothing: 5/s, not 5.00/s. */
const short = (text) => text.replace(/(\.\d*?)0+(?!\d)/, "$1").replace(/\.(?!\d)/, "");

/**
 * A chart with a title. A subclass has `paint(context, area)`, which draws and returns a sentence that says what is seen;
 * `places()`, the number of places where the cursor can stand; `placeAt(x)`, the one nearest to a pixel; and
 * `read(place)`: the pixel and the lines of text for a place.
 */
export class Chart {
  constructor(name, signal) {
    this.name = name;
    this.visible = false;
    this.frame = null;
    this.cursor = null;
    this.canvas = el("canvas", { role: "img", tabindex: 0, "aria-label": name });
    this.hair = el("div", { class: "hair", hidden: true });
    this.readout = el("div", { class: "readout", hidden: true });
    this.legend = el("ul", { class: "legend" });
    this.note = el("p", { class: "note" });
    this.plot = el("div", { class: "plot" }, this.canvas, this.hair, this.readout);
    this.element = el("figure", { class: "chart" }, el("figcaption", {}, el("h3", {}, name), this.legend), this.plot, this.note);
    this.listen(signal);
  }

  listen(signal) {
    const seen = new IntersectionObserver(([entry]) => {
      this.visible = entry.isIntersecting;
      if (this.visible && waiting.has(this)) {
        this.drawNow();
      }
    });
    const sized = new ResizeObserver(() => this.drawNow());
    seen.observe(this.plot);
    sized.observe(this.plot);
    document.addEventListener("themechange", () => this.drawNow(), { signal });
    signal.addEventListener("abort", () => {
      seen.disconnect();
      sized.disconnect();
      waiting.delete(this);
      cancelAnimationFrame(this.frame);
    });
    this.canvas.addEventListener("pointermove", (event) => this.point(this.placeAt(event.offsetX)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** There are new figures. */
  changed() {
    schedule(this);
  }

  /** Draws with the next picture of the page if it is seen, else as soon as it is: somebody asked for it. */
  drawNow() {
    waiting.add(this);
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      if (this.visible && waiting.delete(this)) {
        this.draw();
      }
    });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.plot;
    if (width === 0) {
      return;
    }
    const scale = devicePixelRatio;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    context.font = `11px ${getComputedStyle(this.plot).fontFamily}`;
    const area = { left: MARGIN.left, top: MARGIN.top, right: width - MARGIN.right, bottom: height - MARGIN.bottom };
    this.canvas.setAttribute("aria-label", `${this.name}: ${this.paint(context, area)}`);
    this.point(this.cursor);
  }

  /** Nothing to draw yet. */
  paintNothing(context, area, text) {
    context.fillStyle = colour("muted");
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(text, (area.left + area.right) / 2, (area.top + area.bottom) / 2);
    return text;
  }

  /** A value axis at the left, with lines across. */
  paintValues(context, area, ticks, y, format) {
    context.lineWidth = 1;
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const tick of ticks) {
      const at = Math.round(y(tick)) + 0.5;
      context.strokeStyle = colour("grid");
      context.beginPath();
      context.moveTo(area.left, at);
      context.lineTo(area.right, at);
      context.stroke();
      context.fillStyle = colour("muted");
      context.fillText(short(format(tick)), area.left - 6, at);
    }
  }

  /** An axis at the bottom; texts that would touch are left out. */
  paintPlaces(context, area, ticks, x) {
    context.fillStyle = colour("muted");
    context.textBaseline = "top";
    context.textAlign = "center";
    let free = -Infinity;
    for (const { value, text } of ticks) {
      const half = context.measureText(text).width / 2;
      // The first begins where the axis does, clear of the figures at its left.
      const at = Math.min(Math.max(x(value), area.left + half), area.right + MARGIN.right - half);
      if (at - half > free) {
        context.fillText(text, at, area.bottom + 6);
        free = at + half + 6;
      }
    }
  }

  /** Moments of the run that explain a bend: dashed lines. */
  paintMarks(context, area, marks, x) {
    context.save();
    context.setLineDash([3, 3]);
    context.strokeStyle = colour("mark");
    for (const mark of marks) {
      const at = Math.round(x(mark.t_s)) + 0.5;
      context.beginPath();
      context.moveTo(at, area.top - 8);
      context.lineTo(at, area.bottom);
      context.stroke();
    }
    context.restore();
  }

  key(event) {
    const last = this.places() - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    if (event.key === "Escape") {
      this.point(null);
    } else if (last >= 0 && event.key in steps) {
      this.point(Math.min(last, Math.max(0, (this.cursor ?? last) + steps[event.key])), true);
    } else if (last >= 0 && (event.key === "Home" || event.key === "End")) {
      this.point(event.key === "Home" ? 0 : last, true);
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Puts the cursor at a place, or away. With the keyboard what it reads is also said. */
  point(place, aloud = false) {
    this.cursor = place !== null && place < this.places() ? place : null;
    this.hair.hidden = this.readout.hidden = this.cursor === null;
    if (this.cursor === null) {
      return;
    }
    const { at, lines } = this.read(this.cursor);
    this.readout.setAttribute("aria-live", aloud ? "polite" : "off");
    this.readout.replaceChildren(...lines.map(({ text, series }) =>
      el("div", {}, series ? el("i", { class: `swatch s${series}` }) : null, text)));
    this.hair.style.left = `${at}px`;
    // On the side of the hair where there is more room.
    const right = at > this.plot.clientWidth / 2;
    this.readout.style.left = right ? "" : `${at + 10}px`;
    this.readout.style.right = right ? `${this.plot.clientWidth - at + 10}px` : "";
  }

  /** A line below the chart. */
  say(text) {
    setText(this.note, text);
  }
}
