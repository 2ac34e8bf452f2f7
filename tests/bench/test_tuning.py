"""What the CPU path was chosen from: measured, judged and written down."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ferserve.bundle import load_bundle
from ferserve.faces import load_face_detector
from ferserve.images import decode_image
from ferserve.settings import installed_models
from performance_tuning import section, verdict
from tuning_images import differences, look
from tuning_measuring import Choice, Way, compare, in_threads, served_options
from tuning_sessions import SPINNING

BENCH = Path(__file__).resolve().parents[2] / "bench"


def test_ways_are_measured_in_turn():
    order = []

    def way(name: str) -> Way:
        return Way(name, in_threads(lambda: order.append(name) or 1))

    found = compare(Choice("of two", "face", [way("a"), way("b")], used="a"), 2, 0)
    assert order == ["a", "b"] * 3  # once to warm up
    assert len(found["ways"]["a"]["cpu_ms"]) == 2


def test_every_thread_counts_and_waiting_costs_no_processor_time():
    measure = in_threads(*[lambda: time.sleep(0.05) or 1] * 4)
    sample = measure(0.15)
    assert sample.units >= 8
    assert sample.cpu_seconds < sample.seconds


def test_a_service_that_uses_none_of_the_ways_is_a_mistake():
    way = Way("a", in_threads(lambda: 1))
    with pytest.raises(ValueError, match="the service's way, b, is not in"):
        compare(Choice("of one", "face", [way], used="b"), 1, 0)


def choice(**cpu_ms: list[float]) -> dict:
    ways = {
        name: {"cpu_ms": values, "per_second": [1000 / value for value in values], "columns": {}}
        for name, values in cpu_ms.items()
    }
    return {
        "group": "g",
        "title": "T",
        "unit": "face",
        "used": "ours",
        "judged_by": "cpu",
        "remark": "",
        "ways": ways,
    }


def test_a_difference_counts_where_no_round_contradicts_it():
    found = choice(ours=[10, 11, 10.5], quick=[8, 9, 8.5], slow=[12, 13, 14], near=[9, 10.6, 12])
    assert [verdict(found, name) for name in found["ways"]] == ["", "faster", "slower", "same"]


def test_a_difference_too_small_to_matter_is_none():
    assert verdict(choice(ours=[10, 10.01], other=[9.9, 9.91]), "other") == "same"


def test_the_session_options_are_those_of_the_service():
    options = served_options("custom_cnn")
    assert options.intra_op_num_threads == 1
    assert options.get_session_config_entry(SPINNING) == "0"


def test_the_answer_from_a_draft_is_compared_in_the_photos_own_pixels(photo):
    data = photo("astronaut", format="JPEG", size=(1024, 1024))
    detector = load_face_detector(installed_models() / "face_detector.onnx", 320)
    bundle = load_bundle(installed_models(), "custom_cnn", provider="cpu")
    whole = decode_image(data, 1024**2).rgb
    draft = decode_image(data, 1024**2, 320).rgb
    assert draft.shape == (512, 512, 3)
    expected = look(whole, whole.shape, detector, bundle)
    found = differences(expected, look(draft, whole.shape, detector, bundle))
    assert found["faces"] == "1 of 1"
    assert found["IoU"] > 0.9
    assert differences(expected, expected) == {"faces": "1 of 1", "IoU": 1.0, "score": 0.0}


def page_of(*choices: dict, failed: dict | None = None) -> str:
    machine = {"processors": 2, "architecture": "x86_64"}
    return section(
        {
            "machine": machine,
            "date": "2026-01-01",
            "versions": {"onnxruntime": "1.2"},
            "method": {"rounds": 3, "seconds": 1.0},
            "choices": choices,
            "failed": failed or {},
        }
    )


def test_the_page_shows_what_is_used_and_what_did_not_help():
    page = page_of(choice(ours=[10, 11, 12], slow=[20, 22, 24]), failed={"http": "it is gone"})
    assert "| **ours** | 11 (10–12) | 90.9 (83.3–100) |  |" in page
    assert "| slow | 22 (20–24) | 45.5 (41.7–50) | slower |" in page
    assert "### What did not help\n\n- T, processor time: slow +100%" in page
    assert "would be faster" not in page.lower()
    assert "Not measured: http: it is gone." in page


def test_the_page_hides_no_way_that_is_better():
    page = page_of(choice(ours=[10, 11, 12], quick=[5, 5.5, 6]))
    assert "### What would be faster\n\n- T, processor time: quick -50%" in page


def test_a_group_is_measured_and_put_on_the_page(tmp_path):
    script = [sys.executable, BENCH / "tuning.py", "--only", "bodies", "--rounds", "2"]
    subprocess.run([*script, "--seconds", "0.01", "--out", tmp_path], check=True)
    result = json.loads((tmp_path / "tuning.json").read_text())
    assert not result["failed"]
    assert "| multipart form |" in section(result)
