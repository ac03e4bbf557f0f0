// Morphology of planes, see filters.js: what OpenCV computes in keras_bisenet/inference/soft_masks.py and irises.py.

/** The least of the squares of 2 radius + 1 pixels around each pixel, as far as they lie in the plane: cv2.erode. */
export function erode(plane, { width, height }, radius) {
  const result = Float32Array.from(plane);
  for (let y = 0; y < height; y++) leastNearby(result, y * width, 1, width, radius);
  for (let x = 0; x < width; x++) leastNearby(result, x, width, height, radius);
  return result;
}

/** The greatest of the squares, as cv2.dilate. */
export function dilate(plane, size, radius) {
  return erode(plane.map((value) => -value), size, radius).map((value) => -value);
}

// The least value within `radius` of each of `count` values that lie `step` apart, in place, with three comparisons a
// value whatever the radius (M. van Herk, 1992): a window is the end of one block and the start of the next.
function leastNearby(values, start, step, count, radius) {
  const side = 2 * radius + 1;
  const padded = new Float32Array(Math.ceil((count + 2 * radius) / side) * side).fill(Infinity);
  for (let i = 0; i < count; i++) padded[radius + i] = values[start + i * step];
  const ends = Float32Array.from(padded);
  for (let i = 1; i < padded.length; i++) if (i % side) padded[i] = Math.min(padded[i], padded[i - 1]);
  for (let i = ends.length - 2; i >= 0; i--) if ((i + 1) % side) ends[i] = Math.min(ends[i], ends[i + 1]);
  for (let i = 0; i < count; i++) values[start + i * step] = Math.min(ends[i], padded[i + 2 * radius]);
}

/** The least of the disc around each pixel, as far as it lies in the plane: cv2.erode with an ellipse. */
export function erodeByDisc(plane, { width, height }, radius) {
  const result = new Float32Array(plane.length).fill(Infinity);
  for (let y = 0; y < height; y++) {
    for (let step = 0; step <= radius; step++) {
      const row = plane.slice(y * width, (y + 1) * width);
      leastNearby(row, 0, 1, width, Math.round(Math.sqrt(radius ** 2 - step ** 2)));
      for (const near of step ? [y - step, y + step] : [y]) {
        if (near < 0 || near >= height) continue;
        for (let x = 0, i = near * width; x < width; x++, i++) if (row[x] < result[i]) result[i] = row[x];
      }
    }
  }
  return result;
}

// The greatest of the discs, as cv2.dilate.
function dilateByDisc(plane, size, radius) {
  return erodeByDisc(plane.map((value) => -value), size, radius).map((value) => -value);
}

/** Where discs around the pixels of a mask of 0 and 1 reach: cv2.dilate with an ellipse, faster for large ones. */
export function dilateMaskByDisc(mask, { width, height }, radius) {
  const away = distancesInRows(mask, width);
  const result = new Uint8Array(mask.length);
  for (let step = 0; step <= radius; step++) {
    const reach = Math.round(Math.sqrt(radius ** 2 - step ** 2));
    const shift = step * width;
    for (let i = 0; i < result.length; i++) {
      if (result[i] === 0 && (away[i - shift] <= reach || away[i + shift] <= reach)) result[i] = 1;
    }
  }
  return result;
}

// How far each pixel is from the nearest 1 of its row.
function distancesInRows(mask, width) {
  const result = new Float32Array(mask.length).fill(Infinity);
  for (let start = 0; start < mask.length; start += width) {
    for (let x = 0, i = start; x < width; x++, i++) result[i] = mask[i] ? 0 : x ? result[i - 1] + 1 : Infinity;
    for (let i = start + width - 2; i >= start; i--) result[i] = Math.min(result[i], result[i + 1] + 1);
  }
  return result;
}

/** What is narrower than a disc and greater than what is around it: cv2.MORPH_TOPHAT with an ellipse. */
export function topHat(plane, size, radius) {
  const opened = dilateByDisc(erodeByDisc(plane, size, radius), size, radius);
  return plane.map((value, i) => value - opened[i]);
}

/**
 * All pixels that are joined with one by neighbors on eight sides that `holds` accepts.
 *
 * @param {number} seed index of a pixel that holds.
 * @param {import("./filters.js").Size} size
 * @param {(index: number) => boolean} holds
 * @param {Uint8Array} seen 1 for pixels that were visited; filled in.
 * @returns {number[]} their indices.
 */
export function connected(seed, { width, height }, holds, seen) {
  const found = [seed];
  seen[seed] = 1;
  for (let i = 0; i < found.length; i++) {
    const column = found[i] % width;
    const row = (found[i] - column) / width;
    for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, height - 1); y++) {
      for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, width - 1); x++) {
        const near = y * width + x;
        if (seen[near] || !holds(near)) continue;
        seen[near] = 1;
        found.push(near);
      }
    }
  }
  return found;
}
