"""The model that is fitted: augmentation, mixing, network and teachers in one graph."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from fer2013.labels import EMOTIONS, FACE_SIDE
from training.augment import build_augmentation
from training.mixup import Mixup
from training.recipes import Recipe


class TrainingModel(keras.Model):
    """Takes ``(faces, labels)``: labels go in with the faces because both are mixed.

    Outside training it is the network alone, so that ``evaluate`` scores what is served.

    Attributes:
        network: The network that is trained.
        mixup: The layer that a callback switches off towards the end.
    """

    def __init__(
        self,
        network: keras.Model,
        recipe: Recipe,
        teachers: Sequence[keras.Model] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network = network
        self.augmentation = build_augmentation(recipe.augmentation, seed)
        self.mixup = Mixup(recipe.mixup, seed + 4)
        self.distillation = recipe.distillation
        self.teachers = list(teachers)
        for teacher in self.teachers:
            teacher.trainable = False
        self.soft_loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8")
        self((faces, keras.Input((len(EMOTIONS),))))  # builds it

    def call(self, inputs: tuple[Any, Any], training: bool | None = None) -> dict[str, Any]:
        """Computes logits, the labels to compare them with, and in training the teachers' view.

        Args:
            inputs: Faces uint8 ``[N, 48, 48]`` and one-hot labels float32 ``[N, 7]``.
            training: Whether to augment, mix and ask the teachers.

        Returns:
            ``logits`` and ``labels``, and with teachers ``teachers``, each float32 ``[N, 7]``.
        """
        faces, labels = inputs
        faces = self.augmentation(faces, training=training)
        faces, labels = self.mixup(faces, labels, training=training)
        outputs = {"logits": self.network(faces, training=training), "labels": labels}
        if training and self.teachers:
            outputs["teachers"] = ops.stop_gradient(self._teachers_view(faces))
        return outputs

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,  # noqa: ARG002 -- the signature is Keras'
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The compiled loss on mixed labels, blended with the teachers' where there are any."""
        logits = y_pred["logits"]
        loss = super().compute_loss(x, y_pred["labels"], logits, sample_weight, training=training)
        if "teachers" not in y_pred:
            return loss
        temperature, weight = self.distillation.temperature, self.distillation.weight
        # Gradients of softened logits shrink with the square of the temperature.
        soft = temperature**2 * self.soft_loss(y_pred["teachers"], logits / temperature)
        return (1 - weight) * loss + weight * soft

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """The compiled metrics on the labels as they were before mixing."""
        return super().compute_metrics(x, y, y_pred["logits"], sample_weight)

    def _teachers_view(self, faces: Any) -> Any:
        """Mean of the teachers' softened probabilities, float32 ``[N, 7]``."""
        views = [
            ops.softmax(teacher(faces, training=False) / self.distillation.temperature)
            for teacher in self.teachers
        ]
        return ops.mean(ops.stack(views), axis=0)
