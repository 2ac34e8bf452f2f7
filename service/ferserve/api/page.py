"""``GET /``: the demo page, and its files below ``/static``.

Plain files; nothing builds them but the folder of ``make site``, without which the page offers no
private mode.
"""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).resolve().parents[1] / "web"

_HEADERS = {
    # Stricter than the other pages', whose scripts and styles are within them.
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; "
    "style-src 'self'; img-src 'self' blob:; connect-src 'self'; worker-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    # Both together let the private mode have threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cache-Control": "no-cache",
}

router = APIRouter()


@router.get("/", include_in_schema=False)
async def get_page() -> HTMLResponse:
    """Returns the demo page."""
    html = (WEB / "index.html").read_text()
    if (WEB / "static" / "private").is_dir():
        html = html.replace("<html ", '<html data-private="offered" ', 1)
    camera = {"Permissions-Policy": "camera=(self), microphone=(), geolocation=()"}
    return HTMLResponse(html, headers=_HEADERS | camera)


class PageFiles(StaticFiles):
    """The page's scripts, styles and pictures."""

    def __init__(self) -> None:
        super().__init__(directory=WEB / "static")

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Returns a file; browsers ask each time, so that no two versions of the page mix."""
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response
