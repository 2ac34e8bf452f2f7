"""Chromium with a camera that shows a clip, for the tests of the demo page."""

import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import skimage.data
from PIL import Image

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000
"""Milliseconds for a busy machine; nothing is slow by itself."""

FLAGS = [
    "--no-sandbox",  # root, as in containers
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--js-flags=--expose-gc",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]

CLIP_FRAMES, CLIP_SIZE = 180, (640, 480)
MARK = 16
"""Pixels of the marks' sides."""

PORTRAIT = (100, 0, 360, 300)
"""What is cut out of the astronaut's photo and moves about in the clip."""

FACE_IN_PORTRAIT = (181 - 100, 58)
"""Left upper corner of the face there, as /v1/emotion sees it."""

CENTRE, RADII = (190, 90), (120, 70)
"""Of the ellipse that the portrait's corner moves on, pixels."""


def write_clip(path: Path) -> None:
    """A round of the portrait in 6 s; marks on the border say where it is in a frame."""
    portrait = Image.fromarray(skimage.data.astronaut()).crop(PORTRAIT)
    with path.open("wb") as file:
        for number in range(CLIP_FRAMES):
            angle = 2 * math.pi * number / CLIP_FRAMES
            x = round(CENTRE[0] + RADII[0] * math.cos(angle))
            y = round(CENTRE[1] + RADII[1] * math.sin(angle))
            frame = Image.new("RGB", CLIP_SIZE, (96, 104, 112))
            frame.paste(portrait, (x, y))
            frame.paste("black", (0, 0, CLIP_SIZE[0], MARK))
            frame.paste("black", (0, 0, MARK, CLIP_SIZE[1]))
            frame.paste("white", (x, 0, x + MARK, MARK))
            frame.paste("white", (0, y, MARK, y + MARK))
            frame.save(file, "JPEG", quality=90)


@contextmanager
def chromium(playwright: Any, folder: Path) -> Iterator[Any]:
    """Starts the browser; its camera's clip lies in the folder."""
    clip = folder / "clip.mjpeg"
    write_clip(clip)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(
            executable_path=CHROMIUM, args=[*FLAGS, f"--use-file-for-fake-video-capture={clip}"]
        )
        yield browser
        browser.close()


def fault(message: Any) -> bool:
    """Chromium also reports each answer of 400 and more; those belong to the tests."""
    return message.type == "error" and "Failed to load resource" not in message.text


def open_camera(page: Any) -> None:
    page.get_by_role("tab", name="Camera").click()
    page.get_by_label("I agree").check()
    page.get_by_role("button", name="Start the camera").click()


def start_camera(page: Any) -> None:
    open_camera(page)
    page.wait_for_selector("#camera-frame .box")


def last_answer(page: Any) -> dict[str, Any]:
    return json.loads(page.locator("#json").inner_text())


def check_accessible(axe: Any, page: Any) -> None:
    """Axe finds nothing serious, and nothing is cut off."""
    found = axe.run(page).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious]
    overflow = "document.scrollingElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
