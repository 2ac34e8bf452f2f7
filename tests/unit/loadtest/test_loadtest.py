"""Load tests without a server: arrivals, payloads, figures, and the command's refusals."""

import io
import socket

import numpy as np
import pytest
from ferserve.cli import app
from ferserve.loadtest.generator import Measurement
from ferserve.loadtest.plan import (
    ClosedLoop,
    OpenLoop,
    Plan,
    poisson_arrivals,
    read_images,
    sample_crop,
)
from ferserve.loadtest.statistics import Summary, summarize
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

# Arrivals


def test_arrivals_ascend_within_the_time():
    arrivals = poisson_arrivals(100, 5, np.random.default_rng(0))
    assert np.all(np.diff(arrivals) >= 0)
    assert arrivals[0] >= 0
    assert arrivals[-1] < 5


def test_gaps_between_arrivals_are_exponential():
    gaps = np.diff(poisson_arrivals(50, 400, np.random.default_rng(1)))
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01


def test_arrivals_are_those_of_a_poisson_process():
    arrivals = poisson_arrivals(40, 1000, np.random.default_rng(2))
    a_second = np.bincount(arrivals.astype(int), minlength=1000)
    assert a_second.mean() == pytest.approx(40, abs=0.6)  # three standard errors
    assert a_second.var() / a_second.mean() == pytest.approx(1, abs=0.14)
    # Seconds are independent of each other.
    assert abs(np.corrcoef(a_second[:-1], a_second[1:])[0, 1]) < 0.1


def test_the_same_seed_gives_the_same_arrivals():
    first, again, other = (
        poisson_arrivals(20, 10, np.random.default_rng(seed)).tolist() for seed in (3, 3, 4)
    )
    assert first == again != other


# Plans


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    with pytest.raises(ValueError, match="above 0"):
        OpenLoop(rate)


# Payloads


def test_without_images_a_crop_like_those_of_fer2013_is_sent():
    with Image.open(io.BytesIO(sample_crop().data)) as face:
        assert (face.format, face.mode, face.size) == ("PNG", "L", (48, 48))


def test_all_images_below_a_folder_are_taken_and_nothing_else(tmp_path):
    (tmp_path / "deep").mkdir()
    files = {"b.PNG": b"1", "a.jpg": b"2", "deep/c.webp": b"3", "notes.txt": b"4"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    found = {(payload.data, payload.content_type) for payload in read_images(tmp_path)}
    assert found == {(b"1", "image/png"), (b"2", "image/jpeg"), (b"3", "image/webp")}


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="holds no image"):
        read_images(tmp_path)


# Statistics


def summary_of(
    latency_ms,
    *,
    codes=None,
    intended=None,
    lag_ms=0.0,
    load=OpenLoop(10),  # noqa: B008 - frozen
    warm_up=0.0,
    seconds=10.0,
    slo=None,
    cpu=0.0,
) -> Summary:
    """The summary of requests due at 0 unless said otherwise."""
    latency = np.asarray(latency_ms, float) / 1000
    count = len(latency)
    plan = Plan("http://x", load, (sample_crop(),), seconds=seconds, warm_up=warm_up)
    measurement = Measurement(
        plan,
        intended=np.zeros(count) if intended is None else np.asarray(intended, float),
        lag=np.broadcast_to(np.asarray(lag_ms, float) / 1000, count),
        latency=latency,
        code=np.array(["200"] * count if codes is None else codes, dtype=np.str_),
        generator_cpu=cpu,
    )
    return summarize(measurement, slo)


def test_percentiles_of_known_latencies():
    shuffled = np.random.default_rng(0).permutation(np.arange(1, 1001))
    latency = summary_of(shuffled).latency_ms
    expected = {"p50": 500.5, "p90": 900.1, "p99": 990.01, "p99.9": 999.001}
    assert latency == pytest.approx(expected | {"mean": 500.5, "max": 1000})


@pytest.mark.parametrize(
    ("count", "known"),
    [
        (1, []),
        (2, ["p50"]),
        (9, ["p50"]),
        (10, ["p50", "p90"]),
        (100, ["p50", "p90", "p99"]),
        (999, ["p50", "p90", "p99"]),
        (1000, ["p50", "p90", "p99", "p99.9"]),
    ],
)
def test_a_percentile_that_no_request_stands_for_is_left_out(count, known):
    latency = summary_of(np.ones(count)).latency_ms
    assert [name for name in ("p50", "p90", "p99", "p99.9") if latency[name]] == known


