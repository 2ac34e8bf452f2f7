"""``ferserve benchmark`` against ``ferserve serve``."""

import json
import socket
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import onnxruntime
import pytest
from class_folders import images, zipped
from ferserve.cli import app
from ferserve.fer2013.reader import Fer2013, read_fer2013
from ferserve.fer2013.scoring import score
from synthetic_fer2013 import write_csv, write_votes, write_zip
from training_runs import run_ferserve
from typer.testing import CliRunner, Result

REPOSITORY = Path(__file__).resolve().parents[2]
MODELS = REPOSITORY / "models"


def ferserve(server, *arguments: object) -> Result:
    return CliRunner().invoke(app, ["benchmark", "--url", server.base_url, *map(str, arguments)])


@pytest.fixture(scope="module")
def votes_csv(small_zip, tmp_path_factory):
    """Ten people who all see a happy face in every other test image."""
    names = read_fer2013(small_zip).test.ids[::2]
    votes = {name.removesuffix(".jpg"): [0, 0, 0, 10, *6 * [0]] for name in names}
    return write_votes(tmp_path_factory.mktemp("votes") / "ferplus.csv", votes)


@pytest.fixture(scope="module")
def server(start_server, small_zip, votes_csv, standin_models, tmp_path_factory):
    """Two small models and a small data set."""
    with start_server(
        tmp_path_factory.mktemp("benchmark") / "log",
        dataset=small_zip,
        votes=votes_csv,
        models_dir=standin_models,
        models="",
        default_model="first",
    ) as server:
        yield server


def test_a_benchmark_prints_a_table(server):
    arguments = ["benchmark", "--url", server.base_url, "--split", "train"]
    result = run_ferserve(*arguments)
    assert result.returncode == 0, result.stderr
    (job, *_) = httpx.get(f"{server.base_url}/v1/benchmark").json()["jobs"]
    assert job["split"] == "train"
    assert f"{job['accuracy']['first']:.2%}" in result.stdout


def test_a_benchmark_against_votes_prints_every_recall(server, tmp_path):
    result = ferserve(server, "--against", "votes")
    assert result.exit_code == 0, result.stderr
    (job, *_) = httpx.get(f"{server.base_url}/v1/benchmark").json()["jobs"]
    assert job["against"] == "votes"
    assert f"{job['accuracy']['first']:.2%}" in result.stdout
    (row,) = [row for row in result.stdout.splitlines() if "recall of happy" in row]
    assert f" {job['accuracy']['first']:.1%} " in row  # they see nothing else
    assert "Jensen-Shannon distance" in result.stdout
    faces = tmp_path / "faces.zip"
    faces.write_bytes(zipped(images(1)))
    for option in (("--against", "votes"), ("--split", "private")):
        assert ferserve(server, *option, "--upload", faces).exit_code == 2


def test_a_benchmark_is_a_gate(server):
    passed = ferserve(server, "--min-accuracy", "0.0", "--json")
    assert passed.exit_code == 0
    accuracy = json.loads(passed.stdout)["accuracy"]["first"]
    failed = ferserve(server, "--min-accuracy", accuracy + 0.01)
    assert failed.exit_code == 1
    assert "below --min-accuracy" in failed.stderr
    assert ferserve(server, "--min-accuracy", "64").exit_code == 2


def test_models_are_compared_and_the_report_is_saved(server, tmp_path):
    page = tmp_path / "report.html"
    result = ferserve(server, "--model", "first", "--model", "second", "--report", page)
    assert result.exit_code == 0, result.stderr
    assert "McNemar" in result.stdout
    assert page.read_text().startswith("<!doctype html>")


def test_a_zip_is_uploaded(server, tmp_path):
    faces = tmp_path / "faces.zip"
    faces.write_bytes(zipped(images(2)))
    result = ferserve(server, "--upload", faces, "--model", "second", "--json")
    assert result.exit_code == 0, result.stderr
    job = json.loads(result.stdout)
    assert (job["source"], job["result"]["dataset"]["scored"]) == ("upload", 14)


