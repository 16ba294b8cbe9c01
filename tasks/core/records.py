"""Records as JSON, on disk and in a store: finite numbers only, whatever came between making and writing them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Never, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from tasks.core.errors import DamagedArtifact

T = TypeVar("T")

_ANY: TypeAdapter[Any] = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="constants"))


def json_bytes(value: Any, *, indent: int | None = None, exclude: set[str] | None = None) -> bytes:
    """A record, or a list of records, as JSON text in UTF-8, fields by their alias.

    Raises ValueError for NaN and infinity: JSON has neither, and readers take what stands for them for a value.
    """
    text = _ANY.dump_json(value, indent=indent, by_alias=True, exclude=exclude)
    if b"NaN" in text or b"Infinity" in text:  # a number, or a word that someone said
        json.loads(text, parse_constant=_refuse)
    return text


def save_records(value: Any, path: Path) -> None:
    """Writes a record, or a list of records, as JSON. Raises ValueError for NaN and infinity."""
    path.write_bytes(json_bytes(value))


def load_records(kind: type[T], path: Path) -> T:
    """Reads what save_records wrote; `kind` is a record, or a list of records. Raises DamagedArtifact."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedArtifact(f"{path}: it holds no such records", detail=str(error)) from error


def _refuse(constant: str) -> Never:
    raise ValueError(f"{constant} is no number that JSON has: the value was never measured, or overflowed")
