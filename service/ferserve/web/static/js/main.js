/** Wires the page's parts together. */
import { Announcer } from "./announcer.js";
import { AnswerView } from "./answer.js";
import { Api } from "./api.js";
import { Device } from "./device/device.js";
import { find } from "./dom.js";
import { Boxes } from "./drawing.js";
import { FaceList, summarize } from "./faces.js";
import { Figures, Rate } from "./figures.js";
import { Live } from "./live.js";
import { ModelPicker } from "./models.js";
import { PictureSource } from "./picture.js";
import { ProblemView } from "./problem.js";
import { settle } from "./site.js";
import { Store } from "./state.js";
import { EmotionStream } from "./stream.js";
import { setUpTabs } from "./tabs.js";
import { Timeline } from "./timeline.js";

/** @import {Picture} from "./picture.js" */
/** @import {State} from "./state.js" */
/** @import {Answer, Problem} from "./types.js" */

const api = new Api(document.baseURI);
const device = new Device();
/** The site has no service behind it: there all runs in the page. */
const isSite = document.documentElement.dataset.private === "only";
const store = new Store({ model: "", source: "picture", place: isSite ? "device" : "server" });
const answers = new AnswerView();
const figures = new Figures();
const announcer = new Announcer(find("#summary"));
const timeline = new Timeline();
const faces = new FaceList((track) => timeline.pick(track));
const pictureBoxes = new Boxes(find("#picture-frame"));
const cameraBoxes = new Boxes(find("#camera-frame"));
const problems = new ProblemView((key) => {
  api.useKey(key);
  void askAnew();
});
const models = new ModelPicker((model) => store.set({ model }));
const pictures = new PictureSource(take);

/** @type {Picture | null} The last one, asked again when the model changes. */
let last = null;
let asking = new AbortController();

const EMPTY = find("#summary").textContent ?? "";
const SAMPLE = new URL("static/astronaut.jpg", api.base);
/** @type {Blob | undefined} Loaded once. */
let sample;

async function loadSample() {
  sample ??= await api.file(SAMPLE);
  return sample;
}

find("#sample").addEventListener("click", async () => {
  try {
    take({ blob: await loadSample(), name: "astronaut.jpg", download: SAMPLE });
  } catch (error) {
    problems.showError(error);
  }
});

/** @param {Picture} picture */
function take(picture) {
  last = { ...picture, isPrivate: onDevice.checked };
  if (store.state.source === "picture") void lookAt(last);
  else find("#picture-tab").click(); // pasted while the camera runs
}

// Where the networks run

const onDevice = /** @type {HTMLInputElement} */ (find("#on-device"));
const placeNote = find("#place-note");

/** What answers: the service, or this page itself. */
function engine() {
  return store.state.place === "device" ? device : api;
}

/** Whether a picture may be sent for an answer now; if not, it is once the networks have loaded. */
function isReady() {
  if (onDevice.disabled) return false; // no picture goes to the place that is being left
  if (store.state.place === "server" || device.isLoaded) return true;
  void moveTo("device");
  return false;
}

/** @param {State["place"]} place */
async function moveTo(place) {
  const hadFocus = document.activeElement === onDevice; // which it loses while it is disabled
  asking.abort();
  pictures.setBusy(false);
  live.stop();
  problems.clear();
  onDevice.checked = place === "device";
  onDevice.disabled = true;
  const moves = place !== store.state.place;
  if (moves) askAgain(); // consent was for the place before
  try {
    if (place === "device") {
      placeNote.textContent = "Loading the networks and what runs them, about 12 MB …";
      await Promise.all([device.start(), loadSample().catch(() => {})]); // the page can do without
      placeNote.textContent = `Faces are found, cut out and rated in this page, by ${device.runtime}. Nothing is sent.`;
    } else {
      device.stop();
      placeNote.textContent = `Faces are found, cut out and rated by the service at ${location.host}.`;
    }
  } catch (error) {
    placeNote.textContent = "The networks could not be loaded.";
    onDevice.checked = store.state.place === "device";
    device.stop();
    problems.showError(error, () => void moveTo(place));
    return;
  } finally {
    onDevice.disabled = false;
    if (hadFocus) onDevice.focus();
    if (moves) askAgain();
    allowStart();
  }
  pictureBoxes.clear();
  clearResults(EMPTY);
  store.set({ place });
  figures.place = place === "device" ? "In this page" : "On the server";
  document.documentElement.dataset.place = place;
  await loadModels();
  if (store.state.source === "picture" && last) void lookAt(last);
}

onDevice.addEventListener("change", () => void moveTo(onDevice.checked ? "device" : "server"));

async function loadModels() {
  const { place } = store.state;
  try {
    const list = await engine().models();
    if (place !== store.state.place) return;
    const known = list.models.some(({ name }) => name === store.state.model);
    const model = known ? store.state.model : list.default;
    models.show(list, model);
    store.set({ model });
    showCommand();
  } catch (error) {
    if (place === store.state.place) problems.showError(error, loadModels);
  }
}

/** With a key, for all that was refused without. */
async function askAnew() {
  const { model } = store.state;
  await loadModels();
  // Another model asks by itself.
  if (model === store.state.model && store.state.source === "picture" && last) void lookAt(last);
}

