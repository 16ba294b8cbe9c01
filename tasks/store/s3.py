"""A store in an S3 bucket: whole-object puts, and commits by conditional write (If-None-Match, If-Match).

Credentials, region and endpoint are boto3's own (AWS_*, role, profile) or those of a Prefect block. Objects that are
read as files are kept on this host. Nothing is made public: no ACL is sent, and links are made only when asked for.
"""

from __future__ import annotations

import functools
import random
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from tasks.core.errors import NetworkError, StoreConflict, StoreUnavailable
from tasks.core.s3 import (
    MISSING,
    S3Options,
    error_code,
    error_status,
    get_object,
    is_throttling,
    object_chunks,
    pause_s,
    s3_client,
)
from tasks.settings import settings
from tasks.store import BLOCK, Guarantee, Stored, link_seconds
from tasks.store.conditional import BUSY, OURS, REFUSED, remember, remembered, turn
from tasks.store.object_cache import ObjectCache
from tasks.store.s3_failures import explained
from tasks.store.upload import content_type, upload_in_parts, user_metadata
from tasks.store.workspace import workspace

SETTLE_S = 0.5
"""Where conditions are ignored: the time within which a write of another host is noticed; up to twice as long."""

TRIES = 4
"""Of what others interrupt: a read of an object that is replaced meanwhile, a commit that meets another one."""

PROBE = b"reelflow"

_ELSEWHERE = "set REELFLOW_CACHE_DIR to a folder on another"


def open_bucket(address: str) -> S3Store:
    """The store at s3://bucket/prefix or s3-bucket/NAME."""
    if address.startswith(BLOCK):
        from tasks.store.block import block_client, bucket_and_folder

        name = address.removeprefix(BLOCK)
        bucket, prefix = bucket_and_folder(name)
        return S3Store(bucket, prefix, address, functools.partial(block_client, name))
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    if "@" in bucket:
        raise StoreUnavailable(
            "The store's address holds credentials, which would end up in results and logs; write s3://bucket/prefix "
            "and set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a block (s3-bucket/NAME)."
        )
    if not bucket:
        raise StoreUnavailable(f"{address!r} names no bucket; write s3://bucket/prefix.")
    return S3Store(bucket, prefix.strip("/"), None, lambda options: s3_client(options, options.expected_bucket_owner))


