// Elements. Whatever comes from a plan, a target or an agent goes through text nodes and attributes here and is never
// read as HTML.

/**
 * Makes an element. Attributes that begin with `on` are listeners, `true` is an attribute without a value, `false` and
 * `null` are left out; children are nodes or texts.
 */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) {
      element.addEventListener(key.slice(2), value);
    } else if (value !== false && value !== null && value !== undefined) {
      element.setAttribute(key, value === true ? "" : value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets a text only where it differs, so that a selection in it survives. */
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

/** Says something to those who listen instead of look. */
export function announce(text) {
  setText(document.getElementById("announcer"), text);
}

/** The line below the page's head: what is wrong at the moment; empty where nothing is. */
export function notice(text) {
  setText(document.getElementById("notice"), text);
}

/** The title of the page, the most telling part first. */
export function title(...parts) {
  const text = [...parts.filter(Boolean), "groundswell"].join(" · ");
  if (document.title !== text) {
    document.title = text;
  }
}

/** Asks before something that can't be taken back; the promise says whether to do it. */
export function confirm(question, action) {
  return new Promise((resolve) => {
    const form = el("form", { method: "dialog" },
      el("p", {}, question),
      el("div", { class: "buttons" },
        el("button", { value: "no" }, "Back"),
        el("button", { value: "yes", class: "danger" }, action)));
    const dialog = el("dialog", { "aria-label": action }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** A verdict or a state as a word in a colour. */
export function badge(word) {
  return el("span", { class: `badge ${badgeClass(word)}` }, word);
}

/** Changes a badge in place. */
export function setBadge(element, word) {
  setText(element, word);
  element.className = `badge ${badgeClass(word)}`;
}

const VERDICTS = ["passed", "failed", "degraded", "invalid", "aborted"];

function badgeClass(word) {
  const lower = word.toLowerCase();
  return VERDICTS.includes(lower) ? lower : "state";
}

/** The labels of a run or agent as tags; with `to` each is a link. */
export function tags(labels, to = null) {
  const tag = ([key, value]) => {
    const text = `${key}=${value}`;
    return el("li", {}, to ? el("a", { href: to(text) }, text) : text);
  };
  return el("ul", { class: "tags", "aria-label": "Labels" }, Object.entries(labels).map(tag));
}
