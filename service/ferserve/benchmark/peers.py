"""What other systems reach on FER2013, to read an accuracy by."""

from typing import Literal, NamedTuple

Kind = Literal["reference", "measured", "published"]

KINDS: dict[Kind, str] = {
    "reference": "reference project, as published; on all test images, also used for early "
    "stopping",
    "measured": "measured by us through each package's own preprocessing",
    "published": "as published, chosen on the test images or with other data; not measured again",
}
"""How far to trust a figure."""


class Peer(NamedTuple):
    """Another system, and the share of the test images that it gets right, 0..1."""

    name: str
    accuracy: float
    kind: Kind


SPLITS = ("all", "public", "private", "leak_free")


def _shares(everything: float, private: float, leak_free: float) -> dict[str, float]:
    return {"all": everything, "private": private, "leak_free": leak_free}


_SYSTEMS: tuple[tuple[Kind, str, dict[str, float]], ...] = (
    ("reference", "Reference ResNet50V2", dict.fromkeys(SPLITS, 0.6080)),
    ("reference", "Reference Custom CNN", dict.fromkeys(SPLITS, 0.5552)),
    ("reference", "Reference VGG16", dict.fromkeys(SPLITS, 0.5500)),
    ("measured", "@vladmandic/human 3.3", _shares(0.6604, 0.6682, 0.6399)),
    ("measured", "fer 25.10", _shares(0.656, 0.6578, 0.639)),
    ("measured", "@vladmandic/face-api 1.7", _shares(0.5862, 0.5885, 0.5723)),
    ("measured", "facial-emotion-recognition 0.3", _shares(0.5155, 0.5210, 0.4826)),
    ("measured", "facex 1.1", {"all": 0.439, "private": 0.437}),
    ("published", "EmoNeXt-XL", {"private": 0.7612}),
    ("published", "LHC-Net", {"private": 0.7442}),
    ("published", "VGG (Khaireddin & Chen)", {"private": 0.7328}),
)

PEERS = {
    split: [Peer(name, shares[split], kind) for kind, name, shares in _SYSTEMS if split in shares]
    for split in SPLITS
}
"""By split. Nothing can be compared on other data, or on images that were trained on."""

PEOPLE = "People agree with FER2013’s labels about 65 ± 5 % of the time."
