"""The benchmark's routes on the application: small real models, small data sets."""

import asyncio
import io
import json
import re
import tempfile

import httpx
import numpy as np
import onnxruntime
import pytest
from class_folders import encoded, images, zipped
from ferserve.benchmark.archive import ENTRY_SIGNATURE, MAX_ENTRIES
from ferserve.benchmark.jobs import MAX_WAITING
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score, score_votes
from ferserve.fer2013.votes import majority, read_votes
from in_process import queued, serving
from synthetic_fer2013 import write_votes


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch):
    monkeypatch.setattr("ferserve.api.benchmark.EVENT_SECONDS", 0.01)


@pytest.fixture
async def client(standin_models, small_zip):
    async with serving(standin_models, dataset=small_zip) as client:
        yield client


@pytest.fixture
async def without_dataset(standin_models):
    async with serving(standin_models, dataset=None) as client:
        yield client


def assert_problem(response: httpx.Response, status: int, code: str) -> dict:
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), response.text
    assert response.json()["code"] == code
    return response.json()


async def finished(client: httpx.AsyncClient, response: httpx.Response) -> dict:
    """Follows a job that was just created to its end and returns it."""
    assert response.status_code == 202, response.text
    links = response.json()["links"]
    assert response.headers["location"] == links["self"]
    await client.get(links["events"])
    return (await client.get(links["self"])).json()


async def result_of(client: httpx.AsyncClient, response: httpx.Response) -> dict:
    job = await finished(client, response)
    assert job["status"] == "succeeded", job["problem"]
    return job["result"]


def bare_scores(models_dir, name, split):
    """What ONNX Runtime alone gives, with no code of the service."""
    session = onnxruntime.InferenceSession(models_dir / f"{name}.onnx")
    (probabilities,) = session.run(None, {"faces": split.faces})
    return score(probabilities, split.labels), probabilities


