"""What changes in the course of a run: learning rates, resolution, mixing."""

import math
import time
from collections.abc import Callable

import keras

from ferserve_training.recipes import Recipe


class Schedule(keras.callbacks.Callback):
    """Sets learning rates before a step, resolution and mixing of faces before an epoch.

    The learning rate rises linearly in the warm-up, then falls as a half cosine to zero.

    With a time limit the schedule follows the clock where that is ahead of the steps, so that a
    run that is stopped by the clock has been annealed like one that made all its steps.

    Where the head of a network learns alone at first, the backbone has a warm-up of its own.
    ``spent_seconds`` is what earlier parts of a resumed run took.
    """

    def __init__(
        self,
        recipe: Recipe,
        total_steps: int,
        max_seconds: float = math.inf,
        spent_seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.recipe, self.total_steps = recipe, total_steps
        self.max_seconds, self.spent_seconds, self.clock = max_seconds, spent_seconds, clock
        self.started = clock()
        self.steps = self.first_step = 0
        # Keras takes the state out of JAX models while an epoch runs; putting it back for a new
        # learning rate costs the time of several small steps, so it is not done for each.
        self.coarseness = 0.005 if keras.config.backend() == "jax" else 0.0

    def progress(self) -> float:
        """Share of the run that is done, 0..1."""
        seconds = self.spent_seconds + self.clock() - self.started
        return min(1.0, max(self.steps / self.total_steps, seconds / self.max_seconds))

    def learning_rate(self, progress: float) -> float:
        """The learning rate after that share of the run."""
        peak, warmup = self.recipe.learning_rate, self.recipe.warmup
        if progress < warmup:
            return peak * progress / warmup
        if not self.recipe.cosine:
            return peak
        return peak * 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))

    def backbone_multiple(self, progress: float) -> float:
        """The backbone's share of the learning rate: 0, then a linear rise to 1."""
        head_only = self.recipe.fine_tuning.head_only
        if progress < head_only:
            return 0.0
        warmup = self.recipe.warmup
        return min(1.0, (progress - head_only) / warmup) if warmup else 1.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Reads where the run stands, and sets the resolution and the mixing of faces."""
        iterations = self.model.optimizer.iterations
        self.steps = self.first_step = int(keras.ops.convert_to_numpy(iterations))
        self.applied = -math.inf
        progress = self.progress()
        self.model.mixup.active.assign(float(progress < self.recipe.mixup_until))
        if len(self.recipe.sides) < 2:
            return
        upsampling = self.model.network.get_layer("upsampling")
        number = min(int(progress * len(self.recipe.sides)), len(self.recipe.sides) - 1)
        if upsampling.training_side != self.recipe.sides[number]:
            upsampling.training_side = self.recipe.sides[number]
            self.model.make_train_function(force=True)

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the learning rates, and ends the run when the time is up."""
        self.steps = self.first_step + batch
        progress = self.progress()
        if progress >= 1.0:
            self.model.stop_training = True
        if progress - self.applied < self.coarseness and progress < 1.0:
            return
        self.applied = progress
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.model.optimizer.learning_rate = self.learning_rate(progress)
        if self.recipe.fine_tuning:
            self.model.optimizer.backbone_multiple.assign(self.backbone_multiple(progress))
