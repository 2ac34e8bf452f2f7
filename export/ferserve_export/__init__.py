"""Export: Keras weights to ONNX files that keep the serving contract."""

from ferserve_training import TrainingError


class ExportError(TrainingError):
    """Exporting cannot be done as asked for; the message says what to do."""
