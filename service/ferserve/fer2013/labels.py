"""The seven emotions of FER2013, in the data set's own order."""

EMOTIONS: tuple[str, ...] = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Index = label in ``fer2013.csv``. Directory loaders sort by name and get this order wrong."""

FACE_SIDE = 48
"""Width and height of every FER2013 image, in pixels."""
