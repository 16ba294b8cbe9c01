"""Artifacts: what a stage leaves in the store, under a key made of everything that it was computed from.

A manifest (`artifact.json`), written last, makes an artifact exist. A rerun that finds it intact returns it and runs
nothing; one whose manifest or files are gone, or whose content turns out to be another when it is read, is made again.
Keys come from content and options only, so computing twice is safe.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.core.errors import DamagedArtifact, StoreUnavailable, TransientError
from tasks.core.options import Section
from tasks.core.schema import ArtifactRef, MediaRef, ModelInfo, StageTiming
from tasks.store import Store, open_store

MANIFEST = "artifact.json"


def content_key(*parts: Any) -> str:
    """Digest (32 hex digits) of values: references by their key, records by their fields."""
    text = json.dumps([_canonical(part) for part in parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def artifact_file(ref: ArtifactRef, name: str) -> Path:
    """A local, readable copy of one file of an artifact.

    Its content is settled once a manifest names it, so this host asks the store for it at most once. It is what was
    written: raises DamagedArtifact where its digest is another.
    """
    store, path = _locate(ref)
    local = store.local(f"{path}/{name}", version=_version(ref))
    digests = ref.sha256 or _settled(store, path)
    if _digest(local) != digests.get(name):
        raise DamagedArtifact(f"{ref.uri}/{name}: it is not what was written; it is made again")
    return local


def check_found(refs: Iterable[ArtifactRef]) -> None:
    """Do those that were found in the store, not made in this run, hold what was written? Raises DamagedArtifact."""
    for ref in refs:
        if ref.cached:
            store, path = _locate(ref)
            for name in ref.sha256 or _settled(store, path):
                artifact_file(ref, name)


def find(store: Store, media_id: str, stage: str, key: str) -> ArtifactRef | None:
    """The artifact, if its manifest and every file that it names are in the store."""
    path = _path(media_id, stage, key)
    manifest = _manifest(store, path)
    if manifest is None or not _complete(store, path, manifest.files):
        return None
    if manifest.sha256.keys() != manifest.files.keys():
        return None  # of a version that noted no digests: it is made again
    return ArtifactRef(
        media_id=media_id,
        stage=stage,
        key=key,
        uri=store.uri(path),
        store=store.address,
        timing=manifest.timing,
        finished=manifest.finished,
        sha256=manifest.sha256,
        cached=True,
    )


def intact(store: Store, uri: str) -> bool:
    """Is the artifact whose folder has this URI whole?"""
    media_id, stage, key = uri.rsplit("/", 3)[1:]
    return find(store, media_id, stage, key) is not None


def save(store: Store, ref: ArtifactRef, folder: Path) -> ArtifactRef:
    """Stores the files of a folder, and the manifest that makes them an artifact; the reference with their digests."""
    path = _path(ref.media_id, ref.stage, ref.key)
    files = sorted(folder.iterdir())
    manifest = Manifest(
        files={file.name: file.stat().st_size for file in files},
        sha256={file.name: _digest(file) for file in files},
        timing=ref.timing,
        finished=ref.finished,
        made_by={"host": socket.gethostname(), "pid": os.getpid()},
    )
    for file in files:
        store.put(f"{path}/{file.name}", file, version=_version(ref))
    store.write(f"{path}/{MANIFEST}", manifest.model_dump_json().encode())
    return ref.model_copy(update={"sha256": manifest.sha256})


@contextmanager
def reading(refs: Iterable[ArtifactRef]) -> Iterator[None]:
    """Around work that reads artifacts: where it fails and one of them is damaged, that is why.

    Such an artifact is taken out of the store, so that a rerun makes it again.  Raises DamagedArtifact instead of what
    the work raised; anything else passes.
    """
    try:
        yield
    except TransientError:
        raise
    except Exception as error:
        damaged = [ref for ref in refs if not _is_whole(ref, suspected=isinstance(error, DamagedArtifact))]
        for ref in damaged:
            store, path = _locate(ref)
            store.delete(f"{path}/{MANIFEST}")
        if not damaged:
            raise
        names = ", ".join(ref.uri for ref in damaged)
        raise DamagedArtifact(f"{names}: missing or damaged; it is made again", detail=str(error)) from error


def flatten(value: Any) -> Iterator[Any]:
    """The leaves of nested dicts, lists and tuples."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from flatten(item)
    else:
        yield value


class Manifest(BaseModel):
    """artifact.json: what makes an artifact exist."""

    files: dict[str, int]
    """Bytes by name."""
    sha256: dict[str, str] = {}
    timing: StageTiming
    finished: float
    """Unix time."""
    made_by: dict[str, str | int] = {}


def _manifest(store: Store, path: str) -> Manifest | None:
    """None where there is none that can be read."""
    found = store.read(f"{path}/{MANIFEST}")
    try:
        return Manifest.model_validate_json(found[0]) if found else None
    except ValidationError:
        return None


def _is_whole(ref: ArtifactRef, *, suspected: bool) -> bool:
    """Does each file hold what was written? One without digests counts as whole unless it is suspected."""
    store, path = _locate(ref)
    manifest = _manifest(store, path)
    if manifest is None or not _complete(store, path, manifest.files):
        return False
    if not manifest.sha256:
        return not suspected
    try:
        files = {name: store.local(f"{path}/{name}", version=_version(ref)) for name in manifest.sha256}
        return all(_digest(files[name]) == digest for name, digest in (manifest.sha256 | ref.sha256).items())
    except (StoreUnavailable, KeyError):
        return False


def _settled(store: Store, path: str) -> dict[str, str]:
    """Digests of an artifact whose reference does not carry them."""
    manifest = _manifest(store, path)
    return manifest.sha256 if manifest else {}


def _digest(file: Path) -> str:
    """Computed once per process for the same file, as far as its inode, size and times tell."""
    status = file.stat()
    return _digest_of(file, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest_of(file: Path, _inode: int, _size: int, _mtime_ns: int) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


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
    if isinstance(value, Section):
        return value.keyed()
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
