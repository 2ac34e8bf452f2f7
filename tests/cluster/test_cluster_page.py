"""What the settings of the cluster make of those of a replica."""

import pytest
from ferserve.settings import ClusterSettings, Settings
from pydantic import ValidationError


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
