"""The files of infra/ as data, for the tests that compare them with schemas and with each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.source_tree import ROOT

INFRA = ROOT / "infra"
VARIANTS = ("operator", "keda")
"""Folders of infra/kubernetes that are applied whole."""

_VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")


@cache
def compose() -> dict[str, Any]:
    """compose.yaml with its variables as they stand."""
    loaded: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text("utf-8"))
    return loaded


def variables(text: str) -> dict[str, tuple[str, str]]:
    """Variables of a compose file: name to (operator, what follows it); the operator is empty for a plain `${NAME}`."""
    return {name: (operator or "", rest or "") for name, operator, rest in _VARIABLE.findall(text)}


def interpolated(value: Any, environment: dict[str, str]) -> Any:
    """What compose makes of a value: variables or their defaults, and `$$` as `$`."""
    if isinstance(value, dict):
        return {key: interpolated(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, environment) for item in value]
    if not isinstance(value, str):
        return value
    parts = [_VARIABLE.sub(lambda match: _substitute(match, environment), part) for part in value.split("$$")]
    return "$".join(parts)


def _substitute(match: re.Match[str], environment: dict[str, str]) -> str:
    name, operator, rest = match.groups()
    if environment.get(name):
        return environment[name]
    assert operator == ":-", f"{name} has no value and no default"
    return str(rest)


def settings_example() -> dict[str, str]:
    """.env.example, comments left out."""
    lines = (INFRA / ".env.example").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@cache
def kubernetes(variant: str) -> list[dict[str, Any]]:
    """Every object of a variant, that of its bases included."""
    return list(_kustomized(INFRA / "kubernetes" / variant))


def _kustomized(folder: Path) -> Iterator[dict[str, Any]]:
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))["resources"]:
        path = (folder / name).resolve()
        if path.is_dir():
            yield from _kustomized(path)
        else:
            yield from (document for document in yaml.safe_load_all(path.read_text("utf-8")) if document)


@cache
def pod_specs(variant: str) -> dict[str, dict[str, Any]]:
    """Pod specs of a variant, named after the object they belong to."""
    found: dict[str, dict[str, Any]] = {}
    for item in kubernetes(variant):
        name = f"{item['kind']}/{item['metadata']['name']}"
        if item["kind"] == "Deployment":
            found[name] = item["spec"]["template"]["spec"]
        elif item["kind"] == "DaskCluster":
            found[f"{name}/scheduler"] = item["spec"]["scheduler"]["spec"]
            found[f"{name}/worker"] = item["spec"]["worker"]["spec"]
        elif item["kind"] == "DaskWorkerGroup":
            found[name] = item["spec"]["worker"]["spec"]
    return found


def commands() -> dict[str, list[str]]:
    """Every command line that a container of this project's image runs, by where it is written."""
    found = {
        f"compose/{name}": [str(word) for word in interpolated(service["command"], {})]
        for name, service in compose()["services"].items()
        if "reelflow" in service["image"]
    }
    for variant in VARIANTS:
        for name, spec in pod_specs(variant).items():
            found[f"{variant}/{name}"] = [str(word) for word in spec["containers"][0]["args"]]
    return found
