# ruff: noqa: T201 - a script that talks to the person who runs it
"""Which way of running batches is fastest on a GPU: the answer to ``FERSERVE_BATCH_STRATEGY``.

Measures each model with each strategy (``ferserve.runtime.runners``), in float32, TF32 and float16,
by batch size, from one thread (latency) and from two (throughput, the next batch begun while one
runs); a batch size called *mixed* takes every size at random, as a service does. Then, where they
are asked for: accuracy on 1,000 test faces, Keras on the same device, and the service end to end.

    python bench/gpu.py --data fer2013.zip --keras --service resnet50v2
    python bench/gpu.py --resume …                      # goes on where it was broken off
    python bench/gpu.py --provider cpu --seconds 0.1    # a rehearsal without a GPU

Needs nothing but this repository, onnxruntime-gpu, onnx, pydantic and rich (matplotlib draws the
plot; Keras and what serves are needed for those parts only). What a combination shows is written at
once: ``bench/results/gpu.json`` on a GPU; on a CPU ``build/gpu/gpu.json``, labelled so. No
combination is begun after ``--minutes``. Ends with status 1 where the service missed its goal.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, get_args

import gpu_tables
from ferserve.runtime.options import Precision, Strategy
from gpu_machine import REPOSITORY, card, described
from gpu_parts import Bench
from gpu_results import Results


def main() -> None:
    """Measures what is left to measure."""
    options = parse_arguments()
    provider, why = choose_provider(options.provider)
    print(why)
    out = options.out or (REPOSITORY / ("build/gpu" if provider == "cpu" else "bench/results"))
    results = Results(out / "gpu.json", head(options, provider), resume=options.resume)
    with tempfile.TemporaryDirectory(prefix="gpu") as folder:
        bench = Bench(options, provider, results, Path(folder))
        try:
            bench.limits()
            bench.accuracy()
            bench.speed()
            bench.service()
            bench.keras()
        except KeyboardInterrupt:
            print("interrupted; go on with --resume", file=sys.stderr)
            sys.exit(130)
        finally:
            gpu_tables.show(results.document)
            draw(results.document, out / "gpu.png")
            print(results.path)
    sys.exit(0 if all(results.document["met"].values()) else 1)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])

    def names(text: str) -> list[str]:
        return [name for name in text.split(",") if name]

    def sizes(text: str) -> list[int]:
        return sorted(int(name) for name in names(text))

    add = parser.add_argument
    add("--provider", choices=("auto", "cpu", "cuda", "tensorrt"), default="auto")
    add("--models", type=names, default=["resnet50v2", "vgg16", "custom_cnn"])
    add("--models-dir", type=Path, default=REPOSITORY / "models")
    add("--batches", type=sizes, default=[1, 8, 32, 128])
    add("--strategies", type=names, default=["padded", "graphs", "dynamic", "sessions", "bound"])
    add("--precisions", type=names, default=["float32", "float16", "tf32"])
    add("--conv-layout", choices=("nchw", "nhwc"), default="nchw")
    add("--conv-search", choices=("exhaustive", "heuristic", "default"), default="exhaustive")
    add("--seconds", type=float, default=0.5, help="of each measurement")
    add("--minutes", type=float, default=7.0, help="no combination is begun after that")
    add("--data", type=Path, help="FER2013, for accuracy")
    add("--keras", action="store_true", help="compare with Keras on the same device")
    add("--service", type=names, default=[], help="models to drive through the service")
    add("--service-seconds", type=float, default=5.0)
    add("--resume", action="store_true", help="keep what the result file has")
    add("--out", type=Path, help="folder of gpu.json and gpu.png")
    options = parser.parse_args()
    for chosen, known in ((options.strategies, Strategy), (options.precisions, Precision)):
        if unknown := set(chosen) - set(get_args(known)):
            parser.error(f"{', '.join(unknown)}: not among {', '.join(get_args(known))}")
    for name in options.models:
        if not (options.models_dir / f"{name}.onnx").is_file():
            parser.error(f"{options.models_dir / name}.onnx is not there")
    return options


def choose_provider(asked: str) -> tuple[str, str]:
    """Returns the provider to measure, and why in words."""
    if asked != "auto":
        return asked, f"measuring {asked}, as asked"
    if card() is None:
        return "cpu", "no NVIDIA driver answers: measuring on the CPU, which says nothing of a GPU"
    return "cuda", f"measuring on {card()}"


def head(options: argparse.Namespace, provider: str) -> dict[str, Any]:
    """Returns what a result depends on."""
    on_cpu = provider == "cpu"
    return {
        "label": "measured on a CPU: no result of a GPU" if on_cpu else "measured on a GPU",
        **described(),
        "method": {
            "provider": provider,
            "batches": options.batches,
            "seconds": options.seconds,
            "conv_layout": options.conv_layout,
            "conv_search": options.conv_search,
        },
    }


def draw(document: dict[str, Any], path: Path) -> None:
    """Draws the result where matplotlib is installed."""
    try:
        from gpu_plot import figure
    except ImportError as error:
        print(f"no plot: {error.name} is not installed")
        return
    if any(one["cells"] for one in document["speed"]):
        figure(document).savefig(path, dpi=110)


if __name__ == "__main__":
    main()
