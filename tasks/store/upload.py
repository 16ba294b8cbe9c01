"""Large files go to a bucket in parts, several at a time; memory and threads do not grow with the file."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.exceptions import ClientError

from tasks.core.s3 import S3Options, error_code

UPLOADS = 3
"""Of one file, where the answer to the completion was lost and the upload that it is sent for again is closed."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".srt": "application/x-subrip",
    ".vtt": "text/vtt; charset=utf-8",
}
"""Beside those that Python knows everywhere."""


def content_type(path: str) -> str:
    """What a browser that follows a link is told."""
    return _TYPES.get(Path(path).suffix) or mimetypes.guess_type(path)[0] or "application/octet-stream"


def user_metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """Metadata as S3 keeps it: header names and text."""
    return {name.replace("_", "-"): json.dumps(v) if isinstance(v, bool) else str(v) for name, v in values.items()}


def upload_in_parts(
    client: Any,
    options: S3Options,
    local: Path,
    metadata: Mapping[str, Any] | None = None,
    *,
    Bucket: str,  # noqa: N803
    Key: str,  # noqa: N803
) -> None:
    """Puts a file, whole or not at all; raises what boto3 raises."""
    config = TransferConfig(
        multipart_threshold=options.multipart_threshold_bytes,
        multipart_chunksize=options.multipart_chunk_bytes,
        max_concurrency=options.multipart_concurrency,
        preferred_transfer_client="classic",
    )
    extra: dict[str, Any] = {"ContentType": content_type(Key)}
    if metadata is not None:
        extra["Metadata"] = user_metadata(metadata)
    for attempt in range(1, UPLOADS + 1):
        try:
            # S3Transfer would turn the ClientError into a text.
            with create_transfer_manager(client, config) as manager:
                manager.upload(str(local), Bucket, Key, extra).result()
            return
        except ClientError as error:
            if error_code(error) != "NoSuchUpload" or attempt == UPLOADS:
                raise
