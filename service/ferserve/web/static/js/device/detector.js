/** Finds faces and cuts them out as `faces.py` and `crops.py` of the service do. */
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
 * @typedef {Object} Seen
 * @property {Box} box In pixels of the image, not whole ones.
 * @property {number} score
 *
 * @typedef {(image: Float32Array, height: number, width: number) => Promise<Record<string, Float32Array>>} Run
 *   Runs the network on `[3, height, width]`; gives its output maps by name.
 */

/** Longer side of the full size: larger images are shrunk to it. */
const FULL_SIDE = 640;

/** Seconds after which a whole frame is searched again. */
const SEARCH_SECONDS = 0.8;

const GLANCE = 0.5;
const LEAST_SIDE = 160;
const CLEAR_SIDE = 48;
const DOUBT = 0.05;
const MAX_CLOSER = 10;
const CLOSER_SIDE = 128;
const CLOSER_FACE = 64;
const MAX_ENLARGED = 4;
export const FACE_SIDE = 48;
const MIN_CONFIDENCE = 0.5;
const CROP_SCALE = 1.066;
const STRIDE = 4;
const SIDE_MULTIPLE = 32;
const MAX_OVERLAP = 0.3;
const MAX_CANDIDATES = 1000;
const PADDING = 128;
const REDUCING_GAP = 2;

/** CenterFace; the constants above are the service's: `faces.py`, `crops.py` and `tracking.py` say why. */
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
   * @param {Box[]} near Where faces were a moment ago; while each is found again, the rest of the image is not looked at.
   * @returns {Promise<Found[]>} Largest first.
   */
  async detect(image, near = []) {
    let seen = near.length && near.length <= MAX_CLOSER ? await this.#lookCloser(image, near) : [];
    if (!near.every((box) => seen.some((other) => overlap(box, other.box) > MAX_OVERLAP)) || !near.length) {
      seen = await this.#search(image);
    }
    const found = seen.flatMap((one) => asFound(one, image));
    return found.sort((one, other) => area(other) - area(one));
  }

  /**
   * Looks at the whole image, small; then closer where a face may be.
   *
   * @param {Pixels} image
   */
  async #search(image) {
    const longer = Math.max(image.width, image.height);
    const full = Math.min(1, FULL_SIDE / longer);
    const small = Math.max(GLANCE * full, LEAST_SIDE / longer);
    const whole = { x: 0, y: 0, width: image.width, height: image.height };
    const seen = await this.#look(image, whole, small, DOUBT);
    const isClear = (/** @type {Seen} */ { box, score }) =>
      score >= MIN_CONFIDENCE && Math.max(box.width, box.height) * small >= CLEAR_SIDE;
    const doubtful = seen.filter((one) => !isClear(one)).map(({ box }) => box);
    if (doubtful.length > MAX_CLOSER) return this.#look(image, whole, Math.max(full, small), MIN_CONFIDENCE);
    return best([...seen.filter(isClear), ...(await this.#lookCloser(image, doubtful))]);
  }

  /**
   * Looks at the surroundings of boxes, each at the size the network sees best.
   *
   * @param {Pixels} image
   * @param {Box[]} boxes
   */
  async #lookCloser(image, boxes) {
    /** @type {Seen[]} */
    const seen = [];
    for (const box of boxes) {
      const zoom = Math.min(CLOSER_FACE / Math.max(box.width, box.height), MAX_ENLARGED);
      const reach = CLOSER_SIDE / zoom / 2;
      const [x, y] = centre(box);
      const region = clip(rint(x - reach), rint(y - reach), rint(x + reach), rint(y + reach), image);
      if (region.width <= 0 || region.height <= 0) continue; // the image is another size than the one before
      for (const one of await this.#look(image, region, zoom, MIN_CONFIDENCE)) {
        const [atX, atY] = centre(one.box);
        // Faces at the rim may be cut off.
        if (Math.max(Math.abs(atX - x), Math.abs(atY - y)) <= reach / 2) seen.push(one);
      }
    }
    return best(seen);
  }

  /**
   * Runs the network once on a part of the image, scaled.
   *
   * @param {Pixels} image
   * @param {Box} region Of the image.
   * @param {number} zoom
   * @param {number} least Score.
   */
  async #look(image, region, zoom, least) {
    const { x, y, width, height } = region;
    const isWhole = width === image.width && height === image.height;
    const part = isWhole ? image : cut(image, x, y, x + width, y + height);
    const scaled = shrink(part, Math.max(1, rint(width * zoom)), Math.max(1, rint(height * zoom)));
    const [rows, columns] = [scaled.height, scaled.width].map(
      (side) => Math.ceil(side / SIDE_MULTIPLE) * SIDE_MULTIPLE,
    );
    const maps = await this.#run(this.#fill(scaled, rows, columns), rows, columns);
    const [across, down] = [scaled.width / width, scaled.height / height];
    const seen = decode(maps, columns / STRIDE, least).map(({ box, score }) => ({
      box: { x: x + box.x / across, y: y + box.y / down, width: box.width / across, height: box.height / down },
      score,
    }));
    return best(seen);
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
  #searchedAt = -Infinity;

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
    const searches = !this.#boxes.length || at >= this.#searchedAt + SEARCH_SECONDS;
    if (searches) this.#searchedAt = at;
    const found = await this.#detector.detect(image, searches ? [] : this.#boxes);
    this.#boxes = found.map(({ box }) => box);
    return found;
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
 * @param {number} least Score.
 * @returns {Seen[]} Best first.
 */
function decode({ heatmap, scale, offset }, columns, least) {
  const cells = heatmap.length;
  return [...heatmap.keys()]
    .filter((cell) => heatmap[cell] >= least)
    .sort((one, other) => heatmap[other] - heatmap[one])
    .slice(0, MAX_CANDIDATES)
    .map((cell) => {
      const height = Math.exp(scale[cell]) * STRIDE;
      const width = Math.exp(scale[cells + cell]) * STRIDE;
      const y = (Math.floor(cell / columns) + 0.5 + offset[cell]) * STRIDE;
      const x = ((cell % columns) + 0.5 + offset[cells + cell]) * STRIDE;
      return { box: { x: x - width / 2, y: y - height / 2, width, height }, score: heatmap[cell] };
    });
}

/**
 * Keeps the best of those that overlap, best first.
 *
 * @param {Seen[]} seen
 */
function best(seen) {
  /** @type {Seen[]} */
  const kept = [];
  for (const one of [...seen].sort((first, second) => second.score - first.score)) {
    if (kept.every(({ box }) => overlap(box, one.box) <= MAX_OVERLAP)) kept.push(one);
  }
  return kept;
}

/**
 * @param {Seen} seen
 * @param {Pixels} image
 * @returns {Found[]} One, or none that lies in the padding.
 */
function asFound({ box: { x, y, width, height }, score }, image) {
  const [left, top, right, bottom] = [x, y, x + width, y + height].map(rint);
  const box = clip(left, top, right, bottom, image);
  if (box.width <= 0 || box.height <= 0) return [];
  const isCut = box.x !== left || box.y !== top || box.x + box.width !== right || box.y + box.height !== bottom;
  return [{ box, confidence: score, clipped: isCut || cropLeaves(box, image) }];
}

/** @param {Box} box */
function centre({ x, y, width, height }) {
  return [x + width / 2, y + height / 2];
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
