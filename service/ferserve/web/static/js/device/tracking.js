/** Which face of a frame is which of the frame before; smoothed emotions. As `tracking.py` does. */

/** @import {Box} from "../types.js" */

/**
 * @typedef {Object} Track
 * @property {number} number
 * @property {Box} box
 * @property {Record<string, number>} emotions  Smoothed.
 * @property {number} seenAt  Seconds.
 */

const MIN_OVERLAP = 0.3;
const MAX_ABSENCE = 1;
const MAX_ABSENT = 64;

/** Seconds in which a smoothed score covers 63 % of the way to a new one: the stream's default. */
const SMOOTHING_SECONDS = 0.5;

/** Follows faces by the overlap of their boxes. */
export class FaceTracker {
  /** @type {Track[]} */
  #tracks = [];
  #lastFrame = -Infinity;
  #numbers = 0;

  /**
   * @param {{box: Box, emotions: Record<string, number>}[]} faces
   * @param {number} at Seconds.
   * @returns {Track[]} In the order of the faces.
   */
  update(faces, at) {
    const known = this.#tracks.filter(
      ({ seenAt }) => seenAt === this.#lastFrame || at - seenAt <= MAX_ABSENCE,
    );
    const partner = match(known, faces);
    const seen = faces.map((face, index) => {
      const track = partner.get(index);
      const number = track?.number ?? (this.#numbers += 1);
      const emotions = track ? smooth(track.emotions, face.emotions, at - track.seenAt) : face.emotions;
      return { number, box: face.box, emotions, seenAt: at };
    });
    const matched = new Set(partner.values());
    const absent = known.filter((track) => !matched.has(track));
    this.#tracks = [...seen, ...absent.slice(0, MAX_ABSENT)];
    this.#lastFrame = at;
    return seen;
  }
}

/**
 * @param {Record<string, number>} before
 * @param {Record<string, number>} now
 * @param {number} seconds Between the two.
 */
function smooth(before, now, seconds) {
  const share = -Math.expm1(-seconds / SMOOTHING_SECONDS);
  const entries = Object.entries(now);
  return Object.fromEntries(
    entries.map(([name, value]) => [name, (1 - share) * before[name] + share * value]),
  );
}

/**
 * Pairs those that overlap most first.
 *
 * @param {Track[]} known
 * @param {{box: Box}[]} faces
 * @returns {Map<number, Track>} By index of the face.
 */
function match(known, faces) {
  const pairs = known.flatMap((track) =>
    faces.map(({ box }, index) => ({ track, index, shared: overlap(track.box, box) })),
  );
  /** @type {Map<number, Track>} */
  const partner = new Map();
  const taken = new Set();
  for (const { track, index, shared } of pairs.sort((one, other) => other.shared - one.shared)) {
    if (shared < MIN_OVERLAP) break;
    if (taken.has(track) || partner.has(index)) continue;
    taken.add(track);
    partner.set(index, track);
  }
  return partner;
}

/**
 * @param {Box} first
 * @param {Box} second
 * @returns {number} Their intersection over their union, 0..1.
 */
export function overlap(first, second) {
  const right = Math.min(first.x + first.width, second.x + second.width);
  const bottom = Math.min(first.y + first.height, second.y + second.height);
  const width = right - Math.max(first.x, second.x);
  const height = bottom - Math.max(first.y, second.y);
  if (width <= 0 || height <= 0) return 0;
  const common = width * height;
  return common / (first.width * first.height + second.width * second.height - common);
}
