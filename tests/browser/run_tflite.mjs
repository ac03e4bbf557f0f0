// Runs .tflite files in LiteRT.js on WebGPU: node run_tflite.mjs CHROMIUM FOLDER < jobs.json > results.json
//
// jobs: [{ "model": a file of FOLDER, "input": the raw bytes of its one input, a file of FOLDER }, ...]
// results, in the same order: [{
//   "wholly": whether every op ran on the GPU,
//   "outputs": { name: raw bytes in base64 },
//   "problems": [lines of the console, and the error if it failed; then the other two are absent]
// }, ...]

import { readFileSync } from "node:fs";

import { open } from "./browser.mjs";

// LiteRT writes what it merely tells to the console as errors, and always misses a neural processor.
const HARMLESS = [/^INFO: /, /^WARNING: \[npu_registry/];

const [executable, folder] = process.argv.slice(2);
const jobs = JSON.parse(readFileSync(0, "utf8"));

const folders = { "/files/": folder, "/": import.meta.dirname };
const results = await open(executable, folders, "/litert.html", async (page, messages) => {
  const results = [];
  for (const job of jobs) {
    const urls = { model: `/files/${job.model}`, input: `/files/${job.input}` };
    const result = await page.evaluate((urls) => window.run(urls), urls).catch((error) => ({ error: String(error) }));
    const problems = messages
      .splice(0)
      .filter(({ type, text }) => ["error", "warning"].includes(type) && !HARMLESS.some((line) => line.test(text)))
      .map(({ text }) => text);
    const { error, ...rest } = result;
    results.push({ ...rest, problems: error ? [...problems, error] : problems });
  }
  return results;
});
process.stdout.write(JSON.stringify(results));
