"""A task that runs a network carries the tag gpu: the task runner places it by that tag and by nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.source_tree import ROOT, module_name

FINDERS = {"weights", "siglip_weights", "bundled"}


def untagged_model_tasks(source: str) -> list[str]:
    """Tasks without the tag gpu that reach a network of tasks.core.models, themselves or through functions beside them.

    Modules of FINDERS only find files; they need no GPU.
    """
    tree = ast.parse(source)
    networks: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "tasks.core.models":
            networks |= {alias.asname or alias.name for alias in node.names} - FINDERS
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasks.core.models."):
            if (node.module or "").split(".")[3] not in FINDERS:
                networks |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            networks |= {
                "tasks" for alias in node.names if alias.name.startswith("tasks.core.models") and not alias.asname
            }
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    local_imports = {
        name for name, function in functions.items() for node in ast.walk(function) if _imports_network(node)
    }

    def reaches(name: str, seen: frozenset[str] = frozenset()) -> bool:
        body = [node for statement in functions[name].body for node in ast.walk(statement)]
        used = {node.id for node in body if isinstance(node, ast.Name)}
        called = (used & set(functions)) - seen - {name}
        return bool(used & networks) or name in local_imports or any(reaches(other, seen | {name}) for other in called)

    return [
        name
        for name, function in functions.items()
        if any(_is_task(decorator) for decorator in function.decorator_list)
        and not any(_has_gpu_tag(decorator) for decorator in function.decorator_list)
        and reaches(name)
    ]


def _imports_network(node: ast.AST) -> bool:
    if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("tasks.core.models"):
        return False
    return not {"weights", "bundled"} & {*(node.module or "").split("."), *(alias.name for alias in node.names)}


def _is_task(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in {"task", "stage"}


def _has_gpu_tag(decorator: ast.expr) -> bool:
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    tags = [keyword.value for keyword in keywords if keyword.arg == "tags"]
    return any(isinstance(node, ast.Constant) and node.value == "gpu" for tag in tags for node in ast.walk(tag))


@pytest.mark.parametrize("path", sorted((ROOT / "tasks").glob("*.py")), ids=module_name)
def test_a_task_that_uses_a_network_is_tagged_gpu(path: Path) -> None:
    assert untagged_model_tasks(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from tasks.core.models import yolo\n@task\ndef a(): yolo.detect()", ["a"]),
        ("from tasks.core.models import yolo\n@stage('x', version=1)\ndef a(): b()\ndef b(): yolo.detect()", ["a"]),
        ("from tasks.core.models.yolo import detect\n@task(tags=['cpu'])\ndef a(): detect()", ["a"]),
        ("@task\ndef a():\n    from tasks.core.models import whisper\n    whisper.load()", ["a"]),
        ("from tasks.core.models import yolo\n@task(tags=['gpu'])\ndef a(): yolo.detect()", []),
        ("from tasks.core.models import weights\n@task\ndef a(): weights.find()", []),
    ],
)
def test_the_search_for_untagged_tasks_finds_them(source: str, found: list[str]) -> None:
    assert untagged_model_tasks(source) == found
