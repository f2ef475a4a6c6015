// The status page: asks for the figures (poll.js), and shows them.  What stands on it is the
// answer's own figures, those of /metrics and of syncnormctl top; here they are only written.

import { ago, bytes, clock, count, number, printable, rate, seconds } from "./statusz/format.js";
import { Datum, Keyed, make, Name, show } from "./statusz/dom.js";
import { Heatmap } from "./statusz/heatmap.js";
import { brief, verdict } from "./statusz/late.js";
import { Course, Latency } from "./statusz/latency.js";
import { Poll } from "./statusz/poll.js";
import { Drift, Layers } from "./statusz/layers.js";
import { facts, groupHref, kindMark, Verdict } from "./statusz/marks.js";
import { Failures, Groups, Members, OpenRounds } from "./statusz/tables.js";

const $ = (id) => document.getElementById(id);
const STALE_MS = 6000;
const DAY = 86400;
const CERTIFICATE_SOON = 14 * DAY;  // time to ask for another, and to forget it once

const parts = {
  groups: new Groups($("groups-table")),
  verdict: new Verdict($("verdict")),
  heat: new Heatmap($("heat")),
  latency: new Latency($("latency")),
  members: new Members($("members")),
  open: new OpenRounds($("open")),
  drift: new Drift($("drift")),
  layers: new Layers($("layers")),
  failures: new Failures($("failures")),
  coordinator: facts($("coordinator")),
};

function wantedGroup() {
  const match = /^#group=(.*)$/s.exec(location.hash);
  if (!match) return undefined;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return match[1];
  }
}

// One tile: a figure, what it is, and its course.
function tile(label, of, format, note) {
  const datum = new Datum(of);
  const under = make("p", { class: "tile-note" });
  const course = new Course();
  $("tiles").append(make("div", { class: "tile" }, make("h3", {}, label), make("p", { class: "tile-figure" }, datum.node), under, course.node));
  return (value, noteText, values, logarithmic) => {
    datum.show(value, format);
    show(under, noteText ?? note ?? "");
    course.show(values ?? [], logarithmic);
  };
}

const tiles = {
  rate: tile("Rounds per second", "recent.rounds_per_s", rate),
  p50: tile("Median round", "recent.p50_s", seconds),
  p99: tile("Slow rounds", "recent.p99_s", seconds),
  completed: tile("Rounds completed", "counters.completed", count),
  failed: tile("Rounds failed", "counters.failed", count),
  open: tile("Open rounds", "", count),
};

function drawTiles(group) {
  const recent = group.recent ?? {};
  const timeline = group.timeline ?? [];
  const over = (get) => timeline.map((t) => ({ ago: t.ended_s, value: get(t) }));
  // The coordinator's minute ends with a stretch of its timeline.
  const minute = recent.seconds >= 59 && recent.seconds < 66;
  const last = recent.seconds === undefined ? "" : minute ? "last minute" : `last ${seconds(recent.seconds)}`;
  tiles.rate(recent.rounds_per_s, last, over((t) => (t.seconds > 0 ? t.rounds / t.seconds : undefined)));
  tiles.p50(recent.p50_s, `p50, ${last}`, over((t) => t.p50_s), true);
  tiles.p99(recent.p99_s, `p99, ${last}`, over((t) => t.p99_s), true);
  const counters = group.counters ?? {};
  tiles.completed(counters.completed, "since the group formed");
  tiles.failed(counters.failed, (counters.failed_by ?? []).filter((f) => f.rounds > 0).map((f) => `${count(f.rounds)} ${printable(f.code)}`).join(", ") || "since the group formed");
  tiles.open(group.open.length, group.open.length === 0 ? "nobody waits" : `the oldest for ${seconds(group.open[0].open_s)}`);
}

function nameNode(name) {
  const made = new Name(40);
  made.show(name);
  return made.node;
}

let drawnGroup = null;
function drawGroup(group, up) {
  const name = $("group-name");
  if (drawnGroup !== group.name) {
    drawnGroup = group.name;
    name.replaceChildren("Group ", nameNode(group.name));
  }
  const here = group.members.filter((m) => m.state === "here").length;
  show($("group-about"), `${group.state}, ${group.epoch > 0 ? `epoch ${count(group.epoch)}, ` : ""}${count(here)} of ${count(group.members.length)} members here`);
  parts.verdict.update(verdict(group, nameNode));
  drawTiles(group);
  parts.heat.update(group, up);
  parts.latency.update(group);
  parts.members.update(group);
  parts.open.update(group);
  parts.drift.update(group);
  parts.layers.update(group);
}

