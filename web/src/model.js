// The network, running in a worker.

import { Problem } from "./problem.js";

/**
 * @typedef {object} Choice
 * @property {string} file
 * @property {"webgpu" | "wasm"} accelerator
 *
 * @typedef {object} Labels
 * @property {number} width
 * @property {number} height
 * @property {Uint8Array} data class numbers, `[height, width]`.
 * @property {number} milliseconds from the resized photo to the labels.
 */

const WHERE = { webgpu: "GPU", wasm: "CPU" };
// The files that exports write, the likely fastest first.
const FILES = {
  webgpu: ["float16", "float32"],
  wasm: ["int8", "fast_int8", "tiny_int8", "float32", "float16"],
};
// Labels of the example that must be those of Python: a GPU that computes in half precision has 99.5 % of them.
const LEAST_AGREEMENT = 0.97;
// A GPU that takes longer is of no use: the CPU of a phone is faster.
const MOST_MILLISECONDS = 500;
// For loading, compiling and two runs on a GPU.
const PATIENCE = 60_000;

/**
 * What can run here, the best first: networks of one's own before those that come with the package.
 *
 * @param {Object<string, { own: boolean }>} models the files that are there.
 * @returns {Promise<Choice[]>} with those that could be made.
 */
export async function choices(models) {
  const adapter = await gpu();
  // A GPU that is computed on the CPU is the slowest of all.
  const slow = (adapter?.info ?? adapter)?.isFallbackAdapter;
  const order = !adapter ? ["wasm"] : slow ? ["wasm", "webgpu"] : ["webgpu", "wasm"];
  const known = Object.values(FILES).flat().map(nameOf);
  const others = Object.keys(models).filter((file) => !known.includes(file));
  const found = order.flatMap((accelerator) =>
    [...FILES[accelerator].map(nameOf), ...others].map((file) => ({ file, accelerator })),
  );
  return [...found.filter(({ file }) => models[file]?.own), ...found.filter(({ file }) => !models[file]?.own)];
}

const nameOf = (variant) => `face_parsing_${variant}.tflite`;

/** @returns {Promise<GPUAdapter | null>} */
export async function gpu() {
  return (await navigator.gpu?.requestAdapter().catch(() => null)) ?? null;
}

/** @param {Choice} choice */
export function title({ file, accelerator }) {
  return `${WHERE[accelerator]}, ${file.replace(/^face_parsing_|\.tflite$/g, "").replace("_", ", ")}`;
}

/** What is wrong with a network by its self-check, as the end of a sentence; null if nothing is. */
export function verdict({ accelerator }, { agreement, milliseconds }) {
  if (agreement < LEAST_AGREEMENT) return `gets ${Math.floor(100 * agreement)} % of the labels of the example right`;
  const slow = accelerator === "webgpu" && milliseconds > MOST_MILLISECONDS;
  return slow ? `takes ${Math.round(milliseconds)} ms a photo` : null;
}

/** Whether its labels can be trusted, fast or not. */
export const isRight = ({ agreement }) => agreement >= LEAST_AGREEMENT;

/** The network was closed before it answered. */
export class Closed extends Error {}

export class Model {
  #worker = new Worker("worker.js");
  #closed = false;
  // Who waits for the worker's answers, in the order of the questions.
  #waiting = [];
  // Pixels of a frame of the camera: the same memory goes to the worker and comes back.
  #frame = new ArrayBuffer(0);

  /**
   * @param {Choice & { bytes: number }} choice
   * @param {{ progress: (share: number) => void, lost: (reason: string) => void }} events
   */
  constructor(choice, events) {
    this.choice = choice;
    this.#worker.onmessage = ({ data }) => {
      if (data.progress !== undefined) events.progress(data.progress);
      else if (data.lost !== undefined) events.lost(data.lost);
      else this.#answer(data);
    };
    this.#worker.onerror = ({ message }) => this.#answer({ problem: `The network cannot run here: ${message}` });
    /**
     * Resolves to `{ size: [height, width], threads, check: { agreement: number, milliseconds: number } }`, or rejects
     * with a `Problem` or `Closed`.
     */
    this.opened = this.#ask(choice);
    if (choice.accelerator === "webgpu") {
      const late = setTimeout(() => this.#answer({ problem: `${title(choice)} does not answer.` }), PATIENCE);
      this.opened.finally(() => clearTimeout(late)).catch(() => {});
    }
  }

  /**
   * @param {ImageData} photo of any size, resized as Python does it.
   * @param {(width: number, height: number) => ImageData} [resized] gives it in another size, for less time.
   * @returns {Promise<Labels>} of the network's size.
   * @throws {Problem}
   * @throws {Closed}
   */
  async parse({ width, height, data }, resized) {
    const { size } = await this.opened;
    if (!resized) return (await this.#ask({ photo: { width, height, data } })).labels;
    const buffer = this.#frame.byteLength ? this.#frame : new ArrayBuffer(size[0] * size[1] * 3);
    fill(new Uint8Array(buffer), resized(size[1], size[0]).data);
    const { labels, frame } = await this.#ask({ frame: buffer }, [buffer]);
    this.#frame = frame;
    return labels;
  }

  close() {
    this.#closed = true;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.splice(0)) reject(new Closed());
  }

  #ask(message, transfer = []) {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Closed());
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage(message, transfer);
    });
  }

  #answer(answer) {
    const asked = this.#waiting.shift();
    if (answer.problem) asked?.reject(new Problem(answer.problem));
    else asked?.resolve(answer);
  }
}

// RGBA -> RGB.
function fill(rgb, rgba) {
  for (let from = 0, to = 0; to < rgb.length; from += 4, to += 3) {
    rgb[to] = rgba[from];
    rgb[to + 1] = rgba[from + 1];
    rgb[to + 2] = rgba[from + 2];
  }
}
