"""The runtime: HTTP in, emotions out. No TensorFlow, no network, nothing written to disk."""
