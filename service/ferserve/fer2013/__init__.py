"""FER2013: labels, reader and scoring, shared by training, export and service."""
