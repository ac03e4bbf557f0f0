// Gives hair or lips another color and keeps their light and shade.
//
// In CIE Lab, a pixel takes hue and chroma of the new color, and its lightness moves towards the new one without ever
// passing another pixel's. What it becomes depends on its lightness alone: culori computes a table of 256 lightnesses.

import { clampChroma, converter, modeLab65, modeLch65, modeRgb, modeXyz65, useMode } from "culori/fn";

import { centers } from "./resize.js";

/**
 * @typedef {object} Paint
 * @property {number[]} parts classes that it covers.
 * @property {string} color `#rrggbb`.
 */

for (const mode of [modeRgb, modeXyz65, modeLab65, modeLch65]) useMode(mode);
const [toRgb, toXyz, toLab, toLch] = ["rgb", "xyz65", "lab65", "lch65"].map(converter);

// How far the lightness of a part goes towards that of its new color: all the way, black hair would turn into a blot.
const REACH = 0.7;
// Pixels of the label map over which a part's edge fades.
const FADE = 2;

// Luminance is the sum of what each channel adds to it; 4095 is white.
const LUMINANCES = ["r", "g", "b"].map((channel) =>
  Float32Array.from({ length: 256 }, (_, value) => {
    return 4095 * toXyz({ mode: "rgb", r: 0, g: 0, b: 0, [channel]: value / 255 }).y;
  }),
);
// The lightness of a luminance; 255 is white.
const LIGHTNESSES = Uint8Array.from({ length: 4097 }, (_, luminance) => {
  return Math.round(2.55 * toLab({ mode: "xyz65", x: 0, y: Math.min(luminance / 4095, 1), z: 0 }).l);
});

/**
 * @param {ImageData} photo
 * @param {import("./model.js").Labels} labels of any size, stretched over the photo.
 * @param {Paint[]} paints
 * @returns {ImageData} a new one; pixels of other parts are as they were.
 */
export function recolor(photo, labels, paints) {
  const image = new ImageData(new Uint8ClampedArray(photo.data), photo.width, photo.height);
  for (const paint of paints) paintOver(image, labels, paint);
  return image;
}

function paintOver({ width, height, data }, labels, { parts, color }) {
  const covered = new Uint8Array(256);
  for (const part of parts) covered[part] = 1;
  const strength = fade(labels, covered);
  const columns = centers(labels.width, width);
  const rows = centers(labels.height, height);
  // Where a pixel lies between the centers of two labels.
  const across = between(labels.width, width);
  const down = between(labels.height, height);

  // Calls `use(place of the pixel's red, row, column)` for each pixel of the parts.
  const visit = (use) => {
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        if (covered[labels.data[rows[y] * labels.width + columns[x]]]) use((y * width + x) * 4, y, x);
      }
    }
  };
  const counts = new Uint32Array(256);
  visit((i) => counts[lightness(data, i)]++);
  const table = newColors(color, median(counts));

  visit((i, y, x) => {
    const above = down.starts[y] * labels.width + across.starts[x];
    const [right, below] = [across.steps[x], down.steps[y] * labels.width];
    const top = strength[above] + across.shares[x] * (strength[above + right] - strength[above]);
    const bottom =
      strength[above + below] + across.shares[x] * (strength[above + below + right] - strength[above + below]);
    const share = top + down.shares[y] * (bottom - top);
    const from = 3 * lightness(data, i);
    for (let channel = 0; channel < 3; channel++) {
      data[i + channel] += share * (table[from + channel] - data[i + channel]);
    }
  });
}

function lightness(data, i) {
  return LIGHTNESSES[Math.round(LUMINANCES[0][data[i]] + LUMINANCES[1][data[i + 1]] + LUMINANCES[2][data[i + 2]])];
}

function median(counts) {
  let half = counts.reduce((total, count) => total + count, 0) / 2;
  return counts.findIndex((count) => (half -= count) <= 0);
}

// RGB, 0..255, of each lightness, `[256, 3]`; `middle` is the lightness that stands for the part.
function newColors(color, middle) {
  const target = toLch(color);
  const old = Math.min(Math.max(middle / 255, 0.02), 0.98);
  const goal = Math.min(Math.max(old + REACH * (target.l / 100 - old), 0.02), 0.98);
  // A power leaves black black and white white.
  const power = Math.log(goal) / Math.log(old);
  const table = new Float32Array(256 * 3);
  for (let i = 0; i < 256; i++) {
    const { r, g, b } = toRgb(clampChroma({ ...target, l: 100 * (i / 255) ** power }, "lch65"));
    table.set([255 * r, 255 * g, 255 * b], 3 * i);
  }
  return table;
}

// 1 within the covered parts, less towards their edge, 0 outside; of the labels' size.
function fade({ width, height, data }, covered) {
  const inside = new Float32Array(data.length);
  for (let i = 0; i < data.length; i++) inside[i] = covered[data[i]];
  const blurred = blur(blur(inside, height, width, 1), width, height, width);
  // On a straight edge about half of what is near belongs to the part.
  return blurred.map((share, i) => inside[i] * Math.max(2 * share - 1, 0));
}

// Means over the lines of `count` values each that lie `step` apart; what lies beyond an end is as the end.
function blur(values, lines, count, step) {
  const result = new Float32Array(values.length);
  for (let line = 0; line < lines; line++) {
    const start = step === 1 ? line * count : line;
    for (let i = 0; i < count; i++) {
      let sum = 0;
      for (let near = i - FADE; near <= i + FADE; near++) {
        sum += values[start + step * Math.min(Math.max(near, 0), count - 1)];
      }
      result[start + step * i] = sum / (2 * FADE + 1);
    }
  }
  return result;
}

// For each new pixel the label before it, the step to the one after it (0 at the end), and how near it is to that.
function between(old, length) {
  const places = Array.from({ length }, (_, i) => Math.min(Math.max(((i + 0.5) * old) / length - 0.5, 0), old - 1));
  const starts = Uint32Array.from(places, Math.floor);
  return {
    starts,
    steps: starts.map((start) => (start < old - 1 ? 1 : 0)),
    shares: Float32Array.from(places, (place, i) => place - starts[i]),
  };
}
