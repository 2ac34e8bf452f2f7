"""Faces a second of each model on the GPU, by batch size: as it comes, and padded.

    python bench/gpu.py models/light.onnx models/resnet50v2.onnx
    python bench/gpu.py --provider cpu --seconds 0.1 --out /tmp/try models/light.onnx  # a rehearsal

Two threads run batches, so that the next is begun while one runs, as the service does. *Mixed*
takes every size at random. ``ferserve quantize MODEL --to float16`` makes a file to compare with.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ferserve.models import INPUT, OUTPUT, Faces, Scores, padded, padded_sizes
from ferserve.sessions import Runtime, open_session
from load import command_line, write_result

THREADS = 2
LARGEST = 32
SIZES = padded_sizes(LARGEST)

Run = Callable[[Faces], Scores]


def main() -> None:
    parser = command_line(__doc__, seconds=3.0)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--provider", choices=("cuda", "tensorrt", "cpu"), default="cuda")
    options = parser.parse_args()
    rows = []
    for path in options.models:
        session, _ = open_session(path.read_bytes(), path.name, Runtime(options.provider))

        def dynamic(faces: Faces, session=session) -> Scores:
            return session.run([OUTPUT], {INPUT: faces})[0]

        for way, run in {"dynamic": dynamic, "padded": padded(dynamic, SIZES)}.items():
            rates = {size: rate(run, [size], options.seconds) for size in SIZES}
            mixed = rate(run, range(1, LARGEST + 1), options.seconds)
            rows.append({"model": path.stem, "way": way, "faces_per_second": rates, "mixed": mixed})
    write_result("gpu", {"provider": options.provider, "rows": rows}, options.out)


def rate(run: Run, sizes: Sequence[int], seconds: float) -> float:
    """Returns the faces a second of batches of these sizes, drawn at random."""
    random = np.random.default_rng(0)
    batches = [random.integers(0, 256, (size, 48, 48), np.uint8) for size in sizes]
    for batch in batches:  # a session plans every size once
        run(batch)
    end = time.perf_counter() + seconds

    def loop(seed: int) -> int:
        order, faces = np.random.default_rng(seed), 0
        while time.perf_counter() < end:
            batch = batches[order.integers(len(batches))]
            run(batch)
            faces += len(batch)
        return faces

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(loop, range(THREADS))) / seconds


if __name__ == "__main__":
    main()
