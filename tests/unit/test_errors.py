"""Refusals: their codes and statuses, what becomes of them on the way to a caller and back."""

import pickle

import pytest
from fastapi.exceptions import RequestValidationError
from ferserve.api.problems import as_refusal
from ferserve.errors import InternalError, QueueFull, Refusal, kind_of
from starlette.exceptions import HTTPException

KINDS = Refusal.__subclasses__()


def test_every_refusal_has_a_code_of_its_own():
    codes = [kind.code for kind in KINDS]
    assert len(set(codes)) == len(codes)


def test_statuses_are_those_of_the_contract():
    assert {kind.code: kind.status for kind in KINDS} == {
        "malformed_request": 400,
        "no_face": 400,
        "unauthorized": 401,
        "forbidden_origin": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "dataset_not_configured": 409,
        "payload_too_large": 413,
        "too_many_images": 413,
        "too_many_pixels": 413,
        "unsupported_media_type": 415,
        "undecodable_image": 422,
        "image_too_small": 422,
        "invalid_archive": 422,
        "unknown_model": 422,
        "invalid_parameter": 422,
        "queue_full": 429,
        "rate_limited": 429,
        "internal_error": 500,
        "not_ready": 503,
        "deadline_exceeded": 504,
    }


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_a_client_raises_what_the_service_raised(kind):
    said = kind("why")
    heard = kind_of(said.code)(said.detail, status=said.status, request_id="abc")
    assert type(heard) is kind
    assert (str(heard), heard.detail, heard.request_id) == ("why", "why", "abc")


def test_a_code_that_no_class_has_is_kept():
    heard = kind_of("out_of_paper")("why", code="out_of_paper", status=507)
    assert type(heard) is Refusal
    assert (heard.status, heard.code, heard.detail) == (507, "out_of_paper", "why")


def test_a_refusal_passes_between_processes_as_it_is():
    said = QueueFull("why", {"Retry-After": "60"}, request_id="abc")
    heard = pickle.loads(pickle.dumps(said))
    assert type(heard) is QueueFull
    assert vars(heard) == vars(said)
    assert QueueFull("why").headers == {"Retry-After": "1"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind is not InternalError])
def test_the_caller_sees_why_a_request_is_refused(kind):
    refusal = kind("why")
    assert as_refusal(refusal) is refusal


@pytest.mark.parametrize(
    ("error", "code", "detail"),
    [
        (HTTPException(404, "why"), "not_found", "why"),
        (HTTPException(405, "why"), "method_not_allowed", "why"),
        (HTTPException(400, "why"), "malformed_request", "why"),
        (
            RequestValidationError([{"loc": ("query", "detect"), "msg": "why"}]),
            "invalid_parameter",
            "detect: why",
        ),
    ],
    ids=["404", "405", "400", "validation"],
)
def test_what_the_framework_refuses_has_the_same_form(error, code, detail):
    refusal = as_refusal(error)
    assert (refusal.code, refusal.detail) == (code, detail)


@pytest.mark.parametrize(
    "error", [KeyError("secret"), InternalError("secret"), RuntimeError("secret")]
)
def test_what_we_did_is_not_explained(error):
    refusal = as_refusal(error)
    assert refusal.status == 500
    assert "secret" not in refusal.detail
