// Shows a page in both color schemes at several widths: node read_page.mjs CHROMIUM FILE WIDTH... > results.json
//
// results: [{
//   "width", "scheme": "light" or "dark",
//   "overflow": pixels by which the page is wider than the window,
//   "background": [red, green, blue] of the body,
//   "hints": how many tables are said to scroll sideways,
//   "broken": how many pictures cannot be shown,
//   "requests": what was loaded but the page itself and data: URIs,
//   "problems": errors and warnings of the console
// }, ...]

import { basename, dirname } from "node:path";

import { open } from "./browser.mjs";

const [executable, file, ...widths] = process.argv.slice(2);

const results = await open(executable, { "/": dirname(file) }, `/${basename(file)}`, async (page, messages) => {
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  const results = [];
  for (const width of widths.map(Number)) {
    for (const scheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height: 800 });
      await page.emulateMedia({ colorScheme: scheme });
      await page.reload();
      const seen = await page.evaluate(() => ({
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        background: getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number),
        hints: [...document.querySelectorAll(".sideways")].filter((hint) => hint.checkVisibility()).length,
        broken: [...document.images].filter((image) => !(image.complete && image.naturalWidth)).length,
      }));
      const loaded = requests.splice(0).filter((url) => url !== page.url() && !url.startsWith("data:"));
      const problems = messages.splice(0).filter(({ type }) => ["error", "warning"].includes(type));
      results.push({ width, scheme, ...seen, requests: loaded, problems: problems.map(({ text }) => text) });
    }
  }
  return results;
});
process.stdout.write(JSON.stringify(results));
