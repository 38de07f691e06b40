// The tab for image files: each is straightened at its own size, and read as it came and straightened.

import { CELLS, gridOf } from "./models.js";
import { byId, decisionText, element, gridPaths, percent, showReading, svg } from "./page.js";
import { call } from "./service.js";

const SHOWN_PX = 400, MOST_SWAPPED_PX = 2000, NEVER_MOVES_PX = 10000, GRID_WIDTH = 28;

export function startFiles() {
  const drop = byId("drop"), chosen = byId("chosen");
  chosen.addEventListener("change", () => {
    straightenAll([...chosen.files]);
    chosen.value = ""; // so that the same file can be chosen again
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      if (![...event.dataTransfer.types].includes("Files")) return;
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!event.dataTransfer.files.length) return;
    event.preventDefault();
    byId("tab-files").click();
    straightenAll([...event.dataTransfer.files]);
  });
}

async function straightenAll(files) {
  const said = byId("files-said");
  const cards = files.map((file) => element("article", { class: "card", "aria-busy": "true" }, element("h3", {}, file.name)));
  byId("results").prepend(...cards);
  let failures = 0;
  for (const [place, file] of files.entries()) { // one after another: a large file is work for all cores
    said.textContent = `${place} of ${files.length} done`;
    try {
      await straighten(file, cards[place]);
    } catch (problem) {
      failures += 1;
      cards[place].append(element("p", { class: "wrong" }, problem.document?.results?.[0]?.error?.detail ?? problem.message));
    }
    cards[place].removeAttribute("aria-busy");
  }
  said.textContent = `${files.length - failures} of ${files.length} read` + (failures ? `; ${failures} could not be read` : "");
}

async function straighten(file, card) {
  const bitmap = await createImageBitmap(file).catch(() => null); // no browser reads all that the service does
  const sent = byId("swap").checked && bitmap ? await swapped(bitmap, file.name) : file;
  const [result, came] = await Promise.all([
    ask(sent, { canvas: "crop", max_side_px: SHOWN_PX, decide: true }),
    ask(sent, { images: false, min_motion_px: NEVER_MOVES_PX }), // which keeps any image, and so reads it as it came
  ]);
  const [height, width] = result.source_size, units = [(GRID_WIDTH * height) / width, GRID_WIDTH];
  const straight = await createImageBitmap(new Blob([Uint8Array.from(atob(result.image), (sign) => sign.charCodeAt(0))]));
  const theta = { datatype: "FP64", shape: [1, result.theta.length, result.theta[0].length], data: Float64Array.from(result.theta.flat()) };
  const { all, edge } = gridPaths(await gridOf(theta, units), CELLS);
  const overlay = svg("svg", { viewBox: `0 0 ${units[1]} ${units[0]}`, "aria-hidden": "true" },
    svg("g", { class: "grid" }, svg("path", { d: all }), svg("path", { d: edge, class: "edge" })));
  const source = bitmap
    ? element("div", { class: "shown" }, drawn(sent === file ? bitmap : await createImageBitmap(sent), "As it came"), overlay)
    : element("p", { class: "quiet" }, "This browser cannot show such a file.");
  card.append(
    element("div", { class: "pair" },
      element("figure", {}, source, element("figcaption", { class: "quiet" }, `${width} × ${height} px, as it came`)),
      element("figure", {}, drawn(straight, "Straightened"), element("figcaption", { class: "quiet" }, "straightened"))),
    readings(came, result),
    element("p", {}, decisionText(result.decision, result.reason, result.confidence ?? null)),
  );
}

async function ask(file, parameters) {
  const body = new FormData();
  body.append("image", file, file.name ?? "image");
  for (const [name, value] of Object.entries(parameters)) body.append(name, value);
  const answer = await (await call("v1/straighten", { method: "POST", body })).json();
  return answer.results[0];
}

function readings(came, straight) {
  const rows = [["As it came", came], ["Straightened", straight]].map(([name, result]) => {
    const row = element("tr", {}, element("th", { scope: "row" }, name), element("td", { class: "class" }), element("td", { class: "share" }));
    showReading(row, { label: result.class, share: result.probability }, null);
    return row;
  });
  return element("table", {}, element("caption", {}, "What it is read as"), element("tbody", {}, ...rows));
}

function drawn(bitmap, name) {
  const shrink = Math.min(1, SHOWN_PX / Math.max(bitmap.width, bitmap.height));
  const size = { width: Math.max(1, Math.round(bitmap.width * shrink)), height: Math.max(1, Math.round(bitmap.height * shrink)) };
  const canvas = element("canvas", { ...size, role: "img", "aria-label": name });
  canvas.getContext("2d").drawImage(bitmap, 0, 0, size.width, size.height);
  return canvas;
}

/** The image with dark and light swapped, as a file. */
async function swapped(bitmap, name) {
  const shrink = Math.min(1, MOST_SWAPPED_PX / Math.max(bitmap.width, bitmap.height));
  const canvas = element("canvas", { width: Math.round(bitmap.width * shrink), height: Math.round(bitmap.height * shrink) });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "difference";
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  return new File([blob], name);
}
