"""The page of the cluster names every setting, with its default."""

import re
from pathlib import Path

import pytest
from ferserve.settings import ClusterSettings, Settings
from pydantic import ValidationError

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "cluster.md").read_text()


def test_every_setting_stands_on_the_page_with_its_default():
    stated: dict[str, str] = {}
    for names, values in re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([^|]+) \|", PAGE, re.M):
        stated |= dict(zip(re.findall(r"`(\w+)`", names), values.split(", "), strict=True))
    fields = ClusterSettings.model_fields
    assert set(stated) == {name.upper() for name in fields}
    for name, value in stated.items():
        default = fields[name.lower()].default
        assert value == ("none" if default is None else str(default)), name


@pytest.mark.parametrize(
    ("cluster", "settings", "replica"),
    [
        ({}, {}, {"provider": "cpu", "inference_workers": 1}),
        ({"replica_cpus": 4}, {}, {"provider": "cpu", "inference_workers": 4}),
        ({"replica_cpus": 0.2}, {}, {"provider": "cpu", "inference_workers": 1}),
        ({"replica_gpus": 0.25}, {}, {"provider": "cuda", "inference_workers": None}),
        (
            {"replica_gpus": 1},
            {"provider_options": {"device_id": 3, "use_tf32": 1}},
            {"provider": "cuda", "provider_options": {"use_tf32": 1}},
        ),
        ({"replica_gpus": 1}, {"provider": "cpu"}, {"provider": "cpu"}),
        ({}, {"inference_workers": 2}, {"inference_workers": 2}),
    ],
)
def test_a_replica_computes_on_what_it_reserves(cluster, settings, replica):
    chosen = ClusterSettings(**cluster).for_replica(Settings(**settings))
    assert {name: getattr(chosen, name) for name in replica} == replica


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="REPLICA_GPUS"):
        ClusterSettings().for_replica(Settings(provider="cuda"))
    with pytest.raises(ValidationError, match="min_replicas is above max_replicas"):
        ClusterSettings(min_replicas=2)
