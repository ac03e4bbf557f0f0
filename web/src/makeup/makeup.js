// Recolors hair, lips, eyes and brows of a photo, and smooths its skin: keras_bisenet/inference/makeup.py, whose names
// and numbers these are.

import { LIGHTNESSES, LUMINANCES, luminance, parseColor, toLab, toRgb } from "./color.js";
import { guidedFilter } from "./filters.js";
import { irises } from "./iris.js";
import { areaOf, boxOf, colorPlanes, cut, fit, hasFace, knows, near, partMask, shrink, strands } from "./masks.js";

/** Those that take a color, in the order in which they do -> how far their mean lightness goes to that of the color. */
export const LIGHTNESS = { hair: 1, lips: 0.8, eyes: 0.25, brows: 1 };
const MOST_CONTRAST = 1.3;
const FEATHER = 0.012;
const STRANDS = 0.025;
const SPOT = 0.03;
const NEAR = 0.1;
const SKIN_EDGE = 15 ** 2;
// Side of a face over that of its photo, where the network knows no class of a face.
const USUAL_FACE = 0.4;

/**
 * @typedef {object} Look
 * @property {Object<string, string>} colors part -> `#rrggbb`.
 * @property {number} smooth 0..1, how much of the skin's unevenness goes.
 * @property {number} strength 0..1, how far the parts go to their colors.
 */

/** A photo of one face and the masks of its parts, which are found when they are needed, and once. */
export class Face {
  #labels;
  #names;
  #found = new Map();

