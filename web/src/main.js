// The page: joins photo, network, overlay and controls.

import { cameraFrames } from "./camera.js";
import { createLegend } from "./legend.js";
import { choices, Model, title } from "./model.js";
import { drawOverlay, shares } from "./overlay.js";
import { firstPhoto, readPhoto } from "./photo.js";
import { Problem } from "./problem.js";
import { recolor } from "./recolor.js";
import { saveMask, savePicture } from "./save.js";

// The speed shown is the median of so many frames.
const FRAMES = 15;
const PAINTS = { hair: ["hair"], lips: ["u_lip", "l_lip"] };

const $ = (id) => document.getElementById(id);

const state = {
  /** @type {Object<string, { name: string, description: string, color: number[] }[]>} the classes of each file. */
  models: {},
  /** Those of the network that runs. */
  parts: [],
  /** @type {Model | null} */
  model: null,
  /** @type {ImageData | null} what was chosen last; `shown` has labels already. */
  photo: null,
  /** @type {{ photo: ImageData, labels: import("./model.js").Labels } | null} */
  shown: null,
  name: "photo",
  // Whether it is the camera's, and so shown as in a mirror.
  mirrored: false,
  // Counts what was asked for: a photo that is read for long does not take the place of a newer one.
  latest: 0,
  selected: null,
  times: [],
  /** @type {AbortController | null} */
  camera: null,
};

// Runs what a person has started, and says in one line what went wrong.
async function attempt(action) {
  $("problem").hidden = true;
  try {
    await action();
  } catch (error) {
    $("problem").textContent = error instanceof Problem ? error.message : `This went wrong: ${error.message ?? error}`;
    $("problem").hidden = false;
    if (!(error instanceof Problem)) console.error(error);
  }
}

// --- Network

async function fillChoices() {
  const possible = await choices();
  $("choice").replaceChildren(
    ...possible.map((choice) => {
      const missing = !(choice.file in state.models);
      const option = new Option(title(choice) + (missing ? " (missing)" : ""), JSON.stringify(choice));
      // It can be chosen: then the page says how to make the file.
      option.classList.toggle("missing", missing);
      return option;
    }),
  );
}

// Opens what is chosen, and parses the photo with it.
async function openModel() {
  const choice = JSON.parse($("choice").value);
  state.model?.close();
  const model = new Model(choice);
  state.model = model;
  state.times = [];
  $("speed").textContent = "";
  $("status").textContent = "Loading the network …";
  try {
    const { threads } = await model.opened;
    if (model !== state.model) return;
    showClasses(state.models[choice.file]);
    $("status").textContent = choice.accelerator === "webgpu" ? "WebGPU" : `WebAssembly, ${count(threads, "thread")}`;
  } catch (error) {
    if (model !== state.model) return;
    $("status").textContent = "Not running";
    throw error;
  }
  if (state.photo) await parse(state.photo);
}

