// The algebra of theta, as stn_core.geometry has it: coordinates from -1 to 1 over the image, half-pixel centres, and
// theta from output to input. An affine theta is [[a, b, c], [d, e, f]]; a homography has a third row.
// Sizes are [height, width].

export const CORNERS = [[-1, -1], [1, -1], [1, 1], [-1, 1]];

/** The affine theta that undoes `theta`. */
export function invert([[a, b, c], [d, e, f]]) {
  const determinant = a * e - b * d;
  return [
    [e / determinant, -b / determinant, (b * f - c * e) / determinant],
    [-d / determinant, a / determinant, (c * d - a * f) / determinant],
  ];
}

/** Where an affine theta or a homography takes the point. */
export function mapPoint(theta, [x, y]) {
  const [u, v, w] = theta.map(([p, q, r]) => p * x + q * y + r);
  return theta.length === 3 ? [u / w, v / w] : [u, v];
}

/** What the sliders do to an image, from points of the clean one to those of the distorted one.
    It is the step `affine` of a recipe: rotate, scale, shear along x, shift; a shear is the tangens hyperbolicus. */
export function distortion({ rotate_deg, scale, shear_deg, shift_x_px, shift_y_px }, [height, width]) {
  const turn = (rotate_deg * Math.PI) / 180;
  const shear = Math.tanh((-shear_deg * Math.PI) / 180);
  const aspect = height / width;
  const [a, b, c, d] = [Math.cos(turn), -Math.sin(turn), Math.sin(turn), Math.cos(turn)].map((part) => scale * part);
  return [
    [a + shear * c, (b + shear * d) * aspect, (2 * shift_x_px) / width],
    [c / aspect, d, (2 * shift_y_px) / height],
  ];
}

/** How far from straight the corners are left, in px, the mean of four: `made` made the image, and what undoes it
    reads the corners of its output at `found`. */
export function cornerErrorPx(made, found, [height, width]) {
  const left = CORNERS.map((corner, place) => {
    const [x, y] = mapPoint(made, found[place]);
    return Math.hypot(((x - corner[0]) * width) / 2, ((y - corner[1]) * height) / 2);
  });
  return left.reduce((sum, distance) => sum + distance, 0) / left.length;
}

/** A normalized point in px of an image: (0, 0) is its upper left corner. */
export function toPx([x, y], [height, width]) {
  return [((x + 1) * width) / 2, ((y + 1) * height) / 2];
}

/** A point in px of an image, normalized. */
export function fromPx([x, y], [height, width]) {
  return [(2 * x) / width - 1, (2 * y) / height - 1];
}

/** The points of a grid of `cells` x `cells` over the output, row by row, edges included. */
export function gridPoints(cells) {
  const places = Array.from({ length: cells + 1 }, (_, place) => (2 * place) / cells - 1);
  return places.flatMap((y) => places.map((x) => [x, y]));
}

/** The theta in a tensor `[1, 2, 3]` or `[1, 3, 3]` as rows; null if it is a spline's. */
export function rowsOf({ shape, data }) {
  const [, rows, columns] = shape;
  if (columns !== 3) return null;
  return Array.from({ length: rows }, (_, row) => Array.from(data.slice(row * columns, (row + 1) * columns)));
}
