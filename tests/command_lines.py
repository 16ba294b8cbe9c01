"""Command lines that stand in text, parsed by the programs' own parsers without being run."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from typing import Any

import typer
import yaml
from prefect.cli._app import (
    _app as prefect_cli,
)  # private: `prefect.cli.app` runs commands, and there is no other parser

from deployments import registry
from flows.runtime import embedded_server
from tests.source_tree import ROOT

OTHERS = {"aws", "cd", "cp", "createdb", "createuser", "docker", "kubectl", "openssl", "read", "terraform", "$EDITOR"}
"""Programs that are not ours and not locked: that their lines are right is their own documentation's to say."""

FENCE = re.compile(r"^```(?:console|sh)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"^[A-Z][A-Z0-9_]*=")


def lines(page: str) -> Iterator[str]:
    """The command lines in the `console` and `sh` blocks of a page: of a console block those after `$ `."""
    for block in FENCE.finditer(page):
        text = re.sub(r"\\\n\s*", "", block["text"])
        prompted = block[0].startswith("```console")
        for line in text.splitlines():
            if not prompted or line.startswith("$ "):
                yield line.removeprefix("$ ") if prompted else line


def programs(line: str) -> list[list[str]]:
    """The words of each program that a line starts, without comments, assignments and `export`."""
    line = re.sub(r"^source <\((.*?)\)", r"\1", line)
    line = re.sub(r"\$\([^)]*\)", "VALUE", line)
    found = []
    for part in re.split(r" && ", line):
        words = shlex.split(part, comments=True)
        if words[:1] in (["export"], ["source"]):
            continue
        while words and ASSIGNMENT.match(words[0]):
            words.pop(0)
        if words:
            found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found


def parsed(words: list[str]) -> dict[str, Any]:
    """What a program makes of its command line. Raises on a command, an option or a value that it does not know."""
    match words:
        case ["dask", kind, *rest]:
            module = importlib.import_module(f"distributed.cli.dask_{kind}")
            options: dict[str, Any] = module.main.make_context(kind, list(rest)).params
            assert options["preload_argv"] == (), "dask gives what it does not know to the preload"
            return options
        case ["prefect", "deployment", "run", name, *rest]:
            return _prefect(words) | {"parameters": _run_parameters(name, rest)}
        case ["prefect", *_]:
            return _prefect(words)
        case ["python", "-m", "flows.runtime.embedded_server", *rest]:
            return vars(embedded_server.parser().parse_args(rest))
        case ["python", "-m", ("flows" | "deployments") as module_name, *rest]:
            return _typer(module_name, rest)
        case ["python", "-m", module_name, *rest]:
            return _module(module_name, rest)
        case ["make", *rest]:
            return _make(rest)
        case [program, *_] if program in OTHERS:
            return {}
    raise AssertionError(f"nobody knows the program of: {shlex.join(words)}")


def command(module_name: str, words: list[str]) -> tuple[Any, list[str]]:
    """The command of `python -m flows` or `deployments` that words name, and the words after its name."""
    found: Any = typer.main.get_command(importlib.import_module(f"{module_name}.__main__").app)
    while words and (inner := getattr(found, "commands", {})):
        if words[0] not in inner:
            assert words[0].startswith("-"), f"python -m {module_name} has no command {words[0]}"
            break
        found, words = inner[words[0]], words[1:]
    return found, words


def _typer(module_name: str, words: list[str]) -> dict[str, Any]:
    found, rest = command(module_name, words)
    if "--help" in rest or (getattr(found, "commands", None) and not rest):
        return {}
    return dict(found.make_context(found.name, list(rest)).params)


def _prefect(words: list[str]) -> dict[str, Any]:
    tokens = [word for word in words[1:] if word != "--no-prompt"]
    _, bound, _ = prefect_cli.parse_args(tokens, exit_on_error=False, print_error=False)
    return dict(bound.arguments)


@cache
def _deployments() -> dict[str, Any]:
    """Flows by the name that `prefect deployment run` takes."""
    flows = registry.flows()
    entries = yaml.safe_load(registry.PREFECT_YAML.read_text("utf-8"))["deployments"]
    return {f"{flows[entry['entrypoint']].name}/{entry['name']}": flows[entry["entrypoint"]] for entry in entries}


def _run_parameters(name: str, words: list[str]) -> set[str]:
    """Names of the parameters that `prefect deployment run` gives; the deployment and its flow have to know them."""
    known = set(_deployments()[name].parameters.properties)
    given = {words[at + 1].partition("=")[0] for at, word in enumerate(words) if word in ("-p", "--param")}
    assert given <= known, f"{name} has no parameter {given - known}"
    return given


def _module(name: str, words: list[str]) -> dict[str, Any]:
    """Another module of ours: it exists, and its text has the long options that are given."""
    path = ROOT.joinpath(*name.split("."))
    if name == "benchmarks":
        if not words:
            return {}
        name, path, words = f"benchmarks.{words[0]}", path / words[0], words[1:]
    file = next((each for each in (path.with_suffix(".py"), path / "__main__.py", path) if each.exists()), None)
    assert file is not None, f"there is no module {name}"
    text = "".join(each.read_text("utf-8") for each in ([file] if file.is_file() else sorted(file.glob("*.py"))))
    if name.startswith("benchmarks."):
        text += (ROOT / "benchmarks" / "__main__.py").read_text("utf-8")
        text += "".join(each.read_text("utf-8") for each in sorted((ROOT / "benchmarks").glob("_*.py")))
    unknown = [word for word in words if word.startswith("--") and f'"{word.partition("=")[0]}"' not in text]
    assert not unknown, f"python -m {name} has no option {unknown}"
    return {"words": words}


@cache
def make_targets() -> set[str]:
    """Targets that `make` lists."""
    return set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def _make(words: list[str]) -> dict[str, Any]:
    targets = {word for word in words if "=" not in word}
    variables = {word.partition("=")[0] for word in words if "=" in word}
    assert targets <= make_targets(), f"make has no target {targets - make_targets()}"
    text = (ROOT / "Makefile").read_text("utf-8")
    assert all(re.search(rf"\$\(.*\b{name}\b|^{name} \?=", text, re.MULTILINE) for name in variables), variables
    return {"targets": targets}
