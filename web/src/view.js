// The picture: photo, overlay and makeup.

import { lay } from "./frame.js";
import { Makeup } from "./makeup/client.js";
import { PARTS } from "./makeup/masks.js";
import { drawOverlay, shares } from "./overlay.js";
import { working } from "./words.js";

const $ = (id) => document.getElementById(id);

/**
 * @typedef {object} Shown
 * @property {ImageData} photo
 * @property {import("./frame.js").Place} place the part of it that was parsed.
 * @property {ImageData} pixels those of the place.
 * @property {import("./model.js").Labels} labels of the place.
 */

export class View {
  /** @type {Shown | null} */
  shown = null;
  name = "photo";
  /** @type {number | null} */
  selected = null;
  #parts = [];
  #makeup = new Makeup();
  // Classes that are made up.
  #made = new Set();
  // The place as it was drawn last; null if it is not made up.
  #result = null;
  // Counts what was to be drawn: makeup that takes long does not replace what is newer.
  #turn = 0;

  setClasses(parts) {
    this.#parts = parts;
    // Labels of the network before have another meaning.
    this.shown = null;
    this.selected = null;
  }

  /** What files that are saved are called, and whether it is shown as in a mirror. */
  setSource(name, mirrored) {
    this.name = name;
    $("picture").classList.toggle("mirrored", mirrored);
  }

  /** @param {Shown} shown to draw from now on. @returns {number[]} the share of each class. */
  show(shown) {
    this.shown = shown;
    this.#result = null;
    const found = shares(shown.labels, this.#parts.length);
    const there = this.#parts.filter((_, part) => part > 0 && found[part] > 0).map(({ description }) => description);
    $("photo").setAttribute("aria-label", there.length ? `Photo with ${there.join(", ")}` : "Photo without any part");
    return found;
  }

  select(part) {
    this.selected = part;
    this.#drawParts();
  }

  /** The class under a click on the overlay. The offsets are those of the canvas itself, mirrored or not. */
  partAt({ offsetX, offsetY, target }) {
    if (!this.shown) return undefined;
    const { width, height, data } = this.shown.labels;
    const x = Math.floor((offsetX / target.clientWidth) * width);
    const y = Math.floor((offsetY / target.clientHeight) * height);
    return data[y * width + x];
  }

  /**
   * @param {import("./makeup/makeup.js").Look | null} look
   * @param {boolean} both whether the photo as it was is shown on the left of the result.
   * @param {boolean} moving whether it is a frame of the camera: then nothing is drawn before it is made up.
   */
  async draw(look, both, moving) {
    const { shown } = this;
    if (!shown) return;
    const turn = ++this.#turn;
    this.#made = new Set(look ? this.#classesOf(look) : []);
    const finished = (result) => {
      this.#result = result;
      this.#drawPhoto(look !== null && both);
      this.#drawParts();
    };
    if (!look) {
      $("note").textContent = "";
      return finished(null);
    }
    if (!moving) finished(this.#result);
    const { pixels, place, labels } = shown;
    const names = this.#parts.map(({ name }) => name);
    const run = () => this.#makeup.apply({ key: shown, face: { photo: pixels, labels, names }, look });
    const made = await (moving ? run() : working("Making up the photo …", run));
    if (!made || turn !== this.#turn || shown !== this.shown) return;
    $("note").textContent = made.notes.join(" ");
    finished(new ImageData(made.data, place.width, place.height));
  }

  #classesOf({ colors, smooth }) {
    const parts = [...Object.keys(colors), ...(smooth ? ["skin"] : [])];
    return parts.flatMap((part) => PARTS[part]).map((name) => this.#parts.findIndex((part) => part.name === name));
  }

  #drawPhoto(both) {
    const { photo, place } = this.shown;
    const canvas = $("photo");
    const [width, height] = [photo.width * (both ? 2 : 1), photo.height];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    $("picture").style.setProperty("--aspect", width / height);
    const context = canvas.getContext("2d");
    for (let left = 0; left < width; left += photo.width) context.putImageData(photo, left, 0);
    if (this.#result) context.putImageData(this.#result, width - photo.width + place.left, place.top);
    $("picture").classList.toggle("both", both);
  }

  #drawParts() {
    if (!this.shown) return;
    const { photo, place, labels } = this.shown;
    lay($("overlay"), place, photo);
    const colors = this.#parts.map(({ color }) => color);
    drawOverlay($("overlay"), labels, colors, this.selected, this.#made);
  }
}
