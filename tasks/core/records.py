"""Records on disk: one JSON document of pydantic values per file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tasks.core.errors import DamagedArtifact

T = TypeVar("T")


def save_records(value: Any, path: Path, kind: Any = Any) -> None:
    """Writes a record, or a list of records, as JSON (fields by their alias)."""
    path.write_bytes(TypeAdapter(kind).dump_json(value, by_alias=True))


def load_records(kind: type[T], path: Path) -> T:
    """Reads what save_records wrote; `kind` is a record, or a list of records. Raises DamagedArtifact."""
    try:
        return TypeAdapter(kind).validate_json(path.read_bytes())
    except ValidationError as error:
        raise DamagedArtifact(f"{path}: it holds no such records", detail=str(error)) from error
