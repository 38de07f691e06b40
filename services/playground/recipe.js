// The tab for recipes: edit one, and see its draws; what the service finds wrong with it is shown where it stands.

import { curlText, sdkText } from "./commands.js";
import { latest } from "./latest.js";
import { augment } from "./models.js";
import { byId, element } from "./page.js";
import { show } from "./pixels.js";
import { problemsIn } from "./places.js";
import { grayPng } from "./png.js";
import { apiKey, getJson } from "./service.js";

const WAIT_MS = 200, FIRST = "tutorial-mix";

export class RecipeTab {
  /** `digit()` gives the gray image to distort; `failed(problem)` is told what is not about the recipe. */
  constructor(digit, failed) {
    this.digit = digit;
    this.failed = failed;
    this.draw = latest(() => this.drawNow());
    this.text = byId("recipe-text");
    this.text.addEventListener("input", () => this.soon());
    this.text.addEventListener("scroll", () => { byId("lines").scrollTop = this.text.scrollTop; });
    for (const id of ["seed", "copies"]) byId(id).addEventListener("input", () => this.soon());
    byId("shipped").addEventListener("change", (event) => this.load(event.target.value).catch(failed));
    for (const button of document.querySelectorAll("[data-copy]")) {
      button.addEventListener("click", () => copy(byId(button.dataset.copy)));
    }
  }

  /** Fills the tab when it is first seen, and draws anew whenever it is. */
  async open() {
    try {
      if (!byId("shipped").length) {
        const { recipes } = await getJson("v1/recipes");
        byId("shipped").replaceChildren(...recipes.map(({ name, description }) => {
          const option = element("option", { value: name, title: description }, name);
          option.selected = name === FIRST;
          return option;
        }));
        await this.load(FIRST);
      } else {
        await this.draw();
      }
    } catch (problem) {
      this.failed(problem);
    }
  }

  async load(name) {
    const before = this.text.value, recipe = await getJson(`v1/recipes/${encodeURIComponent(name)}`);
    if (this.text.value === before) this.text.value = readable(brief(recipe)); // else somebody types already
    await this.draw();
  }

  soon() {
    byId("gallery").classList.add("stale");
    clearTimeout(this.waiting);
    this.waiting = setTimeout(() => this.draw(), WAIT_MS);
  }

  async drawNow() {
    const seed = byId("seed").valueAsNumber, copies = byId("copies").valueAsNumber, text = this.text.value;
    if (!(Number.isInteger(copies) && copies >= 1 && copies <= 100)) {
      this.showProblems([{ message: "Draws: expected a whole number from 1 to 100", field: byId("copies") }]);
      return;
    }
    const digit = this.digit();
    try {
      const made = await augment(Array(copies).fill(digit), text, seed);
      this.showProblems([]);
      this.showDraws(made);
      const facts = { url: new URL(".", document.baseURI).href.replace(/\/$/, ""), png: await grayPng(digit), seed, copies };
      const whole = { ...facts, recipe: JSON.parse(text), keyed: apiKey() !== "" };
      byId("curl-text").textContent = curlText(whole);
      byId("sdk-text").textContent = sdkText(whole);
    } catch (problem) {
      if (problem.status !== 400) this.failed(problem);
      else if (/^parameters\.seed\b/.test(problem.message)) this.showProblems([{ message: problem.message, field: byId("seed") }]);
      else this.showProblems(problemsIn(text, problem.message));
    }
  }

  showDraws({ images, exact, family, byImgaug }) {
    byId("gallery").classList.remove("stale");
    byId("gallery").replaceChildren(...images.map((image) => {
      const canvas = element("canvas");
      show(canvas, image);
      return canvas;
    }));
    byId("recipe-said").textContent = `Theta is ${family === "affine" ? "affine" : `a ${family}`}, exact for ${exact} of ` +
      `${images.length}.${byImgaug ? ` Drawn image by image, and so slower: ${byImgaug}.` : ""}`;
  }

  /** Problems {message, line, start, end}, or with the `field` that they are about. */
  showProblems(problems) {
    const bad = new Set(problems.map((problem) => problem.line));
    const lines = this.text.value.split("\n").map((_, place) => {
      const number = `${place + 1}\n`;
      return bad.has(place + 1) ? element("span", { class: "bad" }, number) : number;
    });
    byId("lines").replaceChildren(...lines);
    for (const field of [this.text, byId("seed"), byId("copies")]) field.removeAttribute("aria-invalid");
    byId("recipe-errors").replaceChildren(...problems.map((problem) => {
      const field = problem.field ?? this.text;
      field.setAttribute("aria-invalid", "true");
      const go = element("button", { type: "button" }, problem.line ? `line ${problem.line}` : "there");
      go.addEventListener("click", () => {
        field.focus();
        if (problem.line) field.setSelectionRange(problem.start, problem.end);
      });
      return element("li", {}, go, ` ${problem.message}`);
    }));
    byId("lines").scrollTop = this.text.scrollTop;
  }
}

/** A recipe without what its steps do not do: ranges that leave all as it is say nothing. */
function brief(value) {
  if (Array.isArray(value)) return value.map(brief);
  if (value === null || typeof value !== "object") return value;
  const rests = (key, item) => item === null || (Array.isArray(item) && item.length === 2 && item[0] === item[1] &&
    item[0] === (/^scale/.test(key) ? 1 : 0) && /^(scale|rotate|shear|translate)/.test(key));
  return Object.fromEntries(Object.entries(value).filter(([key, item]) => !rests(key, item)).map(([key, item]) => [key, brief(item)]));
}

/** JSON with lists of numbers on one line. */
function readable(value) {
  return JSON.stringify(value, null, 2).replace(/\[\s+(-?[\d.e+-]+(?:,\s+-?[\d.e+-]+)*)\s+\]/g, (_, numbers) => `[${numbers.replace(/\s+/g, " ")}]`);
}

async function copy(node) {
  try {
    await navigator.clipboard.writeText(node.value ?? node.textContent);
    byId("copied").textContent = "Copied";
  } catch { // pages that did not come by https have no clipboard
    node.closest("details")?.setAttribute("open", "");
    if (node.select) node.select();
    else getSelection().selectAllChildren(node);
    byId("copied").textContent = "Marked, to be copied by hand";
  }
}