async def occupied(client) -> asyncio.Event:
    """Fills the one running place with a job that waits for the event."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def work(job):
        begun.set()
        await gate.wait()

    client.app.state.benchmarks.queue.submit(queued(), work)
    await begun.wait()
    return gate


# The figures


@pytest.mark.parametrize("split", ["all", "public", "private", "leak_free", "train"])
async def test_the_figures_are_those_of_bare_onnx_runtime(client, standin_models, small_zip, split):
    result = await result_of(client, await client.post("/v1/benchmark", json={"split": split}))
    faces = read_fer2013(small_zip).evaluation_splits()[split]
    expected, _ = bare_scores(standin_models, "first", faces)
    (model,) = result["results"]
    assert model["n"] == expected.n
    assert model["accuracy"] == expected.accuracy
    assert model["correct"] == np.trace(expected.confusion)
    assert model["macro_f1"] == expected.macro_f1
    assert model["confusion"] == {"labels": list(EMOTIONS), "counts": expected.confusion.tolist()}
    assert model["per_class"] == {name: vars(of) for name, of in expected.per_class.items()}
    assert model["ece"] == pytest.approx(expected.ece, abs=1e-6)


async def test_a_result_says_what_was_measured_on_what_and_how_fast(client, small_zip):
    job = await finished(client, await client.post("/v1/benchmark"))
    result = job["result"]
    dataset = read_fer2013(small_zip)
    assert result["dataset"] == {
        "source": "operator",
        "sha256": dataset.sha256(),
        "images": {"train": 140, "public": 28, "private": 28},
        "votes_sha256": None,
        "scored": 56,
        "skipped": 0,
        "skipped_files": [],
    }
    (model,) = result["results"]
    card = (await client.get("/v1/models/first")).json()
    assert model["model"] == {key: card[key] for key in ("name", "version", "sha256")}
    assert model["provider"] == "CPUExecutionProvider"
    interval = model["accuracy_interval"]
    assert interval["low"] < model["accuracy"] < interval["high"]
    assert sum(one["n"] for one in model["reliability"]) == 56
    assert model["faces_per_second"] == pytest.approx(56 / model["seconds"])
    latency = model["batch_latency_ms"]
    assert 0 < latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"]
    assert latency["p99"] <= latency["max"]
    assert 14 <= latency["batches"] <= 56
    assert job["accuracy"] == {"first": model["accuracy"]}
    assert job["models"] == ["first"]
    assert result["comparisons"] == []


async def test_a_limit_keeps_the_shares_of_the_emotions(client):
    asked = {"split": "all", "limit": 14}
    result = await result_of(client, await client.post("/v1/benchmark", json=asked))
    (model,) = result["results"]
    assert [of["support"] for of in model["per_class"].values()] == [2] * 7
    again = await result_of(client, await client.post("/v1/benchmark", json=asked))
    assert again["results"][0]["confusion"] == model["confusion"]


@pytest.fixture
async def with_votes(standin_models, small_zip, votes_csv):
    async with serving(standin_models, dataset=small_zip, votes=votes_csv) as client:
        yield client


@pytest.fixture(scope="module")
def votes_csv(small_zip, tmp_path_factory):
    """Ten people about each test face but the first two: of those one has no clear majority."""
    test = read_fer2013(small_zip).test
    counts = np.random.default_rng(0).multinomial(4, np.full(10, 0.1), len(test))
    counts[:, 3] += 6 * (test.labels == 3)
    counts[0] = [5, 5, 0, 0, 0, 0, 0, 0, 0, 0]
    rows = zip(test.ids[:-1], counts[:-1].tolist(), strict=True)
    names = {name.removesuffix(".jpg"): row for name, row in rows}
    return write_votes(tmp_path_factory.mktemp("votes") / "ferplus.csv", names)


async def test_against_votes_a_right_answer_is_the_majoritys(
    with_votes, standin_models, small_zip, votes_csv
):
    asked = {"against": "votes", "compare": ["first", "second"]}
    job = await finished(with_votes, await with_votes.post("/v1/benchmark", json=asked))
    dataset = read_fer2013(small_zip)
    votes = read_votes(votes_csv, dataset)
    counts = votes.of(dataset.test)
    _, probabilities = bare_scores(standin_models, "first", dataset.test)
    expected, _ = score_votes(probabilities, counts)
    model = job["result"]["results"][0]
    assert 0 < expected.n < len(dataset.test)
    assert (model["n"], model["accuracy"]) == (expected.n, expected.accuracy)
    assert model["votes"]["n"] == expected.n
    assert model["votes"]["recall"] == expected.recall
    assert model["votes"]["js_distance"] == pytest.approx(expected.js_distance, abs=1e-6)
    assert model["votes"]["cross_entropy"] == pytest.approx(expected.cross_entropy, abs=1e-6)
    assert model["ece"] == pytest.approx(expected.ece, abs=1e-6)
    assert sum(model["confusion"]["counts"][3]) == np.sum(majority(counts) == 3)
    assert job["result"]["dataset"]["votes_sha256"] == votes.sha256()
    assert job["result"]["dataset"]["scored"] == expected.n
    assert job["result"]["dataset"]["skipped"] == len(dataset.test) - expected.n
    assert (job["against"], job["accuracy"]["first"]) == ("votes", expected.accuracy)
    page = (await with_votes.get(job["links"]["report"])).text
    assert "against people’s majority" in page
    assert f"{model['votes']['js_distance']:.3f}" in page
    assert "60.80" not in page  # the reference project answers with labels


async def test_against_labels_there_are_no_figures_of_votes(with_votes):
    job = await finished(with_votes, await with_votes.post("/v1/benchmark"))
    assert job["against"] == "labels"
    assert job["result"]["results"][0]["votes"] is None
    assert job["result"]["dataset"]["votes_sha256"] is None


async def test_faces_that_people_do_not_agree_on_cannot_be_scored(with_votes):
    asked = {"against": "votes", "limit": 1}
    job = await finished(with_votes, await with_votes.post("/v1/benchmark", json=asked))
    assert (job["status"], job["problem"]["code"]) == ("failed", "nothing_to_score")


async def test_without_votes_the_caller_learns_what_to_do(client):
    response = await client.post("/v1/benchmark", json={"against": "votes"})
    problem = assert_problem(response, 409, "dataset_not_configured")
    assert "FERSERVE_VOTES" in problem["detail"]


async def test_models_are_compared_on_the_same_faces(client, standin_models, small_zip):
    asked = {"compare": ["second", "first"], "split": "train"}
    result = await result_of(client, await client.post("/v1/benchmark", json=asked))
    faces = read_fer2013(small_zip).train
    right = {}
    for name, model in zip(("second", "first"), result["results"], strict=True):
        expected, probabilities = bare_scores(standin_models, name, faces)
        assert model["model"]["name"] == name
        assert model["accuracy"] == expected.accuracy
        right[name] = probabilities.argmax(axis=1) == faces.labels
    (pair,) = result["comparisons"]
    assert (pair["first"], pair["second"]) == ("second", "first")
    assert pair["only_first_correct"] == np.sum(right["second"] & ~right["first"])
    assert pair["only_second_correct"] == np.sum(right["first"] & ~right["second"])
    accuracies = [model["accuracy"] for model in result["results"]]
    assert pair["accuracy_difference"] == pytest.approx(accuracies[0] - accuracies[1])
    assert 0 <= pair["p_value"] <= 1


async def test_a_model_named_twice_is_measured_once(client):
    asked = {"model": "first", "compare": ["first", "second"]}
    job = await finished(client, await client.post("/v1/benchmark", json=asked))
    assert job["models"] == ["first", "second"]


async def test_a_model_with_other_columns_is_scored_by_its_own_labels(
    write_standin, tmp_path, standin_models, small_zip
):
    backwards = EMOTIONS[::-1]
    write_standin(tmp_path, "first", seed=1, labels=backwards)
    card = json.loads((tmp_path / "first.json").read_text())
    (tmp_path / "first.json").write_text(json.dumps(card | {"labels": backwards}))
    (tmp_path / "face_detector.onnx").symlink_to(standin_models / "face_detector.onnx")
    async with serving(tmp_path, dataset=small_zip) as client:
        result = await result_of(client, await client.post("/v1/benchmark"))
    faces = read_fer2013(small_zip).test
    _, probabilities = bare_scores(tmp_path, "first", faces)
    assert result["results"][0]["accuracy"] == score(probabilities[:, ::-1], faces.labels).accuracy


# Life of a job


async def test_the_events_tell_of_a_job_until_its_end(client):
    created = (await client.post("/v1/benchmark")).json()
    response = await client.get(created["links"]["events"])
    assert response.headers["content-type"].startswith("text/event-stream")
    events = re.findall(r"event: (\w+)\ndata: (.+)\n\n", response.text)
    assert [name for name, _ in events][-1] == "finished"
    assert {name for name, _ in events[:-1]} == {"progress"}
    last = json.loads(events[-1][1])
    assert last["status"] == "succeeded"
    assert last["progress"]["done"] == last["progress"]["total"] == 56


async def test_a_job_can_be_watched_cancelled_and_remembered(client):
    gate = await occupied(client)
    created = (await client.post("/v1/benchmark")).json()
    waiting = (await client.get(created["links"]["self"])).json()
    assert (waiting["status"], waiting["result"]) == ("queued", None)
    cancelled = await client.delete(created["links"]["self"])
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    listed = (await client.get("/v1/benchmark")).json()["jobs"]
    assert [job["status"] for job in listed] == ["cancelled", "running"]
    assert "result" not in listed[0]
    gate.set()


async def test_beyond_the_queue_jobs_are_refused(standin_models, small_zip):
    async with serving(standin_models, dataset=small_zip) as client:
        await occupied(client)
        for _ in range(MAX_WAITING):
            assert (await client.post("/v1/benchmark")).status_code == 202
        refused = await client.post("/v1/benchmark")
        assert_problem(refused, 429, "queue_full")
        assert int(refused.headers["retry-after"]) > 0
        upload = await client.post("/v1/benchmark", files={"file": zipped(images(1))})
        assert_problem(upload, 429, "queue_full")


async def test_live_requests_are_answered_while_a_benchmark_runs(client, grey_crop):
    alone = (await client.post("/v1/emotion", files={"file": grey_crop})).json()
    job = (await client.post("/v1/benchmark", json={"split": "train"})).json()
    beside = (await client.post("/v1/emotion", files={"file": grey_crop})).json()
    assert beside["faces"] == alone["faces"]
    await client.get(job["links"]["events"])


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("tail", ["", "/events", "/report"])
async def test_an_unknown_job_is_not_found(client, method, tail):
    response = await client.request(method, f"/v1/benchmark/nonsense{tail}")
    if method == "DELETE" and tail:
        assert_problem(response, 405, "method_not_allowed")
    else:
        assert_problem(response, 404, "not_found")


async def test_a_job_belongs_to_the_key_that_made_it(standin_models, small_zip):
    mine, others = ({"X-API-Key": f"the-key-of-caller-{name}"} for name in "ab")
    keys = tuple(key["X-API-Key"] for key in (mine, others))
    async with serving(standin_models, dataset=small_zip, api_keys=keys) as client:
        job = (await client.post("/v1/benchmark", headers=mine)).json()["links"]["self"]
        for method, path in (
            ("GET", job), ("DELETE", job), ("GET", f"{job}/events"), ("GET", f"{job}/report"),
        ):  # fmt: skip
            assert_problem(await client.request(method, path, headers=others), 404, "not_found")
        assert (await client.get("/v1/benchmark", headers=others)).json()["jobs"] == []
        assert len((await client.get("/v1/benchmark", headers=mine)).json()["jobs"]) == 1
        assert (await client.delete(job, headers=mine)).status_code == 200


async def test_a_zip_is_charged_until_its_job_has_ended(standin_models):
    archive = zipped(images())
    async with serving(standin_models) as client:
        budget = client.app.state.upload_budget
        accepted = await client.post("/v1/benchmark", files={"file": archive})
        assert budget.held >= len(archive)
        await finished(client, accepted)
        assert budget.held == 0
        refused = await client.post("/v1/benchmark", files={"file": b"no zip"})
        assert refused.status_code == 415
        assert budget.held == 0


async def test_zips_take_half_of_the_memory_for_uploads(standin_models):
    small = {
        "max_upload_bytes": 4000,
        "max_batch_upload_bytes": 4000,
        "benchmark_max_upload_bytes": 2000,
        "upload_memory_bytes": 4000,
    }
    async with serving(standin_models, **small) as client:
        client.app.state.upload_budget.take(1000)  # as another zip would
        refused = await client.post("/v1/benchmark", files={"file": bytes(1500)})
        assert_problem(refused, 429, "queue_full")


async def test_closing_the_service_ends_its_benchmarks(standin_models, small_zip):
    async with serving(standin_models, dataset=small_zip) as client:
        await occupied(client)
        await client.post("/v1/benchmark")
        queue = client.app.state.benchmarks.queue
    assert {job.state.status for job in queue.jobs} == {"cancelled"}


# What is refused


async def test_without_a_data_set_the_caller_learns_what_to_do(without_dataset):
    problem = assert_problem(
        await without_dataset.post("/v1/benchmark", json={}), 409, "dataset_not_configured"
    )
    assert "FERSERVE_DATASET" in problem["detail"]
    assert "multipart/form-data" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ("{", 400, "malformed_request"),
        ("[]", 422, "invalid_parameter"),
        ('{"split": "test"}', 422, "invalid_parameter"),
        ('{"limit": 0}', 422, "invalid_parameter"),
        ('{"modle": "first"}', 422, "invalid_parameter"),
        ('{"detect": "true"}', 422, "invalid_parameter"),
        ('{"model": "third"}', 422, "unknown_model"),
        ('{"compare": ["first", "third"]}', 422, "unknown_model"),
        (json.dumps({"compare": ["first"] * 9}), 422, "invalid_parameter"),
        (" " * 70_000, 413, "payload_too_large"),
    ],
)
async def test_a_bad_request_is_a_problem(client, body, status, code):
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/benchmark", content=body, headers=headers)
    assert_problem(response, status, code)
    assert (await client.get("/v1/benchmark")).json() == {"jobs": []}


async def test_options_in_the_query_are_refused_rather_than_passed_over(client):
    problem = assert_problem(
        await client.post("/v1/benchmark?model=second"), 422, "invalid_parameter"
    )
    assert problem["detail"].startswith("model:")


async def test_a_body_of_another_kind_is_refused(client):
    response = await client.post(
        "/v1/benchmark", content=zipped(images(1)), headers={"Content-Type": "application/zip"}
    )
    assert_problem(response, 415, "unsupported_media_type")


async def test_a_data_set_that_cannot_be_read_fails_the_job_without_naming_its_path(
    standin_models, tmp_path, caplog
):
    damaged = tmp_path / "fer2013.zip"
    damaged.write_bytes(b"PK, or so")
    async with serving(standin_models, dataset=damaged) as client:
        job = await finished(client, await client.post("/v1/benchmark"))
    assert job["status"] == "failed"
    assert job["problem"]["code"] == "unreadable_dataset"
    assert str(tmp_path) not in json.dumps(job)
    assert str(damaged) in caplog.text


# Uploads


async def test_an_upload_is_measured_like_bare_onnx_runtime(without_dataset, standin_models):
    files = images(3)
    data = zipped(files)
    response = await without_dataset.post("/v1/benchmark", files={"file": data})
    result = await result_of(without_dataset, response)
    from PIL import Image

    faces = np.stack([np.asarray(Image.open(io.BytesIO(files[name]))) for name in sorted(files)])
    labels = np.array([EMOTIONS.index(name.split("/")[0]) for name in sorted(files)])
    session = onnxruntime.InferenceSession(standin_models / "first.onnx")
    expected = score(session.run(None, {"faces": faces})[0], labels)
    (model,) = result["results"]
    assert model["accuracy"] == expected.accuracy
    assert model["confusion"]["counts"] == expected.confusion.tolist()
    assert result["dataset"]["images"] == dict.fromkeys(EMOTIONS, 3)
    assert result["dataset"]["source"] == "upload"


async def test_the_forms_fields_are_options(client):
    fields = {"compare": "second, first", "limit": "7"}
    response = await client.post("/v1/benchmark", data=fields, files={"file": zipped(images(2))})
    job = await finished(client, response)
    assert job["models"] == ["second", "first"]
    assert job["result"]["dataset"]["scored"] == 7
    assert (job["source"], job["split"]) == ("upload", None)
    repeated = await client.post(
        "/v1/benchmark",
        data={"compare": ["second", "first"]},
        files={"file": zipped(images(1))},
    )
    assert (await finished(client, repeated))["models"] == ["second", "first"]


async def test_any_format_and_size_is_taken(client, photo):
    files = images(1) | {
        "happy/photo.jpg": photo("astronaut", format="JPEG"),
        "happy/photo.webp": photo("astronaut", format="WEBP", size=(200, 100)),
        "sad/photo.gif": photo("chelsea", format="GIF"),
        "sad/photo.bmp": photo("coffee", format="BMP", size=(64, 64)),
        "sad/photo.tiff": photo("coffee", format="TIFF", size=(64, 64)),
    }
    result = await result_of(
        client, await client.post("/v1/benchmark", files={"file": zipped(files)})
    )
    assert (result["dataset"]["scored"], result["dataset"]["skipped"]) == (12, 0)


async def test_photos_go_through_the_detector_when_asked(client, photo):
    files = {f"{emotion}/face.jpg": photo("astronaut", format="JPEG") for emotion in EMOTIONS} | {
        "happy/cat.png": photo("chelsea")
    }
    response = await client.post(
        "/v1/benchmark", data={"detect": "true"}, files={"file": zipped(files)}
    )
    result = await result_of(client, response)
    assert result["dataset"]["scored"] == 7
    assert result["dataset"]["skipped_files"] == [{"file": "happy/cat.png", "code": "no_face"}]
    answer = await client.post("/v1/emotion", files={"file": files["happy/face.jpg"]})
    (model,) = result["results"]
    seen = answer.json()["faces"][0]["dominant_emotion"]
    column = [row[EMOTIONS.index(seen)] for row in model["confusion"]["counts"]]
    assert column == [1] * 7


async def test_a_bad_image_costs_only_itself(client):
    bad = {"sad/text.png": b"not an image", "sad/half.png": images(1)["sad/0.png"][:60]}
    bad |= {"sad/tiny.png": encoded(np.zeros((4, 4), np.uint8))}
    response = await client.post("/v1/benchmark", files={"file": zipped(images(1) | bad)})
    dataset = (await result_of(client, response))["dataset"]
    assert (dataset["scored"], dataset["skipped"]) == (7, 3)
    assert {file["file"]: file["code"] for file in dataset["skipped_files"]} == {
        "sad/text.png": "unsupported_media_type",
        "sad/half.png": "undecodable_image",
        "sad/tiny.png": "image_too_small",
    }


async def test_an_upload_with_nothing_to_score_fails(client):
    files = {f"{emotion}/x.png": b"not an image" for emotion in EMOTIONS}
    job = await finished(client, await client.post("/v1/benchmark", files={"file": zipped(files)}))
    assert job["status"] == "failed"
    assert job["problem"]["code"] == "nothing_to_score"


EIGHTY_FOLD = {f"{emotion}/x": bytes(20_000) for emotion in EMOTIONS}  # of its zip


@pytest.mark.parametrize(
    ("settings", "files", "status", "code"),
    [
        ({}, {"angry/x.png": b"x"}, 422, "invalid_archive"),
        ({}, images(1) | {"../x.png": b"x"}, 422, "invalid_archive"),
        ({}, images(1) | {"contempt/x.png": b"x"}, 422, "invalid_archive"),
        ({"benchmark_max_upload_bytes": 10_000}, EIGHTY_FOLD, 413, "payload_too_large"),
        ({"benchmark_max_upload_bytes": 100}, images(1), 413, "payload_too_large"),
        ({"max_upload_bytes": 100}, images(1), 413, "payload_too_large"),
        ({}, {f"{emotion}/x": bytes(200_000) for emotion in EMOTIONS}, 413, "payload_too_large"),
    ],
    ids=[
        "missing classes", "path trick", "unknown class", "unpacked", "body", "file", "bomb",
    ],
)  # fmt: skip
async def test_a_bad_zip_is_a_problem(standin_models, settings, files, status, code):
    async with serving(standin_models, **settings) as client:
        response = await client.post("/v1/benchmark", files={"file": zipped(files)})
        assert_problem(response, status, code)
        assert (await client.get("/v1/benchmark")).json() == {"jobs": []}


async def test_too_many_entries_are_a_problem(client):
    data = b"PK" + ENTRY_SIGNATURE * (MAX_ENTRIES + 1)
    response = await client.post("/v1/benchmark", files={"file": data})
    assert_problem(response, 413, "too_many_images")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"split": "all"}, "invalid_parameter"),
        ({"detect": "perhaps"}, "invalid_parameter"),
        ({"limit": "many"}, "invalid_parameter"),
        ({"limit": ["1", "2"]}, "invalid_parameter"),
        ({"model": "third"}, "unknown_model"),
    ],
)
async def test_a_bad_field_is_a_problem(client, fields, code):
    response = await client.post("/v1/benchmark", data=fields, files={"file": zipped(images(1))})
    assert_problem(response, 422, code)


async def test_a_form_without_a_zip_or_with_two_is_a_problem(client):
    data = zipped(images(1))
    none = await client.post("/v1/benchmark", files={"other": data})
    assert_problem(none, 422, "invalid_parameter")
    two = await client.post("/v1/benchmark", files=[("file", data), ("file", data)])
    assert_problem(two, 400, "malformed_request")
    no_zip = await client.post("/v1/benchmark", files={"file": b"angry"})
    assert_problem(no_zip, 415, "unsupported_media_type")


async def test_an_upload_touches_no_disk(client, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a temporary file")

    monkeypatch.setattr(tempfile, "_TemporaryFileWrapper", forbidden)
    monkeypatch.setattr(tempfile, "TemporaryFile", forbidden)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "__init__", forbidden)
    padding = np.random.default_rng(0).integers(0, 256, (800, 900, 3), np.uint8)
    files = images(1) | {"angry/large.png": encoded(padding)}
    data = zipped(files)
    assert len(data) > 1024 * 1024
    result = await result_of(client, await client.post("/v1/benchmark", files={"file": data}))
    assert result["dataset"]["scored"] == 8


# The report


async def report(client, response, thumbnails="false") -> httpx.Response:
    job = await finished(client, response)
    return await client.get(job["links"]["report"], params={"thumbnails": thumbnails})


async def test_the_report_needs_nothing_from_elsewhere(client):
    page = await report(
        client, await client.post("/v1/benchmark", json={"compare": ["first", "second"]}), "true"
    )
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "<script" not in page.text
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')>]*)""", page.text)
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert "http" not in page.text.replace("http-equiv", "")


