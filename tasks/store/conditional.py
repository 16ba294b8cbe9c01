"""Does a bucket's server keep conditional writes? Tried once per host and store, remembered, and said.

Several S3-compatible servers accept If-None-Match and If-Match and write all the same. What `commit` is worth there
stands at `Guarantee` in tasks/store/__init__.py.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from tasks.store import Guarantee
from tasks.store.workspace import disk, workspace

OURS = ".reelflow/"
"""Folder of a store for objects of its own, which listings leave out."""

REFUSED = frozenset({"412", "PreconditionFailed"})
BUSY = frozenset({"409", "ConditionalRequestConflict", "OperationAborted"})
"""Another request for the same object is being served: try again."""

REMEMBER_S = 7 * 24 * 3600.0
"""Servers are upgraded."""

_ELSEWHERE = "set REELFLOW_CACHE_DIR to a folder on another"


def remembered(cache: Path, endpoint: str, root: str, find: Callable[[], Guarantee]) -> Guarantee:
    """The guarantee of a store at an endpoint, tried by one process of this host."""
    known = _recall(cache, endpoint, root)
    if known is None:
        with turn(cache, endpoint + root):
            known = _recall(cache, endpoint, root) or remember(cache, endpoint, root, find())
    return known


def remember(cache: Path, endpoint: str, root: str, found: Guarantee) -> Guarantee:
    if found == "last-writer":
        logging.getLogger("reelflow.store").warning(
            "The store %s ignores conditional writes: where two hosts commit the same object at the same moment, the "
            "last one stays. Results stay whole. To be certain, use a server that keeps If-None-Match and If-Match.",
            root,
        )
    path = _memory(cache, endpoint, root)
    with workspace(cache / "work", _ELSEWHERE) as work, disk(cache, _ELSEWHERE):
        path.parent.mkdir(parents=True, exist_ok=True)
        (work / "store").write_text(json.dumps({"store": root, "guarantee": found}))
        (work / "store").replace(path)
    return found


def _recall(cache: Path, endpoint: str, root: str) -> Guarantee | None:
    path = _memory(cache, endpoint, root)
    try:
        if time.time() - path.stat().st_mtime > REMEMBER_S:
            return None
        found = json.loads(path.read_text())["guarantee"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return cast(Guarantee, found) if found in ("atomic", "last-writer") else None


def _memory(cache: Path, endpoint: str, root: str) -> Path:
    return cache / "stores" / f"{hashlib.sha256(f'{endpoint} {root}'.encode()).hexdigest()[:32]}.json"


@contextmanager
def turn(cache: Path, name: str) -> Iterator[None]:
    """Alone on this host with what the name stands for."""
    with disk(cache, _ELSEWHERE):
        folder = cache / "turns"
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / hashlib.sha256(name.encode()).hexdigest()[:2]).open("a")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
