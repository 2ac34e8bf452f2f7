import json

import numpy as np
import onnxruntime as ort
import pytest
from ferserve.bundle import CPU, CUDA, ModelError, available_models, load_bundle, read_card
from ferserve.fer2013.labels import EMOTIONS


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (33, 48, 48), np.uint8)


def test_a_model_that_meets_the_contract_predicts(standin_models, faces):
    bundle = load_bundle(standin_models, "first", provider="cpu")
    bundle.warm_up()
    rows = bundle.predict(faces)
    assert rows.shape == (33, 7)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(rows.argmax(axis=1))) > 1 or np.ptp(rows, axis=0).max() > 0.01
    assert bundle.labels == EMOTIONS
    assert bundle.provider == CPU


@pytest.mark.parametrize("size", [1, 2, 7, 33])
def test_a_faces_answer_does_not_depend_on_its_batch(standin_models, faces, size):
    bundle = load_bundle(standin_models, "first", provider="cpu")
    alone = np.concatenate([bundle.predict(faces[i : i + 1]) for i in range(size)])
    np.testing.assert_allclose(bundle.predict(faces[:size]), alone, atol=1e-5, rtol=0)


def test_models_are_found_by_file_and_card(standin_models):
    assert available_models(standin_models) == ["first", "second"]


def test_a_missing_model_is_refused_with_those_there_are(standin_models):
    with pytest.raises(ModelError, match=r"third\.json.*first, second"):
        load_bundle(standin_models, "third")


def test_a_card_without_its_model_is_refused(write_standin, tmp_path):
    write_standin(tmp_path, "lost").unlink()
    with pytest.raises(ModelError, match=r"lost\.onnx"):
        load_bundle(tmp_path, "lost")


def test_a_damaged_file_is_refused_by_its_hash(write_standin, tmp_path):
    path = write_standin(tmp_path, "damaged")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="sha256"):
        load_bundle(tmp_path, "damaged")


def test_a_file_that_is_no_onnx_is_refused(write_standin, tmp_path):
    path = write_standin(tmp_path, "text")
    path.write_text("hello")
    card = json.loads((tmp_path / "text.json").read_text())
    card["sha256"] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    (tmp_path / "text.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        load_bundle(tmp_path, "text")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"labels": None}, "metadata_props has no 'labels'"),
        ({"labels": EMOTIONS[:6]}, "its labels are"),
        ({"labels": ("happy", *EMOTIONS[1:])}, "its labels are"),
        ({"labels": EMOTIONS[::-1]}, "those of the card are"),
        ({"batch": 1}, "fixed batch size 1"),
        ({"input_name": "images"}, r"its inputs are \['images'\]"),
    ],
    ids=["no labels", "six labels", "a wrong label", "other order", "fixed batch", "other input"],
)
def test_a_broken_contract_is_refused_saying_how(write_standin, tmp_path, fault, message):
    write_standin(tmp_path, "broken", **fault)
    with pytest.raises(ModelError, match=message):
        load_bundle(tmp_path, "broken")


def test_labels_are_read_in_the_models_order(write_standin, tmp_path):
    shuffled = EMOTIONS[::-1]
    write_standin(tmp_path, "shuffled", labels=shuffled)
    card = json.loads((tmp_path / "shuffled.json").read_text()) | {"labels": shuffled}
    (tmp_path / "shuffled.json").write_text(json.dumps(card))
    assert load_bundle(tmp_path, "shuffled").labels == shuffled


def test_outputs_that_are_no_probabilities_are_refused_at_warm_up(write_standin, tmp_path):
    write_standin(tmp_path, "logits", softmax=False)
    with pytest.raises(ModelError, match="no probabilities"):
        load_bundle(tmp_path, "logits").warm_up()


def test_a_card_of_another_model_is_refused(write_standin, tmp_path):
    write_standin(tmp_path, "mine")
    (tmp_path / "mine.json").rename(tmp_path / "yours.json")
    with pytest.raises(ModelError, match="'mine', not of 'yours'"):
        read_card(tmp_path, "yours")


def test_a_card_with_a_missing_field_is_refused_by_name(tmp_path):
    (tmp_path / "half.json").write_text('{"name": "half"}')
    with pytest.raises(ModelError, match="temperature"):
        read_card(tmp_path, "half")


@pytest.mark.skipif(CUDA in ort.get_available_providers(), reason="this build has CUDA")
def test_cuda_that_is_not_there_is_an_error_when_asked_for_and_the_cpu_when_not(standin_models):
    with pytest.raises(ModelError, match="without CUDA"):
        load_bundle(standin_models, "first", provider="cuda")
    assert load_bundle(standin_models, "first", provider="auto").provider == CPU
