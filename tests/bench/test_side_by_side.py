"""The service under several settings, each under the same load."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from side_by_side import default_ways, way_of

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("as it comes", "as it comes", {}),
        ("two: FERSERVE_MAX_BATCH=2 A=b=c", "two", {"FERSERVE_MAX_BATCH": "2", "A": "b=c"}),
        ("old: PYTHONPATH=somewhere", "old", {"PYTHONPATH": str(Path("somewhere").resolve())}),
    ],
)
def test_a_way_is_a_name_and_variables(text: str, name: str, settings: dict[str, str]) -> None:
    way = way_of(text)
    assert (way.name, dict(way.settings)) == (name, settings)


def test_without_any_all_processors_work_at_one_run_or_each_at_its_own() -> None:
    assert [dict(way.settings) for way in default_ways(8)] == [
        {},
        {"FERSERVE_INFERENCE_WORKERS": 1, "FERSERVE_INTRA_OP_THREADS": 8},
    ]


def test_every_way_gets_the_load_of_the_first_and_a_row_on_the_page(tmp_path: Path) -> None:
    ways = ["as it comes", "alone: FERSERVE_MAX_BATCH=1"]
    options = ["--models", "custom_cnn", "--rounds", "1", "--seconds", "1", "--out", tmp_path]
    subprocess.run([sys.executable, BENCH / "side_by_side.py", *ways, *options], check=True)
    found = json.loads((tmp_path / "side_by_side.json").read_text())["models"]["custom_cnn"]
    (first,), (second,) = found["as it comes"], found["alone"]
    for load in ("saturation", "alone", "same_rate"):
        for measured in (first[load], second[load]):
            # Above its saturation the second way has no such load.
            assert measured is None or (measured["sent"] and not measured["errors"])
    if second["same_rate"]:
        assert first["same_rate"]["load"] == second["same_rate"]["load"]
    page = tmp_path / "page.md"
    page.write_text("<!-- figures: bench/performance.py --><!-- end of figures -->")
    script = [sys.executable, BENCH / "performance.py", "--results", tmp_path, "--page", page]
    subprocess.run(script, check=True)
    for way in ("as it comes", "alone"):
        assert f"| Custom CNN | {way} | " in page.read_text()
