"""The model that is fitted: augmentation, mixing and network in one graph."""

from typing import Any

import keras
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from keras import ops

from ferserve_training.augment import Mixup, build_augmentation
from ferserve_training.recipes import Recipe


class TrainingModel(keras.Model):
    """Takes ``(faces, labels)``: labels go in with the faces because both are mixed.

    After the labels it takes further rows for each face, if the recipe has a use for them: the
    answers of teachers, then the shares of people's votes.
    Outside training it is the network alone, so that ``evaluate`` scores what is served.

    Attributes:
        network: The network that is trained.
        mixup: The layer that a callback switches off towards the end.
    """

    def __init__(self, network: keras.Model, recipe: Recipe, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        self.augmentation = build_augmentation(recipe.augmentation, seed)
        self.mixup = Mixup(recipe.mixup, seed + 4)
        self.distillation, self.votes = recipe.distillation, recipe.votes
        self.soft_loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        if self.votes:
            self.votes_accuracy = keras.metrics.CategoricalAccuracy("votes_accuracy")
        count = 1 + bool(self.distillation) + bool(self.votes)
        rows = [keras.Input((len(EMOTIONS),)) for _ in range(count)]
        self((keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8"), *rows))  # builds it

    def call(self, inputs: tuple[Any, ...], training: bool | None = None) -> dict[str, Any]:
        """Computes logits, and what to compare them with, each float32 ``[N, 7]``."""
        faces, *rows = inputs
        faces = self.augmentation(faces, training=training)
        faces, mixed = self.mixup(faces, ops.concatenate(rows, axis=1), training=training)
        labels, *others = ops.split(mixed, len(rows), axis=1)
        logits = self.network(faces, training=training)
        outputs = {"logits": logits[:, : len(EMOTIONS)], "labels": labels}
        if self.distillation:
            outputs["answers"] = others[0]
        if self.votes:
            outputs |= {"shares": others[-1], "vote_logits": logits[:, len(EMOTIONS) :]}
        return outputs

    def compute_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The compiled loss on mixed labels, blended with the teachers' and the votes'."""
        logits = y_pred["logits"]
        loss = super().compute_loss(x, y_pred["labels"], logits, sample_weight, training=training)
        if training and self.distillation:
            temperature, weight = self.distillation.temperature, self.distillation.weight
            # Gradients of softened logits shrink with the square of the temperature.
            soft = temperature**2 * self.soft_loss(y_pred["answers"], logits / temperature)
            loss = (1 - weight) * loss + weight * soft
        if self.votes:
            # A face counts as much as its shares sum to, one without votes for nothing. For such
            # rows Keras' loss has wrong gradients on TensorFlow, which assumes that they sum to 1.
            likelihoods = y_pred["shares"] * ops.log_softmax(y_pred["vote_logits"])
            loss = (1 - self.votes) * loss - self.votes * ops.mean(ops.sum(likelihoods, axis=1))
        return loss

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The compiled metrics on the labels, and the votes' accuracy, both before mixing."""
        if self.votes:
            shares = x[-1]
            has_votes = ops.cast(ops.sum(shares, axis=1) > 0, "float32")
            self.votes_accuracy.update_state(shares, y_pred["vote_logits"], has_votes)
        return super().compute_metrics(x, y, y_pred["logits"], sample_weight)