def test_only_answers_have_a_latency_and_errors_are_counted_by_code():
    codes = ["200", "429", "429", "timeout", "204", "ConnectError"]
    summary = summary_of([10, 1, 1, 30_000, 20, 5], codes=codes)
    assert summary.sent == 6
    assert summary.answered == 2
    assert summary.errors == {"429": 2, "ConnectError": 1, "timeout": 1}
    assert summary.latency_ms["max"] == 20


def test_the_warm_up_is_not_counted():
    summary = summary_of(
        [5000, 1, 1, 1], intended=[0, 0.5, 2, 3], codes=["200", "500", "200", "200"], warm_up=2
    )
    assert (summary.sent, summary.answered, summary.errors) == (2, 2, {})
    assert summary.latency_ms["max"] == 1


def test_the_rate_is_that_of_answers_that_came_in_the_window():
    # Due before the window, in it, and answered after its end at 12 s.
    summary = summary_of([1500, 100, 100, 3000], intended=[1, 3, 4, 11], warm_up=2, seconds=10)
    assert summary.sent == 3
    assert summary.rate == pytest.approx(3 / 10)


def test_goodput_leaves_out_what_came_late_or_wrong():
    latency, codes = [10, 100, 101, 10], ["200", "200", "200", "429"]
    summary = summary_of(latency, codes=codes, seconds=2, slo=0.1)
    assert summary.rate == pytest.approx(1.5)
    assert summary.goodput == pytest.approx(1.0)
    assert summary_of(latency, codes=codes).goodput is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["200", "429", "503", "timeout"]), max_size=50))
def test_every_request_is_an_answer_or_an_error(codes):
    summary = summary_of(np.ones(len(codes)), codes=codes)
    assert summary.sent == len(codes) == summary.answered + sum(summary.errors.values())


def test_a_generator_that_lagged_makes_the_run_invalid():
    lag = np.zeros(100)
    lag[:2] = 50
    summary = summary_of(np.ones(100), lag_ms=lag)
    assert not summary.valid
    assert "lagged: p99 50.0 ms, allowed 10 ms" in summary.faults[0]
    assert summary.lag_ms["max"] == 50
    lag[:2] = 9
    assert summary_of(np.ones(100), lag_ms=lag).valid


def test_a_closed_loop_has_no_lag():
    summary = summary_of(np.ones(10), lag_ms=500, load=ClosedLoop(2))
    assert summary.lag_ms is None
    assert summary.valid


def test_a_generator_without_reserve_makes_the_run_invalid():
    assert summary_of([1], cpu=0.89).valid
    assert "95%" in summary_of([1], cpu=0.95).faults[0]


def test_a_run_without_answers_is_invalid():
    assert summary_of([1], codes=["500"]).faults == ["no request was answered"]
    nothing = summary_of([])
    assert nothing.faults == ["no request was answered"]
    assert (nothing.sent, nothing.rate, nothing.lag_ms) == (0, 0, None)


# The command, where it refuses


def loadtest(*arguments: object):
    return CliRunner().invoke(app, ["loadtest", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "exactly one of"),
        (("--rate", 1, "--concurrency", 1), "exactly one of"),
        (("--rate", 0), "above 0"),
        (("--sweep", "1,two"), "could not convert string to float: 'two'"),
        (("--sweep", "1,inf"), "above 0"),
        (("--concurrency", 0), "--concurrency"),
        (("--rate", 1, "--seconds", 0), "--seconds"),
        (("--rate", 1, "--warm-up", -1), "--warm-up"),
        (("--rate", 1, "--timeout", 0), "--timeout"),
    ],
)
def test_options_that_make_no_sense_are_refused(arguments, message):
    result = loadtest("http://127.0.0.1:1", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "ftp://host", "/v1/emotion", "http://"])
def test_what_is_no_address_is_refused(address):
    result = loadtest(address, "--rate", 1)
    assert result.exit_code == 1
    assert result.stderr.startswith(f"ferserve: {address}: ")


def test_a_proxy_is_not_asked_in_place_of_the_server(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    result = loadtest("http://127.0.0.1:1", "--rate", 1)
    assert (result.exit_code, "refused" in result.stderr) == (1, True)


def test_a_server_that_is_not_there_is_an_error():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    result = loadtest(f"http://127.0.0.1:{port}", "--rate", 1)
    assert result.exit_code == 1
    assert f"127.0.0.1:{port}" in result.stderr
