"""What other systems reach on FER2013, to read an accuracy by."""

from typing import Literal, NamedTuple

Kind = Literal["reference", "measured", "published"]

KINDS: dict[Kind, str] = {
    "reference": "reference project, as published; on all test images, on which its training "
    "was stopped",
    "measured": "measured by us through each package's own preprocessing",
    "published": "as published, chosen on the test images or with other data; not measured again",
}
"""How far to trust a figure."""


class Peer(NamedTuple):
    """Another system, and the share of the test images that it gets right, 0..1."""

    name: str
    accuracy: float
    kind: Kind


_REFERENCE = {"ResNet50V2": 0.6080, "Custom CNN": 0.5552, "VGG16": 0.5500}

_MEASURED = {
    "@vladmandic/human 3.3": {"all": 0.6604, "private": 0.6682, "leak_free": 0.6399},
    "fer 25.10": {"all": 0.656, "private": 0.657, "leak_free": 0.639},
    "@vladmandic/face-api 1.7": {"all": 0.5862, "private": 0.5885, "leak_free": 0.5723},
    "facial-emotion-recognition 0.3": {"all": 0.5155, "private": 0.5210, "leak_free": 0.4826},
    "facex 1.1": {"all": 0.439, "private": 0.437},
}

_PUBLISHED = {"EmoNeXt-XL": 0.7612, "LHC-Net": 0.7442, "VGG (Khaireddin & Chen)": 0.7328}

PEERS: dict[str, tuple[Peer, ...]] = {
    split: (
        *(Peer(f"Reference {name}", share, "reference") for name, share in _REFERENCE.items()),
        *(
            Peer(name, shares[split], "measured")
            for name, shares in _MEASURED.items()
            if split in shares
        ),
        *(
            Peer(name, share, "published")
            for name, share in _PUBLISHED.items()
            if split == "private"
        ),
    )
    for split in ("all", "public", "private", "leak_free")
}
"""By split. Nothing can be compared on other data, or on images that were trained on."""

PEOPLE = "People agree with FER2013’s labels about 65 ± 5 % of the time."
