"""What the networks on a pretrained backbone share: input, weights, frozen stages."""

import hashlib
from pathlib import Path

import h5py
import keras

from ferserve_training import TrainingError
from ferserve_training.recipes import FineTuning

IMAGENET = "imagenet"

PUBLISHED = {"vgg16": keras.applications.VGG16, "resnet50v2": keras.applications.ResNet50V2}


def describe_weights(weights: str) -> str | None:
    """Returns ``imagenet``, the sha256 of a file of weights, or None for no weights."""
    return weights or None if weights in ("", IMAGENET) else sha256(Path(weights))


def prepare_backbone(network: keras.Model, weights: str, settings: FineTuning) -> None:
    """Loads pretrained weights, if there are any, and freezes what is not trained.

    Raises:
        TrainingError: The weights cannot be had.
    """
    backbone = network.get_layer("backbone")
    if weights == IMAGENET:
        load_imagenet(backbone, network.name)
    elif weights:
        load_backbone(backbone, Path(weights))
    freeze(backbone, settings)


def load_imagenet(backbone: keras.Model, name: str) -> None:
    """Copies the weights that Keras publishes, which it downloads once."""
    try:
        published = PUBLISHED[name](include_top=False)
    except Exception as error:  # Keras raises plain Exception where there is no network
        raise TrainingError(
            f"the ImageNet weights cannot be downloaded ({error}). Fetch the file on a machine "
            "with network access and pass --backbone-weights PATH"
        ) from error
    backbone.set_weights(published.get_weights())


def load_backbone(backbone: keras.Model, path: Path) -> None:
    """Loads Keras' legacy HDF5 by layer name; layers that the file lacks stay random."""
    try:
        with h5py.File(path) as file:
            names = file.get("model_weights", file).attrs["layer_names"]
            stored = {name.decode() if isinstance(name, bytes) else name for name in names}
        backbone.load_weights(path, by_name=True)
    except (OSError, KeyError, ValueError) as error:
        raise TrainingError(f"{path}: not an HDF5 file of its Keras weights ({error})") from error
    if not stored & {layer.name for layer in backbone.layers if layer.weights}:
        raise TrainingError(f"{path}: none of its layers is one of {backbone.name}'s")


def freeze(backbone: keras.Model, settings: FineTuning) -> None:
    """Freezes stages; and normalisations, which then work in training as they are served."""
    is_trained = False
    for layer in backbone.layers:
        is_trained = is_trained or layer.name.startswith(settings.trainable_from)
        is_normalisation = isinstance(layer, keras.layers.BatchNormalization)
        if not is_trained or (settings.frozen_normalisation and is_normalisation):
            layer.trainable = False


def sha256(path: Path) -> str:
    """Returns the hash of a file; TrainingError where there is none."""
    if not path.is_file():
        raise TrainingError(f"{path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
