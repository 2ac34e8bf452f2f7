/** Finds faces and cuts them out as `faces.py` of the service does. */
import { BILINEAR, LANCZOS, cut, grey, reduce, resample, rint } from "./pixels.js";
import { overlap } from "./tracking.js";

/** @import {Box} from "../types.js" */
/** @import {Pixels} from "./pixels.js" */

/**
 * @typedef {Object} Found
 * @property {Box} box
 * @property {number} confidence
 * @property {boolean} clipped
 *
 * @typedef {(image: Float32Array, height: number, width: number) => Promise<Record<string, Float32Array>>} Run
 *   Runs the network on `[3, height, width]`; gives its output maps by name.
 */

/** Longer sides of the looks at a picture, in pixels; the next only where the last found nothing. */
export const PICTURE_SIDES = [640, 160];

/** Of the looks at a whole frame of a camera: people sit near it, and their faces are large. */
export const FRAME_SIDES = [320, 640, 160];

/** Longer side of a look at the surroundings of a face, and their side beside the face's. */
const NEAR_SIDE = 128;
const SURROUNDINGS = 2;

/** Most faces that are looked for one by one: of more, a look at the whole frame costs less. */
const MOST_NEAR = 4;

/** Seconds after which a whole frame is looked at: longest until a new face is seen. */
const WHOLE_EVERY = 1;

export const FACE_SIDE = 48;
const MIN_CONFIDENCE = 0.5;
const CROP_SCALE = 1.066;
const STRIDE = 4;
const SIDE_MULTIPLE = 32;
const MAX_OVERLAP = 0.3;
const MAX_CANDIDATES = 1000;
const PADDING = 128;
const REDUCING_GAP = 2;

/** CenterFace; the constants above are those of `faces.py`, which says why. */
export class FaceDetector {
  #run;
  /** @type {Map<number, Float32Array>} Inputs by size: they are large, and few sizes recur. */
  #inputs = new Map();

  /** @param {Run} run */
  constructor(run) {
    this.#run = run;
  }

  /**
   * @param {Pixels} image
   * @param {number[]} sides
   * @returns {Promise<Found[]>} Largest first.
   */
  async detect(image, sides = PICTURE_SIDES) {
    const longest = Math.max(image.width, image.height);
    const zooms = new Set(
      sides.map((side, index) => (index < sides.length - 1 ? Math.min(1, side / longest) : side / longest)),
    );
    const whole = { x: 0, y: 0, width: image.width, height: image.height };
    for (const zoom of zooms) {
      const found = await this.look(image, whole, zoom);
      if (found.length) return found;
    }
    return [];
  }

  /**
   * Looks at each face's surroundings.
   *
   * @param {Pixels} image
   * @param {Box[]} boxes Where they were.
   */
  async detectNear(image, boxes) {
    /** @type {Found[]} */
    let found = [];
    for (const box of boxes) {
      const region = surroundings(box, image);
      const zoom = Math.min(1, NEAR_SIDE / Math.max(region.width, region.height));
      found = merge(found, await this.look(image, region, zoom));
    }
    return found;
  }

  /**
   * @param {Pixels} image
   * @param {Box} region Of the image.
   * @param {number} zoom
   */
  async look(image, region, zoom) {
    const { x, y, width, height } = region;
    const isWhole = width === image.width && height === image.height;
    const part = isWhole ? image : cut(image, x, y, x + width, y + height);
    const scaled = shrink(part, Math.max(1, rint(width * zoom)), Math.max(1, rint(height * zoom)));
    const [rows, columns] = [scaled.height, scaled.width].map(
      (side) => Math.ceil(side / SIDE_MULTIPLE) * SIDE_MULTIPLE,
    );
    const maps = await this.#run(this.#fill(scaled, rows, columns), rows, columns);
    const across = scaled.width / width;
    const down = scaled.height / height;
    /** @type {Found[]} */
    const found = [];
    for (const { corners, score } of suppress(decode(maps, columns / STRIDE))) {
      const [left, top, right, bottom] = corners.map(
        (at, index) => rint(index % 2 ? at / down + y : at / across + x),
      );
      const box = clip(left, top, right, bottom, image);
      if (box.width <= 0 || box.height <= 0) continue; // lies in the padding
      const isCut = box.x !== left || box.y !== top || box.x + box.width !== right || box.y + box.height !== bottom;
      found.push({ box, confidence: score, clipped: isCut || cropLeaves(box, image) });
    }
    return largestFirst(found);
  }

