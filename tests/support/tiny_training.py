"""A training model that fits in a blink: upsampling, a backbone of one convolution, a head."""

from dataclasses import replace

import keras
import numpy as np
from ferserve.fer2013.labels import EMOTIONS, FACE_SIDE
from ferserve_training.model import TrainingModel
from ferserve_training.networks.layers import Upsampling
from ferserve_training.optimizer import build_optimizer
from ferserve_training.recipes import NO_AUGMENTATION, RECIPES, Recipe


def tiny_recipe(**changes: object) -> Recipe:
    """VGG16's recipe without anything random, changed as asked for."""
    still = {
        "augmentation": NO_AUGMENTATION,
        "mixup": 0.0,
        "precision": "float32",
        "steps_per_execution": 1,
        "sides": (FACE_SIDE,),
        "batch_size": 8,
    }
    return replace(RECIPES["vgg16"]["default"], **(still | changes))


def tiny_network(side: int = FACE_SIDE, heads: int = 1) -> keras.Model:
    faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8")
    x = Upsampling(side, name="upsampling")(keras.ops.cast(faces, "float32"))
    convolution = keras.layers.Conv2D(4, 5, 3, activation="relu", name="convolution")
    backbone = keras.Sequential([keras.Input((None, None, 1)), convolution], name="backbone")
    x = backbone(keras.ops.expand_dims(x, -1) / 128)
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(faces, keras.layers.Dense(heads * len(EMOTIONS), name="logits")(x))


def tiny_model(recipe: Recipe, **settings: object) -> TrainingModel:
    """Builds and compiles it; the same weights every time."""
    keras.utils.set_random_seed(0)
    model = TrainingModel(
        tiny_network(recipe.sides[-1], heads=2 if recipe.votes else 1), recipe, **settings
    )
    model.compile(
        build_optimizer(recipe, model.network),
        keras.losses.CategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=keras.config.backend() == "jax",
    )
    return model


def tiny_data(count: int = 32) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """What ``fit`` takes: (faces, labels), labels."""
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (count, FACE_SIDE, FACE_SIDE), np.uint8)
    labels = np.eye(len(EMOTIONS), dtype=np.float32)[rng.integers(0, len(EMOTIONS), count)]
    return (faces, labels), labels
