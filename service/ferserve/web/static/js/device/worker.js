/**
 * Runs the networks beside the page: pixels come in, answers in the API's words go out.
 *
 * The runtime and the networks are what `make site` puts into `static/private/`; nothing is loaded
 * but these, each once.
 */
import { FACE_SIDE, FaceDetector, FrameDetector, cropFace, wholeFace } from "./detector.js";
import { reduce, stacked } from "./pixels.js";
import { FaceTracker } from "./tracking.js";

/** @import {InferenceSession, TypedTensor} from "onnxruntime-web" */
/** @import {Found} from "./detector.js" */
/** @import {Pixels} from "./pixels.js" */
/** @import {Answer, Face, ModelCard, ModelList, Problem} from "../types.js" */

/**
 * @typedef {{id: number, load: true}} LoadMessage
 * @typedef {{id: number, picture: Blob, model: string}} PictureMessage
 * @typedef {{id: number, frame: ImageBitmap, model: string, stream: number}} FrameMessage
 * @typedef {LoadMessage | PictureMessage | FrameMessage} Message
 *
 * @typedef {{models: ModelList, runtime: string}} Loaded
 * @typedef {{id: number, problem: Problem} | {id: number, result: Loaded | Answer}} Reply
 */

const FOLDER = new URL("../../private/", import.meta.url);

/** More would only take the page's own time. */
const MOST_THREADS = 4;

/** Pixels drawn at a time: on iPhones a canvas of over 16.7 million stays empty. */
const MOST_DRAWN = 4_000_000;

/** Longer side of a picture that is one face already, and of the pixels that are looked at. */
const WHOLE_FACE_SIDE = 64;
const DRAFT_SIDE = 1280;

const UNREADABLE = {
  title: "The picture cannot be read",
  detail: "This browser does not know its format, or the file is damaged. The service may.",
  code: "undecodable_image",
};

const canvas = new OffscreenCanvas(1, 1);
const context = /** @type {OffscreenCanvasRenderingContext2D} */ (
  canvas.getContext("2d", { willReadFrequently: true })
);

class Networks {
  #runtime;
  #provider;
  /** @type {Map<string, InferenceSession>} */
  #sessions = new Map();
  detector = new FaceDetector((image, height, width) => this.#findFaces(image, height, width));
  /** @type {ModelList} */
  models = { default: "", models: [] };

  /**
   * @param {typeof import("onnxruntime-web")} runtime
   * @param {"webgpu" | "wasm"} provider
   */
  constructor(runtime, provider) {
    this.#runtime = runtime;
    this.#provider = provider;
    runtime.env.wasm.wasmPaths = FOLDER.href;
    runtime.env.wasm.numThreads = crossOriginIsolated
      ? Math.min(MOST_THREADS, navigator.hardwareConcurrency)
      : 1;
  }

  /** Loads the runtime, the detector and the default model, and runs both once. */
  static async load() {
    // The runtime with WebGPU waits for it by JavaScript Promise Integration. A GPU in software takes
    // hundreds of times as long as WebAssembly does.
    const adapter = "Suspending" in WebAssembly && (await navigator.gpu?.requestAdapter());
    if (adapter && !adapter.info.isFallbackAdapter) {
      try {
        return await Networks.#begin("ort.jspi.min.mjs", "webgpu");
      } catch {
        // A driver may lack what the networks need.
      }
    }
    return Networks.#begin("ort.wasm.min.mjs", "wasm");
  }

  /**
   * @param {string} runtime
   * @param {"webgpu" | "wasm"} provider
   */
  static async #begin(runtime, provider) {
    const networks = new Networks(await import(`${FOLDER}${runtime}`), provider);
    networks.models = await (await file("models.json")).json();
    await networks.detector.detect(blank());
    await networks.rate([new Uint8Array(FACE_SIDE * FACE_SIDE)], networks.models.default);
    return networks;
  }

  get words() {
    const threads = this.#runtime.env.wasm.numThreads ?? 1;
    return this.#provider === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
  }

