// Where the irises are: keras_bisenet/inference/soft_masks.py, whose names these are.

import { LIGHTNESSES, luminance } from "./color.js";
import { connected, dilate } from "./filters.js";
import { boxOf, cut } from "./masks.js";

const IRIS = [0.34, 0.6];
const RADII = 7;
const LIMBUS = 8;
const GLASSES = 0.05;

/**
 * Where the irises are: a disc in each eye whose border is that of dark and white on both sides.
 *
 * @param {{ width: number, height: number, data: Uint8ClampedArray }} photo RGBA
 * @param {Float32Array} mask of all eyes.
 * @param {Float32Array} glasses their mask.
 * @returns {{ mask: Float32Array, reasons: string[] }} each iris whole, as far as the lids show it, or nothing of it; and
 *   for each eye without one why.
 */
export function irises(photo, mask, glasses) {
  const found = { mask: new Float32Array(mask.length), reasons: [] };
  const box = boxOf(mask, photo);
  if (!box) return found;
  const inside = cut(mask, photo, box);
  const light = lightOf(photo, box);
  const seen = new Uint8Array(inside.length);
  for (let i = 0; i < inside.length; i++) {
    if (seen[i] || inside[i] < 0.5) continue;
    const eye = connected(i, box, (near) => inside[near] >= 0.5, seen);
    const points = eye.map((place) => [Math.floor(place / box.width), place % box.width]);
    const width = longSide(points) + 1;
    if (behindGlasses(points, box, photo, glasses, roundToEven(width / 2))) {
      found.reasons.push("behind glasses");
      continue;
    }
    const { contrast, row, column, radius } = limbus(light, eye, points, box, width);
    if (contrast < LIMBUS) {
      found.reasons.push("no iris to be seen");
      continue;
    }
    eye.forEach((place, k) => {
      const [y, x] = points[k];
      const edge = (radius - Math.hypot(y - row, x - column)) / Math.max(radius / 5, 1) + 0.5;
      const to = (box.top + y) * photo.width + box.left + x;
      found.mask[to] = Math.max(found.mask[to], Math.min(Math.max(edge, 0), 1) * inside[place]);
    });
  }
  return found;
}

// As Python's round.
function roundToEven(value) {
  return value % 1 === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
}

function lightOf({ width, data }, box) {
  return Float32Array.from({ length: box.width * box.height }, (_, i) => {
    const x = i % box.width;
    const y = (i - x) / box.width;
    return LIGHTNESSES[luminance(data, ((box.top + y) * width + box.left + x) * 4)];
  });
}

function behindGlasses(points, box, photo, glasses, reach) {
  // The squares around the eye's pixels, as far as they lie in the photo.
  const place = { left: Math.max(box.left - reach, 0), top: Math.max(box.top - reach, 0) };
  place.width = Math.min(box.left + box.width + reach, photo.width) - place.left;
  place.height = Math.min(box.top + box.height + reach, photo.height) - place.top;
  const eye = new Float32Array(place.width * place.height);
  for (const [y, x] of points) eye[(box.top + y - place.top) * place.width + box.left + x - place.left] = 1;
  const around = dilate(eye, place, reach);
  const [glass, all] = cut(glasses, photo, place).reduce(
    ([glass, all], value, i) => (around[i] ? [glass + (value >= 0.5 ? 1 : 0), all + 1] : [glass, all]),
    [0, 0],
  );
  return glass / all > GLASSES;
}

// The longer side of the rectangle of least area around points: one of its sides lies along their convex hull.
function longSide(points) {
  const hull = convexHull(points);
  let best = { area: Infinity, side: 0 };
  hull.forEach(([y, x], i) => {
    const [nextY, nextX] = hull[(i + 1) % hull.length];
    const length = Math.hypot(nextY - y, nextX - x);
    if (!length) return;
    const [dy, dx] = [(nextY - y) / length, (nextX - x) / length];
    const extent = (of) => {
      const places = hull.map(of);
      return Math.max(...places) - Math.min(...places);
    };
    const [along, across] = [extent(([b, a]) => b * dy + a * dx), extent(([b, a]) => b * dx - a * dy)];
    if (along * across < best.area) best = { area: along * across, side: Math.max(along, across) };
  });
  return best.side;
}

// A. M. Andrew's monotone chains. The points come sorted by rows, and in them by columns.
function convexHull(points) {
  const sorted = points.toSorted(([a, b], [c, d]) => a - c || b - d);
  const chain = (points) => {
    const hull = [];
    for (const point of points) {
      while (hull.length > 1 && turn(hull.at(-2), hull.at(-1), point) <= 0) hull.pop();
      hull.push(point);
    }
    return hull.slice(0, -1);
  };
  return points.length < 2 ? points : [...chain(sorted), ...chain(sorted.toReversed())];
}

