import { ProblemError } from "./api.js";
import { find, make } from "./dom.js";

/** @import {Problem} from "./types.js" */

/** Shows a problem as the API words it; asks for a key where one is missing. */
export class ProblemView {
  #place = find("#problem");
  #form = /** @type {HTMLFormElement} */ (find("#key-form"));
  #input = /** @type {HTMLInputElement} */ (find("#key"));
  #shown = "";

  /** @param {(key: string) => void} onKey Is given the key that was typed. */
  constructor(onKey) {
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      const key = this.#input.value;
      this.#input.value = "";
      this.clear();
      onKey(key);
    });
  }

  /**
   * @param {Problem} problem
   * @param {() => void} [retry] Offered as a button.
   */
  show(problem, retry) {
    const { title, detail, status, code, request_id: request, retryAfter } = problem;
    const shown = JSON.stringify([title, detail, status]);
    if (shown === this.#shown) return; // screen readers would say it again for each frame
    this.#shown = shown;
    const facts = [status && `${status} ${code ?? ""}`.trim(), request && `request ${request}`];
    const box = make("div", { class: "problem" }, make("b", {}, title), detail);
    if (retryAfter) box.append(` Try again in ${retryAfter} s.`);
    const small = facts.filter(Boolean).join(" · ");
    if (small) box.append(make("small", {}, small));
    if (retry) {
      const button = make("button", { type: "button", class: "button small" }, "Try again");
      button.addEventListener("click", () => {
        find("#stage").focus(); // as this button goes
        this.clear();
        retry();
      });
      box.append(make("div", {}, button));
    }
    this.#place.replaceChildren(box);
    this.#form.hidden = status !== 401;
    if (status === 401) this.#input.focus();
  }

  /**
   * Shows what a call threw.
   *
   * @param {unknown} error
   * @param {() => void} [retry]
   */
  showError(error, retry) {
    if (error instanceof DOMException && error.name === "AbortError") return;
    if (!(error instanceof ProblemError)) throw error;
    this.show(error.problem, error.problem.status === 401 ? undefined : retry);
  }

  clear() {
    if (!this.#place.firstChild) return; // called for each frame of a stream
    this.#place.replaceChildren();
    this.#shown = "";
    this.#form.hidden = true;
  }
}
