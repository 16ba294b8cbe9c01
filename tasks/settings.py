"""Where things are on this host: read from the environment (`REELFLOW_*`), never passed to core."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from tasks.core.cost import Prices
from tasks.core.s3 import S3Options


class Settings(BaseSettings):
    """`store` is REELFLOW_STORE, `prices.cpu_second` is REELFLOW_PRICES__CPU_SECOND, and so on."""

    model_config = SettingsConfigDict(env_prefix="REELFLOW_", env_nested_delimiter="__", extra="ignore")

    store: str = Field(
        "reelflow-store",
        description="Root of the store: a folder, file:///..., s3://bucket/prefix or s3-bucket/NAME of a Prefect block",
    )
    models_dir: Path | None = Field(None, description="Folder with model weights")
    cache_dir: Path = Field(
        Path("~/.cache/reelflow"), description="Per-host cache: sources, exports of models, objects read from S3"
    )
    cache_bytes: int = Field(50 * 2**30, ge=2**20, description="Bound of the source cache, in bytes")
    dask_address: str | None = Field(None, description="Scheduler of a running Dask cluster (tcp://host:8786)")
    workers: int | None = Field(
        None, ge=1, le=256, description="Worker processes of the local cluster; default by cores"
    )
    workers_min: int | None = Field(
        None, ge=0, le=256, description="Worker processes that stay when there is nothing to do; default: all of them"
    )
    preload_models: str = Field(
        "",
        description="Models that a GPU worker loads before its first task, as options (transcript.model=base.en "
        "detections.weights=yolo11n.pt); default: each when it is first used",
    )
    worker_wait_s: float = Field(5.0, ge=0, le=600, description="How long to wait for a worker that offers a resource")
    worker_lost_s: float = Field(
        300.0, ge=0, le=24 * 3600, description="How long a run waits for another worker when the last one is lost"
    )
    download: bool = Field(True, description="Allow model libraries to download weights that are named and missing")
    allowed_sources: str = Field(
        "",
        description="What runs of deployments may read, separated by spaces: s3://bucket/prefix, https://host/path, a "
        "folder, secret://NAME; default: the bucket of the store, or its folder and the folder `inbox` beside it",
    )
    allowed_stores: str = Field(
        "",
        description="Where runs of deployments may write, likewise; default: the bucket or folder of the store",
    )
    allow_private_hosts: bool = Field(False, description="Allow http(s) sources on private and loopback addresses")
    watch_token: SecretStr | None = Field(
        None, description="What stores that call the watcher's /events prove themselves with, 16 characters or more"
    )
    messages_token: SecretStr | None = Field(
        None, description="What the message server's /messages is signed with, 16 characters or more"
    )
    twilio_auth_token: SecretStr | None = Field(
        None, description="Auth token of the Twilio account whose messages /sms takes"
    )
    s3: S3Options = Field(S3Options(), description="How buckets are spoken to")
    object_cache_bytes: int = Field(
        10 * 2**30, ge=2**20, description="Bound of the cache of a bucket's artifacts, in bytes"
    )
    prices: Prices = Field(Prices(), description="Price table, US dollars")

    @property
    def cache(self) -> Path:
        return self.cache_dir.expanduser().resolve()

    @property
    def models(self) -> Path | None:
        return self.models_dir.expanduser().resolve() if self.models_dir else None


@lru_cache(maxsize=1)
def _load(environment: tuple[tuple[str, str], ...]) -> Settings:
    return Settings()


def settings() -> Settings:
    """The settings of this process; read again when a REELFLOW_ variable has changed."""
    return _load(tuple(sorted((k, v) for k, v in os.environ.items() if k.upper().startswith("REELFLOW_"))))
