// Elements, kept and filled again: a page that is left open must not lose the reader's place,
// focus or selection every two seconds.  Texts only ever become text (textContent).

import { NONE, number, printable, shortened } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

export function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function drawn(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function show(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function attribute(node, name, value) {
  if (value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

// A figure: <data value="0.0482">48.2 ms</data>.  `of` says which of the answer's fields it is.
export class Datum {
  constructor(of) {
    this.node = make("data", { "data-of": of });
  }
  show(value, format) {
    const known = value !== undefined && value !== null;
    attribute(this.node, "value", known ? value : undefined);
    show(this.node, known ? format(number(value)) : NONE);
  }
}

// A name that a peer chose.
export class Name {
  constructor(length) {
    this.length = length;
    this.node = make("bdi", { class: "name" });
  }
  show(name) {
    const short = shortened(name, this.length);
    show(this.node, short);
    const full = printable(name);
    attribute(this.node, "title", short === full ? undefined : full);
  }
}

// A share of something, drawn beside the figure that says it: 0 to 1.
export class Bar {
  constructor() {
    this.inner = drawn("rect", { class: "bar-inner", height: "100%", rx: 1.5 });
    this.node = drawn("svg", { class: "bar", "aria-hidden": "true" },
      drawn("rect", { class: "bar-outer", width: "100%", height: "100%", rx: 1.5 }), this.inner);
  }
  show(share) {
    const width = Math.max(0, Math.min(1, share || 0));
    attribute(this.inner, "width", `${(100 * width).toFixed(1)}%`);
  }
}

// Children of `parent`, one for each item, in the items' order: made once for a key, then updated.
// make(item) returns {node, update(item)}.
export class Keyed {
  constructor(parent, key, makeOne) {
    Object.assign(this, { parent, key, makeOne, known: new Map() });
  }
  update(items) {
    const next = new Map();
    let place = this.parent.firstChild;
    for (const item of items) {
      let key = this.key(item);
      while (next.has(key)) key += "+";
      const one = this.known.get(key) ?? this.makeOne(item);
      one.update(item);
      next.set(key, one);
      if (one.node === place) place = place.nextSibling;
      else this.parent.insertBefore(one.node, place);
    }
    for (const [key, one] of this.known) if (next.get(key) !== one) one.node.remove();
    this.known = next;
  }
}
