// Pixels of small images: {height, width, channels, data}, data a Uint8Array, row by row.

/** The image that `theta` shows of `image`: one bilinear warp, black outside, as stn_core.sampler and the training do. */
export function warp(image, theta) {
  const { height, width, channels, data } = image;
  const out = new Uint8Array(data.length);
  const at = (row, column, channel) =>
    row < 0 || column < 0 || row >= height || column >= width ? 0 : data[(row * width + column) * channels + channel];
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const u = (2 * j + 1) / width - 1, v = (2 * i + 1) / height - 1;
      const x = ((theta[0][0] * u + theta[0][1] * v + theta[0][2] + 1) * width - 1) / 2;
      const y = ((theta[1][0] * u + theta[1][1] * v + theta[1][2] + 1) * height - 1) / 2;
      const column = Math.floor(x), row = Math.floor(y);
      const right = x - column, down = y - row;
      for (let c = 0; c < channels; c++) {
        const top = (1 - right) * at(row, column, c) + right * at(row, column + 1, c);
        const bottom = (1 - right) * at(row + 1, column, c) + right * at(row + 1, column + 1, c);
        out[(i * width + j) * channels + c] = Math.round((1 - down) * top + down * bottom);
      }
    }
  }
  return { ...image, data: out };
}

/** `image` with so many square pieces of the `others` over it; where they meet, the lighter shows. Same seed, same pieces. */
export function clutter(image, pieces, others, seed, side = 6) {
  if (!pieces || !others.length) return image;
  const { height, width, channels } = image;
  const data = image.data.slice();
  const draw = randomFrom(seed);
  const below = (limit) => Math.floor(draw() * limit);
  for (let piece = 0; piece < pieces; piece++) {
    const other = others[below(others.length)];
    const [fromRow, fromColumn] = [below(other.height - side + 1), below(other.width - side + 1)];
    const [toRow, toColumn] = [below(height - side + 1), below(width - side + 1)];
    for (let i = 0; i < side; i++) {
      for (let j = 0; j < side; j++) {
        const value = other.data[((fromRow + i) * other.width + fromColumn + j) * other.channels];
        const place = ((toRow + i) * width + toColumn + j) * channels;
        for (let c = 0; c < channels; c++) data[place + c] = Math.max(data[place + c], value);
      }
    }
  }
  return { ...image, data };
}

/** A generator of numbers from 0 to 1 (mulberry32). */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

/** A box {x, y, width, height} of a gray image, made `width` x `height` px: each pixel the mean of what it covers. */
export function areaAverage(image, box, width, height) {
  const along = (start, length, count, limit) => Array.from({ length: count }, (_, place) => {
    const from = start + (place * length) / count, to = start + ((place + 1) * length) / count;
    const covered = [];
    for (let k = Math.max(0, Math.floor(from)); k < Math.min(limit, Math.ceil(to)); k++) {
      covered.push([k, (Math.min(to, k + 1) - Math.max(from, k)) / (to - from)]);
    }
    return covered;
  });
  const columns = along(box.x, box.width, width, image.width), rows = along(box.y, box.height, height, image.height);
  const data = new Uint8Array(width * height);
  rows.forEach((row, i) => columns.forEach((column, j) => {
    let sum = 0;
    for (const [y, down] of row) for (const [x, across] of column) sum += image.data[y * image.width + x] * down * across;
    data[i * width + j] = Math.round(sum);
  }));
  return { width, height, channels: 1, data };
}

/** A drawing as MNIST has its digits: in a box of 20 of 28 px, and its centre of mass in the middle; null if it is blank. */
export function asDigit(drawing, [height, width]) {
  const found = boundingBox(drawing);
  if (!found) return null;
  const longest = Math.max(found.width, found.height), inside = Math.round((Math.min(height, width) * 20) / 28);
  const sides = [found.width, found.height].map((side) => Math.max(1, Math.round((side / longest) * inside)));
  const small = areaAverage(drawing, found, ...sides);
  const { x, y } = centreOfMass(small);
  const [left, top] = [Math.round(width / 2 - x), Math.round(height / 2 - y)];
  const data = new Uint8Array(width * height);
  for (let i = 0; i < small.height; i++) {
    for (let j = 0; j < small.width; j++) {
      const row = top + i, column = left + j;
      if (row >= 0 && column >= 0 && row < height && column < width) {
        data[row * width + column] = small.data[i * small.width + j];
      }
    }
  }
  return { height, width, channels: 1, data };
}

function boundingBox({ width, height, data }) {
  let left = width, right = -1, top = height, bottom = -1;
  for (let i = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      if (data[i * width + j] < 32) continue;
      left = Math.min(left, j);
      right = Math.max(right, j);
      top = Math.min(top, i);
      bottom = Math.max(bottom, i);
    }
  }
  return right < 0 ? null : { x: left, y: top, width: right - left + 1, height: bottom - top + 1 };
}

function centreOfMass({ width, data }) {
  let mass = 0, x = 0, y = 0;
  data.forEach((value, place) => {
    mass += value;
    x += value * ((place % width) + 0.5);
    y += value * (Math.floor(place / width) + 0.5);
  });
  return { x: x / mass, y: y / mass };
}

/** A gray image in the size and with the channels that the network takes. */
export function fitted(image, [height, width], channels) {
  const sized = image.height === height && image.width === width
    ? image : areaAverage(image, { x: 0, y: 0, width: image.width, height: image.height }, width, height);
  if (channels === 1) return sized;
  const data = new Uint8Array(height * width * channels).fill(255); // a fourth channel is opacity
  sized.data.forEach((value, place) => data.fill(value, place * channels, place * channels + Math.min(3, channels)));
  return { height, width, channels, data };
}

/** The pixels of a canvas as a gray image: its red ones. */
export function grayOf(canvas, x = 0, y = 0, width = canvas.width, height = canvas.height) {
  const rgba = canvas.getContext("2d", { willReadFrequently: true }).getImageData(x, y, width, height).data;
  return { height, width, channels: 1, data: Uint8Array.from({ length: width * height }, (_, place) => rgba[4 * place]) };
}

/** Puts an image on a canvas, pixel for pixel. */
export function show(canvas, { height, width, channels, data }) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.createImageData(width, height);
  for (let place = 0; place < width * height; place++) {
    for (let c = 0; c < 3; c++) picture.data[4 * place + c] = data[place * channels + (channels < 3 ? 0 : c)];
    picture.data[4 * place + 3] = channels === 4 ? data[place * channels + 3] : 255;
  }
  context.putImageData(picture, 0, 0);
}
