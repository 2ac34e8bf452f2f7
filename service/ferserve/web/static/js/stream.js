/** @import {Answer, Problem} from "./types.js" */

/**
 * Milliseconds. Where the service takes less, a second frame is sent before the first is answered,
 * so that the way there and back costs no time; where it takes more, frames would only be old when
 * their turn comes. The service keeps one frame waiting, so none is dropped.
 */
const QUICK = 100;

/** What to say where the service gave no reason. */
const LOST = "The connection to the service was lost.";

/** Frames to the service, and its answers; see docs/stream.md of the project. */
export class EmotionStream {
  #socket;
  #sent = 0;
  #answered = 0; // the number of the last frame answered
  #window = 1; // most frames unanswered
  /** @type {Map<number, number>} */
  #sentAt = new Map();
  /** @type {(() => void)[]} */
  #waiting = [];
  /** @type {Problem | null} */
  #refusal = null;
  #closedByUs = false;

  /**
   * @param {WebSocket} socket
   * @param {Object} on
   * @param {(answer: Answer, roundTrip: number) => void} on.answer Milliseconds.
   * @param {(problem: Problem) => void} on.frameProblem A frame was refused; the stream goes on.
   * @param {(problem: Problem) => void} on.end It is over, and not because of `close`.
   */
  constructor(socket, on) {
    this.#socket = socket;
    socket.addEventListener("open", () => this.#wake());
    socket.addEventListener("message", ({ data }) => {
      if (this.#closedByUs) return;
      const message = JSON.parse(data);
      if (message.frame !== undefined) {
        const roundTrip = this.#count(message.frame);
        if (message.problem) on.frameProblem(message.problem);
        else {
          this.#window = message.timing_ms.total < QUICK ? 2 : 1;
          on.answer(message, roundTrip);
        }
      } else if (message.problem) {
        const wait = message.retry_after;
        this.#refusal = wait ? { ...message.problem, retryAfter: wait } : message.problem;
      }
    });
    socket.addEventListener("close", ({ reason }) => {
      if (this.#closedByUs) return;
      on.end(this.#refusal ?? { title: "The stream ended", detail: reason || LOST });
    });
  }

  /** Waits until a frame may be sent. @returns {Promise<void>} */
  async room() {
    while (this.#isFull) {
      await new Promise((resolve) => this.#waiting.push(() => resolve(undefined)));
    }
  }

  get #isFull() {
    const isOpen = this.#socket.readyState === WebSocket.OPEN;
    return !isOpen || this.#sent - this.#answered >= this.#window;
  }

  /** @param {Blob} frame */
  send(frame) {
    if (this.#socket.readyState !== WebSocket.OPEN) return;
    this.#sent += 1;
    this.#sentAt.set(this.#sent, performance.now());
    this.#socket.send(frame);
  }

  /** Gives up what is not answered. */
  close() {
    this.#closedByUs = true;
    this.#socket.close(1000);
  }

  /**
   * @param {number} frame
   * @returns {number} Milliseconds since it was sent.
   */
  #count(frame) {
    const sentAt = this.#sentAt.get(frame) ?? performance.now();
    for (const number of this.#sentAt.keys()) if (number <= frame) this.#sentAt.delete(number);
    this.#answered = frame;
    this.#wake();
    return performance.now() - sentAt;
  }

  #wake() {
    for (const wake of this.#waiting.splice(0)) wake();
  }
}
