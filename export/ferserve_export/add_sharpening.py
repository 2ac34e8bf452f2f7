"""Puts the sharpening in front of a released model: ``add_sharpening.py NAME VERSION DATA VOTES``.

Its weights and its calibration stay as they are; its figures are measured anew.
"""

import json
import sys
from pathlib import Path

import onnx
import tensorflow as tf
import tf2onnx
from ferserve.card import ModelCard
from ferserve.fer2013.reader import read_fer2013
from ferserve.fer2013.votes import read_votes
from ferserve_training.evaluate import evaluate, open_onnx, remembering
from ferserve_training.evaluation_page import write_report
from onnx import compose

from ferserve_export.card import write_model
from ferserve_export.convert import OPSET
from ferserve_export.sharpen import sharpened

MEASURED = {"metrics", "votes", "sha256", "robustness", "labels", "input", "output", "licences"}


def main(name: str, version: str, data: str, votes: str) -> None:
    """Rewrites ``models/NAME.onnx``, its card and its report."""
    models = Path("models")
    signature = [tf.TensorSpec((None, 48, 48), tf.uint8, name="faces")]
    function = tf.function(lambda faces: {"sharp": sharpened(faces)}, input_signature=signature)
    first, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    second = onnx.load(models / f"{name}.onnx")
    first.ir_version = second.ir_version
    del second.metadata_props[:], first.metadata_props[:]
    del first.opset_import[:]
    first.opset_import.extend(second.opset_import)
    second = compose.add_prefix(
        second,
        "network_",
        rename_nodes=False,
        rename_edges=False,
        rename_initializers=False,
        rename_value_infos=False,
        rename_functions=False,
        rename_inputs=True,
        rename_outputs=False,
    )
    first = compose.add_prefix(first, "sharpening_", rename_inputs=False, rename_outputs=False)
    model = compose.merge_models(first, second, io_map=[("sharp", "network_faces")])
    del model.opset_import[:]  # merging has each twice
    model.opset_import.extend(second.opset_import)
    model.producer_name, model.graph.name = second.producer_name, second.graph.name
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.checker.check_model(model)
    dataset = read_fer2013(Path(data))
    predict = remembering(open_onnx(model.SerializeToString()))
    people = read_votes(Path(votes), dataset)
    report = evaluate(predict, dataset, train_faces=3000, votes=people)
    old = json.loads(ModelCard.read(models / f"{name}.json").model_dump_json(exclude_none=True))
    card = {key: value for key, value in old.items() if key not in MEASURED}
    card |= {"version": version, "sharpening": True, "licences": old["licences"]}
    write_model(model, models, card, report)
    write_report(name, report, Path("docs/results"), Path("runs/none.csv"))


main(*sys.argv[1:5])
