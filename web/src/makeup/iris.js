// Where the irises are: keras_bisenet/inference/irises.py, its names and numbers.

import { LIGHTNESSES, luminance } from "./color.js";
import { scoreDiscs, SIDE } from "./discs.js";
import { gaussian } from "./gaussian.js";
import { boxOf, colorPlanes, cut } from "./masks.js";
import { connected, dilate } from "./morphology.js";

const WIDTH = 64;
const ALIKE = 20;
const LEAST = 0.35;
const NEAR = 0.25;
const NEAR_SIZE = 0.2;
const GLASSES = 0.05;
const PIECE = 0.2;

/**
 * Where the irises are: in each eye the disc that is dark beside white, and is as large as an iris.
 *
 * @param {{ width: number, height: number, data: Uint8ClampedArray }} photo RGBA
 * @param {Float32Array} mask of all eyes.
 * @param {Float32Array} glasses their mask.
 * @returns {{ mask: Float32Array, reasons: string[] }} each iris whole, as far as the lids show it, or nothing of it;
 *   and for each eye without one why.
 */
export function irises(photo, mask, glasses) {
  const found = { mask: new Float32Array(mask.length), reasons: [] };
  const all = boxOf(mask, photo);
  if (!all) return found;
  const box = boxOf(mask, photo, Math.max(all.width, all.height) - 1);
  const [inside, frames] = [cut(mask, photo, box), cut(glasses, photo, box)];
  const colors = colorPlanes(photo, box);
  const eyes = [];
  for (const piece of pieces(inside, box)) {
    if (behindGlasses(piece, frames, box)) found.reasons.push("behind glasses");
    else eyes.push(lookAt(colors, piece, box));
  }
  alike(eyes).forEach((scores, i) => {
    const { discs, scale, toPhoto, piece } = eyes[i];
    const best = likeliest(discs, scores);
    if (!best) {
      found.reasons.push("no iris to be seen");
      return;
    }
    const [column, row] = toPhoto(best.x, best.y);
    const radius = best.radius * scale;
    for (const place of piece) {
      const x = place % box.width;
      const y = (place - x) / box.width;
      const edge = (radius - Math.hypot(y - row, x - column)) / Math.max(radius / 5, 1) + 0.5;
      found.mask[(box.top + y) * photo.width + box.left + x] = Math.min(Math.max(edge, 0), 1) * inside[place];
    }
  });
  return found;
}

// Each eye of a mask, as the places of its pixels.
function pieces(mask, size) {
  const seen = new Uint8Array(mask.length);
  const found = [];
  const holds = (i) => mask[i] >= 0.5;
  for (let i = 0; i < mask.length; i++) if (!seen[i] && holds(i)) found.push(connected(i, size, holds, seen));
  const largest = Math.max(...found.map((piece) => piece.length));
  return found.filter((piece) => piece.length >= PIECE * largest);
}

function behindGlasses(piece, frames, size) {
  const eye = new Float32Array(frames.length);
  for (const place of piece) eye[place] = 1;
  const { width, height } = boxOf(eye, size);
  const around = dilate(eye, size, Math.floor((Math.max(width, height) - 1) / 2));
  const near = frames.filter((_, i) => around[i]);
  return near.filter((value) => value >= 0.5).length / near.length > GLASSES;
}

// An eye, laid level and scaled to one width, and its discs: how large a pixel of its patch is in the photo, where a
// place (x, y) of the patch lies there, and `scoreDiscs`.
function lookAt(colors, piece, size) {
  const points = piece.map((place) => [place % size.width, Math.floor(place / size.width)]);
  const center = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  const [cos, sin] = mainDirection(points, center);
  const [least, most] = points.reduce(
    ([least, most], [x, y]) => [Math.min(least, x * cos + y * sin), Math.max(most, x * cos + y * sin)],
    [Infinity, -Infinity],
  );
  const scale = (most - least + 1) / WIDTH;
  const toPhoto = (x, y) => {
    const [across, down] = [scale * (x - SIDE / 2), scale * (y - SIDE / 2)];
    return [center[0] + across * cos - down * sin, center[1] + across * sin + down * cos];
  };
  const eye = new Float32Array(size.width * size.height);
  for (const place of piece) eye[place] = 1;
  const inside = warp(eye, size, toPhoto, linear).map((value) => (value >= 0.5 ? 1 : 0));
  return { piece, scale, toPhoto, ...scoreDiscs(lightOf(colors, size, toPhoto, scale), inside) };
}