  /**
   * @param {{ width: number, height: number, data: Uint8ClampedArray }} photo RGBA, opaque.
   * @param {{ width: number, height: number, data: Uint8Array }} labels of any size.
   * @param {string[]} names of the classes.
   */
  constructor(photo, labels, names) {
    this.photo = photo;
    this.#labels = labels;
    this.#names = names;
    const area = areaOf(this.#mask("face"));
    this.size = area ? Math.sqrt(area) : USUAL_FACE * Math.sqrt(photo.width * photo.height);
  }

  /**
   * @param {Look} look
   * @returns {{ data: Uint8ClampedArray, notes: string[] }} RGBA, and what could not be made up and why.
   */
  apply(look) {
    const data = new Uint8ClampedArray(this.photo.data);
    if (knows(this.#names, "nose") && !hasFace(this.#mask("nose"), this.#mask("face"))) {
      return { data, notes: ["No face found in this photo: choose a close-up of one, or crop the photo to it."] };
    }
    const notes = [];
    const has = (part) => {
      if (knows(this.#names, part) && this.#mask(part).some((value) => value >= 0.5)) return true;
      notes.push(`No ${part} found in this photo.`);
      return false;
    };
    if (look.smooth > 0 && has("skin")) this.#smooth(data, look.smooth);
    for (const part of Object.keys(LIGHTNESS).filter((part) => look.colors[part] && has(part))) {
      const { mask, reasons = [] } = this.#fitted(part);
      for (const reason of new Set(reasons)) {
        const count = reasons.filter((other) => other === reason).length;
        const eyes = count === 1 ? "One eye left as it is" : `${count} eyes left as they are`;
        notes.push(`${eyes}: ${reason}.`);
      }
      recolor(data, this.photo, mask, parseColor(look.colors[part]), look.strength, LIGHTNESS[part]);
    }
    return { data, notes };
  }

  /** The mask of a part with its edges at those of the photo; for eyes the reasons why some have none. */
  #fitted(part) {
    return this.#once(`fitted ${part}`, () => {
      const mask = this.#mask(part);
      if (part === "eyes") return irises(this.photo, mask, this.#mask("glasses"));
      if (part !== "hair") return { mask: fit(this.photo, mask, this.#pixels(FEATHER)) };
      const grown = near(mask, this.#mask("face"), this.photo, this.#pixels(NEAR));
      // Thin and dark like strands, and beside the hair.
      const others = ["brows", "eyes", "glasses"].map((other) => this.#mask(other));
      const hair = strands(this.photo, grown, this.#pixels(STRANDS));
      return { mask: hair.map((value, i) => value * (1 - Math.max(...others.map((other) => other[i])))) };
    });
  }

  #mask(part) {
    return this.#once(part, () => partMask(this.#labels, this.#names, part, this.photo));
  }

  #smooth(data, strength) {
    const { box, mask, planes } = this.#once("fitted skin", () => {
      const inner = shrink(this.#mask("skin"), this.photo, 2 * this.#pixels(FEATHER));
      const whole = fit(this.photo, inner, this.#pixels(FEATHER));
      const radius = this.#pixels(SPOT);
      const box = boxOf(whole, this.photo, 2 * radius);
      if (!box) return { box };
      const pixels = colorPlanes(this.photo, box);
      return { box, mask: cut(whole, this.photo, box), planes: guidedFilter(pixels, pixels, box, radius, SKIN_EDGE) };
    });
    if (!box) return;
    for (let y = 0, i = 0; y < box.height; y++) {
      for (let x = 0, to = ((box.top + y) * this.photo.width + box.left) * 4; x < box.width; x++, i++, to += 4) {
        const weight = strength * mask[i];
        if (!(weight > 0)) continue;
        for (let c = 0; c < 3; c++) data[to + c] += weight * (planes[c][i] - data[to + c]);
      }
    }
  }

  #pixels(fraction) {
    return Math.max(1, Math.round(fraction * this.size));
  }

  #once(key, find) {
    if (!this.#found.has(key)) this.#found.set(key, find());
    return this.#found.get(key);
  }
}

/**
 * Moves a part to a color and keeps its light and shade, in place.
 *
 * What a pixel becomes depends on its lightness alone, so that it is computed once for each.
 *
 * @param {Uint8ClampedArray} data RGBA
 * @param {import("./filters.js").Size} size
 * @param {Float32Array} mask
 * @param {number[]} color RGB, 0..255
 * @param {number} strength 0..1
 * @param {number} lightness 0..1, how far the mean lightness goes to that of the color.
 */
export function recolor(data, size, mask, color, strength, lightness) {
  const box = boxOf(mask, size);
  if (!box) return;
  const visit = (use) => {
    for (let y = box.top; y < box.top + box.height; y++) {
      for (let x = box.left, i = y * size.width + box.left; x < box.left + box.width; x++, i++) {
        if (mask[i] > 0) use(i, 4 * i);
      }
    }
  };
  let [total, weights] = [0, 0];
  visit((i, at) => {
    total += mask[i] * LIGHTNESSES[luminance(data, at)];
    weights += mask[i];
  });
  const table = newColors(toLab(color), total / weights, lightness);
  visit((i, at) => {
    const from = 3 * luminance(data, at);
    const weight = strength * mask[i];
    for (let c = 0; c < 3; c++) data[at + c] += weight * (table[from + c] - data[at + c]);
  });
}

const within = (value, least, most) => Math.min(Math.max(value, least), most);

// RGB, 0..255, of each luminance, `[LUMINANCES, 3]`.
function newColors(target, meanLightness, lightness) {
  const mean = within(meanLightness, 1, 99);
  const goal = within(mean + lightness * (target[0] - mean), 1, 99);
  const exponent = Math.min(Math.log(goal / 100) / Math.log(mean / 100), MOST_CONTRAST);
  const scale = (goal + 16) / (100 * (mean / 100) ** exponent + 16);
  const table = new Float32Array(3 * LUMINANCES);
  LIGHTNESSES.forEach((old, i) => {
    const l = within(scale * (100 * (within(old, 0, 100) / 100) ** exponent + 16) - 16, 0, 100);
    const shade = (l + 16) / (target[0] + 16);
    const highlight = (1.4 * (100 - l)) / Math.max(100 - target[0], 1);
    const chroma = Math.min(shade, highlight, 1);
    table.set(toRgb([l, chroma * target[1], chroma * target[2]]), 3 * i);
  });
  return table;
}
