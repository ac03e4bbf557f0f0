// Hands files to the person at the page.

import { encode } from "fast-png";

import { resizeLabels } from "./resize.js";

/**
 * Each pixel the number of its class: 8-bit grayscale of the photo's own size, as a labeled folder holds it. What was
 * not parsed is background.
 *
 * @param {import("./view.js").Shown} shown
 * @param {string} name
 */
export function saveMask({ photo: { width, height }, place, labels }, name) {
  const part = resizeLabels(labels, place.width, place.height);
  const data = new Uint8Array(width * height);
  for (let y = 0; y < place.height; y++) {
    data.set(part.subarray(y * place.width, (y + 1) * place.width), (place.top + y) * width + place.left);
  }
  save(new Blob([encode({ width, height, data, channels: 1 })], { type: "image/png" }), name);
}

/** @param {HTMLCanvasElement} canvas */
export function savePicture(canvas, name) {
  canvas.toBlob((blob) => save(blob, name), "image/png");
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}
