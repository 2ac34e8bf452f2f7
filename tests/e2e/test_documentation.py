"""The documentation pages load nothing from elsewhere, and describe a valid API."""

import re

import httpx
import pytest


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.base_url, follow_redirects=True) as client:
        yield client


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_pages_name_only_assets_of_ours_that_are_there(client, path):
    page = client.get(path)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert not re.findall(r"(?:https?:)?//[\w-]+\.[\w.-]+", page.text)
    assets = re.findall(r"""(?:src|href|spec-url|url)\s*[=:]\s*["']([^"']+)["']""", page.text)
    assert len(assets) >= 2
    for asset in assets:
        assert asset.startswith("/")
        assert client.get(asset).status_code == 200


def test_the_browser_is_forbidden_to_load_from_elsewhere(client):
    for path in ("/docs", "/redoc", "/static-offline-docs/redoc.standalone.js"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "//" not in policy


def references(node: object) -> list[str]:
    """All ``$ref`` below a node."""
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for value in node.values() for ref in references(value)]
    if isinstance(node, list):
        return [ref for value in node for ref in references(value)]
    return []


def test_the_openapi_document_is_sound(client):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.")
    assert {"/v1/emotion", "/v1/models", "/v1/benchmark", "/livez", "/readyz"} <= set(
        document["paths"]
    )
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        (success,) = (answer for status, answer in operation["responses"].items() if status < "3")
        assert success["content"]
        assert operation["summary"]
        assert operation["description"]
    for reference in references(document):
        node = document
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


def test_an_answer_is_as_the_document_says(client, grey_crop):
    document = client.get("/openapi.json").json()
    answer = client.post("/v1/emotion", content=grey_crop).json()

    def check(value: object, schema: dict) -> None:
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]
        if isinstance(value, dict) and "properties" in schema:
            assert set(value) <= set(schema["properties"])
            assert set(schema["required"]) <= set(value)
            for name, item in value.items():
                check(item, schema["properties"][name])
        if isinstance(value, list):
            for item in value:
                check(item, schema["items"])

    check(answer, {"$ref": "#/components/schemas/EmotionResponse"})
