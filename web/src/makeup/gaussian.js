// Gaussian filters of planes, see filters.js.

import { reflect, reflect101 } from "./filters.js";

/** As cv2.GaussianBlur with a kernel of 2 radius + 1 pixels. */
export function gaussian(plane, size, sigma, radius) {
  const weights = Float64Array.from({ length: 2 * radius + 1 }, (_, i) => Math.exp(-(((i - radius) / sigma) ** 2) / 2));
  const total = weights.reduce((sum, weight) => sum + weight);
  return separable(plane, size, radius, reflect101, (line, result) => {
    for (let i = radius; i < line.length - radius; i++) {
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * line[i - radius + k];
      result[i] = sum / total;
    }
  });
}

// After R. Deriche, "Recursively implementing the Gaussian and its derivatives", 1993: half a Gaussian as the sum of
// e^(-decay x) (cosine cos(turn x) + sine sin(turn x)), x the distance over sigma. Least squares on 0..7; off by 6e-6.
const TERMS = [
  { cosine: 3.10838, sine: 7.0691, decay: 2.16833, turn: 0.527 },
  { cosine: -2.26057, sine: -0.84469, decay: 2.13777, turn: 1.61714 },
  { cosine: 0.15219, sine: -0.04803, decay: 2.06628, turn: 2.85784 },
];

/** The same with cv2.BORDER_REFLECT, for wide kernels: it takes as long for any. */
export function wideGaussian(plane, size, sigma, radius) {
  const terms = TERMS.map((term) => recursionOf(term, sigma, radius));
  const weightAt = (distance) => terms.reduce((sum, { weightAt }) => sum + weightAt(distance), 0);
  const own = weightAt(0);
  let total = own;
  for (let distance = 1; distance <= radius; distance++) total += 2 * weightAt(distance);
  return separable(plane, size, radius, reflect, (line, result) => {
    // Both directions hold the pixel itself.
    for (let i = 0; i < line.length; i++) result[i] = -own * line[i];
    for (const term of terms) for (const step of [1, -1]) addRecursion(line, result, step, radius, term);
    for (let i = 0; i < line.length; i++) result[i] /= total;
  });
}

// A term as y[i] = once y[i - 1] + twice y[i - 2] + begin[0] x[i] + begin[1] x[i - 1], less what is beyond the radius.
function recursionOf({ cosine, sine, decay, turn }, sigma, radius) {
  const weightAt = (distance) => {
    const x = distance / sigma;
    return Math.exp(-decay * x) * (cosine * Math.cos(turn * x) + sine * Math.sin(turn * x));
  };
  const once = 2 * Math.exp(-decay / sigma) * Math.cos(turn / sigma);
  const from = (distance) => [weightAt(distance), weightAt(distance + 1) - once * weightAt(distance)];
  return { weightAt, once, twice: -Math.exp((-2 * decay) / sigma), begin: from(0), end: from(radius + 1) };
}

function addRecursion(line, result, step, radius, { once, twice, begin, end }) {
  const first = step > 0 ? 0 : line.length - 1;
  let [last, gone, before, before2] = [0, 0, 0, 0];
  for (let n = 0, i = first; n < line.length; n++, i += step) {
    const leaving = n > radius ? line[i - step * (radius + 1)] : 0;
    const within = begin[0] * line[i] + begin[1] * last - end[0] * leaving - end[1] * gone;
    const value = once * before + twice * before2 + within;
    result[i] += value;
    last = line[i];
    gone = leaving;
    before2 = before;
    before = value;
  }
}

// Filters all rows, then all columns, each continued by `margin` pixels at both ends.
function separable(plane, { width, height }, margin, border, filter) {
  const transposed = (from, length, count) => {
    const places = Int32Array.from({ length: length + 2 * margin }, (_, i) => border(i - margin, length));
    const [line, filtered] = [new Float64Array(places.length), new Float64Array(places.length)];
    const result = new Float32Array(from.length);
    for (let y = 0; y < count; y++) {
      for (let i = 0; i < line.length; i++) line[i] = from[y * length + places[i]];
      filter(line, filtered);
      for (let x = 0; x < length; x++) result[x * count + y] = filtered[margin + x];
    }
    return result;
  };
  return transposed(transposed(plane, width, height), height, width);
}
