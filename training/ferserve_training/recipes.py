"""Every number of a training run, frozen dataclasses by model and name."""

from dataclasses import dataclass, replace
from typing import Any

from ferserve_training import TrainingError


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training face; each is drawn anew for every face and epoch.

    Attributes:
        flip: Whether half of the faces are mirrored.
        rotation: Largest angle, degrees, either way.
        shift: Largest shift along each axis, share of the side.
        scale: Largest change of size, share, either way.
        brightness: Largest change of brightness, share of 255.
        contrast: Largest increase of contrast, share; it is never lowered.
        erasing: Largest probability that a random rectangle is replaced by grey. Each face draws
            its own from 0 on, so half as many rectangles are.
    """

    flip: bool = True
    rotation: float = 12.0
    shift: float = 0.08
    scale: float = 0.12
    brightness: float = 0.15
    contrast: float = 0.25
    erasing: float = 0.3


NO_AUGMENTATION = Augmentation(
    flip=False, rotation=0.0, shift=0.0, scale=0.0, brightness=0.0, contrast=0.0, erasing=0.0
)


@dataclass(frozen=True)
class FineTuning:
    """How a pretrained backbone is trained along with the new head.

    Attributes:
        trainable_from: First stage that is trained, such as ``block4``; what is below stays as
            published. Empty for all stages, ``head`` for none.
        head_only: Share of the run in which the head alone learns; the backbone's learning rate
            then rises over the recipe's ``warmup``.
        head_multiple: Learning rate of the head, relative to the backbone's.
        frozen_normalisation: Whether batch normalisations stay as they are, with the statistics
            that they were saved with.
    """

    trainable_from: str = ""
    head_only: float = 0.04
    head_multiple: float = 10.0
    frozen_normalisation: bool = False

    def continued(self) -> "FineTuning":
        """The same to continue a trained model, whose head is no longer new.

        With batches' own statistics the released ResNet50V2 is another network: in each batch of
        64 the happiest face has 10,000 times the energy of the others behind the last stage, and
        so rules their normalisation.
        """
        return replace(self, head_only=0.0, head_multiple=3.0, frozen_normalisation=True)


@dataclass(frozen=True)
class Distillation:
    """Learning from teachers' answers (Hinton et al. 2015), each given once, before the run.

    Attributes:
        temperature: Both sides' logits are divided by it.
        weight: Of the teachers' part of the loss; the labels have the rest.
    """

    temperature: float = 4.0
    weight: float = 0.7


@dataclass(frozen=True)
class Recipe:
    """How one network is trained: AdamW, cross-entropy, warm-up then cosine to zero.

    Attributes:
        network: Module of ``ferserve_training.networks``.
        learning_rate: Peak, after the warm-up.
        warmup: Share of all steps over which the learning rate rises from zero.
        weight_decay: Decoupled; not applied to biases and batch normalisation.
        ema_momentum: Of the moving average of the weights, which is what is kept and served.
        clip_norm: Largest norm of all gradients together; none if 0.
        precision: Keras dtype policy of the training step, or ``auto``: bfloat16 where the
            processor or GPU computes in it, float32 elsewhere.
        steps_per_execution: Steps between callbacks; on TensorFlow one call makes them all.
        cosine: Whether the learning rate falls after the warm-up, or stays.
        mixup: Parameter of the Beta distribution that the shares of two mixed faces are drawn
            from (Zhang et al. 2018); 0 for no mixing.
        mixup_until: Share of the run after which faces are left unmixed.
        sides: Pixels that faces are upsampled to, an equal share of the run each; the last is
            what is served. Empty for a network that takes them as they are.
        sharpen: Whether the network sharpens blurred faces before it looks at them.
        fine_tuning: For a network on a pretrained backbone.
        distillation: For a run with teachers.
        votes: Weight in the loss of a second head, which answers as the people of FER+ voted; the
            labels have the rest. 0 for a network with one head.
    """

    network: str
    epochs: int
    learning_rate: float
    batch_size: int = 128
    warmup: float = 0.05
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    ema_momentum: float = 0.999
    clip_norm: float = 1.0
    augmentation: Augmentation = Augmentation()
    precision: str = "auto"
    steps_per_execution: int = 1
    cosine: bool = True
    mixup: float = 0.0
    mixup_until: float = 0.9
    sides: tuple[int, ...] = ()
    sharpen: bool = False
    fine_tuning: FineTuning | None = None
    distillation: Distillation | None = None
    votes: float = 0.0

    @property
    def side(self) -> int | None:
        """Pixels that faces are upsampled to when the network is served."""
        return self.sides[-1] if self.sides else None


VOTES_WEIGHT = 0.5
"""Of the votes' head in the loss; the labels' head has as much."""

TAUGHT_VOTES = 0.5
"""Share of the teachers' answers in what the votes' head learns; the votes have the rest."""

CUSTOM_CNN = Recipe("custom_cnn", epochs=40, learning_rate=2e-3, warmup=0.1)

CUSTOM_CNN_LONG = replace(
    CUSTOM_CNN,
    epochs=250,
    batch_size=256,
    warmup=0.05,
    mixup=0.2,
    augmentation=Augmentation(rotation=15.0, shift=0.1, scale=0.15, erasing=0.5),
    steps_per_execution=8,
)
"""For a GPU, or AMX and hours: as many epochs as stronger augmentation asks for."""

CUSTOM_CNN_CONTINUE = replace(CUSTOM_CNN, epochs=60, learning_rate=5e-4, mixup=0.2)
"""Continues a released model, whose weights the full learning rate would undo."""

LIGHT = Recipe(
    "light",
    epochs=100,
    learning_rate=2e-3,
    mixup=0.2,
    augmentation=Augmentation(rotation=15.0, scale=0.15),
    precision="float32",  # faster than bfloat16 even with AMX: bench/results/training-amx.json
    votes=VOTES_WEIGHT,
)

LIGHT_CONTINUE = replace(
    LIGHT,
    epochs=40,
    learning_rate=1e-3,
    mixup=0.4,
    augmentation=Augmentation(rotation=15.0, shift=0.1, scale=0.2, erasing=0.5),
)

VGG16 = Recipe(
    "vgg16",
    epochs=30,
    learning_rate=5e-5,
    augmentation=Augmentation(rotation=15.0, shift=0.1, scale=0.1, erasing=0.25),
    steps_per_execution=8,
    mixup=0.2,
    sides=(224,),
    fine_tuning=FineTuning(),
)

RESNET50V2 = replace(VGG16, network="resnet50v2", epochs=50, learning_rate=1e-4)

# On two CPU cores: fewer pixels, at first fewer than are served, for more epochs in the time; for
# VGG16 the lower stages as published.
VGG16_CPU = replace(
    VGG16,
    epochs=10,
    batch_size=64,
    steps_per_execution=1,
    mixup=0.0,
    sides=(64, 96),
    fine_tuning=FineTuning(trainable_from="block3"),
)

RESNET50V2_CPU = replace(
    VGG16_CPU,
    network="resnet50v2",
    epochs=20,
    learning_rate=3e-4,  # where the pretrained weights end at conv4, conv5 starts at random
    sides=(64, 64, 64, 96),  # an epoch at 64 pixels takes half the time of one at 96
    fine_tuning=FineTuning(head_only=0.0),  # the head has a random stage below it
)


def _reference(recipe: Recipe) -> Recipe:
    """The reference project's settings: Adam, plain cross-entropy, faces as they are."""
    return replace(
        recipe,
        epochs=30,
        batch_size=64,
        learning_rate=1e-3,
        warmup=0.0,
        cosine=False,
        weight_decay=0.0,
        label_smoothing=0.0,
        ema_momentum=0.0,  # the average is then the newest weights
        clip_norm=0.0,
        augmentation=NO_AUGMENTATION,
        precision="float32",
        mixup=0.0,
        fine_tuning=recipe.fine_tuning and FineTuning("head", head_only=0.0, head_multiple=1.0),
    )