  /**
   * @param {Uint8Array[]} faces
   * @param {string} model
   * @returns {Promise<Record<string, number>[]>} Probabilities by emotion.
   */
  async rate(faces, model) {
    const { labels } = this.card(model);
    const session = await this.#session(model);
    const input = new Uint8Array(faces.length * FACE_SIDE * FACE_SIDE);
    faces.forEach((face, index) => input.set(face, index * face.length));
    const shape = [faces.length, FACE_SIDE, FACE_SIDE];
    const { probabilities } = await session.run({ faces: new this.#runtime.Tensor("uint8", input, shape) });
    const scores = await floats(probabilities);
    return faces.map((_, index) =>
      Object.fromEntries(labels.map((label, place) => [label, scores[index * labels.length + place]])),
    );
  }

  /** @param {string} name */
  card(name) {
    return /** @type {ModelCard} */ (this.models.models.find((card) => card.name === name));
  }

  /**
   * @param {Float32Array} image
   * @param {number} height
   * @param {number} width
   */
  async #findFaces(image, height, width) {
    const session = await this.#session("face_detector");
    const tensor = new this.#runtime.Tensor("float32", image, [1, 3, height, width]);
    const maps = await session.run({ image: tensor }, ["heatmap", "scale", "offset"]);
    const entries = Object.entries(maps).map(async ([name, map]) => [name, await floats(map)]);
    return Object.fromEntries(await Promise.all(entries));
  }

  /** @param {string} name */
  async #session(name) {
    const known = this.#sessions.get(name);
    if (known) return known;
    const data = await (await file(`${name}.onnx`)).arrayBuffer();
    const session = await this.#runtime.InferenceSession.create(data, {
      executionProviders: [this.#provider],
      logSeverityLevel: 3, // errors
      // Threads that spin while idle would take the cores from the page.
      extra: { session: { intra_op: { allow_spinning: "0" } } },
    });
    this.#sessions.set(name, session);
    return session;
  }
}

/** @param {string} name */
async function file(name) {
  try {
    const response = await fetch(new URL(name, FOLDER));
    if (response.ok) return new Response(await response.arrayBuffer());
  } catch {
    // The connection failed, perhaps midway.
  }
  throw { title: "A network cannot be loaded", detail: `${name} did not load. Is this device online?` };
}

/** Copies an output, and frees it. @param {TypedTensor<any>} tensor */
async function floats(tensor) {
  const values = Float32Array.from(/** @type {Float32Array} */ (await tensor.getData()));
  tensor.dispose();
  return values;
}

/** @returns {Pixels} */
function blank() {
  return { data: new Uint8Array(4 * FACE_SIDE * FACE_SIDE), width: FACE_SIDE, height: FACE_SIDE, channels: 4 };
}

/**
 * Returns the pixels of a bitmap, each the mean of a square, and frees the bitmap.
 *
 * @param {ImageBitmap} bitmap
 * @param {number} [factor]  Side of the squares.
 * @returns {Pixels}
 */
function pixelsOf(bitmap, factor = 1) {
  const { width, height } = bitmap;
  const rows = Math.min(height, factor * Math.max(1, Math.floor(MOST_DRAWN / (width * factor))));
  if (canvas.width !== width || canvas.height !== rows) Object.assign(canvas, { width, height: rows });
  const strips = [];
  for (let top = 0; top < height; top += rows) {
    context.fillStyle = "white"; // behind what is transparent
    context.fillRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, -top);
    const { data, height: drawn } = context.getImageData(0, 0, width, Math.min(rows, height - top));
    const strip = { data, width, height: drawn, channels: 4 };
    strips.push(factor > 1 ? reduce(strip, factor, factor) : strip);
  }
  bitmap.close();
  return strips.length > 1 ? stacked(strips) : strips[0];
}

/** @type {Promise<Networks>} */
let networks;
let tracker = new FaceTracker();
/** @type {FrameDetector} */
let frames;
let stream = -1;

/**
 * By how much a picture is shrunk: as in the service, where JPEGs are halved up to three times first.
 *
 * @param {Blob} picture
 * @param {number} side
 */
function shrinking(picture, side) {
  const most = Math.max(1, Math.floor(side / DRAFT_SIDE));
  const halved = picture.type === "image/jpeg" ? Math.min(8, 2 ** Math.floor(Math.log2(most))) : 1;
  return most - (most % halved);
}

