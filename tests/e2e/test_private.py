"""The page's private mode: the networks run in the browser, and nothing leaves it.

``PRIVATE_SECONDS=60`` lets the camera run for longer.
"""

import functools
import http.server
import io
import json
import os
import re
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from demo_browser import (
    CENTRE,
    CHROMIUM,
    CLIP_SIZE,
    FACE_IN_PORTRAIT,
    PATIENCE,
    RADII,
    check_accessible,
    chromium,
    fault,
    last_answer,
    start_camera,
)
from ferserve.schemas import Box
from ferserve.tracking import overlap
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
WEB = REPOSITORY / "web"
SECONDS = float(os.environ.get("PRIVATE_SECONDS", "20"))
MOST_GROWTH = 40e6
"""Bytes that the page's memory may grow by; of 34 frames in RGBA that stayed it would be more."""

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium: apt-get install it"),
    pytest.mark.skipif(
        not shutil.which("node") or not (WEB / "node_modules").is_dir(),
        reason="needs Node.js, and the packages of `make web/node_modules`",
    ),
]


@dataclass
class Built:
    """What the build made, outside the checkout.

    Attributes:
        path: A folder to import ferserve from, whose page has the private mode.
        site: The page as a site of its own.
        words: What the build printed.
    """

    path: Path
    site: Path
    words: str


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    path, site = (tmp_path_factory.mktemp(name) for name in ("package", "site"))
    package = REPOSITORY / "service" / "ferserve"
    unwanted = shutil.ignore_patterns("private", "__pycache__")
    shutil.copytree(package, path / "ferserve", ignore=unwanted)
    return Built(path, site, build(path, site))


def build(path: Path, site: Path) -> str:
    command = ["node", WEB / "build.mjs", path / "ferserve" / "web", site]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def server(built: Built, start_server, tmp_path_factory: pytest.TempPathFactory):
    options = {"env": {"PYTHONPATH": str(built.path)}}
    log = tmp_path_factory.mktemp("server") / "log"
    with start_server(log, process_options=options, models="") as server:
        yield server


# Of this module only: while Playwright's loop runs in this thread, no asynchronous test can.
@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with chromium(playwright, tmp_path_factory.mktemp("camera")) as browser:
        yield browser


@pytest.fixture(scope="module")
def open_page(browser) -> Iterator[Callable[[str], Any]]:
    """``open_page(url)``; in the end no page may have gone astray."""
    contexts, faults = [], []

    def open_page(url: str):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if fault(message) else None)
        page.goto(url)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


@pytest.fixture(scope="module")
def page(open_page, server):
    """The service's page, its switch on and everything loaded."""
    page = open_page(server.base_url)
    page.get_by_role("switch", name="On this device").check()
    page.get_by_text("in this page, by WebAssembly").wait_for()
    page.wait_for_selector("input[name=model][value=crowd]:checked")
    return page


