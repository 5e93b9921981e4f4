// The shell: which page is shown. Pages are the part of the URL after `#`: /runs, /runs/ID, /compare/A/B, /agents.

import * as api from "./api.js";
import { agentsPage } from "./agents.js";
import { comparePage } from "./compare.js";
import { el, notice, title } from "./dom.js";
import { listPage } from "./list.js";
import { loginPage } from "./login.js";
import { runPage } from "./run.js";

const PAGES = { runs: (parts) => (parts.length > 0 ? runPage : listPage), compare: () => comparePage, agents: () => agentsPage };

const main = document.getElementById("main");
const logout = document.getElementById("logout");
/** Who looks; a coordinator that can't be asked now is asked by the pages again. */
let session = await api.session().catch(() => ({ open: true, role: "admin" }));
/** Ends what the page that is shown has going: timers, streams, observers. */
let leave = new AbortController();

/** The path and the query after `#`. */
function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...parts] = path.split("/").filter(Boolean).map(decode);
  return { name: name ?? "runs", parts, query: new URLSearchParams(query) };
}

/** A `%` that begins nothing is what it is. */
function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  const { name, parts, query } = place();
  leave.abort();
  leave = new AbortController();
  notice("");
  main.replaceChildren();
  logout.hidden = session.open || session.role === null;
  if (session.role === null) {
    loginPage(main, enter);
    return;
  }
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  const page = PAGES[name]?.(parts);
  if (page) {
    page(main, { parts, query }, leave.signal);
  } else {
    title("Not found");
    main.append(el("h1", {}, "There is no such page"), el("p", {}, el("a", { href: "#/runs" }, "The runs")));
  }
}

function enter(who) {
  session = who;
  show();
}

logout.addEventListener("click", async () => {
  await api.logout();
  enter({ open: false, role: null });
});
// The session is over, or its token was revoked.
addEventListener("loggedout", () => {
  if (session.role !== null) {
    enter({ open: false, role: null });
  }
});
document.querySelector(".skip").addEventListener("click", (event) => {
  // The part after `#` is a page's; this link only moves the focus.
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => {
  show();
  // Those who use a keyboard or listen start at the head of the new page.
  main.focus();
  scrollTo(0, 0);
});
show();
