// The argument for straightening, with the served networks: a 2 read rightly, turned until it is not, and straightened.

import { distortion, invert } from "./geometry.js";
import { readBothWays } from "./models.js";
import { byId, element, percent, stillness } from "./page.js";
import { fitted, show, warp } from "./pixels.js";
import { AT_REST } from "./stage.js";

const DIGIT = "2", STEP_DEG = 5, MOST_DEG = 85, TURN_MS = 1600;

/** Of all 2s and turns the one that shows it most plainly: {digit, turn_deg, straight, turned}; null if none does. */
export async function findArgument(digits, bundle) {
  const turns = [];
  for (let turn = STEP_DEG; turn <= MOST_DEG; turn += STEP_DEG) turns.push(turn, -turn);
  const cases = digits.filter((digit) => digit.label === DIGIT).flatMap((digit) => [0, ...turns].map((turn_deg) => {
    const made = invert(distortion({ ...AT_REST, rotate_deg: turn_deg }, bundle.size));
    return { digit, turn_deg, image: warp(fitted(digit.image, bundle.size, bundle.channels), made) };
  }));
  const found = await readBothWays(cases.map((one) => one.image), bundle);
  let best = null, straight = null;
  cases.forEach((one, place) => {
    const answer = { ...found[place], image: one.image };
    if (one.turn_deg === 0) straight = answer; // the first of its digit
    const plain = straight.without.label === DIGIT && answer.without.label !== DIGIT && answer.with.label === DIGIT;
    const weight = plain && answer.decision === "rectified" ? answer.without.share * answer.with.share : 0;
    if (weight > (best?.weight ?? 0)) best = { weight, digit: one.digit, turn_deg: one.turn_deg, straight, turned: answer };
  });
  return best;
}

/** Makes the button find the argument and show it; `studio` turns before your eyes, `take(digit)` picks the digit. */
export function startGuide(studio, digits, take, failed) {
  const button = byId("show-why"), said = byId("guide-said");
  button.addEventListener("click", async () => {
    button.disabled = true;
    said.textContent = "Looking for a 2 that shows it ...";
    try {
      const found = await findArgument(digits, studio.bundle);
      if (found) await tell(found, studio, take);
      said.textContent = found
        ? `The turned 2 is read as ${found.turned.without.label}; straightened it is a 2 again. Above it can be moved on by hand.`
        : "None of the 2s at hand is misread when it is turned: this classifier has no need of it here.";
    } catch (problem) {
      said.textContent = "";
      failed(problem);
    } finally {
      button.disabled = false;
    }
  });
}

async function tell({ digit, turn_deg, straight, turned }, studio, take) {
  const steps = byId("steps");
  steps.replaceChildren();
  steps.hidden = false;
  take(digit);
  await studio.set({});
  steps.append(step("As it is", straight.image, straight.without));
  await turnTo(turn_deg, studio);
  steps.append(step(`Turned by ${Math.abs(turn_deg)}°`, turned.image, turned.without));
  steps.append(step("Straightened", turned.rectified, turned.with));
}

async function turnTo(turn_deg, studio) {
  const start = performance.now();
  let share = stillness.matches ? 1 : 0;
  while (share < 1) {
    const now = await new Promise(requestAnimationFrame);
    share = Math.min(1, Math.max(0, (now - start) / TURN_MS));
    studio.set({ rotate_deg: turn_deg * share * share * (3 - 2 * share) });
  }
  await studio.set({ rotate_deg: turn_deg });
}

function step(title, image, { label, share }) {
  const canvas = element("canvas", { class: "pixels", role: "img", "aria-label": title });
  show(canvas, image);
  const verdict = element("strong", { class: label === DIGIT ? "right" : "wrong" }, `read as ${label}`);
  return element("li", {}, title, canvas, verdict, percent(share));
}
