"""``bench/gpu.py``: its counts, its plan, and all of it once on the CPU."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
from gpu_cells import drive
from gpu_limits import peak
from gpu_machine import first_lines
from gpu_plan import combinations
from gpu_results import Results

REPOSITORY = Path(__file__).resolve().parents[2]


def test_only_cards_in_the_table_have_a_limit():
    assert peak("NVIDIA H100 80GB HBM3", "float16") == 989.4e12
    assert peak("NVIDIA H100 PCIe", "float16") is None
    assert peak(None, "float32") is None


def test_what_decides_most_comes_first_and_nothing_that_cannot_run():
    options = Namespace(
        models=["a", "b"],
        strategies=["padded", "graphs", "dynamic"],
        precisions=["float32", "float16", "tf32"],
    )
    on_gpu = [str(one) for one in combinations(options, "cuda")]
    assert on_gpu[:3] == ["a, float32, padded", "b, float32, padded", "a, float16, padded"]
    assert "a, tf32, graphs" in on_gpu
    assert "a, tf32, dynamic" not in on_gpu
    assert not any("tf32" in str(one) for one in combinations(options, "cpu"))
    options.precisions = ["float16", "int8"]
    assert any("int8" in str(one) for one in combinations(options, "cpu"))
    assert not any("int8" in str(one) for one in combinations(options, "cuda"))
    assert not any("float32" in str(one) for one in combinations(options, "tensorrt"))


def test_faces_are_counted_once_whoever_calls():
    sizes: list[int] = []
    measured = drive(lambda faces: sizes.append(len(faces)), [1, 2, 3], 0.05, callers=3)
    assert measured["calls"] == len(sizes)
    assert set(sizes) == {1, 2, 3}


def test_what_a_process_printed_before_it_failed_is_kept():
    program = "print('noise'); print('{\"known\": 1}', flush=True); raise SystemExit('broken')"
    assert first_lines([sys.executable, "-c", program], 60) == ([{"known": 1}], "broken")
    program = "import time; print('{\"known\": 1}', flush=True); time.sleep(60)"
    lines, failure = first_lines([sys.executable, "-c", program], 3)
    assert (lines, failure) == ([{"known": 1}], "not done after 3 s")


def test_results_are_resumed_only_on_the_same_machine(tmp_path):
    key = {"model": "a", "precision": "float32", "strategy": "padded"}
    first = Results(tmp_path / "gpu.json", {"machine": "one", "date": "today"}, resume=True)
    first.add("speed", {**key, "cells": []})
    broken = {"model": "b"}
    first.add("speed", {**broken, "cells": [], "failed": "not done"})
    assert first.has("speed", broken)
    head = {"machine": "one", "date": "tomorrow"}
    assert not Results(first.path, head, resume=True).has("speed", broken)
    assert Results(first.path, head, resume=True).has("speed", key)
    assert not Results(first.path, head, resume=False).has("speed", key)
    with pytest.raises(SystemExit, match="machine is another"):
        Results(first.path, {"machine": "two", "date": "today"}, resume=True)


def test_the_whole_of_it_runs_on_the_cpu(standin_models, tmp_path):
    def run(*more: str) -> str:
        command = [
            *(sys.executable, REPOSITORY / "bench" / "gpu.py", "--provider", "cpu"),
            *("--models-dir", standin_models, "--models", "first", "--out", tmp_path),
            *("--batches", "2", "--seconds", "0.01", "--precisions", "float32,tf32", *more),
        ]
        done = subprocess.run(
            command,
            cwd=REPOSITORY,
            env={"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        return done.stdout

    run("--strategies", "graphs")
    printed = run("--strategies", "graphs,padded", "--resume")
    assert "1 combinations of 4 measurements" in printed
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert document["label"] == "measured on a CPU: no result of a GPU"
    assert {one["strategy"] for one in document["speed"]} == {"graphs", "padded"}
    for one in document["speed"]:
        assert one["provider"] == "CPUExecutionProvider"
        assert one["difference"]["largest"] < 1e-5
        assert [(c["batch"], c["callers"]) for c in one["cells"]] == [
            (2, 1),
            (2, 2),
            ("mixed", 1),
            ("mixed", 2),
        ]
        assert all(cell["faces_per_second"] > 0 for cell in one["cells"])
    assert document["skipped"] == {
        part: f"--{option} was not given"
        for part, option in (("accuracy", "data"), ("keras", "keras"), ("service", "service"))
    }
    assert (tmp_path / "gpu.png").stat().st_size > 1000
