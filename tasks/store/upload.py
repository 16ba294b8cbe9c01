"""Large files go to a bucket in parts, several at a time; memory and threads do not grow with the file."""

from __future__ import annotations

import mimetypes
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


def upload_in_parts(client: Any, options: S3Options, local: Path, *, Bucket: str, Key: str) -> None:  # noqa: N803
    """Puts a file, whole or not at all; raises what boto3 raises."""
    config = TransferConfig(
        multipart_threshold=options.multipart_threshold_bytes,
        multipart_chunksize=options.multipart_chunk_bytes,
        max_concurrency=options.multipart_concurrency,
        preferred_transfer_client="classic",
    )
    for attempt in range(1, UPLOADS + 1):
        try:
            # S3Transfer would turn the ClientError into a text.
            with create_transfer_manager(client, config) as manager:
                manager.upload(str(local), Bucket, Key, {"ContentType": content_type(Key)}).result()
            return
        except ClientError as error:
            if error_code(error) != "NoSuchUpload" or attempt == UPLOADS:
                raise
