"""What a window is called and what is said of it: keys that sort by camera and time, and a record with each object."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import Field, ValidationError

from tasks.core.errors import OptionError
from tasks.core.live.clock import Source
from tasks.core.schema import Record

CAMERA: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEY: Final = re.compile(
    r"camera=(?P<camera>[A-Za-z0-9][A-Za-z0-9._-]{0,63})/(?P<day>\d{4}/\d{2}/\d{2})/"
    r"(?P<start>\d{8}T\d{6}\.\d{3}Z)-(?P<sequence>\d{8,})\.(?P<suffix>mp4|mov|mkv)"
)
"""Exactly the keys that `key` makes: what is called anything else is not ours."""
LEDGER: Final = "ledger"
"""Folder of rows beside the cameras' folders: ledger/{gaps,events,retention}/camera=NAME/YYYY/MM/DD/....json"""
_OURS: Final = re.compile(rf"(?:^|/)(?:{KEY.pattern}\.json|{LEDGER}/[a-z]+/camera=[^/]+/[0-9/]+/[^/]+\.json)$")


class WindowRecord(Record):
    """One window: what stands in its metadata, in the `windows` table and in the lines of `ingest --json`."""

    camera: str
    run: str
    """Frames of one run are of one connection and one clock."""
    sequence: int
    """Counts the windows of a camera, over all its runs."""
    key: str
    """Path below the root of the recordings."""
    start: str
    """RFC 3339, UTC, milliseconds."""
    start_uncertainty_ms: float
    clock: Source
    media_duration_s: float
    """By the stream's own clock."""
    wall_duration_s: float
    """By the wall clock: the next window of the run starts this much later."""
    frames: int
    fps: float
    width: int
    height: int
    codec: str
    audio_codec: str = ""
    bytes: int
    keyframe_aligned: bool
    """It begins with a key frame, so that all of it can be decoded."""
    gap_before_s: float
    residual_ms: float = 0.0
    """What its own frames said of its start, minus `start`."""
    interrupted: bool = Field(False, description="Its process was killed; it was put together from what was kept")

    @property
    def begins(self) -> float:
        """Unix time of its start."""
        return datetime.fromisoformat(self.start).timestamp()

    @property
    def ends(self) -> float:
        return self.begins + self.wall_duration_s

    def line(self) -> str:
        """One line of JSON."""
        return self.model_dump_json()


def check_camera(name: str) -> str:
    """The name. Raises OptionError where it could not stand in a key."""
    if not CAMERA.fullmatch(name):
        raise OptionError(
            f"{name!r} is no name for a camera: up to 64 letters, digits, dots, dashes and underscores, "
            "beginning with a letter or digit."
        )
    return name


def moment(start: float) -> datetime:
    """Unix time, rounded to milliseconds."""
    return datetime.fromtimestamp(round(start * 1000) / 1000, UTC)


def rfc3339(start: float) -> str:
    return moment(start).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def stamp(start: float) -> str:
    """A time as it stands in names: 20261121T140500.250Z."""
    time = moment(start)
    return f"{time:%Y%m%dT%H%M%S}.{time.microsecond // 1000:03d}Z"


def key(camera: str, start: float, sequence: int, suffix: str) -> str:
    """Path of a window below the root of the recordings; UTC whatever the host's zone, so no hour comes twice."""
    return f"camera={camera}/{moment(start):%Y/%m/%d}/{stamp(start)}-{sequence:08d}.{suffix}"


def row_path(kind: str, camera: str, start: float, name: str) -> str:
    """Path of a ledger's row. Equal rows have equal paths: written twice, there is one."""
    return f"{LEDGER}/{kind}/camera={camera}/{moment(start):%Y/%m/%d}/{stamp(start)}-{name}.json"


def is_bookkeeping(name: str) -> bool:
    """Is this a sidecar or a ledger's row, by its path below a prefix, rather than media?"""
    return _OURS.search(name) is not None


def from_metadata(key: str, metadata: dict[str, Any]) -> WindowRecord | None:
    """The record of an object; None where it is none of ours."""
    named = {name.lower().replace("-", "_"): value for name, value in metadata.items()}
    try:
        return WindowRecord.model_validate(
            {k: v for k, v in named.items() if k in WindowRecord.model_fields} | {"key": key}
        )
    except ValidationError:
        return None
