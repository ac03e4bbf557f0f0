// Asks the worker that makes up photos.

import { Problem } from "../problem.js";

/**
 * @typedef {object} Request
 * @property {object} key the same object for the same face.
 * @property {{ photo: ImageData, labels: import("../model.js").Labels, names: string[] }} face
 * @property {import("./makeup.js").Look} look
 */

/** One request at a time; of those that come meanwhile the newest alone. */
export class Makeup {
  #worker = null;
  #face = null;
  #busy = false;
  /** @type {{ request: Request, resolve: Function, reject: Function } | null} */
  #next = null;

  /**
   * @param {Request} request
   * @returns {Promise<{ data: Uint8ClampedArray, notes: string[] } | null>} null if a newer request took its place.
   * @throws {Problem}
   */
  apply(request) {
    return new Promise((resolve, reject) => {
      this.#next?.resolve(null);
      this.#next = { request, resolve, reject };
      this.#start();
    });
  }

  #start() {
    if (this.#busy || !this.#next) return;
    const { request, resolve, reject } = this.#next;
    this.#next = null;
    this.#busy = true;
    this.#worker ??= new Worker("makeup_worker.js");
    const done = (settle, value) => {
      this.#busy = false;
      settle(value);
      this.#start();
    };
    const failed = (reason) => {
      this.#worker.terminate();
      this.#worker = this.#face = null;
      done(reject, new Problem(`The photo cannot be made up: ${reason}; choose a smaller one.`));
    };
    this.#worker.onmessage = ({ data }) => (data.problem ? failed(data.problem) : done(resolve, data));
    this.#worker.onerror = ({ message }) => failed(message);
    const { key, face, look } = request;
    const message = { look };
    if (key !== this.#face) {
      const { width, height, data } = face.photo;
      message.face = { ...face, photo: { width, height, data } };
    }
    this.#face = key;
    this.#worker.postMessage(message);
  }
}
