// Opens a local page in headless Chromium.

import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join } from "node:path";

import { chromium } from "playwright-core";

const TYPES = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".mjs": "text/javascript",
  ".png": "image/png",
  ".wasm": "application/wasm",
};
// Playwright itself adds what keeps a browser quiet: a fresh profile, no sandbox, no updates, no background traffic.
const FLAGS = [
  "--disable-quic",
  // WebGPU on the software adapter, which is the same on every machine.
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
];

// Serves folders on a free port of this machine. `folders`: start of the URL's path -> folder, the first that fits.
function serve(folders) {
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://localhost").pathname);
    const start = Object.keys(folders).find((start) => path.startsWith(start));
    const file = start && join(folders[start], path.slice(start.length));
    if (!file || !statSync(file, { throwIfNoEntry: false })?.isFile()) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": TYPES[extname(file)] ?? "application/octet-stream",
      // Pages with threads and shared memory need these two.
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    });
    createReadStream(file).pipe(response);
  });
  return new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(server)));
}

// Opens `path` of the served `folders` in a browser of its own, as `visit` does.
export async function open(executable, folders, path, use) {
  const server = await serve(folders);
  try {
    const url = `http://127.0.0.1:${server.address().port}${path}`;
    return await launch(executable, [], (browser) => visit(browser, url, use));
  } finally {
    server.close();
  }
}

// Starts a browser, calls `use(browser)` and closes it.
export async function launch(executable, flags, use) {
  const browser = await chromium.launch({ executablePath: executable, args: [...FLAGS, ...flags], timeout: 120_000 });
  try {
    return await use(browser);
  } finally {
    await browser.close();
  }
}

// Opens `url` in a fresh profile and calls `use(page, messages)`. `messages` fills with what the page writes to its
// console, `{ type, text }` each; an error that nobody caught has the type `error`, too. `prepare(page)` comes before.
// `options` are those of Playwright's browser context.
export async function visit(browser, url, use, { prepare = () => {}, ...options } = {}) {
  const context = await browser.newContext(options);
  try {
    const page = await context.newPage();
    const messages = [];
    page.on("console", (message) => messages.push({ type: message.type(), text: message.text() }));
    page.on("pageerror", (error) => messages.push({ type: "error", text: String(error) }));
    await prepare(page);
    await page.goto(url);
    return await use(page, messages);
  } finally {
    await context.close();
  }
}
