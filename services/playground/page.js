// Small helpers for the page's elements.

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; texts are texts, never markup. */
export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A share in percent; what is not all never looks like all. */
export const percent = (share) => (share < 1 && share > 0.9995 ? "> 99.9 %" : `${(100 * share).toFixed(1)} %`);

export const stillness = matchMedia("(prefers-reduced-motion: reduce)");

/** Shows a reading {label, share} in a row of a table: the class, and how sure. */
export function showReading(row, { label, share }, truth) {
  const named = row.querySelector(".class"), sure = row.querySelector(".share");
  named.textContent = label;
  named.classList.toggle("right", truth !== null && label === truth);
  named.classList.toggle("wrong", truth !== null && label !== truth);
  sure.textContent = percent(share);
  sure.style.setProperty("--share", `${100 * share}%`);
}

const REASONS = {
  ok: "nothing speaks against it",
  singular: "it would show a line or a point",
  mirrored: "it would be mirrored",
  scale: "its scale would change too much",
  turn: "it would be turned too far",
  shear: "it would be sheared too much",
  "content-lost": "too much of it would be cut off",
  "already-straight": "it is straight already",
  "low-confidence": "straightening may well do harm",
};

/** A decision in words. */
export function decisionText(decision, reason, confidence) {
  const sure = confidence === null ? "" : `; sure of no harm: ${percent(confidence)}`;
  const done = decision === "rectified" ? "straightened" : "kept as it came";
  return `${done}: ${REASONS[reason] ?? reason} (${reason})${sure}`;
}

/** The lines of a grid of mapped points `[x, y]` in px, as the data of an SVG path: all, and the outermost alone. */
export function gridPaths(points, cells) {
  const at = (row, column) => points[row * (cells + 1) + column];
  const line = (count, place) => "M" + Array.from({ length: count }, (_, k) => place(k).map((c) => c.toFixed(3))).join("L");
  const lines = (steps) => steps.map((k) =>
    line(cells + 1, (column) => at(k, column)) + line(cells + 1, (row) => at(row, k))).join("");
  return { all: lines(Array.from({ length: cells + 1 }, (_, k) => k)), edge: lines([0, cells]) };
}
