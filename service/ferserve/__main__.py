"""``python -m ferserve``: the same as the command ``ferserve``."""

from ferserve.cli import app

app(prog_name="ferserve")