const turn = ([ay, ax], [by, bx], [cy, cx]) => (by - ay) * (cx - ax) - (bx - ax) * (cy - ay);

// A dark disc in an eye: how much darker than both sides, its row, column and radius.
function limbus(light, eye, points, box, width) {
  // Glints are no lighter than the white of the eye.
  const bright = quantile(eye.map((place) => light[place]), 0.9);
  const sums = rowSums(eye, box, (place) => Math.min(light[place], bright));
  const along = mainDirection(points);
  let best = { score: -Infinity, contrast: -Infinity, row: 0, column: 0, radius: 1 };
  for (let i = 0; i < RADII; i++) {
    const radius = ((IRIS[0] + ((IRIS[1] - IRIS[0]) * i) / (RADII - 1)) * width) / 2;
    const kernels = discKernels(radius, along);
    for (const [row, column] of points) {
      const { score, contrast } = scoreAt(sums, kernels, row, column);
      if (score > best.score) best = { score, contrast, row, column, radius: Math.max(radius, 1) };
    }
  }
  return best;
}

function scoreAt(sums, kernels, row, column) {
  const at = (kernel) => meanAndArea(sums, kernel, row, column);
  const inside = at(kernels.disc);
  if (!(inside.area > 0.45)) return { score: -Infinity };
  const steps = kernels.sides.flatMap(({ within, beyond }) => {
    const outer = at(beyond);
    return outer.area > 0.2 ? [outer.mean - at(within).mean] : [];
  });
  if (!steps.length) return { score: -Infinity };
  // An iris in the corner of an eye shows one side. Lashes look like that, too.
  const contrast = Math.min(...steps) * (steps.length < 2 ? 0.6 : 1);
  return { score: contrast + at(kernels.ring).mean - inside.mean, contrast };
}

// Kernels of ones, as the runs of each row: [row, first column, column behind the last].
function discKernels(radius, along) {
  const reach = Math.ceil(1.5 * radius);
  const kernel = (holds) => {
    const runs = [];
    let count = 0;
    for (let y = -reach; y <= reach; y++) {
      let start = null;
      for (let x = -reach; x <= reach + 1; x++) {
        const distance = Math.hypot(y, x);
        const across = (y * along[0] + x * along[1]) / Math.max(distance, 1e-6);
        const inside = x <= reach && holds(distance, across);
        if (inside) count++;
        if (inside && start === null) start = x;
        if (!inside && start !== null) {
          runs.push([y, start, x]);
          start = null;
        }
      }
    }
    return { runs, count };
  };
  return {
    disc: kernel((distance) => distance <= radius),
    ring: kernel((distance) => distance > radius && distance <= 1.5 * radius),
    sides: [1, -1].map((side) => ({
      within: kernel((d, across) => side * across > 0.75 && d > 0.5 * radius && d <= 0.95 * radius),
      beyond: kernel((d, across) => side * across > 0.75 && d > 1.05 * radius && d <= 1.45 * radius),
    })),
  };
}

// The mean light of an eye's pixels under a kernel, and the share of the kernel that they take.
function meanAndArea({ width, height, counts, lights }, { runs, count }, row, column) {
  let [area, total] = [0, 0];
  for (const [y, start, end] of runs) {
    if (row + y < 0 || row + y >= height) continue;
    const line = (row + y) * (width + 1);
    const from = line + Math.min(Math.max(column + start, 0), width);
    const to = line + Math.min(Math.max(column + end, 0), width);
    area += counts[to] - counts[from];
    total += lights[to] - lights[from];
  }
  return { mean: total / Math.max(area, 0.5), area: area / Math.max(count, 1) };
}

// For each row the sums of the eye's pixels to the left of each column: their number and their light.
function rowSums(eye, { width, height }, lightAt) {
  const counts = new Float64Array((width + 1) * height);
  const lights = new Float64Array((width + 1) * height);
  for (const place of eye) {
    const x = place % width;
    const to = ((place - x) / width) * (width + 1) + x + 1;
    counts[to] = 1;
    lights[to] = lightAt(place);
  }
  for (let y = 0; y < height; y++) {
    for (let x = 1, i = y * (width + 1) + 1; x <= width; x++, i++) {
      counts[i] += counts[i - 1];
      lights[i] += lights[i - 1];
    }
  }
  return { width, height, counts, lights };
}

// The direction in which points spread most, as (row, column).
function mainDirection(points) {
  const mean = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  let [rows, columns, both] = [0, 0, 0];
  for (const [y, x] of points) {
    rows += (y - mean[0]) ** 2;
    columns += (x - mean[1]) ** 2;
    both += (y - mean[0]) * (x - mean[1]);
  }
  const angle = Math.atan2(2 * both, rows - columns) / 2;
  return [Math.cos(angle), Math.sin(angle)];
}

// As np.quantile, which interpolates.
function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const low = Math.floor(place);
  return sorted[low] + (place - low) * (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]);
}
