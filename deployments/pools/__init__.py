"""Work pools: the worker's own job template with the defaults of `deployments/pools/NAME.yaml` in it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.workers.base import BaseWorker
from pydantic import BaseModel, ConfigDict

from flows.runtime.dask_security import tls_environment
from tasks.core.errors import SetupError

FOLDER = Path(__file__).resolve().parent
KINDS = ("process", "docker", "kubernetes", "ecs")

PASSED_ON = (
    "REELFLOW_STORE",
    "REELFLOW_DASK_ADDRESS",
    "REELFLOW_ALLOWED_SOURCES",
    "REELFLOW_ALLOWED_STORES",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
)
"""What flow runs in containers get from the environment of `apply`. Nothing secret: whoever can see the server
can read job templates. Processes have their worker's environment."""

TLS = tuple(tls_environment(Path("/")))
"""Where they find the certificate of the Dask cluster in their containers; in Kubernetes a ConfigMap says it."""

Kind = Literal["process", "docker", "kubernetes", "ecs"]


class Pool(BaseModel):
    """A file of this folder."""

    model_config = ConfigDict(extra="forbid")

    type: Kind
    description: str
    concurrency_limit: int
    variables: dict[str, Any]
    """Defaults of the worker's variables."""
    from_environment: dict[str, str] = {}
    """Variables whose default the environment of `apply` may say."""
    required: list[str] = []
    """Those of them without which no run could start."""
    env: dict[str, str] = {}
    """Environment of the flow runs."""
    job: dict[str, Any] = {}
    """Merged into the worker's job configuration."""


def pool_name(kind: str) -> str:
    return f"reelflow-{kind}"


def pool(kind: str, environment: Mapping[str, str] = os.environ) -> WorkPoolCreate:
    """A work pool as `apply` makes it. Raises SetupError when our file does not fit the worker's template."""
    ours = Pool.model_validate(yaml.safe_load((FOLDER / f"{kind}.yaml").read_text("utf-8")))
    template = worker_template(ours.type)
    properties = template["variables"]["properties"]
    passed_on = {"process": (), "kubernetes": PASSED_ON}.get(kind, (*PASSED_ON, *TLS))
    env = ours.env | {name: environment[name] for name in passed_on if environment.get(name)}
    if held := [name for name, value in env.items() if "\n" in value]:
        raise SetupError(f"{held[0]} holds a key itself, which everybody who sees the server could read: name a file.")
    stated = {
        name: environment[variable] for name, variable in ours.from_environment.items() if environment.get(variable)
    }
    if missing := [ours.from_environment[name] for name in ours.required if name not in stated]:
        raise SetupError(f"The {kind} pool needs {' and '.join(missing)}; see deployments/pools/{kind}.yaml.")
    for name, value in {**ours.variables, **stated, "env": env}.items():
        if name not in properties:
            raise SetupError(
                f"{kind}.yaml sets {name!r}, which the {kind} worker does not have; it has {', '.join(properties)}."
            )
        wanted = properties[name].get("type") or next(
            t["type"] for t in properties[name]["anyOf"] if t.get("type") != "null"
        )
        properties[name]["default"] = [value] if wanted == "array" and not isinstance(value, list) else value
    template["job_configuration"] = _merged(template["job_configuration"], ours.job)
    return WorkPoolCreate(
        name=pool_name(kind),
        type=ours.type,
        description=ours.description,
        base_job_template=template,
        concurrency_limit=ours.concurrency_limit,
    )


def worker_template(kind: str) -> dict[str, Any]:
    """The job template of a worker type: the installed worker's own, or else the one that Prefect carries of it."""
    if installed := BaseWorker.get_worker_class_from_type(kind):
        return deepcopy(installed.get_default_base_job_template())
    known = (
        files("prefect.server.api").joinpath("collections_data/views/aggregate-worker-metadata.json").read_text("utf-8")
    )
    for workers in json.loads(known).values():
        if kind in workers:
            return dict(workers[kind]["default_base_job_configuration"])
    raise SetupError(f"The installed Prefect knows no worker of type {kind!r}.")


def _merged(theirs: Any, ours: Any) -> Any:
    """Mappings key by key, lists of mappings item by item; anything else is replaced."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return {**deepcopy(theirs), **{key: _merged(theirs.get(key), value) for key, value in ours.items()}}
    if isinstance(theirs, list) and isinstance(ours, list):
        longer = max(len(theirs), len(ours))
        return [
            _merged(theirs[i] if i < len(theirs) else None, ours[i] if i < len(ours) else theirs[i])
            for i in range(longer)
        ]
    return deepcopy(ours)
