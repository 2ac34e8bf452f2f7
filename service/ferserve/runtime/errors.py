"""What all that loads models raises."""


class ModelError(RuntimeError):
    """A model cannot be served; the message says which file, and why."""
