// Tables that sort by a click on a head and that change in place.

import { el, setText } from "./dom.js";

/**
 * A table. Each column has a `label` and either `text(row)` or `cell(td, row)`, which is called again whenever the row
 * changes; `value(row)` makes it sortable; `numeric` sets it to the right; `wide` lets its text wrap.
 * Rows stay the same elements as long as their `key(row)` stays, so that focus and selections survive new figures.
 */
export class Table {
  constructor({ caption, columns, key, sort = null, descending = false, empty = "None." }) {
    Object.assign(this, { caption, columns, key, descending, empty });
    this.sortBy = columns.find((column) => column.label === sort) ?? null;
    this.rows = [];
    this.elements = new Map();
    this.body = el("tbody");
    this.heads = columns.map((column) => this.head(column));
    const table = el("table", {}, el("caption", {}, caption), el("thead", {}, el("tr", {}, this.heads)), this.body);
    // What does not fit scrolls in a box of its own, which a keyboard reaches.
    this.element = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, table);
  }

  head(column) {
    const kind = column.numeric ? "number" : null;
    if (!column.value) {
      return el("th", { scope: "col", class: kind }, column.label || el("span", { class: "unseen" }, "Actions"));
    }
    const press = () => {
      this.descending = this.sortBy === column ? !this.descending : Boolean(column.numeric);
      this.sortBy = column;
      this.place();
    };
    return el("th", { scope: "col", class: kind }, el("button", { type: "button", class: "sort", onclick: press }, column.label));
  }

  /** Shows these rows. */
  update(rows) {
    this.rows = rows;
    const keys = new Set();
    for (const row of rows) {
      const key = this.key(row);
      keys.add(key);
      if (!this.elements.has(key)) {
        const cells = this.columns.map((column) => el("td", { class: column.numeric ? "number" : column.wide ? "wide" : null }));
        this.elements.set(key, el("tr", {}, cells));
      }
      const cells = this.elements.get(key).children;
      this.columns.forEach((column, index) => {
        if (column.cell) {
          column.cell(cells[index], row);
        } else {
          setText(cells[index], column.text(row));
        }
      });
    }
    for (const key of this.elements.keys()) {
      if (!keys.has(key)) {
        this.elements.delete(key);
      }
    }
    this.place();
  }

  /** Puts the rows in order, touching none that is in its place. */
  place() {
    this.columns.forEach((column, index) => {
      if (column === this.sortBy) {
        this.heads[index].setAttribute("aria-sort", this.descending ? "descending" : "ascending");
      } else {
        this.heads[index].removeAttribute("aria-sort");
      }
    });
    const order = this.sortBy ? [...this.rows].sort((a, b) => this.compare(a, b)) : this.rows;
    const wanted = order.map((row) => this.elements.get(this.key(row)));
    if (wanted.length === 0) {
      wanted.push(el("tr", {}, el("td", { colspan: this.columns.length, class: "muted" }, this.empty)));
    }
    wanted.forEach((element, index) => {
      if (this.body.children[index] !== element) {
        // A row that moves keeps the focus in it, where the browser can do that.
        const put = element.isConnected && this.body.moveBefore ? "moveBefore" : "insertBefore";
        this.body[put](element, this.body.children[index] ?? null);
      }
    });
    while (this.body.children.length > wanted.length) {
      this.body.lastChild.remove();
    }
  }

  /** What has no value comes last, whichever way the others go. */
  compare(a, b) {
    const [left, right] = [this.sortBy.value(a), this.sortBy.value(b)];
    const none = (value) => value === null || value === undefined;
    if (none(left) || none(right)) {
      return Number(none(left)) - Number(none(right));
    }
    const order = typeof left === "string" ? left.localeCompare(right) : left - right;
    return this.descending ? -order : order;
  }
}
