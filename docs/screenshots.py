"""Takes the pictures that docs/demo.md and docs/private.md show; needs Playwright and Chromium.

The camera shows a photo that moves a little.

    make site && ferserve serve &
    python docs/screenshots.py http://localhost:8000

Writes ``docs/img/demo-*.png`` and ``private*.png``, in 256 colours so that they stay small.
"""

import io
import math
import sys
import tempfile
from pathlib import Path

import skimage.data
from PIL import Image
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent / "img"
CHROMIUM = "/usr/bin/chromium"
FLAGS = "--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
LIVE_SECONDS = 31
"""So that the timeline is full."""

WIDTH = 1280


def main() -> None:
    (url,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        clip = Path(folder) / "clip.mjpeg"
        write_clip(clip)
        camera = f"--use-file-for-fake-video-capture={clip}"
        browser = running.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, camera])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("input[name=model]:checked")
        page.click("#sample")
        page.wait_for_selector(".face")
        page.click("#sample")  # the first one pays for what is not loaded yet
        page.wait_for_timeout(2000)
        save(page, "demo-picture", 1010)
        page.emulate_media(color_scheme="dark")
        page.click("#camera-tab")
        page.check("#agree")
        page.click("#start")
        page.wait_for_timeout(1000 * LIVE_SECONDS)
        save(page, "demo-camera", 1340)
        page.emulate_media(color_scheme="light")
        page.get_by_role("switch").check()
        page.get_by_text("Nothing is sent").wait_for()
        page.check("#agree")
        page.click("#start")
        page.wait_for_timeout(1000 * LIVE_SECONDS)
        save(page, "private", 1400)
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 390, "height": 844})
        page.wait_for_timeout(1000)
        save(page, "private-phone", 850)
        browser.close()


def save(page: Page, name: str, height: int) -> None:
    width = (page.viewport_size or {"width": WIDTH})["width"]
    size = {"x": 0, "y": 0, "width": width, "height": height}
    picture = io.BytesIO(page.screenshot(full_page=True, clip=size))
    small = Image.open(picture).convert("RGB").quantize(256)
    small.save(FOLDER / f"{name}.png", optimize=True)


def write_clip(path: Path) -> None:
    """Writes JPEGs one after the other: a slow pan that ends where it began."""
    portrait = Image.fromarray(skimage.data.astronaut()).resize((760, 760))
    with path.open("wb") as file:
        for number in range(300):
            x = round(60 + 40 * math.sin(2 * math.pi * number / 300))
            portrait.crop((x, 0, x + 640, 480)).save(file, "JPEG", quality=92)


if __name__ == "__main__":
    main()
