// What is known of a run: the same whether it is told live or read from its report.

import { tail } from "./lines.js";

/** Percentiles in each frame, in its order. */
export const PERCENTILES = ["p50", "p90", "p99"];

/** One word for a request, unique in a run. */
export const keyOf = ({ scenario, step }) => `${scenario}/${step}`;

/** The figures over time of a run. */
export class Frames {
  constructor() {
    this.steps = [];
    this.length = 1;
    this.byStart = new Map();
    this.sorted = [];
  }

  /** Which step each number stands for; everything before is void. */
  open(steps) {
    this.steps = steps.map(keyOf);
    this.byStart.clear();
    this.sorted = [];
  }

  /** Takes frames that are new or changed, or all. */
  take({ length_s: length, whole, frames }) {
    if (whole || length !== this.length) {
      this.byStart.clear();
    }
    this.length = length;
    frames.forEach((frame) => this.byStart.set(frame.t_s, frame));
    this.sorted = [...this.byStart.values()].sort((a, b) => a.t_s - b.t_s);
  }

  /** End of the time axis: that of the last interval, and a moment at least. */
  get end() {
    const last = this.sorted.at(-1);
    return last ? Math.max(last.t_s + last.length_s, 5) : 5;
  }

  /** Operations issued in all frames. */
  get issued() {
    return this.sorted.reduce((sum, frame) => sum + frame.total.issued, 0);
  }

  /** Intervals to draw: while a run goes on the last is not complete, and its figures would seem to fall. */
  drawn(live) {
    return live ? this.sorted.slice(0, -1) : this.sorted;
  }

  /** One figure of every frame as points; where an interval has none there is a gap. */
  points(live, figure) {
    const frames = this.drawn(live);
    return { xs: frames.map((frame) => frame.t_s + frame.length_s / 2), ys: frames.map((frame) => figure(frame) ?? null) };
  }

  /** The figures of a request in a frame. Where a sweep changes its level inside an interval, a request has two rows:
   *  counts add up; percentiles do not, so that the row with more operations gives them. */
  of(key) {
    const numbers = this.steps.flatMap((step, number) => (step === key ? [number] : []));
    if (numbers.length === 1) {
      return (frame) => frame.steps[numbers[0]] ?? null;
    }
    return (frame) => {
      const rows = numbers.map((number) => frame.steps[number]).filter(Boolean);
      return rows.reduce((all, row) => {
        if (!all) {
          return row;
        }
        const { response_ms, service_ms } = row.issued > all.issued ? row : all;
        const sum = { issued: all.issued + row.issued, ok: all.ok + row.ok, errors: all.errors + row.errors };
        return { ...sum, response_ms, service_ms };
      }, null);
    };
  }

  /** Classes of errors, the most frequent first. */
  get errorClasses() {
    const sums = new Map();
    for (const frame of this.sorted) {
      for (const [name, errors] of Object.entries(frame.errors_by_class ?? {})) {
        sums.set(name, (sums.get(name) ?? 0) + errors);
      }
    }
    return [...sums].sort((a, b) => b[1] - a[1]).map(([name]) => name);
  }
}

/** A run as it is told live. */
export function fromProgress(progress) {
  return {
    ...progress,
    live: progress.state !== "closed",
    error_rate: progress.issued > 0 ? progress.failed / progress.issued : 0,
    steps: progress.steps.map((step) => ({ ...step, key: keyOf(step) })),
    agents: progress.agents.map(({ state, away, ...agent }) => ({ ...agent, state: away ? "away" : state })),
    warnings: [],
    curves: [curveOf("total", progress.response_ms, null), ...progress.steps.map((step) => (
      curveOf(keyOf(step), step.response_ms, step.service_ms)))],
  };
}

/** The same of a report and the percentile curves that belong to it. */
export function fromReport(report, curves) {
  const { run, total, verdict, ledger } = report;
  const agent = ({ send_lag_ms, lost_at_s, left_at_s, ...figures }) => ({
    ...figures,
    send_lag_p99_ms: send_lag_ms.p99,
    state: lost_at_s !== undefined ? "lost" : left_at_s !== undefined ? "left" : "done",
  });
  return {
    live: false,
    state: "finished",
    detail: "",
    verdict: verdict.status,
    elapsed_s: run.duration_s,
    planned_s: run.duration_s,
    rate_per_s: total.rate_per_s,
    // With the warm-up, as it was told live.
    issued: ledger.issued,
    failed: total.errors,
    error_rate: total.error_rate,
    response_ms: total.response_ms,
    steps: report.steps.map((step) => ({ ...step, key: keyOf(step) })),
    error_classes: total.error_classes,
    thresholds: report.thresholds,
    reasons: verdict.reasons,
    warnings: report.warnings,
    marks: report.marks,
    agents: report.agents.map(agent),
    curves: curves.map(({ scenario, step, response_ms, service_ms }) => (
      { key: scenario === "" ? "total" : keyOf({ scenario, step }), response: tail(response_ms), service: tail(service_ms) })),
  };
}

/** While a run goes on a curve has the percentiles that are told. */
function curveOf(key, response, service) {
  return { key, response: tail(known(response)), service: tail(service ? known(service) : []) };
}

const PARTS = { min: 0, p50: 0.5, p90: 0.9, p95: 0.95, p99: 0.99, p999: 0.999, p9999: 0.9999, max: 1 };

function known(latency) {
  const beyond = (part) => part > 0 && part < 1 && latency.count * (1 - part) < 0.5;
  return Object.entries(PARTS)
    .filter(([name, part]) => latency[name] !== null && latency[name] !== undefined && !beyond(part))
    .map(([name, part]) => [part, latency[name]]);
}