// Two networks may have classes of their own each.
function showClasses(parts) {
  if (JSON.stringify(parts) === JSON.stringify(state.parts)) return;
  state.parts = parts;
  // Labels of the network before have another meaning.
  state.shown = null;
  state.selected = null;
  legend.fill(parts);
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

async function parse(photo) {
  state.photo = photo;
  const { model } = state;
  let labels;
  try {
    labels = await model?.parse(photo);
  } catch (error) {
    if (model === state.model) throw error;
  }
  // Another network has been chosen; it parses the photo as soon as it is open.
  if (!labels || model !== state.model) return;
  showSpeed(labels.milliseconds);
  // Another photo has been chosen meanwhile.
  if (photo !== state.photo) return;
  state.shown = { photo, labels };
  draw();
}

function showSpeed(milliseconds) {
  state.times = [...state.times, milliseconds].slice(-FRAMES);
  const sorted = state.times.toSorted((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  $("speed").textContent = `${median.toFixed(median < 10 ? 1 : 0)} ms per frame`;
  // For measurements.
  Object.assign($("speed").dataset, { milliseconds, frames: Number($("speed").dataset.frames ?? 0) + 1 });
}

// The best that is there, or the next one where a GPU cannot run it.
async function openBest() {
  const options = [...$("choice").options];
  const there = options.filter((option) => !option.classList.contains("missing"));
  for (const option of there.slice(0, -1)) {
    option.selected = true;
    try {
      return await openModel();
    } catch (problem) {
      console.warn(problem.message);
    }
  }
  (there.at(-1) ?? options[0]).selected = true;
  await openModel();
}

// --- Photo

async function showFile(file, name) {
  stopCamera();
  const turn = ++state.latest;
  const photo = await readPhoto(file, name);
  if (turn !== state.latest) return;
  state.mirrored = false;
  state.name = name.replace(/\.[^.]*$/, "") || "photo";
  await parse(photo);
}

async function showExample() {
  const response = await fetch("example.png");
  await showFile(await response.blob(), "example.png");
}

async function showFirst(files) {
  const file = firstPhoto(files);
  if (!file) throw new Problem("That holds no photo: choose an image file.");
  await showFile(file, file.name);
}

async function runCamera() {
  const camera = new AbortController();
  state.camera = camera;
  state.latest += 1;
  $("camera").setAttribute("aria-pressed", "true");
  try {
    for await (const photo of cameraFrames(camera.signal)) {
      if (camera.signal.aborted) break;
      state.name = "camera";
      state.mirrored = true;
      await parse(photo);
    }
  } finally {
    if (state.camera === camera) stopCamera();
  }
}

function stopCamera() {
  state.camera?.abort();
  state.camera = null;
  $("camera").setAttribute("aria-pressed", "false");
}

// --- Drawing

function draw() {
  if (!state.shown) return;
  const { photo, labels } = state.shown;
  document.querySelector(".picture").style.setProperty("--aspect", photo.width / photo.height);
  document.querySelector(".picture").classList.toggle("mirrored", state.mirrored);
  drawPhoto();
  drawParts();
  const found = shares(labels, state.parts.length);
  legend.show(found);
  const names = state.parts.filter((_, part) => part > 0 && found[part] > 0).map(({ description }) => description);
  $("photo").setAttribute("aria-label", `Photo with ${names.length ? names.join(", ") : "background alone"}`);
  $("save-mask").disabled = $("save-picture").disabled = false;
}

function drawPhoto() {
  if (!state.shown) return;
  const { photo, labels } = state.shown;
  const paints = Object.entries(PAINTS)
    .filter(([id]) => $(id).checked)
    .map(([id, names]) => ({
      parts: names.map((name) => state.parts.findIndex((part) => part.name === name)).filter((part) => part >= 0),
      color: $(`${id}-color`).value,
    }));
  const image = recolor(photo, labels, paints);
  Object.assign($("photo"), { width: photo.width, height: photo.height });
  $("photo").getContext("2d").putImageData(image, 0, 0);
}

function drawParts() {
  if (!state.shown) return;
  const colors = state.parts.map(({ color }) => color);
  drawOverlay($("overlay"), state.shown.labels, colors, state.selected);
}

function showOpacity() {
  const value = $("opacity").value;
  $("overlay").style.opacity = value / 100;
  $("opacity-value").textContent = `${value} %`;
}

// Draws once for many changes of a slider.
let asked = false;
function drawPhotoSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    drawPhoto();
  });
}

// --- Controls

let legend;

function connect() {
  legend = createLegend($("parts"), (selected) => {
    state.selected = selected;
    drawParts();
  });
  $("choice").addEventListener("change", () => attempt(openModel));
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", ({ target }) => {
    const files = [...target.files];
    // The same file can be chosen again.
    target.value = "";
    if (files.length) attempt(() => showFirst(files));
  });
  $("example").addEventListener("click", () => attempt(showExample));
  $("camera").addEventListener("click", () => (state.camera ? stopCamera() : attempt(runCamera)));
  $("opacity").addEventListener("input", showOpacity);
  for (const id of Object.keys(PAINTS)) {
    $(id).addEventListener("change", drawPhotoSoon);
    $(`${id}-color`).addEventListener("input", () => {
      $(id).checked = true;
      drawPhotoSoon();
    });
  }
  $("save-mask").addEventListener("click", () => {
    saveMask(state.shown.labels, state.shown.photo, `${state.name}_mask.png`);
  });
  $("save-picture").addEventListener("click", () => savePicture($("photo"), `${state.name}_picture.png`));
  $("overlay").addEventListener("click", selectUnder);
  acceptDrops();
  showOpacity();
}

function selectUnder({ offsetX, offsetY, target }) {
  if (!state.shown) return;
  const { labels } = state.shown;
  // The offsets are those of the canvas itself, mirrored or not.
  const x = Math.floor((offsetX / target.clientWidth) * labels.width);
  const y = Math.floor((offsetY / target.clientHeight) * labels.height);
  const part = labels.data[y * labels.width + x];
  legend.select(part === state.selected ? null : part);
}

function acceptDrops() {
  addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) document.body.classList.remove("dragging");
  });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    attempt(() => showFirst(event.dataTransfer.files));
  });
  addEventListener("paste", ({ clipboardData }) => {
    attempt(() => showFirst(clipboardData.files));
  });
}

attempt(async () => {
  state.models = (await (await fetch("facts.json")).json()).models;
  connect();
  await fillChoices();
  await openBest();
  if (!state.latest) await showExample();
});
