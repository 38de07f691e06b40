// The first tab: an image, distorted by hand, and what the service makes of it, asked anew with every move.

import { cornerErrorPx, distortion, fromPx, invert, rowsOf, CORNERS } from "./geometry.js";
import { latest } from "./latest.js";
import { cornersOf, gridOf, readBothWays } from "./models.js";
import { byId, decisionText, percent, showReading } from "./page.js";
import { clutter, fitted, show, warp } from "./pixels.js";
import { AT_REST, Stage } from "./stage.js";

const SPEAK_AFTER_MS = 700, CLUTTER_SEED = 3, KEPT_MEASURES = 500;
/** What performance.getEntriesByName finds the times by, from an input event to the pixels that answer it. */
export const ANSWERED = "playground-answered";

export class Studio {
  /** `failed(problem)` is told what goes wrong, and null when all goes well again. */
  constructor(bundle, digits, failed) {
    this.bundle = bundle;
    this.others = digits.map((digit) => digit.image);
    this.failed = failed;
    this.clean = fitted(digits[0].image, bundle.size, bundle.channels);
    this.truth = null;
    this.events = []; // the times of those that no pixels answer yet
    this.measured = 0;
    this.stage = new Stage((values, event) => this.changed(event));
    this.stage.setSize(bundle.size);
    this.ask = latest((wish) => this.answer(wish));
  }

  /** The image before it is distorted, and its true class, null if nobody knows it; `gray` of null is a blank one. */
  take(gray, truth, event) {
    const [height, width] = this.bundle.size;
    const blank = { height, width, channels: 1, data: new Uint8Array(height * width) };
    this.clean = fitted(gray ?? blank, this.bundle.size, this.bundle.channels);
    this.truth = truth;
    this.changed(event);
  }

  set(values) {
    this.stage.set({ ...AT_REST, ...values });
    return this.changed();
  }

  /** Shows what is asked for at once, and asks. */
  changed(event) {
    if (event) this.events.push(event.timeStamp);
    const { values, size } = this.stage;
    const made = invert(distortion(values, size));
    const image = clutter(warp(this.clean, made), values.clutter, this.others, CLUTTER_SEED);
    show(byId("distorted"), image);
    return this.ask({ image, made, truth: this.truth });
  }

  async answer({ image, made, truth }) {
    const events = this.events.splice(0);
    try {
      const [found] = await readBothWays([image], this.bundle);
      this.found = { ...found, grid: await gridOf(found.theta, this.stage.size), made, truth };
    } catch (problem) {
      this.failed(problem);
      return;
    }
    this.failed(null);
    this.show(this.found);
    // After the next frame is drawn the pixels are there.
    requestAnimationFrame(() => setTimeout(() => this.measure(events)));
  }

  show({ without, with: straight, rectified, decision, reason, confidence, theta, grid, made, truth }) {
    const { size } = this.stage;
    show(byId("rectified"), rectified);
    this.stage.showGrid(grid);
    showReading(byId("without"), without, truth);
    showReading(byId("with"), straight, truth);
    const [small, line] = byId("brief").children; // for screens that show one thing at a time
    show(small, rectified);
    line.textContent = `as it came ${without.label} (${percent(without.share)}), straightened ${straight.label} (${percent(straight.share)})`;
    byId("decision").textContent = decisionText(decision, reason, confidence);
    const found = cornersOf(grid).map((point) => fromPx(point, size));
    const [left, came] = [found, CORNERS].map((corners) => cornerErrorPx(made, corners, size).toFixed(2));
    byId("corner-error").textContent = `${left} px left of ${came} px`;
    byId("theta-true").textContent = thetaText(invert(made));
    const rows = rowsOf(theta);
    byId("theta-predicted").textContent = rows ? thetaText(rows) : `a spline of ${theta.shape[1]} control points`;
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => {
      byId("spoken").textContent =
        `As it came read as ${without.label}, ${percent(without.share)}; straightened as ${straight.label}, ` +
        `${percent(straight.share)}. ${byId("decision").textContent}. Corner error ${left} px.`;
    }, SPEAK_AFTER_MS);
  }

  measure(events) {
    const end = performance.now();
    if (this.measured > KEPT_MEASURES) {
      performance.clearMeasures(ANSWERED);
      this.measured = 0;
    }
    for (const start of events) performance.measure(ANSWERED, { start, end });
    this.measured += events.length;
    if (events.length) byId("answered").textContent = `${Math.round(end - events[0])} ms, from the hand to the pixels`;
  }
}

const thetaText = (rows) =>
  rows.map((row) => row.map((value) => value.toFixed(3).replace(/^-(0\.0*)$/, "$1").padStart(7)).join(" ")).join("\n");
