// The page as a whole: its tabs, and what holds for all of them.

import { loadDigits, showDigits, startPad } from "./digits.js";
import { startFiles } from "./files.js";
import { startGuide } from "./guide.js";
import { LiveTab } from "./live.js";
import { loadBundle } from "./models.js";
import { byId } from "./page.js";
import { RecipeTab } from "./recipe.js";
import * as service from "./service.js";
import { Studio } from "./studio.js";

const tabs = [...document.querySelectorAll("[role=tab]")];
let studio = null, recipe = null, live = null;

function choose(tab) {
  for (const one of tabs) {
    const chosen = one === tab;
    one.setAttribute("aria-selected", chosen);
    one.tabIndex = chosen ? 0 : -1;
    byId(one.getAttribute("aria-controls")).hidden = !chosen;
  }
  history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
  opened();
}

function opened() {
  const panel = tabs.find((tab) => tab.getAttribute("aria-selected") === "true").getAttribute("aria-controls");
  if (panel === "recipe") recipe?.open();
  live?.open(panel === "live");
}

function startTabs() {
  for (const tab of tabs) tab.addEventListener("click", () => choose(tab));
  byId("tab-try").parentElement.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -tabs.indexOf(event.target), End: tabs.length - 1 - tabs.indexOf(event.target) };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const next = tabs[(tabs.indexOf(event.target) + steps[event.key] + tabs.length) % tabs.length];
    next.focus();
    choose(next);
  });
  const named = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
  if (named) choose(named);
}

/** Tells what went wrong, null if nothing did; that the service is gone, or wants a key, is told where that is noticed. */
function failed(problem) {
  if (service.isGone() || problem?.status === 401) return;
  notify(problem?.message ?? "");
}

function notify(text) {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

function startEvents() {
  service.events.addEventListener("gone", () => notify("The service does not answer. Trying again each second ..."));
  service.events.addEventListener("back", () => {
    notify("");
    byId("key-form").hidden = true;
    if (studio) studio.changed();
    else load();
    opened();
  });
  service.events.addEventListener("key", () => {
    if (byId("key-form").hidden) {
      byId("key-form").hidden = false;
      byId("key").focus();
    }
  });
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    service.setApiKey(byId("key").value);
  });
}

async function load() {
  try {
    const [bundle, digits] = await Promise.all([loadBundle(), loadDigits()]);
    start(bundle, digits);
  } catch (problem) {
    failed(problem);
  }
}

function start(bundle, digits) {
  if (studio) return;
  let gray = null;
  studio = new Studio(bundle, digits, failed);
  const knows = (label) => (bundle.classes.includes(label) ? label : null);
  const take = (digit, event) => {
    gray = digit.image;
    mark(digit);
    studio.take(digit.image, knows(digit.label), event);
  };
  const mark = showDigits(digits, take);
  startPad(() => [28, 28], (image, event) => {
    gray = image ?? gray;
    mark(null);
    studio.take(image, null, event);
  });
  byId("guide").hidden = !bundle.classes.includes("2");
  startGuide(studio, digits, take, failed);
  recipe = new RecipeTab(() => gray, failed);
  live = new LiveTab();
  take(digits.find((digit) => digit.label === "2"));
  byId("bundle").textContent += ` The network sees ${bundle.size.join(" × ")} px and knows ${bundle.classes.length} classes.`;
  document.body.dataset.ready = "";
  opened();
}

startTabs();
startEvents();
startFiles();
load();
