import { find, keep, make, percent } from "./dom.js";

/** @import {Box, Face} from "./types.js" */

/** CSS pixels that a label needs above its box. */
const LABEL_HEIGHT = 28;

/** Boxes over a picture or a video, placed in shares of it so that they fit at any size. */
export class Boxes {
  #frame;
  #layer;

  /** @param {HTMLElement} frame Holds the picture and a layer `.boxes`. */
  constructor(frame) {
    this.#frame = frame;
    this.#layer = find(".boxes", frame);
  }

  /**
   * @param {Face[]} faces
   * @param {{width: number, height: number}} image Pixels that the boxes are counted in.
   */
  draw(faces, image) {
    const mirrored = this.#frame.classList.contains("mirrored");
    const layerHeight = this.#layer.clientHeight;
    const boxes = keep(this.#layer, faces.length, () => make("div", { class: "box" }, make("span")));
    faces.forEach((face, index) => {
      const box = /** @type {HTMLElement} */ (boxes[index]);
      const { x, y, width, height } = shares(face.box, image, mirrored);
      // Where another face takes this element over, its box must not glide across the picture.
      const same = box.dataset.track === String(face.track);
      if (!same) box.style.transition = "none";
      box.dataset.track = String(face.track);
      box.style.left = `${100 * x}%`;
      box.style.top = `${100 * y}%`;
      box.style.width = `${100 * width}%`;
      box.style.height = `${100 * height}%`;
      if (!same) {
        box.getBoundingClientRect();
        box.style.transition = "";
      }
      box.classList.toggle("low", y * layerHeight < LABEL_HEIGHT);
      box.classList.toggle("right", x > 0.6);
      const [emotion, value] = strongest(scoresOf(face));
      find("span", box).textContent = `${emotion} ${percent(value)}`;
    });
  }

  clear() {
    this.#layer.replaceChildren();
  }
}

/**
 * @param {Box} box
 * @param {{width: number, height: number}} image
 * @param {boolean} mirrored
 * @returns {Box} Shares of the image, 0..1.
 */
export function shares(box, image, mirrored) {
  const left = mirrored ? image.width - box.x - box.width : box.x;
  return {
    x: left / image.width,
    y: box.y / image.height,
    width: box.width / image.width,
    height: box.height / image.height,
  };
}

/**
 * The scores to show: of a stream the smoothed ones.
 *
 * @param {Face} face
 */
export function scoresOf(face) {
  return face.emotions_smoothed ?? face.emotions;
}

/**
 * @param {Record<string, number>} scores
 * @returns {[string, number]}
 */
export function strongest(scores) {
  return Object.entries(scores).reduce((best, entry) => (entry[1] > best[1] ? entry : best));
}
