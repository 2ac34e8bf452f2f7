"""``ferserve loadtest`` against the real server."""

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from ferserve.cli import app
from ferserve.loadtest.generator import Generator
from ferserve.loadtest.payloads import Payload, sample_face
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Plan
from ferserve.loadtest.processes import run
from ferserve.loadtest.samples import Measurement, Samples
from ferserve.loadtest.statistics import summarize
from typer.testing import CliRunner

REPOSITORY = Path(__file__).resolve().parents[2]
KEY = "a-key-for-the-load-test"


@pytest.fixture
def loadtest(tmp_path):
    """Runs the command; returns its result and what it wrote as JSON."""
    out = tmp_path / "out.json"

    def invoke(*arguments: object):
        result = CliRunner().invoke(
            app, ["loadtest", *(str(argument) for argument in arguments), "--out", str(out)]
        )
        assert out.exists(), result.output
        return result, json.loads(out.read_text())

    return invoke


def all_counted(document: dict) -> bool:
    return all(
        run["sent"] == run["answered"] + sum(run["errors"].values()) for run in document["runs"]
    )


def test_a_sweep_writes_figures_and_a_plot_of_every_rate(loadtest, server, tmp_path):
    result, document = loadtest(
        server.base_url,
        *("--sweep", "15,30", "--seconds", 1, "--warm-up", 0.3, "--processes", 2),
        *("--slo-ms", 10_000, "--max-lag-ms", 60_000),
    )
    assert result.exit_code == 0, result.output
    assert document["url"] == f"{server.base_url}/v1/emotion"
    assert [run["offered_rate"] for run in document["runs"]] == [15, 30]
    assert all_counted(document)
    for run_ in document["runs"]:
        assert run_["answered"] == run_["sent"] > 0
        assert run_["latency_ms"]["p50"] > 0
        assert run_["goodput"] <= run_["rate"]
    assert "15/s" in result.stdout
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_closed_loop_counts_bad_images_of_a_folder_as_errors(
    loadtest, server, tmp_path, grey_crop
):
    images = tmp_path / "images"
    images.mkdir()
    (images / "face.png").write_bytes(grey_crop)
    (images / "text.png").write_bytes(b"not an image")
    result, document = loadtest(
        server.base_url,
        *("--concurrency", 4, "--seconds", 1.5, "--warm-up", 0, "--processes", 2),
        *("--images", images, "--json"),
    )
    assert json.loads(result.stdout) == document
    (run_,) = document["runs"]
    assert all_counted(document)
    assert set(run_["errors"]) == {"415"}
    assert run_["answered"] > 0


def test_the_seed_decides_what_is_sent(server):
    async def sent(seed: int) -> Samples:
        load = OpenLoop(40)
        plan = Plan(server.base_url + "/v1/emotion", load, MIX, seconds=0.5, warm_up=0, seed=seed)
        return await Generator(plan).run(time.monotonic(), asyncio.Event())

    MIX = (sample_face(), Payload(b"no image", "image/png"))  # noqa: N806

    def what(samples: Samples) -> list[tuple[float, str]]:
        return sorted(zip(samples.intended.tolist(), samples.code.tolist(), strict=True))

    first, again, other = (what(asyncio.run(sent(seed))) for seed in (1, 1, 2))
    assert {code for _, code in first} == {"200", "415"}
    assert first == again != other


def test_answers_of_a_server_with_keys_are_counted_by_code(loadtest, start_server, tmp_path):
    with start_server(tmp_path / "log", api_keys=KEY) as server:
        options = ("--concurrency", 2, "--seconds", 0.5, "--warm-up", 0)
        refused, without_key = loadtest(server.base_url, *options)
        allowed, with_key = loadtest(server.base_url, *options, "--api-key", KEY)
    (run_,) = without_key["runs"]
    assert refused.exit_code == 1
    assert run_["answered"] == 0
    assert run_["errors"] == {"401": run_["sent"]}
    assert "no request was answered" in refused.stderr
    (run_,) = with_key["runs"]
    assert allowed.exit_code == 0
    assert run_["answered"] == run_["sent"] > 0


async def test_a_generator_that_was_held_up_is_late_and_the_run_invalid(server):
    plan = Plan(server.base_url + "/v1/emotion", OpenLoop(40), (sample_face(),), 0.9, 0.1)

    async def hold_up() -> None:
        await asyncio.sleep(0.3)
        time.sleep(0.3)  # noqa: ASYNC251 - on purpose

    samples, _ = await asyncio.gather(
        Generator(plan).run(time.monotonic(), asyncio.Event()), hold_up()
    )
    summary = summarize(Measurement(plan, samples))
    assert "the generator lagged" in summary.faults[0]
    assert samples.lag.max() > 0.1
    # What it was late with, callers would have waited for.
    assert all(samples.latency >= samples.lag)


async def test_a_server_that_stalls_is_felt_by_all_that_were_due(start_server, tmp_path):
    with start_server(tmp_path / "log") as server:
        plan = Plan(server.base_url + "/v1/emotion", OpenLoop(40), (sample_face(),), 1, 0)
        running = asyncio.create_task(Generator(plan).run(time.monotonic(), asyncio.Event()))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.6)
        server.process.send_signal(signal.SIGCONT)
        samples = await running
    assert set(samples.code.tolist()) == {"200"}
    # Of the 16 or so that were due in the first 0.4 s of the stall.
    assert (samples.latency > 0.2).sum() > 5


def test_what_gets_no_answer_is_counted_by_what_went_wrong(start_server, tmp_path):
    with start_server(tmp_path / "log") as server:
        plan = Plan(
            server.base_url + "/v1/emotion",
            ClosedLoop(3),
            (sample_face(),),
            seconds=0.3,
            warm_up=0,
            timeout=0.4,
            processes=8,  # of which three have something to do
        )
        server.process.send_signal(signal.SIGSTOP)
        stopped = run(plan)
    assert len(stopped.generator_cpu) == 3
    assert stopped.samples.code.tolist() == ["timeout"] * 3
    gone = run(dataclasses.replace(plan, timeout=30))
    assert set(gone.samples.code.tolist()) == {"ConnectError"}


def test_an_interruption_keeps_what_was_measured(server, tmp_path):
    out = tmp_path / "out.json"
    options = ["--rate", "30", "--seconds", "60", "--warm-up", "0", "--processes", "2"]
    options += ["--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "ferserve", "loadtest", server.base_url, *options],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background has it ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    before = answered_by(server)
    try:
        while answered_by(server) < before + 20:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        # To the generators, too, as a terminal does.
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    document = json.loads(out.read_text())
    (run_,) = document["runs"]
    assert run_["interrupted"]
    assert run_["seconds"] < 60
    assert all_counted(document)
    assert run_["answered"] >= 15


def answered_by(server) -> int:
    """Requests that the server says it has answered."""
    name = 'ferserve_http_requests_total{code="200",method="POST",route="/v1/emotion"}'
    for line in httpx.get(f"{server.base_url}/metrics").text.splitlines():
        if line.startswith(name):
            return int(float(line.rsplit(" ", 1)[1]))
    return 0
