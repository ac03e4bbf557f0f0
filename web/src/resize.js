// Resizes as Python does it, so that the page's labels are Python's: a browser's own smoothing differs from one to the
// next.

// Pillow's fixed point: weights are integers of 22 bits.
const BITS = 22;

/**
 * Bilinear and antialiased, computed as Pillow's `resize(..., BILINEAR)`: a triangle over all pixels that fall on the
 * new one, first along the rows, then along the columns, rounded to 8 bits after each. (Pillow 13 begins with the
 * columns of some tall photos, which changes pixels by one level.)
 *
 * @param {{ width: number, height: number, data: Uint8ClampedArray }} photo RGBA; alpha is left out.
 * @param {number} width
 * @param {number} height
 * @returns {Uint8Array} RGB, `[height, width, 3]`.
 */
export function resizePhoto(photo, width, height) {
  const rows = alongRows(photo, width);
  return alongColumns(rows, width, photo.height, height);
}

/**
 * The label under the center of each pixel, as in keras_bisenet/utils/resizing.py.
 *
 * @param {{ width: number, height: number, data: Uint8Array }} labels
 * @param {number} width
 * @param {number} height
 * @returns {Uint8Array} `[height, width]`.
 */
export function resizeLabels(labels, width, height) {
  const columns = centers(labels.width, width);
  const rows = centers(labels.height, height);
  const resized = new Uint8Array(width * height);
  let i = 0;
  for (const row of rows) {
    for (const column of columns) resized[i++] = labels.data[row * labels.width + column];
  }
  return resized;
}

/** The old pixel under the center of each new one, along one side. */
export function centers(old, length) {
  return Uint32Array.from({ length }, (_, i) => Math.floor(((2 * i + 1) * old) / (2 * length)));
}

function alongRows({ width: old, height, data }, width) {
  const resized = new Uint8Array(width * height * 3);
  const { starts, counts, weights, size } = triangles(old, width);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++, to += 3) {
      let red = 1 << (BITS - 1);
      let green = red;
      let blue = red;
      for (let i = 0, from = (y * old + starts[x]) * 4; i < counts[x]; i++, from += 4) {
        const weight = weights[x * size + i];
        red += data[from] * weight;
        green += data[from + 1] * weight;
        blue += data[from + 2] * weight;
      }
      resized[to] = red >> BITS;
      resized[to + 1] = green >> BITS;
      resized[to + 2] = blue >> BITS;
    }
  }
  return resized;
}

function alongColumns(data, width, old, height) {
  const line = width * 3;
  const resized = new Uint8Array(line * height);
  const { starts, counts, weights, size } = triangles(old, height);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < line; x++, to++) {
      let sum = 1 << (BITS - 1);
      for (let i = 0, from = starts[y] * line + x; i < counts[y]; i++, from += line) {
        sum += data[from] * weights[y * size + i];
      }
      resized[to] = sum >> BITS;
    }
  }
  return resized;
}

// For each new pixel: the first old one under its triangle, their number, and their weights (`size` places each).
function triangles(old, length) {
  const scale = old / length;
  const support = Math.max(scale, 1);
  const size = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(length);
  const counts = new Int32Array(length);
  const weights = new Int32Array(length * size);
  for (let i = 0; i < length; i++) {
    const center = (i + 0.5) * scale;
    const start = Math.max(Math.trunc(center - support + 0.5), 0);
    const count = Math.min(Math.trunc(center + support + 0.5), old) - start;
    const shares = Array.from({ length: count }, (_, j) =>
      Math.max(1 - Math.abs((j + start - center + 0.5) / support), 0),
    );
    const sum = shares.reduce((total, share) => total + share, 0);
    starts[i] = start;
    counts[i] = count;
    shares.forEach((share, j) => (weights[i * size + j] = Math.trunc(0.5 + (share / sum) * 2 ** BITS)));
  }
  return { starts, counts, weights, size };
}