/** @param {PictureMessage} message */
async function answerPicture({ picture, model }) {
  const started = performance.now();
  const bitmap = await createImageBitmap(picture).catch(() => {
    throw UNREADABLE;
  });
  const { width, height } = bitmap;
  const image = pixelsOf(bitmap, shrinking(picture, Math.max(width, height)));
  const decoded = performance.now();
  const isFace = Math.max(width, height) <= WHOLE_FACE_SIDE;
  const found = isFace ? [] : await (await networks).detector.detect(image);
  const crops = isFace ? [wholeFace(image)] : found.map(({ box }) => cropFace(image, box));
  if (isFace) found.push({ box: { x: 0, y: 0, width, height }, confidence: NaN, clipped: false });
  const answer = await rate(found, crops, model, started, decoded);
  const [across, down] = [width / image.width, height / image.height];
  for (const { box } of answer.faces) {
    const [x, y] = [Math.round(across * box.x), Math.round(down * box.y)];
    box.width = Math.round(across * (box.x + box.width)) - x;
    box.height = Math.round(down * (box.y + box.height)) - y;
    Object.assign(box, { x, y });
  }
  return { ...answer, image: { width, height } };
}

/** @param {FrameMessage} message */
async function answerFrame(message) {
  const started = performance.now();
  const at = started / 1000;
  if (message.stream !== stream) {
    stream = message.stream;
    tracker = new FaceTracker();
    frames = new FrameDetector((await networks).detector);
  }
  const image = pixelsOf(message.frame);
  const decoded = performance.now();
  const found = await frames.detect(image, at);
  const crops = found.map(({ box }) => cropFace(image, box));
  const answer = await rate(found, crops, message.model, started, decoded);
  const tracks = tracker.update(answer.faces, at);
  answer.faces.forEach((face, index) => {
    face.track = tracks[index].number;
    face.emotions_smoothed = tracks[index].emotions;
  });
  return { ...answer, image: { width: image.width, height: image.height } };
}

/**
 * @param {Found[]} found
 * @param {Uint8Array[]} crops
 * @param {string} model
 * @param {number} started
 * @param {number} decoded
 * @returns {Promise<Omit<Answer, "image">>}
 */
async function rate(found, crops, model, started, decoded) {
  const detected = performance.now();
  const ready = await networks;
  const scores = crops.length ? await ready.rate(crops, model) : [];
  const { name, version, sha256, low_confidence_threshold: threshold } = ready.card(model);
  const done = performance.now();
  return {
    model: { name, version, sha256 },
    faces: found.map((face, index) => describe(face, scores[index], threshold)),
    timing_ms: {
      decode: decoded - started,
      detect: detected - decoded,
      queue: 0,
      inference: done - detected,
      total: done - started,
    },
  };
}

/**
 * @param {Found} found
 * @param {Record<string, number>} emotions
 * @param {number} threshold
 * @returns {Face}
 */
function describe({ box, confidence, clipped }, emotions, threshold) {
  const [dominant, best] = Object.entries(emotions).reduce((top, entry) => (entry[1] > top[1] ? entry : top));
  const warnings = [];
  if (Math.max(box.width, box.height) < FACE_SIDE) warnings.push("small_face");
  if (best < threshold) warnings.push("low_confidence");
  if (clipped) warnings.push("clipped_face");
  return {
    box,
    face_confidence: Number.isNaN(confidence) ? null : confidence,
    dominant_emotion: dominant,
    confidence: best,
    emotions,
    warnings,
  };
}

/** @param {Message} message @returns {Promise<Loaded | Answer>} */
async function answer(message) {
  if ("picture" in message) return answerPicture(message);
  if ("frame" in message) return answerFrame(message);
  networks = Networks.load();
  const { models, words } = await networks;
  return { models, runtime: words };
}

/** One after the other: they share the canvas and the sessions. */
let turn = Promise.resolve();

self.addEventListener("message", ({ data }) => {
  /** @param {Omit<Reply, "id">} reply */
  const reply = (reply) => self.postMessage({ id: data.id, ...reply });
  turn = turn.then(() =>
    answer(data).then(
      (result) => reply({ result }),
      (error) => reply({ problem: problemOf(error) }),
    ),
  );
});

/** @param {unknown} error @returns {Problem} */
function problemOf(error) {
  if (error instanceof Object && "title" in error) return /** @type {Problem} */ (error);
  const detail = error instanceof Error ? error.message : String(error); // the runtime throws numbers, too
  return { title: "This device cannot run the networks", detail };
}
