// The page of a run: live and finished look the same.

import * as api from "./api.js";
import { runCharts } from "./curves.js";
import { announce, badge, confirm, el, notice, setBadge, setText, tags, title } from "./dom.js";
import { clock, count, ms, percent, plural, rate } from "./format.js";
import { Frames, PERCENTILES, fromProgress, fromReport } from "./model.js";
import { runTables } from "./tables.js";

/** A coordinator that does not answer is asked again after so long. */
const RETRY_MS = 2_000;
/** States in which a run can't be stopped any more. */
const OVER = ["finished", "unfinished", "closed"];

export function runPage(main, { parts: [id] }, signal) {
  new RunPage(main, id, signal).begin();
}

class RunPage {
  constructor(main, id, signal) {
    Object.assign(this, { main, id, signal, name: id, wasState: "" });
    /** What the charts read. */
    this.view = { frames: new Frames(), figures: null, chosen: new Set(), percentile: "all", logarithmic: false };
    this.charts = runCharts(this.view, signal);
    this.tables = runTables(this.view, () => this.choose());
  }

  begin() {
    this.build();
    this.load();
  }

  /** Shows what there is of the run; again and again while the coordinator does not answer. */
  async load() {
    try {
      const status = await api.run(this.id);
      if (this.signal.aborted) {
        return;
      }
      notice("");
      this.introduce(status);
      if (status.state === "finished") {
        await this.finish(status);
      } else if (status.state === "unfinished") {
        this.showState(status.state, "its coordinator ended and none took it up; `groundswell runs recover` makes a report of it");
      } else {
        this.showState(status.state, status.detail);
        this.watch();
      }
    } catch (error) {
      if (this.signal.aborted) {
        return;
      }
      if (error instanceof api.Problem && error.status === 404) {
        title("No run");
        this.main.replaceChildren(el("h1", {}, "No such run"), el("p", {}, error.message), el("p", {}, el("a", { href: "#/runs" }, "The runs")));
      } else {
        notice(`The run can't be read; trying again. ${error.message}`);
        setTimeout(() => !this.signal.aborted && this.load(), RETRY_MS);
      }
    }
  }

  build() {
    this.heading = el("h1", {}, this.id);
    this.state = badge("…");
    this.detail = el("span", { class: "detail" });
    this.facts = el("p", { class: "facts muted" });
    this.labels = el("div");
    this.bar = el("progress", { max: 1, value: 0, "aria-label": "Part of the planned time" });
    this.barText = el("span", { class: "muted" });
    this.cancelButton = el("button", { type: "button", class: "danger", hidden: true, onclick: () => this.cancel() }, "Cancel the run");
    this.links = el("p", { class: "links", hidden: true });
    this.tiles = el("dl", { class: "tiles" });
    this.standing = el("p", { class: "standing" });
    this.reasons = el("ul", { class: "reasons" });
    this.marks = el("ol", { class: "marks" });
    const { requests, errors, agents, thresholds } = this.tables;
    const head = el("div", { class: "head" },
      el("div", {}, el("div", { class: "name" }, this.heading, this.state, this.detail), this.facts, this.labels),
      el("div", { class: "actions" }, el("div", { class: "progress" }, this.bar, this.barText), this.links, this.cancelButton));
    this.main.append(head, this.tiles,
      section("Verdict", this.standing, this.reasons, thresholds.element),
      section("Over time", this.controls(), el("div", { class: "charts" }, this.charts.map((chart) => chart.element))),
      section("Requests", el("p", { class: "muted" }, "Tick requests to see them in the charts; none ticked: all together."), requests.element),
      section("Errors", errors.element),
      section("Agents", agents.element),
      section("Events", this.marks));
  }

  controls() {
    const draw = () => this.charts.forEach((chart) => chart.drawNow());
    const percentile = el("select", { onchange: (event) => { this.view.percentile = event.target.value; draw(); } },
      el("option", { value: "all" }, "p50, p90, p99"), PERCENTILES.map((name) => el("option", { value: name }, name)));
    const scale = el("select", { onchange: (event) => { this.view.logarithmic = event.target.value === "log"; draw(); } },
      el("option", { value: "linear" }, "linear"), el("option", { value: "log" }, "logarithmic"));
    this.clear = el("button", { type: "button", hidden: true, onclick: () => { this.view.chosen.clear(); this.choose(); } }, "All requests together");
    return el("div", { class: "controls" }, el("label", {}, "Percentiles ", percentile), el("label", {}, "Latency axis ", scale), this.clear);
  }

  /** What does not change: who it is. */
  introduce({ name, labels }) {
    this.name = name;
    setText(this.heading, name);
    this.labels.replaceChildren(tags(labels, (label) => `#/runs?label=${encodeURIComponent(label)}`));
    this.tell();
  }

  tell(target = "", more = "") {
    setText(this.facts, [`run ${this.id}`, target && `target ${target}`, more].filter(Boolean).join(", "));
  }

  watch() {
    const { view } = this;
    api.watch(this.id, {
      run: (opening) => {
        notice("");
        view.frames.open(opening.steps);
        this.tell(opening.target);
      },
      progress: (progress) => {
        this.show(fromProgress(progress));
        this.showState(progress.state, progress.detail);
      },
      frames: (frames) => {
        view.frames.take(frames);
        this.redraw();
      },
      // What is stored is more than what was told.
      finished: () => this.load(),
      lost: () => notice("The connection to the coordinator is lost; trying again. What is shown may be old."),
      gone: (problem) => {
        notice("");
        this.showState("unfinished", problem.message);
      },
    }, this.signal);
  }

