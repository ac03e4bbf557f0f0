// Where the parts of a face are, as masks with soft edges: keras_bisenet/inference/soft_masks.py, its names.
// A mask is a plane of 0..1. A photo is { width, height, data }, RGBA.

import { guidedFilter, resizePlane, strips } from "./filters.js";
import { wideGaussian } from "./gaussian.js";
import { connected, dilate, dilateMaskByDisc, erode, topHat } from "./morphology.js";

/** What can be made up -> its classes. */
export const PARTS = {
  hair: ["hair"],
  lips: ["u_lip", "l_lip"],
  eyes: ["l_eye", "r_eye"],
  brows: ["l_brow", "r_brow"],
  skin: ["skin", "nose", "neck"],
};
const FACE = ["skin", "nose", "l_brow", "r_brow", "l_eye", "r_eye", "mouth", "u_lip", "l_lip"];
const ALL = { ...PARTS, face: FACE, nose: ["nose"], glasses: ["eye_g"] };

const NOSE = 0.005;
const DISTINCT = 15;
const CLEAR = 50;
const REACH = 3;
const LINE = 0.2;
const EDGE = 3 ** 2;

/** Whether a network knows all classes of a part. */
export const knows = (names, part) => ALL[part].every((name) => names.includes(name));

export const areaOf = (mask) => mask.reduce((sum, value) => sum + value, 0);

/** Whether masks are of a face: where none is, a network sees hair and skin, too, but no nose. */
export const hasFace = (nose, face) => areaOf(nose) > NOSE * areaOf(face);

/**
 * @param {{ width: number, height: number, data: Uint8Array }} labels
 * @param {string[]} names of the classes.
 * @param {string} part one of `PARTS`, `face`, `nose` or `glasses`.
 * @param {import("./filters.js").Size} size
 * @returns {Float32Array} the mask of the part.
 */
export function partMask(labels, names, part, size) {
  const inside = names.map((name) => (ALL[part].includes(name) ? 1 : 0));
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
  const box = boxOf(result, photo, REACH * radius);
  if (!box) return result;
  const colors = colorPlanes(photo, box);
  const hair = cut(mask, photo, box).map((value) => (value >= 0.5 ? 1 : 0));
  const edge = cut(result, photo, box);
  const amounts = new Float32Array(hair.length);
  for (const { from, to, first, last } of strips(box, 9 * radius)) {
    const strip = (plane) => plane.subarray(first * box.width, last * box.width);
    const share = hairShares(colors.map(strip), strip(hair), { width: box.width, height: last - first }, radius);
    const start = first * box.width;
    for (let i = from * box.width; i < to * box.width; i++) {
      edge[i] *= share.edge[i - start];
      amounts[i] = share.amounts[i - start];
    }
  }
  const loose = lines(amounts, edge, hair, box, radius);
  putBack(result, photo, box, edge.map((value, i) => Math.max(value, loose[i])));
  return result;
}

// How much of each pixel is hair, 0..1, as far as its color tells: at the edge of the hair, and in loose strands.
function hairShares(colors, hair, size, radius) {
  const beyond = [hair, hair.map((value) => 1 - value)].map((side) => shrink(side, size, radius));
  const [ofHair, beside] = beyond.map((weights) => meanNearby(colors, weights, size, 8 * radius));
  const edge = new Float32Array(hair.length).fill(1);
  const amounts = hair.slice();
  for (let i = 0; i < hair.length; i++) {
    const band = beyond[0][i] === 0 && beyond[1][i] === 0;
    if (!band && hair[i]) continue;
    if (!(ofHair.total[i] > 1e-3 && beside.total[i] > 1e-3)) continue;
    let length = 0;
    let along = 0;
    for (let channel = 0; channel < 3; channel++) {
      const way = ofHair.means[channel][i] - beside.means[channel][i];
      length += way * way;
      along += (colors[channel][i] - beside.means[channel][i]) * way;
    }
    const amount = Math.min(Math.max(along / Math.max(length, 1), 0), 1);
    edge[i] = 1 - (length / (length + DISTINCT ** 2)) * (1 - amount);
    if (!hair[i]) amounts[i] = (length / (length + CLEAR ** 2)) * amount;
  }
  return { edge, amounts };
}

// Mean colors of the pixels within reach of each, by weights and a Gaussian, and the share of the weights there.
function meanNearby(colors, weights, size, reach) {
  const near = (plane) => wideGaussian(plane, size, reach / 4, reach);
  const total = near(weights);
  const means = colors.map((plane) =>
    near(plane.map((value, i) => value * weights[i])).map((sum, i) => sum / Math.max(total[i], 1e-4)),
  );
  return { means, total };
}

// The thin lines in `amounts` that begin at the hair.
function lines(amounts, edge, hair, size, radius) {
  const reached = dilateMaskByDisc(hair, size, REACH * radius);
  const thin = topHat(amounts, size, Math.max(1, Math.round(0.6 * radius))).map((value, i) => 1.5 * value * reached[i]);
  const seen = new Uint8Array(hair.length);
  const holds = (i) => thin[i] > LINE || edge[i] > LINE;
  for (let i = 0; i < seen.length; i++) if (hair[i] && !seen[i] && holds(i)) connected(i, size, holds, seen);
  // Their soft sides are below the threshold.
  const begun = dilateMaskByDisc(seen, size, 1);
  return thin.map((value, i) => (begun[i] ? Math.min(value, 1) : 0));
}
