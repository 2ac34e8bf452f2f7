"""Export: Keras weights to ONNX files that keep the serving contract."""
