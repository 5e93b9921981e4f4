// Two runs beside each other.

import * as api from "./api.js";
import { badge, el, notice, title } from "./dom.js";
import { change, clock, count, moment, ms, percent, points, rate } from "./format.js";
import { Percentiles } from "./lines.js";
import { fromReport, keyOf } from "./model.js";
import { Table } from "./table.js";

/** Runs to choose from. */
const CHOICE = 200;

export async function comparePage(main, { parts: [before, after] }, signal) {
  title("Compare");
  const content = el("div", {});
  main.append(el("h1", {}, "Compare two runs"), content);
  try {
    const runs = (await api.runs({ limit: CHOICE })).filter((run) => run.summary);
    if (signal.aborted) {
      return;
    }
    content.append(chooser(runs, before, after));
    if (before && after) {
      await show(content, [before, after], signal);
    }
  } catch (error) {
    if (!signal.aborted) {
      notice(error.message);
    }
  }
}

function chooser(runs, before, after) {
  const select = (id, chosen, label) => {
    // A run that was linked to may be older than those of the list.
    const known = runs.some((run) => run.id === chosen);
    const extra = chosen && !known ? [el("option", { value: chosen, selected: true }, chosen)] : [];
    const option = (run) => el("option", { value: run.id, selected: run.id === chosen },
      `${run.name}, ${moment(run.submitted_at)}, ${run.summary.status.toUpperCase()}, ${run.id}`);
    return el("label", { class: "field" }, el("span", {}, label), el("select", { id, required: true }, el("option", { value: "" }, "choose a run"), extra, runs.map(option)));
  };
  const form = el("form", { class: "fields compare" }, select("before", before, "Before"), select("after", after, "After"), el("button", { class: "primary" }, "Compare"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const [first, second] = [form.querySelector("#before").value, form.querySelector("#after").value];
    location.hash = `#/compare/${encodeURIComponent(first)}/${encodeURIComponent(second)}`;
  });
  return form;
}

async function show(content, ids, signal) {
  const pairs = await Promise.all(ids.map(async (id) => [await api.report(id), await api.percentiles(id).catch(() => [])]));
  if (signal.aborted) {
    return;
  }
  const reports = pairs.map(([report]) => report);
  const curves = pairs.map(([report, curve]) => fromReport(report, curve).curves);
  title(`${reports[0].run.name} and ${reports[1].run.name}`, "Compare");

  const keys = [...new Set(curves.flatMap((all) => all.map(({ key }) => key)))];
  const request = el("select", {}, keys.map((key) => el("option", { value: key }, key === "total" ? "all requests" : key)));
  const scale = el("select", {}, el("option", { value: "linear" }, "linear"), el("option", { value: "log" }, "logarithmic"));
  const names = ["before", "after"];
  const chart = (name, kind) => new Percentiles(name, {
    format: ms,
    signal,
    source: () => {
      const series = curves.flatMap((all, run) => all.filter(({ key }) => key === request.value)
        .map((curve) => ({ name: names[run], colour: run === 0 ? 9 : 1, strong: run === 1, ...curve[kind] })));
      const end = series.reduce((most, { xs }) => Math.max(most, xs.at(-1) ?? 1), 10);
      return { series, end, logarithmic: scale.value === "log" };
    },
  });
  const charts = [chart("Response time by percentile", "response"), chart("Service time by percentile", "service")];
  [request, scale].forEach((control) => control.addEventListener("change", () => charts.forEach((each) => each.drawNow())));
  content.append(
    el("section", {}, el("h2", {}, "The runs"), runsOf(reports)),
    el("section", {}, el("h2", {}, "Percentiles"),
      el("div", { class: "controls" }, el("label", {}, "Request ", request), el("label", {}, "Latency axis ", scale)),
      el("div", { class: "charts" }, charts.map((each) => each.element))),
    el("section", {}, el("h2", {}, "Differences"), el("p", { class: "muted" }, "From before to after, as measured. Whether a difference is more than noise, ", el("code", {}, `groundswell compare ${reports[0].run.id} ${reports[1].run.id}`), " tells."), differences(reports)));
  charts.forEach((each) => each.changed());
}

function runsOf(reports) {
  const row = (report, index) => ({ ...report, which: index === 0 ? "before" : "after" });
  const table = new Table({
    caption: "The runs",
    key: (report) => report.which,
    columns: [
      { label: "Which", text: (report) => report.which },
      { label: "Run", cell: (cell, { run }) => cell.replaceChildren(el("a", { href: `#/runs/${encodeURIComponent(run.id)}` }, run.name), el("small", { class: "muted" }, ` ${run.id}`)) },
      { label: "Verdict", cell: (cell, { verdict }) => cell.replaceChildren(badge(verdict.status.toUpperCase())) },
      { label: "Started", text: ({ run }) => moment(run.started_at) },
      { label: "Length", numeric: true, text: ({ run }) => clock(run.duration_s) },
      { label: "Agents", numeric: true, text: ({ run }) => count(run.agents) },
      { label: "Target", text: ({ run }) => run.target },
      { label: "Plan", text: ({ run }) => run.plan_hash.slice(0, 16) },
    ],
  });
  table.update(reports.map(row));
  return table.element;
}

/** A row for each request of either run. */
function differences([before, after]) {
  const rows = new Map();
  [before, after].forEach((report, run) => {
    for (const step of [report.total, ...report.steps]) {
      const key = step.scenario === "" ? "total" : keyOf(step);
      rows.set(key, rows.get(key) ?? { key, sides: [null, null] });
      rows.get(key).sides[run] = step;
    }
  });
  const pair = (label, get, form, differ = change) => ({
    label,
    numeric: true,
    value: ({ sides: [a, b] }) => (a && b ? (differ === points ? get(b) - get(a) : get(a) ? get(b) / get(a) : null) : null),
    cell: (cell, { sides: [a, b] }) => {
      const [from, to] = [a && get(a), b && get(b)];
      cell.replaceChildren(`${form(from)} → ${form(to)} `, el("b", {}, differ(from, to)));
    },
  });
  const table = new Table({
    caption: "Differences of each request",
    key: (row) => row.key,
    columns: [
      { label: "Request", value: (row) => row.key, text: (row) => row.key },
      pair("Issued", (step) => step.issued, count),
      pair("Throughput", (step) => step.throughput_per_s, rate),
      pair("Error rate", (step) => step.error_rate, percent, points),
      pair("p50", (step) => step.response_ms.p50, ms),
      pair("p90", (step) => step.response_ms.p90, ms),
      pair("p99", (step) => step.response_ms.p99, ms),
      pair("Greatest", (step) => step.response_ms.max, ms),
      pair("Service p50", (step) => step.service_ms.p50, ms),
      pair("Service p99", (step) => step.service_ms.p99, ms),
    ],
  });
  table.update([...rows.values()]);
  return table.element;
}
