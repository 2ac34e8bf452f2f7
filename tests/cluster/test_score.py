"""``ferserve score``: every image a row, whatever happens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="the extra 'cluster' is not installed")

import pyarrow as pa
import pyarrow.parquet as pq
import ray_processes
from ferserve import score as scoring
from ferserve.recognizer import AsyncRecognizer
from ferserve.schemas import EmotionOptions
from ferserve.settings import ClusterSettings, Settings
from pyarrow.fs import LocalFileSystem
from ray import get_runtime_context

REPOSITORY = Path(__file__).resolve().parents[2]


def run(source: Path, target: Path, models: Path, **job) -> dict:
    settings = Settings(models_dir=models, models=job.pop("model", "first"))
    cluster = ClusterSettings(replica_cpus=0.5)
    job = {"workers": 1, "progress": lambda done, total: None} | job
    return scoring.score(str(source), str(target), settings, cluster, **job)


def rows(target: Path) -> dict[str, dict]:
    found = pq.read_table(target).to_pylist()
    by_id = {row["id"]: row for row in found}
    assert len(by_id) == len(found), "an image has several rows"
    return by_id


def write_crops(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, 48, 48), np.uint8)
    for number, face in enumerate(pixels):
        Image.fromarray(face).save(folder / f"{number:03}.png")


async def test_every_file_is_a_row_and_a_bad_one_costs_one_row(
    ray_machine, standin_models, photo, grey_crop, tmp_path
):
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "crop.png").write_bytes(grey_crop)
    (source / "astronaut.jpg").write_bytes(photo("astronaut", "JPEG"))
    (source / "chelsea.png").write_bytes(photo("chelsea"))
    (source / "broken.png").write_bytes(grey_crop[:200])
    (source / "notes.txt").write_text("no image")
    (source / "long.bmp").write_bytes(bytes(Settings().max_upload_bytes + 1))
    (source / ".hidden").write_text("of no interest")
    document = run(source, target, standin_models)
    found = rows(target)
    assert {id_: row["problem_code"] for id_, row in found.items()} == {
        "deep/crop.png": None,
        "astronaut.jpg": None,
        "chelsea.png": None,
        "broken.png": "undecodable_image",
        "notes.txt": "unsupported_media_type",
        "long.bmp": "payload_too_large",
    }
    assert [found[id_]["status"] for id_ in ("astronaut.jpg", "notes.txt")] == ["ok", "problem"]
    assert found["chelsea.png"]["faces"] == []
    assert found["notes.txt"]["faces"] is None

    recognizer = AsyncRecognizer(Settings(models_dir=standin_models, models="first"))
    await recognizer.start()
    seen = await recognizer.answer(photo("astronaut", "JPEG"), EmotionOptions())
    await recognizer.close()
    (row_face,), (face,) = found["astronaut.jpg"]["faces"], seen.faces
    assert row_face["box"] == face.box.model_dump()
    assert row_face["dominant_emotion"] == face.dominant_emotion
    assert row_face["emotions"] == pytest.approx(face.emotions, abs=1e-6)
    assert found["astronaut.jpg"]["model_sha256"] == seen.model.sha256

    assert document["scored"] == document["total"] == len(found)
    assert document["faces"] == 2
    assert sum(document["problems"].values()) == len(found) - 3


def test_a_file_that_cannot_be_read_costs_one_row(standin_models, grey_crop, tmp_path):
    (tmp_path / "crop.png").write_bytes(grey_crop)
    settings = Settings(models_dir=standin_models, models="first")
    scorer = scoring.Scorer(settings, {"detect": "auto"}, LocalFileSystem())
    items = [{"ids": [name], "path": str(tmp_path / name)} for name in ("crop.png", "gone.png")]
    (scored,) = scorer(pa.Table.from_pylist(items))
    assert scored["problem_code"].to_pylist() == [None, "unreadable_file"]


def test_a_second_run_does_only_what_is_new(ray_machine, standin_models, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_crops(source, 20)
    assert run(source, target, standin_models)["scored"] == 20
    again = run(source, target, standin_models)
    assert (again["skipped"], again["scored"]) == (20, 0)
    shutil.copy(source / "000.png", source / "new.png")
    (target / ".scores-left-by-a-killed-run.parquet").write_bytes(b"half")
    more = run(source, target, standin_models)
    assert (more["skipped"], more["scored"]) == (20, 1)
    assert len(rows(target)) == 21


def test_scores_of_different_makings_are_not_mixed(ray_machine, standin_models, tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    write_crops(source, 2)
    run(source, target, standin_models)
    shutil.copytree(source, tmp_path / "other")
    for other in ({"model": "second"}, {"detect": "true"}, {"column": "face"}):
        with pytest.raises(ValueError, match="another input, --column, --detect or model"):
            run(source, target, standin_models, **other)
    with pytest.raises(ValueError, match="another input, --column, --detect or model"):
        run(tmp_path / "other", target, standin_models)


def test_an_input_or_output_that_cannot_be_used_is_refused(standin_models, tmp_path):
    source, other = tmp_path / "in", tmp_path / "other"
    other.mkdir()
    with pytest.raises(ValueError, match="no such file or folder"):
        run(source, tmp_path / "out", standin_models)
    write_crops(source, 2)
    (other / "letter.txt").write_text("Dear reader")
    with pytest.raises(ValueError, match=r"letter\.txt"):
        run(source, other, standin_models)
    with pytest.raises(ValueError, match="inside the input"):
        run(source, source / "out", standin_models)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("nested", [False, True], ids=["bytes", "struct of bytes and path"])
def test_rows_of_parquet_are_scored_and_resumed(
    ray_machine, standin_models, grey_crop, tmp_path, nested
):
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    images = [grey_crop, b"no image", None, *[grey_crop] * 9]
    column = [{"bytes": image, "path": "x"} for image in images] if nested else images
    table = pa.table({"face": column, "label": range(len(images))})
    pq.write_table(table, source / "a.parquet", row_group_size=5)
    summary = run(source, target, standin_models, column="face")
    assert (summary["total"], summary["faces"]) == (12, 10)
    found = rows(target)
    assert set(found) == {f"a.parquet#{row}" for row in range(12)}
    assert [id_ for id_, row in found.items() if row["status"] == "problem"] == [
        "a.parquet#1",
        "a.parquet#2",
    ]
    pq.write_table(table.slice(0, 3), source / "b.parquet")
    more = run(source, target, standin_models, column="face")
    assert (more["skipped"], more["scored"]) == (12, 3)
    with pytest.raises(ValueError, match="it has: face, label"):
        run(source, tmp_path / "none", standin_models)
    with pytest.raises(ValueError, match="no column 'label' of images"):
        run(source, tmp_path / "none", standin_models, column="label")


def test_a_killed_worker_costs_no_row(ray_machine, standin_models, tmp_path, monkeypatch):
    monkeypatch.setattr(scoring, "ROWS_PER_FILE", 4)  # so that progress can be seen
    monkeypatch.setattr(scoring, "IMAGES_AT_A_TIME", 4)
    source, target = tmp_path / "in", tmp_path / "out"
    write_crops(source, 400)
    summaries: list[dict] = []
    working = threading.Thread(target=lambda: summaries.append(run(source, target, standin_models)))
    working.start()
    give_up = time.monotonic() + 120
    while not list(target.glob("scores-*")):
        assert working.is_alive()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    (worker,) = ray_processes.with_title("Scorer")
    assert pq.read_table(target).num_rows < 400
    os.kill(worker, signal.SIGKILL)
    working.join(120)
    assert [summary["scored"] for summary in summaries] == [400]
    found = rows(target)
    assert len(found) == 400
    assert {row["status"] for row in found.values()} == {"ok"}


def test_the_command_says_what_it_did(ray_machine, standin_models, grey_crop, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "crop.png").write_bytes(grey_crop)
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    variables = {"RAY_ADDRESS": get_runtime_context().gcs_address}

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ferserve", "score", *arguments],
            cwd=REPOSITORY,
            env=os.environ | variables | {"FERSERVE_MODELS_DIR": str(standin_models)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    done = command(str(tmp_path / "in"), str(tmp_path / "out"), "--model", "second", "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["model"]["name"], summary["scored"], summary["faces"]) == ("second", 2, 1)
    wrong = command(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "no such file or folder" in wrong.stderr
