"""What other systems reach on FER2013, to read an accuracy by."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["reference", "measured", "published"]

KINDS: dict[Kind, str] = {
    "reference": "reference project, as published; on all test images, on which its training "
    "was stopped",
    "measured": "measured by us through each package's own preprocessing",
    "published": "as published, chosen on the test images or with other data; not measured again",
}
"""How far to trust a figure."""


@dataclass(frozen=True)
class Peer:
    """Another system's accuracy.

    Attributes:
        accuracy: Share of the test images it gets right, 0..1.
    """

    name: str
    accuracy: float
    kind: Kind


REFERENCE = (
    Peer("Reference ResNet50V2", 0.6080, "reference"),
    Peer("Reference Custom CNN", 0.5552, "reference"),
    Peer("Reference VGG16", 0.5500, "reference"),
)

PEERS: dict[str, tuple[Peer, ...]] = {
    "all": (
        *REFERENCE,
        Peer("@vladmandic/human 3.3", 0.6604, "measured"),
        Peer("fer 25.10", 0.656, "measured"),
        Peer("@vladmandic/face-api 1.7", 0.5862, "measured"),
        Peer("facial-emotion-recognition 0.3", 0.5155, "measured"),
        Peer("facex 1.1", 0.439, "measured"),
    ),
    "public": REFERENCE,
    "private": (
        *REFERENCE,
        Peer("@vladmandic/human 3.3", 0.6682, "measured"),
        Peer("fer 25.10", 0.657, "measured"),
        Peer("@vladmandic/face-api 1.7", 0.5885, "measured"),
        Peer("facial-emotion-recognition 0.3", 0.5210, "measured"),
        Peer("facex 1.1", 0.437, "measured"),
        Peer("EmoNeXt-XL", 0.7612, "published"),
        Peer("LHC-Net", 0.7442, "published"),
        Peer("VGG (Khaireddin & Chen)", 0.7328, "published"),
    ),
    "leak_free": (
        *REFERENCE,
        Peer("@vladmandic/human 3.3", 0.6399, "measured"),
        Peer("fer 25.10", 0.639, "measured"),
        Peer("@vladmandic/face-api 1.7", 0.5723, "measured"),
        Peer("facial-emotion-recognition 0.3", 0.4826, "measured"),
    ),
}
"""By split. Nothing can be compared on other data, or on images that were trained on."""

PEOPLE = "People agree with FER2013’s labels about 65 ± 5 % of the time."
