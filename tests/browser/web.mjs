// Uses the page of web/ as a person does: node web.mjs CHROMIUM URL FOLDER NAME... < options.json > results.json
//
// NAME: what to do, one of the functions at the end. FOLDER: where the photos lie and the saved files go.
// options: name -> what the function takes. results: name -> what it returned, and with it
//   "errors": [errors and warnings of the console], "foreign": [requests to another origin].

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { visit } from "./browser.mjs";

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

const texts = (page, ...ids) => Promise.all(ids.map((id) => page.locator(id).textContent()));

const overlayPixels = (page) =>
  page.evaluate(() => {
    const canvas = document.querySelector("#overlay");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Uint8Array(data.buffer).toBase64();
  });

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

  async recolor(page, { photo, colors }) {
    await parsed(page, () => choose(page, photo));
    await save(page, "#save-mask", "recolor mask.png");
    await save(page, "#save-picture", "before.png");
    const drawn = () => page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done))));
    for (const [part, color] of Object.entries(colors)) await page.fill(`#${part}-color`, color);
    await drawn();
    await save(page, "#save-picture", "after.png");
    for (const part of Object.keys(colors)) await page.uncheck(`#${part}`);
    await drawn();
    await save(page, "#save-picture", "again.png");
  },

  // Photos that come in by other ways, with the network cable pulled.
  async offline(page, { photo }) {
    await page.context().setOffline(true);
    await parsed(page, () => hand(page, "drop", photo, "image/png"));
    const dropped = await save(page, "#save-mask", "dropped.png");
    await parsed(page, () => hand(page, "paste", photo, "image/png"));
    return { dropped };
  },

  async problems(page, { text, broken, large }) {
    return {
      text: await complaint(page, () => hand(page, "drop", text, "text/plain")),
      broken: await complaint(page, () => choose(page, broken)),
      large: await complaint(page, () => choose(page, large)),
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
    await page.click("#camera");
    const after = await page.getAttribute("#camera", "aria-pressed");
    await page.waitForTimeout(1000);
    const name = await save(page, "#save-mask", "camera mask.png");
    const frames = () => page.evaluate(() => document.querySelector("#speed").dataset.frames);
    const before = await frames();
    await page.waitForTimeout(1000);
    return { pressed, after, name, stopped: before === (await frames()) };
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
    return { name, mirrored: await page.evaluate(() => document.querySelector(".picture.mirrored") !== null) };
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
    return { times, status: (await texts(page, "#status"))[0], browser: page.context().browser().version() };
  },
};

const CAMERA = ["--use-fake-device-for-media-stream"];

const results = {};
for (const name of names) {
  const flags = options[name]?.video
    ? [...CAMERA, `--use-file-for-fake-video-capture=${join(folder, options[name].video)}`]
    : CAMERA;
  const foreign = [];
  const prepare = (page) => {
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      if (origin !== new URL(url).origin && !["blob:", "data:"].includes(protocol)) foreign.push(request.url());
    });
  };
  results[name] = await visit(
    executable,
    url,
    async (page, messages) => {
      // The example, which the page begins with.
      await page.locator("#save-mask:enabled").waitFor({ timeout: 120_000 });
      const result = await SCENES[name](page, options[name] ?? {});
      const errors = messages.filter(({ type }) => ["error", "warning"].includes(type)).map(({ text }) => text);
      return { ...result, errors, foreign };
    },
    { flags, prepare },
  );
}
process.stdout.write(JSON.stringify(results));
