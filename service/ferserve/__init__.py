"""The runtime: HTTP in, emotions out. No TensorFlow, no network, nothing written to disk."""

import os

# ONNX Runtime, from 1.29 on, would else keep a device id and a database below ~/.cache and report
# to its maker over the network. It reads this once, when it is first imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