async def test_the_report_shows_the_figures_and_others_beside_them(client):
    response = await client.post("/v1/benchmark", json={"model": "first"})
    page = (await report(client, response)).text
    job = (await client.get(response.json()["links"]["self"])).json()
    (model,) = job["result"]["results"]
    assert f"{100 * model['accuracy']:.2f}<i>%</i>" in page
    for figure in ("55.52", "55.00", "60.80", "66.04", "65.60"):
        assert figure in page
    assert model["model"]["sha256"] in page
    assert job["result"]["dataset"]["sha256"] in page
    assert page.count("<svg") == 1
    assert 'http-equiv="refresh"' not in page


async def test_the_lowest_recall_is_of_an_emotion_that_was_scored(client):
    response = await client.post("/v1/benchmark", json={"limit": 1})
    page = (await report(client, response)).text
    job = (await client.get(response.json()["links"]["self"])).json()
    (scored,) = [
        emotion
        for emotion, scores in job["result"]["results"][0]["per_class"].items()
        if scores["support"]
    ]
    assert f"lowest recall: {scored}" in page


async def test_a_comparison_is_put_into_words(client):
    asked = {"compare": ["first", "second"]}
    page = (await report(client, await client.post("/v1/benchmark", json=asked))).text
    assert "McNemar" in page
    assert page.count("<svg") == 2