// [kind, text]
function badgesOf(vitals) {
  const badges = [];
  const security = vitals.security ?? {};
  if (vitals.draining) badges.push(["late", "draining: takes no new members"]);
  if (security.insecure) badges.push(["bad", "insecure: other machines reach it in plaintext"]);
  const left = number(security.certificate_left_s);
  if (left !== undefined) {
    if (left < 0) badges.push(["bad", `certificate ended ${seconds(-left)} ago`]);
    else badges.push([left < CERTIFICATE_SOON ? "late" : "fine", `certificate ends in ${seconds(left)}`]);
  } else if (security.tls) badges.push(["fine", "TLS"]);
  if (security.reload_failures > 0) badges.push(["late", `${count(security.reload_failures)} reloads failed`]);
  if (!security.tls && !security.insecure) badges.push(["idle", "plaintext, on this machine only"]);
  badges.push(security.tokens ? ["fine", "tokens asked for"] : ["idle", "no tokens"]);
  return badges;
}

const badges = new Keyed($("badges"), (b) => b[0] + b[1].replace(/\d+/g, ""), ([kind]) => {
  const words = make("span");
  return { node: make("li", { class: `badge ${kind}` }, kindMark(kind), " ", words), update: (b) => show(words, b[1]) };
});

const figures = new Map();  // datum of a fact, by its field
function fact(name, of, value, format) {
  return {
    name,
    fill: (cell) => {
      if (!figures.has(of)) {
        figures.set(of, new Datum(of));
        cell.append(figures.get(of).node);
      }
      figures.get(of).show(value, format);
    },
  };
}

function drawCoordinator(vitals) {
  const { status } = vitals;
  const security = vitals.security ?? {};
  const facts = [
    fact("Version", "version", undefined, String),
    fact("Up for", "up_s", vitals.up_s, seconds),
    fact("Streams", "status.streams", status.streams, count),
    fact("Groups", "status.groups", status.groups, count),
    fact("Members", "status.members", status.members, count),
    fact("Epochs", "status.epochs", status.epochs, count),
    fact("Contributions", "status.contributions", status.contributions, count),
    fact("Repeats", "status.repeats", status.repeats, count),
    fact("Rounds completed", "status.rounds_completed", status.rounds_completed, count),
    fact("Rounds failed", "status.rounds_failed", status.rounds_failed, count),
    fact("Stragglers warned of", "status.stragglers", status.stragglers, count),
    fact("Open rounds", "status.open_rounds", status.open_rounds, count),
    fact("Waiting in them", "status.open_bytes", status.open_bytes, bytes),
    fact("Kept rounds", "status.kept_rounds", status.kept_rounds, count),
    fact("Kept for repeats", "status.kept_bytes", status.kept_bytes, bytes),
    fact("Reports written", "status.dumps_written", status.dumps_written, count),
    fact("Reports not written", "status.dumps_failed", status.dumps_failed, count),
    fact("Certificates reloaded", "security.reloads", security.reloads, count),
    ...(security.refused ?? []).map((r, i) => (security.tokens || r.calls > 0) && fact(`Refused: ${printable(r.reason).replaceAll("_", " ")}`, `security.refused.${i}.calls`, r.calls, count)).filter(Boolean),
  ];
  facts[0].fill = (cell) => show(cell, printable(vitals.version));
  parts.coordinator.update(facts);
  show($("life"), `coordinator ${printable(vitals.version)}, up for ${ago(vitals.up_s)}`);
}

