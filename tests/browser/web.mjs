// Uses the page of web/ as a person does: node web.mjs CHROMIUM URL FOLDER NAME... < options.json > results.json
//
// NAME: what to do, one of the functions at the end. FOLDER: where the photos lie and the saved files go.
// options: name -> what the function takes. results: name -> what it returned, and with it
//   "errors": [errors and warnings of the console], "foreign": [requests to another origin].

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { launch, visit } from "./browser.mjs";

const [executable, url, folder, ...names] = process.argv.slice(2);
const options = JSON.parse(readFileSync(0, "utf8"));

const CPU = (precision) => ({ file: `face_parsing_${precision}.tflite`, accelerator: "wasm" });
const GPU = (precision) => ({ file: `face_parsing_${precision}.tflite`, accelerator: "webgpu" });
// 512x512 on the software adapter.
const SLOW = { timeout: 300_000 };

// Does something that ends with another frame parsed. Fails with what the page says is wrong.
async function parsed(page, action) {
  const frames = await page.evaluate(() => Number(document.querySelector("#speed").dataset.frames ?? 0));
  await action();
  const done = await page.waitForFunction(
    (frames) => {
      const problem = document.querySelector("#problem");
      const { dataset } = document.querySelector("#speed");
      return Number(dataset.frames ?? 0) > frames
        ? { ...dataset }
        : !problem.hidden && { problem: problem.textContent };
    },
    frames,
    SLOW,
  );
  const { problem, milliseconds } = await done.jsonValue();
  if (problem) throw new Error(problem);
  // The frame is drawn in the same task that tells its time.
  return Number(milliseconds);
}

// Does something that the page complains about, and returns the line.
async function complaint(page, action) {
  await action();
  await page.locator("#problem").waitFor({ state: "visible" });
  return page.locator("#problem").textContent();
}

async function choose(page, file) {
  const chooser = page.waitForEvent("filechooser");
  await page.click("#choose");
  await (await chooser).setFiles(join(folder, file));
}

const pick = (page, choice) => page.selectOption("#choice", JSON.stringify(choice));

async function save(page, button, file) {
  const download = page.waitForEvent("download");
  await page.click(button);
  await (await download).saveAs(join(folder, file));
  return (await download).suggestedFilename();
}

// Drops or pastes a file of this machine.
async function hand(page, event, file, type) {
  const content = readFileSync(join(folder, file)).toString("base64");
  await page.evaluate(
    async ({ event, file, type, content }) => {
      const files = new DataTransfer();
      const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
      files.items.add(new File([bytes], file, { type }));
      const how = { bubbles: true, cancelable: true };
      const happened =
        event === "paste"
          ? new ClipboardEvent(event, { ...how, clipboardData: files })
          : new DragEvent(event, { ...how, dataTransfer: files });
      document.querySelector("#overlay").dispatchEvent(happened);
    },
    { event, file, type, content },
  );
}

// Waits until a change of the controls has been drawn.
async function drawn(page) {
  await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
  await page.waitForFunction(() => document.querySelector("#picture").getAttribute("aria-busy") === "false", null, SLOW);
}

const texts = (page, ...ids) => Promise.all(ids.map((id) => page.locator(id).textContent()));

const overlayPixels = (page) =>
  page.evaluate(() => {
    const overlay = document.querySelector("#overlay");
    const context = new OffscreenCanvas(overlay.width, overlay.height).getContext("2d", { willReadFrequently: true });
    context.drawImage(overlay, 0, 0);
    const { data } = context.getImageData(0, 0, overlay.width, overlay.height);
    return new Uint8Array(data.buffer).toBase64();
  });

// Bytes of a process on Linux, of what it shares its part; 0 for one that is gone.
function memoryOf(id) {
  try {
    return 1024 * Number(readFileSync(`/proc/${id}/smaps_rollup`, "utf8").match(/^Pss: +(\d+) kB/m)[1]);
  } catch {
    return 0;
  }
}

// Has the worker that runs the network run some code first.
const WORKER = "**/worker.js";
async function workerBegins(page, code) {
  await page.route(WORKER, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: code + (await response.text()) });
  });
}

