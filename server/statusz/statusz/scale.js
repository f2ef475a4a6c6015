// The scale of lateness: logarithmic from 50 us to 10 s, the bounds of the coordinator's histogram.
// Each step of the colours is lighter than the one before, so that they keep their order in grey
// and for every kind of colour vision; they mean the same in the light and in the dark theme.
// (Evenly spaced in OKLCH: lightness 0.30 to 0.93, hue from blue over red to yellow.)

export const BOUNDS = [50e-6, 200e-6, 1e-3, 5e-3, 20e-3, 100e-3, 1, 10];

const STOPS = [
  [0x10, 0x19, 0x7d], [0x3e, 0x22, 0x8d], [0x66, 0x2c, 0x93], [0x8c, 0x36, 0x91],
  [0xb0, 0x42, 0x88], [0xd1, 0x52, 0x79], [0xeb, 0x68, 0x66], [0xfc, 0x86, 0x55],
  [0xfc, 0xaa, 0x5f], [0xfd, 0xcb, 0x70], [0xfe, 0xea, 0x74],
];

// 0 at 50 us and below, 1 at 10 s and beyond.
export function position(seconds) {
  const first = BOUNDS[0];
  const last = BOUNDS[BOUNDS.length - 1];
  if (!(seconds > first)) return 0;
  return Math.min(1, Math.log(seconds / first) / Math.log(last / first));
}

export function colour(seconds) {
  const at = position(seconds) * (STOPS.length - 1);
  const low = Math.min(Math.floor(at), STOPS.length - 2);
  const mixed = STOPS[low].map((c, i) => Math.round(c + (STOPS[low + 1][i] - c) * (at - low)));
  return `rgb(${mixed.join(" ")})`;
}
