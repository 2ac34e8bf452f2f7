/**
 * What several parts of the page share.
 *
 * @typedef {Object} State
 * @property {string} model  Name of the chosen model; empty until the models are known.
 * @property {"picture" | "camera"} source
 * @property {"server" | "device"} place  Where the networks run.
 */

/** Holds the state, and tells those who asked when a part of it changes. */
export class Store {
  /** @param {State} initial */
  constructor(initial) {
    this.state = Object.freeze({ ...initial });
    /** @type {Map<keyof State, (() => void)[]>} */
    this.listeners = new Map();
  }

  /** @param {Partial<State>} changes */
  set(changes) {
    const before = this.state;
    this.state = Object.freeze({ ...before, ...changes });
    for (const [name, listeners] of this.listeners) {
      if (before[name] !== this.state[name]) listeners.forEach((listener) => listener());
    }
  }

  /**
   * @param {keyof State} name
   * @param {() => void} listener
   */
  on(name, listener) {
    this.listeners.set(name, [...(this.listeners.get(name) ?? []), listener]);
  }
}
