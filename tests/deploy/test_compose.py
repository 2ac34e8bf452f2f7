"""``docker-compose.yml`` against the compose specification, and against what we promise of it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from ferserve.api.server import NOTICE_SECONDS
from ferserve.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
COMPOSE = REPOSITORY / "docker-compose.yml"
CHECK = [
    sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
]  # fmt: skip


def interpolate(text: str, **variables: str) -> str:
    """Fills in ``${NAME:-default}`` and ``${NAME:+replacement}`` as compose does."""

    def value(found: re.Match[str]) -> str:
        name, sign, word = found.groups()
        if sign == ":+":
            return word if variables.get(name) else ""
        return variables.get(name) or word

    return re.sub(r"\$\{(\w+)(:[-+])([^}]*)\}", value, text)


def read(**variables: str) -> dict:
    return yaml.safe_load(interpolate(COMPOSE.read_text(), **variables))


SERVICES = read()["services"]
OURS = ("ferserve", "gpu")


def test_it_meets_the_specification():
    checked = subprocess.run([*CHECK, COMPOSE], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_the_specification_is_really_looked_at(tmp_path):
    wrong = tmp_path / "docker-compose.yml"
    wrong.write_text(COMPOSE.read_text().replace("read_only:", "readonly:"))
    assert subprocess.run([*CHECK, wrong], capture_output=True).returncode == 1


def test_without_a_profile_only_the_cpu_service_runs():
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["ferserve"]
    assert SERVICES["ferserve"]["ports"] == ["127.0.0.1:8000:8000"]
    assert {
        profile for service in SERVICES.values() for profile in service.get("profiles", [])
    } == {
        "gpu",
        "observability",
        "train",
    }


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_locked_up_and_limited(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert "cap_add" not in service
    assert not service.get("privileged")


def test_nothing_is_open_to_the_network_unless_asked_for():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert read(BIND="0.0.0.0")["services"]["ferserve"]["ports"] == ["0.0.0.0:8000:8000"]


def test_the_gpu_service_has_a_gpu_and_never_falls_back_to_the_cpu():
    service = SERVICES["gpu"]
    assert service["environment"]["FERSERVE_PROVIDER"] == "cuda"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia"
    assert device["capabilities"] == ["gpu"]


def test_both_services_fit_on_one_machine():
    assert not set(SERVICES["gpu"]["ports"]) & set(SERVICES["ferserve"]["ports"])


@pytest.mark.parametrize("name", OURS)
def test_settings_come_from_the_env_file_and_what_the_container_fixes_is_one(name):
    assert SERVICES[name]["env_file"] == [{"path": ".env", "required": False}]
    given = {key.removeprefix("FERSERVE_").lower() for key in SERVICES[name]["environment"]}
    assert given <= set(Settings.model_fields)


@pytest.mark.parametrize("name", [*OURS, "train"])
def test_the_data_set_and_its_votes_are_read_only(name):
    service = read(FER2013="/somewhere/fer2013.zip", FERPLUS="/somewhere/new.csv")["services"][name]
    mounts = [volume for volume in service["volumes"] if isinstance(volume, dict)]
    assert [one["source"] for one in mounts] == ["/somewhere/fer2013.zip", "/somewhere/new.csv"]
    assert all(mount["read_only"] is True for mount in mounts)
    data, votes = (mount["target"] for mount in mounts)
    if name in OURS:
        settings = service["environment"]
        assert [settings[f"FERSERVE_{key}"] for key in ("DATASET", "VOTES")] == [data, votes]
    else:
        assert f"--data {data} --votes {votes}" in service["command"]


@pytest.mark.parametrize("name", OURS)
def test_it_starts_without_a_data_set(name, monkeypatch):
    service = SERVICES[name]
    assert all(Path(mount["source"]).exists() for mount in service["volumes"])
    for key in ("FERSERVE_DATASET", "FERSERVE_VOTES"):
        monkeypatch.setenv(key, service["environment"][key])
    assert (Settings().dataset, Settings().votes) == (None, None)
    assert "--votes" not in SERVICES["train"]["command"]


@pytest.mark.parametrize("name", OURS)
def test_there_is_time_to_answer_what_was_accepted(name):
    seconds = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
    assert seconds > NOTICE_SECONDS + 2 * Settings.model_fields["drain_seconds"].default


def test_the_training_writes_to_its_volume_only():
    service = SERVICES["train"]
    assert "runs:/runs" in service["volumes"]
    words = service["command"].split()
    assert Path(words[words.index("--out") + 1]).parent == Path("/runs")


def test_every_target_is_one_of_the_dockerfile():
    stages = re.findall(r"^FROM \S+ AS (\S+)", (REPOSITORY / "Dockerfile").read_text(), re.M)
    targets = {service["build"]["target"] for service in SERVICES.values() if "build" in service}
    assert targets == {"cpu", "gpu", "train"}
    assert targets <= set(stages)


def test_every_file_and_volume_is_there():
    document = read()
    for service in document["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("."):
                assert (REPOSITORY / source).exists(), source
            elif not source.startswith("/"):
                assert source in document["volumes"]
        assert set(service.get("secrets", [])) <= set(document["secrets"])


def test_the_images_name_a_version():
    for service in SERVICES.values():
        _, _, tag = service["image"].partition(":")
        assert tag not in ("", "latest")


def test_the_docs_name_every_variable():
    page = (REPOSITORY / "docs" / "deployment.md").read_text()
    for name in set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())):
        assert f"`{name}`" in page


def test_the_base_image_is_the_same_as_the_dockerfiles():
    base = re.search(r"^ARG BASE_IMAGE=(\S+)", (REPOSITORY / "Dockerfile").read_text(), re.M)
    assert SERVICES["ferserve"]["build"]["args"]["BASE_IMAGE"] == base[1]


def test_the_project_needs_no_newer_python_than_the_base():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    base = SERVICES["ferserve"]["build"]["args"]["BASE_IMAGE"]
    version = re.search(r"python:3\.(\d+)", base)
    assert int(version[1]) >= int(project["requires-python"].rpartition(".")[2])
