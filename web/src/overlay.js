// Paints labels over the photo.

const VEIL = [0, 0, 0, 110];
const OUTLINE = [255, 255, 255, 255];

/**
 * Every part in its color, the background clear. With a selected part that one alone, outlined, all else darkened.
 *
 * @param {HTMLCanvasElement} canvas takes the size of the labels.
 * @param {import("./model.js").Labels} labels
 * @param {number[][]} colors RGB of each class.
 * @param {number | null} selected its class.
 */
export function drawOverlay(canvas, { width, height, data }, colors, selected) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const paints = colors.map((color, part) => {
    if (selected === null) return part === 0 ? [0, 0, 0, 0] : [...color, 255];
    return part === selected ? [...color, 255] : VEIL;
  });
  for (let i = 0; i < data.length; i++) {
    const edge = data[i] === selected && isEdge(data, width, i);
    image.data.set(edge ? OUTLINE : paints[data[i]], i * 4);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Whether a pixel two steps away belongs to another part.
function isEdge(data, width, i) {
  return [-2, 2, -2 * width, 2 * width].some((step) => data[i + step] !== data[i]);
}

/** How much of the picture each class takes, 0..1. */
export function shares({ data }, classes) {
  const counts = new Array(classes).fill(0);
  for (const label of data) counts[label]++;
  return counts.map((count) => count / data.length);
}
