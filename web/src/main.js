// The page: joins photo, network, overlay, makeup and controls.

import { cameraFrames } from "./camera.js";
import { createFrame, whole } from "./frame.js";
import { createLegend } from "./legend.js";
import { PARTS, knows } from "./makeup/masks.js";
import { choices, Closed, gpu, isRight, Model, title, verdict } from "./model.js";
import { installed } from "./offline.js";
import { cut, firstPhoto, readPhoto } from "./photo.js";
import { Problem } from "./problem.js";
import { saveMask, savePicture } from "./save.js";
import { View } from "./view.js";
import { attempt, count, notice, Speed, working } from "./words.js";

const $ = (id) => document.getElementById(id);

const state = {
  /** @type {Object<string, object>} what facts.json tells of each file. */
  models: {},
  /** @type {{ name: string, description: string, color: number[] }[]} the classes of the network that runs. */
  parts: [],
  /** @type {Model | null} */
  model: null,
  /** @type {ImageData | null} what was chosen last, and which part of it the network gets. */
  photo: null,
  /** @type {import("./frame.js").Place} */
  place: null,
  // Counts what was asked for: a photo that is read for long does not take the place of a newer one.
  latest: 0,
  // The same of what is parsed.
  parsing: 0,
  /** @type {AbortController | null} */
  camera: null,
};
const speed = new Speed($("speed"));
const view = new View();
let legend;
let frame;

// --- Network

async function fillChoices() {
  const possible = await choices(state.models);
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

// Opens a network and has it check itself. Rejects with `Closed` if another one is opened meanwhile.
async function open(choice) {
  state.model?.close();
  const model = new Model(
    { ...choice, bytes: state.models[choice.file]?.bytes },
    { progress: (share) => ($("progress").value = share), lost: (reason) => attempt(() => replaceGpu(reason)) },
  );
  state.model = model;
  speed.clear();
  $("status").textContent = "Loading the network …";
  try {
    const { threads, check } = await working("Loading the network …", () => model.opened);
    const suffix = (await gpu()) ? "" : "; no WebGPU in this browser";
    if (model !== state.model) throw new Closed();
    const where = choice.accelerator === "webgpu" ? "WebGPU" : `WebAssembly, ${count(threads, "thread")}`;
    $("status").textContent = where + suffix;
    return check;
  } catch (error) {
    if (model !== state.model) throw new Closed();
    $("status").textContent = "Not running";
    throw error;
  }
}

// The network that is open is to be used.
async function use({ file }) {
  showClasses(state.models[file].classes);
  // While the camera runs, its next frame comes anyway.
  if (state.photo && !state.camera) await parse(state.photo, state.place);
}

// What the person has chosen; only wrong labels are refused.
async function openChosen() {
  const choice = JSON.parse($("choice").value);
  notice("network", "");
  const check = await open(choice);
  const fault = verdict(choice, check);
  if (!isRight(check)) return openBest([`${title(choice)} ${fault}`], (other) => title(other) !== title(choice));
  notice("network", fault ? `${title(choice)} ${fault}: the CPU may be faster.` : "");
  await use(choice);
}

// The best that is there and passes its self-check; a GPU with one fault is not tried again. `faults`: why one is
// needed.
async function openBest(faults = [], allowed = () => true) {
  const there = [...$("choice").options].filter((option) => !option.classList.contains("missing"));
  let gpuFails = false;
  for (const option of there) {
    const choice = JSON.parse(option.value);
    if (!allowed(choice) || (gpuFails && choice.accelerator === "webgpu")) continue;
    option.selected = true;
    try {
      const fault = verdict(choice, await open(choice));
      if (!fault) {
        notice("network", faults.length ? `${faults.join("; ")}. Used instead: ${title(choice)}.` : "");
        return await use(choice);
      }
      faults.push(`${title(choice)} ${fault}`);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      faults.push(error.message.replace(/\.$/, ""));
    }
    gpuFails ||= choice.accelerator === "webgpu";
  }
  state.model?.close();
  state.model = null;
  $("status").textContent = "Not running";
  throw new Problem(`No network can be used here: ${faults.join("; ") || "there is no file; make one: make export"}.`);
}

function replaceGpu(reason) {
  return openBest([`The GPU was lost (${reason})`], ({ accelerator }) => accelerator !== "webgpu");
}

// Two networks may have classes of their own each.
function showClasses(parts) {
  if (JSON.stringify(parts) === JSON.stringify(state.parts)) return;
  state.parts = parts;
  $("save-mask").disabled = $("save-picture").disabled = true;
  legend.fill(parts);
  view.setClasses(parts);
  const names = parts.map(({ name }) => name);
  for (const part of Object.keys(PARTS)) $(`${part}-row`).hidden = !knows(names, part);
  $("makeup").hidden = !Object.keys(PARTS).some((part) => knows(names, part));
}

// --- Photo

/**
 * @param {ImageData} photo
 * @param {import("./frame.js").Place} place the part of it that the network gets.
 * @param {import("./camera.js").Frame} [frame] the photo's, of the camera.
 */
async function parse(photo, place, frame) {
  const turn = ++state.parsing;
  Object.assign(state, { photo, place });
  const { model } = state;
  if (!model) return;
  const pixels = cut(photo, place);
  let labels;
  try {
    const run = () => model.parse(pixels, frame?.resized);
    labels = await (frame ? run() : working("Parsing the photo …", run));
  } catch (error) {
    // Another network has been chosen; it parses the photo as soon as it is open.
    if (error instanceof Closed || model !== state.model) return;
    throw error;
  }
  // Another photo has been chosen meanwhile.
  if (turn !== state.parsing || model !== state.model) return;
  legend.show(view.show({ photo, pixels, place, labels }));
  await draw();
  $("save-mask").disabled = $("save-picture").disabled = false;
  speed.show(labels.milliseconds, frame?.times);
}

function draw() {
  return view.draw(lookOf(), $("before-after").checked, state.camera !== null);
}

/** @returns {import("./makeup/makeup.js").Look | null} what to make up, if anything. */
function lookOf() {
  const chosen = Object.keys(PARTS).filter((part) => part !== "skin" && !$(`${part}-row`).hidden && $(part).checked);
  const colors = Object.fromEntries(chosen.map((part) => [part, $(`${part}-color`).value]));
  const smooth = $("skin-row").hidden ? 0 : $("smooth").value / 100;
  return chosen.length || smooth ? { colors, smooth, strength: $("strength").value / 100 } : null;
}

async function showFile(file, name) {
  stopCamera();
  const turn = ++state.latest;
  const photo = await working(`Reading ${name} …`, () => readPhoto(file, name));
  if (turn !== state.latest) return;
  view.setSource(name.replace(/\.[^.]*$/, "") || "photo", false);
  begin();
  await parse(photo, whole(photo));
}

// Another photo: what was chosen in the one before is not meant for it.
function begin() {
  legend.select(null);
  frame.hide();
  $("crop").setAttribute("aria-pressed", "false");
  $("crop").disabled = state.camera !== null;
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

function toggleCrop() {
  const { photo } = state;
  if (!photo) return;
  const pressed = $("crop").getAttribute("aria-pressed") !== "true";
  $("crop").setAttribute("aria-pressed", pressed);
  if (!pressed) frame.hide();
  return parse(photo, pressed ? frame.show(photo) : whole(photo));
}

async function runCamera() {
  const camera = new AbortController();
  state.camera = camera;
  state.latest += 1;
  $("camera").setAttribute("aria-pressed", "true");
  begin();
  speed.clear();
  try {
    for await (const frame of cameraFrames(camera.signal)) {
      if (camera.signal.aborted) break;
      view.setSource("camera", true);
      await parse(frame.photo, whole(frame.photo), frame);
    }
  } finally {
    if (state.camera === camera) stopCamera();
  }
}

function stopCamera() {
  state.camera?.abort();
  state.camera = null;
  $("camera").setAttribute("aria-pressed", "false");
  $("crop").disabled = false;
}

// --- Controls

// Draws once for many changes of a slider.
let asked = false;
function drawSoon() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    attempt(draw);
  });
}

