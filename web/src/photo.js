// Reads photos as Python does: turned upright by their EXIF note, transparent parts on white, color profiles left out.

import { Problem } from "./problem.js";

// Some 200 MB in memory, and as much again for each change of color.
const MOST_PIXELS = 50e6;

/**
 * @param {Blob} file
 * @param {string} name what the messages call it.
 * @returns {Promise<ImageData>} RGBA, opaque, of the photo's own size.
 * @throws {Problem} it is no image, or too large.
 */
export async function readPhoto(file, name) {
  check(await statedSize(file), name);
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" }).catch(() => {
    throw new Problem(`${name} cannot be read as an image: choose a photo, for example a JPEG, PNG or WebP file.`);
  });
  try {
    check(bitmap, name);
    return pixels(bitmap, 0, 0, bitmap.width, bitmap.height);
  } finally {
    bitmap.close();
  }
}

function check({ width, height }, name) {
  if (width * height <= MOST_PIXELS) return;
  throw new Problem(
    `${name} has ${width} x ${height} pixels: choose a photo of at most ${MOST_PIXELS / 1e6} million pixels.`,
  );
}

/**
 * The size that a PNG or JPEG file states at its start, so that one of gigabytes is not decoded; zero for others.
 *
 * @param {Blob} file
 */
async function statedSize(file) {
  const bytes = new DataView(await file.slice(0, 2 ** 18).arrayBuffer());
  const { byteLength: length } = bytes;
  if (length >= 24 && bytes.getUint32(0) === 0x89504e47) {
    return { width: bytes.getUint32(16), height: bytes.getUint32(20) };
  }
  // JPEG is a chain of segments; those of a frame are C0 to CF but for the tables C4, C8 and CC.
  for (let at = 2; at + 9 <= length && bytes.getUint16(0) === 0xffd8 && bytes.getUint8(at) === 0xff; ) {
    const marker = bytes.getUint8(at + 1);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return { width: bytes.getUint16(at + 7), height: bytes.getUint16(at + 5) };
    }
    at += 2 + bytes.getUint16(at + 2);
  }
  return { width: 0, height: 0 };
}

/**
 * The pixels of a part of an image or video.
 *
 * @param {CanvasImageSource} source
 * @returns {ImageData} RGBA, opaque, `[height, width]`.
 */
export function pixels(source, left, top, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, left, top, width, height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

const canvasOf = (width, height) =>
  new OffscreenCanvas(width, height).getContext("2d", { alpha: false, willReadFrequently: true });

/** Reads and resizes frames of a video on canvases that stay, so that no memory is taken for each. */
export class FrameReader {
  /** @type {OffscreenCanvasRenderingContext2D | null} */
  #whole = null;
  /** @type {OffscreenCanvasRenderingContext2D | null} */
  #small = null;

  /**
   * The square in the middle of the frame that a video shows.
   *
   * Chromium without a GPU keeps what is drawn of a video until it has half a gigabyte of it, but not what is copied.
   *
   * @param {HTMLVideoElement} video
   * @returns {Promise<ImageData>} RGBA, opaque.
   */
  async read(video) {
    // Colors are stored for two pixels at a time.
    const even = (value) => 2 * Math.floor(value / 2);
    const side = even(Math.min(video.videoWidth, video.videoHeight));
    const [x, y] = [video.videoWidth, video.videoHeight].map((length) => even((length - side) / 2));
    if (this.#whole?.canvas.width !== side) this.#whole = canvasOf(side, side);
    if (self.VideoFrame) {
      const frame = new VideoFrame(video);
      try {
        const { codedWidth, codedHeight } = frame;
        if (codedWidth === video.videoWidth && codedHeight === video.videoHeight) {
          const image = new ImageData(side, side);
          await frame.copyTo(image.data, { format: "RGBA", rect: { x, y, width: side, height: side } });
          return image;
        }
      } catch (error) {
        // Older browsers copy a frame in its own format alone.
        if (error.name !== "NotSupportedError") throw error;
      } finally {
        frame.close();
      }
    }
    this.#whole.drawImage(video, x, y, side, side, 0, 0, side, side);
    return this.#whole.getImageData(0, 0, side, side);
  }

  /** A frame that was read, resized by the browser. */
  resize(image, width, height) {
    const { canvas } = this.#small ?? {};
    if (canvas?.width !== width || canvas.height !== height) this.#small = canvasOf(width, height);
    this.#whole.putImageData(image, 0, 0);
    this.#small.drawImage(this.#whole.canvas, 0, 0, width, height);
    return this.#small.getImageData(0, 0, width, height);
  }
}

/**
 * A part of a photo; the photo itself if it is all of it.
 *
 * @param {ImageData} photo
 * @param {import("./frame.js").Place} place
 * @returns {ImageData}
 */
export function cut(photo, { left, top, width, height }) {
  if (width === photo.width && height === photo.height) return photo;
  const result = new ImageData(width, height);
  for (let y = 0; y < height; y++) {
    const start = ((top + y) * photo.width + left) * 4;
    result.data.set(photo.data.subarray(start, start + 4 * width), 4 * y * width);
  }
  return result;
}

/** The first image among dragged or pasted files, else the first file, else nothing. */
export function firstPhoto(files) {
  return [...files].find((file) => file.type.startsWith("image/")) ?? files[0];
}
