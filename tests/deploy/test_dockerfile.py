"""The Dockerfile: by a linter, and that it takes all that the package consists of."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"
TEXT = DOCKERFILE.read_text().replace("\\\n", " ")
STAGES = dict(
    zip(
        re.findall(r"^FROM \S+ AS (\S+)", TEXT, re.M),
        re.split(r"^FROM .*$", TEXT, flags=re.M)[1:],
        strict=True,
    )
)


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("hadolint")
    return subprocess.run([program, "--no-color", path], capture_output=True, text=True)


def test_the_linter_has_nothing_to_say():
    linted = hadolint(DOCKERFILE)
    assert linted.returncode == 0, linted.stdout


def test_the_linter_would_say_something(tmp_path):
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM debian\nRUN cd /src && pip install ferserve\n")
    assert "DL3006" in hadolint(wrong).stdout


def test_the_default_is_the_cpu_image():
    assert re.findall(r"^FROM (\S+) AS", TEXT, re.M)[-1] == "cpu"
    assert not STAGES[list(STAGES)[-1]].strip()


@pytest.mark.parametrize("stage", ["runtime", "cpu", "gpu", "train"])
def test_nothing_is_installed_where_it_runs(stage):
    assert not re.search(r"\b(pip|apt|apt-get)\b", STAGES[stage])
    copied = re.findall(r"^COPY (.*)$", STAGES[stage], re.M)
    assert copied
    assert all(words.startswith("--from=build") for words in copied)


@pytest.mark.parametrize("stage", ["runtime", "train"])
def test_it_ends_as_a_user_without_rights(stage):
    user = re.findall(r"^USER (\S+)", STAGES[stage], re.M)[-1]
    assert all(int(number) >= 1000 for number in user.split(":"))


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_tensorflow_is_only_in_the_image_that_trains(name):
    assert re.search(rf"'\.\[{name}\]'", STAGES[f"build-{name}"])
    assert "train" in STAGES["build-train"]


def test_every_package_is_copied_and_let_through():
    found = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    included = found["tool"]["hatch"]["build"]["targets"]["wheel"]["include"]
    let_through = (REPOSITORY / ".dockerignore").read_text().splitlines()
    for name in {Path(path).parts[1] for path in included}:
        assert re.search(rf"^COPY {name} ", STAGES["build"], re.M), name
        assert f"!{name}" in let_through


def test_nothing_else_reaches_the_build():
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    assert lines[0] == "*"
    for name in ("tests", "bench", "runs", "data", ".git"):
        assert f"!{name}" not in lines


def test_no_cache_and_no_secret_stays():
    installs = re.findall(r"^RUN (.*pip .*install.*)$", TEXT, re.M)
    assert len(installs) == 3
    for install in installs:
        assert "--no-cache-dir" in install
        assert "-c constraints.txt" in install
        assert "--mount=type=secret,id=pip.conf" in install


def test_the_label_names_the_packages_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^ARG VERSION=(\S+)", TEXT, re.M) == [project["version"]]


def test_the_health_check_is_a_program():
    (command,) = re.findall(r"^HEALTHCHECK .* CMD\s+\[(.*)\]$", STAGES["runtime"], re.M)
    program = command.split('"')[-2]
    compile(program, "HEALTHCHECK", "exec")
    assert "/readyz" in program