def test_the_types_hold():
    checked = subprocess.run(
        [WEB / "node_modules" / ".bin" / "tsc", "--project", WEB], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout


def test_the_build_says_what_a_first_visit_loads(built):
    whole, networks = map(float, re.findall(r"([\d.]+) MB", built.words))
    assert whole <= 12
    assert networks <= 9


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.fixture(scope="module")
def pictures(photo, grey_crop) -> dict[str, bytes]:
    """The test photos in the ways in which they are looked at."""
    portrait = Image.open(io.BytesIO(photo("astronaut")))
    two = Image.new("RGB", (1100, 700), (96, 104, 112))
    two.paste(portrait, (0, 100))
    two.paste(portrait.resize((256, 256)).transpose(Image.Transpose.FLIP_LEFT_RIGHT), (700, 40))
    wide = Image.new("RGB", (2600, 1300), (96, 104, 112))
    wide.paste(portrait.resize((1000, 1000)), (900, 200))
    phone = Image.new("RGB", (4032, 3024), (96, 104, 112))
    phone.paste(portrait, (1800, 1200))
    return {
        "as it is": photo("astronaut"),
        "large": photo("astronaut", size=(1500, 1500)),
        "shrunk twice": png(wide),
        "small": photo("astronaut", size=(150, 150)),
        "JPEG": photo("astronaut", format="JPEG"),
        "JPEG of a phone": jpeg(phone),
        "grey": png(portrait.convert("L")),
        "two faces": png(two),
        "over the border": photo("astronaut", crop=(0, 90, 512, 512)),
        "close up": photo("astronaut", crop=(176, 60, 276, 180), size=(800, 960)),
        "one face already": grey_crop,
        "no face": photo("chelsea"),
    }


def test_answers_are_the_services(page, server, pictures):
    differences: list[float] = []
    overlaps: list[float] = []
    for name, picture in pictures.items():
        expected = httpx.post(
            f"{server.base_url}/v1/emotion",
            params={"model": "crowd"},
            files={"file": picture},
            timeout=60,
        ).json()
        page.evaluate("document.querySelector('#json').textContent = ''")
        kind = "image/jpeg" if "JPEG" in name else "image/png"
        page.locator("#file").set_input_files({"name": name, "mimeType": kind, "buffer": picture})
        page.locator("#json", has_text="timing_ms").wait_for()
        answer = last_answer(page)
        assert answer["model"] == expected["model"]
        assert len(answer["faces"]) == len(expected["faces"]), name
        for face, other in zip(answer["faces"], expected["faces"], strict=True):
            overlaps.append(overlap(Box(**face["box"]), Box(**other["box"])))
            differences += (
                abs(face["emotions"][key] - value) for key, value in other["emotions"].items()
            )
            assert face["warnings"] == other["warnings"], name
    assert len(overlaps) == len(pictures)  # one has none, one has two
    print(  # noqa: T201 - with pytest -s, for docs/private.md
        f"IoU at least {min(overlaps):.4f}; probabilities differ by {max(differences):.6f} at most,"
        f" median {statistics.median(differences):.7f}; {len(overlaps)} faces"
    )
    assert min(overlaps) >= 0.95
    assert max(differences) <= 0.02
    assert statistics.median(differences) <= 0.005


def test_the_camera_is_watched_without_a_request_and_in_the_same_memory(page, server):
    requests: list[str] = []
    page.context.on("request", lambda request: requests.append(request.url))
    page.on("websocket", lambda socket: requests.append(socket.url))
    answered = requests_answered(server)
    page.context.set_offline(True)  # nothing is needed either
    start_camera(page)
    page.evaluate("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    corners: set[tuple[float, float]] = set()
    page.wait_for_timeout(1000 * SECONDS / 4)
    memory = memory_in_use(page)
    began = time.monotonic()
    while time.monotonic() - began < 0.75 * SECONDS or len(corners) < 10:
        assert time.monotonic() - began < SECONDS + PATIENCE / 1000
        corners |= {tuple(box) for box in page.locator("#camera-frame .box").evaluate_all(CORNERS)}
        page.wait_for_timeout(100)
    growth = memory_in_use(page) - memory
    newly_answered = requests_answered(server) - answered
    word = page.locator(".face-word").inner_text()
    figures = page.locator("#figures").inner_text()
    timeline = page.locator("#timeline-names li").all_inner_texts()
    page.get_by_role("button", name="Stop the camera").click()
    page.context.set_offline(False)
    grown = f"{growth / 1e6:+.1f} MB in {0.75 * SECONDS:.0f} s"
    print(" ".join(figures.split()), grown)  # noqa: T201 - as above

    assert requests == []
    assert newly_answered == 1  # the question before this one
    assert growth < MOST_GROWTH
    lefts = [left for left, _ in corners]
    assert max(lefts) - min(lefts) > 80
    for corner in corners:  # the portrait's way, in a mirror
        x, y = (
            (place - face - centre) / radius
            for place, face, centre, radius in zip(
                corner, FACE_IN_PORTRAIT, CENTRE, RADII, strict=True
            )
        )
        assert (x**2 + y**2) ** 0.5 == pytest.approx(1, abs=0.2)
    assert word.lower() == timeline[3] == "happy"
    assert re.search(r"Frames a second\s+\d+\.\d", figures)
    assert page.evaluate("window.track.readyState") == "ended"
    assert page.evaluate("document.querySelector('video').srcObject") is None
    assert page.locator("#camera-frame .box").count() == 0


CORNERS = f"""(boxes) => boxes.map(({{style}}) => {{
  const [left, top, width] = [style.left, style.top, style.width].map(parseFloat);
  return [(100 - left - width) / 100 * {CLIP_SIZE[0]}, top / 100 * {CLIP_SIZE[1]}];
}})"""


def requests_answered(server) -> float:
    text = httpx.get(f"{server.base_url}/metrics").text
    return sum(map(float, re.findall(r"^ferserve_http_requests_total\{.*\} (\S+)", text, re.M)))


def memory_in_use(page) -> int:
    """Bytes of the pages of this process's browsers, without what is garbage.

    Without shared memory too, which Chromium fills with the video that it draws.
    """
    for isolate in (page, *(one for one in page.workers if one.url.endswith("/worker.js"))):
        isolate.evaluate("gc()")
    status = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
            anonymous = re.search(r"RssAnon:\s+(\d+) kB", (folder / "status").read_text())
        except OSError:  # it has just ended
            continue
        size = 1024 * int(anonymous[1]) if anonymous and b"--type=renderer" in command else 0
        status[int(folder.name)] = (int(fields[1]), size)

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in status and is_ours(status[pid][0]))

    return sum(size for pid, (_, size) in status.items() if is_ours(pid))


def test_what_the_page_says_is_of_where_the_networks_run(page, server):
    page.get_by_role("tab", name="Camera").click()
    notice = page.locator("#consent").inner_text()
    assert "Nowhere" in notice
    assert f"127.0.0.1:{server.port}" not in notice
    assert page.locator("input[name=model]").evaluate_all("(all) => all.map((i) => i.value)") == [
        "crowd",
        "light",
    ]
    assert not page.locator("#curl").is_visible()


def test_axe_finds_nothing_serious_and_nothing_is_cut_off(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    start_camera(page)
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            check_accessible(axe, page)
    page.get_by_role("button", name="Stop the camera").click()


def test_off_means_the_service_again_but_not_for_the_picture_of_before(page, server):
    page.get_by_role("tab", name="Picture").click()
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    page.get_by_role("tab", name="Camera").click()
    page.get_by_label("I agree").check()
    page.get_by_role("switch", name="On this device").uncheck()
    page.wait_for_selector("input[name=model][value=custom_cnn]")
    assert not page.get_by_label("I agree").is_checked()  # it was for the other place
    page.get_by_role("tab", name="Picture").click()
    page.get_by_text("This picture was not sent").wait_for()
    page.get_by_role("button", name="Try the sample photo").click()
    page.locator("#json", has_text="request_id").wait_for()
    assert page.locator("#curl").is_visible()


def test_no_picture_goes_to_the_service_while_the_networks_load(open_page, server, photo):
    page = open_page(server.base_url)
    page.wait_for_selector("input[name=model]:checked")
    sent, held = [], []
    page.on("request", lambda request: sent.append(request.url) if request.post_data else None)
    page.on("websocket", lambda socket: sent.append(socket.url))
    page.route("**/static/astronaut.jpg", lambda route: held.append(route))
    page.get_by_role("switch", name="On this device").check()
    picture = {"name": "a.png", "mimeType": "image/png", "buffer": photo("astronaut")}
    page.locator("#file").set_input_files(picture)
    page.locator("#picture-frame").wait_for()
    page.get_by_role("tab", name="Camera").click()
    page.get_by_label("I agree").check()
    assert page.get_by_role("button", name="Start the camera").is_disabled()
    give_up = time.monotonic() + PATIENCE / 1000
    while not held:
        assert time.monotonic() < give_up
        page.wait_for_timeout(50)
    held[0].continue_()
    page.get_by_text("in this page, by WebAssembly").wait_for()
    assert not page.get_by_label("I agree").is_checked()
    page.get_by_role("tab", name="Picture").click()
    page.wait_for_selector(".face")
    assert not sent


def test_networks_that_did_not_load_can_be_tried_again(open_page, server):
    page = open_page(server.base_url)
    page.wait_for_selector("input[name=model]:checked")
    page.route("**/device/worker.js", lambda route: route.abort())
    page.get_by_role("switch", name="On this device").click()
    problem = page.get_by_role("alert")
    problem.get_by_text("could not be loaded. Is this device online?").wait_for()
    assert "undefined" not in problem.inner_text()
    page.unroute("**/device/worker.js")
    page.get_by_role("button", name="Try again").click()
    assert page.evaluate("document.activeElement.id") == "stage"
    page.get_by_text("in this page, by WebAssembly").wait_for()
    assert problem.inner_text() == ""


def test_a_gpu_that_cannot_run_the_networks_is_left_out(open_page, server):
    page = open_page(server.base_url)
    page.wait_for_selector("input[name=model]:checked")

    def pretend_a_gpu(route) -> None:
        response = route.fetch()
        asked = "await navigator.gpu?.requestAdapter()"
        assert asked in response.text()
        pretended = response.text().replace(asked, "{ info: { isFallbackAdapter: false } }")
        route.fulfill(response=response, body=pretended)

    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url.rpartition("/")[2]))
    page.route("**/device/worker.js", pretend_a_gpu)
    page.get_by_role("switch", name="On this device").check()
    page.get_by_text("in this page, by WebAssembly").wait_for()
    assert loaded.index("ort.jspi.min.mjs") < loaded.index("ort.wasm.min.mjs")


