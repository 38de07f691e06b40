// The tab that watches the service: its metrics each second, as curves of the last two minutes.

import { growth, parseMetrics, quantile, sums } from "./metrics.js";
import { byId, element, svg } from "./page.js";
import { call } from "./service.js";

const POINTS = 120, EACH_MS = 1000, MOST_SERIES = 5, HEIGHT = 40;
const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** What is shown of two readings: the title, the unit, and `of(before, after, seconds)`, a Map of values by name. */
const CHARTS = [
  { title: "Requests", unit: "a second", of: rates("stn_requests_total", ({ status }) => status) },
  { title: "Images", unit: "a second", of: rates("stn_images_total", ({ model }) => model) },
  { title: "Time of a request", unit: "ms", of: latencies },
  { title: "Images of a batch, in the mean", unit: "", of: batchSizes },
  { title: "Decisions", unit: "a second", of: rates("stn_decisions_total", ({ outcome, reason }) => (outcome === reason || reason === "ok" ? outcome : `${outcome}: ${reason}`)) },
  { title: "Images that wait", unit: "", of: (before, after) => sums(after, "stn_queued_images", ({ stage }) => stage) },
  { title: "Refused", unit: "a second", of: rates("stn_refused_total", ({ reason }) => reason) },
];

function rates(name, key) {
  return (before, after, seconds) => {
    const grown = growth(sums(before, name, key), sums(after, name, key));
    return new Map([...grown].map(([label, count]) => [label, count / seconds]));
  };
}

function latencies(before, after) {
  const buckets = (samples) => sums(samples, "stn_request_seconds_bucket", ({ le }) => le);
  const grown = growth(buckets(before), buckets(after));
  return new Map([["median", 0.5], ["95th percentile", 0.95]]
    .map(([name, share]) => [name, quantile(grown, share)])
    .filter(([, seconds]) => seconds !== null).map(([name, seconds]) => [name, 1000 * seconds]));
}

function batchSizes(before, after) {
  const [images, batches] = ["stn_batch_images_sum", "stn_batch_images_count"].map((name) => {
    const key = ({ stage, operation }) => (operation ? `${stage}: ${operation}` : stage);
    return growth(sums(before, name, key), sums(after, name, key));
  });
  return new Map([...images].filter(([stage]) => batches.get(stage)).map(([stage, sum]) => [stage, sum / batches.get(stage)]));
}

export class LiveTab {
  constructor() {
    this.before = null;
    this.charts = CHARTS.map((chart) => new Chart(chart));
    byId("charts").append(...this.charts.map((chart) => chart.figure));
    document.addEventListener("visibilitychange", () => this.open(this.wanted));
  }

  /** Watches while it is wanted and seen, and no longer. */
  open(wanted) {
    this.wanted = wanted;
    clearTimeout(this.waiting);
    if (wanted && !document.hidden) this.read();
  }

  async read() {
    clearTimeout(this.waiting);
    try {
      const samples = parseMetrics(await (await call("metrics")).text()), at = performance.now();
      if (this.before) this.charts.forEach((chart) => chart.add(this.before.samples, samples, (at - this.before.at) / 1000));
      this.before = { samples, at };
      byId("live-said").textContent = "The last two minutes of this service, read each second while you look.";
    } catch (problem) {
      byId("live-said").textContent = `No metrics: ${problem.message}`;
      if (problem.status === 404) return;
    }
    if (this.wanted && !document.hidden) this.waiting = setTimeout(() => this.read(), EACH_MS);
  }
}

class Chart {
  constructor({ title, unit, of }) {
    this.of = of;
    this.unit = unit;
    this.values = new Map(); // of each series the last POINTS values, null where it has none
    this.length = 0;
    this.plot = svg("svg", { viewBox: `0 0 ${POINTS - 1} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.key = element("div", { class: "key" }, "nothing yet");
    const said = unit ? `${title}, ${unit}` : title;
    this.figure = element("figure", { class: "chart" }, element("figcaption", {}, said), this.plot, this.key);
  }

  add(before, after, seconds) {
    const now = this.of(before, after, seconds);
    for (const [name, value] of now) { // one that was ever seen; the order gives the colours
      if (value && !this.values.has(name)) this.values.set(name, Array(this.length).fill(null));
    }
    for (const [name, values] of this.values) {
      values.push(now.get(name) ?? null);
      if (values.length > POINTS) values.shift();
    }
    this.length = Math.min(POINTS, this.length + 1);
    this.draw();
  }

  draw() {
    const named = [...this.values].map(([name, values], place) => ({ name, values, colour: `s${place % MOST_SERIES}` }));
    const series = named.filter(({ values }) => values.some((value) => value))
      .sort((a, b) => total(b.values) - total(a.values)).slice(0, MOST_SERIES);
    const most = Math.max(...series.flatMap(({ values }) => values), 0) || 1;
    this.plot.replaceChildren(...series.map(({ values, colour }) => svg("path", { class: colour, d: curve(values, most) })));
    this.key.replaceChildren(...series.map(({ name, values, colour }) => {
      const last = values.at(-1);
      return element("span", { class: colour }, `${name} ${last === null ? "–" : number(last)}`);
    }));
    if (!series.length) this.key.textContent = "nothing yet";
    else this.key.append(element("span", {}, `(top: ${number(most)})`));
  }
}

const total = (values) => values.reduce((sum, value) => sum + value, 0);

function curve(values, most) {
  let path = "", pen = "M";
  values.forEach((value, place) => {
    if (value === null) pen = "M";
    else {
      path += `${pen}${POINTS - values.length + place},${(HEIGHT - 1 - ((HEIGHT - 2) * value) / most).toFixed(2)}`;
      pen = "L";
    }
  });
  return path;
}