const SCENES = {
  // Photos -> masks, on the CPU with each file, the first of which the page has chosen itself. photos: [names].
  async labels(page, { photos, precisions }) {
    const [status] = await texts(page, "#status");
    const chosen = await page.evaluate(() => document.querySelector("#choice").selectedOptions[0].text);
    const isolated = await page.evaluate(() => crossOriginIsolated);
    const masks = {};
    for (const precision of precisions) {
      if (precision !== precisions[0]) await parsed(page, () => pick(page, CPU(precision)));
      for (const photo of photos) {
        await parsed(page, () => choose(page, photo));
        masks[`${precision} ${photo}`] = await save(page, "#save-mask", `${precision} ${photo}.png`);
      }
    }
    return { chosen, status, isolated, masks, overlay: await overlayPixels(page) };
  },

  async gpu(page, { photo }) {
    await parsed(page, () => choose(page, photo));
    await parsed(page, () => pick(page, GPU("float16")));
    await save(page, "#save-mask", "gpu.png");
    return { status: await texts(page, "#status", "#speed") };
  },

  // With the keyboard alone: what each Tab reaches, then a part, the opacity and a color.
  async keyboard(page) {
    const focused = () =>
      page.evaluate(() => {
        const { id, name, value } = document.activeElement;
        return id || `${name} ${value}`.trim();
      });
    const outlined = () => page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle !== "none");
    const order = [];
    const visible = [];
    const until = async (wanted) => {
      for (let i = 0; i < 30; i++) {
        await page.keyboard.press("Tab");
        order.push(await focused());
        visible.push(
          (await outlined()) ||
            (await page.evaluate(() => getComputedStyle(document.activeElement.parentElement).outlineStyle !== "none")),
        );
        if (order.at(-1) === wanted) return;
      }
      throw new Error(`Tab does not reach ${wanted}, but ${order}`);
    };
    await until("opacity");
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    const opacity = await page.evaluate(() => document.querySelector("#overlay").style.opacity);
    const [said] = await texts(page, "#opacity-value");
    await until("part");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    const part = await focused();
    const overlay = await overlayPixels(page);
    await page.keyboard.press("Escape");
    const cleared = await page.evaluate(() => document.querySelector("#parts :checked").value);
    await until("hair");
    await page.keyboard.press("Space");
    const hair = await page.isChecked("#hair");
    await until("save-picture");
    const download = page.waitForEvent("download");
    await page.keyboard.press("Enter");
    const saved = (await download).suggestedFilename();
    const snapshot = await page.locator("body").ariaSnapshot();
    return { order, visible, opacity, said, part, overlay, cleared, hair, saved, snapshot };
  },

  // Selects a part by a click on the picture, at these shares of its width and height, and again.
  async click(page, { at }) {
    const { width, height } = await page.locator("#overlay").boundingBox();
    const position = { x: at[0] * width, y: at[1] * height };
    const selected = () => page.evaluate(() => document.querySelector("#parts :checked").value);
    await page.click("#overlay", { position });
    const first = await selected();
    await page.click("#overlay", { position });
    return { first, second: await selected() };
  },

  // Everything made up, as a file and beside the photo as it was; and nothing again.
  async makeup(page, { photo, colors, smooth, strength }) {
    await parsed(page, () => choose(page, photo));
    await save(page, "#save-mask", "makeup mask.png");
    await save(page, "#save-picture", "before.png");
    for (const [part, color] of Object.entries(colors)) await page.fill(`#${part}-color`, color);
    await page.fill("#smooth", String(100 * smooth));
    await page.fill("#strength", String(100 * strength));
    await drawn(page);
    await save(page, "#save-picture", "after.png");
    const overlay = await overlayPixels(page);
    await page.screenshot({ path: join(folder, "makeup.png") });
    await page.check("#before-after");
    await drawn(page);
    await save(page, "#save-picture", "both.png");
    const covered = await page.isVisible("#overlay");
    for (const part of Object.keys(colors)) await page.uncheck(`#${part}`);
    await page.fill("#smooth", "0");
    await drawn(page);
    await save(page, "#save-picture", "again.png");
    await page.check("#hair");
    await parsed(page, () => choose(page, "camera.png"));
    await drawn(page);
    return { overlay, covered, note: (await texts(page, "#note"))[0] };
  },

  // A network with classes of its own, see tests/web/test_own_classes.py.
  async own(page, { select, colors }) {
    const swatches = await page.locator("#parts label").evaluateAll((labels) =>
      labels.slice(1).map((label) => ({
        name: label.querySelector(".name").textContent,
        color: getComputedStyle(label.querySelector(".swatch")).backgroundColor.match(/\d+/g).slice(0, 3).map(Number),
      })),
    );
    const overlay = await overlayPixels(page);
    await save(page, "#save-mask", "own.png");
    await save(page, "#save-picture", "before.png");
    const offered = [];
    for (const part of ["hair", "lips", "eyes", "brows", "skin"]) {
      if (await page.isVisible(`#${part}-row`)) offered.push(part);
    }
    await page.locator(`#parts input[value="${select}"]`).check({ force: true });
    const selected = await overlayPixels(page);
    for (const [part, color] of Object.entries(colors)) await page.fill(`#${part}-color`, color);
    await drawn(page);
    await save(page, "#save-picture", "after.png");
    const [status, chosen] = [await texts(page, "#status"), await page.locator("#choice option:checked").textContent()];
    const label = await page.getAttribute("#photo", "aria-label");
    return { swatches, overlay, selected, offered, chosen, status, label };
  },

  // What was chosen in one photo is not meant for the next; the frame of a crop is.
  async next(page, { photo }) {
    await page.locator('#parts input[value="1"]').check({ force: true });
    await page.click("#crop");
    await parsed(page, () => choose(page, photo));
    return {
      selected: await page.evaluate(() => document.querySelector("#parts :checked").value),
      frame: await page.isVisible("#frame"),
      pressed: await page.getAttribute("#crop", "aria-pressed"),
    };
  },

  // A part of a photo, by a frame that is resized at a corner, dragged, and moved with the keyboard.
  async crop(page, { photo }) {
    await parsed(page, () => choose(page, photo));
    await parsed(page, () => page.click("#crop"));
    const place = () =>
      page.evaluate(() => {
        const canvas = document.querySelector("#photo");
        const { left, top, width } = document.querySelector("#frame").style;
        return [left, top, width].map(
          (text, i) => (parseFloat(text) / 100) * (i === 1 ? canvas.height : canvas.width),
        );
      });
    const first = await place();
    const drag = async (at, by) => {
      const { x, y, width, height } = await page.locator("#frame").boundingBox();
      await page.mouse.move(x + at * width, y + at * height);
      await page.mouse.down();
      await page.mouse.move(x + at * width + by[0], y + at * height + by[1], { steps: 3 });
      await parsed(page, () => page.mouse.up());
    };
    await drag(0.99, [-60, -60]);
    const smaller = await place();
    await drag(0.5, [-30, 20]);
    const moved = await place();
    await page.focus("#frame");
    await parsed(page, () => page.keyboard.press("ArrowRight"));
    await parsed(page, () => page.keyboard.press("+"));
    await drawn(page);
    await page.screenshot({ path: join(folder, "crop.png") });
    const last = await place();
    const mask = await save(page, "#save-mask", "crop mask.png");
    await parsed(page, () => page.click("#crop"));
    await save(page, "#save-mask", "whole mask.png");
    return { first, smaller, moved, last, mask };
  },

  // What the page says while it works. Loading takes a second longer here.
  async working(page, { photo }) {
    await page.route("**/models/*.tflite", async (route) => {
      await new Promise((done) => setTimeout(done, 1000));
      await route.continue();
    });
    await page.evaluate(() => {
      window.seen = [];
      new MutationObserver(() => {
        const busy = document.querySelector("#picture").getAttribute("aria-busy");
        const [text, share] = [document.querySelector("#work").textContent, document.querySelector("#progress").value];
        window.seen.push([busy, text, share]);
      }).observe(document.querySelector("#picture"), { attributes: true, subtree: true, childList: true });
    });
    await parsed(page, () => pick(page, CPU("fast_int8")));
    await parsed(page, () => choose(page, photo));
    await page.check("#hair");
    await drawn(page);
    const shares = new Set();
    const words = new Set();
    for (const [busy, text, share] of await page.evaluate(() => window.seen)) {
      if (busy === "true") words.add(text);
      if (busy === "true") shares.add(share);
    }
    return { words: [...words], most: Math.max(...shares), after: await page.getAttribute("#picture", "aria-busy") };
  },

  // Each state that is no failure of the page: what it says, and what it runs on instead.
  async states(page, { huge }) {
    const state = async () => {
      await page.locator("#save-mask:enabled").waitFor(SLOW);
      const [notice, status] = await texts(page, "#notice", "#status");
      const chosen = await page.locator("#choice option:checked").textContent();
      return { notice, status, chosen, problem: await page.isVisible("#problem") };
    };
    const again = async () => {
      await page.reload();
      return state();
    };
    const found = {};
    await parsed(page, () => choose(page, huge));
    found.huge = await state();
    // The headers do not reach the browser.
    await page.route(url, async (route) => {
      const response = await route.fetch();
      const headers = response.headers();
      delete headers["cross-origin-opener-policy"];
      await route.fulfill({ response, headers });
    });
    found.isolation = await again();
    await page.unroute(url);
    // A GPU like others, which the page would choose.
    await page.addInitScript(() => {
      const { requestAdapter } = GPU.prototype;
      GPU.prototype.requestAdapter = async function (...options) {
        const adapter = await requestAdapter.apply(this, options);
        Object.defineProperty(adapter, "info", { value: { isFallbackAdapter: false } });
        return adapter;
      };
    });
    await workerBegins(page, "const now = performance.now.bind(performance); performance.now = () => 1e4 * now();");
    found.slow = await again();
    await page.unroute(WORKER);
    await page.route("**/models/*float16.labels", (route) => route.fulfill({ body: Buffer.alloc(256) }));
    found.wrong = await again();
    await page.unroute("**/models/*float16.labels");
    await workerBegins(
      page,
      `const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (...options) {
        return (self.device = await requestDevice.apply(this, options));
      };`,
    );
    found.gpu = await again();
    await page.unroute(WORKER);
    const [worker] = page.workers();
    await worker.evaluate(() => self.device.destroy());
    await page.locator("#status", { hasText: "WebAssembly," }).waitFor(SLOW);
    found.lost = await state();
    await page.addInitScript(() => Object.defineProperty(navigator, "gpu", { value: undefined }));
    found.without = await again();
    await page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = async () => {
        throw new DOMException("none", "NotFoundError");
      };
    });
    found.camera = await complaint(page, () => page.click("#camera"));
    return found;
  },

  // The page again, and photos that come in by other ways, with the network cable pulled.
  async offline(page, { photo }) {
    const session = await page.context().newCDPSession(page);
    const { installabilityErrors } = await session.send("Page.getInstallabilityErrors");
    await page.context().setOffline(true);
    const served = (await page.reload()).fromServiceWorker();
    await page.locator("#save-mask:enabled").waitFor(SLOW);
    await parsed(page, () => hand(page, "drop", photo, "image/png"));
    const dropped = await save(page, "#save-mask", "dropped.png");
    await parsed(page, () => hand(page, "paste", photo, "image/png"));
    const kept = await page.evaluate(async () => (await (await caches.open("files")).keys()).map(({ url }) => url));
    return { dropped, served, kept, installable: installabilityErrors.map(({ errorId }) => errorId) };
  },

  async problems(page, { text, broken, large, stated }) {
    return {
      text: await complaint(page, () => hand(page, "drop", text, "text/plain")),
      broken: await complaint(page, () => choose(page, broken)),
      large: await complaint(page, () => choose(page, large)),
      stated: [
        await complaint(page, () => choose(page, stated[0])),
        await complaint(page, () => choose(page, stated[1])),
      ],
      nothing: await complaint(page, () =>
        page.evaluate(() =>
          dispatchEvent(
            new ClipboardEvent("paste", {
              clipboardData: new DataTransfer(),
            }),
          ),
        ),
      ),
      camera: await complaint(page, () => page.click("#camera")),
      // The page goes on.
      after: (await parsed(page, () => page.click("#example"))) > 0 && (await page.isHidden("#problem")),
    };
  },

  async missing(page) {
    await page.route("**/models/face_parsing_float16.tflite", (route) => route.fulfill({ status: 404 }));
    await page.route("**/models/face_parsing_float32.tflite", (route) => route.fulfill({ body: "no network" }));
    const missing = await complaint(page, () => pick(page, CPU("float16")));
    const damaged = await complaint(page, () => pick(page, CPU("float32")));
    await parsed(page, () => pick(page, CPU("int8")));
    return { missing, damaged };
  },

  // What a page that has been tampered with tries.
  async policy(page) {
    const refused = await page.evaluate(async () => {
      const refused = [];
      addEventListener("securitypolicyviolation", ({ effectiveDirective }) => refused.push(effectiveDirective));
      await fetch("http://localhost:1/").catch(() => {});
      new Image().src = "http://localhost:1/";
      document.body.append(Object.assign(document.createElement("script"), { text: "window.ran = true" }));
      await new Promise((done) => setTimeout(done, 500));
      return refused;
    });
    return { refused: refused.sort() };
  },

  async camera(page) {
    await page.context().grantPermissions(["camera"]);
    await parsed(page, () => page.click("#camera"));
    for (let i = 0; i < 3; i++) await parsed(page, () => {});
    const pressed = await page.getAttribute("#camera", "aria-pressed");
    const colors = await page.evaluate(() =>
      ["#choose", "#camera"].map((id) => getComputedStyle(document.querySelector(id)).backgroundColor),
    );
    const [said] = await texts(page, "#speed");
    await page.click("#camera");
    const after = await page.getAttribute("#camera", "aria-pressed");
    // The frame that was on its way is the last one.
    const frames = () => page.evaluate(() => Number(document.querySelector("#speed").dataset.frames));
    const stopped = await frames();
    await page.waitForTimeout(4000);
    const name = await save(page, "#save-mask", "camera mask.png");
    return { pressed, after, name, colors, said, more: (await frames()) - stopped };
  },

  // Another network while the camera runs: frames go on, and the camera is off when its button says so.
  async switching(page, { precision }) {
    await page.context().grantPermissions(["camera"]);
    await page.evaluate(() => {
      const { mediaDevices } = navigator;
      const open = mediaDevices.getUserMedia.bind(mediaDevices);
      window.tracks = [];
      mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        window.tracks.push(...stream.getTracks());
        return stream;
      };
    });
    await parsed(page, () => page.click("#camera"));
    await parsed(page, () => pick(page, CPU(precision)));
    for (let i = 0; i < 2; i++) await parsed(page, () => {});
    const pressed = await page.getAttribute("#camera", "aria-pressed");
    // While a network is opened, nothing waits for the camera.
    await pick(page, CPU("int8"));
    await page.click("#camera");
    const states = await page.evaluate(() => window.tracks.map(({ readyState }) => readyState));
    return { pressed, states, after: await parsed(page, () => page.click("#example")) };
  },

  // What is done before the network is there. Everything of it takes a second longer here.
  async early(page, { photo, precision }) {
    await page.route("**/models/*", async (route) => {
      await new Promise((done) => setTimeout(done, 1000));
      await route.continue();
    });
    await page.reload();
    await page.locator("#choice option").first().waitFor({ state: "attached" });
    await page.dispatchEvent("#overlay", "click");
    await parsed(page, async () => {
      await hand(page, "drop", photo, "image/png");
      await pick(page, CPU(precision));
    });
    await page.waitForTimeout(2000);
    const name = await save(page, "#save-mask", "early.png");
    const chosen = await page.evaluate(() => JSON.parse(document.querySelector("#choice").value).file);
    return { name, chosen, problem: await page.isVisible("#problem") };
  },

  // A photo that takes long to be read, and one after it that does not.
  async newest(page, { huge, photo }) {
    await hand(page, "drop", huge, "image/png");
    await parsed(page, () => hand(page, "drop", photo, "image/png"));
    await page.waitForTimeout(3000);
    const name = await save(page, "#save-mask", "newest.png");
    return { name, mirrored: await page.evaluate(() => document.querySelector("#picture.mirrored") !== null) };
  },

  // The page in several sizes. shots: [{ file, width, height, dark, whole, select: part }].
  async pictures(page, { shots }) {
    const widths = {};
    for (const { file, width, height, dark, whole, select = "" } of shots) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: dark ? "dark" : "light", reducedMotion: "reduce" });
      await page.locator(`#parts input[value="${select}"]`).check({ force: true });
      await page.evaluate(() => document.activeElement.blur());
      await page.screenshot({ path: join(folder, file), fullPage: whole });
      widths[file] = await page.evaluate(() => document.documentElement.scrollWidth);
    }
    return { widths };
  },

  // The camera with one network. Of each frame behind the first ones: milliseconds of the network, from the frame to its
  // overlay, and from the camera to the overlay; when it was there; and each `every` frames the memory of the browser.
  async stream(page, { precision, frames, warmup, every }) {
    await page.context().grantPermissions(["camera"]);
    if ((await page.inputValue("#choice")) !== JSON.stringify(CPU(precision))) {
      await parsed(page, () => pick(page, CPU(precision)));
    }
    await page.evaluate(() => {
      window.times = [];
      const element = document.querySelector("#speed");
      new MutationObserver(() => {
        const { milliseconds, page, latency } = element.dataset;
        window.times.push([...[milliseconds, page, latency].map(Number), performance.now()]);
      }).observe(element, { attributeFilter: ["data-frames"] });
    });
    const browser = await page.context().browser().newBrowserCDPSession();
    const session = await page.context().newCDPSession(page);
    await page.click("#camera");
    const memory = [];
    for (let frame = warmup; frame <= warmup + frames; frame += every) {
      await page.waitForFunction((frame) => window.times.length >= frame, frame, { timeout: 0, polling: 100 });
      await session.send("HeapProfiler.collectGarbage");
      const { processInfo } = await browser.send("SystemInfo.getProcessInfo");
      memory.push(processInfo.reduce((sum, { id }) => sum + memoryOf(id), 0));
    }
    await page.click("#camera");
    const times = (await page.evaluate(() => window.times)).slice(warmup, warmup + frames);
    const [milliseconds, overlay, latency, there] = [0, 1, 2, 3].map((i) => times.map((frame) => frame[i]));
    return { milliseconds, overlay, latency, seconds: (there.at(-1) - there[0]) / 1000, memory };
  },

  // Milliseconds a frame of each file on the CPU, taking turns. Each turn begins with frames that do not count.
  async speed(page, { precisions, rounds, frames, warmup }) {
    const times = Object.fromEntries(precisions.map((precision) => [precision, []]));
    for (let round = 0; round < rounds; round++) {
      for (const precision of precisions) {
        const other = precisions.find((name) => name !== precision);
        if (round === 0 && precision === precisions[0]) await parsed(page, () => pick(page, CPU(other)));
        await parsed(page, () => pick(page, CPU(precision)));
        const turn = [];
        for (let frame = 0; frame < warmup + frames; frame++)
          turn.push(await parsed(page, () => page.click("#example")));
        times[precision].push(turn.slice(warmup));
      }
    }
    const dotProduct = await page.evaluate(hasDotProduct, DOT_PRODUCT);
    const [status] = await texts(page, "#status");
    return { times, status, dotProduct, browser: page.context().browser().version() };
  },
};

