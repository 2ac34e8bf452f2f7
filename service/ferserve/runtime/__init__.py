"""ONNX Runtime: where a model computes, how exactly, and the ways of running a batch."""
