/**
 * Builds what the page needs to run the networks itself, and the page as a site of its own.
 *
 *     node build.mjs [PAGE] [SITE]
 *
 * PAGE is the folder of the demo page; its `static/private/` gets the runtime and the networks. SITE
 * gets a copy of all that with a service worker. Both are made anew.
 */
import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(HERE);
const [page, site] = [
  process.argv[2] ?? join(ROOT, "service/ferserve/web"),
  process.argv[3] ?? join(ROOT, "site"),
].map((folder) => resolve(folder));

const RUNTIME = [
  "ort.wasm.min.mjs",
  "ort-wasm-simd-threaded.mjs",
  "ort-wasm-simd-threaded.wasm",
  // Where there is a GPU, instead of those above.
  "ort.jspi.min.mjs",
  "ort-wasm-simd-threaded.jspi.mjs",
  "ort-wasm-simd-threaded.jspi.wasm",
];

/** The models that are offered, the default first: the others are too large to be loaded by pages. */
const MODELS = ["crowd", "light"];

/** What the page reads of a card. */
const FIELDS = ["name", "version", "sha256", "description", "labels", "metrics", "low_confidence_threshold"];

const POLICY =
  "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; " +
  "img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'";

buildAssets(join(page, "static/private"));
buildSite();
report();

/** @param {string} folder */
function buildAssets(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const name of RUNTIME) {
    cpSync(join(HERE, "node_modules/onnxruntime-web/dist", name), join(folder, name));
  }
  for (const name of ["face_detector", ...MODELS]) {
    cpSync(join(ROOT, "models", `${name}.onnx`), join(folder, `${name}.onnx`));
  }
  const cards = MODELS.map((name) => JSON.parse(readFileSync(join(ROOT, "models", `${name}.json`), "utf8")));
  const models = cards.map((card) => Object.fromEntries(FIELDS.map((field) => [field, card[field]])));
  writeFileSync(join(folder, "models.json"), JSON.stringify({ default: MODELS[0], models }));
}

function buildSite() {
  rmSync(site, { recursive: true, force: true });
  cpSync(page, site, { recursive: true });
  for (const name of ["LICENSE", "NOTICE"]) cpSync(join(ROOT, name), join(site, name));
  const html = join(site, "index.html");
  const head = `<meta charset="utf-8">\n    <meta http-equiv="Content-Security-Policy" content="${POLICY}">`;
  const text = readFileSync(html, "utf8");
  const marked = text.replace("<html ", '<html data-private="only" data-place="device" ').replace('<meta charset="utf-8">', head);
  writeFileSync(html, marked);
  const files = filesOf(site);
  const version = createHash("sha256");
  for (const file of files) version.update(file).update(readFileSync(join(site, file)));
  const shell = files.filter((file) => !file.startsWith("static/private/"));
  const sum = (/** @type {string} */ file) =>
    `sha256-${createHash("sha256").update(readFileSync(join(site, file))).digest("base64")}`;
  const sums = Object.fromEntries(files.map((file) => [file, sum(file)]));
  const settings = { version: version.digest("hex").slice(0, 16), shell: ["./", ...shell], sums, policy: POLICY };
  const worker = readFileSync(join(HERE, "sw.js"), "utf8");
  writeFileSync(join(site, "sw.js"), `self.site = ${JSON.stringify(settings)};\n${worker}`);
}

/** Says what a first visit loads. */
function report() {
  const ofFirstVisit = filesOf(site).filter(
    (file) => !file.includes("jspi") && !file.endsWith("light.onnx") && !/^(LICENSE|NOTICE)$/.test(file),
  );
  const sizes = ofFirstVisit.map((file) => [file, gzipSync(readFileSync(join(site, file)), { level: 9 }).length]);
  const sum = (/** @type {string} */ end) =>
    sizes.reduce((total, [file, size]) => total + (String(file).endsWith(end) ? Number(size) : 0), 0);
  const megabytes = (/** @type {number} */ bytes) => `${(bytes / 1e6).toFixed(2)} MB`;
  console.log(
    `${site}: a first visit loads ${megabytes(sum(""))} compressed, ${megabytes(sum(".onnx"))} of it networks`,
  );
}

/** @param {string} folder */
function filesOf(folder) {
  return readdirSync(folder, { recursive: true })
    .map(String)
    .filter((file) => statSync(join(folder, file)).isFile())
    .sort();
}
