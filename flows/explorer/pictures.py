"""Thumbnails, so that a page of results loads kilobytes of each: parts of storyboards, frames, pictures of alerts."""

from __future__ import annotations

import io
import re
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from PIL import Image, UnidentifiedImageError

from flows.explorer.kept import Kept
from tasks.alerts import image_path, sampled_picture
from tasks.core.activity.page import thumbnail
from tasks.core.errors import DamagedArtifact, StoreUnavailable
from tasks.core.publish import storyboard
from tasks.core.tracking.records import Place
from tasks.records.results import VIEWS
from tasks.store import Store

MOST_PICTURE_BYTES: Final = 32 * 2**20
"""Of an alert's picture."""

MOST_PIXELS: Final = 64_000_000
"""Of a storyboard: the largest that is made has 400 pictures of 160 x 288."""

KEEP_S: Final = 30.0
"""How long a storyboard may be an old one after its media was analysed again."""

_XYWH: Final = re.compile(r"(\d{1,5}),(\d{1,5}),(\d{1,4}),(\d{1,4})")

_BOX: Final = re.compile(r"([01]\.\d{1,6}),([01]\.\d{1,6}),([01]\.\d{1,6}),([01]\.\d{1,6})")

Crop = tuple[int, int, int, int]
"""x, y, width and height, pixels of the storyboard."""

Version = tuple[str, int, int]
"""Path, time and size of a local file: other content has another version."""


def parse_xywh(text: str) -> Crop | None:
    """The crop of a media fragment, `x,y,w,h`; None for anything else."""
    match = _XYWH.fullmatch(text)
    if match is None:
        return None
    x, y, width, height = (int(number) for number in match.groups())
    return (x, y, width, height) if width and height else None


def parse_box(text: str) -> Place | None:
    """A box in parts of the picture's width and height, `x1,y1,x2,y2`; None for anything else."""
    match = _BOX.fullmatch(text)
    if match is None:
        return None
    x1, y1, x2, y2 = (min(float(part), 1.0) for part in match.groups())
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


class Pictures:
    """Safe for threads; one storyboard is decoded at a time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._decoding = threading.Lock()
        self._found: Kept[str, Version | None] = Kept(256, KEEP_S)
        self._tracks: Kept[str, str] = Kept(64, KEEP_S)
        self._sheets: Kept[Version, Image.Image | None] = Kept(2)
        self._small: Kept[tuple[str, float, Place | None], bytes | None] = Kept(1024, KEEP_S)
        self._crops: Kept[tuple[Version, Crop], bytes | None] = Kept(4096)

    def at(self, media_id: str, time: float) -> bytes | None:
        """JPEG of the picture nearest to a second, None where the media has no storyboard."""
        track = self._tracks.get(media_id, partial(self._track, media_id))
        found = storyboard.picture_at(track, time)
        crop = parse_xywh(found.partition("#xywh=")[2]) if found else None
        return self.crop(media_id, crop) if crop else None

    def crop(self, media_id: str, crop: Crop) -> bytes | None:
        """JPEG of one part of the storyboard, None where there is no such part."""
        version = self._found.get(media_id, partial(self._locate, media_id))
        return self._crops.get((version, crop), partial(self._cut, version, crop)) if version else None

    def alert(self, alert_id: str) -> bytes | None:
        """Small JPEG of the frame at which a rule fired, None where none is stored."""
        return self._small.get((alert_id, -1.0, None), partial(self._shrink, image_path(alert_id)))

    def frame(self, media_id: str, time: float, box: Place | None) -> bytes | None:
        """Small JPEG of the frame that was sampled at a second, with a box; of the storyboard where it is not kept."""
        return self._small.get((media_id, time, box), partial(self._draw, media_id, time, box))

    def _shrink(self, path: str) -> bytes | None:
        size = self._store.size(path)
        found = self._store.read(path) if size is not None and size <= MOST_PICTURE_BYTES else None
        return thumbnail(found[0]) if found else None

    def _draw(self, media_id: str, time: float, box: Place | None) -> bytes | None:
        with suppress(DamagedArtifact, StoreUnavailable, OSError, ValueError), self._decoding:
            if found := sampled_picture(self._store, media_id, time, box):
                return thumbnail(found)
        return self.at(media_id, time)

    def _track(self, media_id: str) -> str:
        found = self._store.read(f"media/{media_id}/{VIEWS['storyboard_vtt']}")
        return found[0].decode("utf-8", "replace") if found else ""

    def _locate(self, media_id: str) -> Version | None:
        path = f"media/{media_id}/{VIEWS['storyboard']}"
        if self._store.size(path) is None:
            return None
        local = self._store.local(path)
        status = local.stat()
        return str(local), status.st_mtime_ns, status.st_size

    def _cut(self, version: Version, crop: Crop) -> bytes | None:
        with self._decoding:
            sheet = self._sheets.get(version, partial(_decode, Path(version[0])))
        x, y, width, height = crop
        if sheet is None or x + width > sheet.width or y + height > sheet.height:
            return None
        buffer = io.BytesIO()
        sheet.crop((x, y, x + width, y + height)).save(buffer, "JPEG", quality=88)
        return buffer.getvalue()


def _decode(path: Path) -> Image.Image | None:
    try:
        with Image.open(path, formats=["JPEG"]) as sheet:
            return sheet.convert("RGB") if sheet.width * sheet.height <= MOST_PIXELS else None
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, ImportError):
        return None  # ImportError: ultralytics, where it is loaded too, makes Image.open ask for further packages
