"""What exporting raises; imports nothing heavy, as its base does."""

from ferserve_training.errors import TrainingError


class ExportError(TrainingError):
    """Exporting cannot be done as asked for; the message says what to do."""
