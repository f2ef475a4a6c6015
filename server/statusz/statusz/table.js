// A table of the worst first, with a filter and "more" where there are more than fit; else nothing
// but the table.
//
//   new Table(place, {
//     label,     what it is, for who cannot see it
//     noun,      ["member", "members"]
//     columns,   [{ head, over, hint, class, row, fill }]: fill(cell) makes a cell's content and returns
//                update(item); `row`: it heads its row; neighbours with one `over` stand below it
//     key(item), matches(item, words), empty
//     limit      rows shown at first; items come sorted
//     mark(item) a class of the row
//   })

import { count } from "./format.js";
import { attribute, Keyed, make, show } from "./dom.js";

const MORE = 50;  // rows, each time

function head(columns) {
  const th = (column, attributes = {}) => make("th",
    { scope: "col", class: column.class, title: column.hint, ...attributes }, column.head);
  if (!columns.some((c) => c.over)) return [make("tr", {}, ...columns.map((c) => th(c)))];
  const upper = make("tr");
  const lower = make("tr");
  columns.forEach((column, i) => {
    if (!column.over) {
      upper.append(th(column, { rowspan: 2 }));
      return;
    }
    lower.append(th(column));
    if (i > 0 && columns[i - 1].over === column.over) return;
    let span = 1;
    while (columns[i + span]?.over === column.over) span += 1;
    upper.append(make("th", { scope: "colgroup", colspan: span, class: "over" }, column.over));
  });
  return [upper, lower];
}

export class Table {
  constructor(place, options) {
    this.options = options;
    this.shown = options.limit;
    this.items = [];
    this.words = "";
    const input = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    this.filter = make("label", { class: "filter" }, `Filter ${options.noun[1]} `, input);
    this.filter.hidden = true;
    input.addEventListener("input", () => {
      this.words = input.value.trim().toLowerCase();
      this.shown = options.limit;
      this.draw();
    });
    const body = make("tbody");
    this.table = make("table", {}, make("caption", { class: "unseen" }, options.label),
      make("thead", {}, ...head(options.columns)), body);
    this.scroll = make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": options.label }, this.table);
    this.empty = make("p", { class: "empty" });
    this.rest = make("p", { class: "rest" });
    this.more = make("button", { type: "button" });
    this.more.addEventListener("click", () => {
      this.shown += MORE;
      this.draw();
    });
    this.foot = make("div", { class: "foot" }, this.rest, this.more);
    this.rows = new Keyed(body, options.key, () => this.row());
    place.append(this.filter, this.scroll, this.empty, this.foot);
  }

  row() {
    const updates = [];
    const node = make("tr", {}, ...this.options.columns.map((column) => {
      const cell = column.row ? make("th", { scope: "row", class: column.class })
        : make("td", { class: column.class });
      updates.push(column.fill(cell));
      return cell;
    }));
    return {
      node,
      update: (item) => {
        for (const update of updates) update(item);
        if (this.options.mark) attribute(node, "class", this.options.mark(item) || undefined);
      },
    };
  }

  // `more`: of them, that the answer itself left out.
  update(items, left_out = 0) {
    this.items = items;
    this.left_out = left_out;
    this.draw();
  }

  draw() {
    const { limit, noun, matches, empty } = this.options;
    const many = this.items.length > limit;
    this.filter.hidden = !many && this.words === "";
    const found = this.words === "" ? this.items : this.items.filter((item) => matches(item, this.words));
    const visible = found.slice(0, this.shown);
    this.rows.update(visible);
    this.scroll.hidden = visible.length === 0;
    this.empty.hidden = visible.length > 0;
    show(this.empty, this.words === "" ? empty : `None of ${count(this.items.length)} ${noun[1]} matches.`);
    const hidden = found.length - visible.length;
    const parts = [];
    if (hidden > 0) parts.push(`${count(visible.length)} of ${count(found.length)} shown; ${count(hidden)} more`);
    else if (this.words !== "" && found.length > 0) parts.push(`${count(found.length)} of ${count(this.items.length)} match`);
    if (this.left_out > 0) parts.push(`${count(this.left_out)} had no room in the answer`);
    show(this.rest, parts.join("; "));
    this.more.hidden = hidden === 0;
    show(this.more, `Show ${count(Math.min(MORE, hidden))} more`);
    this.foot.hidden = parts.length === 0;
  }
}
