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

const WHERE = { webgpu: "GPU (WebGPU)", wasm: "CPU (WebAssembly)" };
const FILES = {
  webgpu: ["face_parsing_float16.tflite", "face_parsing_float32.tflite"],
  wasm: ["face_parsing_int8.tflite", "face_parsing_fast_int8.tflite", "face_parsing_float32.tflite", "face_parsing_float16.tflite"],
};

/**
 * What can run here, the likely fastest first.
 *
 * @returns {Promise<Choice[]>}
 */
export async function choices() {
  const adapter = await navigator.gpu?.requestAdapter();
  // A GPU that is computed on the CPU is the slowest of all.
  const slow = (adapter?.info ?? adapter)?.isFallbackAdapter;
  const order = !adapter ? ["wasm"] : slow ? ["wasm", "webgpu"] : ["webgpu", "wasm"];
  return order.flatMap((accelerator) => FILES[accelerator].map((file) => ({ file, accelerator })));
}

/** @param {Choice} choice */
export function title({ file, accelerator }) {
  return `${WHERE[accelerator]}, ${file.replace(/^face_parsing_|\.tflite$/g, "").replace("_", ", ")}`;
}

/** The network was closed before it answered. */
export class Closed extends Error {}

export class Model {
  #worker = new Worker("worker.js");
  #closed = false;
  // Who waits for the worker's answers, in the order of the questions.
  #waiting = [];

  /** @param {Choice} choice */
  constructor(choice) {
    this.choice = choice;
    this.#worker.onmessage = ({ data }) => this.#answer(data);
    this.#worker.onerror = ({ message }) => this.#answer({ problem: `The network cannot run here: ${message}` });
    /** Resolves to `{ size: [height, width], threads }`, or rejects with a `Problem` or `Closed`. */
    this.opened = this.#ask(choice);
  }

  /**
   * @param {ImageData} photo of any size.
   * @returns {Promise<Labels>} of the network's size.
   * @throws {Problem}
   * @throws {Closed}
   */
  async parse({ width, height, data }) {
    await this.opened;
    return this.#ask({ width, height, data });
  }

  close() {
    this.#closed = true;
    this.#worker.terminate();
    for (const { reject } of this.#waiting.splice(0)) reject(new Closed());
  }

  #ask(message) {
    return new Promise((resolve, reject) => {
      if (this.#closed) return reject(new Closed());
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage(message);
    });
  }

  #answer(answer) {
    const { resolve, reject } = this.#waiting.shift();
    if (answer.problem) reject(new Problem(answer.problem));
    else resolve(answer);
  }
}
