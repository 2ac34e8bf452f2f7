"""What a model needs to compute in int8, and how well it does: ``ferserve quantize``."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from ferserve.bundle import ModelError, load_bundle, read_card
from ferserve.card import EnsembleMember, Int8Card
from ferserve.cli import app
from ferserve.ensemble import load_bundles
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score
from ferserve_export.int8 import measure_ranges
from onnx import helper, numpy_helper
from synthetic_fer2013 import face, write_zip
from typer.testing import CliRunner, Result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_zip(tmp_path / "fer2013.zip", train=4, test=3)


@pytest.fixture
def folder(tmp_path: Path, write_standin) -> Path:
    """A folder with a network of two convolutions and its card."""
    models = tmp_path / "models"
    models.mkdir()
    write_standin(models, "first", seed=1)
    model = onnx.load(models / "first.onnx")
    kernel = np.random.default_rng(3).normal(0, 0.3, (8, 8, 3, 3)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(kernel, "second kernel"))
    (flatten,) = [node for node in model.graph.node if node.op_type == "Flatten"]
    flatten.input[0] = "deeper"
    second = helper.make_node("Conv", ["active", "second kernel"], ["deeper"], pads=[1, 1, 1, 1])
    model.graph.node.insert(list(model.graph.node).index(flatten), second)
    onnx.save(model, models / "first.onnx")
    card = read_card(models, "first")
    card.sha256 = hashlib.sha256((models / "first.onnx").read_bytes()).hexdigest()
    fields = dict.fromkeys(("all", "public", "private", "leak_free"), card.metrics["private"])
    card.model_copy(update={"metrics": fields}).write(models / "first.json")
    return models


def quantize(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["quantize", *map(str, arguments)])


def test_ranges_are_the_least_and_the_greatest_values(folder):
    faces = np.stack([face(i, np.random.default_rng(i)) for i in range(5)])
    ranges = measure_ranges((folder / "first.onnx").read_bytes(), faces)
    assert set(ranges) == {"image", "features", "active", "deeper"}
    assert ranges["image"] == pytest.approx((faces.min() / 255, faces.max() / 255), abs=1e-6)
    assert ranges["active"][0] == 0
    assert ranges["active"][1] == pytest.approx(ranges["features"][1])
    assert ranges["deeper"][0] < 0 < ranges["deeper"][1]


def test_one_odd_picture_does_not_stretch_the_ranges_of_all(folder):
    content = (folder / "first.onnx").read_bytes()
    grey, white = np.full((48, 48), 128, np.uint8), np.full((48, 48), 255, np.uint8)
    ranges = measure_ranges(content, np.stack([grey] * 47 + [white]))
    # Of every 16 the greatest, and of these the mean.
    assert ranges["image"] == pytest.approx((128 / 255, (128 + 128 + 255) / 3 / 255), abs=1e-6)


def test_the_card_holds_figures_of_the_model_in_int8(folder, data):
    result = quantize("first", "--data", data, "--out", folder, "--images", 14)
    assert result.exit_code == 0, result.output
    assert "first.json written" in result.stdout
    card = Int8Card.read(folder / "int8" / "first.json")
    assert card.sha256 == read_card(folder, "first").sha256
    assert card.images == 14
    test = read_fer2013(data).test
    served = load_bundle(folder, "first", provider="cpu", precision="int8")
    plain = load_bundle(folder, "first", provider="cpu").predict(test.faces)
    rows = served.predict(test.faces)
    assert card.metrics["all"].n == len(test)
    assert card.metrics["all"].accuracy == score(rows, test.labels).accuracy
    assert card.same_answer == np.mean(rows.argmax(axis=1) == plain.argmax(axis=1))
    assert "train" not in card.metrics  # what it was fitted to tells nothing


def test_an_ensemble_has_figures_and_its_members_the_ranges(folder, data, write_standin):
    assert quantize("first", "--data", data, "--out", folder).exit_code == 0
    first = read_card(folder, "first")
    members = [EnsembleMember(name="first", sha256=first.sha256, weight=0.5)] * 2
    both = first.model_copy(update={"name": "both", "members": members})
    both.sha256 = both.ensemble_sha256()
    both.write(folder / "both.json")
    result = quantize("both", "--data", data, "--out", folder)
    assert result.exit_code == 0, result.output
    card = Int8Card.read(folder / "int8" / "both.json")
    assert (card.ranges, card.images) == ({}, 0)
    assert card.sha256 == both.sha256
    served = load_bundles(folder, ["both"], provider="cpu", precision="int8")["both"]
    assert served.card.precision == "int8"
    assert served.card.metrics == card.metrics
    # Other ranges of a member make the figures of the ensemble untrue.
    assert quantize("first", "--data", data, "--out", folder, "--images", 16).exit_code == 0
    with pytest.raises(ModelError, match=r"another first.* ferserve quantize both"):
        load_bundles(folder, ["both"], provider="cpu", precision="int8")


@pytest.mark.parametrize("images", [0, -1])
def test_ranges_need_an_image(folder, data, images):
    result = quantize("first", "--data", data, "--out", folder, "--images", images)
    assert result.exit_code == 2
    assert "--images" in result.stderr


def test_a_model_that_is_not_there_is_an_error(folder, data):
    result = quantize("third", "--data", data, "--out", folder)
    assert result.exit_code == 1
    assert "ferserve quantize: " in result.stderr
    assert "third.json" in result.stderr
    assert not (folder / "int8").exists()
