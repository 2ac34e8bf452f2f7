"""Settings of the cluster, read from variables with the prefix ``FERSERVE_CLUSTER_``."""

from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from ferserve.settings import Settings


class ClusterSettings(BaseSettings):
    """How many replicas run, and on what; field ``x`` is the variable ``FERSERVE_CLUSTER_X``.

    Processors and GPUs are what Ray keeps account of when it places replicas; a fraction lets
    several share one.

    Attributes:
        address: Of a running Ray cluster, ``auto`` for the one that this machine belongs to; unset
            means that ``ferserve serve --engine ray`` starts Ray on this machine.
        min_replicas: Fewest replicas a model.
        max_replicas: Most replicas a model.
        target_requests: Requests under way or waiting, a replica, that autoscaling aims at.
        replica_cpus: Processors a model's replica; as many workers, at least one, run in it.
        replica_gpus: GPUs a model's replica; 0 computes on the processor.
        min_ingresses: Fewest replicas of the ingress.
        max_ingresses: Most replicas of the ingress.
        ingress_cpus: Processors a replica of the ingress.
    """

    model_config = SettingsConfigDict(
        env_prefix="FERSERVE_CLUSTER_", env_ignore_empty=True, frozen=True
    )

    address: str | None = None
    min_replicas: int = Field(default=1, ge=1)
    max_replicas: int = Field(default=1, ge=1)
    target_requests: float = Field(default=8, gt=0)
    replica_cpus: float = Field(default=1, gt=0)
    replica_gpus: float = Field(default=0, ge=0)
    min_ingresses: int = Field(default=1, ge=1)
    max_ingresses: int = Field(default=1, ge=1)
    ingress_cpus: float = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for least, most in (("min_replicas", "max_replicas"), ("min_ingresses", "max_ingresses")):
            if getattr(self, least) > getattr(self, most):
                raise ValueError(f"{least} is above {most}")
        return self

    def of_replica(self, settings: Settings, name: str) -> Settings:
        """Returns the settings of a replica of one model.

        Raises:
            ValueError: A GPU's provider is asked for, but no share of a GPU.
        """
        provider = settings.provider
        if provider in ("cuda", "tensorrt") and not self.replica_gpus:
            raise ValueError(f"provider={provider} needs FERSERVE_CLUSTER_REPLICA_GPUS above 0")
        if provider == "auto":
            provider = "cuda" if self.replica_gpus else "cpu"
        workers = settings.inference_workers
        if workers is None and provider == "cpu":
            workers = max(1, round(self.replica_cpus))
        return settings.model_copy(
            update={
                "models": (name,),
                "default_model": name,
                "provider": provider,
                "device_id": 0,  # Ray shows a replica only the GPUs it was given
                "inference_workers": workers,
            }
        )
