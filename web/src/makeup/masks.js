// Where the parts of a face are, as masks with soft edges: keras_bisenet/inference/soft_masks.py, whose names these are.
// A mask is a plane of 0..1. A photo is { width, height, data }, RGBA.

import { boxMean, connected, dilate, erode, guidedFilter, reflect101, resizePlane, strips } from "./filters.js";

/** What can be made up -> its classes. */
export const PARTS = {
  hair: ["hair"],
  lips: ["u_lip", "l_lip"],
  eyes: ["l_eye", "r_eye"],
  brows: ["l_brow", "r_brow"],
  skin: ["skin", "nose", "neck"],
};
const FACE = ["skin", "nose", "l_brow", "r_brow", "l_eye", "r_eye", "mouth", "u_lip", "l_lip"];
const GLASSES = ["eye_g"];

const DISTINCT = 25;
const EDGE = 3 ** 2;

/** Whether a network knows all classes of a part. */
export const knows = (names, part) => PARTS[part].every((name) => names.includes(name));

/**
 * @param {{ width: number, height: number, data: Uint8Array }} labels
 * @param {string[]} names of the classes.
 * @param {string} part one of `PARTS`, `face` or `glasses`.
 * @param {import("./filters.js").Size} size
 * @returns {Float32Array} the mask of the part.
 */
export function partMask(labels, names, part, size) {
  const classes = { ...PARTS, face: FACE, glasses: GLASSES }[part];
  const inside = names.map((name) => (classes.includes(name) ? 1 : 0));
  const mask = new Float32Array(labels.data.length);
  for (let i = 0; i < mask.length; i++) mask[i] = inside[labels.data[i]];
  return resizePlane(mask, labels, size);
}

/** The rows and columns that hold everything above 0, and `margin` pixels around it; null where there is nothing. */
export function boxOf(mask, { width, height }, margin = 0) {
  let [left, top, right, bottom] = [width, -1, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0, i = y * width; x < width; x++, i++) {
      if (!(mask[i] > 0)) continue;
      if (top < 0) top = y;
      bottom = y;
      if (x < left) left = x;
      if (x > right) right = x;
    }
  }
  if (top < 0) return null;
  left = Math.max(left - margin, 0);
  top = Math.max(top - margin, 0);
  return {
    left,
    top,
    width: Math.min(right + 1 + margin, width) - left,
    height: Math.min(bottom + 1 + margin, height) - top,
  };
}

/** The part of a plane that a box holds. */
export function cut(plane, { width }, box) {
  const result = new Float32Array(box.width * box.height);
  for (let y = 0; y < box.height; y++) {
    const start = (box.top + y) * width + box.left;
    result.set(plane.subarray(start, start + box.width), y * box.width);
  }
  return result;
}

/** Puts what `cut` gave back into a plane. */
export function putBack(plane, { width }, box, part) {
  for (let y = 0; y < box.height; y++) {
    plane.set(part.subarray(y * box.width, (y + 1) * box.width), (box.top + y) * width + box.left);
  }
}

/** Red, green and blue of a box of a photo, 0..255. */
export function colorPlanes({ width, data }, box) {
  return [0, 1, 2].map((channel) => {
    const plane = new Float32Array(box.width * box.height);
    for (let y = 0, i = 0; y < box.height; y++) {
      let from = ((box.top + y) * width + box.left) * 4 + channel;
      for (let x = 0; x < box.width; x++, i++, from += 4) plane[i] = data[from];
    }
    return plane;
  });
}

/** Moves the edge of a mask to that of the photo nearby, and softens it: a guided filter. */
export function fit(photo, mask, radius) {
  const result = new Float32Array(mask.length);
  const box = boxOf(mask, photo, 4 * radius);
  if (!box) return result;
  const [fitted] = guidedFilter(colorPlanes(photo, box), [cut(mask, photo, box)], box, radius, EDGE);
  putBack(result, photo, box, fitted.map((value) => Math.min(Math.max(value, 0), 1)));
  return result;
}

/** Takes `radius` pixels off a mask at each edge but the photo's. */
export function shrink(mask, size, radius) {
  return erode(mask, size, radius);
}

/** Takes the pieces out of a mask that keep away from the face; the whole mask stays if all of it does. */
export function near(mask, face, size, radius) {
  const close = dilate(face.map((value) => (value >= 0.5 ? 1 : 0)), size, radius);
  const seen = new Uint8Array(mask.length);
  for (let i = 0; i < mask.length; i++) {
    if (close[i] > 0 && mask[i] > 0 && !seen[i]) connected(i, size, (near) => mask[near] > 0, seen);
  }
  return seen.includes(1) ? mask.map((value, i) => (seen[i] ? value : 0)) : mask;
}

/** A mask of hair that follows its strands: how much of each pixel near the edge is hair, by its color. */
export function strands(photo, mask, radius) {
  const result = fit(photo, mask, radius);
  const box = boxOf(result, photo);
  if (!box) return result;
  const [colors, hair, fitted] = [colorPlanes(photo, box), cut(mask, photo, box), cut(result, photo, box)];
  for (const { from, to, first, last } of strips(box, 5 * radius)) {
    const strip = (plane) => plane.subarray(first * box.width, last * box.width);
    const shares = hairShares(colors.map(strip), strip(hair), { width: box.width, height: last - first }, radius);
    const start = (from - first) * box.width;
    for (let i = from * box.width; i < to * box.width; i++) fitted[i] *= shares[start + i - from * box.width];
  }
  putBack(result, photo, box, fitted);
  return result;
}

// How much of each pixel is hair, 0..1, as far as its color tells.
function hairShares(colors, mask, size, radius) {
  const hair = mask.map((value) => (value >= 0.5 ? 1 : 0));
  const beyond = [hair, hair.map((value) => 1 - value)].map((side) => shrink(side, size, radius));
  const [ofHair, beside] = beyond.map((weights) => meanNearby(colors, weights, size, 4 * radius));
  return hair.map((inside, i) => {
    const band = beyond[0][i] === 0 && beyond[1][i] === 0;
    if (!band && inside) return 1;
    if (!(ofHair.total[i] > 1e-3 && beside.total[i] > 1e-3)) return 1;
    let length = 0;
    let along = 0;
    for (let channel = 0; channel < 3; channel++) {
      const way = ofHair.means[channel][i] - beside.means[channel][i];
      length += way * way;
      along += (colors[channel][i] - beside.means[channel][i]) * way;
    }
    const amount = Math.min(Math.max(along / Math.max(length, 1), 0), 1);
    return 1 - (length / (length + DISTINCT ** 2)) * (1 - amount);
  });
}

// Mean colors of the pixels within reach of each, by weights, and the share of the weights there.
function meanNearby(colors, weights, size, reach) {
  const total = boxMean(weights, size, reach, reflect101);
  const means = colors.map((plane) =>
    boxMean(plane.map((value, i) => value * weights[i]), size, reach, reflect101).map(
      (sum, i) => sum / Math.max(total[i], 1e-4),
    ),
  );
  return { means, total };
}
