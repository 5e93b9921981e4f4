// Who looks: the form that asks for a token, where the coordinator wants one.

import * as api from "./api.js";
import { el, title } from "./dom.js";

/** Shows the form; `enter` is called with who has logged in. */
export function loginPage(main, enter) {
  title("Log in");
  const token = el("input", { name: "token", type: "password", autocomplete: "current-password", required: true });
  const problem = el("p", { class: "problem", role: "alert", hidden: true });
  const submit = el("button", { class: "primary" }, "Log in");
  const form = el("form", { class: "login" },
    el("h1", {}, "Log in"),
    el("label", { class: "field" }, el("span", {}, "Token"), token,
      el("small", { class: "muted" }, "groundswell tokens create view, run or admin")),
    problem,
    el("div", { class: "buttons" }, submit));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.hidden = true;
    try {
      enter(await api.login(token.value));
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      submit.disabled = false;
      token.select();
    }
  });
  main.append(form);
  token.focus();
}
