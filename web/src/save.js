// Hands files to the person at the page.

import { encode } from "fast-png";

import { resizeLabels } from "./resize.js";

/** Each pixel the number of its class: 8-bit grayscale of the photo's own size, as a labeled folder holds it. */
export function saveMask(labels, { width, height }, name) {
  const data = resizeLabels(labels, width, height);
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
