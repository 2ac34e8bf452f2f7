import { find, make } from "./dom.js";

/** @import {ModelCard, ModelList} from "./types.js" */

/**
 * The usual score of FER2013 first; the next where a card lacks it, so that all can be compared.
 *
 * @type {Record<string, string>}
 */
const SPLITS = { private: "private test images", all: "test images", public: "public test images" };

/** Names for people. @type {Record<string, string>} */
const TITLES = {
  custom_cnn: "Custom CNN",
  vgg16: "VGG16",
  resnet50v2: "ResNet50V2",
  light: "Light",
  crowd: "Crowd",
};

/** A radio button for each model, with its accuracy. */
export class ModelPicker {
  #list = find("#model-list");
  #note = find("#model-note");
  #onPick;

  /** @param {(name: string) => void} onPick */
  constructor(onPick) {
    this.#onPick = onPick;
  }

  /**
   * @param {ModelList} list
   * @param {string} chosen
   */
  show({ models }, chosen) {
    const split = Object.keys(SPLITS).find((name) => models.every((card) => card.metrics[name]));
    const words = split && SPLITS[split];
    this.#note.textContent = words ? `With the accuracy of each on FER2013's ${words}.` : "";
    this.#list.replaceChildren(...models.map((card) => this.#makeOption(card, chosen, split)));
  }

  /**
   * @param {ModelCard} card
   * @param {string} chosen
   * @param {string | undefined} split
   */
  #makeOption(card, chosen, split) {
    const input = make("input", { type: "radio", name: "model", value: card.name });
    input.checked = card.name === chosen;
    input.addEventListener("change", () => this.#onPick(card.name));
    const option = make("label", { class: "model" }, input, make("b", {}, TITLES[card.name] ?? card.name));
    if (split) {
      const share = `${(100 * card.metrics[split].accuracy).toFixed(1)} %`;
      option.append(make("span", { class: "accuracy" }, share));
    }
    option.append(make("span", { class: "hint" }, card.description));
    return option;
  }
}
