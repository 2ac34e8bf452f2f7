"""``ferserve loadtest`` against the real server."""

import asyncio
import dataclasses
import json
import signal
import time

from ferserve.cli import app
from ferserve.loadtest.generator import measure, run
from ferserve.loadtest.plan import ClosedLoop, OpenLoop, Payload, Plan, sample_crop
from ferserve.loadtest.statistics import summarize
from typer.testing import CliRunner

KEY = "a-key-for-the-load-test"


def loadtest(*arguments: object):
    return CliRunner().invoke(app, ["loadtest", *(str(argument) for argument in arguments)])


def figures(*arguments: object):
    """Runs the command; returns its result and its JSON."""
    result = loadtest(*arguments, "--json")
    assert result.stdout, result.output
    return result, json.loads(result.stdout)


def all_counted(document: dict) -> bool:
    return all(
        run["sent"] == run["answered"] + sum(run["errors"].values()) for run in document["runs"]
    )


def test_a_sweep_has_figures_of_every_rate(server):
    sweep = (
        *(server.base_url, "--sweep", "15,30", "--seconds", 1, "--warm-up", 0.3),
        *("--slo-ms", 10_000, "--max-lag-ms", 60_000),
    )
    result, document = figures(*sweep)
    assert result.exit_code == 0, result.output
    assert document["url"] == f"{server.base_url}/v1/emotion"
    assert [run["load"] for run in document["runs"]] == [{"rate": 15}, {"rate": 30}]
    assert all_counted(document)
    for run_ in document["runs"]:
        assert run_["answered"] == run_["sent"] > 0
        assert run_["latency_ms"]["p50"] > 0
        assert run_["goodput"] <= run_["rate"]
    table = loadtest(*sweep)
    assert table.exit_code == 0
    assert "15/s" in table.stdout
    assert "goodput" in table.stdout


def test_a_closed_loop_counts_bad_images_of_a_folder_as_errors(server, tmp_path, grey_crop):
    (tmp_path / "face.png").write_bytes(grey_crop)
    (tmp_path / "text.png").write_bytes(b"not an image")
    _, document = figures(
        server.base_url,
        *("--concurrency", 4, "--seconds", 1.5, "--warm-up", 0, "--images", tmp_path),
    )
    (run_,) = document["runs"]
    assert run_["load"] == {"concurrency": 4}
    assert all_counted(document)
    assert set(run_["errors"]) == {"415"}
    assert run_["answered"] > 0


def test_the_seed_decides_what_is_sent(server):
    mix = (sample_crop(), Payload(b"no image", "image/png"))

    def sent(seed: int) -> list[tuple[float, str]]:
        plan = Plan(server.base_url + "/v1/emotion", OpenLoop(40), mix, 0.5, 0, seed=seed)
        measured = run(plan)
        return sorted(zip(measured.intended.tolist(), measured.code.tolist(), strict=True))

    first, again, other = (sent(seed) for seed in (1, 1, 2))
    assert {code for _, code in first} == {"200", "415"}
    assert first == again != other


def test_answers_of_a_server_with_keys_are_counted_by_code(start_server, tmp_path):
    with start_server(tmp_path / "log", api_keys=KEY) as server:
        options = ("--concurrency", 2, "--seconds", 0.5, "--warm-up", 0)
        refused, without_key = figures(server.base_url, *options)
        allowed, with_key = figures(server.base_url, *options, "--api-key", KEY)
    (run_,) = without_key["runs"]
    assert refused.exit_code == 1
    assert run_["answered"] == 0
    assert run_["errors"] == {"401": run_["sent"]}
    assert "no request was answered" in refused.stderr
    (run_,) = with_key["runs"]
    assert allowed.exit_code == 0
    assert run_["answered"] == run_["sent"] > 0


async def test_a_generator_that_was_held_up_is_late_and_the_run_invalid(server):
    plan = Plan(server.base_url + "/v1/emotion", OpenLoop(40), (sample_crop(),), 0.9, 0.1)

    async def hold_up() -> None:
        await asyncio.sleep(0.3)
        time.sleep(0.3)  # noqa: ASYNC251 - on purpose

    measured, _ = await asyncio.gather(measure(plan), hold_up())
    assert "the generator lagged" in summarize(measured).faults[0]
    assert measured.lag.max() > 0.1
    # What it was late with, callers would have waited for.
    assert all(measured.latency >= measured.lag)


async def test_a_server_that_stalls_is_felt_by_all_that_were_due(start_server, tmp_path):
    with start_server(tmp_path / "log") as server:
        plan = Plan(server.base_url + "/v1/emotion", OpenLoop(40), (sample_crop(),), 1, 0)
        running = asyncio.create_task(measure(plan))
        await asyncio.sleep(0.3)
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.6)
        server.process.send_signal(signal.SIGCONT)
        measured = await running
    assert set(measured.code.tolist()) == {"200"}
    # Of the 16 or so that were due in the first 0.4 s of the stall.
    assert (measured.latency > 0.2).sum() > 5


def test_what_gets_no_answer_is_counted_by_what_went_wrong(start_server, tmp_path):
    with start_server(tmp_path / "log") as server:
        plan = Plan(
            server.base_url + "/v1/emotion",
            ClosedLoop(3),
            (sample_crop(),),
            seconds=0.3,
            warm_up=0,
            timeout=0.4,
        )
        server.process.send_signal(signal.SIGSTOP)
        stopped = run(plan)
    assert stopped.code.tolist() == ["timeout"] * 3
    gone = run(dataclasses.replace(plan, timeout=30))
    assert set(gone.code.tolist()) == {"ConnectError"}
