// Shapes and words for the states of things, and where they stand in lists.

import { Keyed, make } from "./dom.js";

export function groupHref(group) {
  return `#group=${encodeURIComponent(group)}`;
}

const KINDS = { bad: "■", late: "▲", wait: "◆", idle: "○", fine: "●" };
export function kindMark(kind) {
  return make("span", { class: `kind ${kind}`, "aria-hidden": "true" }, KINDS[kind]);
}

export class Verdict {
  constructor(place) {
    this.place = place;
    this.said = "";
  }
  // Made anew only when something has changed: a selection in it stays.
  update(lines) {
    const nodes = lines.map((line) => make("li", { class: line.kind }, kindMark(line.kind),
      make("span", {}, make("b", { class: "word" }, line.word), " ", ...line.parts)));
    const words = nodes.map((node) => node.outerHTML).join("");
    if (words === this.said) return;
    this.said = words;
    this.place.replaceChildren(...nodes);
  }
}

export function facts(place) {
  return new Keyed(place, (f) => f.name, (f) => {
    const value = make("dd");
    return { node: make("div", {}, make("dt", {}, f.name), value), update: (g) => g.fill(value) };
  });
}
