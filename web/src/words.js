// What the page says: problems, notices, signs of work, and how fast it is.

import { Closed } from "./model.js";
import { Problem } from "./problem.js";

// The speed shown is the median of so many frames.
const FRAMES = 15;

const $ = (id) => document.getElementById(id);

/** Runs what a person has started, and says in one line what went wrong. */
export async function attempt(action) {
  $("problem").hidden = true;
  try {
    await action();
  } catch (error) {
    if (error instanceof Closed) return;
    $("problem").textContent = error instanceof Problem ? error.message : `This went wrong: ${error.message ?? error}`;
    $("problem").hidden = false;
    if (!(error instanceof Problem)) console.error(error);
  }
}

const notices = new Map();

/** Says something that is no problem, until it is taken back by an empty text for the same subject. */
export function notice(subject, text) {
  notices.set(subject, text);
  const lines = [...notices.values()].filter(Boolean);
  $("notice").textContent = lines.join("\n");
  $("notice").hidden = !lines.length;
}

const jobs = [];

/** Shows that something is done, for as long as it takes. The progress bar tells no share until it is given one. */
export async function working(text, action) {
  const job = { text };
  jobs.push(job);
  showJobs();
  try {
    return await action();
  } finally {
    jobs.splice(jobs.indexOf(job), 1);
    showJobs();
  }
}

function showJobs() {
  $("working").hidden = !jobs.length;
  $("picture").setAttribute("aria-busy", jobs.length > 0);
  $("progress").removeAttribute("value");
  if (jobs.length) $("work").textContent = jobs.at(-1).text;
}

export function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

/** How fast the network is, and with a camera the whole page. */
export class Speed {
  #element;
  #times = [];
  #frames = [];

  constructor(element) {
    this.#element = element;
  }

  clear() {
    this.#times = [];
    this.#frames = [];
    this.#element.textContent = "";
  }

  /**
   * @param {number} milliseconds of the network.
   * @param {{ came: number, taken: number }} [times] those of the frame that is shown now, see `cameraFrames`.
   */
  show(milliseconds, times) {
    const now = performance.now();
    const latency = now - (times?.came ?? now);
    this.#times = [...this.#times, milliseconds].slice(-FRAMES);
    this.#frames = times === undefined ? [] : [...this.#frames, { now, latency }].slice(-FRAMES);
    const network = median(this.#times);
    this.#element.textContent = `${network.toFixed(network < 10 ? 1 : 0)} ms per frame`;
    if (this.#frames.length > 1) {
      const rate = (1000 * (this.#frames.length - 1)) / (now - this.#frames[0].now);
      const delay = median(this.#frames.map(({ latency }) => latency));
      this.#element.textContent += `, ${rate.toFixed(1)} frames a second, ${delay.toFixed(0)} ms behind the camera`;
    }
    // For measurements.
    const frames = Number(this.#element.dataset.frames ?? 0) + 1;
    Object.assign(this.#element.dataset, { milliseconds, latency, page: now - (times?.taken ?? now), frames });
  }
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}