// The direction in which points (x, y) spread most, to the right.
function mainDirection(points, center) {
  let [columns, rows, both] = [0, 0, 0];
  for (const [x, y] of points) {
    columns += (x - center[0]) ** 2;
    rows += (y - center[1]) ** 2;
    both += (x - center[0]) * (y - center[1]);
  }
  const angle = Math.atan2(2 * both, columns - rows) / 2;
  return [Math.cos(angle), Math.sin(angle)];
}

// The lightness of a patch.
function lightOf(colors, size, toPhoto, scale) {
  const pixels = new Uint8ClampedArray(4 * SIDE * SIDE);
  colors.forEach((plane, channel) => {
    // What is made smaller is smoothed before, against aliasing.
    const smooth = scale > 1 ? gaussian(plane, size, scale / 2, Math.round(3 * scale + 1) >> 1).map(Math.round) : plane;
    warp(smooth, size, toPhoto, cubic).forEach((value, i) => (pixels[4 * i + channel] = value));
  });
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => LIGHTNESSES[luminance(pixels, 4 * i)]);
}

// A patch of a plane: cv2.warpAffine with cv2.BORDER_REPLICATE.
function warp(plane, { width, height }, toPhoto, weightsAt) {
  return Float32Array.from({ length: SIDE * SIDE }, (_, i) => {
    const [x, y] = toPhoto(i % SIDE, Math.floor(i / SIDE));
    const [columns, rows] = [weightsAt(x, width), weightsAt(y, height)];
    const along = (row) => columns.reduce((sum, [column, weight]) => sum + weight * plane[row * width + column], 0);
    return rows.reduce((sum, [row, weight]) => sum + weight * along(row), 0);
  });
}

const inRange = (place, length) => Math.min(Math.max(place, 0), length - 1);

// Pairs of place and weight.
function linear(place, length) {
  const start = Math.floor(place);
  return [
    [inRange(start, length), 1 - place + start],
    [inRange(start + 1, length), place - start],
  ];
}

// OpenCV takes places to a 32nd of a pixel, and a = -0.75.
function cubic(exact, length) {
  const place = Math.round(32 * exact) / 32;
  const start = Math.floor(place);
  return [-1, 0, 1, 2].map((step) => {
    const away = Math.abs(start + step - place);
    const weight = away <= 1 ? (1.25 * away - 2.25) * away ** 2 + 1 : -0.75 * (((away - 5) * away + 8) * away - 4);
    return [inRange(start + step, length), weight];
  });
}

// The scores of each eye; of two, less what the radius of a disc differs from that which fits both.
function alike(eyes) {
  if (eyes.length !== 2) return eyes.map(({ scores }) => scores);
  const sizes = eyes.map(({ discs, scale }) => discs.map(({ radius }) => Math.log(radius * scale)));
  const fitted = (common) =>
    eyes.map(({ scores }, eye) => scores.map((score, i) => score - ALIKE * (sizes[eye][i] - common) ** 2));
  const [least, most] = [Math.min(...sizes.map(([first]) => first)), Math.max(...sizes.map((all) => all.at(-1)))];
  let best = { fit: -Infinity };
  for (let i = 0; i < 40; i++) {
    const scores = fitted(least + ((most - least) * i) / 39);
    const fit = scores.reduce((sum, of) => sum + greatest(of), 0);
    if (fit > best.fit) best = { fit, scores };
  }
  return best.scores;
}

const greatest = (values) => values.reduce((a, b) => Math.max(a, b));

// The likeliest disc, unless others that are not almost the same are as likely.
function likeliest(discs, scores) {
  const most = greatest(scores);
  const best = discs[scores.indexOf(most)];
  let [near, all] = [0, 0];
  discs.forEach(({ x, y, radius }, i) => {
    const likely = Math.exp(scores[i] - most);
    const apart = Math.max(Math.abs(x - best.x), Math.abs(y - best.y)) > NEAR * best.radius;
    all += likely;
    if (!apart && Math.abs(radius - best.radius) <= NEAR_SIZE * best.radius) near += likely;
  });
  return near >= LEAST * all ? best : null;
}
