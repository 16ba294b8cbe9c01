"""A store in an S3 bucket: whole-object puts, and commits by conditional write (If-None-Match, If-Match).

Credentials, region and endpoint are boto3's own (AWS_*, role, profile). Objects that are read as files are kept in this
host's cache by their path and tag.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from tasks.core.errors import NetworkError, StoreConflict, StoreUnavailable, Throttled
from tasks.settings import settings

_CONFIG = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=60)
_MISSING = {"404", "NoSuchKey", "NotFound"}
_CONFLICT = {"412", "409", "PreconditionFailed", "ConditionalRequestConflict"}
_THROTTLED = {"SlowDown", "Throttling", "RequestLimitExceeded", "429", "503"}


class S3Store:
    def __init__(self, root: str) -> None:
        parts = urlsplit(root)
        if not parts.netloc:
            raise StoreUnavailable(f"{root!r} names no bucket; write s3://bucket/prefix.")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self.root = f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def uri(self, path: str) -> str:
        return f"{self.root}/{path}"

    def read(self, path: str) -> tuple[bytes, str] | None:
        with self._explain():
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._key(path))
                return answer["Body"].read(), answer["ETag"]
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

    def size(self, path: str) -> int | None:
        head = self._head(path)
        return int(head["ContentLength"]) if head else None

    def write(self, path: str, data: bytes) -> None:
        with self._explain():
            self._client.put_object(Bucket=self._bucket, Key=self._key(path), Body=data)

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with self._explain():
            try:
                self._client.put_object(Bucket=self._bucket, Key=self._key(path), Body=data, **condition)
            except ClientError as error:
                if _code(error) in _CONFLICT or (expected and _code(error) in _MISSING):
                    raise StoreConflict(
                        f"{self.uri(path)} was written by another run meanwhile; it is read again."
                    ) from error
                raise

    def put(self, path: str, local: Path) -> None:
        with self._explain():
            self._client.upload_file(str(local), self._bucket, self._key(path))

    def local(self, path: str) -> Path:
        head = self._head(path)
        if head is None:
            raise StoreUnavailable(
                f"{self.uri(path)} is missing from the store; run the same command again to make it again."
            )
        name = hashlib.sha256(f"{self.uri(path)} {head['ETag']}".encode()).hexdigest()
        kept = settings().cache / "objects" / name[:2] / (name + Path(path).suffix)
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            with self.workspace() as work, self._explain():
                self._client.download_file(self._bucket, self._key(path), str(work / "object"))
                (work / "object").replace(kept)
        return kept

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        parent = settings().cache / "work"
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def list(self, prefix: str) -> Iterator[str]:
        start = self._key("")
        with self._explain():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield item["Key"].removeprefix(start)

    def delete(self, path: str) -> None:
        with self._explain():
            self._client.delete_object(Bucket=self._bucket, Key=self._key(path))

    @cached_property
    def _client(self) -> Any:
        return boto3.session.Session().client("s3", config=_CONFIG)

    def _key(self, path: str) -> str:
        return f"{self._prefix}/{path}" if self._prefix else path

    def _head(self, path: str) -> dict[str, Any] | None:
        with self._explain():
            try:
                return dict(self._client.head_object(Bucket=self._bucket, Key=self._key(path)))
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

    @contextmanager
    def _explain(self) -> Iterator[None]:
        try:
            yield
        except NoCredentialsError as error:
            raise StoreUnavailable(
                f"The store {self.root} needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "a profile or a role."
            ) from error
        except (ClientError, S3UploadFailedError) as error:
            code = _code(error)
            if code in _THROTTLED:
                raise Throttled(f"The store {self.root} asks to slow down ({code}).") from error
            if code == "NoSuchBucket":
                raise StoreUnavailable(
                    f"The bucket of the store {self.root} does not exist; create it or set --store."
                ) from error
            raise StoreUnavailable(
                f"The store {self.root} refused a request ({code}); check the bucket's policy and your credentials."
            ) from error
        except BotoCoreError as error:
            raise NetworkError(f"The store {self.root} cannot be reached: {error}") from error


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", type(error).__name__))