class S3Store:
    def __init__(self, bucket: str, prefix: str, address: str | None, connect: Callable[[S3Options], Any]) -> None:
        self.root = f"s3://{bucket}/{prefix}".rstrip("/")
        self.address = address or self.root
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._connect = connect
        self._guarantees: dict[str, Guarantee] = {}

    @property
    def guarantee(self) -> Guarantee:
        endpoint = self._endpoint
        if endpoint not in self._guarantees:
            self._guarantees[endpoint] = remembered(settings().cache, endpoint, self.root, self._try_out)
        return self._guarantees[endpoint]

    def check(self) -> Guarantee:
        endpoint = self._endpoint
        self._guarantees[endpoint] = remember(settings().cache, endpoint, self.root, self._try_out())
        return self._guarantees[endpoint]

    def _try_out(self) -> Guarantee:
        """Writes, reads, lists and removes an object, and sees whether conditions are kept."""
        probe = f"{OURS}probe-{uuid.uuid4().hex}"
        self.write(probe, PROBE)
        try:
            kept = self._refuses(probe, IfNoneMatch="*") and self._refuses(probe, IfMatch=f'"{"0" * 32}"')
            found = self.read(probe)
            with self._explained():
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix + OURS, MaxKeys=1)
        finally:
            self.delete(probe)
        if found is None or found[0] != PROBE:
            raise StoreUnavailable(f"What is written to {self.root} is not read back; choose another store.")
        return "atomic" if kept else "last-writer"

    def _refuses(self, path: str, **condition: str) -> bool:
        with self._explained():
            try:
                self._put(path, PROBE, **condition)
            except ClientError as error:
                if error_code(error) in REFUSED | BUSY:
                    return True
                if error_code(error) != "NotImplemented" and error_status(error) != 501:
                    raise
        return False

    def uri(self, path: str) -> str:
        return f"{self.root}/{path}"

    def read(self, path: str) -> tuple[bytes, str] | None:
        with self._explained():
            for attempt in range(1, TRIES + 1):
                try:
                    answer = self._get(path)
                    return b"".join(self._chunks(path, answer)), str(answer["ETag"])
                except ClientError as error:
                    if error_code(error) in MISSING:
                        return None
                    if error_code(error) not in REFUSED:
                        raise
                time.sleep(pause_s(attempt))
        raise NetworkError(f"{self.uri(path)} is replaced faster than it can be read; it is tried again.")

    def size(self, path: str) -> int | None:
        with self._explained():
            try:
                return int(self._client.head_object(**self._at(path))["ContentLength"])
            except ClientError as error:
                if error_code(error) in MISSING:
                    return None
                if error_status(error) < 500 and not is_throttling(error):
                    # An answer to HEAD has no body that says why.
                    self._get(path, Range="bytes=0-0")["Body"].close()
                raise

    def write(self, path: str, data: bytes) -> None:
        with self._explained():
            self._put(path, data)

    def commit(self, path: str, data: bytes, expected: str | None) -> None:
        if self.guarantee == "atomic":
            written = self._commit_if(path, data, expected)
        else:
            written = self._commit_and_look(path, data, expected)
        if not written:
            raise StoreConflict(f"{self.uri(path)} was written by another run meanwhile; it is read again.")

    def _commit_if(self, path: str, data: bytes, expected: str | None) -> bool:
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        with self._explained():
            for attempt in range(1, TRIES + 1):
                try:
                    self._put(path, data, **condition)
                    return True
                except ClientError as error:
                    if error_code(error) in REFUSED or (expected and error_code(error) in MISSING):
                        break
                    if error_code(error) not in BUSY:
                        raise
                time.sleep(pause_s(attempt))
        # Where the answer to our own write was lost, botocore sent it again, and it was refused for being there.
        found = self.read(path)
        return found is not None and found[0] == data

    def _commit_and_look(self, path: str, data: bytes, expected: str | None) -> bool:
        with turn(settings().cache, self.uri(path)):
            found = self.read(path)
            if found and found[0] == data:
                return True
            if (found[1] if found else None) != expected:
                return False
            self.write(path, data)
            time.sleep(SETTLE_S * (1 + random.random()))  # noqa: S311
            found = self.read(path)
            return found is not None and found[0] == data

    def put(
        self, path: str, local: Path, version: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        with self._explained():
            if local.stat().st_size <= settings().s3.multipart_threshold_bytes:
                with local.open("rb") as file:
                    self._put(path, file, **({"Metadata": user_metadata(metadata)} if metadata is not None else {}))
            else:
                upload_in_parts(self._client, settings().s3, local, metadata, **self._at(path))
        if version is None:
            local.unlink()
        else:
            self._cache.adopt(self.uri(path), version, local)

    def metadata(self, path: str) -> dict[str, Any] | None:
        with self._explained():
            try:
                return dict(self._client.head_object(**self._at(path)).get("Metadata", {}))
            except ClientError as error:
                if error_code(error) in MISSING:
                    return None
                raise

    def local(self, path: str, version: str | None = None) -> Path:
        uri, cache = self.uri(path), self._cache
        if version is not None and (held := cache.find(uri, version)):
            return held
        known = cache.tag(uri) if version is None else None
        held = cache.find(uri, known) if known else None
        with self._explained():
            for attempt in range(1, TRIES + 1):
                try:
                    answer = self._get(path, **({"IfNoneMatch": known} if held and known else {}))
                    with closing(self._chunks(path, answer)) as chunks:
                        found = cache.add(uri, version or str(answer["ETag"]), chunks)
                    if version is None:
                        cache.remember(uri, str(answer["ETag"]))
                    return found
                except ClientError as error:
                    if error_status(error) == 304 and held:
                        return held
                    if error_code(error) in MISSING:
                        raise StoreUnavailable(
                            f"{uri} is missing from the store; run the same command again to make it again."
                        ) from None
                    if error_code(error) not in REFUSED:
                        raise
                time.sleep(pause_s(attempt))
        raise NetworkError(f"{uri} is replaced faster than it can be read; it is tried again.")

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        with workspace(settings().cache / "work", _ELSEWHERE) as folder:
            yield folder

    def exists(self) -> bool:
        return next(self.scan(""), None) is not None

    def scan(self, prefix: str) -> Iterator[Stored]:
        below = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + below
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    path = item["Key"].removeprefix(self._prefix)
                    if not path.startswith(OURS) and not path.endswith("/"):
                        yield Stored(path, int(item["Size"]), item["LastModified"].timestamp())

    def list(self, prefix: str) -> Iterator[str]:
        return (found.path for found in self.scan(prefix))

    def folders(self, prefix: str) -> Iterator[str]:
        start = self._prefix + (f"{prefix.rstrip('/')}/" if prefix.strip("/") else "")
        with self._explained():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=start, Delimiter="/"
            )
            for page in pages:
                for folder in page.get("CommonPrefixes", ()):
                    name = folder["Prefix"][len(start) :].rstrip("/")
                    if prefix.strip("/") or f"{name}/" != OURS:
                        yield name

    def delete(self, path: str) -> None:
        with self._explained():
            self._client.delete_object(**self._at(path))

    def link(self, path: str, seconds: int = 900) -> str:
        with self._explained():
            return str(
                self._client.generate_presigned_url(
                    "get_object", Params=self._at(path), ExpiresIn=link_seconds(seconds)
                )
            )

    @property
    def _client(self) -> Any:
        return self._connect(settings().s3)

    @property
    def _endpoint(self) -> str:
        with self._explained():
            return str(self._client.meta.endpoint_url)

    @property
    def _cache(self) -> ObjectCache:
        here = settings()
        return _object_cache(here.cache, here.object_cache_bytes)

    def _at(self, path: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + path}

    def _get(self, path: str, **condition: str) -> dict[str, Any]:
        return get_object(self._client, settings().s3.max_attempts, **self._at(path), **condition)

    def _chunks(self, path: str, answer: dict[str, Any]) -> Generator[bytes]:
        at = self._at(path)
        return object_chunks(self._client, at["Bucket"], at["Key"], answer, settings().s3.max_attempts)

    def _put(self, path: str, body: Any, **condition: Any) -> None:
        self._client.put_object(**self._at(path), Body=body, ContentType=content_type(path), **condition)

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.root, self._bucket, settings().s3.expected_bucket_owner)


@functools.lru_cache(maxsize=4)
def _object_cache(cache: Path, max_bytes: int) -> ObjectCache:
    return ObjectCache(cache, max_bytes)
