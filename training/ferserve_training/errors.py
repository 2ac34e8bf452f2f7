"""What training raises; imports nothing, so that commands can name it before Keras is loaded."""


class TrainingError(Exception):
    """Training or measuring cannot be done as asked for; the message says what to do."""
