"""The index's folder: LanceDB tables, and the one file that says which of their versions belong together.

    {folder}/index.json            format, and of each table the version that readers open: written last, by renaming
    {folder}/media.lance           facts of each media, and its number: the other tables name it by that
    {folder}/words.lance           the vocabularies of speech and tags
    {folder}/speech.lance          segments; full-text index over their stems
    {folder}/tags.lance            tags and captions of chunks, their texts by code
    {folder}/tag_texts.lance
    {folder}/objects.lance         of each media and class all boxes in one row, the class by code
    {folder}/classes.lance
    {folder}/vectors_{model}_{D}.lance      embedded frames of one model, float16; vector index where there are many

Conditions on rows hold numbers only: no text of a question or a media ever becomes part of one.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from pydantic import ValidationError

from tasks.core.errors import StoreUnavailable
from tasks.core.schema import Record
from tasks.core.search.corpus import TextTable
from tasks.core.search.rows import KEPT, MediaRows, Vectors
from tasks.core.search.words import Vocabulary

FORMAT: Final[Literal[2]] = 2
"""Raised when an older index cannot be read or gone on with: other columns, or other words of a text."""

HEAD: Final = "index.json"
_NUMBERS: Final = pa.list_(pa.float64())
_VECTORS: Final = re.compile(r"vectors_[0-9a-f]{1,64}_[0-9]{1,4}")

SCHEMAS: Final[Mapping[str, pa.Schema]] = {
    "media": pa.schema(
        [
            ("number", pa.int32()),
            ("versions", pa.string()),
            ("media_id", pa.string()),
            ("result_key", pa.string()),
            ("source", pa.string()),
            ("camera", pa.string()),
            ("when", pa.timestamp("us", tz="UTC")),
            ("duration_s", pa.float64()),
            ("step_s", pa.float64()),
            ("cuts", _NUMBERS),
            ("model", pa.string()),
            ("frames", pa.int32()),
            ("total", _NUMBERS),
        ]
    ),
    "words": pa.schema(
        [
            ("table", pa.string()),
            ("word", pa.string()),
            ("language", pa.string()),
            ("stem", pa.string()),
            ("texts", pa.int64()),
        ]
    ),
    "speech": pa.schema(
        [
            ("media", pa.int32()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("text", pa.string()),
            ("language", pa.string()),
            ("terms", pa.string()),
        ]
    ),
    "tags": pa.schema(
        [
            ("media", pa.int32()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("code", pa.int32()),
            ("whole", pa.bool_()),
            ("strength", pa.float64()),
        ]
    ),
    "tag_texts": pa.schema([("code", pa.int32()), ("label", pa.string()), ("text", pa.string())]),
    "objects": pa.schema(
        [
            ("media", pa.int32()),
            ("code", pa.int32()),
            ("highest", pa.float32()),
            ("frames", pa.list_(pa.int32())),
            ("times", _NUMBERS),
            ("confidences", pa.list_(pa.float32())),
        ]
    ),
    "classes": pa.schema([("code", pa.int32()), ("name", pa.string())]),
}
ROWS_OF_MEDIA: Final = ("speech", "tags", "objects")
"""Tables beside those of vectors that have rows of each media."""


def vector_table(model: str, size: int) -> str:
    """Name of the table of a model's vectors. Raises ValueError for a digest that is none."""
    name = f"vectors_{model}_{size}"
    if not _VECTORS.fullmatch(name):
        raise ValueError(f"{model[:80]!r} is no digest of a model")
    return name


class Head(Record):
    """What index.json says."""

    format: Literal[2] = FORMAT
    versions: dict[str, int]
    """Of each table."""
    trained: dict[str, int]
    """Rows that the vector index of a table was made from."""
    built: str
    """When, ISO 8601."""


def read_head(folder: Path) -> Head | None:
    """None where there is no index. Raises StoreUnavailable for one that this version cannot use."""
    try:
        return Head.model_validate_json((folder / HEAD).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise StoreUnavailable(
            f"The index in {folder} is damaged or of another version: delete the folder and build it again with "
            "`python -m flows build-index`.",
            detail=str(error),
        ) from error


def write_head(folder: Path, head: Head) -> None:
    part = folder / f".{uuid.uuid4().hex}"
    with part.open("w") as file:
        file.write(head.model_dump_json())
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / HEAD)


def connect(folder: Path) -> Any:
    """LanceDB's connection to a folder, which must be there. Its own warnings about itself are kept off stderr."""
    os.environ.setdefault("LANCEDB_LOG", "error")
    import lancedb

    return lancedb.connect(folder)


def numbers_in(column: str, numbers: Iterable[int]) -> str:
    """A condition: the column is one of these whole numbers."""
    return f"{column} IN ({','.join(str(int(number)) for number in numbers) or 'NULL'})"


def media_row(number: int, media: MediaRows, versions: str) -> dict[str, Any]:
    """A row of `media`."""
    facts, vectors = media.facts, media.vectors
    return {
        "number": number,
        "versions": versions,
        "media_id": facts.media_id,
        "result_key": facts.result_key,
        "source": facts.source,
        "camera": facts.camera,
        "when": facts.when,
        "duration_s": facts.duration_s,
        "step_s": facts.step_s,
        "cuts": list(facts.cuts),
        "model": vectors.model if vectors else None,
        "frames": len(vectors.times) if vectors else 0,
        "total": vectors.total.tolist() if vectors else [],
    }


def vector_rows(number: int, found: Vectors) -> pa.Table:
    """The rows that a media has in the table of its vectors."""
    count, size = found.vectors.shape
    schema = pa.schema(
        [
            ("media", pa.int32()),
            ("frame", pa.int32()),
            ("time", pa.float64()),
            ("until", pa.float64()),
            ("vector", pa.list_(pa.float16(), size)),
        ]
    )
    flat = pa.array(found.vectors.astype(KEPT).ravel())
    columns = [
        pa.array(np.full(count, number, np.int32)),
        pa.array(found.numbers),
        pa.array(found.times),
        pa.array(found.until),
        pa.FixedSizeListArray.from_arrays(flat, size),
    ]
    return pa.table(columns, schema=schema)


def vocabularies(rows: pa.Table) -> Mapping[TextTable, Vocabulary]:
    """The vocabularies that the rows of `words` hold."""
    made: dict[TextTable, Vocabulary] = {"speech": Vocabulary(), "tags": Vocabulary()}
    columns = (rows[name].to_pylist() for name in SCHEMAS["words"].names)
    for table, word, language, stem, texts in zip(*columns, strict=True):
        vocabulary = made[table]
        if word:
            vocabulary.entries[word, language] = texts
            vocabulary.stems[word, language] = stem
        else:
            vocabulary.texts, vocabulary.length = texts, int(stem)
    return made


def vocabulary_rows(made: Mapping[TextTable, Vocabulary]) -> pa.Table:
    """Rows of `words`. The one without a word has the number of texts, and for a stem that of their words."""
    rows: list[tuple[str, str, str | None, str, int]] = []
    for table, vocabulary in made.items():
        rows.append((table, "", None, str(vocabulary.length), vocabulary.texts))
        for (word, language), texts in sorted(vocabulary.entries.items(), key=lambda entry: str(entry[0])):
            rows.append((table, word, language, vocabulary.stems[word, language], texts))
    columns = zip(*rows, strict=True)
    return pa.table(list(columns), schema=SCHEMAS["words"])