def test_a_late_list_of_the_services_models_does_not_replace_the_pages(open_page, server):
    page = open_page(f"{server.base_url}/docs")
    held: list[Any] = []
    page.route("**/v1/models", lambda route: held.append(route))
    page.goto(server.base_url)
    page.get_by_role("switch", name="On this device").check()
    page.wait_for_selector("input[name=model][value=crowd]:checked")
    with page.expect_response("**/v1/models"):
        held[0].continue_()
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")
    names = page.locator("input[name=model]").evaluate_all("(all) => all.map((i) => i.value)")
    assert names == ["crowd", "light"]


def test_the_site_works_without_its_server_after_the_first_visit(built, open_page):
    handler = functools.partial(QuietFiles, directory=built.site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever).start()
        try:
            page = open_page(f"http://127.0.0.1:{files.server_port}/static/theme.css")
            page.evaluate("caches.open('of another application')")
            page.goto(f"http://127.0.0.1:{files.server_port}/")
            page.wait_for_selector("input[name=model]:checked")
        finally:
            files.shutdown()
    page.reload()
    page.get_by_role("button", name="Try the sample photo").click()  # answered when it can be
    page.wait_for_selector(".face")
    assert page.evaluate("crossOriginIsolated")
    assert "of another application" in page.evaluate("caches.keys()")
    assert not page.get_by_role("switch").is_visible()
    assert page.locator(".face-word").inner_text().lower() == "happy"
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy


