/**
 * The site's service worker: keeps what was loaded, so that the site works offline and no file comes
 * over the network twice, and adds the headers that plain web servers lack.
 *
 * The build puts `self.site` before this text.
 */
const site = /** @type {{version: string, shell: string[], sums: Record<string, string>, policy: string}} */ (
  /** @type {any} */ (self).site
);
const worker = /** @type {any} The types of pages and of service workers exclude each other. */ (self);

const HEADERS = {
  "Content-Security-Policy": site.policy,
  // Both together let the page have threads.
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** All caches of an origin are in one place, those of other sites too. */
const OURS = `ferserve ${worker.registration.scope} `;
const CACHE = OURS + site.version;

/**
 * Asks the server, as the browser's own cache may hold files of an earlier version, and takes none of
 * another version from it.
 *
 * @param {string} file
 * @returns {RequestInit}
 */
const ofThisVersion = (file) => ({ cache: "no-cache", integrity: site.sums[file || "index.html"] ?? "" });

worker.addEventListener("install", (/** @type {any} */ event) => {
  if (!worker.registration.active) worker.skipWaiting(); // else pages of the old version are open
  event.waitUntil(fill());
});

// A page asks, before it loads anything else. It waits for the new version, or for this answer.
worker.addEventListener("message", (/** @type {any} */ event) => {
  event.waitUntil(takeOverFrom(event.source));
});

worker.addEventListener("activate", (/** @type {any} */ event) => {
  event.waitUntil(dropOthers().then(() => worker.clients.claim()));
});

worker.addEventListener("fetch", (/** @type {any} */ event) => {
  const { request } = event;
  if (request.method === "GET" && request.url.startsWith(worker.registration.scope)) {
    event.respondWith(answer(request));
  }
});

/** Loads the shell, and what earlier versions kept: it must go on working offline. */
async function fill() {
  const files = new Set(site.shell.map((file) => file.replace("./", "")));
  for (const name of await others()) {
    for (const { url } of await (await caches.open(name)).keys()) {
      if (fileOf(url) in site.sums) files.add(fileOf(url));
    }
  }
  const cache = await caches.open(CACHE);
  await cache.addAll([...files].map((file) => new Request(`./${file}`, ofThisVersion(file))));
}

/** Takes over if no other page is open. @param {any} page */
async function takeOverFrom(page) {
  const pages = await worker.clients.matchAll({ includeUncontrolled: true });
  const ours = pages.filter((/** @type {any} */ { url }) => url.startsWith(worker.registration.scope));
  if (ours.length === 1) await worker.skipWaiting();
  else page.postMessage("other pages are open");
}

async function others() {
  return (await caches.keys()).filter((name) => name.startsWith(OURS) && name !== CACHE);
}

async function dropOthers() {
  for (const name of await others()) await caches.delete(name);
}

/** Its place below the site. @param {string} url */
function fileOf(url) {
  return url.slice(worker.registration.scope.length).replace(/[?#].*/, "");
}

/** @param {Request} request */
async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept) return withHeaders(kept);
  const fresh = await fetch(request, ofThisVersion(fileOf(request.url)));
  if (fresh.ok) await cache.put(request, fresh.clone()).catch(() => {}); // there may be no room
  return withHeaders(fresh);
}

/** @param {Response} response */
function withHeaders(response) {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const { status, statusText } = response;
  return new Response(response.body, { status, statusText, headers });
}
