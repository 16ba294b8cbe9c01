"""The media itself for the player: the bytes that a committed result was made from, by range requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse

from tasks.core.errors import (
    CredentialsRefused,
    EmptySource,
    LimitExceeded,
    NetworkError,
    PermissionDenied,
    SourceChanged,
    SourceNotFound,
    UnsupportedSource,
)
from tasks.core.fetch import fetch, local_path
from tasks.core.options import LimitOptions
from tasks.core.s3 import NO_PERMISSION, credential_failures, error_code, error_status, get_object, s3_client
from tasks.core.schema import Result
from tasks.core.source_cache import Entry, SourceCache
from tasks.settings import settings

BLOCK_BYTES: Final = 256 * 1024
"""Read from a bucket and sent at a time."""

_TYPES: Final = {
    "mp4": "mp4",
    "webm": "webm",
    "ogg": "ogg",
    "mp3": "mpeg",
    "wav": "wav",
    "flac": "flac",
    "avi": "x-msvideo",
    "mpegts": "mp2t",
}
"""Of a container's names the first one found here, and its media subtype."""

_CHANGED: Final = "The source has changed since it was analysed; analyse it again to watch it."
_READS: Final = 3
"""Without progress, until a body that breaks is given up; players ask for the rest."""

_RANGE: Final = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))")


@dataclass(frozen=True)
class Source:
    """What a committed result says about the bytes that it was made from."""

    media_id: str
    source: str
    bytes: int
    type: str
    """Media type that the player is told."""

    @property
    def headers(self) -> dict[str, str]:
        """The id is a digest of the content: it is a strong validator for ever."""
        return {"etag": f'"{self.media_id}"', "cache-control": "private, max-age=3600", "accept-ranges": "bytes"}


def source_of(result: Result) -> Source:
    kind = "video" if result.media.video else "audio"
    named = (_TYPES[name] for name in result.media.container.split(",") if name in _TYPES)
    subtype = next(named, None)
    media_type = f"{kind}/{subtype}" if subtype else "application/octet-stream"
    return Source(result.media_id, result.source, result.media.bytes, media_type)


def is_within_reach(source: Source) -> bool:
    """Is it worth offering a player? Says nothing about whether the content is still the same."""
    scheme = _scheme(source)
    if scheme == "s3" or _held(source) is not None:
        return True
    with suppress(OSError, UnsupportedSource, ValueError):
        return scheme in ("", "file") and _local(source).stat().st_size == source.bytes
    return False


def send_source(source: Source, request: Request) -> Response:
    """Answers GET and HEAD, whole or in ranges. Blocks while it opens the source.

    A local file is sent only if its content is what the result's id is the digest of; what this host knows of it from
    analysing it is trusted as long as its size, time and inode are the same. Raises PermanentError or TransientError.
    """
    scheme = _scheme(source)
    if scheme in ("", "file"):
        return FileResponse(_verified(source), headers=source.headers, media_type=source.type)
    if held := _held(source):
        return FileResponse(held, headers=source.headers, media_type=source.type)
    if scheme != "s3":
        raise UnsupportedSource(
            "The source is a web address, and this host keeps no copy of it; analyse it here again to watch it."
        )
    return _send_object(source, request)


def _scheme(source: Source) -> str:
    scheme, found, _ = source.source.partition("://")
    return scheme.lower() if found else ""


def _local(source: Source) -> Path:
    return Path(local_path(source.source) if _scheme(source) else source.source)


def _verified(source: Source) -> Path:
    here = settings()
    with suppress(LimitExceeded, EmptySource):
        found = fetch(source.source, here.cache, LimitOptions(max_bytes=max(1, source.bytes)), here.cache_bytes)
        if found.media_id == source.media_id:
            return found.path
    raise SourceChanged(_CHANGED)


def _held(source: Source) -> Path | None:
    """What this host's cache of sources keeps under the digest."""
    here = settings()
    return SourceCache(here.cache, here.cache_bytes).find(Entry(source.media_id, source.bytes))


