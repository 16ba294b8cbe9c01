"""The Dockerfile, parsed: who runs, what is installed, what travels."""

from __future__ import annotations

import io
import re
import tomllib
from typing import Any

import pytest
from dockerfile_parse import DockerfileParser

from tests.infra.manifests import INFRA
from tests.source_tree import ROOT

TEXT = (INFRA / "Dockerfile").read_text("utf-8")
TARGETS = ("cpu", "gpu")
IDENTITY = "10001:10001"


def stages() -> dict[str, list[dict[str, Any]]]:
    """Instructions of each stage, in order, the FROM included."""
    found: dict[str, list[dict[str, Any]]] = {}
    current: list[dict[str, Any]] = []
    for entry in DockerfileParser(fileobj=io.BytesIO(TEXT.encode())).structure:
        if entry["instruction"] == "FROM":
            current = found[entry["value"].split()[-1]] = []
        if entry["instruction"] != "COMMENT":
            current.append(entry)
    return found


def lineage(target: str) -> list[dict[str, Any]]:
    """Instructions of a target and of the stages that it is made from."""
    found = stages()
    base = found[target][0]["value"].split()[0]
    return (lineage(base) if base in found else []) + found[target]


def values(target: str, instruction: str) -> list[str]:
    return [entry["value"] for entry in lineage(target) if entry["instruction"] == instruction]


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_as_an_ordinary_user_and_gets_its_signals(target: str) -> None:
    assert values(target, "USER")[-1] == IDENTITY
    assert values(target, "ENTRYPOINT") == ['["/usr/bin/tini", "--"]']
    assert all(value.startswith("[") for value in values(target, "CMD"))
    assert not values(target, "HEALTHCHECK"), "each process answers on another port"


def test_the_default_target_is_cpu() -> None:
    assert list(stages())[-1] == "cpu"


@pytest.mark.parametrize("target", TARGETS)
def test_packages_come_from_the_hashed_lock(target: str) -> None:
    installs = [value for value in values(target, "RUN") if "pip install" in value]
    assert len(installs) == 2
    assert all("--require-hashes" in value and "--compile-bytecode" in value for value in installs)
    assert "--constraints requirements/lock.txt" in installs[-1]
    copied = " ".join(values(target, "COPY"))
    assert "requirements/lock.txt" in copied
    assert copied.index("requirements/lock.txt") < copied.index("flows flows"), "code comes last: it changes most"
    bootstrap = [entry["value"] for entry in stages()["installer"] if entry["instruction"] == "RUN"]
    assert all("--require-hashes" in value for value in bootstrap)


def test_the_torch_layer_finds_its_pins_in_the_lock() -> None:
    [expression] = re.findall(r"keep = /(.+?)/ \}", TEXT)
    names = [
        line.split("==")[0]
        for line in (ROOT / "requirements/lock.txt").read_text("utf-8").splitlines()
        if re.match(expression, line)
    ]
    assert {"torch", "torchvision", "triton"} <= set(names)
    assert len([name for name in names if name.startswith("nvidia-")]) > 5


def test_the_extras_exist() -> None:
    [extras] = re.findall(r'ARG EXTRAS="(.+)"', TEXT)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert set(extras.split()) <= set(declared)
    assert "dev" not in extras.split()


def test_python_is_one_that_the_lock_is_for() -> None:
    [version] = re.findall(r"^ARG BASE=python:(\d+\.\d+)-", TEXT, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">=3.11,<3.13"
    assert version in ("3.11", "3.12")
    assert f"--python-version {version}" in (ROOT / "Makefile").read_text("utf-8")


def test_only_what_is_copied_travels_to_the_builder() -> None:
    ignore = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in ignore if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    sources = {
        word
        for entry in (entry for stage in stages().values() for entry in stage)
        if entry["instruction"] == "COPY" and "--from" not in entry["value"]
        for word in entry["value"].split()[:-1]
    }
    assert sources
    for source in sources:
        assert (ROOT / source).exists()
        assert source in allowed or source.split("/")[0] in allowed
    assert {rule.split("/")[0] for rule in allowed} == {source.split("/")[0] for source in sources}


def test_no_secret_and_no_host_is_named() -> None:
    assert not re.search(r"(?i)password|secret|token|api_key", TEXT)
    assert not re.search(r"https?://", TEXT)
    for target in TARGETS:
        assert not [value for value in values(target, "ARG") if value.split("=")[0] not in ("EXTRAS", "REVISION")]


def test_caches_stay_out_of_the_layers() -> None:
    for stage in stages().values():
        for entry in stage:
            value = entry["value"]
            if entry["instruction"] == "RUN" and re.search("apt-get install|pip install", value):
                assert "--mount=type=cache" in value
            if entry["instruction"] == "RUN" and "apt-get install" in value:
                assert "--no-install-recommends" in value
