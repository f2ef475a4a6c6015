// What there is to say of layers: how far the members' statistics are apart, and where they wait.

import { ago, count, percent, ratio, seconds } from "./format.js";
import { Bar, Datum, make, Name, show } from "./dom.js";
import { figure, has, name, text } from "./columns.js";
import { Table } from "./table.js";

const LAYERS = 10;

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
