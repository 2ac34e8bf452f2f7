import { ProblemError } from "../api.js";
import { FrameStream } from "../stream.js";

/** @import {Camera} from "../camera.js" */
/** @import {StreamEvents} from "../stream.js" */
/** @import {Answer, ModelList} from "../types.js" */
/** @import {Loaded, Reply} from "./worker.js" */

/** The networks in this page, where the service has them otherwise: a worker runs them. */
export class Device {
  /** @type {Worker | null} */
  #worker = null;
  /** @type {Map<number, {resolve: (result: any) => void, reject: (error: Error) => void}>} */
  #waiting = new Map();
  #asked = 0;
  /** @type {Loaded | null} */
  #loaded = null;

  get isLoaded() {
    return this.#loaded !== null;
  }

  /** What runs the networks, in words. */
  get runtime() {
    return this.#loaded?.runtime ?? "";
  }

  /** Loads all that is needed; from then on at most another network is fetched. @throws {ProblemError} */
  async start() {
    this.stop();
    const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker = worker;
    worker.addEventListener("message", ({ data }) => this.#settle(data));
    worker.addEventListener("error", ({ message }) => {
      const detail = message || "Part of the code could not be loaded. Is this device online?";
      for (const id of this.#waiting.keys()) {
        this.#settle({ id, problem: { title: "This device cannot run the networks", detail } });
      }
    });
    this.#loaded = await this.ask({ load: true });
  }

  /** Frees what was loaded. */
  stop() {
    this.#worker?.terminate();
    this.#worker = this.#loaded = null;
    this.#waiting.clear();
  }

  /** @returns {Promise<ModelList>} */
  async models() {
    return this.#loaded?.models ?? { default: "", models: [] };
  }

  /**
   * @param {Blob} picture
   * @param {string} model
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  async recognize(picture, model, signal) {
    const answer = await this.ask({ picture, model });
    signal.throwIfAborted();
    return answer;
  }

  /**
   * @param {string} model
   * @param {StreamEvents} on
   */
  openStream(model, on) {
    return new DeviceStream(this, model, on);
  }

  /**
   * @param {Object} message See the worker.
   * @param {Transferable[]} [given]
   * @returns {Promise<any>}
   */
  ask(message, given = []) {
    this.#asked += 1;
    const id = this.#asked;
    this.#worker?.postMessage({ id, ...message }, given);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  /** @param {Reply} reply */
  #settle(reply) {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if ("problem" in reply) waiting?.reject(new ProblemError(reply.problem));
    else waiting?.resolve(reply.result);
  }
}

let streams = 0;

/** Frames to the worker, and its answers. */
class DeviceStream extends FrameStream {
  #device;
  #model;
  #number = (streams += 1);

  /**
   * @param {Device} device
   * @param {string} model
   * @param {StreamEvents} on
   */
  constructor(device, model, on) {
    super(on);
    this.#device = device;
    this.#model = model;
  }

  /** @param {Camera} camera */
  async film(camera) {
    const bitmap = await camera.bitmap();
    if (this.isClosed) {
      bitmap.close();
      return;
    }
    const frame = this.count();
    const message = { frame: bitmap, model: this.#model, stream: this.#number };
    this.#device.ask(message, [bitmap]).then(
      (answer) => this.answered({ ...answer, frame, dropped: 0 }),
      ({ problem }) => this.answered({ frame, problem }),
    );
  }
}