// A module with a function that is one i32x4.relaxed_dot_i8x16_i7x16_add_s, of the bytes 127, 255 and 0.
const DOT_PRODUCT = [
  ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7f, 3, 2, 1, 0, 7, 7, 1, 3, 0x64, 0x6f, 0x74, 0, 0],
  ...[0x0a, 0x40, 1, 0x3e, 0, ...[127, 255, 0].flatMap((value) => [0xfd, 0x0c, ...Array(16).fill(value)])],
  ...[0xfd, 0x93, 2, 0xfd, 0x1b, 0, 0x0b],
];

// Whether WebAssembly computes dot products of 8-bit numbers in an instruction of the CPU: only then XNNPACK uses them.
// The sum of four products of 127 and 255, or -1, is then exact; where several instructions compute it, it is less.
async function hasDotProduct(bytes) {
  const { instance } = await WebAssembly.instantiate(new Uint8Array(bytes));
  return [4 * 127 * 255, -4 * 127].includes(instance.exports.dot());
}

// Requests of a service worker cannot be routed, so that the other scenes have none.
const WITH_SERVICE = ["offline"];
const BLOCKED = "Service Worker registration blocked by Playwright";

// A camera whose frames are a video, the same for all scenes.
const video = Object.values(options).find((scene) => scene.video)?.video;
const flags = ["--use-fake-device-for-media-stream"];
if (video) flags.push(`--use-file-for-fake-video-capture=${join(folder, video)}`);

async function play(browser, name) {
  const foreign = [];
  const prepare = (page) => {
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== new URL(url).origin && !["blob:", "data:"].includes(protocol)) foreign.push(request.url());
    });
  };
  const use = async (page, messages) => {
    // The example, which the page begins with.
    await page.locator("#save-mask:enabled").waitFor({ timeout: 120_000 });
    const result = await SCENES[name](page, options[name] ?? {});
    const errors = messages.filter(({ type }) => ["error", "warning"].includes(type)).map(({ text }) => text);
    return { ...result, errors: errors.filter((text) => !text.includes(BLOCKED)), foreign };
  };
  const serviceWorkers = WITH_SERVICE.includes(name) ? "allow" : "block";
  return visit(browser, url, use, { prepare, serviceWorkers });
}

const results = await launch(executable, flags, async (browser) => {
  const results = {};
  for (const name of names) results[name] = await play(browser, name);
  return results;
});
process.stdout.write(JSON.stringify(results));
