// Builds the page: npm run build -- [--models FOLDER] [--output FOLDER]
//
// Everything that the page needs comes to lie in the output folder: the .tflite files of the models' folder too, and
// what the Python package ships. PYTHON is the interpreter that runs them for the page's self-check: one that has what
// keras_bisenet needs to run files, as that of `make web`.

import { createHash } from "node:crypto";
import { execFileSync } from "node:child_process";
import { constants, copyFileSync, cpSync, existsSync, mkdirSync } from "node:fs";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, relative, resolve, sep } from "node:path";
import { parseArgs } from "node:util";

import { build } from "esbuild";

const HERE = import.meta.dirname;
const ROOT = join(HERE, "..");
const ASSETS = join(ROOT, "keras_bisenet", "assets");

const { values } = parseArgs({
  options: {
    models: { type: "string", default: join(ROOT, "build", "face_parsing") },
    output: { type: "string", default: join(ROOT, "build", "web") },
  },
});
const source = resolve(values.models);
const output = resolve(values.output);

rmSync(output, { recursive: true, force: true });
mkdirSync(join(output, "models"), { recursive: true });

const bundle = (entryPoints, define) =>
  build({
    entryPoints,
    outdir: output,
    define,
    bundle: true,
    minify: true,
    target: "es2022",
    // LiteRT.js loads itself by importScripts, which only a classic worker has.
    format: "iife",
    logLevel: "warning",
  });
const sourceOf = (name) => join(HERE, "src", name);

await bundle({ main: sourceOf("main.js"), worker: sourceOf("worker.js"), makeup_worker: sourceOf("makeup/worker.js") });

for (const name of ["index.html", "style.css", "icon.svg", "manifest.webmanifest"]) {
  copyFileSync(sourceOf(name), join(output, name));
}
copyFileSync(join(ASSETS, "astronaut_face.png"), join(output, "example.png"));
cpSync(join(HERE, "node_modules", "@litertjs", "core", "wasm"), join(output, "wasm"), { recursive: true });

// An exported file takes the place of a shipped one.
for (const folder of [ASSETS, source].filter(existsSync)) {
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".tflite"))) {
    // A clone takes no disk space where the file system can do that.
    copyFileSync(join(folder, name), join(output, "models", name), constants.COPYFILE_FICLONE);
  }
}
const models = readdirSync(join(output, "models")).map((name) => join(output, "models", name));
const facts = execFileSync(process.env.PYTHON ?? "python3", [join(HERE, "facts.py"), ...models], { encoding: "utf8" });
writeFileSync(join(output, "facts.json"), `{"models": ${facts}}`);

// The service worker keeps files by their hash, so that it comes last.
const hashes = {};
for (const entry of readdirSync(output, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())) {
  const path = join(entry.parentPath, entry.name);
  const name = relative(output, path).split(sep).join("/");
  hashes[name] = createHash("sha256").update(readFileSync(path)).digest("hex");
}
await bundle({ service: sourceOf("service.js") }, { FILES: JSON.stringify(hashes) });
// The server's, not the page's.
copyFileSync(join(HERE, "headers.json"), join(output, "headers.json"));
