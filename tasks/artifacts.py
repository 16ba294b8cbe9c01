"""Artifacts: what a stage leaves in the store, under a key made of everything that it was computed from.

A manifest (`artifact.json`), written last, makes an artifact exist. A rerun that finds it intact returns it and runs
nothing; one whose manifest or files are gone is made again. Keys come from content and options only, so computing
twice is safe.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from tasks.core.schema import ArtifactRef, MediaRef, ModelInfo, StageTiming
from tasks.store import Store, open_store

MANIFEST = "artifact.json"


def content_key(*parts: Any) -> str:
    """Digest (32 hex digits) of values: references by their key, records by their fields."""
    text = json.dumps([_canonical(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def artifact_file(ref: ArtifactRef, name: str) -> Path:
    """A local, readable copy of one file of an artifact.

    Its content is settled once a manifest names it, so this host asks the store for it at most once.
    """
    store, path = _locate(ref)
    return store.local(f"{path}/{name}", version=_version(ref))


def find(store: Store, media_id: str, stage: str, key: str) -> ArtifactRef | None:
    """The artifact, if its manifest and every file that it names are in the store."""
    path = _path(media_id, stage, key)
    found = store.read(f"{path}/{MANIFEST}")
    if found is None:
        return None
    manifest = json.loads(found[0])
    if not _complete(store, path, manifest["files"]):
        return None
    return ArtifactRef(
        media_id=media_id,
        stage=stage,
        key=key,
        uri=store.uri(path),
        store=store.address,
        timing=StageTiming.model_validate(manifest["timing"]),
        finished=manifest["finished"],
        cached=True,
    )


def intact(store: Store, uri: str) -> bool:
    """Is the artifact whose folder has this URI whole?"""
    media_id, stage, key = uri.rsplit("/", 3)[1:]
    return find(store, media_id, stage, key) is not None


def save(store: Store, ref: ArtifactRef, folder: Path) -> None:
    """Stores the files of a folder, and the manifest that makes them an artifact."""
    path = _path(ref.media_id, ref.stage, ref.key)
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    for name in files:
        store.put(f"{path}/{name}", folder / name, version=_version(ref))
    made = {"host": socket.gethostname(), "pid": os.getpid()}
    manifest = {"files": files, "timing": ref.timing.model_dump(), "finished": ref.finished, "made_by": made}
    store.write(f"{path}/{MANIFEST}", json.dumps(manifest).encode())


def flatten(value: Any) -> Iterator[Any]:
    """The leaves of nested dicts, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from flatten(item)
    else:
        yield value


def _complete(store: Store, path: str, files: dict[str, int]) -> bool:
    """Are these files there, with these sizes? One request, however many there are."""
    if len(files) == 1:
        [(name, size)] = files.items()
        return store.size(f"{path}/{name}") == size
    there = {found.path: found.bytes for found in store.scan(path)}
    return all(there.get(f"{path}/{name}") == size for name, size in files.items())


def _path(media_id: str, stage: str, key: str) -> str:
    return f"media/{media_id}/{stage}/{key}"


def _locate(ref: ArtifactRef) -> tuple[Store, str]:
    path = _path(ref.media_id, ref.stage, ref.key)
    return open_store(ref.store or ref.uri.removesuffix("/" + path)), path


def _version(ref: ArtifactRef) -> str | None:
    """Tells two makings of an artifact apart: one that was deleted and made again is another."""
    return repr(ref.finished) if ref.finished else None


def _canonical(value: Any) -> Any:
    if isinstance(value, MediaRef):
        return value.media_id
    if isinstance(value, ArtifactRef):
        return value.key
    if isinstance(value, ModelInfo):
        return [value.digest, value.backend]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
