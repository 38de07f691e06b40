// Real digits of MNIST's training images to take, and a pad to draw one on.

import { asDigit, grayOf, show } from "./pixels.js";
import { byId, element } from "./page.js";

const SIDE_PX = 28, CLASSES = 10, ROWS = 4, PEN_PX = 22, STEP_PX = 10;

/** All digits of the strip: [{image, label}]. */
export async function loadDigits() {
  const picture = new Image();
  picture.src = "playground/digits.png";
  await picture.decode();
  const canvas = element("canvas", { width: picture.width, height: picture.height });
  canvas.getContext("2d", { willReadFrequently: true }).drawImage(picture, 0, 0);
  return Array.from({ length: ROWS * CLASSES }, (_, place) => {
    const label = place % CLASSES, row = Math.floor(place / CLASSES);
    return { image: grayOf(canvas, label * SIDE_PX, row * SIDE_PX, SIDE_PX, SIDE_PX), label: String(label) };
  });
}

/** Buttons for the digits; `take(digit)` is called with the chosen one. Gives a function that marks one as chosen. */
export function showDigits(digits, take) {
  const buttons = digits.map((digit, place) => {
    const canvas = element("canvas", { "aria-hidden": "true" });
    show(canvas, digit.image);
    const name = `a ${digit.label}, number ${Math.floor(place / CLASSES) + 1}`;
    const button = element("button", { type: "button", "aria-label": name, "aria-pressed": "false" }, canvas);
    button.addEventListener("click", () => take(digit));
    return button;
  });
  byId("digits").replaceChildren(...buttons);
  return (chosen) => buttons.forEach((button, place) => button.setAttribute("aria-pressed", digits[place] === chosen));
}

/** The pad: `drawn(image, event)` is called with the drawing as a digit, null if it is blank, after each stroke's part. */
export function startPad(size, drawn) {
  const pad = byId("pad"), context = pad.getContext("2d", { willReadFrequently: true });
  Object.assign(context, { lineWidth: PEN_PX, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
  const keyed = { at: { x: pad.width / 2, y: pad.height / 2 }, down: false };
  let last = null;

  const line = (from, to) => {
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  };
  const tell = (event) => drawn(asDigit(grayOf(pad), size()), event);
  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return { x: ((event.clientX - box.left) * pad.width) / box.width, y: ((event.clientY - box.top) * pad.height) / box.height };
  };

  pad.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pad.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
    tell(event);
  });
  pad.addEventListener("pointermove", (event) => {
    if (!last) return;
    for (const part of event.getCoalescedEvents().concat(event)) {
      line(last, place(part));
      last = place(part);
    }
    tell(event);
  });
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => { last = null; });

  pad.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way && event.key !== " ") return;
    event.preventDefault();
    const from = keyed.at;
    if (way) keyed.at = { x: within(from.x + way[0] * STEP_PX, pad.width), y: within(from.y + way[1] * STEP_PX, pad.height) };
    else keyed.down = !keyed.down;
    pad.classList.add("keyed");
    pad.style.setProperty("--pen-x", `${(100 * keyed.at.x) / pad.width}%`);
    pad.style.setProperty("--pen-y", `${(100 * keyed.at.y) / pad.height}%`);
    if (!keyed.down) return;
    line(from, keyed.at);
    tell(event);
  });
  byId("clear").addEventListener("click", (event) => {
    context.clearRect(0, 0, pad.width, pad.height);
    keyed.down = false;
    tell(event);
  });
}

const within = (value, limit) => Math.min(limit, Math.max(0, value));
