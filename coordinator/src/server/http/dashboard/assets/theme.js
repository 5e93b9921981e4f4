// Light or dark: as the system has it, unless the user chose. The choice is kept in this browser.
"use strict";
(() => {
  const KEY = "groundswell.theme";
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // A browser may refuse storage; then the choice lasts as long as the page.
  let choice = "system";
  try {
    choice = localStorage.getItem(KEY) ?? "system";
  } catch { /* stays "system" */ }

  function apply() {
    const isDark = choice === "dark" || (choice !== "light" && dark.matches);
    document.documentElement.dataset.theme = isDark ? "dark" : "light";
    // Charts have no styles of their own: they read the colours when they draw.
    document.dispatchEvent(new Event("themechange"));
  }

  apply();
  dark.addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = choice;
    select.addEventListener("change", () => {
      choice = select.value;
      try {
        localStorage.setItem(KEY, choice);
      } catch { /* see above */ }
      apply();
    });
  });
})();