RECIPES: dict[str, dict[str, Recipe]] = {
    "custom_cnn": {
        "default": CUSTOM_CNN,
        "long": CUSTOM_CNN_LONG,
        "continue": CUSTOM_CNN_CONTINUE,
        "reference": _reference(CUSTOM_CNN),
    },
    "light": {
        "default": LIGHT,
        "continue": LIGHT_CONTINUE,
        "votes": replace(LIGHT_CONTINUE, epochs=60, votes=0.9, sides=(64,), sharpen=True),
    },
    "vgg16": {
        "default": VGG16,
        "cpu": VGG16_CPU,
        "continue": replace(
            VGG16_CPU,
            learning_rate=1e-4,
            sides=(72,),
            ema_momentum=0.995,
            mixup=0.2,
            augmentation=Augmentation(rotation=15.0, shift=0.1, scale=0.15, erasing=0.5),
        ),
        "reference": _reference(VGG16),
    },
    "resnet50v2": {
        "default": RESNET50V2,
        "cpu": RESNET50V2_CPU,
        "continue": replace(RESNET50V2_CPU, learning_rate=1.5e-4, sides=(64,), ema_momentum=0.995),
        "reference": _reference(RESNET50V2),
    },
}
"""The recipes of each model that can be trained, by the model's name and the recipe's."""

SMALLEST_SIDE = 32
"""Both backbones halve the side five times."""


def find_recipe(model: str, name: str, *, sides: str | None = None, **changes: Any) -> Recipe:
    """Finds a recipe, and changes what is asked for.

    Args:
        model: Key of :data:`RECIPES`.
        name: The recipe's name below it.
        sides: Instead of the recipe's, such as ``96,160,224``.
        **changes: Other fields, such as ``epochs``; None leaves the recipe's.

    Raises:
        TrainingError: Unknown model or recipe, or sides that the network does not take.
    """
    if model not in RECIPES:
        raise TrainingError(f"unknown model {model!r}; known: {', '.join(RECIPES)}")
    if name not in RECIPES[model]:
        raise TrainingError(f"{model} has no recipe {name!r}; it has {', '.join(RECIPES[model])}")
    recipe = RECIPES[model][name]
    if sides is not None:
        if not recipe.sides:
            raise TrainingError(f"{model} takes no --sides")
        parts = sides.split(",")
        if not all(part.isdecimal() and int(part) >= SMALLEST_SIDE for part in parts):
            raise TrainingError(
                f"--sides {sides}: numbers of at least {SMALLEST_SIDE} with commas between"
            )
        changes["sides"] = tuple(int(part) for part in parts)
    return replace(recipe, **{key: value for key, value in changes.items() if value is not None})
