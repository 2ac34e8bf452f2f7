from pathlib import Path

import keras
import numpy as np
import pytest
from ferserve_training.half_weights import halve
from ferserve_training.networks import build_network


@pytest.mark.parametrize(("name", "side"), [("custom_cnn", None), ("vgg16", 32)])
def test_half_as_many_bytes_load_into_the_same_network(name: str, side: int | None, tmp_path: Path):
    source, target = tmp_path / "full.weights.h5", tmp_path / "half.weights.h5"
    network = build_network(name, side)
    network.save_weights(source)
    halve(str(source), str(target))
    assert target.stat().st_size < 0.55 * source.stat().st_size
    keras.utils.set_random_seed(1)
    again = build_network(name, side)
    again.load_weights(target)
    for ours, theirs in zip(again.get_weights(), network.get_weights(), strict=True):
        assert ours.dtype == np.float32
        assert np.allclose(ours, theirs, rtol=1e-3, atol=1e-6)
