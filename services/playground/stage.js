// The distorted image with what can be dragged on it, and the sliders that say the same in numbers.

import { distortion, fromPx, mapPoint, toPx } from "./geometry.js";
import { CELLS } from "./models.js";
import { byId, element, gridPaths, svg } from "./page.js";

const SLIDERS = {
  rotate_deg: { name: "Rotate", low: -180, high: 180, step: 1, rest: 0, unit: "°" },
  scale: { name: "Scale", low: 0.5, high: 1.5, step: 0.01, rest: 1, unit: "×" },
  shear_deg: { name: "Shear", low: -40, high: 40, step: 1, rest: 0, unit: "°" },
  shift_x_px: { name: "Shift right", low: -8, high: 8, step: 0.1, rest: 0, unit: " px" },
  shift_y_px: { name: "Shift down", low: -8, high: 8, step: 0.1, rest: 0, unit: " px" },
  clutter: { name: "Clutter", low: 0, high: 8, step: 1, rest: 0, unit: "" },
};
/** Handles on a circle about the digit, in px of the clean image from its middle. */
const HANDLES = { rotate: [0, -11], scale: [11, 0], shear: [-9, -9] };

export const AT_REST = Object.fromEntries(Object.entries(SLIDERS).map(([key, slider]) => [key, slider.rest]));

export class Stage {
  /** `changed(values, event)` is called whenever a hand changes something. */
  constructor(changed) {
    this.values = { ...AT_REST };
    this.size = [28, 28];
    this.changed = changed;
    this.makeSliders();
    this.grid = svg("g", { class: "grid" }, svg("path"), svg("path", { class: "edge" }));
    this.handles = Object.keys(HANDLES).map((kind) => svg("g", { "data-kind": kind },
      svg("circle", { r: 3, class: "reach" }), svg("circle", { r: 0.8, class: "handle" })));
    byId("overlay").append(this.grid, ...this.handles);
    byId("with-grid").addEventListener("change", (event) => this.grid.toggleAttribute("hidden", !event.target.checked));
    byId("reset").addEventListener("click", (event) => this.setByHand({ ...AT_REST }, event));
    this.listen(byId("stage"));
    this.set(this.values);
  }

  setSize(size) {
    this.size = size;
    byId("overlay").setAttribute("viewBox", `0 0 ${size[1]} ${size[0]}`);
    this.set(this.values);
  }

  /** Puts sliders and handles where the values say. */
  set(values) {
    this.values = values;
    for (const [key, { unit, step }] of Object.entries(SLIDERS)) {
      const input = byId(key), digits = step < 0.1 ? 2 : step < 1 ? 1 : 0;
      const said = `${values[key].toFixed(digits)}${unit}`;
      input.value = values[key];
      input.setAttribute("aria-valuetext", said);
      byId(`${key}-said`).textContent = said;
    }
    this.handles.forEach((handle) => {
      const [x, y] = this.placeOf(HANDLES[handle.dataset.kind]).map((at, axis) => clamp(at, 1, this.size[1 - axis] - 1));
      handle.setAttribute("transform", `translate(${x.toFixed(2)} ${y.toFixed(2)})`);
    });
  }

  showGrid(points) {
    const { all, edge } = gridPaths(points, CELLS);
    this.grid.children[0].setAttribute("d", all);
    this.grid.children[1].setAttribute("d", edge);
  }

  setByHand(values, event) {
    const kept = Object.entries(SLIDERS).map(([key, { low, high, step }]) => [key, clamp(Math.round(values[key] / step) * step, low, high)]);
    this.set(Object.fromEntries(kept));
    this.changed(this.values, event);
  }

  /** A place on the clean image, from its middle, on the distorted one; in px. */
  placeOf([x, y]) {
    const [height, width] = this.size, unit = Math.min(height, width) / 28;
    const point = fromPx([width / 2 + x * unit, height / 2 + y * unit], this.size);
    return toPx(mapPoint(distortion(this.values, this.size), point), this.size);
  }

  makeSliders() {
    byId("sliders").append(...Object.entries(SLIDERS).flatMap(([key, { name, low, high, step, rest }]) => {
      const input = element("input", { id: key, type: "range", min: low, max: high, step, value: rest });
      input.addEventListener("input", (event) => this.setByHand({ ...this.values, [key]: input.valueAsNumber }, event));
      return [element("label", { for: key }, name), input, element("output", { id: `${key}-said`, for: key })];
    }));
  }

  listen(stage) {
    let drag = null;
    const place = (event) => {
      const box = stage.getBoundingClientRect();
      return [((event.clientX - box.left) * this.size[1]) / box.width, ((event.clientY - box.top) * this.size[0]) / box.height];
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      stage.setPointerCapture(event.pointerId);
      drag = { kind: event.target.closest("[data-kind]")?.dataset.kind ?? "shift", from: place(event), values: this.values };
    });
    stage.addEventListener("pointermove", (event) => {
      if (drag) this.setByHand({ ...drag.values, ...this.dragged(drag, place(event)) }, event);
    });
    for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });
  }

  /** The values that a drag changes. */
  dragged({ kind, from, values }, to) {
    const [height, width] = this.size, unit = Math.min(height, width) / 28;
    const middle = [width / 2 + values.shift_x_px, height / 2 + values.shift_y_px];
    const [before, now] = [from, to].map(([x, y]) => [x - middle[0], y - middle[1]]);
    if (kind === "rotate") {
      const turned = ((Math.atan2(now[1], now[0]) - Math.atan2(before[1], before[0])) * 180) / Math.PI;
      return { rotate_deg: wrapped(values.rotate_deg + turned) };
    }
    if (kind === "scale") return { scale: (values.scale * Math.hypot(...now)) / Math.max(1, Math.hypot(...before)) };
    if (kind === "shear") {
      const reach = 9 * unit * values.scale;
      return { shear_deg: values.shear_deg + (((now[0] - before[0]) / reach) * 180) / Math.PI };
    }
    return { shift_x_px: values.shift_x_px + now[0] - before[0], shift_y_px: values.shift_y_px + now[1] - before[1] };
  }
}

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const wrapped = (degrees) => ((((degrees + 180) % 360) + 360) % 360) - 180;
