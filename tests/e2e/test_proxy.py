"""The service behind a proxy that takes a prefix from the path, as docs/proxy.md sets one up."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urljoin

import httpx
import pytest
from class_folders import images, zipped

PREFIX = "/face"


@pytest.fixture(scope="module")
def proxy(start_server, tmp_path_factory) -> Iterator[str]:
    """The address of the service behind a proxy."""

    class Strip(BaseHTTPRequestHandler):
        def answer(self) -> None:
            if not self.path.startswith(f"{PREFIX}/"):
                self.send_error(404, "not the service's")
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = httpx.request(
                self.command,
                server.base_url + self.path.removeprefix(PREFIX),
                content=body,
                headers=dict(self.headers),
            )
            self.send_response(answer.status_code)
            for name, value in answer.headers.items():
                if name != "transfer-encoding":  # the body is whole here
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815 - names of the library

        def log_message(self, *_: object) -> None:
            """Stays silent."""

    log = tmp_path_factory.mktemp("proxied") / "log"
    with (
        start_server(log, root_path=PREFIX) as server,
        ThreadingHTTPServer(("127.0.0.1", 0), Strip) as listening,
    ):
        threading.Thread(target=listening.serve_forever).start()
        yield f"http://127.0.0.1:{listening.server_address[1]}{PREFIX}/"
        listening.shutdown()


@pytest.mark.parametrize("page", ["", "docs", "docs/", "redoc"])
def test_a_page_finds_all_that_it_loads(proxy, page):
    answer = httpx.get(proxy + page)
    assert answer.status_code == 200
    links = re.findall(r"""(?:src|href|url|spec-url)\s*[=:]\s*["']([^"'#]+)["']""", answer.text)
    assert links
    for link in links:
        if not link.startswith("data:"):
            assert httpx.get(urljoin(proxy + page, link)).status_code == 200, link


def test_the_description_names_the_prefix(proxy, grey_crop):
    described = httpx.get(f"{proxy}openapi.json").json()
    assert described["servers"] == [{"url": PREFIX}]
    assert "/v1/emotion" in described["paths"]
    answer = httpx.post(f"{proxy}v1/emotion", content=grey_crop)
    assert len(answer.json()["faces"]) == 1
    problem = httpx.get(f"{proxy}v1/models/none").json()
    assert problem["instance"] == f"{PREFIX}/v1/models/none"
    deepface = httpx.post(f"{proxy}analyze", json={}).json()
    assert deepface["error"] == deepface["detail"]


def test_a_benchmarks_location_and_links_lead_through_the_proxy(proxy):
    archive = zipped(images(1))
    accepted = httpx.post(f"{proxy}v1/benchmark", files={"file": archive})
    assert accepted.status_code == 202, accepted.text
    location = urljoin(proxy, accepted.headers["location"])
    assert location.startswith(f"{proxy}v1/benchmark/")
    links = httpx.get(location).json()["links"]
    for link in links.values():
        assert httpx.get(urljoin(proxy, link)).status_code == 200


def test_a_probe_beside_the_proxy_needs_no_prefix(start_server, tmp_path):
    with start_server(tmp_path / "log", root_path=PREFIX) as server:
        for path in ("/livez", f"{PREFIX}/livez"):
            assert httpx.get(server.base_url + path).status_code == 200
        assert "WARNING" not in server.log.read_text()
