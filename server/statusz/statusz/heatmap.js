// Lateness by rank (rows) over time (columns): a canvas, with labels beside it, a reading of the
// cell that is pointed at, tapped or reached with the arrow keys, and the same as a table.

import { ago, count, printable, seconds, shortened, worker } from "./format.js";
import { Datum, Keyed, make, show } from "./dom.js";
import { byLateness, late } from "./late.js";
import { BOUNDS, colour, position } from "./scale.js";

const ROWS = 24;          // with a label each
const LEAST_S = 60;       // of the time axis
const LABELLED = 14;      // px of a row, for its label to fit
const GAP = 1;            // px between cells that are wide enough

// The hatch of cells without a round: no colour of the scale, and no plain one.
function hatch(context, style) {
  const tile = document.createElement("canvas");
  tile.width = tile.height = 6;
  const c = tile.getContext("2d");
  c.strokeStyle = style;
  c.lineWidth = 1;
  c.beginPath();
  c.moveTo(-1, 7);
  c.lineTo(7, -1);
  c.stroke();
  return context.createPattern(tile, "repeat");
}

export class Heatmap {
  constructor(place) {
    this.all = false;
    this.cell = null;  // {rank, column, ended}: ended by the coordinator's clock, which a cell keeps
    this.pointer = null;  // {x, y} on the canvas: what is below it is the cell
    this.canvas = make("canvas", {
      tabindex: 0, role: "application", "aria-roledescription": "heatmap", "aria-describedby": "heat-reading",
    });
    this.labels = make("div", { class: "heat-ranks", "aria-hidden": "true" });
    this.means = make("div", { class: "heat-means", "aria-hidden": "true" });
    this.axis = make("div", { class: "heat-axis", "aria-hidden": "true" });
    this.reading = make("p", { class: "reading", id: "heat-reading" });
    this.spoken = make("p", { class: "unseen", role: "status" });  // of the arrow keys, not of every answer
    this.rest = make("p", { class: "rest" });
    this.more = make("button", { type: "button", "aria-pressed": "false" });
    this.foot = make("div", { class: "foot" }, this.rest, this.more);
    this.empty = make("p", { class: "empty" });
    this.figure = make("div", { class: "heat" },
      make("span", { class: "heat-head", "aria-hidden": "true" }, "rank"),
      make("span", { class: "heat-head heat-head-mean", "aria-hidden": "true" }, "last minute"),
      this.labels, make("div", { class: "heat-cells" }, this.canvas), this.means, this.axis);
    this.tableBody = make("tbody");
    this.tableHead = make("tr");
    this.details = make("details", {}, make("summary", {}, "As a table"),
      make("div", { class: "scroll", role: "region", tabindex: 0, "aria-label": "Lateness by rank over time" },
        make("table", { class: "heat-table" }, make("caption", {}, "Mean lateness of each rank in each stretch of time"),
          make("thead", {}, this.tableHead), this.tableBody)));
    place.append(this.legend(), this.figure, this.reading, this.spoken, this.foot, this.details, this.empty);
    this.labelRows = new Keyed(this.labels, (m) => String(m.rank), () => this.label());
    this.meanRows = new Keyed(this.means, (m) => String(m.rank), () => this.mean());

    this.more.addEventListener("click", () => {
      this.all = !this.all;
      this.draw();
    });
    this.details.addEventListener("toggle", () => this.fillTable());
    const point = (event) => this.point(event);
    this.canvas.addEventListener("pointermove", point);
    this.canvas.addEventListener("pointerdown", point);
    this.canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && this.pointer) this.choose(null);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("focus", () => {
      if (!this.cell && this.ready() && this.canvas.matches(":focus-visible")) this.say(this.start());
    });
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
    for (const query of ["(prefers-color-scheme: dark)", "(forced-colors: active)"]) {
      matchMedia(query).addEventListener("change", () => this.draw());
    }
  }

  legend() {
    const steps = make("span", { class: "legend-steps" });
    for (let i = 0; i < 48; i += 1) {
      const step = make("i");
      step.style.background = colour(BOUNDS[0] * (BOUNDS[BOUNDS.length - 1] / BOUNDS[0]) ** (i / 47));
      steps.append(step);
    }
    const ticks = make("span", { class: "legend-ticks" });
    for (const bound of BOUNDS) {
      const tick = make("span", {}, seconds(bound).replace(/\.0+(?=\D)/, ""));
      tick.style.left = `${100 * position(bound)}%`;
      ticks.append(tick);
    }
    return make("div", { class: "legend", role: "img", "aria-label": "Scale: dark blue is 50 microseconds, yellow is 10 seconds late; hatched: took part in no round" },
      make("span", { class: "legend-scale" }, steps, ticks), make("span", { class: "legend-none" }, make("i", { class: "hatched" }), "no round"));
  }

  label() {
    const rank = make("b");
    const host = make("bdi", { class: "heat-host" });
    const node = make("span", { class: "heat-label" }, rank, " ", host);
    return {
      node,
      update: (m) => {
        show(rank, String(m.rank));
        show(host, shortened(m.host, 24));
        node.title = printable(m.host);
      },
    };
  }

  mean() {
    const mark = make("span", { class: "late-mark" });
    const mean = new Datum("");
    const node = make("span", { class: "heat-mean" }, mark, mean.node);
    return {
      node,
      update: (m) => {
        show(mark, this.lateRanks.has(m.rank) ? "▲ " : "");
        mean.node.dataset.of = `member.${m.rank}.recent_late_mean_s`;
        mean.show(m.recent_rounds > 0 ? m.recent_late_mean_s : undefined, seconds);
      },
    };
  }

  // `up`: seconds since the coordinator's start.
  update(group, up) {
    this.group = group;
    this.up = up;
    this.timeline = group.timeline ?? [];
    if (this.cell && !this.pointer) {
      this.cell.column = this.timeline.findIndex((stretch) => Math.abs(up - stretch.ended_s - this.cell.ended) < 1);
    }
    this.lateRanks = new Set(late(group).map((m) => m.rank));
    this.draw();
    this.fillTable();
  }

  ready() {
    return this.rows?.length > 0 && this.timeline?.length > 0;
  }

  chooseRows() {
    const told = this.group.members.filter((m) => m.rank < this.group.timeline_ranks);
    this.told = told.length;
    const shown = this.all || told.length <= ROWS ? told : [...told].sort(byLateness(this.group)).slice(0, ROWS);
    this.rows = [...shown].sort((a, b) => a.rank - b.rank);
    const parts = [];
    if (this.rows.length < told.length) parts.push(`the ${ROWS} latest of ${count(told.length)} ranks`);
    const beyond = this.group.members.length - told.length;
    if (beyond > 0) parts.push(`${count(beyond)} ranks from ${count(this.group.timeline_ranks)} up have no timeline: see the members`);
    show(this.rest, parts.join("; "));
    this.more.hidden = told.length <= ROWS;
    show(this.more, this.all ? `Show the ${ROWS} latest` : `Show all ${count(told.length)}`);
    this.more.setAttribute("aria-pressed", String(this.all));
    this.foot.hidden = parts.length === 0 && this.more.hidden;
  }

  draw() {
    if (!this.group) return;
    this.chooseRows();
    const ready = this.ready();
    this.empty.hidden = ready;
    show(this.empty, this.rows.length > 1 && this.group.recent?.rounds_per_s > 0 ? "The first stretch of time is not over yet."
      : "No round of two or more members yet.");
    this.figure.hidden = this.details.hidden = this.reading.hidden = !ready;
    if (!ready) return;
    const n = this.rows.length;
    this.row = n <= ROWS ? Math.max(22, Math.min(44, Math.floor(272 / n))) : n <= 64 ? 8 : 4;
    this.width = this.canvas.parentElement.clientWidth;
    this.height = n * this.row;
    this.span = Math.max(LEAST_S, this.timeline[0].ended_s + this.timeline[0].seconds);
    const ratio = devicePixelRatio || 1;
    const [w, h] = [Math.round(this.width * ratio), Math.round(this.height * ratio)];
    if (this.canvas.width !== w || this.canvas.height !== h) {
      this.canvas.width = w;
      this.canvas.height = h;
      this.canvas.style.height = `${this.height}px`;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    const style = getComputedStyle(this.canvas);
    const none = hatch(context, style.getPropertyValue("--hatch"));
    const gap = this.row > 6 ? GAP : 0;
    this.timeline.forEach((stretch) => {
      const [left, right] = this.edges(stretch);
      const wide = right - left > 4 ? GAP : 0;
      this.rows.forEach((member, i) => {
        const value = Number(stretch.late_mean_s[member.rank] ?? -1);
        context.fillStyle = value < 0 ? none : colour(value);
        context.fillRect(left, i * this.row, right - left - wide, this.row - gap);
      });
    });
    this.drawLabels();
    this.drawAxis();
    this.drawCell(context, style.getPropertyValue("--cell"));
    const words = [...this.lateRanks].slice(0, 3).map((r) => worker(this.group.members.find((m) => m.rank === r)));
    this.canvas.setAttribute("aria-label", `Heatmap: lateness of ${count(n)} ranks over ${seconds(this.span)}. ` +
      `${words.length === 0 ? "Nobody is late" : `Late: ${words.join(", ")}`}. Arrow keys read the cells.`);
  }

  edges(stretch) {
    const x = (before) => this.width * (1 - before / this.span);
    return [Math.round(x(stretch.ended_s + stretch.seconds)), Math.round(x(stretch.ended_s))];
  }

  drawLabels() {
    const labelled = this.row >= LABELLED ? this.rows
      : this.rows.filter((m, i) => i % Math.ceil(18 / this.row) === 0 || this.lateRanks.has(m.rank)).filter((m, i, list) => {
        // A late rank's label goes before its neighbours'.
        const at = (o) => this.rows.indexOf(o) * this.row;
        return this.lateRanks.has(m.rank) || !list.some((o) => this.lateRanks.has(o.rank) && Math.abs(at(o) - at(m)) < 16);
      });
    this.labelRows.update(labelled);
    this.meanRows.update(labelled);
    const top = (m) => `${(this.rows.indexOf(m) + 0.5) * this.row}px`;
    for (const [rows, parent] of [[this.labelRows, this.labels], [this.meanRows, this.means]]) {
      parent.style.height = `${this.height}px`;
      for (const m of labelled) {
        const { node } = rows.known.get(String(m.rank));
        node.style.top = top(m);
        node.classList.toggle("late", this.lateRanks.has(m.rank));
      }
    }
  }

  drawAxis() {
    const steps = [15, 30, 60, 120, 300, 600, 1200, 3600];
    const step = steps.find((s) => (this.width * s) / this.span >= 64) ?? 7200;
    const ticks = [];
    for (let at = 0; at <= this.span - step / 3; at += step) ticks.push(at);
    this.axis.replaceChildren(...ticks.map((at) => {
      const tick = make("span", { class: at === 0 ? "heat-now" : undefined }, at === 0 ? "now" : seconds(at).replace(/\.0+(?=\D)/, ""));
      tick.style.left = `${100 * (1 - at / this.span)}%`;
      return tick;
    }));
  }

  drawCell(context, style) {
    if (this.pointer) this.cell = this.below(this.pointer);
    const row = this.cell ? this.rows.findIndex((m) => m.rank === this.cell.rank) : -1;
    const stretch = this.cell && this.timeline[this.cell.column];
    if (row < 0 || !stretch) {
      if (!this.pointer) this.cell = null;
      show(this.reading, "Point at a cell, tap it, or use the arrow keys.");
      return;
    }
    const [left, right] = this.edges(stretch);
    context.strokeStyle = style;
    context.lineWidth = 2;
    context.strokeRect(left, row * this.row, Math.max(4, right - left - GAP), this.row - GAP);
    const member = this.rows[row];
    const value = stretch.late_mean_s[member.rank] ?? -1;
    const when = `${ago(stretch.ended_s + stretch.seconds)} to ${ago(stretch.ended_s)} ago`;
    show(this.reading, `${worker(member)}, ${when}: ` + (value < 0 ? "took part in no complete round"
      : `${seconds(Number(value))} late on average; ${count(stretch.rounds)} rounds, p50 ${seconds(stretch.p50_s)}, p99 ${seconds(stretch.p99_s)}`));
  }

  at(rank, column) {
    return { rank, column, ended: this.up - this.timeline[column].ended_s };
  }

  start() {
    const rank = this.rows.find((m) => this.lateRanks.has(m.rank))?.rank ?? this.rows[0].rank;
    return this.at(rank, this.timeline.length - 1);
  }

  choose(cell, pointer = null) {
    this.cell = cell;
    this.pointer = pointer;
    this.draw();
  }

  say(cell) {
    this.choose(cell);
    show(this.spoken, cell ? this.reading.textContent : "");
  }

  below({ x, y }) {
    const row = this.rows[Math.floor(y / this.row)];
    const column = this.timeline.findIndex((stretch) => {
      const [left, right] = this.edges(stretch);
      return x >= left && x < right;
    });
    return row && column >= 0 ? this.at(row.rank, column) : null;
  }

  point(event) {
    if (!this.ready()) return;
    const pointer = { x: event.offsetX, y: event.offsetY };
    this.choose(this.below(pointer), pointer);
  }

  key(event) {
    if (!this.ready()) return;
    const moves = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
      Home: [0, -Infinity], End: [0, Infinity], PageUp: [-10, 0], PageDown: [10, 0],
    };
    if (event.key === "Escape") this.say(null);
    else if (!(event.key in moves)) return;
    else {
      const within = (x, n) => Math.max(0, Math.min(n - 1, x));
      const cell = this.cell ?? this.start();
      const [down, right] = moves[event.key];
      const row = within(this.rows.findIndex((m) => m.rank === cell.rank) + down, this.rows.length);
      this.say(this.at(this.rows[row].rank, within(cell.column + right, this.timeline.length)));
    }
    event.preventDefault();
  }

  fillTable() {
    if (!this.details.open || !this.ready()) return;
    this.tableHead.replaceChildren(make("th", { scope: "col" }, "Until, ago"), make("th", { scope: "col" }, "Rounds"),
      make("th", { scope: "col" }, "p50"), make("th", { scope: "col" }, "p99"),
      ...this.rows.map((m) => make("th", { scope: "col" }, `rank\u00a0${m.rank}`)));
    const cell = (text) => make("td", {}, text);
    this.tableBody.replaceChildren(...[...this.timeline].reverse().map((stretch) => make("tr", {},
      make("th", { scope: "row" }, ago(stretch.ended_s)), cell(count(stretch.rounds)), cell(seconds(stretch.p50_s)), cell(seconds(stretch.p99_s)),
      ...this.rows.map((m) => {
        const value = Number(stretch.late_mean_s[m.rank] ?? -1);
        return cell(value < 0 ? "no round" : seconds(value));
      }))));
  }
}
