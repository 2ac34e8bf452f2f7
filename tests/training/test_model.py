import keras
import numpy as np
import pytest
from ferserve_training.model import TrainingModel
from ferserve_training.recipes import Augmentation, Distillation
from tiny_training import tiny_data, tiny_model, tiny_network, tiny_recipe


class Constant(keras.layers.Layer):
    """Answers every face with the same logits."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__(trainable=False)
        self.logits, self.built = np.array(logits, np.float32), True

    def call(self, faces, training=None):
        return keras.ops.tile(self.logits, (keras.ops.shape(faces)[0], 1))


class Pixels(keras.layers.Layer):
    """Answers with some of a face's pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.built = True

    def call(self, faces, training=None):
        return keras.ops.cast(faces[:, 24, :7], "float32") / 64


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(target: np.ndarray, logits: np.ndarray) -> float:
    return float(-(target * np.log(softmax(logits))).sum(axis=-1).mean())


def test_outside_training_it_is_the_network_alone():
    recipe = tiny_recipe(augmentation=Augmentation(), mixup=0.4)
    model, ((faces, labels), _) = tiny_model(recipe), tiny_data()
    outputs = model((faces, labels), training=False)
    assert np.allclose(outputs["logits"], model.network(faces, training=False), atol=1e-5)
    assert np.array_equal(outputs["labels"], labels)


def test_loss_is_on_mixed_labels_and_accuracy_on_the_faces_own():
    recipe = tiny_recipe(mixup=0.4, learning_rate=0.0)
    model, (inputs, labels) = tiny_model(recipe), tiny_data()
    outputs = model(inputs, training=True)
    logits, mixed = np.asarray(outputs["logits"]), np.asarray(outputs["labels"])
    assert np.abs(mixed - labels).max() > 0.1
    loss = float(model.compute_loss(inputs, labels, outputs))
    assert loss == pytest.approx(cross_entropy(mixed, logits), rel=1e-4)
    accuracy = model.compute_metrics(inputs, labels, outputs)["accuracy"]
    assert float(accuracy) == pytest.approx((logits.argmax(1) == labels.argmax(1)).mean())


def test_distillation_blends_the_labels_with_the_teachers_mean_at_a_temperature():
    recipe = tiny_recipe(distillation=Distillation(temperature=3.0, weight=0.7))
    answers = [[4.0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 5.0]]
    model = tiny_model(recipe, teachers=[Constant(answer) for answer in answers])
    inputs, labels = tiny_data()
    outputs = model(inputs, training=True)
    logits = np.asarray(outputs["logits"])
    soft = softmax(np.array(answers) / 3).mean(axis=0)
    expected = 0.3 * cross_entropy(labels, logits) + 0.7 * 9 * cross_entropy(soft, logits / 3)
    loss = float(model.compute_loss(inputs, labels, outputs))
    assert loss == pytest.approx(expected, rel=1e-4)


def test_teachers_see_the_student_s_augmented_view():
    recipe = tiny_recipe(
        augmentation=Augmentation(), mixup=0.4, distillation=Distillation(temperature=4.0)
    )
    model = TrainingModel(Pixels(), recipe, [Pixels(), Pixels()])
    inputs, _ = tiny_data()
    outputs = model(inputs, training=True)
    logits = np.asarray(outputs["logits"])
    assert np.abs(logits - np.asarray(Pixels()(inputs[0]))).max() > 0.1
    assert np.allclose(outputs["teachers"], softmax(logits / 4), atol=1e-5)


def test_answers_from_before_the_run_stand_for_the_teachers():
    recipe = tiny_recipe(distillation=Distillation(temperature=3.0, weight=0.7, same_view=False))
    model, ((faces, labels), _) = tiny_model(recipe), tiny_data()
    soft = softmax(np.random.default_rng(0).normal(0, 1, labels.shape)).astype(np.float32)
    outputs = model((faces, labels, soft), training=True)
    logits = np.asarray(outputs["logits"])
    expected = 0.3 * cross_entropy(labels, logits) + 0.7 * 9 * cross_entropy(soft, logits / 3)
    loss = float(model.compute_loss((faces, labels, soft), labels, outputs))
    assert loss == pytest.approx(expected, rel=1e-4)
    assert "teachers" not in model((faces, labels, soft), training=False)


def test_answers_are_mixed_as_the_labels_are():
    recipe = tiny_recipe(mixup=0.4, distillation=Distillation(same_view=False))
    model, ((faces, labels), _) = tiny_model(recipe), tiny_data()
    outputs = model((faces, labels, labels), training=True)
    assert np.abs(np.asarray(outputs["labels"]) - labels).max() > 0.1
    assert np.allclose(outputs["teachers"], outputs["labels"])


def test_a_student_learns_what_its_teacher_says_and_the_teacher_stays():
    recipe = tiny_recipe(
        learning_rate=1e-2,
        distillation=Distillation(weight=1.0),
        fine_tuning=None,
        ema_momentum=0.0,
    )
    teacher = tiny_network()
    kernel = np.random.default_rng(0).normal(0, 2, teacher.get_layer("logits").kernel.shape)
    teacher.get_layer("logits").kernel.assign(kernel)
    before = [w.copy() for w in teacher.get_weights()]
    inputs, labels = tiny_data()
    taught = np.asarray(teacher(inputs[0])).argmax(axis=1)
    model = tiny_model(recipe, teachers=[teacher])
    model.fit(inputs, labels, batch_size=8, epochs=60, verbose=0)
    learned = np.asarray(model.network(inputs[0])).argmax(axis=1)
    assert (learned == taught).mean() > 0.6
    assert all(np.array_equal(a, b) for a, b in zip(before, teacher.get_weights(), strict=True))


def voted_data() -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], np.ndarray]:
    """As ``tiny_data``, with people's shares: of the last face nobody saw an emotion."""
    (faces, labels), _ = tiny_data()
    shares = np.random.default_rng(1).dirichlet(np.ones(7), len(faces)).astype(np.float32)
    shares[-1] = 0
    return (faces, labels, shares), labels


def test_votes_have_a_head_and_a_part_of_the_loss_of_their_own():
    model, (inputs, labels) = tiny_model(tiny_recipe(votes=0.3)), voted_data()
    outputs = model(inputs, training=True)
    logits, vote_logits = np.asarray(outputs["logits"]), np.asarray(outputs["vote_logits"])
    assert np.abs(logits - vote_logits).max() > 0.1
    expected = 0.7 * cross_entropy(labels, logits) + 0.3 * cross_entropy(inputs[-1], vote_logits)
    assert float(model.compute_loss(inputs, labels, outputs)) == pytest.approx(expected, rel=1e-4)


def test_the_accuracy_of_the_votes_leaves_out_faces_without_any():
    model, (inputs, labels) = tiny_model(tiny_recipe(votes=0.3)), voted_data()
    found = model.evaluate(inputs, labels, batch_size=8, verbose=0, return_dict=True)
    answered = np.asarray(model.network(inputs[0]))[:, 7:].argmax(axis=1)
    expected = (answered == inputs[-1].argmax(axis=1))[:-1].mean()
    assert found["votes_accuracy"] == pytest.approx(expected, abs=1e-6)


def test_shares_are_mixed_as_the_labels_are():
    model, ((faces, labels), _) = tiny_model(tiny_recipe(votes=0.3, mixup=0.4)), tiny_data()
    outputs = model((faces, labels, labels), training=True)
    assert np.abs(np.asarray(outputs["labels"]) - labels).max() > 0.1
    assert np.allclose(outputs["shares"], outputs["labels"])
