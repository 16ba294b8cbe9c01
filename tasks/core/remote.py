"""Sources that are read over a network, as a stream with a validator; those in S3, with boto3 (http(s): web.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from tasks.core.errors import (
    CredentialsRefused,
    NetworkError,
    PermissionDenied,
    ReelflowError,
    SourceChanged,
    SourceNotFound,
    StoreUnavailable,
    Throttled,
    UnsupportedSource,
)
from tasks.core.s3 import (
    BAD_CREDENTIALS,
    NO_PERMISSION,
    S3Options,
    credential_failures,
    error_code,
    error_status,
    get_object,
    is_throttling,
    is_transient,
    object_chunks,
    s3_client,
)
from tasks.core.source_names import display_source, hide_credentials


@dataclass(frozen=True)
class Remote:
    """An open source. `chunks` is None where it is still the version that the given validator names."""

    validator: dict[str, str]
    size: int | None
    chunks: Iterator[bytes] | None


def _until(chunks: Iterator[bytes], deadline: float, shown: str) -> Iterator[bytes]:
    for chunk in chunks:
        if time.monotonic() > deadline:
            raise NetworkError(f"{shown}: it comes too slowly; it is tried again")
        yield chunk


@contextmanager
def open_s3(
    bucket: str, key: str, validator: dict[str, str], *, deadline: float, options: S3Options
) -> Iterator[Remote]:
    """GetObject, conditional on the validator's ETag; endpoint, region and credentials as boto3 finds them.

    One request for any size, read as a stream; where the connection breaks, the rest is asked for again (If-Match).
    """
    shown = f"s3://{hide_credentials(bucket)}/{display_source(key)}"
    with _s3_failures(hide_credentials(bucket), shown):
        client = s3_client(options, options.source_owner)
        answer = _get_if_changed(client, bucket, key, validator, options.max_attempts)
        if answer is None:
            yield Remote(validator, None, None)
            return
        found = {name: str(answer[field]) for name, field in _S3_VALIDATOR.items() if answer.get(field)}
        with closing(object_chunks(client, bucket, key, answer, options.max_attempts)) as chunks:
            yield Remote(found, int(answer["ContentLength"]), _until(chunks, deadline, shown))


_S3_VALIDATOR = {"etag": "ETag", "version": "VersionId", "last_modified": "LastModified"}


def _get_if_changed(
    client: Any, bucket: str, key: str, validator: dict[str, str], max_attempts: int
) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    condition = {"IfNoneMatch": validator["etag"]} if "etag" in validator else {}
    try:
        return get_object(client, max_attempts, Bucket=bucket, Key=key, **condition)
    except ClientError as error:
        if error_status(error) == 304 and condition:
            return None
        raise


def list_s3(prefix: str, options: S3Options) -> Iterator[tuple[str, str, int, float, str]]:
    """Source, name below the prefix, bytes, Unix time and ETag of each object, a page of them in memory at a time."""
    shown = display_source(prefix)
    bucket, start = _bucket_of(prefix)
    with _s3_failures(hide_credentials(bucket), shown):
        client = s3_client(options, options.source_owner)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start):
            for item in page.get("Contents", ()):
                key = item["Key"]
                if item["Size"] or not key.endswith("/"):
                    yield _listed(bucket, start, key, item["Size"], item)


def folders_s3(prefix: str, options: S3Options) -> Iterator[str]:
    """Names of the folders directly below `prefix/`, in order: one request for a thousand, whatever lies in them."""
    shown = display_source(prefix)
    bucket, start = _bucket_of(prefix)
    start = f"{start.rstrip('/')}/" if start.strip("/") else ""
    with _s3_failures(hide_credentials(bucket), shown):
        client = s3_client(options, options.source_owner)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=start, Delimiter="/"):
            for folder in page.get("CommonPrefixes", ()):
                yield folder["Prefix"][len(start) :].rstrip("/")


def head_s3(prefix: str, key: str, options: S3Options) -> tuple[str, str, int, float, str] | None:
    """What list_s3 would give for one key below the prefix; None where there is no such object."""
    bucket, start = _bucket_of(prefix)
    try:
        with _s3_failures(hide_credentials(bucket), f"s3://{hide_credentials(bucket)}/{display_source(key)}"):
            answer = s3_client(options, options.source_owner).head_object(Bucket=bucket, Key=key)
    except SourceNotFound:
        return None
    return _listed(bucket, start, key, answer["ContentLength"], answer)


def _bucket_of(prefix: str) -> tuple[str, str]:
    bucket, _, start = prefix.removeprefix("s3://").partition("/")
    if not bucket:
        raise UnsupportedSource(f"{display_source(prefix)}: it names no bucket; write s3://bucket/prefix")
    return bucket, start


def _listed(bucket: str, start: str, key: str, size: int, answer: dict[str, Any]) -> tuple[str, str, int, float, str]:
    name = key[len(start) :].lstrip("/") or key
    return f"s3://{bucket}/{key}", name, size, answer["LastModified"].timestamp(), answer["ETag"]


@contextmanager
def _s3_failures(bucket: str, shown: str) -> Iterator[None]:
    from botocore import exceptions as failures

    try:
        yield
    except failures.ClientError as error:
        raise _s3_failure(error, bucket, shown) from None
    except credential_failures():
        raise CredentialsRefused(
            f"{shown}: there are no AWS credentials that can be used; set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE or a role"
        ) from None
    except failures.ParamValidationError:
        raise SourceNotFound(f"{shown}: {bucket!r} is no valid bucket name") from None
    except failures.InvalidEndpointConfigurationError:
        raise StoreUnavailable(f"{shown}: AWS_ENDPOINT_URL is no valid address; write http(s)://host:port") from None
    except failures.BotoCoreError as error:
        raise NetworkError(
            f"{shown}: {type(error).__name__} while reading it; it is tried again. "
            "If this stays, check AWS_ENDPOINT_URL and the network"
        ) from None


def _s3_failure(error: Any, bucket: str, shown: str) -> ReelflowError:
    code, status = error_code(error), error_status(error)
    if code in ("NoSuchBucket", "InvalidBucketName"):
        return SourceNotFound(f"{shown}: there is no bucket {bucket!r}")
    if code == "InvalidObjectState":
        return UnsupportedSource(f"{shown}: the object is archived; restore it first")
    if is_throttling(error):
        return Throttled(f"{shown}: S3 asks to slow down ({code})")
    if code in BAD_CREDENTIALS:
        return CredentialsRefused(f"{shown}: S3 refuses the credentials ({code}); renew or correct them, and try again")
    if code in NO_PERMISSION or status in (401, 403):
        return PermissionDenied(f"{shown}: S3 refuses access ({code}); check the credentials and the bucket's policy")
    if status == 404:
        return SourceNotFound(f"{shown}: there is no such object")
    if status == 412:
        return SourceChanged(f"{shown}: the object was replaced while it was read; it is tried again")
    if is_transient(error):
        return NetworkError(f"{shown}: S3 failed ({code}); it is tried again")
    return UnsupportedSource(f"{shown}: S3 answered {status} {code}")
