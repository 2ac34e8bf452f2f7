import { ProblemError } from "./api.js";

/** Pixels of the longer side of a frame: faces are looked for at no more. */
const LONGEST_SIDE = 640;

const QUALITY = 0.8;

/** @type {Record<string, string>} */
const REFUSALS = {
  NotAllowedError: "This page may not use the camera; the browser's settings say so.",
  NotFoundError: "There is no camera on this device.",
  NotReadableError: "Another program uses the camera.",
};

/** An open camera that plays in a video element. */
export class Camera {
  #stream;
  #video;
  #canvas = document.createElement("canvas");

  /**
   * Asks the browser for the camera.
   *
   * @param {HTMLVideoElement} video
   * @param {() => boolean} isWanted Asked when the camera is there: people may wait with the
   *   browser's question, and meanwhile go elsewhere.
   * @returns {Promise<Camera | null>} Null where it is not wanted any more.
   * @throws {ProblemError}
   */
  static async open(video, isWanted) {
    if (!navigator.mediaDevices) {
      throw new ProblemError({
        title: "The camera cannot be used here",
        detail: "Browsers give it only to pages over HTTPS or on localhost.",
      });
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" },
        audio: false,
      });
    } catch (error) {
      const { name, message } = /** @type {DOMException} */ (error);
      const detail = REFUSALS[name] ?? message;
      throw new ProblemError({ title: "The camera did not start", detail });
    }
    const camera = new Camera(stream, video);
    if (!isWanted()) {
      camera.close();
      return null;
    }
    video.srcObject = stream;
    await video.play().catch(() => {}); // ended in the meantime
    return camera;
  }

  /**
   * @param {MediaStream} stream
   * @param {HTMLVideoElement} video
   */
  constructor(stream, video) {
    this.#stream = stream;
    this.#video = video;
  }

  get track() {
    return this.#stream.getVideoTracks()[0];
  }

  /** Whether people see themselves: then they expect a mirror. */
  get facesUser() {
    return this.track.getSettings().facingMode !== "environment";
  }

  /** Waits for the camera's next picture. @returns {Promise<void>} */
  nextFrame() {
    return new Promise((resolve) => {
      if (this.#video.requestVideoFrameCallback) {
        this.#video.requestVideoFrameCallback(() => resolve());
      } else {
        setTimeout(resolve, 33);
      }
    });
  }

  /** Returns the present picture as a JPEG. @returns {Promise<Blob | null>} */
  jpeg() {
    Object.assign(this.#canvas, this.#frameSize);
    const context = this.#canvas.getContext("2d");
    context?.drawImage(this.#video, 0, 0, this.#canvas.width, this.#canvas.height);
    return new Promise((resolve) => this.#canvas.toBlob(resolve, "image/jpeg", QUALITY));
  }

  /** Returns the present picture's pixels. */
  bitmap() {
    const { width, height } = this.#frameSize;
    const { videoWidth } = this.#video;
    const options = /** @type {const} */ ({ resizeWidth: width, resizeHeight: height, resizeQuality: "medium" });
    return createImageBitmap(this.#video, videoWidth === width ? undefined : options);
  }

  get #frameSize() {
    const { videoWidth, videoHeight } = this.#video;
    const scale = Math.min(1, LONGEST_SIDE / Math.max(videoWidth, videoHeight));
    return { width: Math.round(videoWidth * scale), height: Math.round(videoHeight * scale) };
  }

  /** Releases the device. */
  close() {
    for (const track of this.#stream.getTracks()) track.stop();
    if (this.#video.srcObject === this.#stream) this.#video.srcObject = null;
    this.#canvas.width = this.#canvas.height = 0; // forgets the last picture
  }
}
