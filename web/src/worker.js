// Runs the network beside the page, which stays free to answer clicks meanwhile.
//
// First message: { file, bytes, accelerator }; answer: { size: [height, width], threads, check: { agreement,
// milliseconds } }, see `check`. Each further message: { photo }, { width, height, data } RGBA of any size, or
// { frame }, the buffer of RGB pixels of the network's size, which comes back in the answer: { labels, frame }, where
// labels are { width, height, data, milliseconds }. Instead of either comes { problem } if it fails. In between come { progress },
// 0..1 of the file, and { lost }, why the GPU is gone.

import { getWebGpuDevice, loadAndCompile, loadLiteRt, supportsFeature, Tensor } from "@litertjs/core";

import { pixels } from "./photo.js";
import { resizePhoto } from "./resize.js";
import { alignedLabels } from "./scores.js";

const WASM = new URL("wasm/", self.location).href;
// Names in the signature of the files. The tensors have others, and the outputs may come in any order.
const INPUT = "image";
const OUTPUT = "labels";
const SCORES = "scores";
const MAKE = "make export EXPORT_FLAGS=--precisions=float32,float16,int8";
// Rows and columns from one stored label to the next, see web/facts.py.
const STEP = 4;

// LiteRT calls everything that it says an error.
self.Module = {
  locateFile: (name) => WASM + name,
  mainScriptUrlOrBlob: `${WASM}litert_wasm_threaded_internal.js`,
  printErr: (line) => console.debug(line),
};

let model;

async function open({ file, bytes, accelerator }) {
  const content = await download(file, bytes);
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
  if (accelerator === "webgpu") {
    getWebGpuDevice()?.lost.then(({ message }) => self.postMessage({ lost: message || "its driver stopped" }));
  }
  return { size: [height, width], threads: model.options.cpuOptions.numThreads, check: await check(file) };
}

// The labels that a file returns, or those of its scores.
async function read(outputs, height, width) {
  if (OUTPUT in outputs) return (await outputs[OUTPUT].data()).slice();
  const [{ shape }] = model.getOutputDetails();
  return alignedLabels(await outputs[SCORES].data(), [...shape].slice(1), height, width);
}

async function download(file, bytes) {
  const response = await fetch(`models/${file}`);
  if (!response.ok) throw new Error(`${file} is missing: make it with "${MAKE}", then "make web".`);
  const chunks = [];
  let received = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    received += value.length;
    self.postMessage({ progress: Math.min(received / bytes, 1) });
  }
  return new Uint8Array(await new Blob(chunks).arrayBuffer());
}

// What a signature says of an input or output.
function text({ name, dtype, shape }) {
  return `${name} ${dtype} [${[...shape]}]`;
}

// Parses the example twice, since there are GPUs on which the first run alone is right: the share of the labels that
// are those of Python, in the worse of both runs, and the time of the second.
async function check(file) {
  const urls = ["example.png", `models/${file.replace(/tflite$/, "labels")}`];
  const responses = await Promise.all(urls.map((url) => fetch(url)));
  if (!responses.every(({ ok }) => ok)) {
    throw new Error(`${file} cannot be checked: build the page again with "make web".`);
  }
  const bitmap = await createImageBitmap(await responses[0].blob(), { colorSpaceConversion: "none" });
  const expected = new Uint8Array(await responses[1].arrayBuffer());
  const photo = pixels(bitmap, 0, 0, bitmap.width, bitmap.height);
  bitmap.close();
  const first = await parse(photo);
  const second = await parse(photo);
  const agreement = Math.min(agree(first, expected), agree(second, expected));
  return { agreement, milliseconds: second.milliseconds };
}

function agree({ width, height, data }, expected) {
  let [same, i] = [0, 0];
  for (let y = 0; y < height; y += STEP) {
    for (let x = 0; x < width; x += STEP) same += data[y * width + x] === expected[i++];
  }
  return same / i;
}

function parse(photo) {
  const [, height, width] = model.getInputDetails()[0].shape;
  return run(resizePhoto(photo, width, height));
}

/** @param {Uint8Array} pixels RGB of the network's size. */
async function run(pixels) {
  const [{ shape }] = model.getInputDetails();
  const [, height, width] = shape;
  const start = performance.now();
  const input = new Tensor(pixels, shape);
  const outputs = await model.run({ [INPUT]: input });
  const data = await read(outputs, height, width);
  const milliseconds = performance.now() - start;
  input.delete();
  for (const output of Object.values(outputs)) output.delete();
  return { width, height, data, milliseconds };
}

async function answer({ photo, frame, ...choice }) {
  if (!photo && !frame) return self.postMessage(await open(choice));
  const labels = await (frame ? run(new Uint8Array(frame)) : parse(photo));
  self.postMessage({ labels, frame }, [labels.data.buffer, ...(frame ? [frame] : [])]);
}

let before = Promise.resolve();

self.onmessage = ({ data: message }) => {
  before = before
    .then(() => answer(message))
    .catch((error) => self.postMessage({ problem: error.message ?? String(error) }));
};
