// The service worker: keeps the page's files by their hash. FILES is written in by the build: path -> SHA-256.
//
// What the page itself needs is kept at once; networks and WebAssembly, of which a browser needs a few, when they are
// loaded. The page and this file come from the network where there is one, so that a new build is seen; a file that is
// the same in it is not loaded again.

/* global FILES */

const CACHE = "files";
const CORE = Object.keys(FILES).filter((path) => !/^(models|wasm)\//.test(path));
const scope = self.registration.scope;

// A file of another content has another key.
const keyOf = (path) => `${scope}${path}?${FILES[path]}`;

function pathOf(request) {
  const url = new URL(request.url);
  if (request.method !== "GET" || !url.href.startsWith(scope)) return null;
  const path = decodeURIComponent(url.pathname.slice(new URL(scope).pathname.length)) || "index.html";
  return path in FILES ? path : null;
}

/** Fetches a file, and keeps it if it is the one that this build has. */
async function load(path, request) {
  const response = await fetch(request);
  if (response.status !== 200) return response;
  const copy = response.clone();
  const content = await response.clone().arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const hash = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (hash === FILES[path]) await (await caches.open(CACHE)).put(keyOf(path), copy);
  return response;
}

async function kept(path, request) {
  return (await (await caches.open(CACHE)).match(keyOf(path))) ?? load(path, request);
}

async function newest(path, request) {
  try {
    return await load(path, request);
  } catch {
    return kept(path, request);
  }
}

async function install() {
  await Promise.all(CORE.map((path) => kept(path, new Request(scope + path, { cache: "no-cache" }))));
  await self.skipWaiting();
}

async function activate() {
  const cache = await caches.open(CACHE);
  const keys = new Set(Object.keys(FILES).map(keyOf));
  for (const request of await cache.keys()) {
    if (!keys.has(request.url)) await cache.delete(request);
  }
  await self.clients.claim();
}

self.addEventListener("install", (event) => event.waitUntil(install()));
self.addEventListener("activate", (event) => event.waitUntil(activate()));
self.addEventListener("fetch", (event) => {
  const path = pathOf(event.request);
  if (path === null) return;
  event.respondWith(CORE.includes(path) ? newest(path, event.request) : kept(path, event.request));
});
