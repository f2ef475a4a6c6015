// The tables of the page: groups, members, open rounds, drift, layers, failures.

import { ago, count, percent, printable, rate, ratio, seconds } from "./format.js";
import { attribute, Bar, Datum, Keyed, make, Name, show } from "./dom.js";
import { brief, byLateness, late, missing, trouble } from "./late.js";
import { colour } from "./scale.js";
import { Table } from "./table.js";

const GROUPS = 12;
const MEMBERS = 16;
const LAYERS = 10;
const OPEN = 8;
const FAILURES = 8;

const has = (text, words) => printable(text).toLowerCase().includes(words);

// A column of one figure: get(item) is the answer's, `of` where it stands in it.
function figure(head, of, get, format, more = {}) {
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

function name(head, get, more = {}) {
  return {
    head, ...more,
    fill(cell) {
      const made = new Name();
      cell.append(made.node);
      return (item) => made.show(get(item));
    },
  };
}

function text(head, get, more = {}) {
  return { head, ...more, fill: (cell) => (item) => show(cell, get(item)) };
}

export function groupHref(group) {
  return `#group=${encodeURIComponent(group)}`;
}

const KINDS = { bad: "■", late: "▲", wait: "◆", idle: "○", fine: "●" };
export function kindMark(kind) {
  return make("span", { class: `kind ${kind}`, "aria-hidden": "true" }, KINDS[kind]);
}

export class Groups {
  constructor(place) {
    const of = (field) => (g) => `group.${g.name}.${field}`;
    this.table = new Table(place, {
      label: "Groups", noun: ["group", "groups"], limit: GROUPS, empty: "No group.",
      key: (g) => g.name,
      matches: (g, words) => has(g.name, words) || has(g.state, words) || has(brief(g).text, words),
      mark: (g) => (g.name === this.chosen ? "chosen" : ""),
      columns: [
        {
          head: "Group", row: true,
          fill: (cell) => {
            const made = new Name();
            const link = make("a", {}, made.node);
            cell.append(link);
            return (g) => {
              made.show(g.name);
              attribute(link, "href", groupHref(g.name));
              attribute(link, "aria-current", g.name === this.chosen ? "true" : undefined);
            };
          },
        },
        {
          head: "Now", class: "now",
          fill: (cell) => {
            let kind = null;
            const words = make("bdi");
            cell.append(words);
            return (g) => {
              const now = brief(g);
              if (now.kind !== kind) {
                if (kind !== null) cell.firstChild.remove();
                cell.prepend(kindMark(now.kind));
                kind = now.kind;
              }
              show(words, ` ${now.text}`);
            };
          },
        },
        text("State", (g) => g.state),
        text("Members", (g) => count(g.members.length), { class: "num" }),
        figure("Rounds/s", of("recent.rounds_per_s"), (g) => g.recent?.rounds_per_s, rate),
        figure("p50", of("recent.p50_s"), (g) => g.recent?.p50_s, seconds),
        figure("p99", of("recent.p99_s"), (g) => g.recent?.p99_s, seconds),
        figure("Failed", of("counters.failed"), (g) => g.counters?.failed, count),
      ],
    });
  }
  update(vitals, chosen) {
    this.chosen = chosen;
    let { groups } = vitals;
    if (groups.length > GROUPS) {
      groups = groups.map((group) => ({ group, trouble: trouble(group) }))
        .sort((a, b) => b.trouble - a.trouble).map((g) => g.group);
    }
    this.table.update(groups, vitals.groups_left_out);
  }
}

// A share of two of the answer's figures, with its bar.
function share(head, of, part, all, more = {}) {
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

function lateness(head, of, get, more = {}) {
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

export class Members {
  constructor(place) {
    const of = (field) => (m) => `member.${m.rank}.${field}`;
    const recently = (m) => (m.recent_rounds > 0 ? m.recent_late_mean_s : undefined);
    const ever = (field) => (m) => (m.rounds > 0 ? m[field] : undefined);
    const minute = { over: "Last minute" };
    const epoch = { over: "Since the epoch began" };
    this.late = new Set();
    this.table = new Table(place, {
      label: "Members", noun: ["member", "members"], limit: MEMBERS, empty: "No members.",
      key: (m) => String(m.rank),
      matches: (m, words) => String(m.rank) === words || `rank ${m.rank}` === words || has(m.host, words) || has(m.state, words),
      mark: (m) => (this.late.has(m.rank) ? "late-row" : m.state === "lost" ? "lost-row" : ""),
      columns: [
        {
          head: "Rank", row: true, class: "rank",
          fill: (cell) => {
            const rank = make("span", { class: "rank-number" });
            const mark = make("span", { class: "late-mark" });
            const host = new Name(40);
            const pid = make("span");
            cell.append(make("span", { class: "rank-line" }, rank, mark), make("span", { class: "under" }, host.node, pid));
            return (m) => {
              show(rank, String(m.rank));
              show(mark, this.late.has(m.rank) ? " ▲ late" : "");
              host.show(m.host);
              show(pid, m.pid ? ` pid ${m.pid}` : "");
            };
          },
        },
        lateness("Mean", of("recent_late_mean_s"), recently, { ...minute, hint: "How long after the round's first contribution its own came" }),
        share("Last", of("recent_last"), (m) => m.recent_last, (m) => m.recent_rounds,
          { ...minute, hint: "Rounds in which its contribution was the last to come" }),
        lateness("Mean", of("late_mean_s"), ever("late_mean_s"), epoch),
        lateness("Longest", of("late_max_s"), ever("late_max_s"), epoch),
        share("Last", of("last"), (m) => m.last, (m) => m.rounds, epoch),
        figure("Missed", of("missed"), (m) => m.missed, count,
          { ...epoch, hint: "Rounds that failed at their deadline for want of its contribution" }),
        figure("Rounds", of("rounds"), (m) => m.rounds, count, epoch),
        text("State", (m) => m.state, { class: "apart" }),
        figure("Heard", of("heard_s"), (m) => m.heard_s, ago, { hint: "Its last message, ago" }),
      ],
    });
  }
  update(group) {
    this.late = new Set(late(group).map((m) => m.rank));
    const order = { lost: 0, absent: 1 };
    const members = [...group.members];
    const latest = byLateness(group);
    // A few stand where they are looked for; of many the worst come first.
    if (members.length <= MEMBERS) members.sort((a, b) => a.rank - b.rank);
    else members.sort((a, b) => (order[a.state] ?? 2) - (order[b.state] ?? 2) || latest(a, b));
    this.table.update(members);
  }
}

export class OpenRounds {
  constructor(place) {
    this.table = new Table(place, {
      label: "Open rounds", noun: ["open round", "open rounds"], limit: OPEN, empty: "No round is open: nobody waits.",
      key: (o) => `${o.key.round}`,
      matches: (o, words) => has(o.key.layer, words) || has(missing(this.group, o), words),
      columns: [
        figure("Round", (o) => `open.${o.at}.key.round`, (o) => o.key.round, count, { row: true, class: "" }),
        name("Layer", (o) => o.key.layer),
        text("Direction", (o) => o.key.direction),
        figure("Open for", (o) => `open.${o.at}.open_s`, (o) => o.open_s, seconds),
        text("Came", (o) => `${count(o.contributed_count)} of ${count(o.contributed_count + o.missing_count)}`, { class: "num" }),
        text("Waits for", (o) => missing(this.group, o), { class: "whom" }),
      ],
    });
  }
  update(group) {
    this.group = group;
    this.table.update(group.open.map((o, at) => ({ ...o, at })));
  }
}

export class Drift {
  constructor(place) {
    const of = (field) => (l) => `layers.${l.at}.drift.${field}`;
    // The bar is full at 1: a whole deviation of shift, or a deviation that is off by a factor e.
    const drawn = (head, field) => ({
      head, class: "num share",
      fill(cell) {
        const bar = new Bar();
        const datum = new Datum("");
        cell.append(bar.node, datum.node);
        return (l) => {
          const value = l.drift[field];
          bar.show(Number(value));
          bar.node.toggleAttribute("hidden", value === undefined);
          datum.node.dataset.of = of(field)(l);
          datum.show(value, ratio);
        };
      },
    });
    this.table = new Table(place, {
      label: "Drift of local against global statistics, by layer", noun: ["layer", "layers"], limit: LAYERS,
      empty: "No layer's statistics were measured yet.",
      key: (l) => `${l.at}`,
      matches: (l, words) => has(l.name, words),
      columns: [
        name("Layer", (l) => l.name, { row: true }),
        drawn("Shift", "shift"),
        drawn("Spread", "spread"),
        figure("Farthest", of("rank"), (l) => l.drift.rank, (rank) => `rank\u00a0${rank}`, { hint: "The rank whose own statistics were the farthest away" }),
        figure("Measured", of("measured_s"), (l) => l.drift.measured_s, (s) => `${ago(s)}\u00a0ago`),
      ],
    });
  }
  update(group) {
    const size = (l) => Math.max(Number(l.drift.shift ?? 0) || 0, Number(l.drift.spread ?? 0) || 0);
    this.table.update(group.layers.map((l, at) => ({ ...l, at })).filter((l) => l.drift).sort((a, b) => size(b) - size(a) || a.at - b.at));
  }
}

export class Layers {
  constructor(place) {
    const of = (field) => (l) => `layers.${l.at}.${field}`;
    this.table = new Table(place, {
      label: "Waits by layer", noun: ["layer", "layers"], limit: LAYERS, empty: "No round of a layer was complete yet.",
      key: (l) => `${l.at}`,
      matches: (l, words) => has(l.name, words) || has(l.direction, words),
      columns: [
        {
          head: "Layer", row: true,
          fill(cell) {
            const made = new Name();
            const direction = make("span", { class: "under" });
            cell.append(made.node, direction);
            return (l) => {
              made.show(l.other ? "all other layers" : l.name);
              show(direction, l.direction);
            };
          },
        },
        figure("Waited", of("wait_s"), (l) => l.wait_s, seconds, { hint: "All rounds together" }),
        figure("Longest", of("wait_max_s"), (l) => l.wait_max_s, seconds),
        figure("Rounds", of("rounds"), (l) => l.rounds, count),
        text("Last most often", (l) => l.last.map((r) => `rank\u00a0${r.rank} ${percent(r.rounds, l.rounds)}`).join(", "), { class: "whom" }),
      ],
    });
  }
  update(group) {
    const layers = group.layers.map((l, at) => ({ ...l, at }));
    if (group.other_layers?.rounds > 0) layers.push({ ...group.other_layers, at: "other", other: true });
    this.table.update(layers.sort((a, b) => b.wait_s - a.wait_s));
  }
}

export class Failures {
  constructor(place) {
    this.hint = make("p", { class: "hint" });
    place.append(this.hint);
    this.table = new Table(place, {
      label: "Last errors", noun: ["error", "errors"], limit: FAILURES, empty: "No round and no group has failed.",
      key: (f) => f.key,
      matches: (f, words) => has(f.group, words) || has(f.text, words),
      columns: [
        {
          head: "Ago", class: "when",
          fill(cell) {
            const when = new Datum("");
            const group = new Name(40);
            cell.append(when.node, make("span", { class: "under" }, group.node));
            return (f) => {
              when.node.dataset.of = `failures.${f.at}.ended_s`;
              when.show(f.ended_s, ago);
              group.show(f.group);
            };
          },
        },
        { head: "What happened", row: true, class: "words", fill: (cell) => (f) => show(cell, printable(f.text)) },
      ],
    });
  }
  update(vitals, group) {
    // Its age changes and its place too; its text and the like before it do not.
    const seen = new Map();
    const failures = vitals.failures.map((f, at) => ({ ...f, at }));
    for (const f of [...failures].reverse()) {
      const words = `${f.group} ${f.text}`;
      seen.set(words, (seen.get(words) ?? 0) + 1);
      f.key = `${words} ${seen.get(words)}`;
    }
    this.table.update(failures);
    const by = (group?.counters?.failed_by ?? []).filter((f) => f.rounds > 0);
    this.hint.hidden = by.length === 0;
    show(this.hint, by.length === 0 ? "" : `Failed rounds of ${printable(group.name)}: ${by.map((f) => `${count(f.rounds)} ${printable(f.code)}`).join(", ")}.`);
  }
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