// A slider with its value beside it.
function connectSlider(id, changed) {
  const show = () => {
    $(`${id}-value`).textContent = `${$(id).value} %`;
    changed($(id).value / 100);
  };
  $(id).addEventListener("input", show);
  show();
}

function connect() {
  legend = createLegend($("parts"), (selected) => view.select(selected));
  frame = createFrame($("frame"), (place) => attempt(() => parse(state.photo, place)));
  $("choice").addEventListener("change", () => attempt(openChosen));
  $("choose").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", ({ target }) => {
    const files = [...target.files];
    // The same file can be chosen again.
    target.value = "";
    if (files.length) attempt(() => showFirst(files));
  });
  $("example").addEventListener("click", () => attempt(showExample));
  $("camera").addEventListener("click", () => (state.camera ? stopCamera() : attempt(runCamera)));
  $("crop").addEventListener("click", () => attempt(toggleCrop));
  connectSlider("opacity", (share) => ($("overlay").style.opacity = share));
  connectSlider("smooth", drawSoon);
  connectSlider("strength", drawSoon);
  $("before-after").addEventListener("change", drawSoon);
  for (const part of Object.keys(PARTS).filter((part) => part !== "skin")) {
    $(part).addEventListener("change", drawSoon);
    $(`${part}-color`).addEventListener("input", () => {
      $(part).checked = true;
      drawSoon();
    });
  }
  $("save-mask").addEventListener("click", () => saveMask(view.shown, `${view.name}_mask.png`));
  $("save-picture").addEventListener("click", () => savePicture($("photo"), `${view.name}_picture.png`));
  $("overlay").addEventListener("click", (event) => {
    const part = view.partAt(event);
    if (part !== undefined) legend.select(part === view.selected ? null : part);
  });
  acceptDrops();
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
  if (!crossOriginIsolated) {
    notice("isolation", "One thread only: the server does not send the headers of headers.json with every file.");
  }
  await fillChoices();
  await installed();
  await openBest();
  if (!state.latest) await showExample();
});
