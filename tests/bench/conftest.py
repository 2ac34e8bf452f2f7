"""The scripts in bench/ import each other by name, as Python lets a script."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
