import { Camera } from "./camera.js";

/** @import {FrameStream, StreamEvents} from "./stream.js" */
/** @import {Answer, Problem} from "./types.js" */

/**
 * @typedef {Object} LiveEvents
 * @property {(camera: Camera) => void} started
 * @property {(answer: Answer, roundTrip: number) => void} answer
 * @property {(problem: Problem) => void} frameProblem
 * @property {(problem?: Problem) => void} stopped  Everything is released by then.
 */

/** Browsers give hidden pages no pictures; the service ends a stream without any after 30 seconds. */
const HIDDEN_MILLISECONDS = 20_000;
const HIDDEN = { title: "The camera stopped", detail: "This page was out of sight for 20 seconds." };

/** The camera's pictures through a stream, from consent to stop. */
export class Live {
  #open;
  #video;
  #on;
  /** @type {Camera | null} */
  #camera = null;
  /** @type {FrameStream | null} */
  #stream = null;
  /** Counts starts and stops, so that what belongs to an earlier one knows it is over. */
  #run = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #hidden;

  /**
   * @param {(model: string, on: StreamEvents) => FrameStream} open
   * @param {HTMLVideoElement} video
   * @param {LiveEvents} on
   */
  constructor(open, video, on) {
    this.#open = open;
    this.#video = video;
    this.#on = on;
    window.addEventListener("pagehide", () => this.stop());
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#hidden);
      if (document.hidden) this.#hidden = setTimeout(() => this.stop(HIDDEN), HIDDEN_MILLISECONDS);
    });
  }

  /**
   * Starts; people must have agreed before.
   *
   * @param {() => string} model Asked late: people may choose while the browser asks them.
   * @throws {import("./api.js").ProblemError} The camera cannot be had.
   */
  async start(model) {
    this.#release();
    const run = this.#run;
    const camera = await Camera.open(this.#video, () => run === this.#run);
    if (!camera) return;
    if (run !== this.#run) {
      camera.close();
      return;
    }
    this.#camera = camera;
    camera.track.addEventListener("ended", () => {
      if (run !== this.#run) return;
      this.stop({ title: "The camera stopped", detail: "It was unplugged, or its permission was withdrawn." });
    });
    this.#on.started(camera);
    this.#connect(model());
  }

  /** Goes on with another model. @param {string} model */
  useModel(model) {
    if (this.#camera) this.#connect(model);
  }

  /** Releases camera and connection, then tells. @param {Problem} [problem] Why, if not on request. */
  stop(problem) {
    if (!this.#release()) return;
    this.#on.stopped(problem);
  }

  #release() {
    this.#run += 1;
    const wasLive = this.#camera !== null;
    this.#stream?.close();
    this.#camera?.close();
    this.#stream = this.#camera = null;
    return wasLive;
  }

  /** @param {string} model */
  #connect(model) {
    this.#stream?.close();
    const stream = this.#open(model, {
      answer: this.#on.answer,
      frameProblem: this.#on.frameProblem,
      end: (problem) => this.stop(problem),
    });
    this.#stream = stream;
    void this.#film(stream);
  }

  /** Sends pictures for as long as this stream is the present one. @param {FrameStream} stream */
  async #film(stream) {
    const camera = this.#camera;
    while (camera) {
      await stream.room();
      await camera.nextFrame();
      if (stream !== this.#stream) return;
      await stream.film(camera);
      if (stream !== this.#stream) return;
    }
  }
}
