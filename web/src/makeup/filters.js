// Filters on planes: Float32Array `[height, width]`. What OpenCV computes in keras_bisenet/inference/soft_masks.py and
// makeup.py, with its borders.

/**
 * @typedef {object} Size
 * @property {number} width
 * @property {number} height
 */

/** Where a place outside of 0..length - 1 lies as in a mirror: OpenCV's BORDER_REFLECT, `cba|abc`. */
export function reflect(place, length) {
  const folded = ((place % (2 * length)) + 2 * length) % (2 * length);
  return folded < length ? folded : 2 * length - 1 - folded;
}

/** The same with the border itself as the mirror: OpenCV's BORDER_REFLECT_101, `cb|abc`. */
export function reflect101(place, length) {
  if (length === 1) return 0;
  const folded = ((place % (2 * length - 2)) + 2 * length - 2) % (2 * length - 2);
  return folded < length ? folded : 2 * length - 2 - folded;
}

/**
 * Means of the squares of 2 radius + 1 pixels around each pixel.
 *
 * @param {Float32Array} plane
 * @param {Size} size
 * @param {number} radius
 * @returns {Float32Array}
 */
export function boxMean(plane, { width, height }, radius) {
  const side = 2 * radius + 1;
  const rows = new Float32Array(plane.length);
  const before = Int32Array.from({ length: width }, (_, x) => reflect(x - radius - 1, width));
  const after = Int32Array.from({ length: width }, (_, x) => reflect(x + radius, width));
  for (let y = 0; y < height; y++) {
    const start = y * width;
    let sum = 0;
    for (let x = -radius; x <= radius; x++) sum += plane[start + reflect(x, width)];
    rows[start] = sum / side;
    for (let x = 1; x < width; x++) {
      sum += plane[start + after[x]] - plane[start + before[x]];
      rows[start + x] = sum / side;
    }
  }
  const result = new Float32Array(plane.length);
  const sums = new Float64Array(width);
  for (let y = -radius; y <= radius; y++) {
    const start = reflect(y, height) * width;
    for (let x = 0; x < width; x++) sums[x] += rows[start + x];
  }
  for (let y = 0; y < height; y++) {
    if (y > 0) {
      const [added, removed] = [reflect(y + radius, height) * width, reflect(y - radius - 1, height) * width];
      for (let x = 0; x < width; x++) sums[x] += rows[added + x] - rows[removed + x];
    }
    for (let x = 0; x < width; x++) result[y * width + x] = sums[x] / side;
  }
  return result;
}

/**
 * Rows of a plane that are computed at a time: the filters hold many planes, and photos are large.
 *
 * @param {Size} size
 * @param {number} margin rows above and below that the result of a row depends on.
 * @returns {Generator<{ from: number, to: number, first: number, last: number }>} `from` to `to` are the rows of the
 *   result, `first` to `last` those needed for them, each without the last one.
 */
export function* strips({ width, height }, margin) {
  const rows = Math.max(2 * margin, Math.ceil(2 ** 20 / width));
  for (let from = 0; from < height; from += rows) {
    const to = Math.min(from + rows, height);
    yield { from, to, first: Math.max(from - margin, 0), last: Math.min(to + margin, height) };
  }
}

/**
 * The guided filter with a guide in color, as cv2.ximgproc.guidedFilter: K. He, J. Sun, X. Tang, ECCV 2010.
 *
 * In each square the result is `a I + b` of the guide `I`, where `(cov(I) + eps) a = cov(I, p)` and `b` keeps the mean.
 *
 * @param {Float32Array[]} guide its three planes, 0..255.
 * @param {Float32Array[]} sources
 * @param {Size} size
 * @param {number} radius
 * @param {number} eps variance below which the guide has no edge.
 * @returns {Float32Array[]} one plane for each source.
 */
