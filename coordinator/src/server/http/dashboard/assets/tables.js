// The tables of a run.

import { el, setText } from "./dom.js";
import { count, figure, ms, percent, rate } from "./format.js";
import { Table } from "./table.js";

/** The tables of a run's page; `choose` is called when other requests are ticked (`view.chosen`). */
export function runTables(view, choose) {
  const number = (label, get, form) => ({ label, numeric: true, value: get, text: (row) => form(get(row)) });
  const tick = (cell, { key }) => {
    const change = (event) => {
      view.chosen[event.target.checked ? "add" : "delete"](key);
      choose();
    };
    if (!cell.firstChild) {
      cell.append(el("input", { type: "checkbox", "aria-label": `Show ${key} in the charts`, onchange: change }));
    }
    cell.firstChild.checked = view.chosen.has(key);
  };
  const requests = new Table({
    caption: "Requests",
    key: (row) => row.key,
    columns: [
      { label: "Charts", cell: tick },
      { label: "Request", value: (row) => row.key, text: (row) => row.key },
      number("Issued", (row) => row.issued, count),
      number("Rate", (row) => row.rate_per_s, rate),
      number("Errors", (row) => row.errors, count),
      number("p50", (row) => row.response_ms.p50, ms),
      number("p90", (row) => row.response_ms.p90, ms),
      number("p99", (row) => row.response_ms.p99, ms),
      number("p99.9", (row) => row.response_ms.p999, ms),
      number("Greatest", (row) => row.response_ms.max, ms),
      number("Service p50", (row) => row.service_ms.p50, ms),
      number("Service p99", (row) => row.service_ms.p99, ms),
    ],
  });
  const errors = new Table({
    caption: "Errors by class",
    key: (row) => row.class,
    columns: [
      { label: "Class", value: (row) => row.class, text: (row) => row.class },
      number("Count", (row) => row.count, count),
      { label: "Meaning", wide: true, text: (row) => row.explanation },
    ],
  });
  const agents = new Table({
    caption: "Agents of the run",
    key: (row) => row.name,
    columns: [
      { label: "Agent", value: (row) => row.name, text: (row) => row.name },
      { label: "State", value: (row) => row.state, text: (row) => row.state },
      number("Issued", (row) => row.issued, count),
      number("Errors", (row) => row.errors, count),
      number("CPU", (row) => row.cpu, percent),
      number("Send lag p99", (row) => row.send_lag_p99_ms, ms),
      { label: "Clock bound", numeric: true, value: (row) => row.clock_bound_ms, text: (row) => `±${ms(row.clock_bound_ms)}` },
    ],
  });
  const thresholds = new Table({
    caption: "Thresholds",
    key: (row) => row.text,
    columns: [
      { label: "Threshold", text: (row) => row.text },
      { label: "Figure", numeric: true, text: (row) => figure(row.value, row.unit) },
      {
        label: "Holds",
        cell: (cell, row) => {
          setText(cell, row.passed ? "holds" : "broken");
          cell.className = row.passed ? "good" : "bad";
        },
      },
    ],
  });
  return { requests, errors, agents, thresholds };
}
