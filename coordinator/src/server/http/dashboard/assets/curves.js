// The charts of a run.

import { Heat } from "./heat.js";
import { COLOURS, Lines, Percentiles } from "./lines.js";
import { count, ms, rate } from "./format.js";
import { PERCENTILES } from "./model.js";

/** Colour of a series by its place in a list. */
const colourAt = (index) => (index % COLOURS) + 1;

/**
 * The charts of a run. `view` is read whenever one is drawn: `frames`, `figures` (see model.js), `chosen` (keys of
 * requests; empty: all together), `percentile` (`all` or one of them), `logarithmic`.
 */
export function runCharts(view, signal) {
  const lines = (name, format, source, empty) => new Lines(name, { format, source, signal, empty });
  const charts = [
    lines("Throughput", rate, () => throughput(view)),
    lines("Response time", ms, () => latency(view, "response_ms")),
    lines("Service time", ms, () => latency(view, "service_ms")),
    lines("Errors by class", rate, () => errors(view), "No errors"),
    lines("Users, in flight, open sockets", count, () => load(view)),
    new Heat("Response times by band", { source: () => heat(view), signal }),
    new Percentiles("Response time by percentile", { format: ms, source: () => percentiles(view, "response"), signal }),
    new Percentiles("Service time by percentile", { format: ms, source: () => percentiles(view, "service"), signal }),
  ];
  charts[0].element.classList.add("first");
  return charts;
}

/** What all charts over time share. */
function overTime(view, series, more = {}) {
  return { series, end: view.frames.end, marks: view.figures?.marks ?? [], ...more };
}

const isLive = (view) => view.figures?.live ?? true;

/** The chosen requests, or all together. */
function chosen(view) {
  if (view.chosen.size === 0) {
    return [{ name: "", of: (frame) => frame.total }];
  }
  return [...view.chosen].map((key) => ({ name: key, of: view.frames.of(key) }));
}

function throughput(view) {
  const { frames } = view;
  const line = (name, colour, figure, more = {}) => ({ name, colour, ...frames.points(isLive(view), figure), ...more });
  const perSecond = (of, what) => (frame) => (of(frame)?.[what] ?? 0) / frame.length_s;
  if (view.chosen.size > 0) {
    return overTime(view, chosen(view).map(({ name, of }, index) => line(name, colourAt(index), perSecond(of, "issued"))));
  }
  const total = (frame) => frame.total;
  const series = [
    line("issued, operations", 1, perSecond(total, "issued"), { strong: true }),
    line("ended well, operations", 3, perSecond(total, "ok")),
  ];
  const wanted = line("wanted, iterations", 9, (frame) => frame.wanted_per_s, { dashed: true });
  // Users want nothing a second; only open loads do.
  return overTime(view, wanted.ys.some((value) => value > 0) ? [wanted, ...series] : series);
}

function latency(view, kind) {
  const requests = chosen(view);
  const shown = PERCENTILES.filter((name) => view.percentile === "all" || view.percentile === name);
  const series = requests.flatMap(({ name, of }, request) => shown.map((percentile, index) => {
    const place = PERCENTILES.indexOf(percentile);
    const points = view.frames.points(isLive(view), (frame) => of(frame)?.[kind]?.[place]);
    // One request has a colour for each percentile, several have a colour each.
    return requests.length === 1
      ? { name: [name, percentile].filter(Boolean).join(" "), colour: colourAt(place), ...points }
      : { name: `${name} ${percentile}`, colour: colourAt(request), dashed: shown.length > 1 && index === 0, strong: index === 2, ...points };
  }));
  return overTime(view, series, { logarithmic: view.logarithmic });
}

function errors(view) {
  const series = view.frames.errorClasses.map((name, index) => {
    const figure = (frame) => (frame.errors_by_class?.[name] ?? 0) / frame.length_s;
    return { name, colour: colourAt(index + 6), ...view.frames.points(isLive(view), figure) };
  });
  return overTime(view, series, { stacked: true });
}

function load(view) {
  const line = (name, colour, figure) => ({ name, colour, ...view.frames.points(isLive(view), figure) });
  const series = [
    line("users", 1, (frame) => frame.users),
    line("in flight", 2, (frame) => frame.in_flight),
    line("open sockets", 3, (frame) => frame.open_sockets),
  ];
  // A line at zero all along says less than its absence.
  const busy = series.filter(({ ys }) => ys.some((value) => value > 0));
  return overTime(view, busy);
}

function heat(view) {
  const { frames } = view;
  return { frames: frames.drawn(isLive(view)), length: frames.length, end: frames.end, marks: view.figures?.marks ?? [] };
}

function percentiles(view, kind) {
  const wanted = view.chosen.size > 0 ? view.chosen : new Set(["total"]);
  const curves = (view.figures?.curves ?? []).filter(({ key }) => wanted.has(key));
  const series = curves.map((curve, index) => (
    { name: curve.key === "total" ? "all requests" : curve.key, colour: colourAt(index), ...curve[kind] }));
  const end = series.reduce((most, { xs }) => Math.max(most, xs.at(-1) ?? 1), 10);
  return { series, end, logarithmic: view.logarithmic };
}
