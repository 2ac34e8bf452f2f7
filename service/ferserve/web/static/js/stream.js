/** @import {Camera} from "./camera.js" */
/** @import {Answer, Problem} from "./types.js" */

/**
 * Milliseconds. Where an answer takes less, a second frame is sent before the first is answered, so
 * that the way there and back costs no time; where it takes more, frames would only be old when
 * their turn comes. The service keeps one frame waiting, so none is dropped.
 */
const QUICK = 100;

/** Milliseconds without a frame after one was refused: the next would be too. */
const AFTER_REFUSAL = 1000;

/** What to say where the service gave no reason. */
const LOST = "The connection to the service was lost.";

/**
 * @typedef {Object} StreamEvents
 * @property {(answer: Answer, roundTrip: number) => void} answer  Milliseconds.
 * @property {(problem: Problem) => void} frameProblem  A frame was refused; the stream goes on.
 * @property {(problem: Problem) => void} end  It is over, and not because of `close`.
 */

/** Frames to whatever answers them: no more at a time than it can take. */
export class FrameStream {
  #sent = 0;
  #answered = 0; // the number of the last frame answered
  #window = 1; // most frames unanswered; 0 after a refusal
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #pause;
  /** @type {Map<number, number>} */
  #sentAt = new Map();
  /** @type {(() => void)[]} */
  #waiting = [];
  isClosed = false;

  /** @param {StreamEvents} on */
  constructor(on) {
    this.on = on;
  }

  /** Waits until a frame may be sent. @returns {Promise<void>} */
  async room() {
    while (!this.isReady || this.#sent - this.#answered >= this.#window) {
      await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    }
  }

  get isReady() {
    return true;
  }

  /** Sends the camera's present picture. @param {Camera} _camera @returns {Promise<void>} */
  async film(_camera) {
    throw new Error("each kind of stream has its own way");
  }

  /** Gives up what is not answered. */
  close() {
    this.isClosed = true;
  }

  /** Notes that a frame is sent. @returns {number} Its number, from 1. */
  count() {
    this.#sent += 1;
    this.#sentAt.set(this.#sent, performance.now());
    return this.#sent;
  }

  /** @param {Answer | {frame: number, problem: Problem}} message */
  answered(message) {
    if (this.isClosed) return;
    const frame = message.frame ?? this.#sent;
    const roundTrip = performance.now() - (this.#sentAt.get(frame) ?? performance.now());
    for (const number of this.#sentAt.keys()) if (number <= frame) this.#sentAt.delete(number);
    this.#answered = frame;
    if ("problem" in message) {
      this.#window = 0;
      clearTimeout(this.#pause);
      this.#pause = setTimeout(() => {
        this.#window = 1;
        this.wake();
      }, AFTER_REFUSAL);
      this.on.frameProblem(message.problem);
    } else {
      if (this.#window) this.#window = message.timing_ms.total < QUICK ? 2 : 1;
      this.on.answer(message, roundTrip);
    }
    this.wake();
  }

  wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** Frames to the service, and its answers; see docs/stream.md of the project. */
export class EmotionStream extends FrameStream {
  #socket;
  /** @type {Problem | null} */
  #refusal = null;

  /**
   * @param {WebSocket} socket
   * @param {StreamEvents} on
   */
  constructor(socket, on) {
    super(on);
    this.#socket = socket;
    socket.addEventListener("open", () => this.wake());
    socket.addEventListener("message", ({ data }) => {
      const message = JSON.parse(data);
      if (message.frame !== undefined) this.answered(message);
      else if (message.problem) {
        const wait = message.retry_after;
        this.#refusal = wait ? { ...message.problem, retryAfter: wait } : message.problem;
      }
    });
    socket.addEventListener("close", ({ reason }) => {
      if (this.isClosed) return;
      on.end(this.#refusal ?? { title: "The stream ended", detail: reason || LOST });
    });
  }

  get isReady() {
    return this.#socket.readyState === WebSocket.OPEN;
  }

  /** @param {Camera} camera */
  async film(camera) {
    const frame = await camera.jpeg();
    if (!frame || !this.isReady) return;
    this.count();
    this.#socket.send(frame);
  }

  close() {
    super.close();
    this.#socket.close(1000);
  }
}