def parse_range(headers: Headers, source: Source) -> tuple[int, int] | None:
    """First and last byte that are asked for; None for all of them, as several ranges at once are.

    Raises ValueError for a range that begins beyond the end.
    """
    match = _RANGE.fullmatch(headers.get("range", "").strip())
    condition = headers.get("if-range")
    if match is None or (condition is not None and condition != source.headers["etag"]):
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(source.bytes - int(suffix), 0), source.bytes - 1
        if not int(suffix):
            raise ValueError("the last 0 bytes")
    else:
        start, end = int(first), min(int(last) if last else source.bytes - 1, source.bytes - 1)
        if last and int(last) < start:
            return None
    if start >= source.bytes:
        raise ValueError(f"byte {start} of {source.bytes}")
    return start, end


def _send_object(source: Source, request: Request) -> Response:
    try:
        wanted = parse_range(request.headers, source)
    except ValueError:
        return PlainTextResponse("", 416, {**source.headers, "content-range": f"bytes */{source.bytes}"})
    first, last = wanted or (0, source.bytes - 1)
    headers = {**source.headers, "content-length": str(last - first + 1)}
    if wanted:
        headers["content-range"] = f"bytes {first}-{last}/{source.bytes}"
    status = 206 if wanted else 200
    if request.method == "HEAD":
        _open_object(source, 0, 0)["Body"].close()
        return Response(None, status, headers, source.type)
    opened = _open_object(source, first, last)
    return StreamingResponse(_blocks(source, first, last, opened), status, headers, source.type)


def _open_object(source: Source, first: int, last: int, etag: str | None = None) -> dict[str, Any]:
    """The bytes from first to last; with an ETag, of no other version. Raises SourceChanged."""
    from botocore.exceptions import BotoCoreError, ClientError

    options = settings().s3
    bucket, _, key = source.source.partition("://")[2].partition("/")
    if not bucket or not key:
        raise UnsupportedSource("The result names no object of a bucket.")
    client = s3_client(options, options.source_owner)
    wanted = {"Bucket": bucket, "Key": key, "Range": f"bytes={first}-{last}"}
    try:
        answer = get_object(client, options.max_attempts, **wanted)
    except ClientError as error:
        code = error_code(error)
        if code in ("NoSuchKey", "NoSuchBucket", "404"):
            raise SourceNotFound("The source is no longer in its bucket.") from None
        if code == "InvalidRange":
            raise SourceChanged(_CHANGED) from None
        if code in NO_PERMISSION or error_status(error) in (401, 403):
            raise PermissionDenied(f"S3 refuses access to the source ({code}); check the credentials.") from None
        raise NetworkError(f"S3 did not give the source ({code}); try again.") from None
    except credential_failures():
        raise CredentialsRefused(
            "There are no AWS credentials to read the source with; set them and start again."
        ) from None
    except BotoCoreError as error:
        raise NetworkError(f"S3 did not give the source ({type(error).__name__}); try again.") from None
    is_whole = str(answer.get("ContentRange", "")).rpartition("/")[2] == str(source.bytes)
    if not is_whole or etag not in (None, answer["ETag"]):
        answer["Body"].close()
        raise SourceChanged(_CHANGED)
    return answer


def _blocks(source: Source, first: int, last: int, opened: dict[str, Any]) -> Iterator[bytes]:
    """The bytes from first to last; a connection that breaks is opened again where it stopped.

    Raises SourceChanged, which breaks the answer off, where the object is no longer the one that was begun.
    """
    from botocore.exceptions import BotoCoreError

    failures = 0
    while True:
        try:
            with closing(opened["Body"]) as body:
                for block in body.iter_chunks(BLOCK_BYTES):
                    first, failures = first + len(block), 0
                    yield block
            return
        except BotoCoreError:
            failures += 1
            if failures == _READS or first > last:
                raise
        opened = _open_object(source, first, last, opened["ETag"])
