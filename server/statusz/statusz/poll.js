// Asks the coordinator again and again: for the list of groups, and for one group with its
// timeline.  Tells `told` of each change; keeps the last answers when none come.
//
//   list, details    the last answers (VitalsReply in JSON); details: of the group `wanted`, or null
//   group            the chosen group's name; undefined: there is none
//   gone             the group that was wanted is not there (any more)
//   answered         when the last good answer came (performance.now(), ms); answered_at: as a Date
//   trouble          why the last try failed; null: it did not
//   restarted        {at: Date, version changed: bool} once the coordinator is another one
//
// Large answers are asked for less often, so that a page that is left open stays cheap: a group's
// 2 s, and 1 s more for each 512 KiB; the list's 2 s for each 64 KiB, and not at all where the one
// group's answer says everything.

const EVERY_MS = 2000;
const GIVE_UP_MS = 10000;  // for one answer
const LIST_BYTES = 64 << 10;
const GROUP_BYTES = 512 << 10;

class Refused extends Error {}

// Of a name the latest epoch: one that is over may be told beside the one that follows it.
function latest(groups) {
  return [...new Map(groups.map((group) => [group.name, group])).values()];
}

export class Poll {
  constructor(wanted, told) {
    Object.assign(this, {
      wanted, told, list: null, details: null, group: undefined, gone: false, answered: null, answered_at: null,
      trouble: null, restarted: null, paused: false, every: EVERY_MS, list_every: EVERY_MS, list_at: -Infinity,
      timer: null, abort: null,
    });
    document.addEventListener("visibilitychange", () => this.wake());
  }

  get asleep() {
    return this.paused || document.hidden;
  }

  pause(paused) {
    this.paused = paused;
    this.wake();
  }

  // Another group is wanted, or undefined: the first.
  want(name) {
    if (name === this.wanted && name === this.group) return;
    this.wanted = name;
    this.gone = false;
    if (this.details?.groups[0]?.name !== name) this.details = null;
    this.wake();
  }

  // Asks at once, or stops.
  wake() {
    clearTimeout(this.timer);
    this.abort?.abort();
    this.abort = null;
    if (!this.asleep) this.ask();
    this.told();
  }

  async get(path, signal) {
    const response = await fetch(path, { signal, cache: "no-store" });
    const text = await response.text();
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      throw new Refused(`an answer that is not the coordinator's (HTTP ${response.status})`);
    }
    if (response.status !== 404 && !response.ok) throw new Refused(`HTTP ${response.status} ${answer.error ?? ""}`.trim());
    if (answer.groups) answer.groups = latest(answer.groups);
    return { missing: response.status === 404, answer, bytes: text.length };
  }

  async ask() {
    const abort = new AbortController();
    this.abort = abort;
    const limit = setTimeout(() => abort.abort(), GIVE_UP_MS);
    try {
      await this.askOnce(abort.signal);
      this.answered = performance.now();
      this.answered_at = new Date();
      this.trouble = null;
    } catch (error) {
      // One that wake() has ended says nothing.
      if (this.abort !== abort) return;
      this.trouble = error instanceof Refused ? error.message : "no answer";
    } finally {
      clearTimeout(limit);
    }
    if (this.abort !== abort) return;
    this.abort = null;
    this.timer = setTimeout(() => this.ask(), this.every);
    this.told();
  }

  listIsDue() {
    if (!this.list || this.gone || !this.details) return true;
    const { status } = this.details;
    if (status.groups !== this.list.status.groups || status.coordinator_id !== this.list.status.coordinator_id) return true;
    if (this.list.groups.length === 1 && this.list.groups_left_out === 0) return false;
    // Half a period early: a timer is never exact.
    return performance.now() - this.list_at >= this.list_every - EVERY_MS / 2;
  }

  async askOnce(signal) {
    let list = null;
    if (this.listIsDue()) {
      const { answer, bytes } = await this.get("statusz.json", signal);
      this.seen(answer);
      list = this.list = answer;
      this.list_at = performance.now();
      this.list_every = EVERY_MS * Math.max(1, Math.ceil(bytes / LIST_BYTES));
    }
    // The first stays chosen for as long as it is there.
    const there = (name) => this.list.groups.some((g) => g.name === name);
    const group = this.wanted ?? (there(this.group) ? this.group : this.list.groups[0]?.name);
    if (group === undefined) {
      Object.assign(this, { group, details: null, gone: false, every: EVERY_MS });
      return;
    }
    const { missing, answer, bytes } = await this.get(`statusz.json?group=${encodeURIComponent(group)}&timeline=1`, signal);
    if (missing) {
      Object.assign(this, { group, details: null, gone: true, every: EVERY_MS });
      // What was the first is gone: another is.
      if (this.wanted === undefined) Object.assign(this, { group: undefined, gone: false, list: null });
      else if (!list) this.list_at = -Infinity;
      return;
    }
    this.seen(answer);
    Object.assign(this, { group, details: answer, gone: false, every: EVERY_MS + 1000 * Math.floor(bytes / GROUP_BYTES) });
  }

  // Whether the answer is of the same life of the coordinator as those before.
  seen(answer) {
    const before = this.details ?? this.list ?? this.before;
    this.before = { status: { coordinator_id: answer.status.coordinator_id }, version: answer.version };
    if (!before || before.status.coordinator_id === answer.status.coordinator_id) return;
    this.restarted = { at: new Date(), version: before.version !== answer.version };
    this.details = null;
  }
}
