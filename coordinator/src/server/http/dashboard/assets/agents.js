// The page of the agents.

import * as api from "./api.js";
import { badge, el, notice, setBadge, setText, tags, title } from "./dom.js";
import { count, plural, rate } from "./format.js";
import { Table } from "./table.js";

const REFRESH_MS = 2_000;

export function agentsPage(main, _place, signal) {
  title("Agents");
  const sum = el("p", { class: "muted" });
  const state = (cell, agent) => {
    if (!cell.firstChild) {
      cell.append(badge(""));
    }
    setBadge(cell.firstChild, agent.state.replace("_", " "));
  };
  const run = (cell, agent) => {
    if ((cell.textContent || undefined) !== agent.run) {
      cell.replaceChildren(...(agent.run ? [el("a", { href: `#/runs/${encodeURIComponent(agent.run)}` }, agent.run)] : []));
    }
  };
  const labels = (cell, agent) => {
    // An agent may come back with others.
    const text = JSON.stringify(agent.labels);
    if (cell.dataset.labels !== text) {
      cell.dataset.labels = text;
      cell.replaceChildren(tags(agent.labels));
    }
  };
  const number = (label, get, form = count) => ({ label, numeric: true, value: get, text: (agent) => form(get(agent)) });
  const table = new Table({
    caption: "Agents",
    key: (agent) => agent.name,
    empty: "No agents. Start some: groundswell agent --coordinator URL",
    columns: [
      { label: "Agent", value: (agent) => agent.name, text: (agent) => agent.name },
      { label: "State", value: (agent) => agent.state, cell: state },
      { label: "Run", cell: run },
      { label: "Labels", cell: labels },
      number("Weight", (agent) => agent.weight),
      number("Workers", (agent) => agent.workers),
      number("At most", (agent) => agent.max_rate_per_s, rate),
      number("Users at most", (agent) => agent.max_users),
      number("Heard", (agent) => agent.heard_s_ago, (value) => `${value.toFixed(1)} s ago`),
      { label: "Version", value: (agent) => agent.version, text: (agent) => agent.version },
    ],
  });
  main.append(el("h1", {}, "Agents"), sum, table.element);
  const look = async () => {
    try {
      const agents = await api.agents();
      if (!signal.aborted) {
        notice("");
        table.update(agents);
        const free = agents.filter((agent) => agent.state === "free").length;
        setText(sum, `${plural(agents.length, "agent")}, ${free} free`);
      }
    } catch (error) {
      if (!signal.aborted) {
        notice(`The agents can't be listed: ${error.message}`);
      }
    }
  };
  api.poll(look, REFRESH_MS, signal);
}
