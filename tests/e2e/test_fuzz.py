"""Requests drawn from the API's own description, as ``make fuzz`` sends them, but fewer."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


def test_every_answer_to_drawn_requests_is_as_described(
    start_server, standin_models, small_zip, tmp_path
):
    settings = {"models_dir": standin_models, "default_model": "first", "dataset": small_zip}
    with start_server(tmp_path / "log", models="", **settings) as server:
        command = [SCHEMATHESIS, "--config-file", "tests/fuzz/schemathesis.toml", "run"]
        command += [f"{server.base_url}/openapi.json", "--max-examples", "5", "--seed", "1"]
        found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
