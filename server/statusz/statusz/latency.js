// The distribution of the rounds' durations: a table whose rows are the histogram's buckets, so that
// each bar stands beside the figure that it draws; and small lines of figures over time.

import { count, percent, seconds } from "./format.js";
import { attribute, Bar, Datum, drawn, Keyed, make, show } from "./dom.js";

const NB = "\u00a0";
const plain = (value) => seconds(value).replace(/\.0+(?=\D)/, "");

function range(low, high) {
  if (high === undefined) return `over${NB}${plain(low)}`;
  if (low === 0) return `to${NB}${plain(high)}`;
  const [from, to] = [plain(low).split(NB), plain(high).split(NB)];
  return `${from[1] === to[1] ? from[0] : from.join(NB)}${NB}–${NB}${to.join(NB)}`;
}

// Buckets with their lower bound, and the quantiles that fall into each.
function bucketsOf(group) {
  let low = 0;
  return (group.durations?.buckets ?? []).map((bucket, i) => {
    const from = low;
    low = bucket.within_s ?? Infinity;
    const holds = (q) => q !== undefined && q > from && q <= low;
    const marks = ["p50", "p99"].filter((name) => holds(group.recent?.[`${name}_s`]));
    return { i, from, to: bucket.within_s, rounds: bucket.rounds, all: group.durations.rounds, marks, recent: group.recent };
  });
}

export class Latency {
  constructor(place) {
    const body = make("tbody");
    this.empty = make("p", { class: "empty" }, "No complete round yet.");
    this.hint = make("p", { class: "hint" }, "From a round's first contribution to its result, since the group formed; ",
      make("b", {}, "p50"), " and ", make("b", {}, "p99"), " are the last minute's.");
    this.table = make("table", { class: "histogram" },
      make("caption", { class: "unseen" }, "Complete rounds by their duration"),
      make("thead", { class: "unseen" }, make("tr", {}, ...["Duration", "Share, drawn", "Rounds", "Share"].map((t) => make("th", { scope: "col" }, t)))), body);
    place.append(this.hint, this.table, this.empty);
    this.rows = new Keyed(body, (b) => String(b.i), (b) => this.row(b));
  }

  row() {
    const name = make("th", { scope: "row" });
    const bar = new Bar();
    const rounds = new Datum("");
    const share = make("td", { class: "num" });
    const marks = make("span", { class: "marks" });
    const node = make("tr", { tabindex: -1 }, name, make("td", { class: "bar-cell" }, bar.node, marks), make("td", { class: "num" }, rounds.node), share);
    return {
      node,
      update: (b) => {
        show(name, range(b.from, b.to));
        bar.show(b.rounds / b.largest);
        rounds.node.dataset.of = `durations.buckets.${b.i}.rounds`;
        rounds.show(b.rounds, count);
        show(share, percent(b.rounds, b.all));
        show(marks, b.marks.map((m) => `◂${NB}${m} ${seconds(b.recent[`${m}_s`])}`).join("  "));
        attribute(node, "title", `${count(b.rounds)} of ${count(b.all)} rounds took ${range(b.from, b.to)}`);
      },
    };
  }

  // Without the empty buckets at both ends.
  update(group) {
    const all = bucketsOf(group);
    const first = all.findIndex((b) => b.rounds > 0);
    const buckets = all.slice(Math.max(0, first - 1), all.findLastIndex((b) => b.rounds > 0 || b.marks.length > 0) + 2);
    const largest = Math.max(1, ...buckets.map((b) => b.rounds));
    this.rows.update(buckets.map((b) => ({ ...b, largest })));
    this.table.hidden = this.hint.hidden = !(group.durations?.rounds > 0);
    this.empty.hidden = !this.table.hidden;
  }
}

// A figure's course over the timeline, without axes: its figures are in the heatmap's table.
export class Course {
  constructor() {
    this.line = drawn("path", { class: "course-line" });
    this.area = drawn("path", { class: "course-area" });
    this.node = drawn("svg", { class: "course", viewBox: "0 0 100 30", preserveAspectRatio: "none", "aria-hidden": "true" }, this.area, this.line);
  }

  // values: [{ago, value or undefined}], the oldest first; from 0 up, or logarithmic.
  show(values, logarithmic) {
    const known = values.filter((v) => v.value !== undefined && v.value > (logarithmic ? 0 : -1));
    if (known.length < 2) {
      for (const path of [this.line, this.area]) attribute(path, "d", undefined);
      return;
    }
    const scaled = known.map((v) => (logarithmic ? Math.log10(v.value) : v.value));
    let low = logarithmic ? Math.min(...scaled) : 0;
    let high = Math.max(...scaled);
    // Half a decade at least: noise is to look like noise.
    const least = logarithmic ? 0.7 : Math.max(1e-9, high * 0.02);
    if (high - low < least) [low, high] = logarithmic ? [(low + high - least) / 2, (low + high + least) / 2] : [low, low + least];
    const span = Math.max(60, values[0].ago);
    const points = known.map((v, i) => `${(100 * (1 - v.ago / span)).toFixed(2)} ${(28 - (26 * (scaled[i] - low)) / (high - low)).toFixed(2)}`);
    const first = points[0].split(" ")[0];
    const last = points[points.length - 1].split(" ")[0];
    attribute(this.line, "d", `M${points.join("L")}`);
    attribute(this.area, "d", `M${first} 30L${points.join("L")}L${last} 30Z`);
  }
}
