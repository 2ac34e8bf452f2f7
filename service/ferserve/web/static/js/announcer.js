import { summarize } from "./faces.js";
import { scoresOf, strongest } from "./drawing.js";

/** @import {Face} from "./types.js" */

/** Milliseconds between two sentences about a stream: a screen reader must be able to keep up. */
const PAUSE = 4000;

/** Says what is seen, in a live region; of a stream only when the words change. */
export class Announcer {
  #region;
  /** @type {string | null} Null where it was not about faces. */
  #said = null;
  #at = -Infinity;

  /** @param {HTMLElement} region */
  constructor(region) {
    this.#region = region;
  }

  /** @param {string} text */
  say(text) {
    this.#region.textContent = text;
    this.#said = null;
    this.#at = -Infinity;
  }

  /** @param {Face[]} faces */
  sayLive(faces) {
    const gist = faces.map((face) => strongest(scoresOf(face))[0]).join();
    if (gist === this.#said || performance.now() - this.#at < PAUSE) return;
    this.#region.textContent = summarize(faces, false); // its numbers would soon be wrong
    this.#said = gist;
    this.#at = performance.now();
  }
}
