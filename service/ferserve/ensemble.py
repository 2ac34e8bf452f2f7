"""The virtual model: the weighted mean of other models' probabilities."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferserve.bundle import Bundle, ModelBundle, ModelError, load_bundle, served_card
from ferserve.calibration import apply_power_scaling, apply_temperature
from ferserve.card import ModelCard


class EnsembleBundle:
    """Predicts with every member, one after the other, and averages; safe to share.

    Attributes:
        card: The ensemble's card.
        labels: Emotions in the order of the output's columns: those of the first member.
        provider: The execution provider of the first member.
    """

    def __init__(self, card: ModelCard, members: Mapping[str, ModelBundle]) -> None:
        """Checks that the members are those that the card was written for.

        Args:
            card: With ``members``.
            members: At least those, by name.

        Raises:
            ModelError: A member is another file, or the card contradicts itself.
        """
        parts = card.members or []
        for part in parts:
            if members[part.name].card.sha256 != part.sha256:
                command = "quantize" if card.precision == "int8" else "export"
                raise ModelError(
                    f"{card.name}.json was written for another {part.name}.onnx "
                    f"(sha256 {part.sha256}); make it anew: ferserve {command} {card.name}"
                )
        if card.sha256 != card.ensemble_sha256():
            raise ModelError(f"{card.name}.json: sha256 does not belong to its members")
        if not np.isclose(sum(part.weight for part in parts), 1, atol=1e-6):
            raise ModelError(f"{card.name}.json: the members' weights do not sum to 1")
        self.card = card
        self._members = [(part.weight, members[part.name]) for part in parts]
        first = self._members[0][1]
        self.labels, self.provider = first.labels, first.provider

    def predict(self, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the probabilities of the emotions of each face.

        Args:
            faces: uint8 ``[N, 48, 48]``, grey, N at least 1.

        Returns:
            float32 ``[N, 7]``; columns in the order of ``labels``, rows sum to 1.
        """
        mean = sum(
            weight * member.predict(faces)[:, [member.labels.index(name) for name in self.labels]]
            for weight, member in self._members
        )
        rows = apply_temperature(np.asarray(mean), self.card.temperature)
        scaling = self.card.power_scaling
        return apply_power_scaling(rows, scaling) if scaling else rows

    def warm_up(self) -> None:
        """Warms the members.

        Raises:
            ModelError: The answers of one are not probabilities.
        """
        for _, member in self._members:
            member.warm_up()


def load_bundles(folder: Path, names: Iterable[str], **options: Any) -> dict[str, Bundle]:
    """Loads models and ensembles, each file once.

    Args:
        folder: Where the files are.
        names: What to serve; members of an ensemble need not be among them.
        **options: As :func:`ferserve.bundle.load_bundle` takes them.

    Returns:
        By name, in the order given.

    Raises:
        ModelError: A file is missing, damaged or breaks the contract.
    """
    precision = options.get("precision", "float32")
    cards = {name: served_card(folder, name, precision) for name in names}
    plain = [
        *(name for name, card in cards.items() if not card.members),
        *(part.name for card in cards.values() for part in card.members or ()),
    ]
    models = {name: load_bundle(folder, name, **options) for name in dict.fromkeys(plain)}
    return {
        name: EnsembleBundle(card, models) if card.members else models[name]
        for name, card in cards.items()
    }