  /** Shows what is stored. */
  async finish(status) {
    if (!status.summary) {
      this.showState("finished", status.problem ?? "there is no report");
      return;
    }
    const without = () => null;
    const [report, frames, curves, formats] = await Promise.all([
      api.report(this.id),
      // A run of an older release has no histograms.
      api.frames(this.id).catch(without),
      api.percentiles(this.id).catch(without),
      api.formats(),
    ]);
    if (this.signal.aborted) {
      return;
    }
    if (frames) {
      this.view.frames.open(frames.steps);
      this.view.frames.take(frames);
    }
    this.tell(report.run.target, `groundswell ${report.run.version}`);
    const links = formats.map((format) => el("a", { href: api.reportUrl(this.id, format) }, format));
    this.links.replaceChildren("Report: ", ...links, el("a", { href: api.exportUrl(this.id) }, "everything as one file"));
    this.links.hidden = false;
    this.show(fromReport(report, curves ?? []));
    this.showState(report.verdict.status.toUpperCase(), "");
    this.redraw();
  }

  showState(word, detail) {
    setBadge(this.state, word);
    setText(this.detail, detail);
    const { figures } = this.view;
    const part = figures?.planned_s ? Math.min(1, figures.elapsed_s / figures.planned_s) : null;
    const live = figures?.live ?? !OVER.includes(word);
    this.cancelButton.hidden = !live || OVER.includes(word);
    this.bar.hidden = !live || part === null;
    this.bar.value = part ?? 0;
    setText(this.barText, live && figures ? `${clock(figures.elapsed_s)}${figures.planned_s ? ` of ${clock(figures.planned_s)}` : ""}` : "");
    title(live && part !== null && word === "running" ? `${Math.floor(part * 100)} %` : word, this.name);
    if (word !== this.wasState) {
      announce(`${this.name}: ${word}${detail ? `, ${detail}` : ""}`);
      this.wasState = word;
    }
  }

  show(figures) {
    this.view.figures = figures;
    this.showTiles(figures);
    this.showVerdict(figures);
    this.tables.requests.update(figures.steps);
    this.tables.errors.update(figures.error_classes);
    this.tables.agents.update(figures.agents);
    this.tables.thresholds.update(figures.thresholds);
    this.showMarks(figures.marks);
  }

  showTiles(figures) {
    const tiles = [
      ["Issued", count(figures.issued)],
      ["Rate", rate(figures.rate_per_s), figures.wanted_per_s > 0 ? `wanted ${rate(figures.wanted_per_s)}` : ""],
      ["Errors", count(figures.failed), percent(figures.error_rate)],
      ["p50", ms(figures.response_ms.p50)],
      ["p90", ms(figures.response_ms.p90)],
      ["p99", ms(figures.response_ms.p99)],
      ["Greatest", ms(figures.response_ms.max)],
      ...(figures.live
        ? [["Users", count(figures.users)], ["In flight", count(figures.in_flight)], ["Open sockets", count(figures.open_sockets)]]
        : [["Length", clock(figures.elapsed_s)], ["Agents", count(figures.agents.length)]]),
    ];
    this.tiles.replaceChildren(...tiles.map(([name, value, more = ""]) =>
      el("div", {}, el("dt", {}, name), el("dd", {}, value, more && el("small", {}, more)))));
  }

  /** They only get more; those that are shown stay, so that a selection in them does. */
  showMarks(marks) {
    if (this.marks.dataset.count === String(marks.length)) {
      return;
    }
    this.marks.dataset.count = marks.length;
    const lines = marks.map((mark) => el("li", {}, el("b", {}, clock(mark.t_s)), " ", mark.text));
    this.marks.replaceChildren(...(lines.length > 0 ? lines : [el("li", { class: "muted" }, "None.")]));
  }

  /** The verdict, or what it would be if the run ended now. */
  showVerdict({ live, verdict, thresholds, reasons, warnings }) {
    const broken = thresholds.filter((threshold) => !threshold.passed).length;
    const held = thresholds.length === 0 ? "The plan has no thresholds"
      : broken > 0 ? `${broken} of ${plural(thresholds.length, "threshold")} broken`
        : thresholds.length === 1 ? "The threshold holds" : `All ${thresholds.length} thresholds hold`;
    setText(this.standing, live ? `As it stands: ${held[0].toLowerCase()}${held.slice(1)}.` : `${verdict.toUpperCase()}. ${held}.`);
    const lines = [...reasons.map((reason) => ["reason", reason]), ...warnings.map((warning) => ["warning", warning])];
    this.reasons.replaceChildren(...lines.map(([kind, { message }]) => el("li", { class: kind }, message)));
  }

  redraw() {
    const { frames } = this.view;
    const intervals = frames.sorted.length;
    this.charts[0].say(`${plural(frames.issued, "operation")} issued in ${plural(intervals, "interval")} of ${frames.length} s`);
    this.charts.forEach((chart) => chart.changed());
  }

  /** Other requests are chosen. */
  choose() {
    this.clear.hidden = this.view.chosen.size === 0;
    this.tables.requests.update(this.tables.requests.rows);
    this.charts.forEach((chart) => chart.drawNow());
  }

  async cancel() {
    if (await confirm("Stop the load of this run? It ends with a report of what was measured.", "Cancel the run")) {
      try {
        await api.cancel(this.id);
      } catch (error) {
        notice(error.message);
      }
    }
  }
}

function section(name, ...content) {
  return el("section", {}, el("h2", {}, name), content);
}
