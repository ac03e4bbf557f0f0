// How much each disc in an eye looks like an iris: keras_bisenet/inference/irises.py, its names and weights.

import { reflect101 } from "./filters.js";
import { gaussian } from "./gaussian.js";
import { erodeByDisc } from "./morphology.js";

/** Side of a patch, which holds an eye, pixels. */
export const SIDE = 96;
const SIZE = { width: SIDE, height: SIDE };
const RADII = Array.from({ length: 13 }, (_, i) => 10.5 + 0.75 * i);
const USUAL = 15.5;
// In float32 as Python's, where sin(-30°) is -0.5.
const ANGLES = Array.from({ length: 48 }, (_, i) => {
  const angle = ((7.5 * i - 90) / 180) * Math.PI;
  return { across: Math.fround(Math.cos(angle)), down: Math.fround(Math.sin(angle)) };
});
const SIDES = [ANGLES.filter(({ across }) => across > 0.6), ANGLES.filter(({ across }) => across < -0.6)];
const OFF_UPPER_LID = ANGLES.filter(({ down }) => down > -0.5);
const SEEN = 0.25;
// Planes get zeros around them, as far as discs of centers in the patch reach.
const MARGIN = 28;
const STRIDE = SIDE + 2 * MARGIN;

/**
 * Scores all discs of a patch.
 *
 * @param {Float32Array} light lightness of its pixels, 0..100.
 * @param {Float32Array} inside 1 in the eye, else 0.
 * @returns {{ discs: { x: number, y: number, radius: number }[], scores: Float64Array }} log of how likely each is the
 *   iris, but for a constant.
 */
export function scoreDiscs(light, inside) {
  const [dark, white] = quantiles(light.filter((_, i) => inside[i]), [0.3, 0.9]);
  const contrast = Math.max(white - dark, 1);
  // Glints are no lighter than the white of the eye, and lashes no darker than the iris.
  const smooth = gaussian(light.map((value) => Math.min(Math.max(value, dark), white)), SIZE, 1.2, 5);
  // Lids and lashes are steps, too.
  const offLids = erodeByDisc(inside, SIZE, 2);
  const planes = { light: smooth, slopeX: slope(smooth, 1, 0), slopeY: slope(smooth, 0, 1), inside, offLids };
  for (const [name, plane] of Object.entries(planes)) planes[name] = padded(plane);
  const centers = centersIn(inside);
  const discs = RADII.flatMap((radius) => centers.map(({ x, y }) => ({ x, y, radius })));
  return { discs, scores: Float64Array.from(RADII.flatMap((radius) => scoresOf(planes, centers, radius, contrast))) };
}

// As np.quantile, which interpolates.
function quantiles(values, shares) {
  const sorted = values.toSorted();
  return shares.map((share) => {
    const place = share * (sorted.length - 1);
    const low = Math.floor(place);
    return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
  });
}

// The derivative along (`right`, `down`), either of which is 1 and the other 0: a 32nd of cv2.Scharr.
function slope(plane, right, down) {
  return plane.map((_, i) => {
    const at = (along, across) => {
      const x = reflect101((i % SIDE) + along * right + across * down, SIDE);
      return plane[reflect101(Math.floor(i / SIDE) + along * down + across * right, SIDE) * SIDE + x];
    };
    const step = (across) => at(1, across) - at(-1, across);
    return (3 * step(-1) + 10 * step(0) + 3 * step(1)) / 32;
  });
}

function padded(plane) {
  const result = new Float32Array(STRIDE * STRIDE);
  for (let y = 0; y < SIDE; y++) result.set(plane.subarray(y * SIDE, (y + 1) * SIDE), placeOf(0, y));
  return result;
}

const placeOf = (x, y) => (y + MARGIN) * STRIDE + x + MARGIN;

// The pixels of the eye, their places in padded planes, and how far below them its lower lid is.
function centersIn(inside) {
  const lowerLid = new Int32Array(SIDE);
  const centers = [];
  inside.forEach((value, i) => {
    if (!value) return;
    const [x, y] = [i % SIDE, Math.floor(i / SIDE)];
    lowerLid[x] = y + 1;
    centers.push({ x, y, place: placeOf(x, y) });
  });
  return centers.map((center) => ({ ...center, toLid: lowerLid[center.x] - 0.5 - center.y }));
}

function scoresOf(planes, centers, radius, contrast) {
  const around = (angles, share) => angles.map((angle) => tap(angle, share * radius));
  const sides = SIDES.map((angles) => ({
    border: around(angles, 1),
    within: around(angles, 0.75),
    beyond: around(angles, 1.3),
  }));
  const below = around(OFF_UPPER_LID, 0.75);
  return centers.map(({ place, toLid }) => {
    const supports = sides.map(({ border }) => supportOf(planes, border, place, contrast));
    const steps = sides.map((side) => stepOf(planes, side, place, contrast));
    const shown = below.reduce((count, to) => count + (at(planes.inside, place, to) > 0.5 ? 1 : 0), 0) / below.length;
    const gap = toLid / radius - 1;
    let score = 3.75 * shown - 3.75 * Math.max(gap - 0.1, 0) - 0.7 * ((radius - USUAL) / 3) ** 2;
    for (const support of supports) score += support ?? -0.7;
    for (const step of steps) score += 3.5 * (step ?? 0);
    return steps.includes(null) ? score : score + 2.5 * Math.min(...steps);
  });
}

// Where a padded plane is read at a distance from a center, and the weights of the four pixels there.
function tap({ across, down }, distance) {
  // Python adds float32 to the center.
  const [x, y] = [across, down].map((share) => Math.fround(SIDE / 2 + distance * share) - SIDE / 2);
  const [left, top] = [Math.floor(x), Math.floor(y)];
  const [right, bottom] = [x - left, y - top];
  return {
    across,
    down,
    offset: top * STRIDE + left,
    weights: [(1 - right) * (1 - bottom), right * (1 - bottom), (1 - right) * bottom, right * bottom],
  };
}

// Bilinear.
function at(plane, place, { offset, weights }) {
  const i = place + offset;
  const above = weights[0] * plane[i] + weights[1] * plane[i + 1];
  return above + weights[2] * plane[i + STRIDE] + weights[3] * plane[i + STRIDE + 1];
}

// How much the border of a disc is one from dark to light at a side, -1..1; null where the side is not seen.
function supportOf({ slopeX, slopeY, offLids }, border, place, contrast) {
  let [sum, total] = [0, 0];
  for (const to of border) {
    const seen = at(offLids, place, to);
    if (!seen) continue;
    const outwards = at(slopeX, place, to) * to.across + at(slopeY, place, to) * to.down;
    sum += seen * Math.min(Math.max(outwards / Math.max(0.05 * contrast, 0.6), -1), 1);
    total += seen;
  }
  return total / border.length > SEEN ? sum / Math.max(total, 1e-3) : null;
}

// How much lighter it is beyond a side of a disc than within it, in the contrast of the eye; null where it is not seen.
function stepOf({ light, inside, offLids }, { within, beyond }, place, contrast) {
  const dark = meanOf(light, inside, within, place);
  const white = meanOf(light, offLids, beyond, place);
  if (dark.count < 2 || white.count < 2) return null;
  return Math.min(Math.max((white.mean - dark.mean) / contrast, -0.5), 1);
}

function meanOf(light, seen, taps, place) {
  let [sum, count] = [0, 0];
  for (const to of taps) {
    if (!(at(seen, place, to) > 0.5)) continue;
    sum += at(light, place, to);
    count += 1;
  }
  return { mean: sum / count, count };
}
