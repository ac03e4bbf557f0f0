// The camera, frame by frame.

import { FrameReader } from "./photo.js";
import { Problem } from "./problem.js";

const PROBLEMS = {
  NotAllowedError: "The camera was refused: allow it for this page beside its address, or choose a photo.",
  NotFoundError: "No camera was found: connect one, or choose a photo.",
  NotReadableError: "The camera is in use: close the other program that shows it, or choose a photo.",
};

/**
 * @typedef {object} Frame
 * @property {ImageData} photo RGBA, opaque.
 * @property {(width: number, height: number) => ImageData} resized the same in another size.
 * @property {{ came: number, taken: number }} times when it came from the camera, and when the page took it, by
 *   `performance.now()`.
 */

/**
 * The newest frame each time that one is taken, cut to the square in the middle; frames that come meanwhile are left
 * out.
 *
 * @param {AbortSignal} signal ends it, and switches the camera off.
 * @returns {AsyncGenerator<Frame>}
 * @throws {Problem} there is no camera, or it is refused.
 */
export async function* cameraFrames(signal) {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  const stream = await openCamera();
  const stop = () => {
    for (const track of stream.getTracks()) track.stop();
  };
  // At once, whatever the last frame still waits for; and no frame comes after the last one.
  const ended = new Promise((resolve) => {
    signal.addEventListener("abort", resolve);
    for (const track of stream.getTracks()) track.addEventListener("ended", resolve);
  }).then(stop);
  try {
    if (signal.aborted) return;
    video.srcObject = stream;
    await video.play();
    const reader = new FrameReader();
    // When the frame that the video shows came, until it is taken.
    let fresh = null;
    let arrived = () => {};
    const watch = (now) => {
      fresh = now;
      arrived();
      if (stream.active) video.requestVideoFrameCallback(watch);
    };
    video.requestVideoFrameCallback(watch);
    while (stream.active) {
      if (fresh === null) await Promise.race([ended, new Promise((resolve) => (arrived = resolve))]);
      if (signal.aborted || !stream.active) return;
      const times = { came: fresh, taken: performance.now() };
      fresh = null;
      const photo = await reader.read(video);
      yield { photo, resized: (width, height) => reader.resize(photo, width, height), times };
    }
  } finally {
    stop();
    video.srcObject = null;
  }
}

async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Problem("The camera needs a page of this machine or of https: open it as localhost.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: "user", width: { ideal: 640 } } });
  } catch (error) {
    throw new Problem(PROBLEMS[error.name] ?? `The camera cannot be opened: ${error.message}`);
  }
}
