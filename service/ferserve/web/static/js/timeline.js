import { find, keep, make } from "./dom.js";
import { scoresOf, strongest } from "./drawing.js";

/** @import {Face} from "./types.js" */

const SECONDS = 30;

/** Seconds without a face after which its line is broken. */
const LONGEST_GAP = 2;

/** @typedef {{at: number, scores: Record<string, number>}} Point */

/** Smoothed scores of one face over the last seconds, a strip for each emotion. */
export class Timeline {
  #section = find("#timeline");
  #names = find("#timeline-names");
  #who = find("#timeline-face");
  #canvas = /** @type {HTMLCanvasElement} */ (find("#timeline-canvas"));
  /** @type {Map<number, Point[]>} */
  #tracks = new Map();
  /** @type {number | undefined} */
  #picked;
  /** @type {number | undefined} */
  #shown;
  #now = 0;

  constructor() {
    const redraw = () => this.#draw();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    new ResizeObserver(redraw).observe(this.#canvas);
  }

  start() {
    this.#tracks.clear();
    this.#picked = this.#shown = undefined;
    this.#section.hidden = false;
    this.#draw();
  }

  hide() {
    this.#tracks.clear();
    this.#section.hidden = true;
  }

  /** The track that is shown. */
  get followed() {
    return this.#shown;
  }

  /** Follows a face for as long as it is seen; else the largest is shown. @param {number} track */
  pick(track) {
    this.#picked = track;
  }

  /**
   * @param {Face[]} faces
   * @param {number} now Seconds.
   */
  add(faces, now) {
    this.#now = now;
    for (const face of faces) {
      const points = this.#tracks.get(face.track ?? 0) ?? [];
      points.push({ at: now, scores: scoresOf(face) });
      this.#tracks.set(face.track ?? 0, points);
    }
    for (const [track, points] of this.#tracks) {
      while (points.length && now - points[0].at > SECONDS) points.shift();
      if (points.length === 0) this.#tracks.delete(track);
    }
    const seen = faces.map((face) => face.track);
    this.#shown = seen.includes(this.#picked) ? this.#picked : (seen[0] ?? this.#shown);
    this.#draw();
  }

  #draw() {
    // Of a face that was lost and found again under a new number, the strip shows both parts.
    const points = this.#pointsShown();
    const last = points.at(-1);
    const emotions = last ? Object.keys(last.scores) : [];
    const top = last && strongest(last.scores)[0];
    const rows = keep(this.#names, emotions.length, () => make("li"));
    emotions.forEach((emotion, index) => {
      rows[index].textContent = emotion;
      rows[index].classList.toggle("top-one", emotion === top);
    });
    this.#who.textContent = this.#shown === undefined ? "the largest face" : `face ${this.#shown}`;
    if (top) this.#canvas.setAttribute("aria-label", `Smoothed scores over the last 30 seconds; now ${top}`);
    this.#paint(points, emotions, top);
  }

  #pointsShown() {
    const own = this.#tracks.get(this.#shown ?? -1) ?? [];
    const begin = own[0]?.at ?? this.#now;
    const before = [...this.#tracks]
      .filter(([track, points]) => track !== this.#shown && points[points.length - 1].at < begin)
      .flatMap(([, points]) => points);
    return [...before, ...own].sort((one, other) => one.at - other.at);
  }

  /**
   * @param {Point[]} points
   * @param {string[]} emotions
   * @param {string | undefined} top
   */
  #paint(points, emotions, top) {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const context = this.#canvas.getContext("2d");
    if (!context || !width) return;
    const scale = devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    context.scale(scale, scale);
    const colours = getComputedStyle(this.#canvas);
    const [line, accent, soft] = ["--line", "--accent", "--accent-soft"].map((name) =>
      colours.getPropertyValue(name),
    );
    const row = height / 7;
    context.fillStyle = line;
    for (let index = 1; index <= 7; index += 1) context.fillRect(0, index * row - 1, width, 1);
    for (let ago = 10; ago < SECONDS; ago += 10) {
      context.fillRect(Math.round(width * (1 - ago / SECONDS)), 0, 1, height);
    }
    const x = (/** @type {number} */ at) => width * (1 - (this.#now - at) / SECONDS);
    emotions.forEach((emotion, index) => {
      const floor = (index + 1) * row - 1;
      const y = (/** @type {Point} */ point) => floor - (point.scores[emotion] ?? 0) * (row - 6);
      for (const part of unbroken(points)) {
        context.beginPath();
        context.moveTo(x(part[0].at), floor);
        for (const point of part) context.lineTo(x(point.at), y(point));
        context.lineTo(x(part[part.length - 1].at), floor);
        context.fillStyle = soft;
        context.globalAlpha = emotion === top ? 0.9 : 0.55;
        context.fill();
        context.globalAlpha = 1;
        context.beginPath();
        for (const point of part) context.lineTo(x(point.at), y(point));
        context.strokeStyle = accent;
        context.lineWidth = emotion === top ? 2 : 1;
        context.lineJoin = "round";
        context.stroke();
      }
    });
  }
}

/**
 * Cuts points where no face was seen for long.
 *
 * @param {Point[]} points
 * @returns {Point[][]}
 */
function unbroken(points) {
  /** @type {Point[][]} */
  const parts = [];
  for (const point of points) {
    const part = parts.at(-1);
    if (part && point.at - part[part.length - 1].at <= LONGEST_GAP) part.push(point);
    else parts.push([point]);
  }
  return parts;
}
