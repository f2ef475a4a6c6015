// What of the page's texts has too little contrast (WCAG 2.1 AA): an expression, evaluated by
// page_test.py.  Colours are those that getComputedStyle says, over the backgrounds below them.
(() => {
  const rgba = (text) => {
    const n = text.match(/[\d.]+/g).map(Number);
    return [n[0], n[1], n[2], n[3] ?? 1];
  };
  const over = (top, below) => top.slice(0, 3).map((c, i) => c * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const background = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const found = { checked: 0, least: Infinity, low: [] };
  for (const node of document.querySelectorAll("body *")) {
    const text = [...node.childNodes].filter((c) => c.nodeType === 3).map((c) => c.data).join("").trim();
    if (text === "" || !node.checkVisibility() || node.closest(".unseen, .skip, noscript")) continue;
    const style = getComputedStyle(node);
    const ground = background(node);
    const ratio = contrast(over(rgba(style.color), ground), ground);
    const px = parseFloat(style.fontSize);
    const large = px >= 24 || (px >= 18.66 && Number(style.fontWeight) >= 700);
    found.checked += 1;
    found.least = Math.min(found.least, ratio);
    if (ratio < (large ? 3 : 4.5)) found.low.push(`${ratio.toFixed(2)} ${node.tagName}.${node.className} "${text.slice(0, 40)}"`);
  }
  // Bars against the ground that they stand on, and that the rest of them shows: 3 : 1 for graphics.
  for (const bar of document.querySelectorAll(".bar-inner")) {
    if (!bar.checkVisibility()) continue;
    const outer = getComputedStyle(bar.previousElementSibling).fill;
    const ratio = contrast(rgba(getComputedStyle(bar).fill), rgba(outer));
    found.checked += 1;
    if (ratio < 3) found.low.push(`${ratio.toFixed(2)} a bar on ${outer}`);
  }
  return found;
})()
