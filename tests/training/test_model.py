import numpy as np
import pytest
from ferserve_training.recipes import Augmentation, Distillation
from tiny_training import tiny_data, tiny_model, tiny_network, tiny_recipe


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


def test_distillation_blends_the_labels_with_the_teachers_answers_at_a_temperature():
    recipe = tiny_recipe(distillation=Distillation(temperature=3.0, weight=0.7))
    model, ((faces, labels), _) = tiny_model(recipe), tiny_data()
    soft = softmax(np.random.default_rng(0).normal(0, 1, labels.shape)).astype(np.float32)
    outputs = model((faces, labels, soft), training=True)
    logits = np.asarray(outputs["logits"])
    expected = 0.3 * cross_entropy(labels, logits) + 0.7 * 9 * cross_entropy(soft, logits / 3)
    loss = float(model.compute_loss((faces, labels, soft), labels, outputs))
    assert loss == pytest.approx(expected, rel=1e-4)
    alone = float(model.compute_loss((faces, labels, soft), labels, outputs, training=False))
    assert alone == pytest.approx(cross_entropy(labels, logits), rel=1e-4)


def test_answers_are_mixed_as_the_labels_are():
    recipe = tiny_recipe(mixup=0.4, distillation=Distillation())
    model, ((faces, labels), _) = tiny_model(recipe), tiny_data()
    outputs = model((faces, labels, labels), training=True)
    assert np.abs(np.asarray(outputs["labels"]) - labels).max() > 0.1
    assert np.allclose(outputs["answers"], outputs["labels"])


def test_a_student_learns_what_its_teacher_says():
    recipe = tiny_recipe(
        learning_rate=1e-2,
        distillation=Distillation(weight=1.0),
        fine_tuning=None,
        ema_momentum=0.0,
    )
    teacher = tiny_network()
    kernel = np.random.default_rng(0).normal(0, 2, teacher.get_layer("logits").kernel.shape)
    teacher.get_layer("logits").kernel.assign(kernel)
    (faces, labels), _ = tiny_data()
    logits = np.asarray(teacher(faces))
    model = tiny_model(recipe)
    soft = softmax(logits / recipe.distillation.temperature)
    model.fit((faces, labels, soft), labels, batch_size=8, epochs=60, verbose=0)
    learned = np.asarray(model.network(faces)).argmax(axis=1)
    assert (learned == logits.argmax(axis=1)).mean() > 0.6


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


def test_faces_without_votes_teach_the_votes_head_nothing():
    # Keras' own loss has a gradient for such rows on TensorFlow.
    model, ((faces, labels, shares), _) = tiny_model(tiny_recipe(votes=1.0)), voted_data()
    before = model.network.get_layer("logits").bias.numpy()
    model.compile("sgd", model.loss)
    model.train_on_batch((faces, labels, np.zeros_like(shares)), labels)
    assert np.array_equal(model.network.get_layer("logits").bias.numpy(), before)
    model.train_on_batch((faces, labels, shares), labels)
    assert not np.allclose(model.network.get_layer("logits").bias.numpy(), before)


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
