"""Results → goals, plot and docs/performance.md, whatever there is of them."""

import json
import subprocess
import sys
from pathlib import Path

from peers.goals import goals

BENCH = Path(__file__).resolve().parents[2] / "bench"


def loads(p50: float, p99: float, rate: float = 100, cpu: float = 0.01) -> dict:
    def measured(rate: float) -> dict:
        return {
            "requests_per_second": rate,
            "latency_ms": {"p50": p50, "p99": p99},
            "cpu_seconds_per_face": cpu,
            "errors": {},
            "faults": [],
        }

    return {name: measured(rate) for name in ("saturation", "alone", "half", "same_rate")}


def faces_case(**peers: dict) -> dict:
    runs = {"ferserve": [loads(5, 10)], **{name: [run] for name, run in peers.items()}}
    bare = [{"faces_per_second": 120, "cpu_seconds_per_face": 0.009}]
    return {"faces": {"bare": bare, "tuning": {}, "runs": runs, "failed": {}}}


def test_a_slower_peer_with_a_higher_p99_leaves_all_goals_met():
    met = goals(faces_case(ray=loads(5, 11, rate=70)))
    assert len(met) == 8
    assert all(met.values())


def test_a_peer_that_is_nearly_as_fast_or_has_a_lower_p99_is_told():
    met = goals(faces_case(litserve=loads(5, 9, rate=90)))
    missed = [goal for goal, value in met.items() if not value]
    assert missed == [
        "half load: no peer has a lower p99",
        "1.3 x as many as LitServe, BentoML and Ray Serve",
    ]


def test_a_failure_of_ferserve_is_an_error():
    case = faces_case()
    case["photos"] = {"bare": [], "runs": {}, "failed": {"ferserve": ["photos, round 1: gone"]}}
    assert goals(case)["no errors"] is False


def test_a_late_generator_is_told():
    case = faces_case()
    case["faces"]["runs"]["ferserve"][0]["half"]["faults"] = ["the generator lagged"]
    assert goals(case)["every measurement valid"] is False


def test_goals_that_were_not_measured_are_left_out():
    assert goals({}) == {}
    assert goals({"resnet50v2": {"skipped": "not there"}}) == {}


def comparison(cases: dict) -> dict:
    titles = {"ferserve": "ferserve", "ray": "Ray Serve"}
    return {
        "machine": {"processors": 2, "architecture": "x86_64"},
        "date": "2026-01-01",
        "method": {
            "service_processors": [0, 1],
            "generator_processors": [0, 1],
            "generator_processes": 1,
            "seconds": 5.0,
            "rounds": 1,
        },
        "services": {
            **{name: {"title": title, "versions": {name: "1"}} for name, title in titles.items()},
            "mlserver": {"title": "MLServer", "left_out": "it cannot be installed: no wheel"},
        },
        "cases": cases,
        "met": goals(cases),
    }


def page_of(result: dict, folder: Path) -> str:
    (folder / "compare.json").write_text(json.dumps(result))
    page = folder / "page.md"
    page.write_text(
        "before\n<!-- figures: bench/performance.py -->\nold\n<!-- end of figures -->\nafter\n"
    )
    script = [sys.executable, BENCH / "performance.py"]
    subprocess.run([*script, "--results", folder, "--page", page], check=True)
    return page.read_text()


def test_the_page_has_a_row_a_service_and_says_what_failed(tmp_path):
    cases = faces_case(ray=loads(7, 30, rate=40, cpu=0.018))
    cases["faces"]["runs"]["ray"][0]["same_rate"] = None
    cases["faces"]["failed"]["ray"] = ["custom_cnn, round 2: not ready"]
    cases["resnet50v2"] = {"skipped": "models/resnet50v2.onnx is not there"}
    page = page_of(comparison(cases), tmp_path)
    assert "| bare | 120.0 | 9.00 | 1 | | | | | | |" in page
    assert "| **ferserve** | 100.0 | 10.00 | 1.11 | 5.0 | 5.0 | 10.0 | 5.0 | 10.0 | 0 |" in page
    assert "| Ray Serve 1 | 40.0 | 18.00 | 2.00 | 7.0 | 7.0 | 30.0 | – | – | 0 |" in page
    assert "- Ray Serve failed: custom_cnn, round 2: not ready" in page
    assert "MLServer was not measured: it cannot be installed: no wheel." in page
    assert "Not measured: models/resnet50v2.onnx is not there." in page
    assert "old" not in page
    assert page.startswith("before")
    assert page.endswith("after\n")
    assert (tmp_path / "compare.png").stat().st_size > 1000


def test_a_comparison_that_was_broken_off_early_gives_a_page_all_the_same(tmp_path):
    cases = {"faces": {"bare": [], "tuning": {}, "runs": {}, "failed": {"bare": ["gone"]}}}
    assert "- bare failed: gone" in page_of(comparison(cases), tmp_path)
