// Columns for Table: { head, class, fill }, each of one figure or name of a row's item.

import { percent, printable, seconds } from "./format.js";
import { attribute, Bar, Datum, make, Name, show } from "./dom.js";
import { colour } from "./scale.js";

// Whether a name has what is searched for.
export function has(text, words) {
  return printable(text).toLowerCase().includes(words);
}

// A column of one figure: get(item) is the answer's, `of` where it stands in it.
export function figure(head, of, get, format, more = {}) {
  return {
    head, class: "num", ...more,
    fill(cell) {
      const datum = new Datum("");
      cell.append(datum.node);
      return (item) => {
        datum.node.dataset.of = of(item);
        datum.show(get(item), format);
      };
    },
  };
}

export function name(head, get, more = {}) {
  return {
    head, ...more,
    fill(cell) {
      const made = new Name();
      cell.append(made.node);
      return (item) => made.show(get(item));
    },
  };
}

export function text(head, get, more = {}) {
  return { head, ...more, fill: (cell) => (item) => show(cell, get(item)) };
}

// A share of two of the answer's figures, with its bar.
export function share(head, of, part, all, more = {}) {
  return {
    head, class: "num share", ...more,
    fill(cell) {
      const datum = make("data");
      const bar = new Bar();
      cell.append(bar.node, datum);
      return (item) => {
        show(datum, percent(part(item), all(item)));
        attribute(datum, "value", part(item));
        attribute(datum, "data-of", of(item));
        attribute(datum, "data-in", all(item));
        bar.show(part(item) / all(item));
      };
    },
  };
}

export function lateness(head, of, get, more = {}) {
  return {
    head, class: "num", ...more,
    fill(cell) {
      const swatch = make("i", { class: "swatch", "aria-hidden": "true" });
      const datum = new Datum("");
      cell.append(swatch, datum.node);
      return (item) => {
        const value = get(item);
        swatch.hidden = value === undefined;
        if (value !== undefined) swatch.style.background = colour(Number(value));
        datum.node.dataset.of = of(item);
        datum.show(value, seconds);
      };
    },
  };
}
