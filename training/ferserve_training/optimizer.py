"""AdamW, and its form for a pretrained backbone below a new head."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import ops

from ferserve_training.recipes import Recipe

UNDECAYED = ["bias", "gamma", "beta"]


class FineTuningAdamW(keras.optimizers.Adam):
    """AdamW (Loshchilov & Hutter 2019) with learning rates of their own for backbone and head.

    The head's is ``head_multiple`` times ``learning_rate``, the backbone's ``backbone_multiple``, a
    variable: with 0 the head learns alone.
    """

    def __init__(
        self, backbone: Iterable[Any], head_multiple: float, decay: float, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.head_multiple, self.decay = head_multiple, decay
        self.backbone_ids = frozenset(id(variable) for variable in backbone)

    def build(self, variables: list[Any]) -> None:
        """Creates the optimizer's variables."""
        if self.built:
            return
        super().build(variables)
        self.in_backbone = [id(variable) in self.backbone_ids for variable in variables]
        self.backbone_multiple = self.add_variable((), initializer="ones", name="backbone_multiple")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Decays and moves one variable."""
        in_backbone = self.in_backbone[self._get_variable_index(variable)]
        multiple = self.backbone_multiple if in_backbone else self.head_multiple
        rate = ops.cast(learning_rate, variable.dtype) * multiple
        if self.decay and self._use_weight_decay(variable):
            self.assign_sub(variable, variable * rate * self.decay)
        super().update_step(gradient, variable, rate)


def build_optimizer(recipe: Recipe, network: keras.Model) -> keras.optimizers.Optimizer:
    """Builds a recipe's optimizer for a network's trainable variables."""
    common: dict[str, Any] = {
        "learning_rate": recipe.learning_rate,
        "global_clipnorm": recipe.clip_norm or None,
        "use_ema": True,
        "ema_momentum": recipe.ema_momentum,
    }
    if recipe.fine_tuning:
        backbone = network.get_layer("backbone").trainable_variables
        optimizer = FineTuningAdamW(
            backbone, recipe.fine_tuning.head_multiple, recipe.weight_decay, **common
        )
    else:
        optimizer = keras.optimizers.AdamW(weight_decay=recipe.weight_decay, **common)
    optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    optimizer.build(network.trainable_variables)
    return optimizer