  /**
   * @param {Pixels} image
   * @param {number} rows
   * @param {number} columns
   */
  #fill({ data, width, height, channels }, rows, columns) {
    const plane = rows * columns;
    const input = this.#inputs.get(plane) ?? new Float32Array(3 * plane);
    this.#inputs.set(plane, input.fill(PADDING));
    for (let y = 0; y < height; y += 1) {
      let from = y * width * channels;
      for (let at = y * columns; at < y * columns + width; at += 1, from += channels) {
        input[at] = data[from];
        input[plane + at] = data[from + 1];
        input[2 * plane + at] = data[from + 2];
      }
    }
    return input;
  }
}

/** Follows the faces of a camera: near where they were, and in the whole frame every so often. */
export class FrameDetector {
  #detector;
  /** @type {Box[]} */
  #boxes = [];
  #wholeAt = -Infinity;

  /** @param {FaceDetector} detector */
  constructor(detector) {
    this.#detector = detector;
  }

  /**
   * @param {Pixels} image
   * @param {number} at Seconds.
   * @returns {Promise<Found[]>}
   */
  async detect(image, at) {
    const known = this.#boxes.length <= MOST_NEAR ? this.#boxes : [];
    let found = await this.#detector.detectNear(image, known);
    if (found.length === 0 || found.length < this.#boxes.length || at - this.#wholeAt >= WHOLE_EVERY) {
      found = merge(found, await this.#detector.detect(image, FRAME_SIDES));
      this.#wholeAt = at;
    }
    this.#boxes = found.map(({ box }) => box);
    return largestFirst(found);
  }
}

/**
 * The square of the image that the networks see of a face, 48×48 grey.
 *
 * @param {Pixels} image
 * @param {Box} box
 */
export function cropFace(image, box) {
  return cutSquare(image, ...cropSquare(box));
}

/**
 * A whole image as one face.
 *
 * @param {Pixels} image
 */
export function wholeFace(image) {
  const side = Math.max(image.width, image.height);
  return cutSquare(image, (image.width - side) / 2, (image.height - side) / 2, side);
}

/**
 * @param {Record<string, Float32Array>} maps
 * @param {number} columns Of the maps.
 */
function decode({ heatmap, scale, offset }, columns) {
  const cells = heatmap.length;
  const best = [...heatmap.keys()]
    .filter((cell) => heatmap[cell] >= MIN_CONFIDENCE)
    .sort((one, other) => heatmap[other] - heatmap[one])
    .slice(0, MAX_CANDIDATES);
  return best.map((cell) => {
    const height = Math.exp(scale[cell]) * STRIDE;
    const width = Math.exp(scale[cells + cell]) * STRIDE;
    const y = (Math.floor(cell / columns) + 0.5 + offset[cell]) * STRIDE;
    const x = ((cell % columns) + 0.5 + offset[cells + cell]) * STRIDE;
    const corners = [x - width / 2, y - height / 2, x + width / 2, y + height / 2];
    return { corners, box: { x: corners[0], y: corners[1], width, height }, score: heatmap[cell] };
  });
}

/**
 * Keeps the best of those that overlap.
 *
 * @template {{box: Box}} T
 * @param {T[]} candidates Best first.
 * @param {T[]} kept
 * @returns {T[]}
 */
function suppress(candidates, kept = []) {
  for (const candidate of candidates) {
    if (kept.every(({ box }) => overlap(box, candidate.box) <= MAX_OVERLAP)) kept.push(candidate);
  }
  return kept;
}

/**
 * @param {Found[]} first
 * @param {Found[]} second Those that are not among the first are added.
 */
function merge(first, second) {
  return suppress(second, [...first]);
}

/** @param {Found[]} found */
function largestFirst(found) {
  return found.sort((one, other) => area(other) - area(one));
}

/** @param {Found} found */
function area({ box }) {
  return box.width * box.height;
}

/**
 * @param {number} left
 * @param {number} top
 * @param {number} right
 * @param {number} bottom
 * @param {{width: number, height: number}} image
 * @returns {Box}
 */
function clip(left, top, right, bottom, { width, height }) {
  const within = (/** @type {number} */ value, /** @type {number} */ most) => Math.min(Math.max(value, 0), most);
  const [x, y] = [within(left, width), within(top, height)];
  return { x, y, width: within(right, width) - x, height: within(bottom, height) - y };
}

/**
 * @param {Box} box
 * @param {Pixels} image
 */
function surroundings(box, image) {
  const reach = (SURROUNDINGS * Math.max(box.width, box.height)) / 2;
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  return clip(Math.floor(x - reach), Math.floor(y - reach), Math.ceil(x + reach), Math.ceil(y + reach), image);
}

/**
 * Shrinks for the detector: much larger images by a whole number first.
 *
 * @param {Pixels} image
 * @param {number} width
 * @param {number} height
 */
function shrink(image, width, height) {
  const across = Math.max(1, Math.floor(image.width / width / REDUCING_GAP));
  const down = Math.max(1, Math.floor(image.height / height / REDUCING_GAP));
  if (across === 1 && down === 1) return resample(image, width, height, BILINEAR);
  const right = image.width / across;
  const bottom = image.height / down;
  return resample(reduce(image, across, down), width, height, BILINEAR, [0, 0, right, bottom]);
}

/**
 * @param {Box} box
 * @returns {[number, number, number]} Left, top and side.
 */
function cropSquare({ x, y, width, height }) {
  const side = CROP_SCALE * height;
  return [x + (width - side) / 2, y + (height - side) / 2, side];
}

/**
 * @param {Box} box
 * @param {{width: number, height: number}} image
 */
function cropLeaves(box, { width, height }) {
  const [left, top, side] = cropSquare(box);
  return left < 0 || top < 0 || left + side > width || top + side > height;
}

/**
 * @param {Pixels} image
 * @param {number} left
 * @param {number} top
 * @param {number} side
 * @returns {Uint8Array} `[48, 48]`; what lies outside the image repeats its edge.
 */
function cutSquare(image, left, top, side) {
  const [firstX, lastX, x1, x2] = visible(left, side, image.width);
  const [firstY, lastY, y1, y2] = visible(top, side, image.height);
  const [x0, y0] = [Math.floor(x1), Math.floor(y1)];
  const part = grey(cut(image, x0, y0, Math.ceil(x2), Math.ceil(y2)));
  const box = /** @type {[number, number, number, number]} */ ([x1 - x0, y1 - y0, x2 - x0, y2 - y0]);
  const shown = resample(part, lastX - firstX, lastY - firstY, LANCZOS, box);
  const face = new Uint8Array(FACE_SIDE * FACE_SIDE);
  for (let y = 0; y < FACE_SIDE; y += 1) {
    const row = Math.min(Math.max(y - firstY, 0), shown.height - 1);
    for (let x = 0; x < FACE_SIDE; x += 1) {
      const column = Math.min(Math.max(x - firstX, 0), shown.width - 1);
      face[y * FACE_SIDE + x] = shown.data[row * shown.width + column];
    }
  }
  return face;
}

/**
 * @param {number} start
 * @param {number} side
 * @param {number} length
 * @returns {[number, number, number, number]}
 */
function visible(start, side, length) {
  const step = side / FACE_SIDE;
  const slack = 1e-6;
  const first = Math.min(Math.max(0, Math.ceil(-start / step - slack)), FACE_SIDE - 1);
  const last = Math.max(first + 1, Math.min(FACE_SIDE, Math.floor((length - start) / step + slack)));
  const low = Math.min(Math.max(0, start + first * step), length - 1);
  return [first, last, low, Math.min(length, start + last * step)];
}