def test_a_new_version_of_the_site_comes_with_a_reload_and_works_offline(
    built, open_page, tmp_path
):
    shutil.copytree(built.site, tmp_path / "site")
    shutil.copytree(built.path / "ferserve" / "web", tmp_path / "ferserve" / "web")
    page_source = tmp_path / "ferserve" / "web" / "index.html"
    page_source.write_text(page_source.read_text().replace("<main", '<main data-version="2"'))
    handler = functools.partial(QuietFiles, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever).start()
        try:
            page = open_page(f"http://127.0.0.1:{files.server_port}/")
            page.wait_for_selector("input[name=model]:checked")
            page.wait_for_load_state("networkidle")
            build(tmp_path, tmp_path / "site")
            page.evaluate(UPDATE)
        finally:
            files.shutdown()
    assert page.locator("main[data-version]").count() == 0
    page.reload()
    try:
        page.locator("main[data-version]").wait_for(timeout=10_000)
    except playwright.TimeoutError:  # the browser waits while the old version owes an answer
        page.reload()
        page.locator("main[data-version]").wait_for()
    page.get_by_role("button", name="Try the sample photo").click()
    page.wait_for_selector(".face")


UPDATE = """async () => {
  const registration = await navigator.serviceWorker.getRegistration();
  await registration.update();
  while (!registration.waiting) await new Promise((resolve) => setTimeout(resolve, 50));
}"""


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_the_site_has_no_address_of_anybody(built):
    models = json.loads((built.site / "static/private/models.json").read_text())
    assert [card["name"] for card in models["models"]] == ["crowd", "light"]
    for path in [*built.site.glob("static/js/**/*.js"), built.site / "index.html"]:
        assert not re.search(r"https?://", path.read_text()), path
