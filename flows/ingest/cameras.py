"""Which cameras there are, from the command line or a YAML file, and where their addresses come from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tasks import credentials
from tasks.core.errors import CredentialsRefused, OptionError
from tasks.core.live.names import check_camera

_ENVIRONMENT: Final = "env:"
_KEEP: Final = re.compile(r"(\d{1,5})\s*([hdw])")
_HOURS: Final = {"h": 1, "d": 24, "w": 168}


class CameraOptions(BaseModel):
    """One camera: where it is, and how it is cut into windows."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(
        min_length=1, max_length=4000, description="rtsp://, rtmp://, http(s)://, a file, or where it stands: env:NAME"
    )
    transport: Literal["tcp", "udp"] = Field("tcp", description="How RTSP sends its packets")
    private_hosts: bool | None = Field(
        None, description="Allow private and loopback addresses; default REELFLOW_ALLOW_PRIVATE_HOSTS"
    )
    window: float = Field(3.0, ge=0.5, le=600, description="Windows end at the first key frame at or after, seconds")
    max_window: float = Field(30.0, ge=0.5, le=3600, description="Longest window where no key frame comes, seconds")
    transcode: bool = Field(False, description="Encode anew (H.264), so that every window is exactly as long as asked")
    bitrate: int = Field(1_000_000, ge=10_000, le=100_000_000, description="Of --transcode, bits per second")
    refresh_rate: int = Field(1, ge=1, le=1000, description="Of --transcode: every Nth frame is kept")
    pace: bool = Field(False, description="Read a file as fast as it was recorded, as if it were live")
    duration: float | None = Field(None, gt=0, description="End after so many seconds")
    keep: str | None = Field(None, description="Delete windows that are older: 12h, 30d, 4w")
    stall: float = Field(10.0, ge=1, le=300, description="Without a frame for so long it is connected anew, seconds")

    @field_validator("max_window")
    @classmethod
    def _not_less(cls, value: float, info: Any) -> float:
        if "window" in info.data and value < info.data["window"]:
            raise ValueError("max_window is less than window")
        return value

    @field_validator("keep")
    @classmethod
    def _age(cls, value: str | None) -> str | None:
        if value is not None and not _KEEP.fullmatch(value):
            raise ValueError("write how long windows are kept as 12h, 30d or 4w")
        return value

    @property
    def keep_s(self) -> float | None:
        """How long windows are kept, seconds; None for ever."""
        found = _KEEP.fullmatch(self.keep) if self.keep else None
        return float(int(found[1]) * _HOURS[found[2]] * 3600) if found else None


class IngestOptions(BaseModel):
    """Cameras, where their windows go, and what this host keeps meanwhile."""

    model_config = ConfigDict(extra="forbid")

    to: str = Field(min_length=1, description="Root of the recordings: a folder, s3://bucket/prefix or s3-bucket/NAME")
    cameras: dict[str, CameraOptions] = Field(min_length=1)
    spool: Path | None = Field(None, description="Folder for what waits to be sent; default in REELFLOW_CACHE_DIR")
    spool_bytes: int = Field(2 * 2**30, ge=2**20, description="Most that one camera's windows may take there, bytes")
    uploads: int = Field(6, ge=1, le=32, description="Windows sent at the same time")

    @field_validator("cameras")
    @classmethod
    def _named(cls, value: dict[str, CameraOptions]) -> dict[str, CameraOptions]:
        for name in value:
            try:
                check_camera(name)
            except OptionError as error:
                raise ValueError(error.message) from None
        return value


def read_config(path: Path, **overrides: Any) -> IngestOptions:
    """The options in a YAML file: `to`, `cameras: {NAME: {url: ...}}`.  Raises OptionError, naming the place."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"{path}: it cannot be read ({getattr(error, 'strerror', 'not UTF-8')}).") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise OptionError(f"{path}{place}: it is no YAML.") from None
    if not isinstance(content, dict):
        raise OptionError(f"{path}: it needs `to:` and `cameras:`.")
    return options(str(path), **content | {name: value for name, value in overrides.items() if value is not None})


def options(where: str, **values: Any) -> IngestOptions:
    """Checked options.  Raises OptionError without what was given: there may be a password in it."""
    try:
        return IngestOptions.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"{where}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def resolve(url: str) -> str:
    """The address itself: of env:NAME from the environment, of secret://NAME as tasks.credentials finds it.

    Raises CredentialsRefused where there is none of that name; NetworkError.
    """
    if url.startswith(_ENVIRONMENT):
        name = url.removeprefix(_ENVIRONMENT)
        found = os.environ.get(name)
        if not found:
            raise CredentialsRefused(f"the environment has no variable {name}; set it to the camera's address.")
        return found
    return credentials.resolve(url)
