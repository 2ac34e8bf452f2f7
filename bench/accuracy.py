"""Accuracy of ferserve and its alternatives on FER2013's PrivateTest.

Each is sent the faces as they are, 48x48 pixels, so that only its network counts. It is right where
its most probable emotion is the label, or with ``--votes`` what most people chose.

    python bench/accuracy.py --data fer2013.zip --votes ferplus.csv
"""

from pathlib import Path

import numpy as np
from ferserve.fer2013.labels import EMOTIONS
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.scoring import score, score_votes
from ferserve.fer2013.votes import read_votes
from ferserve.serving import DEFAULT_MODEL
from load import command_line, encoded, free_port, running, write_result
from numpy.typing import NDArray
from peers.registry import FERSERVE, MODELS, PEERS, Peer
from PIL import Image


def main() -> None:
    parser = command_line(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="FER2013")
    parser.add_argument("--votes", type=Path, help="FER+")
    options = parser.parse_args()
    dataset = read_fer2013(options.data)
    faces = dataset.private
    found = {}
    for peer in (FERSERVE, *(peer for peer in PEERS if peer.finds_faces)):
        probabilities = rate(peer, faces.faces)
        found[peer.name] = {"n": len(faces), "labels": score(probabilities, faces.labels).accuracy}
        if options.votes:
            counts = read_votes(options.votes, dataset).of(faces)
            found[peer.name]["votes"] = score_votes(probabilities, counts)[0].accuracy
    write_result("accuracy", {"services": found}, options.out)


def rate(peer: Peer, faces: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns a service's probabilities of faces ``[N, 48, 48]``: float32 ``[N, 7]``."""
    port, model = free_port(), MODELS / f"{DEFAULT_MODEL}.onnx"
    command, variables = peer.command_line(peer.install(), port), peer.variables(model, port, 1)
    rows = []
    with running(command, port, peer.ready, variables) as service:
        for face in faces:
            data, headers = encoded(Image.fromarray(face), "PNG"), {"Content-Type": "image/png"}
            answer = service.client.post(peer.path, content=data, headers=headers)
            scores = peer.read(answer.raise_for_status().json())
            rows.append([scores[name] for name in EMOTIONS])
    return np.array(rows, np.float32)


if __name__ == "__main__":
    main()
