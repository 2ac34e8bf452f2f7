/** @import {Answer, ModelList, Problem} from "./types.js" */

const INTERFERENCE = "Something between this page and the service answered in its place.";

/** An error in the API's words, or in ours where the API could not be reached. */
export class ProblemError extends Error {
  /** @param {Problem} problem */
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

/** The service that this page came from. The key lives in this object and nowhere else. */
export class Api {
  #key = "";

  /** @param {string} base URL of the page. */
  constructor(base) {
    this.base = new URL(".", base);
  }

  /** @param {string} key */
  useKey(key) {
    this.#key = key.trim(); // browsers trim headers, but not what a stream carries
  }

  get usesKey() {
    return this.#key !== "";
  }

  /** @returns {Promise<ModelList>} */
  async models() {
    return read(await this.#ask("v1/models"), "json");
  }

  /**
   * A file of this page.
   *
   * @param {URL} url
   * @returns {Promise<Blob>}
   */
  async file(url) {
    return read(await this.#ask(url.href), "blob");
  }

  /**
   * @param {Blob} image
   * @param {string} model
   * @param {AbortSignal} signal
   * @returns {Promise<Answer>}
   */
  async recognize(image, model, signal) {
    const body = new FormData();
    body.append("file", image);
    return read(await this.#ask(this.emotionPath(model), { method: "POST", body, signal }), "json");
  }

  /** @param {string} model */
  emotionPath(model) {
    return model ? `v1/emotion?model=${encodeURIComponent(model)}` : "v1/emotion";
  }

  /**
   * Opens a stream; see docs/stream.md of the project for how it carries the key.
   *
   * @param {string} model
   */
  openStream(model) {
    const url = new URL("v1/emotion/stream", this.base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    if (model) url.searchParams.set("model", model);
    const protocols = ["ferserve.v1"];
    if (this.usesKey) protocols.push(`ferserve.key.${base64url(this.#key)}`);
    return new WebSocket(url, protocols);
  }

  /**
   * @param {string} path
   * @param {RequestInit} [options]
   */
  async #ask(path, options = {}) {
    const headers = this.usesKey ? { "X-API-Key": this.#key } : undefined;
    let response;
    try {
      response = await fetch(new URL(path, this.base), { ...options, headers, cache: "no-store" });
    } catch (error) {
      if (error instanceof DOMException && error.name === "AbortError") throw error;
      throw new ProblemError({
        title: "The service does not answer",
        detail: "The connection failed. Is the service running, and this device online?",
      });
    }
    if (response.ok) return response;
    throw new ProblemError(await problemOf(response));
  }
}

/**
 * @param {Response} response
 * @param {"json" | "blob"} kind
 */
async function read(response, kind) {
  try {
    return await response[kind]();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ProblemError({ title: "The answer cannot be read", detail: INTERFERENCE });
  }
}

/**
 * @param {Response} response
 * @returns {Promise<Problem>}
 */
async function problemOf(response) {
  const wait = Number(response.headers.get("Retry-After"));
  /** @type {Problem} */
  const fallback = {
    title: `The answer was ${response.status} ${response.statusText}`.trim(),
    detail: INTERFERENCE,
    status: response.status,
  };
  const isProblem = response.headers.get("Content-Type")?.startsWith("application/problem+json");
  const problem = isProblem ? await response.json().catch(() => fallback) : fallback;
  return wait > 0 ? { ...problem, retryAfter: wait } : problem;
}

/** @param {string} text */
function base64url(text) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(text));
  return btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}
