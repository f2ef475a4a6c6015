// Who is late, and in which words.
//
// A rank is named late when over the last minute its contribution came, on average, at least 1 ms
// after the round's first, and at least four times as late as the rank in the middle: a millisecond
// is more than a network's jitter, and where all are equally late nobody is.  Of ranks beyond the
// timeline's the coordinator keeps no minutes: the epoch stands in for the last one.

import { count, percent, ranks, rate, seconds, worker } from "./format.js";
import { Datum, make } from "./dom.js";

const AT_LEAST_S = 1e-3;
const TIMES = 4;
const NAMED = 3;
const OPEN_S = 1;  // a round that waits for longer is worth a line: --straggler_warning's default

// The fields that say how late a member is.
const MINUTE = { rounds: "recent_rounds", last: "recent_last", mean: "recent_late_mean_s" };
const EPOCH = { rounds: "rounds", last: "last", mean: "late_mean_s" };
function fieldsOf(group, member) {
  return member.rank < group.timeline_ranks ? MINUTE : EPOCH;
}

export function byLateness(group) {
  const mean = (m) => Number(m[fieldsOf(group, m).mean]) || 0;
  return (a, b) => mean(b) - mean(a) || b.late_mean_s - a.late_mean_s || a.rank - b.rank;
}

// Those that took part in a round, the latest first.
function active(group) {
  return group.members.filter((m) => m[fieldsOf(group, m).rounds] > 0).sort(byLateness(group));
}

// The latest first.
export function late(group) {
  const ranks = active(group);
  if (ranks.length < 2) return [];
  const mean = (m) => m[fieldsOf(group, m).mean];
  const middle = mean(ranks[Math.ceil((ranks.length - 1) / 2)]);
  return ranks.filter((m) => mean(m) >= AT_LEAST_S && mean(m) >= TIMES * middle);
}

function datum(of, value, format) {
  const made = new Datum(of);
  made.show(value, format);
  return made.node;
}

// "rank 2 (host h): last in 91 % of rounds, 48 ms late on average"
function sentence(group, member) {
  const fields = fieldsOf(group, member);
  const of = `member.${member.rank}`;
  const share = make("data", { value: member[fields.last], "data-of": `${of}.${fields.last}`, "data-in": member[fields.rounds] },
    percent(member[fields.last], member[fields.rounds]));
  return [make("strong", {}, worker(member)), ": last in ", share, " of rounds, ",
    datum(`${of}.${fields.mean}`, member[fields.mean], seconds), " late on average"];
}

export function missing(group, open) {
  const listed = open.missing.map((rank) => group.members.find((m) => m.rank === rank) ?? { rank });
  return listed.length === 1 && open.missing_count === 1 ? worker(listed[0]) : ranks(open.missing, open.missing_count);
}

function layerWords(key) {
  return `round ${count(key.round)}, layer `;
}

function inState(group, state) {
  return group.members.filter((m) => m.state === state).map((m) => m.rank);
}

// [{kind, word, parts}]: what is to be said of a group, the gravest first.
export function verdict(group, nameNode) {
  const lines = [];
  const add = (kind, word, ...parts) => lines.push({ kind, word, parts });
  const absent = inState(group, "absent");
  const lost = inState(group, "lost");
  const away = inState(group, "away");
  if (group.state === "forming") {
    const here = count(inState(group, "here").length);
    add("wait", "Forming", `${here} of ${count(group.members.length)} members are here; waits for `, make("strong", {}, ranks(absent)));
  }
  if (group.state === "leaving") add("wait", "Leaving", "members say that they are done");
  if (group.state === "closed") add("bad", "Closed", "this epoch is over; the members form another, or are gone");
  if (lost.length > 0) add("bad", "Lost", make("strong", {}, ranks(lost)), " did not come back");
  if (away.length > 0) add("wait", "Away", make("strong", {}, ranks(away)), ": the connection broke, and may come back");
  const stuck = group.open.filter((o) => o.open_s >= OPEN_S);
  if (stuck.length > 0) {
    const [oldest] = stuck;
    const more = stuck.length > 1 ? `; ${count(stuck.length - 1)} more below` : "";
    add("bad", "Waiting", layerWords(oldest.key), nameNode(oldest.key.layer), ": waits for ",
      make("strong", {}, missing(group, oldest)), " since ", datum("open.0.open_s", oldest.open_s, seconds), more);
  }
  const found = late(group);
  for (const member of found.slice(0, NAMED)) add("late", "Late", ...sentence(group, member));
  if (found.length > NAMED) {
    add("late", "Late", `${count(found.length - NAMED)} more ranks are late: see the members`);
  }
  if (lines.length > 0) return lines;
  if (!(group.recent?.rounds_per_s > 0)) {
    add("idle", "Quiet", "no round was completed in the last ", datum("recent.seconds", group.recent?.seconds, seconds));
  } else if (group.members.length < 2) {
    add("fine", "Fine", `${rate(group.recent.rounds_per_s)} rounds a second; one member waits for nobody`);
  } else {
    const [latest] = active(group);
    add("fine", "Fine", "nobody is late", ...(latest ? ["; the latest is ", ...sentence(group, latest)] : []));
  }
  return lines;
}

// In one line, for the list of groups, the page's title and who listens.
export function brief(group) {
  const stuck = group.open.find((o) => o.open_s >= OPEN_S);
  if (stuck) return { kind: "bad", text: `waits for ${missing(group, stuck)}` };
  const found = late(group);
  if (found.length === 1) return { kind: "late", text: `${worker(found[0])} is late` };
  if (found.length > 1) return { kind: "late", text: `${ranks(found.map((m) => m.rank))} are late` };
  if (group.state !== "running") return { kind: group.state === "closed" ? "bad" : "wait", text: group.state };
  return { kind: "fine", text: "nobody is late" };
}

// How far up a group belongs in a list of many.
export function trouble(group) {
  const order = { bad: 3, late: 2, wait: 1, fine: 0 };
  return order[brief(group).kind] * 1e6 + Math.min(group.recent?.p99_s ?? 0, 1e5);
}
