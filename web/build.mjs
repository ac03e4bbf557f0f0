// Builds the page: npm run build -- [--models FOLDER] [--output FOLDER]
//
// Everything that the page needs comes to lie in the output folder: the .tflite files of the models' folder too, and
// what the Python package ships. PYTHON is the interpreter that prints the class names; any Python 3 does.

import { execFileSync } from "node:child_process";
import { constants, copyFileSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
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

await build({
  entryPoints: [join(HERE, "src", "main.js"), join(HERE, "src", "worker.js")],
  outdir: output,
  bundle: true,
  minify: true,
  target: "es2022",
  // LiteRT.js loads itself by importScripts, which only a classic worker has.
  format: "iife",
  logLevel: "warning",
});

for (const name of ["index.html", "style.css", "icon.svg"]) {
  copyFileSync(join(HERE, "src", name), join(output, name));
}
copyFileSync(join(HERE, "headers.json"), join(output, "headers.json"));
copyFileSync(join(ASSETS, "astronaut_face.png"), join(output, "example.png"));
cpSync(join(HERE, "node_modules", "@litertjs", "core", "wasm"), join(output, "wasm"), { recursive: true });

// An exported file takes the place of a shipped one.
for (const folder of [ASSETS, source].filter(existsSync)) {
  for (const name of readdirSync(folder).filter((name) => name.endsWith(".tflite"))) {
    // A clone takes no disk space where the file system can do that.
    copyFileSync(join(folder, name), join(output, "models", name), constants.COPYFILE_FICLONE);
  }
}
const files = readdirSync(join(output, "models")).map((name) => join(output, "models", name));
const models = execFileSync(process.env.PYTHON ?? "python3", [join(HERE, "facts.py"), ...files], { encoding: "utf8" });
writeFileSync(join(output, "facts.json"), `{"models": ${models}}`);
