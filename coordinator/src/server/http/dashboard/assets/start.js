// The form that starts a run.

import * as api from "./api.js";
import { el } from "./dom.js";

/** Bytes that become characters at once; more arguments than this a call may not take. */
const CHUNK = 0x8000;

/** Opens the form; a run that it starts is shown. */
export function startDialog() {
  const field = (label, control, hint = "") => el("label", { class: "field" }, el("span", {}, label), control, hint && el("small", { class: "muted" }, hint));
  const name = el("input", { name: "name", value: "plan.yaml", required: true });
  const text = el("textarea", { name: "text", rows: 14, spellcheck: "false", required: true });
  const planFile = el("input", { type: "file", accept: ".yaml,.yml" });
  const dataFiles = el("input", { type: "file", multiple: true });
  const files = el("ul", { class: "files" });
  const agents = el("input", { name: "agents", type: "number", min: 0, max: 4_294_967_295, value: 0 });
  const wait = el("input", { name: "wait", type: "number", min: 0, max: 86_400, value: 60 });
  const labels = el("input", { name: "labels", placeholder: "branch=main, commit=1f2e3d" });
  const selector = el("input", { name: "selector", placeholder: "zone=east" });
  const problem = el("pre", { class: "problem", role: "alert", hidden: true });
  const submit = el("button", { class: "primary" }, "Start");
  const form = el("form", {},
    el("h2", {}, "Start a run"),
    el("div", { class: "fields" }, field("Plan from a file", planFile), field("Its name", name)),
    field("Plan", text),
    field("Data files", dataFiles, "Each under the path that the plan names it by."),
    files,
    el("div", { class: "fields" },
      field("Agents", agents, "0: all that are free"),
      field("Wait for them, in seconds", wait),
      field("Labels", labels, "KEY=VALUE, with commas between"),
      field("Only agents with", selector, "KEY=VALUE, with commas between")),
    problem,
    el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close() }, "Back"), submit));
  const dialog = el("dialog", { class: "start", "aria-label": "Start a run" }, form);

  planFile.addEventListener("change", async () => {
    const [file] = planFile.files;
    if (file) {
      [name.value, text.value] = [file.name, await file.text()];
    }
  });
  dataFiles.addEventListener("change", () => {
    files.replaceChildren(...[...dataFiles.files].map((file) => {
      const path = el("input", { value: file.name, "aria-label": `Path of ${file.name} in the plan` });
      return Object.assign(el("li", {}, path, ` ${file.size} bytes`), { file, path });
    }));
  });

  // One form is one submission: sent twice by mistake, it is still one run.
  const submission = random();
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.hidden = true;
    try {
      const accepted = await api.submit({
        plan: { name: name.value, text: text.value, files: await read(files.children) },
        agents: Number(agents.value),
        wait_s: Number(wait.value),
        labels: pairs(labels.value),
        selector: pairs(selector.value),
        submission,
      });
      dialog.close();
      location.hash = `#/runs/${encodeURIComponent(accepted.id)}`;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      problem.scrollIntoView();
    } finally {
      submit.disabled = false;
    }
  });
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}

/** KEY=VALUE, … as an object. */
function pairs(text) {
  const entries = text.split(",").map((part) => part.trim()).filter(Boolean).map((part) => {
    const at = part.indexOf("=");
    if (at < 1) {
      throw new Error(`${part} is no KEY=VALUE`);
    }
    return [part.slice(0, at), part.slice(at + 1)];
  });
  return Object.fromEntries(entries);
}

/** The chosen data files by path, in base64: they need not be text. */
async function read(items) {
  const entries = [...items].map(async ({ file, path }) => [path.value, { base64: base64(new Uint8Array(await file.arrayBuffer())) }]);
  return Object.fromEntries(await Promise.all(entries));
}

function base64(bytes) {
  let characters = "";
  for (let at = 0; at < bytes.length; at += CHUNK) {
    characters += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  }
  return btoa(characters);
}

/** `crypto.randomUUID` is missing where the page came over plain HTTP from another machine. */
function random() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
