"""Temporary folders on this host's disk, and what to say when that disk is full."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.core.errors import ReelflowError, StoreUnavailable, TransientError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
FULL_BYTES = 2**20
"""A disk with less than this free counts as full where something failed on it."""
STALE_S = 3600.0
"""Folders and files of killed processes go after this time."""

_SAYS_FULL = ("No space left on device", "Disk quota exceeded")


@contextmanager
def workspace(parent: Path, elsewhere: str) -> Iterator[Path]:
    """An empty folder under `parent`, removed at exit; `elsewhere` says how to choose another disk.

    A disk that fills up in the block raises StoreUnavailable, whatever the block made of it: tools report it as media
    that cannot be decoded, libraries as errors of their own.
    """
    with disk(parent, elsewhere):
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(parent)
        folder = Path(tempfile.mkdtemp(dir=parent))
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield folder
    except (StoreUnavailable, TransientError):
        raise
    except Exception as error:
        if is_full(error, folder):
            raise StoreUnavailable(_full(parent, elsewhere)) from error
        raise
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch_file(parent: Path, elsewhere: str) -> Iterator[Path]:
    """A path under `parent` for a file that is written and moved away at once; removed at exit where it was not."""
    with disk(parent, elsewhere):
        parent.mkdir(parents=True, exist_ok=True)
        file = parent / uuid.uuid4().hex
        try:
            yield file
        finally:
            file.unlink(missing_ok=True)


@contextmanager
def disk(folder: Path, elsewhere: str) -> Iterator[None]:
    """Around reads and writes of our own below `folder`: any failure of the disk is StoreUnavailable."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise StoreUnavailable(_full(folder, elsewhere)) from error
        raise StoreUnavailable(
            f"{folder} cannot be used ({error.strerror}); mend its permissions, or {elsewhere}."
        ) from error


def is_full(error: BaseException, folder: Path) -> bool:
    """Did this happen because the disk of the folder, or the user's share of it, is used up?"""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return True
        if isinstance(cause, ReelflowError) and any(text in cause.detail for text in _SAYS_FULL):
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        return shutil.disk_usage(folder).free < FULL_BYTES
    except OSError:
        return False


def _full(folder: Path, elsewhere: str) -> str:
    return f"The disk of {folder} is full; free some space, or {elsewhere}."


def _sweep(parent: Path) -> None:
    for folder in parent.iterdir():
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            status = folder.lstat()
            if time.time() - status.st_mtime < STALE_S:
                continue
            if not stat.S_ISDIR(status.st_mode):
                folder.unlink()
                continue
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)
