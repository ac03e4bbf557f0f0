// Paints labels over the photo.

const CLEAR = [0, 0, 0, 0];
const VEIL = [0, 0, 0, 110];
const OUTLINE = [255, 255, 255, 255];

/**
 * Every part in its color, the background clear. With a selected part that one alone, outlined, all else darkened.
 *
 * @param {HTMLCanvasElement} canvas takes the size of the labels.
 * @param {import("./model.js").Labels} labels
 * @param {number[][]} colors RGB of each class.
 * @param {number | null} selected its class.
 * @param {Set<number>} clear classes that are made up: their own colors are to be seen, not mixed with these.
 */
export function drawOverlay(canvas, { width, height, data }, colors, selected, clear) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const paints = colors.map((color, part) => {
    if (selected !== null && part !== selected) return word(VEIL);
    return clear.has(part) || (selected === null && part === 0) ? word(CLEAR) : word([...color, 255]);
  });
  const outline = word(OUTLINE);
  for (let i = 0; i < data.length; i++) {
    pixels[i] = data[i] === selected && isEdge(data, width, i) ? outline : paints[data[i]];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// A pixel as the number that lies in memory as its four bytes.
function word(pixel) {
  return new Uint32Array(Uint8Array.from(pixel).buffer)[0];
}

// Whether a pixel two steps away belongs to another part.
function isEdge(data, width, i) {
  return [-2, 2, -2 * width, 2 * width].some((step) => data[i + step] !== data[i]);
}

/** How much of the picture each class takes, 0..1. */
export function shares({ data }, classes) {
  const counts = new Uint32Array(Math.max(classes, 256));
  for (let i = 0; i < data.length; i++) counts[data[i]]++;
  return Array.from(counts.subarray(0, classes), (count) => count / data.length);
}