def test_problems_are_told_without_a_traceback(server, tmp_path):
    unknown = ferserve(server, "--model", "third")
    assert unknown.exit_code == 1
    assert "unknown_model" in unknown.stderr
    bad = tmp_path / "faces.zip"
    bad.write_bytes(zipped({"angry/x.png": b"x"}))
    refused = ferserve(server, "--upload", bad)
    assert refused.exit_code == 1
    assert "invalid_archive" in refused.stderr
    assert ferserve(server, "--detect").exit_code == 2
    assert ferserve(server, "--report", tmp_path / "nowhere" / "report.html").exit_code == 2
    for result in (unknown, refused):
        assert isinstance(result.exception, SystemExit)


def test_a_key_is_sent_where_the_service_wants_one(
    start_server, small_zip, standin_models, tmp_path, monkeypatch
):
    key = "a-key-of-the-benchmark"
    with start_server(
        tmp_path / "log",
        dataset=small_zip,
        models_dir=standin_models,
        models="",
        default_model="first",
        api_keys=f"another-key-of-someone,{key}",
    ) as server:
        refused = ferserve(server, "--limit", "7")
        assert refused.exit_code == 1
        assert "unauthorized" in refused.stderr
        monkeypatch.setenv("FERSERVE_API_KEY", key)
        assert ferserve(server, "--limit", "7").exit_code == 0
        assert key not in server.log.read_text()


def test_no_service_is_an_error_without_a_traceback(server):
    nobody = type(server)("http://127.0.0.1:1", 1, server.process, server.log)
    result = ferserve(nobody)
    assert result.exit_code == 1
    assert "http://127.0.0.1:1" in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_uploads_that_were_broken_off_hold_no_places(server):
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /v1/benchmark HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
                b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            )
            time.sleep(0.05)
    time.sleep(0.2)
    assert ferserve(server).exit_code == 0


def test_events_arrive_while_the_job_runs(start_server, standin_models, tmp_path):
    faces = write_zip(tmp_path / "fer2013.zip", train=300)  # so many that the last job still waits
    settings = {"dataset": faces, "models_dir": standin_models, "default_model": "first"}
    with (
        start_server(tmp_path / "log", models="", **settings) as server,
        httpx.Client(base_url=server.base_url, timeout=30) as client,
    ):
        asked = {"compare": ["first", "second"], "split": "train"}
        jobs = [client.post("/v1/benchmark", json=asked).json() for _ in range(3)]
        with client.stream("GET", jobs[-1]["links"]["events"]) as events:
            names = [line for line in events.iter_lines() if line.startswith("event: ")]
    assert names[-1] == "event: finished"
    assert "event: progress" in names


def test_the_end_of_the_service_ends_a_benchmark_and_its_events(start_server, tmp_path):
    faces = write_zip(tmp_path / "fer2013.zip", train=300)
    with start_server(tmp_path / "log", dataset=faces) as server:
        job = httpx.post(f"{server.base_url}/v1/benchmark", json={"split": "train"}).json()
        heard: list[str] = []

        def listen() -> None:
            with httpx.stream(
                "GET", server.base_url + job["links"]["events"], timeout=60
            ) as events:
                heard.extend(events.iter_lines())

        listener = threading.Thread(target=listen)
        listener.start()
        while not heard:
            time.sleep(0.05)
        started = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - started < 15  # less than the 20 s it waits for requests
        listener.join(timeout=10)
        assert any('"status":"cancelled"' in line for line in heard)


def test_the_trained_models_figures_are_those_of_bare_onnx_runtime(
    start_server, full_dataset, tmp_path
):
    splits = (full_dataset.train, 150), (full_dataset.public, 20), (full_dataset.private, 20)
    dataset = Fer2013(*(split.take(np.arange(0, len(split), step)) for split, step in splits))
    faces = write_csv(tmp_path / "fer2013.csv", dataset)
    with start_server(tmp_path / "log", dataset=faces) as server:
        result = ferserve(server, "--split", "leak_free", "--limit", "200", "--json")
    assert result.exit_code == 0, result.stderr
    (model,) = json.loads(result.stdout)["result"]["results"]
    split = dataset.evaluation_splits()["leak_free"]
    chosen = split.take(np.arange(200) * len(split) // 200)
    session = onnxruntime.InferenceSession(MODELS / "custom_cnn.onnx")
    expected = score(session.run(None, {"faces": chosen.faces})[0], chosen.labels)
    assert model["accuracy"] == expected.accuracy
    assert model["macro_f1"] == expected.macro_f1
    assert model["confusion"]["counts"] == expected.confusion.tolist()
    assert model["ece"] == pytest.approx(expected.ece, abs=1e-6)
