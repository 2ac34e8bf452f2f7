"""Every number of a training run, one frozen dataclass a model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training face; each is drawn anew for every face and epoch.

    Attributes:
        flip: Whether half of the faces are mirrored.
        rotation: Largest angle, degrees, either way.
        shift: Largest shift along each axis, share of the side.
        scale: Largest change of size, share, either way.
        brightness: Largest change of brightness, share of 255.
        contrast: Largest change of contrast, share.
        erasing: Probability that a random rectangle is replaced by grey.
    """

    flip: bool = True
    rotation: float = 12.0
    shift: float = 0.08
    scale: float = 0.12
    brightness: float = 0.15
    contrast: float = 0.25
    erasing: float = 0.3


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: AdamW, cross-entropy, warm-up then cosine to zero.

    Attributes:
        network: Module of ``training.networks``.
        learning_rate: Peak, after the warm-up.
        warmup: Share of all steps over which the learning rate rises from zero.
        weight_decay: Decoupled; not applied to biases and batch normalisation.
        ema_momentum: Of the moving average of the weights, which is what is kept and served.
        clip_norm: Largest norm of all gradients together.
        precision: Keras dtype policy of the training step.
        steps_per_execution: Steps a compiled call makes; more saves launches on a GPU.
    """

    network: str
    epochs: int
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    label_smoothing: float
    ema_momentum: float
    clip_norm: float
    augmentation: Augmentation
    precision: str
    steps_per_execution: int


CUSTOM_CNN = Recipe(
    network="custom_cnn",
    epochs=40,
    batch_size=128,
    learning_rate=2e-3,
    warmup=0.1,
    weight_decay=0.05,
    label_smoothing=0.1,
    ema_momentum=0.999,
    clip_norm=1.0,
    augmentation=Augmentation(),
    precision="mixed_bfloat16",
    steps_per_execution=1,
)

RECIPES: dict[str, Recipe] = {recipe.network: recipe for recipe in (CUSTOM_CNN,)}
"""The recipe of each model that can be trained, by the model's name."""