/** @param {Picture} picture */
async function lookAt(picture) {
  asking.abort(); // only the newest picture is of interest
  asking = new AbortController();
  const { signal } = asking;
  problems.clear();
  pictureBoxes.clear();
  await pictures.show(picture);
  if (signal.aborted || !isReady()) return;
  if (picture.isPrivate && store.state.place === "server") {
    clearResults("This picture was not sent: it was chosen to stay on this device.");
    return;
  }
  pictures.setBusy(true);
  showCommand();
  const started = performance.now();
  try {
    const answer = await engine().recognize(picture.blob, store.state.model, signal);
    pictures.fit(answer.image);
    pictureBoxes.draw(answer.faces, answer.image);
    faces.show(answer.faces);
    figures.showPicture(answer, performance.now() - started);
    answers.show(answer);
    announcer.say(summarize(answer.faces));
  } catch (error) {
    if (signal.aborted) return;
    clearResults("There is no answer.");
    problems.showError(error, () => void lookAt(picture));
  } finally {
    if (!signal.aborted) pictures.setBusy(false);
  }
}

function showCommand() {
  const live = store.state.source === "camera";
  answers.showCommand({
    url: new URL(api.emotionPath(store.state.model), api.base),
    key: api.usesKey,
    file: live ? "frame.jpg" : (last?.name ?? "photo.jpg"),
    download: live ? undefined : last?.download,
  });
}

/** @param {string} words */
function clearResults(words) {
  faces.show([]);
  figures.clear();
  announcer.say(words);
}

// The camera

const consent = /** @type {HTMLFormElement} */ (find("#consent"));
const agree = /** @type {HTMLInputElement} */ (find("#agree"));
const start = /** @type {HTMLButtonElement} */ (find("#start"));
const cameraFrame = find("#camera-frame");
let rate = new Rate();
/** A refused frame's problem stays this long, whatever is answered in between. */
const PROBLEM_SECONDS = 2;
let refusedAt = -Infinity;

/** @param {number} width @param {number} height */
function fitCamera(width, height) {
  cameraFrame.style.setProperty("--ratio", String(width / height));
}

const video = /** @type {HTMLVideoElement} */ (find("#camera"));
const live = new Live(openStream, video, {
  started(camera) {
    fitCamera(video.videoWidth, video.videoHeight);
    cameraFrame.classList.toggle("mirrored", camera.facesUser);
    consent.hidden = true;
    find("#live").hidden = false;
    find("#stop").focus();
    clearResults("The camera is on.");
    rate = new Rate();
  },
  answer(answer, roundTrip) {
    const now = performance.now() / 1000;
    if (now - refusedAt > PROBLEM_SECONDS) problems.clear();
    // Of this picture: a phone may have been turned since the last one.
    fitCamera(answer.image.width, answer.image.height);
    cameraBoxes.draw(answer.faces, answer.image);
    timeline.add(answer.faces, now);
    faces.show(answer.faces, timeline.followed);
    figures.showLive(answer, roundTrip, rate.count(now));
    answers.showLive(answer);
    announcer.sayLive(answer.faces);
  },
  frameProblem(problem) {
    refusedAt = performance.now() / 1000;
    problems.show(problem);
  },
  stopped(problem) {
    cameraBoxes.clear();
    const hadFocus = find("#live").contains(document.activeElement);
    askAgain();
    clearResults("The camera is off.");
    if (problem) problems.show(problem);
    if (hadFocus && problem?.status !== 401) agree.focus();
  },
});

/**
 * @param {string} model
 * @param {import("./stream.js").StreamEvents} on
 */
function openStream(model, on) {
  timeline.start(); // tracks count anew, and another model means something else by its scores
  if (store.state.place === "device") return device.openStream(model, on);
  return new EmotionStream(api.openStream(model), on);
}

/** Consent is for one time. */
function askAgain() {
  consent.hidden = false;
  agree.checked = false;
  start.disabled = true;
  find("#live").hidden = true;
}

function allowStart() {
  start.disabled = !agree.checked || onDevice.disabled;
}

agree.addEventListener("change", allowStart);
consent.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (!agree.checked || !isReady()) return;
  start.disabled = true;
  problems.clear();
  try {
    await live.start(() => store.state.model);
  } catch (error) {
    problems.showError(error);
  } finally {
    allowStart();
  }
});
find("#stop").addEventListener("click", () => live.stop());

// What changes with the state

store.on("model", () => {
  showCommand();
  live.useModel(store.state.model);
  if (store.state.source === "picture" && last) void lookAt(last);
});
store.on("source", () => {
  if (store.state.model) problems.clear(); // else it says why there is none
  asking.abort();
  pictures.setBusy(false);
  live.stop();
  askAgain();
  timeline.hide();
  showCommand();
  clearResults(EMPTY);
  if (store.state.source === "picture" && last) void lookAt(last);
});

setUpTabs(find("[role=tablist]"), (id) => {
  store.set({ source: id === "camera-tab" ? "camera" : "picture" });
});
find("#host").textContent = location.host;
showCommand();
void begin();

async function begin() {
  if (!isSite) return moveTo("server");
  onDevice.disabled = true;
  await settle();
  return moveTo("device");
}
