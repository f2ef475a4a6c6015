// Figures and names as texts.  A figure is the answer's own number: here it is only written.

export const NONE = "–";
const SPACE = "\u00a0";  // between a number and its unit, which stay on one line

// protobuf's JSON writes NaN and the infinities as texts.
export function number(value) {
  return value === undefined || value === null ? undefined : Number(value);
}

function odd(value) {
  if (value === undefined) return NONE;
  if (Number.isNaN(value)) return "NaN";
  return value > 0 ? "∞" : "-∞";
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(value) {
  return Number.isFinite(value) ? whole.format(value) : odd(value);
}

function digits(value) {  // three
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 999.5) return whole.format(value);
  return value.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2);
}

export function rate(value) {
  return Number.isFinite(value) ? digits(value) : odd(value);
}

// Of drift: three decimals say less than nothing below 0.001.
export function ratio(value) {
  if (!Number.isFinite(value)) return odd(value);
  return value !== 0 && Math.abs(value) < 0.001 ? "<0.001" : value.toFixed(3);
}

// 48.2 ms, 1.20 s, 3 min 12 s, 2 d 4 h
export function seconds(value) {
  if (!Number.isFinite(value)) return odd(value);
  if (value < 0) return `-${seconds(-value)}`;
  if (value === 0) return `0${SPACE}s`;
  if (value < 0.9995e-3) return `${digits(value * 1e6)}${SPACE}µs`;
  if (value < 0.9995) return `${digits(value * 1e3)}${SPACE}ms`;
  if (value < 59.95) return `${digits(value)}${SPACE}s`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.round(value);
  const first = units.findIndex(([, size]) => rest >= size);
  const parts = [];
  for (const [unit, size] of units.slice(first, first + 2)) {
    const n = Math.floor(rest / size);
    rest -= n * size;
    if (n > 0) parts.push(`${n}${SPACE}${unit}`);
  }
  return parts.join(SPACE);
}

// Ago: nobody needs milliseconds there.
export function ago(value) {
  if (!Number.isFinite(value)) return odd(value);
  return value < 1 ? `<1${SPACE}s` : value < 59.5 ? `${Math.round(value)}${SPACE}s` : seconds(value);
}

// Of two given numbers.  Only all is 100 %, and only none is 0 %.
export function percent(part, all) {
  if (!(all > 0) || !Number.isFinite(part)) return NONE;
  const value = (100 * part) / all;
  if (value === 0) return `0${SPACE}%`;
  if (value < 0.1) return `<0.1${SPACE}%`;
  if (value < 9.95) return `${value.toFixed(1)}${SPACE}%`;
  if (value < 99.5) return `${value.toFixed(0)}${SPACE}%`;
  return value < 100 ? `>99${SPACE}%` : `100${SPACE}%`;
}

export function bytes(value) {
  if (!Number.isFinite(value)) return odd(value);
  let unit = 0;
  while (value >= 999.5 && unit < 4) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? whole.format(value) : digits(value)}${SPACE}${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

export function clock(date) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
}

// Peers choose names.  What cannot be seen, or turns the text around it, is written out.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/gu;
export function printable(name) {
  return String(name ?? "").replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);
}

// Names of layers begin alike and end differently: the middle is what can go.
export function shortened(name, length = 56) {
  const letters = Array.from(printable(name));
  if (letters.length <= length) return letters.join("");
  const end = Math.ceil((length - 1) * 0.6);
  return `${letters.slice(0, length - 1 - end).join("")}…${letters.slice(-end).join("")}`;
}

// "rank 2", "ranks 1, 2 and 5", "ranks 0, 1, 2 and 61 more"
export function ranks(list, total = list.length) {
  if (total === 0) return "nobody";
  const shown = list.slice(0, total > 6 ? 4 : 6);
  const more = total - shown.length;
  if (more === 0 && shown.length === 1) return `rank${SPACE}${shown[0]}`;
  const last = more > 0 ? `${count(more)} more` : shown.pop();
  return shown.length === 0 ? `${last} ranks` : `ranks ${shown.join(", ")} and ${last}`;
}

// "rank 2 (host gpu-3)"
export function worker(member) {
  const host = shortened(member.host, 40);
  return host === "" ? `rank${SPACE}${member.rank}` : `rank${SPACE}${member.rank} (host ${host})`;
}
