# ruff: noqa: T201 - a script that talks to the person who runs it
"""Takes the pictures of the demo page that docs/demo.md shows; needs Playwright and Chromium.

The camera shows a photo that moves a little.

    ferserve serve &
    python docs/screenshots.py http://localhost:8000

Writes ``docs/img/demo-*.png``, in 256 colours so that they stay small.
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
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
LIVE_SECONDS = 31
"""So that the timeline is full."""

PICTURES = {
    "demo-picture": ("picture", "light", (1280, 1010)),
    "demo-camera": ("camera", "dark", (1280, 1340)),
    "demo-phone-picture": ("picture", "dark", (390, 1420)),
    "demo-phone-consent": ("consent", "light", (390, 1070)),
}
"""By file: what is shown, the colour scheme, width and height."""


def main() -> None:
    """Takes all pictures."""
    (url,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        clip = Path(folder) / "clip.mjpeg"
        write_clip(clip)
        camera = f"--use-file-for-fake-video-capture={clip}"
        browser = running.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, camera])
        for name, (shown, scheme, (width, height)) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": width, "height": 800 if width > 600 else 844},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page.goto(url)
            page.wait_for_selector("input[name=model]:checked")
            show(page, shown)
            size = {"x": 0, "y": 0, "width": width, "height": height}
            picture = page.screenshot(full_page=True, clip=size)
            save(picture, FOLDER / f"{name}.png")
            page.close()
        browser.close()


def show(page: Page, shown: str) -> None:
    """Brings the page to what a picture shows."""
    if shown == "picture":
        page.click("#sample")
        page.wait_for_selector(".face")
        page.click("#sample")  # the first one pays for what is not loaded yet
        page.wait_for_timeout(2000)
        return
    page.click("#camera-tab")
    if shown == "camera":
        page.check("#agree")
        page.click("#start")
        page.wait_for_timeout(1000 * LIVE_SECONDS)


def write_clip(path: Path) -> None:
    """Writes JPEGs one after the other: a slow pan that ends where it began."""
    portrait = Image.fromarray(skimage.data.astronaut()).resize(
        (760, 760), Image.Resampling.LANCZOS
    )
    with path.open("wb") as file:
        for number in range(300):
            x = round(60 + 40 * math.sin(2 * math.pi * number / 300))
            portrait.crop((x, 0, x + 640, 480)).save(file, "JPEG", quality=92)


def save(picture: bytes, path: Path) -> None:
    """Saves a picture as a small PNG."""
    image = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256)
    image.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
