// Runs the network beside the page, which stays free to answer clicks meanwhile.
//
// First message: { file, accelerator }; answer: { size: [height, width], threads }.
// Each further message: { width, height, data } of a photo, RGBA; answer: { width, height, data, milliseconds }, the
// labels. Instead of either comes { problem } if it fails.

import { loadAndCompile, loadLiteRt, supportsFeature, Tensor } from "@litertjs/core";

import { resizePhoto } from "./resize.js";
import { alignedLabels } from "./scores.js";

const WASM = new URL("wasm/", self.location).href;
// Names in the signature of the files. The tensors have others, and the outputs may come in any order.
const INPUT = "image";
const OUTPUT = "labels";
const SCORES = "scores";
const MAKE = "make export EXPORT_FLAGS=--precisions=float32,float16,int8";

// LiteRT calls everything that it says an error.
self.Module = {
  locateFile: (name) => WASM + name,
  mainScriptUrlOrBlob: `${WASM}litert_wasm_threaded_internal.js`,
  printErr: (line) => console.debug(line),
};

let model;

async function open({ file, accelerator }) {
  const response = await fetch(`models/${file}`);
  if (!response.ok) throw new Error(`${file} is missing: make it with "${MAKE}", then "make web".`);
  const content = new Uint8Array(await response.arrayBuffer());
  const threads = accelerator === "wasm" && self.crossOriginIsolated && (await supportsFeature("threads"));
  const jspi = accelerator === "webgpu" && (await supportsFeature("jspi"));
  await loadLiteRt(WASM, { threads, jspi });
  try {
    model = await loadAndCompile(content, { accelerator });
  } catch (error) {
    throw new Error(`${file} cannot be used: ${error.message ?? error}; make it again with "${MAKE}".`);
  }
  const takes = model.getInputDetails().map(text);
  const gives = model.getOutputDetails().map(text);
  const [, height, width] = model.getInputDetails()[0].shape;
  const fits = takes.length === 1 && takes[0] === `${INPUT} uint8 [1,${height},${width},3]`;
  const labels = gives.includes(`${OUTPUT} uint8 [1,${height},${width}]`);
  const scores = gives.length === 1 && gives[0].startsWith(`${SCORES} float32 [1,`);
  if (!fits || !(labels || scores)) {
    throw new Error(
      `${file} takes ${takes.join(", ")} and gives ${gives.join(", ")}, not a uint8 photo and ${OUTPUT}: ` +
        `make it with "${MAKE}".`,
    );
  }
  if (model.options.accelerator !== accelerator || (accelerator === "webgpu" && !model.isFullyAccelerated)) {
    throw new Error(`${file} does not run wholly on this GPU: choose a file that runs on the CPU.`);
  }
  return { size: [height, width], threads: model.options.cpuOptions.numThreads };
}

// The labels that a file returns, or those of its scores.
async function read(outputs, height, width) {
  if (OUTPUT in outputs) return (await outputs[OUTPUT].data()).slice();
  const [{ shape }] = model.getOutputDetails();
  return alignedLabels(await outputs[SCORES].data(), [...shape].slice(1), height, width);
}

// What the signature says of an input or output.
function text({ name, dtype, shape }) {
  return `${name} ${dtype} [${[...shape]}]`;
}

async function parse(photo) {
  const [{ shape }] = model.getInputDetails();
  const [, height, width] = shape;
  const resized = resizePhoto(photo, width, height);
  const start = performance.now();
  const input = new Tensor(resized, shape);
  const outputs = await model.run({ [INPUT]: input });
  const data = await read(outputs, height, width);
  const milliseconds = performance.now() - start;
  input.delete();
  for (const output of Object.values(outputs)) output.delete();
  return { width, height, data, milliseconds };
}

let before = Promise.resolve();

self.onmessage = ({ data: message }) => {
  before = before
    .then(() => (message.file ? open(message) : parse(message)))
    .then((answer) => self.postMessage(answer))
    .catch((error) => self.postMessage({ problem: error.message ?? String(error) }));
};