async def test_faces_are_shown_only_on_request(client):
    created = await client.post("/v1/benchmark", json={"split": "train"})
    plain = await report(client, created)
    assert "<img" not in plain.text
    wanted = await client.get(created.json()["links"]["report"], params={"thumbnails": "true"})
    assert wanted.text.count('<img src="data:image/png;base64,') == 24


async def test_uploaded_faces_are_kept_only_with_the_uploads_leave(client):
    files = {"file": zipped(images(2))}
    silent = await report(client, await client.post("/v1/benchmark", files=files), "true")
    assert "<img" not in silent.text
    assert "thumbnails=true" in silent.text
    fields = {"thumbnails": "true"}
    allowed = await client.post("/v1/benchmark", data=fields, files=files)
    assert "<img" in (await report(client, allowed, "true")).text


async def test_an_upload_is_not_put_beside_figures_on_other_images(client):
    response = await client.post("/v1/benchmark", files={"file": zipped(images(1))})
    page = (await report(client, response)).text
    assert "60.80" not in page


async def test_the_report_of_a_job_under_way_reloads_itself(client):
    gate = await occupied(client)
    created = (await client.post("/v1/benchmark")).json()
    waiting = await client.get(created["links"]["report"])
    assert waiting.status_code == 200
    assert 'http-equiv="refresh"' in waiting.text
    await client.delete(created["links"]["self"])
    over = await client.get(created["links"]["report"])
    assert "Cancelled" in over.text
    assert 'http-equiv="refresh"' not in over.text
    gate.set()