export function guidedFilter(guide, sources, size, radius, eps) {
  const { width } = size;
  const results = sources.map((source) => new Float32Array(source.length));
  for (const { from, to, first, last } of strips(size, 2 * radius)) {
    const cut = (plane) => plane.subarray(first * width, last * width);
    const found = filterStrip(guide.map(cut), sources.map(cut), { width, height: last - first }, radius, eps);
    found.forEach((strip, i) => {
      results[i].set(strip.subarray((from - first) * width, (to - first) * width), from * width);
    });
  }
  return results;
}

function filterStrip(guide, sources, size, radius, eps) {
  const mean = (plane) => boxMean(plane, size, radius);
  const means = guide.map(mean);
  const covariance = (a, meanOfA, b, meanOfB) => {
    const product = new Float32Array(a.length);
    for (let i = 0; i < product.length; i++) product[i] = a[i] * b[i];
    const result = mean(product);
    for (let i = 0; i < result.length; i++) result[i] -= meanOfA[i] * meanOfB[i];
    return result;
  };
  const between = (i, j) => covariance(guide[i], means[i], guide[j], means[j]);
  const [rr, rg, rb] = [between(0, 0), between(0, 1), between(0, 2)];
  const [gg, gb, bb] = [between(1, 1), between(1, 2), between(2, 2)];
  return sources.map((source) => {
    const meanOfSource = mean(source);
    const [r, g, b] = guide.map((plane, i) => covariance(plane, means[i], source, meanOfSource));
    const offset = meanOfSource;
    for (let i = 0; i < source.length; i++) {
      // The inverse of a symmetric matrix by its cofactors.
      const a00 = rr[i] + eps;
      const a11 = gg[i] + eps;
      const a22 = bb[i] + eps;
      const c00 = a11 * a22 - gb[i] * gb[i];
      const c01 = rb[i] * gb[i] - rg[i] * a22;
      const c02 = rg[i] * gb[i] - rb[i] * a11;
      const c12 = rg[i] * rb[i] - a00 * gb[i];
      const determinant = a00 * c00 + rg[i] * c01 + rb[i] * c02;
      const x = r[i] / determinant;
      const y = g[i] / determinant;
      const z = b[i] / determinant;
      r[i] = c00 * x + c01 * y + c02 * z;
      g[i] = c01 * x + (a00 * a22 - rb[i] * rb[i]) * y + c12 * z;
      b[i] = c02 * x + c12 * y + (a00 * a11 - rg[i] * rg[i]) * z;
      offset[i] -= r[i] * means[0][i] + g[i] * means[1][i] + b[i] * means[2][i];
    }
    const result = mean(offset);
    for (const [plane, slope] of [[guide[0], r], [guide[1], g], [guide[2], b]]) {
      const meanOfSlope = mean(slope);
      for (let i = 0; i < result.length; i++) result[i] += meanOfSlope[i] * plane[i];
    }
    return result;
  });
}

/** Bilinear, without antialiasing: cv2.resize with INTER_LINEAR. */
export function resizePlane(plane, from, { width, height }) {
  if (from.width === width && from.height === height) return plane;
  const across = between(from.width, width);
  const down = between(from.height, height);
  const result = new Float32Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    const above = down.starts[y] * from.width;
    const below = above + down.steps[y] * from.width;
    for (let x = 0; x < width; x++, i++) {
      const left = across.starts[x];
      const right = left + across.steps[x];
      const top = plane[above + left] + across.shares[x] * (plane[above + right] - plane[above + left]);
      const bottom = plane[below + left] + across.shares[x] * (plane[below + right] - plane[below + left]);
      result[i] = top + down.shares[y] * (bottom - top);
    }
  }
  return result;
}

// For each new pixel the old one before it, the step to the one after it (0 at the end), and how near it is to that.
function between(old, length) {
  const places = Array.from({ length }, (_, i) => Math.min(Math.max(((i + 0.5) * old) / length - 0.5, 0), old - 1));
  const starts = Uint32Array.from(places, Math.floor);
  return {
    starts,
    steps: starts.map((start) => (start < old - 1 ? 1 : 0)),
    shares: Float32Array.from(places, (place, i) => place - starts[i]),
  };
}
