"""What the networks on a pretrained backbone share: input, weights, frozen stages."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import keras
import numpy as np
from ferserve.fer2013.labels import FACE_SIDE

from ferserve_training.errors import TrainingError
from ferserve_training.networks.layers import Upsampling
from ferserve_training.recipes import HEAD


@dataclass(frozen=True)
class WeightsFile:
    """Where Keras publishes a backbone's ImageNet weights.

    Attributes:
        url: Of the file without the classifier.
        md5: As keras.applications states it.
    """

    url: str
    md5: str


def upsampled_faces(side: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the input, uint8 ``[N, 48, 48]``, and it as float32 ``[N, side, side, 1]``."""
    faces = keras.Input((FACE_SIDE, FACE_SIDE), dtype="uint8", name="faces")
    x = Upsampling(side, name="upsampling")(keras.ops.cast(faces, "float32"))
    return faces, keras.ops.expand_dims(x, -1)


def resolve_weights(weights: str, published: WeightsFile) -> Path:
    """Finds the file of pretrained weights.

    Args:
        weights: ``imagenet``, which downloads the file once, or a path.
        published: The file that ``imagenet`` stands for.

    Raises:
        TrainingError: There is no such file, or it cannot be downloaded.
    """
    if weights != "imagenet":
        path = Path(weights)
        if not path.is_file():
            raise TrainingError(f"--backbone-weights {path}: no such file")
        return path
    name = published.url.rsplit("/", 1)[1]
    try:
        return Path(
            keras.utils.get_file(
                name, published.url, cache_subdir="models", file_hash=published.md5
            )
        )
    except Exception as error:  # get_file raises plain Exception where there is no network
        raise TrainingError(
            f"the ImageNet weights cannot be downloaded ({error}). Fetch {published.url} on a "
            f"machine with network access and pass --backbone-weights PATH/{name}"
        ) from error


def load_backbone(backbone: keras.Model, path: Path) -> list[str]:
    """Loads pretrained weights by layer name.

    Args:
        backbone: The model without a classifier.
        path: Keras' legacy HDF5 of weights, of all layers or of the lower ones.

    Returns:
        The layers with weights that are not in the file and stay random.

    Raises:
        TrainingError: Not such a file, or none of its layers is one of the backbone's.
    """
    stored = _stored_layers(path)
    weighted = [layer for layer in backbone.layers if layer.weights]
    loaded = [
        layer
        for layer in weighted
        if [w.shape for w in stored.get(layer.name, [])] == [tuple(w.shape) for w in layer.weights]
    ]
    if not loaded:
        raise TrainingError(f"{path}: none of its layers is one of {backbone.name}'s")
    for layer in loaded:
        layer.set_weights(stored[layer.name])
    return [layer.name for layer in weighted if layer not in loaded]


def freeze_below(backbone: keras.Model, stage: str) -> None:
    """Lets only the layers from ``stage`` on be trained.

    Args:
        backbone: The model whose layers stand in order.
        stage: What the first trained layer's name starts with, such as ``block5``; empty for all
            layers, ``head`` for none.

    Raises:
        TrainingError: No layer's name starts so.
    """
    names = [layer.name for layer in backbone.layers]
    first = next((i for i, name in enumerate(names) if name.startswith(stage)), len(names))
    if first == len(names) and stage != HEAD:
        stages = dict.fromkeys(name.split("_")[0] for name in names)
        raise TrainingError(f"{backbone.name} has no stage {stage!r}; it has {', '.join(stages)}")
    for layer in backbone.layers[:first]:
        layer.trainable = False


def freeze_normalisations(backbone: keras.Model) -> None:
    """Lets batch normalisations work in training as they are served."""
    for layer in backbone.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def sha256(path: Path) -> str:
    """Hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stored_layers(path: Path) -> dict[str, list[np.ndarray]]:
    try:
        with h5py.File(path) as file:
            root = file.get("model_weights", file)
            return {
                _text(name): [
                    np.asarray(root[_text(name)][_text(weight)], np.float32)
                    for weight in root[_text(name)].attrs["weight_names"]
                ]
                for name in root.attrs["layer_names"]
            }
    except (OSError, KeyError) as error:
        raise TrainingError(f"{path}: not an HDF5 file of Keras weights ({error})") from error


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
