"""The demo page in a real browser, asking the real server, with a camera that shows a clip.

``DEMO_SECONDS=20`` lets the camera run for longer.
"""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from demo_browser import (
    CHROMIUM,
    FACE_IN_PORTRAIT,
    MARK,
    PATIENCE,
    check_accessible,
    chromium,
    fault,
    last_answer,
    open_camera,
    start_camera,
)
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium: apt-get install it")

TITLES = {
    "custom_cnn": "Custom CNN", "vgg16": "VGG16", "resnet50v2": "ResNet50V2",
    "light": "Light", "crowd": "Crowd",
}  # fmt: skip
KEY = "~~a-key-for-the-demo??"
SECONDS = float(os.environ.get("DEMO_SECONDS", "3"))


def portrait_in(frame: bytes) -> tuple[float, float]:
    """Where the portrait is, by the marks of a frame that was sent."""
    grey = np.asarray(Image.open(io.BytesIO(frame)).convert("L"))
    lines = grey[MARK // 2], grey[:, MARK // 2]
    return tuple(float(np.flatnonzero(line > 128).mean()) - (MARK - 1) / 2 for line in lines)


# Of this module only: while Playwright's loop runs in this thread, no asynchronous test can.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with chromium(playwright, tmp_path_factory.mktemp("camera")) as browser:
        yield browser


@pytest.fixture
def open_page(browser) -> Iterator[Callable[..., Any]]:
    """``open_page(server, color_scheme="dark", …)``; in the end no page may have gone astray."""
    contexts, faults, elsewhere = [], [], []

    def open_page(server, expect_model: bool = True, **options: Any):
        context = browser.new_context(**options)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=server.base_url)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        own = tuple(f"{kind}://127.0.0.1:{server.port}/" for kind in ("http", "ws"))
        own += (f"blob:{server.base_url}",)

        def note(address: str) -> None:
            if not address.startswith(own):
                elsewhere.append(address)

        page.on("request", lambda request: note(request.url))
        page.on("websocket", lambda socket: note(socket.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if fault(message) else None)
        page.goto(server.base_url)
        if expect_model:
            page.wait_for_selector("input[name=model]:checked")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not elsewhere
    assert not faults


@pytest.fixture
def page(open_page, server):
    return open_page(server, viewport={"width": 1280, "height": 800})


def frames_received(server) -> float:
    """Frames of all streams, however they were answered."""
    text = httpx.get(f"{server.base_url}/metrics").text
    values = re.findall(r"^ferserve_stream_frames_total\{.*\} (\S+)", text, re.M)
    return sum(map(float, values))


def until_no_stream_is_open(server) -> None:
    give_up = time.monotonic() + PATIENCE / 1000
    while "ferserve_streams_open 0.0" not in httpx.get(f"{server.base_url}/metrics").text:
        assert time.monotonic() < give_up
        time.sleep(0.1)


# Pictures


def test_the_sample_photo_gives_a_box_and_happy(page, server):
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    assert page.locator(".face-word").inner_text().lower() == "happy"
    assert re.fullmatch(r"One face: happy \d+ %\.", page.get_by_role("status").first.inner_text())
    rows = page.locator(".bars li").all_inner_texts()
    assert [re.split(r"\s", row)[0] for row in rows] == [
        "angry", "disgust", "fear", "happy", "sad", "surprise", "neutral",
    ]  # fmt: skip
    box, picture = (page.locator(s).bounding_box() for s in ("#picture-frame .box", "#picture"))
    seen = last_answer(page)["faces"][0]["box"]
    for side, length in (("x", "width"), ("y", "height")):
        share = (box[side] - picture[side]) / picture[length]
        assert share == pytest.approx(seen[side] / 512, abs=0.01)
        assert box[length] / picture[length] == pytest.approx(seen[length] / 512, abs=0.01)
    figures = page.locator("#figures").inner_text()
    assert re.search(r"Round trip\s+[\d.]+ ms", figures)


def test_every_model_is_offered_with_its_accuracy(page, server):
    cards = httpx.get(f"{server.base_url}/v1/models").json()["models"]
    options = page.locator(".model").all_inner_texts()
    assert len(options) == len(cards)
    for card, option in zip(cards, options, strict=True):
        assert TITLES[card["name"]] in option
        assert f"{100 * card['metrics']['private']['accuracy']:.1f} %" in option


def test_the_copied_command_and_answer_are_as_shown(page):
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    page.get_by_role("button", name="Copy the answer").click()
    page.locator("#copied").get_by_text("Copied.").wait_for()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied == last_answer(page)
    page.get_by_role("button", name="Copy the curl command").click()
    give_up = time.monotonic() + PATIENCE / 1000
    while not (command := page.evaluate("navigator.clipboard.readText()")).startswith("curl"):
        assert time.monotonic() < give_up
    if not shutil.which("curl"):
        pytest.skip("there is no curl to run the command with")
    answer = json.loads(subprocess.run(["sh", "-c", command], capture_output=True).stdout)
    assert answer["faces"] == copied["faces"]


def test_the_command_names_any_file_so_that_a_shell_finds_it(page, photo, tmp_path):
    file = tmp_path / 'it\'s a "strange"; name.png'
    file.write_bytes(photo("astronaut"))
    page.locator("#file").set_input_files(file)
    page.wait_for_selector(".face")
    if not shutil.which("curl"):
        pytest.skip("there is no curl to run the command with")
    command = page.locator("#curl").inner_text()
    run = subprocess.run(["sh", "-c", command], capture_output=True, cwd=tmp_path)
    assert json.loads(run.stdout)["faces"] == last_answer(page)["faces"]


HAND_OVER = """
([way, bytes]) => {
  const data = new DataTransfer();
  data.items.add(new File([new Uint8Array(bytes)], "given.jpg", {type: "image/jpeg"}));
  const options = {bubbles: true, cancelable: true};
  if (way === "drop") {
    const event = new DragEvent("drop", {...options, dataTransfer: data});
    document.querySelector("#drop").dispatchEvent(event);
  } else {
    document.body.dispatchEvent(new ClipboardEvent("paste", {...options, clipboardData: data}));
  }
}
"""


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(page, photo, way):
    small = photo("astronaut", format="JPEG", size=(256, 256))
    page.evaluate(HAND_OVER, [way, list(small)])
    page.wait_for_selector(".face")
    assert last_answer(page)["image"]["width"] == 256


def test_no_face_is_said_so(page, photo, tmp_path):
    file = tmp_path / "cat.jpg"
    file.write_bytes(photo("chelsea", format="JPEG"))
    page.locator("#file").set_input_files(file)
    page.get_by_text("No face was found.").wait_for()
    assert page.locator(".box").count() == page.locator(".face").count() == 0


def test_a_problem_is_shown_as_the_api_words_it(page, server, photo, tmp_path):
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    broken = photo("astronaut", format="JPEG")[:5000]
    file = tmp_path / "broken.jpg"
    file.write_bytes(broken)
    page.locator("#file").set_input_files(file)
    shown = page.get_by_role("alert")
    shown.locator(".problem").wait_for()
    problem = httpx.post(f"{server.base_url}/v1/emotion", files={"file": broken}).json()
    for words in (problem["title"], problem["detail"], problem["code"], str(problem["status"])):
        assert words in shown.inner_text()
    assert page.locator(".face").count() == 0
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    assert shown.inner_text() == ""


# The camera

# Chromium does not tell of blobs that are sent.
RECORD_FRAMES = """() => {
  window.frames_sent = [];
  const send = WebSocket.prototype.send;
  WebSocket.prototype.send = function (frame) {
    window.frames_sent.push(frame);
    return send.call(this, frame);
  };
}"""
LEFTS = "(boxes) => boxes.map((box) => box.style.left)"
RECORDED_FRAMES = """() => Promise.all(window.frames_sent.map((frame) => new Promise((resolve) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.split(",")[1]);
  reader.readAsDataURL(frame);
})))"""


def test_the_camera_needs_consent_and_says_what_is_sent_where(page, server):
    page.get_by_role("tab", name="Camera").click()
    start = page.get_by_role("button", name="Start the camera")
    assert start.is_disabled()
    notice = page.locator("#consent").inner_text()
    for words in (f"127.0.0.1:{server.port}", "then gone", "not a feeling"):
        assert words in notice
    assert page.locator("#consent a").get_attribute("href") == "v1/policy"
    assert page.evaluate("document.querySelector('video').srcObject") is None
    page.get_by_label("I agree").check()
    assert start.is_enabled()


def test_boxes_follow_the_camera_until_it_is_stopped(page, server):
    answers: list[dict[str, Any]] = []
    page.on("websocket", lambda socket: listen(socket, answers))
    page.evaluate(RECORD_FRAMES)
    start_camera(page)
    page.evaluate("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    give_up = time.monotonic() + PATIENCE / 1000
    began = time.monotonic()
    shown: set[str] = set()
    while time.monotonic() - began < SECONDS or spread(answers) < 80 or len(shown) < 3:
        assert time.monotonic() < give_up + SECONDS
        shown |= set(page.locator("#camera-frame .box").evaluate_all(LEFTS))
        page.wait_for_timeout(100)

    seen = list(answers)  # more come while the frames are read
    sent = [base64.b64decode(frame) for frame in page.evaluate(RECORDED_FRAMES)]
    # Each box is where the face was in the frame that was sent.
    for answer in seen:
        (face,) = answer["faces"]
        for side, start, offset in zip(
            ("x", "y"), portrait_in(sent[answer["frame"] - 1]), FACE_IN_PORTRAIT, strict=True
        ):
            assert face["box"][side] == pytest.approx(start + offset, abs=14)
        assert face["dominant_emotion"] == "happy"
    # And it is drawn there, as in a mirror.
    assert seen[-1]["dropped"] == 0
    mirrored = {
        100 * (1 - (face["box"]["x"] + face["box"]["width"]) / 640)
        for answer in seen
        for face in answer["faces"]
    }
    for left in shown:
        assert min(abs(float(left.rstrip("%")) - value) for value in mirrored) < 0.1
    assert re.search(r"Frames a second\s+\d+\.\d", page.locator("#figures").inner_text())
    assert page.locator("#timeline-names li").all_inner_texts()[3] == "happy"
    assert page.locator("#summary").inner_text() == "One face: happy."
    painted = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
    assert page.locator("#timeline-canvas").evaluate(painted)

    page.get_by_role("button", name="Stop the camera").click()
    assert page.evaluate("window.track.readyState") == "ended"
    assert page.evaluate("document.querySelector('video').srcObject") is None
    assert page.locator("#camera-frame .box").count() == 0
    assert page.get_by_label("I agree").is_checked() is False
    until_no_stream_is_open(server)
    sent_by_then, received = page.evaluate("window.frames_sent.length"), frames_received(server)
    page.wait_for_timeout(1000)
    assert page.evaluate("window.frames_sent.length") == sent_by_then
    assert frames_received(server) == received


def listen(socket, answers: list[dict[str, Any]]) -> None:
    socket.on("framereceived", lambda payload: answers.append(json.loads(payload)))


def spread(answers: list[dict[str, Any]]) -> float:
    """How far the face has moved, pixels."""
    lefts = [answer["faces"][0]["box"]["x"] for answer in answers]
    return max(lefts, default=0) - min(lefts, default=0)


def test_going_to_the_pictures_stops_the_camera_too(page, server):
    start_camera(page)
    page.evaluate("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    page.get_by_role("tab", name="Picture").click()
    assert page.evaluate("window.track.readyState") == "ended"
    until_no_stream_is_open(server)


def test_refused_frames_are_told_once_and_no_more_than_one_a_second_is_sent(page):
    problem = {"status": 429, "code": "rate_limited", "title": "Too many", "detail": "Slower."}
    frames: list[float] = []

    def refuse(socket: Any) -> None:
        def answer(_: Any) -> None:
            frames.append(time.monotonic())
            socket.send(json.dumps({"frame": len(frames), "dropped": 0, "problem": problem}))

        socket.on_message(answer)

    page.route_web_socket("**/v1/emotion/stream*", refuse)
    open_camera(page)
    box = page.locator("#problem .problem").element_handle()
    give_up = time.monotonic() + PATIENCE / 1000
    while len(frames) < 3:
        assert time.monotonic() < give_up
        page.wait_for_timeout(100)
    assert box.evaluate("(box) => box.isConnected")
    assert min(np.diff(frames)) > 0.9


def test_a_camera_that_sees_nobody_says_so(page):
    def answer_nothing(socket: Any) -> None:
        answer = {"frame": 1, "dropped": 0, "faces": [], "timing_ms": {"total": 200}}
        answer |= {"image": {"width": 640, "height": 480}}
        socket.on_message(lambda _: socket.send(json.dumps(answer)))

    page.route_web_socket("**/v1/emotion/stream*", answer_nothing)
    open_camera(page)
    page.get_by_role("status").get_by_text("No face was found.").wait_for()


def test_a_page_out_of_sight_stops_the_camera(page):
    page.clock.install()
    start_camera(page)
    page.evaluate("""() => {
      Object.defineProperty(document, "hidden", {value: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }""")
    page.clock.fast_forward(20_000)
    page.get_by_text("This page was out of sight for 20 seconds.").wait_for()
    assert page.evaluate("document.querySelector('video').srcObject") is None
    assert page.evaluate("document.activeElement.id") == "agree"


# Keys


def test_a_key_is_asked_for_only_where_one_is_needed_and_kept_nowhere(
    start_server, open_page, tmp_path
):
    with start_server(tmp_path / "log", api_keys=KEY, models="") as server:
        page = open_page(server, expect_model=False)
        field = page.get_by_label("API key")
        field.wait_for()
        problem = httpx.get(f"{server.base_url}/v1/models").json()
        assert problem["title"] in page.get_by_role("alert").inner_text()
        assert problem["detail"] in page.get_by_role("alert").inner_text()
        field.fill("a-key\u200b-of-a-chat")
        field.press("Enter")
        assert page.locator("#key:invalid").count() == 1  # no header can carry it
        field.fill("a-key-that-is-not-known")
        field.press("Enter")
        page.wait_for_selector(".problem")
        field.fill(KEY)
        field.press("Enter")
        page.wait_for_selector("input[name=model]:checked")
        assert not field.is_visible()
        assert '-H "X-API-Key: $FERSERVE_API_KEY"' in page.locator("#curl").inner_text()
        page.get_by_role("button", name="Try the sample photo").click()
        page.wait_for_selector(".face")
        start_camera(page)
        assert KEY not in page.content()
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert page.context.cookies() == []


def test_without_keys_none_is_asked_for(page):
    assert not page.get_by_label("API key").is_visible()


# For everyone


def test_all_works_with_the_keyboard(page):
    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            focus = page.evaluate("document.activeElement.textContent || document.activeElement.id")
            if name in focus:
                return
        pytest.fail(f"no way to {name}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    tab_to("Try the sample photo")
    page.keyboard.press("Enter")
    page.wait_for_selector(".face")
    page.locator("#picture-tab").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#camera-tab").get_attribute("aria-selected") == "true"
    tab_to("agree")
    page.keyboard.press("Space")
    tab_to("Start the camera")
    page.keyboard.press("Enter")
    page.wait_for_selector("#camera-frame .box")
    assert page.evaluate("document.activeElement.id") == "stop"
    page.keyboard.press("Enter")
    page.wait_for_selector("#consent")
    assert page.evaluate("document.activeElement.id") == "agree"


def test_who_wants_less_motion_gets_none(open_page, server):
    page = open_page(server, reduced_motion="reduce")
    start_camera(page)
    for part in ("#camera-frame .box", ".bar i", ".dot"):
        style = page.locator(part).first.evaluate(
            "(e) => [getComputedStyle(e).transitionDuration, getComputedStyle(e).animationName]"
        )
        assert style == ["0s", "none"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(open_page, server, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = open_page(server, viewport={"width": width, "height": 844}, color_scheme=scheme)

    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    check_accessible(axe, page)
    page.get_by_role("tab", name="Camera").click()
    check_accessible(axe, page)
    start_camera(page)
    check_accessible(axe, page)
