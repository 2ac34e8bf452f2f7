import { find } from "./dom.js";

/**
 * @typedef {Object} Picture
 * @property {Blob} blob
 * @property {string} name
 * @property {URL} [download]  The address of ours.
 * @property {boolean} [isPrivate]  It was chosen where nothing is sent.
 */

/** Takes pictures that are dropped, pasted or chosen; shows the last one. */
export class PictureSource {
  #frame = find("#picture-frame");
  #image = /** @type {HTMLImageElement} */ (find("#picture"));
  #drop = find("#drop");
  #file = /** @type {HTMLInputElement} */ (find("#file"));
  #onPicture;

  /** @param {(picture: Picture) => void} onPicture */
  constructor(onPicture) {
    this.#onPicture = onPicture;
    find("#choose").addEventListener("click", () => this.#file.click());
    this.#drop.addEventListener("click", () => this.#file.click());
    this.#file.addEventListener("change", () => {
      this.#take(this.#file.files);
      this.#file.value = ""; // so that the same file can be chosen again
    });
    document.addEventListener("paste", (event) => this.#take(event.clipboardData?.files));
    this.#acceptDrops(find("#stage"));
  }

  /**
   * Shows a picture, if the browser knows its format: the service knows more of them.
   *
   * @param {Picture} picture
   */
  async show({ blob, name }) {
    URL.revokeObjectURL(this.#image.src);
    this.#image.src = URL.createObjectURL(blob);
    this.#image.alt = `The picture ${name}`;
    await this.#image.decode().catch(() => {});
    const { naturalWidth: width, naturalHeight: height } = this.#image;
    this.fit(width && height ? { width, height } : { width: 4, height: 3 });
    this.#drop.hidden = true;
    this.#frame.hidden = false;
  }

  /** @param {{width: number, height: number}} size */
  fit({ width, height }) {
    this.#frame.style.setProperty("--ratio", String(width / height));
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    this.#frame.classList.toggle("busy", busy);
  }

  /** @param {FileList | null | undefined} files */
  #take(files) {
    const file = files?.[0];
    if (file) this.#onPicture({ blob: file, name: file.name });
  }

  /** @param {HTMLElement} area */
  #acceptDrops(area) {
    /** @param {boolean} on */
    const mark = (on) => area.classList.toggle("dragging", on);
    area.addEventListener("dragover", (event) => {
      event.preventDefault();
      mark(true);
    });
    area.addEventListener("dragleave", (event) => {
      if (!area.contains(/** @type {Node | null} */ (event.relatedTarget))) mark(false);
    });
    area.addEventListener("drop", (event) => {
      event.preventDefault();
      mark(false);
      this.#take(event.dataTransfer?.files);
    });
    // A picture that misses the area must not take the page's place.
    for (const name of ["dragover", "drop"]) {
      window.addEventListener(name, (event) => event.preventDefault());
    }
  }
}