async def test_the_report_of_a_failed_job_says_why(client):
    files = {f"{emotion}/<script>.png": b"not an image" for emotion in EMOTIONS}
    response = await client.post("/v1/benchmark", files={"file": zipped(files)})
    page = await report(client, response)
    assert "nothing_to_score" in page.text
    assert "<script" not in page.text


async def test_a_bad_parameter_of_the_report_is_a_problem(client):
    created = (await client.post("/v1/benchmark")).json()
    response = await client.get(created["links"]["report"], params={"thumbnails": "perhaps"})
    assert_problem(response, 422, "invalid_parameter")


# The contract


async def test_the_contract_describes_bodies_answers_and_problems(client):
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/v1/benchmark"]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", "model", "compare", "limit", "detect", "thumbnails"}
    assert operation["responses"]["202"]["content"]["application/json"]["schema"]
    codes = {
        code
        for response in operation["responses"].values()
        for code in response["content"].get("application/problem+json", {}).get("examples", {})
    }
    assert codes == {
        "malformed_request", "dataset_not_configured", "payload_too_large", "too_many_images",
        "unsupported_media_type", "invalid_archive", "unknown_model", "invalid_parameter",
        "queue_full", "internal_error", "not_ready", "deadline_exceeded", "unauthorized",
        "forbidden_origin", "rate_limited",
    }  # fmt: skip
    assert "HTTPValidationError" not in json.dumps(document)


async def test_head_of_the_events_ends_though_the_job_goes_on(client):
    gate = await occupied(client)
    (job,) = (await client.get("/v1/benchmark")).json()["jobs"]
    async with asyncio.timeout(20):
        head = await client.head(job["links"]["events"])
    assert head.headers["content-type"].startswith("text/event-stream")
    assert (await client.get(job["links"]["self"])).json()["status"] == "running"
    gate.set()
