import { find, keep, make, percent } from "./dom.js";
import { scoresOf, strongest } from "./drawing.js";

/** @import {Face} from "./types.js" */

/** Most faces whose bars are shown; all have their box in the picture. */
const MOST_SHOWN = 6;

/** @type {Record<string, string>} */
const WARNINGS = {
  small_face: "Small face: it had to be enlarged.",
  low_confidence: "The model is not sure.",
  clipped_face: "The face is at the picture's edge.",
};

/** The faces of the last answer with a bar for each emotion. */
export class FaceList {
  #list = find("#faces");
  #onPick;

  /** @param {(track: number) => void} onPick Is given the face that the timeline should follow. */
  constructor(onPick) {
    this.#onPick = onPick;
  }

  /**
   * Shows faces, changing the elements that are there: a screen reader keeps its place.
   *
   * @param {Face[]} faces
   * @param {number} [followed] Track in the timeline.
   */
  show(faces, followed) {
    const shown = faces.slice(0, MOST_SHOWN);
    const items = keep(this.#list, shown.length, () => this.#makeItem());
    shown.forEach((face, index) => {
      const item = /** @type {HTMLElement} */ (items[index]);
      const [emotion, value] = strongest(scoresOf(face));
      find(".face-word", item).textContent = emotion;
      find(".face-value", item).replaceChildren(
        String(Math.round(100 * value)),
        make("small", {}, "%"),
      );
      const number = face.track ?? index + 1;
      find(".face-number span", item).textContent = `Face ${number}`;
      const button = /** @type {HTMLButtonElement} */ (find(".face-number button", item));
      button.hidden = face.track === undefined || faces.length < 2;
      button.setAttribute("aria-pressed", String(face.track === followed));
      button.setAttribute("aria-label", `Face ${number} in the timeline`);
      button.value = String(face.track);
      showBars(find(".bars", item), scoresOf(face), emotion);
      showWarnings(find(".warnings", item), face.warnings);
    });
  }

  #makeItem() {
    const button = make("button", { type: "button", class: "button" }, "In the timeline");
    button.addEventListener("click", () => this.#onPick(Number(button.value)));
    return make(
      "li",
      { class: "face" },
      make("div", { class: "face-number" }, make("span"), button),
      make(
        "div",
        { class: "face-head" },
        make("span", { class: "face-word" }),
        make("span", { class: "face-value" }),
      ),
      make("ul", { class: "bars" }),
      make("ul", { class: "warnings" }),
    );
  }
}

/**
 * @param {HTMLElement} list
 * @param {Record<string, number>} scores
 * @param {string} top
 */
function showBars(list, scores, top) {
  const entries = Object.entries(scores);
  const rows = keep(list, entries.length, () =>
    make(
      "li",
      {},
      make("span", { class: "name" }),
      make("span", { class: "bar", "aria-hidden": "true" }, make("i")),
      make("span", { class: "amount" }),
    ),
  );
  entries.forEach(([emotion, value], index) => {
    const row = rows[index];
    row.classList.toggle("top-one", emotion === top);
    find(".name", row).textContent = emotion;
    find(".bar i", row).style.setProperty("--value", String(value));
    find(".amount", row).textContent = percent(value);
  });
}

/**
 * @param {HTMLElement} list
 * @param {string[]} warnings
 */
function showWarnings(list, warnings) {
  list.hidden = warnings.length === 0;
  const rows = keep(list, warnings.length, () => make("li"));
  warnings.forEach((warning, index) => {
    rows[index].textContent = WARNINGS[warning] ?? warning;
  });
}

/**
 * Says what was seen in a sentence.
 *
 * @param {Face[]} faces
 * @param {boolean} [withScores]
 */
export function summarize(faces, withScores = true) {
  if (faces.length === 0) return "No face was found.";
  const words = faces.slice(0, MOST_SHOWN).map((face) => {
    const [emotion, value] = strongest(scoresOf(face));
    return withScores ? `${emotion} ${percent(value)}` : emotion;
  });
  const more = faces.length > MOST_SHOWN ? ", and more" : "";
  const count = faces.length === 1 ? "One face" : `${faces.length} faces`;
  return `${count}: ${words.join(", ")}${more}.`;
}
