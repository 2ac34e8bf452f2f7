from pathlib import Path

import pytest
from ferserve.settings import Settings, installed_models, unknown_variables, usable_cpus
from PIL import Image
from pydantic import ValidationError


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith("FERSERVE_")]:
        monkeypatch.delenv(name)


def test_without_an_environment_the_models_of_the_checkout_are_served():
    settings = Settings()
    assert settings.models_dir == installed_models()
    assert Path(__file__).resolve().parents[2] / "models" == installed_models()
    assert settings.max_wait_ms == 0
    assert settings.provider == "auto"


def test_the_environment_sets_fields_by_prefix(monkeypatch):
    monkeypatch.setenv("FERSERVE_MODELS", "custom_cnn, vgg16")
    monkeypatch.setenv("FERSERVE_DEFAULT_MODEL", "vgg16")
    monkeypatch.setenv("FERSERVE_PORT", "9000")
    monkeypatch.setenv("FERSERVE_MAX_BATCH", "8")
    settings = Settings()
    assert settings.models == ("custom_cnn", "vgg16")
    assert settings.default_model == "vgg16"
    assert settings.port == 9000
    assert settings.max_batch == 8


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("FERSERVE_DEFAULT_MODEL", "")
    monkeypatch.setenv("FERSERVE_MAX_BATCH", "")
    assert Settings().default_model is None
    assert Settings().max_batch == 32


def test_variables_that_are_no_settings_are_named(monkeypatch):
    known = ("PORT", "CLUSTER_REPLICA_CPUS", "API_KEY", "PEERS", "URL")
    for name in [f"FERSERVE_{name}" for name in known] + ["ferserve_host", "HOME"]:
        monkeypatch.setenv(name, "x")
    assert unknown_variables() == []
    monkeypatch.setenv("FERSERVE_STREAM_MAX_FPS", "30")
    monkeypatch.setenv("FERSERVE_APIKEYS", "x")
    assert unknown_variables() == ["FERSERVE_APIKEYS", "FERSERVE_STREAM_MAX_FPS"]


def test_an_argument_comes_before_the_environment(monkeypatch):
    monkeypatch.setenv("FERSERVE_PORT", "9000")
    assert Settings(port=9001).port == 9001


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PROVIDER", "tpu"),
        ("MAX_BATCH", "0"),
        ("MAX_WAIT_MS", "-1"),
        ("PORT", "70000"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_a_wrong_value_is_refused_by_name(monkeypatch, name, value):
    monkeypatch.setenv(f"FERSERVE_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()


def test_a_queue_shorter_than_one_images_faces_is_refused():
    with pytest.raises(ValidationError, match="max_queue"):
        Settings(max_queue=4, max_faces=5)


def test_a_default_model_that_is_not_served_is_refused():
    with pytest.raises(ValidationError, match="vgg16"):
        Settings(models=("custom_cnn",), default_model="vgg16")


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("garbage", None)],
)
def test_a_containers_quota_limits_the_processors(monkeypatch, tmp_path, cpu_max, expected):
    import ferserve.settings

    monkeypatch.setattr(ferserve.settings, "_CGROUP_CPU_MAX", tmp_path / "none")
    all_of_them = usable_cpus()
    (tmp_path / "cpu.max").write_text(cpu_max)
    monkeypatch.setattr(ferserve.settings, "_CGROUP_CPU_MAX", tmp_path / "cpu.max")
    assert usable_cpus() == (expected or all_of_them)


def test_a_data_set_that_is_not_there_is_told_at_the_start(tmp_path):
    with pytest.raises(ValidationError, match="no such file or folder"):
        Settings(dataset=tmp_path / "fer2013.zip")
    assert Settings(dataset=tmp_path).dataset == tmp_path


@pytest.mark.parametrize(
    ("limit", "times"),
    [("max_upload_bytes", 1), ("max_batch_upload_bytes", 1), ("benchmark_max_upload_bytes", 2)],
)
def test_one_upload_must_fit_into_the_memory_for_all(limit, times):
    bytes_of_all = Settings().upload_memory_bytes
    Settings(**{limit: bytes_of_all // times})
    with pytest.raises(ValidationError, match=f"upload_memory_bytes must be at least .*{limit}"):
        Settings(**{limit: bytes_of_all // times + 1})


def test_origins_are_written_as_browsers_write_them():
    settings = Settings(cors_origins="https://App.Example/, http://x:80,https://müller.example:443")
    assert settings.cors_origins == (
        "https://app.example", "http://x", "https://xn--mller-kva.example",
    )  # fmt: skip
    assert Settings(cors_origins="*").cors_origins == ("*",)
    assert Settings(cors_origins="http://localhost:3000").cors_origins == ("http://localhost:3000",)


@pytest.mark.parametrize(
    "origin",
    ["app.example", "localhost:3000", "https://app.example/page", "https://app.example?x",
     "https://me@app.example", "https://*.example", "https:app.example", "https://", "null"],
)  # fmt: skip
def test_what_is_no_origin_is_refused_at_the_start(origin):
    with pytest.raises(ValidationError, match="is not an origin"):
        Settings(cors_origins=origin)


def test_a_root_path_is_a_path():
    assert Settings().root_path == ""
    assert Settings(root_path="/face/").root_path == "/face"
    assert Settings(root_path="/a/b").root_path == "/a/b"
    for wrong in ("face", "https://x/face", "/face?x", "//x"):
        with pytest.raises(ValidationError, match="is not a path"):
            Settings(root_path=wrong)


def test_more_pixels_than_pillow_takes_are_refused_at_the_start():
    most = 2 * Image.MAX_IMAGE_PIXELS
    assert Settings(max_pixels=most).max_pixels == most
    with pytest.raises(ValidationError, match="max_pixels"):
        Settings(max_pixels=most + 1)
