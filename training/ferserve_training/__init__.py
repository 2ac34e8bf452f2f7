"""Training: backend-free Keras 3 on FER2013."""


class TrainingError(Exception):
    """Training or measuring cannot be done as asked for; the message says what to do."""
