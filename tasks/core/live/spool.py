"""Windows on this host's disk until a store has them: bounded, and whole after any kill.

A camera's process adds, another one sends: `ready/` holds what waits, `sending/` what is being sent. A window is there
when its media file is, which is renamed into place after its record. Beyond the bound, and on a full disk, the oldest
waiting ones go.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tasks.core.live.names import WindowRecord

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Spool:
    """One camera's spool below a folder."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        self._ready, self._sending = folder / "ready", folder / "sending"
        self._dropped, self._rows = folder / "dropped", folder / "rows"
        for path in (self._ready, self._sending, self._dropped, self._rows):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def recover(self) -> None:
        """After a kill: what was being sent waits again, what was half written goes. Nobody else may use the spool."""
        for path in sorted(self._sending.iterdir(), reverse=True):
            path.replace(self._ready / path.name)
        media = {path.name for path in self._ready.iterdir() if not path.name.endswith((".json", ".part"))}
        for path in self._ready.iterdir():
            if path.name.endswith(".part") or (path.name.endswith(".json") and path.stem not in media):
                path.unlink()

    def add(self, record: WindowRecord, write: Callable[[Path], None]) -> WindowRecord | None:
        """Puts a window in, in place of the oldest where there is no room; gives its record with its size.

        None where there is no room at all.

        `write` makes the media file. Raises what it raises but for a full disk.
        """
        name = Path(record.key).name
        part = self._ready / f"{name}.part"
        while True:
            try:
                write(part)
                size = part.stat().st_size
                while self.taken() > self.most_bytes and self._drop_oldest():
                    pass
                if self.taken() > self.most_bytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                whole = record.model_copy(update={"bytes": size})
                (self._ready / f"{name}.json").write_text(whole.line())
                part.replace(self._ready / name)
                return whole
            except OSError as error:
                with contextlib.suppress(OSError):
                    part.unlink()
                with contextlib.suppress(OSError):
                    (self._ready / f"{name}.json").unlink()
                if error.errno not in FULL:
                    raise
                if not self._drop_oldest():
                    return None

    def taken(self) -> int:
        """What the windows take, those being written and sent included."""
        return sum(_size(entry) for folder in (self._ready, self._sending) for entry in os.scandir(folder))

    def waiting(self) -> list[WindowRecord]:
        """Records of the windows that wait, oldest first."""
        return _records(path for path in self._ready.glob("*.json") if path.with_suffix("").exists())

    def claim(self, record: WindowRecord) -> Path | None:
        """The media file, now which is dropped no more; None where it is gone."""
        name = Path(record.key).name
        try:
            (self._ready / f"{name}.json").replace(self._sending / f"{name}.json")
            (self._ready / name).replace(self._sending / name)
        except FileNotFoundError:
            return None
        return self._sending / name

    def sent(self, record: WindowRecord) -> None:
        """The store has it."""
        name = Path(record.key).name
        for path in (self._sending / name, self._sending / f"{name}.json"):
            path.unlink(missing_ok=True)

    def give_back(self, record: WindowRecord) -> None:
        """It could not be sent; it waits again."""
        name = Path(record.key).name
        (self._sending / f"{name}.json").replace(self._ready / f"{name}.json")
        (self._sending / name).replace(self._ready / name)

    def _drop_oldest(self) -> bool:
        """Lets the oldest waiting window go. Its record stays, by a rename, which a full disk allows."""
        for record in self.waiting():
            name = Path(record.key).name
            try:
                (self._ready / f"{name}.json").replace(self._dropped / f"{name}.json")
                (self._ready / name).unlink()
            except FileNotFoundError:
                (self._dropped / f"{name}.json").unlink(missing_ok=True)  # it is being sent
                continue
            return True
        return False

    def dropped(self) -> list[WindowRecord]:
        """Windows that had to go and are in no ledger yet."""
        return _records(self._dropped.glob("*.json"))

    def drop_noted(self, record: WindowRecord) -> None:
        """The ledger has it."""
        (self._dropped / f"{Path(record.key).name}.json").unlink(missing_ok=True)

    def keep_row(self, path: str, row: dict[str, Any]) -> None:
        """A ledger's row waits as well. A row of the same path takes its place.  Raises OSError."""
        name = path.replace("/", "!")
        part = self._rows / f"{name}.part"
        part.write_text(json.dumps(row))
        part.replace(self._rows / name)

    def rows(self) -> Iterator[tuple[str, bytes]]:
        """Rows that wait: path and content."""
        for path in sorted(self._rows.glob("*.json")):
            with contextlib.suppress(FileNotFoundError):
                yield path.name.replace("!", "/"), path.read_bytes()

    def row_sent(self, path: str, content: bytes) -> None:
        """The store has this row, unless it has changed meanwhile."""
        kept = self._rows / path.replace("/", "!")
        with contextlib.suppress(FileNotFoundError):
            if kept.read_bytes() == content:
                kept.unlink()


def _records(paths: Iterable[Path]) -> list[WindowRecord]:
    found = []
    for path in paths:
        with contextlib.suppress(OSError, ValidationError):
            found.append(WindowRecord.model_validate_json(path.read_bytes()))
    return sorted(found, key=lambda record: (record.start, record.sequence))


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:
        return 0
