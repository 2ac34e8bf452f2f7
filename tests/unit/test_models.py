"""A model file and its card: what is loaded, what is refused, and how batches are run."""

import json

import numpy as np
import onnxruntime as ort
import pytest
from ferserve.fer2013.labels import EMOTIONS
from ferserve.models import available_models, load_model, padded, padded_sizes, read_card
from ferserve.sessions import CPU, CUDA, CUDA_OPTIONS, ModelError, Runtime, open_session

ON_CPU = Runtime(provider="cpu")


@pytest.fixture(scope="module")
def faces() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (33, 48, 48), np.uint8)


def test_a_model_that_meets_the_contract_predicts(standin_models, faces):
    model = load_model(standin_models, "first", ON_CPU)
    model.warm_up()
    rows = model.predict(faces)
    assert rows.shape == (33, 7)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
    assert len(np.unique(rows.argmax(axis=1))) > 1 or np.ptp(rows, axis=0).max() > 0.01
    assert tuple(model.card.labels) == EMOTIONS
    assert model.provider == CPU


@pytest.mark.parametrize("size", [1, 2, 7, 33])
def test_a_faces_answer_does_not_depend_on_its_batch(standin_models, faces, size):
    model = load_model(standin_models, "first", ON_CPU)
    alone = np.concatenate([model.predict(faces[i : i + 1]) for i in range(size)])
    np.testing.assert_allclose(model.predict(faces[:size]), alone, atol=1e-5, rtol=0)


def test_models_are_found_by_file_and_card(standin_models):
    assert available_models(standin_models) == ["first", "second"]


def test_a_missing_model_is_refused_with_those_there_are(standin_models):
    with pytest.raises(ModelError, match=r"third\.json.*first, second"):
        load_model(standin_models, "third")


def test_a_card_without_its_model_is_refused(write_standin, tmp_path):
    write_standin(tmp_path, "lost").unlink()
    with pytest.raises(ModelError, match=r"lost\.onnx"):
        load_model(tmp_path, "lost")


def test_a_damaged_file_is_refused_by_its_hash(write_standin, tmp_path):
    path = write_standin(tmp_path, "damaged")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="sha256"):
        load_model(tmp_path, "damaged")


def test_a_file_that_is_no_onnx_is_refused(write_standin, tmp_path):
    path = write_standin(tmp_path, "text")
    path.write_text("hello")
    card = json.loads((tmp_path / "text.json").read_text())
    card["sha256"] = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    (tmp_path / "text.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):
        load_model(tmp_path, "text")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"labels": None}, "its labels are null"),
        ({"labels": EMOTIONS[:6]}, "its labels are"),
        ({"labels": ("happy", *EMOTIONS[1:])}, "its labels are"),
        ({"labels": EMOTIONS[::-1]}, "those of the card are"),
        ({"batch": 1}, r"its input is faces: tensor\(uint8\) \[1, 48, 48\]"),
        ({"input_name": "images"}, "its input is images: "),
    ],
    ids=["no labels", "six labels", "a wrong label", "other order", "fixed batch", "other input"],
)
def test_a_broken_contract_is_refused_saying_how(write_standin, tmp_path, fault, message):
    write_standin(tmp_path, "broken", **fault)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path, "broken")


def test_labels_are_read_in_the_models_order(write_standin, tmp_path):
    shuffled = EMOTIONS[::-1]
    write_standin(tmp_path, "shuffled", labels=shuffled)
    card = json.loads((tmp_path / "shuffled.json").read_text()) | {"labels": shuffled}
    (tmp_path / "shuffled.json").write_text(json.dumps(card))
    assert tuple(load_model(tmp_path, "shuffled").card.labels) == shuffled


def test_outputs_that_are_no_probabilities_are_refused_at_warm_up(write_standin, tmp_path):
    write_standin(tmp_path, "logits", softmax=False)
    with pytest.raises(ModelError, match="are not probabilities"):
        load_model(tmp_path, "logits").warm_up()


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
    with pytest.raises(ModelError, match="built without it"):
        load_model(standin_models, "first", Runtime(provider="cuda"))
    assert load_model(standin_models, "first").provider == CPU


@pytest.mark.parametrize("count", [1, 3, 4, 9], ids=["whole", "filled up", "largest", "pieces"])
def test_padded_batches_answer_as_they_come_alone(standin_models, faces, count):
    model = load_model(standin_models, "first", ON_CPU)
    seen = []

    def run(batch):
        seen.append(len(batch))
        return model.predict(batch)

    rows = padded(run, (1, 2, 4))(faces[:count])
    np.testing.assert_allclose(rows, model.predict(faces[:count]), atol=1e-5, rtol=0)
    assert set(seen) <= {1, 2, 4}


@pytest.mark.parametrize(
    ("largest", "sizes"),
    [(1, (1,)), (2, (1, 2)), (12, (1, 2, 4, 8, 12)), (32, (1, 2, 4, 8, 16, 32))],
)
def test_batches_are_prepared_for_in_powers_of_two_and_the_largest(largest, sizes):
    assert padded_sizes(largest) == sizes


class FakeSession:
    """Stands in for ONNX Runtime's, which has no CUDA here: keeps what it was opened with."""

    working = (CUDA, CPU)

    def __init__(self, content, settings, providers, enable_fallback):
        self.providers = [name if isinstance(name, str) else name[0] for name in providers]
        self.options = dict(one for one in providers if isinstance(one, tuple))

    def get_providers(self):
        return [name for name in self.providers if name in self.working]


@pytest.fixture
def cuda(monkeypatch):
    monkeypatch.setattr(ort, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(ort, "InferenceSession", FakeSession)


@pytest.mark.usefixtures("cuda")
def test_the_operators_provider_options_come_on_top_of_ours():
    session, provider = open_session(b"", "first", Runtime(provider_options={"device_id": 1}))
    assert provider == CUDA
    assert session.options[CUDA] == {**CUDA_OPTIONS, "device_id": 1}
    session, _ = open_session(b"", "first", Runtime(provider_options={"use_tf32": 1}))
    assert session.options[CUDA]["use_tf32"] == 1


@pytest.mark.usefixtures("cuda")
def test_what_computes_in_int8_stays_on_the_cpu():
    assert open_session(b"", "first", Runtime(provider="cuda"), int8=True)[1] == CPU


@pytest.mark.usefixtures("cuda")
def test_cuda_that_does_not_work_is_an_error_when_asked_for_and_the_cpu_when_not(
    monkeypatch, caplog
):
    monkeypatch.setattr(FakeSession, "working", (CPU,))
    with pytest.raises(ModelError, match="fell back to CPUExecutionProvider"):
        open_session(b"", "first", Runtime(provider="cuda"))
    assert open_session(b"", "first", Runtime())[1] == CPU
    assert "first runs on the CPU" in caplog.text
