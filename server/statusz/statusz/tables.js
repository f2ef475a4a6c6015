// The tables of the page: groups, members, open rounds, failures.

import { ago, count, printable, rate, seconds } from "./format.js";
import { attribute, Datum, make, Name, show } from "./dom.js";
import { figure, has, lateness, name, share, text } from "./columns.js";
import { brief, byLateness, late, missing, trouble } from "./late.js";
import { groupHref, kindMark } from "./marks.js";
import { Table } from "./table.js";

const GROUPS = 12;
const MEMBERS = 16;
const OPEN = 8;
const FAILURES = 8;

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
