"""Files that people write: YAML, read as plain values, checked whole, with the line of each fault."""

from __future__ import annotations

import re
from typing import Any, Final, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

MOST_BYTES: Final = 2**20

M = TypeVar("M", bound=BaseModel)

Place = tuple[int | str, ...]
"""Keys and positions that lead to a part of the file."""


class BadFile(ValueError):
    """A file that cannot be used; the message has a line for each fault."""


class Lines:
    """Where the parts of a file stand."""

    def __init__(self, node: yaml.Node | None, name: str) -> None:
        self._node, self._name = node, name

    def faults(self, found: list[tuple[Place, str]]) -> str:
        """`name:line: what is wrong` for each, in order of lines."""
        lines = {(_line(self._node, place), said) for place, said in found}
        return "\n".join(f"{self._name}:{line}: {said}" for line, said in sorted(lines))


def read_file(text: str, kind: type[M], name: str, fault: type[BadFile] = BadFile) -> tuple[M, Lines]:
    """What a YAML file says, and where. Raises `fault` with `name:line: what is wrong` for every fault."""
    if len(text) > MOST_BYTES:
        raise fault(f"{name}: more than a megabyte is nothing that people write")
    try:
        for token in yaml.scan(text, _Plain):
            if isinstance(token, yaml.AliasToken):  # a few of them could stand for a file of any size
                raise yaml.scanner.ScannerError(None, None, "there are no aliases here", token.start_mark)
        node = yaml.compose(text, _Plain)
        values = _values(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise fault(f"{name}:{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise fault(f"{name}: it is no YAML that can be read here: {error}") from error
    lines = Lines(node, name)
    try:
        return kind.model_validate(values), lines
    except ValidationError as error:
        raise fault(lines.faults([(each["loc"], _said(each)) for each in error.errors()])) from error


class _Plain(yaml.SafeLoader):
    """Scalars of YAML 1.2: `no` is a word and 22:00 is no number."""


_Plain.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?$", "-+0123456789."),
    ("bool", r"^(?:true|false|True|False)$", "tfTF"),
    ("null", r"^(?:~|null|)$", "~n"),
):
    _Plain.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(_pattern), [*_first, ""])


def _values(node: yaml.Node | None) -> Any:
    """What a node says. Raises ConstructorError for a key that comes twice."""
    if node is None:
        return None
    if isinstance(node, yaml.SequenceNode):
        return [_values(each) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in found:
                problem = f"{getattr(key, 'value', 'this')!r} stands here twice, or is no name"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            found[key.value] = _values(value)
        return found
    if node.tag == "tag:yaml.org,2002:int":
        return int(node.value)
    if node.tag == "tag:yaml.org,2002:float":
        return float(node.value)
    if node.tag == "tag:yaml.org,2002:bool":
        return node.value.lower() == "true"
    return None if node.tag == "tag:yaml.org,2002:null" else node.value


def _line(node: yaml.Node | None, place: tuple[int | str, ...]) -> int:
    """Line of the innermost part of the file that a fault's place leads to."""
    line = node.start_mark.line + 1 if node else 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == step]
            if not found:
                break
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _said(fault: Any) -> str:
    place = ".".join(str(step) for step in fault["loc"] if not isinstance(step, int))
    if fault["type"] == "extra_forbidden":
        return f"{place}: there is no such field"
    return (
        f"{place}: {fault['msg'].removeprefix('Value error, ')}"
        if place
        else fault["msg"].removeprefix("Value error, ")
    )
