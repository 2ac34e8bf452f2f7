import { find } from "./dom.js";

/** Milliseconds between two answers of a stream that are shown: faster, nobody can read them. */
const LIVE_PAUSE = 500;

/**
 * What was asked, for the curl command.
 *
 * @typedef {Object} Asked
 * @property {URL} url
 * @property {boolean} key  Whether the service wants one.
 * @property {string} file  Name of a file of the caller.
 * @property {URL} [download]  Where that file comes from, if it is ours.
 */

/** The last answer as JSON, and how to ask for it with curl. */
export class AnswerView {
  #curl = find("#curl");
  #json = find("#json");
  #copied = find("#copied");
  #copyJson = /** @type {HTMLButtonElement} */ (find("#copy-json"));
  #shownAt = 0;

  constructor() {
    find("#copy-curl").addEventListener("click", () => this.#copy(this.#curl));
    this.#copyJson.addEventListener("click", () => this.#copy(this.#json));
  }

  /** @param {Asked} asked */
  showCommand(asked) {
    this.#curl.textContent = curlCommand(asked);
  }

  /** @param {unknown} answer */
  show(answer) {
    this.#json.textContent = JSON.stringify(answer, null, 2);
    this.#copyJson.disabled = false;
    this.#shownAt = performance.now();
  }

  /**
   * Shows an answer of a stream, unless the last one was shown a moment ago or is being read.
   *
   * @param {unknown} answer
   */
  showLive(answer) {
    const reading = document.activeElement === this.#json || !getSelection()?.isCollapsed;
    if (!reading && performance.now() - this.#shownAt >= LIVE_PAUSE) this.show(answer);
  }

  /** @param {HTMLElement} source */
  async #copy(source) {
    this.#copied.textContent = ""; // the same words again would not be told
    try {
      await navigator.clipboard.writeText(source.textContent ?? "");
      this.#copied.textContent = "Copied.";
    } catch {
      // Without HTTPS browsers give pages no clipboard: select it, so that one key copies it.
      getSelection()?.selectAllChildren(source);
      source.focus();
      this.#copied.textContent = "Selected; press Ctrl+C or Command+C to copy.";
    }
  }
}

/**
 * @param {Asked} asked
 * @returns {string} For a POSIX shell.
 */
export function curlCommand({ url, key, file, download }) {
  const header = key ? ' -H "X-API-Key: $FERSERVE_API_KEY"' : "";
  const target = shellQuoted(url.href);
  if (download) {
    return `curl -s ${shellQuoted(download.href)} |\n  curl${header} -F file=@- ${target}`;
  }
  const plain = /^[\w.-]+$/.test(file);
  const quoted = `file=@"${file.replace(/[\\"]/g, "\\$&")}"`;
  const field = plain ? `file=@${file}` : shellQuoted(quoted);
  return `curl${header} -F ${field} \\\n  ${target}`;
}

/** @param {string} text */
function shellQuoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
