"""The demo page offers its private mode where ``make site`` has built what that needs."""

import httpx
import pytest
from fastapi import FastAPI
from ferserve.api import pages


@pytest.fixture
async def web(tmp_path, monkeypatch):
    (tmp_path / "static").mkdir()
    (tmp_path / "index.html").write_text((pages.WEB / "index.html").read_text())
    monkeypatch.setattr(pages, "WEB", tmp_path)
    return tmp_path


@pytest.fixture
async def client(web):
    app = FastAPI()
    app.include_router(pages.router)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_no_private_mode_without_the_built_files(client):
    assert "<html data-private" not in (await client.get("/")).text


async def test_a_private_mode_with_them(client, web):
    (web / "static" / "private").mkdir()
    response = await client.get("/")
    assert '<html data-private="offered"' in response.text
    assert "'wasm-unsafe-eval'" in response.headers["content-security-policy"]
