// What the page asks of the served models, and what it makes of their answers.

import { gridPoints, mapPoint, rowsOf, toPx } from "./geometry.js";
import { texts } from "./protocol.js";
import { getJson, infer } from "./service.js";

/** Of a side of the grid that is drawn. */
export const CELLS = 8;

const ASKED = ["label", "probabilities", "theta", "rectified", "decision", "reason", "confidence"];
const ANY_SIDE_PX = 28;
let asked = ASKED;

/** The served bundle: what its network takes, and its classes. */
export async function loadBundle() {
  const metadata = await getJson("v2/models/predict");
  const [, height, width, channels] = metadata.inputs[0].shape.map((side) => (side === -1 ? ANY_SIDE_PX : side));
  if (![1, 3, 4].includes(channels)) throw new Error(`this bundle takes images of ${channels} channels, which no screen shows`);
  return { size: [height, width], channels, classes: metadata.parameters.classes };
}

/** Of each image what it is read as, as it came and straightened, and the theta and the decision between the two. */
export async function readBothWays(images, bundle) {
  const tensor = tensorOf(images);
  const [straight, came] = await Promise.all([
    predict(tensor), infer("classify", { images: tensor }, ["label", "probabilities"]),
  ]);
  const { theta, rectified, decision, reason, confidence } = straight;
  const [decisions, reasons] = [texts(decision), texts(reason)];
  return images.map((image, place) => ({
    without: reading(came.outputs, place, bundle),
    with: reading(straight, place, bundle),
    theta: part(theta, place),
    rectified: imageOf(rectified, place),
    decision: decisions[place],
    reason: reasons[place],
    confidence: confidence ? confidence.data[place] : null,
  }));
}

/** The outputs of `predict`, with a decision; without a confidence where the bundle was not calibrated. */
async function predict(images) {
  try {
    return (await infer("predict", { images }, asked, { decide: true })).outputs;
  } catch (problem) {
    if (problem.status !== 501 || !asked.includes("confidence")) throw problem;
    asked = ASKED.filter((name) => name !== "confidence");
    return predict(images);
  }
}

/** Where a theta (a tensor `[1, ...]`) reads the points of the grid from, in px of an image of `size`. */
export async function gridOf(theta, size) {
  const points = gridPoints(CELLS), rows = rowsOf(theta);
  if (rows) return points.map((point) => toPx(mapPoint(rows, point), size));
  const inPx = Float64Array.from(points.flatMap((point) => toPx(point, size)));
  const sizes = { datatype: "INT64", shape: [1, 2], data: BigInt64Array.from(size.map(BigInt)) };
  const { outputs } = await infer("map", { // a spline, which the service evaluates
    points: { datatype: "FP64", shape: [1, points.length, 2], data: inPx }, theta, rectified_size: sizes, source_size: sizes,
  });
  return points.map((_, place) => Array.from(outputs.points.data.slice(2 * place, 2 * place + 2)));
}

/** The corners among the points of the grid, in the order of geometry.CORNERS. */
export function cornersOf(points) {
  return [0, CELLS, points.length - 1, points.length - 1 - CELLS].map((place) => points[place]);
}

/** The images that a recipe (its JSON text) makes, what is known of them, and the steps that took imgaug. */
export async function augment(images, recipe, seed) {
  const { outputs, parameters } = await infer(
    "augment", { images: tensorOf(images) }, ["images", "theta", "exact"], { recipe, seed },
  );
  return {
    images: Array.from({ length: outputs.images.shape[0] }, (_, place) => imageOf(outputs.images, place)),
    exact: outputs.exact.data.reduce((sum, exact) => sum + exact, 0),
    family: { "2,3": "affine", "3,3": "homography" }[outputs.theta.shape.slice(1)] ?? "thin-plate spline",
    byImgaug: parameters.by_imgaug ?? "",
  };
}

function tensorOf(images) {
  const [{ height, width, channels, data }] = images;
  const whole = new Uint8Array(images.length * data.length);
  images.forEach((image, place) => whole.set(image.data, place * data.length));
  return { datatype: "UINT8", shape: [images.length, height, width, channels], data: whole };
}

function imageOf(tensor, place) {
  const [, height, width, channels] = tensor.shape;
  return { height, width, channels, data: part(tensor, place).data };
}

/** Row `place` of a tensor, as a tensor of one. */
function part({ datatype, shape, data }, place) {
  const length = data.length / shape[0];
  return { datatype, shape: [1, ...shape.slice(1)], data: data.slice(place * length, (place + 1) * length) };
}

function reading({ label, probabilities }, place, { classes }) {
  const best = Number(label.data[place]);
  return { label: classes[best], share: probabilities.data[place * classes.length + best] };
}
