import pytest
from ferserve import batcher, deepface, errors, images, recognizer, streaming
from ferserve.benchmark import archive, jobs
from starlette.exceptions import HTTPException


def problems() -> list[type[errors.Problem]]:
    return errors.Problem.__subclasses__()


def test_every_problem_has_a_code_of_its_own():
    codes = [problem.code for problem in problems()]
    assert len(set(codes)) == len(codes)


def test_statuses_are_those_of_the_contract():
    assert {problem.code: problem.status for problem in problems()} == {
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


@pytest.mark.parametrize(
    ("error", "code"),
    [
        *((kind("why"), None) for kind in images.ImageError.__subclasses__()),
        (recognizer.UnknownModel("why"), "unknown_model"),
        (recognizer.InvalidOption("why"), "invalid_parameter"),
        (batcher.QueueFull("why"), "queue_full"),
        (batcher.DeadlineExceeded("why"), "deadline_exceeded"),
        (batcher.BatcherClosed("why"), "not_ready"),
        (archive.NotAnArchive("why"), "unsupported_media_type"),
        (archive.InvalidArchive("why"), "invalid_archive"),
        (archive.TooManyEntries("why"), "too_many_images"),
        (archive.ArchiveTooLarge("why"), "payload_too_large"),
        (jobs.UnknownJob("why"), "not_found"),
        (jobs.TooManyJobs("why"), "queue_full"),
        (jobs.JobsClosed("why"), "not_ready"),
        (streaming.TooManyStreams("why"), "queue_full"),
        (streaming.StreamsClosed("why"), "not_ready"),
        (deepface.UnsupportedRequest("why"), "invalid_parameter"),
        (deepface.NoFace("why"), "no_face"),
        (HTTPException(404, "why"), "not_found"),
        (HTTPException(405, "why"), "method_not_allowed"),
        (HTTPException(400, "why"), "malformed_request"),
        (errors.PayloadTooLarge("why"), "payload_too_large"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_what_the_caller_did_is_named_and_explained(error, code):
    problem = errors.as_problem(error)
    assert problem.code == code or code is None
    assert problem.detail == "why"
    assert problem.status < 500 or problem.code in ("deadline_exceeded", "not_ready")


@pytest.mark.parametrize(
    "error", [KeyError("secret"), batcher.BatchFailed("secret"), RuntimeError("secret")]
)
def test_what_we_did_is_not_explained(error):
    problem = errors.as_problem(error)
    assert problem.status == 500
    assert "secret" not in problem.detail