function notesOf(poll) {
  const notes = [];
  if (poll.restarted) {
    notes.push({
      kind: "late", key: `restarted ${+poll.restarted.at}`,
      parts: [`The coordinator was restarted: seen at ${clock(poll.restarted.at)}. Its figures start anew.`,
        ...(poll.restarted.version ? [" It has another version: ", make("a", { href: "" }, "load the page again"), "."] : [])],
      close: () => { poll.restarted = null; },
    });
  }
  if (poll.gone) {
    const [first] = poll.list?.groups ?? [];
    notes.push({
      kind: "bad", key: `gone ${poll.group} ${first?.name}`,
      parts: ["There is no group ", make("b", {}, nameNode(poll.group)), " (any more). ",
        ...(first ? ["Another: ", make("a", { href: groupHref(first.name) }, nameNode(first.name))] : ["The page waits for it."])],
    });
  } else if (poll.list && poll.group === undefined && poll.list.groups.length === 0) {
    notes.push({ kind: "wait", key: "none", parts: ["No group yet. Workers that join appear here; this page waits for them."] });
  }
  return notes;
}

const notes = new Keyed($("notes"), (n) => n.key, (n) => {
  const node = make("p", { class: `note ${n.kind}` }, kindMark(n.kind), " ", make("span", {}, ...n.parts));
  if (n.close) {
    const button = make("button", { type: "button" }, "Dismiss");
    button.addEventListener("click", () => { n.close(); draw(); });
    node.append(button);
  }
  return { node, update: () => {} };
});

// The line that says how fresh the figures are.
function drawAnswer(poll) {
  const age = poll.answered === null ? null : performance.now() - poll.answered;
  const stale = age !== null && !poll.asleep && age >= Math.max(STALE_MS, 3 * poll.every);
  let kind = "fine";
  let words;
  if (poll.paused) {
    [kind, words] = ["idle", poll.answered_at ? `paused; figures of ${clock(poll.answered_at)}` : "paused"];
  } else if (age === null) {
    [kind, words] = poll.trouble ? ["bad", `${poll.trouble} yet; trying again`] : ["wait", "asking the coordinator"];
  } else if (stale || poll.trouble) {
    const why = poll.trouble === null || poll.trouble === "no answer" ? `no answer for ${ago(age / 1000)}` : `${poll.trouble}; no answer for ${ago(age / 1000)}`;
    [kind, words] = ["bad", `${why}; figures of ${clock(poll.answered_at)}`];
  } else {
    words = `live, every ${seconds(poll.every / 1000).replace(/\.0+(?=\D)/, "")}`;
  }
  const line = $("answer");
  if (line.dataset.kind !== kind) {
    line.dataset.kind = kind;
    line.className = `answer ${kind}`;
    line.replaceChildren(kindMark(kind), " ", make("span"));
  }
  show(line.lastChild, words);
  document.body.classList.toggle("stale", stale);
  return stale;
}

function draw() {
  const vitals = poll.details ?? poll.list;
  const group = poll.details?.groups[0];
  if (vitals) {
    badges.update(badgesOf(vitals));
    drawCoordinator(vitals);
    parts.failures.update(vitals, group);
  }
  if (poll.list) {
    $("groups").hidden = poll.list.groups.length < 2 && !poll.gone;
    parts.groups.update(poll.list, poll.group);
  }
  $("group").hidden = !group;
  if (group) drawGroup(group, vitals.up_s);
  notes.update(notesOf(poll));
  const now = group ? brief(group) : null;
  const stale = drawAnswer(poll);
  const sign = { bad: "■ ", late: "▲ " }[stale ? "bad" : now?.kind] ?? "";
  const title = [stale ? "no answer" : now?.text, group && printable(group.name), "syncnorm"].filter(Boolean).join(" · ");
  if (document.title !== sign + title) document.title = sign + title;
  // For who listens: what has changed, not every figure.
  show($("said"), stale ? "The coordinator does not answer; the figures are old." : poll.restarted ? "The coordinator was restarted." : now ? `Group ${printable(group.name)}: ${now.text}.` : "");
}

const poll = new Poll(wantedGroup(), () => draw());
addEventListener("hashchange", () => {
  if (location.hash === "" || location.hash.startsWith("#group=")) poll.want(wantedGroup());
});
$("pause").addEventListener("click", () => {
  poll.pause(!poll.paused);
  show($("pause"), poll.paused ? "Go on" : "Pause");
});
setInterval(() => {
  if (poll.asleep) return;
  const before = document.body.classList.contains("stale");
  if (drawAnswer(poll) !== before) draw();
}, 1000);
poll.wake();
