import keras
import numpy as np
import pytest
from ferserve_training.optimizer import FineTuningAdamW, build_optimizer
from ferserve_training.recipes import FineTuning
from tiny_training import tiny_network, tiny_recipe


def variables() -> list[keras.Variable]:
    return [keras.Variable(np.ones(3, np.float32), name=name) for name in ("kernel", "kernel")]


def step(optimizer: keras.optimizers.Optimizer, of: list[keras.Variable]) -> list[np.ndarray]:
    optimizer.build(of)
    for gradient in (0.3, -0.1, 0.2):
        optimizer.apply([keras.ops.full((3,), gradient) for _ in of], of)
    return [np.asarray(variable) for variable in of]


def test_with_equal_learning_rates_it_is_adamw():
    ours, theirs = variables(), variables()
    optimizer = FineTuningAdamW(ours[:1], 1.0, decay=0.1, learning_rate=0.01)
    expected = step(keras.optimizers.AdamW(0.01, weight_decay=0.1), theirs)
    assert np.allclose(step(optimizer, ours), expected, atol=1e-6)


def test_head_learns_as_many_times_faster():
    both = variables()
    optimizer = FineTuningAdamW(both[:1], 10.0, decay=0.0, learning_rate=0.01)
    backbone, head = (1 - values for values in step(optimizer, both))
    assert np.allclose(head, 10 * backbone, rtol=1e-4)


def test_backbone_stands_still_while_the_head_learns_alone():
    both = variables()
    optimizer = FineTuningAdamW(both[:1], 1.0, decay=0.1, learning_rate=0.01)
    optimizer.build(both)
    optimizer.backbone_multiple.assign(0.0)
    backbone, head = step(optimizer, both)
    assert np.array_equal(backbone, np.ones(3))
    assert (head < 1).all()


def test_frozen_stages_have_no_optimizer_state():
    network = tiny_network()
    network.get_layer("backbone").trainable = False
    optimizer = build_optimizer(tiny_recipe(), network)
    assert len(optimizer._trainable_variables) == 2  # kernel and bias of the head


@pytest.mark.parametrize("fine_tuning", [FineTuning(), None], ids=["fine-tuning", "from-scratch"])
def test_biases_do_not_decay(fine_tuning):
    network = tiny_network()
    optimizer = build_optimizer(tiny_recipe(fine_tuning=fine_tuning), network)
    decayed = [v.name for v in network.trainable_variables if optimizer._use_weight_decay(v)]
    assert decayed == ["kernel", "kernel"]
