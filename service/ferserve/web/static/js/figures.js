import { find, make } from "./dom.js";

/** @import {Answer} from "./types.js" */

/** Seconds over which frames a second are counted. */
const RATE_SECONDS = 3;

/** Times and rates, in a row. */
export class Figures {
  #list = find("#figures");
  /** Where the networks run, as a figure's name. */
  place = "On the server";

  /**
   * @param {Answer} answer
   * @param {number} roundTrip Milliseconds.
   */
  showPicture({ timing_ms: timing }, roundTrip) {
    this.#show([
      ["Round trip", milliseconds(roundTrip), "ms"],
      [this.place, milliseconds(timing.total), "ms"],
      ["Finding faces", milliseconds(timing.detect), "ms"],
      ["Model", milliseconds(timing.inference), "ms"],
    ]);
  }

  /**
   * @param {Answer} answer
   * @param {number} roundTrip Milliseconds.
   * @param {number} rate Frames a second.
   */
  showLive({ timing_ms: timing, dropped = 0 }, roundTrip, rate) {
    this.#show([
      ["Frames a second", rate.toFixed(1), ""],
      ["Round trip", milliseconds(roundTrip), "ms"],
      [this.place, milliseconds(timing.total), "ms"],
      ["Frames dropped", String(dropped), ""],
    ]);
  }

  clear() {
    this.#list.replaceChildren();
  }

  /** @param {[string, string, string][]} figures Name, value, unit. */
  #show(figures) {
    this.#list.replaceChildren(
      ...figures.map(([name, value, unit]) =>
        make(
          "div",
          {},
          make("dt", {}, name),
          make("dd", {}, value, ...(unit ? [" ", make("small", {}, unit)] : [])),
        ),
      ),
    );
  }
}

/** Counts events a second over the last seconds. */
export class Rate {
  /** @type {number[]} */
  #times = [];

  /**
   * @param {number} now Seconds.
   * @returns {number} Events a second.
   */
  count(now) {
    this.#times.push(now);
    this.#times = this.#times.filter((time) => now - time <= RATE_SECONDS);
    const span = now - this.#times[0];
    return span > 0 ? (this.#times.length - 1) / span : 0;
  }
}

/** @param {number} value */
function milliseconds(value) {
  return value < 10 ? value.toFixed(1) : String(Math.round(value));
}
