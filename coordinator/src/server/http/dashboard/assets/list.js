// The page of all runs.

import * as api from "./api.js";
import { badge, confirm, el, notice, setBadge, setText, tags, title } from "./dom.js";
import { clock, count, moment, ms, percent, rate } from "./format.js";
import { startDialog } from "./start.js";
import { Table } from "./table.js";

const REFRESH_MS = 3_000;
/** Runs that are shown at first, and that a press on "more" adds. */
const PAGE = 50;

export function listPage(main, { query }, signal) {
  title("Runs");
  const wanted = { limit: PAGE };
  const label = query.get("label");
  if (label) {
    wanted.label = label;
  }
  const picked = new Set();
  const compare = el("a", { class: "button", href: "#/compare" }, "Compare");
  const pick = () => {
    compare.href = `#/compare/${[...picked].map(encodeURIComponent).join("/")}`;
    setText(compare, picked.size === 2 ? "Compare the two" : `Compare (tick two, ${picked.size} ticked)`);
    compare.setAttribute("aria-disabled", String(picked.size !== 2));
  };
  compare.addEventListener("click", (event) => {
    if (picked.size !== 2) {
      event.preventDefault();
    }
  });
  const table = runsTable(picked, pick);
  const more = el("button", { type: "button", hidden: true, onclick: () => { wanted.limit += PAGE; look(); } }, "More runs");

  // An answer that comes after a later question is an answer to nothing.
  let asked = 0;
  const look = async () => {
    const question = ++asked;
    try {
      const runs = await api.runs(wanted);
      if (question === asked && !signal.aborted) {
        notice("");
        table.update(runs);
        more.hidden = runs.length < wanted.limit;
      }
    } catch (error) {
      if (!signal.aborted) {
        notice(`The runs can't be listed: ${error.message}`);
      }
    }
  };
  const search = el("input", { type: "search", id: "search", placeholder: "name, id or label", autocomplete: "off" });
  search.addEventListener("input", () => {
    if (search.value === "") {
      delete wanted.search;
    } else {
      wanted.search = search.value;
    }
    look();
  });
  const start = el("button", { type: "button", class: "primary", onclick: () => startDialog() }, "Start a run");
  const narrowed = label && el("p", {}, "Only runs with ", tags(Object.fromEntries([splitLabel(label)])), " ", el("a", { href: "#/runs" }, "all runs"));
  main.append(
    el("div", { class: "head" }, el("h1", {}, "Runs"), el("div", { class: "actions" }, start)),
    el("div", { class: "controls" }, el("label", { for: "search" }, "Search "), search, compare),
    ...[narrowed, table.element, more].filter(Boolean));
  pick();
  api.poll(look, REFRESH_MS, signal);
}

function splitLabel(text) {
  const at = text.indexOf("=");
  return at === -1 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** What stands in the list: the verdict of a run that has one, its state otherwise. */
const stateOf = (run) => (run.summary ? run.summary.status.toUpperCase() : run.problem || run.state === "finished" ? "no report" : run.state);

function runsTable(picked, pick) {
  const number = (label, get, form) => (
    { label, numeric: true, value: (run) => run.summary && get(run.summary), text: (run) => form(run.summary && get(run.summary)) });
  const tick = (cell, { id, name, summary }) => {
    const change = (event) => {
      picked[event.target.checked ? "add" : "delete"](id);
      pick();
    };
    if (!cell.firstChild && summary) {
      cell.append(el("input", { type: "checkbox", "aria-label": `Compare ${name}, run ${id}`, onchange: change }));
    }
  };
  const name = (cell, run) => {
    if (!cell.firstChild) {
      cell.append(el("a", { href: `#/runs/${encodeURIComponent(run.id)}` }, run.name), el("small", { class: "muted" }, ` ${run.id}`));
    }
  };
  const state = (cell, run) => {
    if (!cell.firstChild) {
      cell.append(badge(stateOf(run)), el("small", { class: "muted" }));
    }
    setBadge(cell.firstChild, stateOf(run));
    setText(cell.lastChild, run.detail ? ` ${run.detail}` : "");
  };
  const labels = (cell, run) => {
    if (!cell.firstChild) {
      cell.append(tags(run.labels, (label) => `#/runs?label=${encodeURIComponent(label)}`));
    }
  };
  const action = (cell, run) => {
    const isOver = run.finished_at || run.state === "unfinished";
    if (isOver) {
      cell.replaceChildren();
    } else if (!cell.firstChild) {
      cell.append(el("button", { type: "button", class: "small", "aria-label": `Cancel ${run.name}, run ${run.id}`, onclick: () => cancel(run) }, "Cancel"));
    }
  };
  return new Table({
    caption: "Runs, the newest first",
    key: (run) => run.id,
    empty: "No runs.",
    columns: [
      { label: "Compare", cell: tick },
      { label: "Run", value: (run) => run.name, cell: name },
      { label: "State", value: stateOf, cell: state },
      { label: "Labels", cell: labels },
      { label: "Submitted", value: (run) => run.submitted_at, text: (run) => moment(run.submitted_at) },
      number("Length", (summary) => summary.duration_s, (value) => (value ? clock(value) : "–")),
      number("Agents", (summary) => summary.agents, count),
      number("Issued", (summary) => summary.issued, count),
      number("Throughput", (summary) => summary.throughput_per_s, rate),
      number("Errors", (summary) => summary.error_rate, percent),
      number("p50", (summary) => summary.p50_ms, ms),
      number("p95", (summary) => summary.p95_ms, ms),
      number("p99", (summary) => summary.p99_ms, ms),
      { label: "", cell: action },
    ],
  });
}

async function cancel(run) {
  if (await confirm(`Stop the load of ${run.name}? It ends with a report of what was measured.`, "Cancel the run")) {
    try {
      await api.cancel(run.id);
    } catch (error) {
      notice(error.message);
    }
  }
}
