"""prefect.yaml read strictly: Prefect ignores a key that it does not know, so a misspelt one does nothing, silently."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect.cli.deploy import _models as accepted
from prefect.client.schemas.objects import ConcurrencyLimitStrategy
from prefect.flows import Flow
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, ValidationError

from deployments.version import ROOT
from tasks.core.errors import SetupError

PREFECT_YAML = ROOT / "prefect.yaml"


def check(path: Path = PREFECT_YAML) -> list[str]:
    """What is wrong with a prefect.yaml, one sentence each; empty when nothing is."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, yaml.YAMLError) as error:
        return [f"{path.name} cannot be read: {' '.join(str(error).split())}"]
    if not isinstance(content, dict):
        return [f"{path.name} holds no mapping; it starts with `name:` and `deployments:`."]
    faults = [f"{path.name}: {fault}" for fault in _keys(content)]
    return faults or [f"{path.name}: {fault}" for fault in _contents(content)]


def flows(path: Path = PREFECT_YAML) -> dict[str, Flow[..., Any]]:
    """The flow of each deployment by its entry point. Raises SetupError when the file has a fault."""
    if faults := check(path):
        raise SetupError(faults[0])
    entries = yaml.safe_load(path.read_text("utf-8"))["deployments"]
    return {entry["entrypoint"]: _flow(entry["entrypoint"]) for entry in entries}


def _keys(content: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(content, accepted.PrefectYamlModel, "the top level")
    for number, entry in enumerate(content.get("deployments") or [], 1):
        where = f"deployment {number} ({entry.get('entrypoint', 'no entrypoint')})" if isinstance(entry, dict) else ""
        if not where:
            yield f"deployment {number} is no mapping."
            continue
        yield from _unknown(entry, accepted.DeploymentConfig, where)
        if isinstance(entry.get("work_pool"), dict):
            yield from _unknown(entry["work_pool"], accepted.WorkPoolConfig, f"work_pool of {where}")
        if isinstance(entry.get("concurrency_limit"), dict):
            yield from _unknown(
                entry["concurrency_limit"], accepted.ConcurrencyLimitSpec, f"concurrency_limit of {where}"
            )
        for schedule in entry.get("schedules") or []:
            yield from _unknown(schedule, accepted.RawScheduleConfig, f"a schedule of {where}")


def _unknown(mapping: Mapping[str, Any], model: type[BaseModel], where: str) -> Iterator[str]:
    names = [field.alias or name for name, field in model.model_fields.items()]
    for key in mapping:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys there are {', '.join(sorted(names))}."
            yield f"{where} has the key {key!r}, which Prefect would ignore; {hint}"


def _contents(content: Mapping[str, Any]) -> Iterator[str]:
    try:
        accepted.PrefectYamlModel.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        yield f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}."
        return
    entries = content.get("deployments") or []
    if not entries:
        yield "there are no deployments."
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        entrypoint = entry.get("entrypoint") or ""
        if ":" in entrypoint or "." not in entrypoint:
            yield f"the entry point {entrypoint!r} is no module path (flows.MODULE.FUNCTION): Dask would not find it."
            continue
        try:
            found = _flow(entrypoint)
        except SetupError as error:
            yield error.message
            continue
        if (found.name, entry.get("name", "")) in seen:
            yield f"{found.name}/{entry.get('name')} is there twice."
        seen.add((found.name, entry.get("name", "")))
        yield from _parameters(found, entry)
        yield from _limit(found, entry.get("concurrency_limit"))


def _flow(entrypoint: str) -> Flow[..., Any]:
    module, _, name = entrypoint.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise SetupError(f"the entry point {entrypoint!r} cannot be imported: {error}.") from error
    if not isinstance(found, Flow):
        raise SetupError(f"the entry point {entrypoint!r} names no flow.")
    return found


def _parameters(found: Flow[..., Any], entry: Mapping[str, Any]) -> Iterator[str]:
    known = list(inspect.signature(found.fn).parameters)
    given: list[Iterable[str]] = [entry.get("parameters") or {}]
    given += [schedule.get("parameters") or {} for schedule in entry.get("schedules") or []]
    for name in [name for names in given for name in names]:
        if name not in known:
            yield f"{found.name} has no parameter {name!r}; it has {', '.join(known)}."
    undescribed = [name for name, value in parameter_schema(found).properties.items() if not value.get("description")]
    if undescribed:
        yield f"{found.name} does not describe its parameter {undescribed[0]!r}; add it to the Args of its docstring."


def _limit(found: Flow[..., Any], limit: Any) -> Iterator[str]:
    valid = [strategy.value for strategy in ConcurrencyLimitStrategy]
    if isinstance(limit, dict) and limit.get("collision_strategy", valid[0]) not in valid:
        stated = limit["collision_strategy"]
        yield f"the collision_strategy of {found.name} is {stated!r}; it can be {' or '.join(valid)}."
