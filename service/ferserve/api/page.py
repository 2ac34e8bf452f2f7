"""``GET /``: the demo page, and its files below ``/static``. Plain files; nothing builds them."""

from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).resolve().parents[1] / "web"

_HEADERS = {
    # Stricter than the other pages', whose scripts and styles are within them.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
}

router = APIRouter()


@router.get("/", include_in_schema=False)
async def get_page() -> FileResponse:
    """Returns the demo page."""
    return FileResponse(WEB / "index.html", headers=_HEADERS)


class PageFiles(StaticFiles):
    """The page's scripts, styles and pictures."""

    def __init__(self) -> None:
        super().__init__(directory=WEB / "static")

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Returns a file; browsers ask each time, so that no two versions of the page mix."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
